"""Run the listings of the 2020 post on flax 0.1.0, and compare every number with what chapters 1 and 2 give today.

The listings run in `.venv-original`, made from requirements-original.txt. The chapters' numbers come from executing the
chapters here, in the book's own environment. If all agree, tests/original/result.json is written, from which the tests
check the page book/original.md.
"""

import ast
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import environment
from notebook_environment import ENVIRONMENT

ROOT = pathlib.Path(__file__).parents[1]
RESULT = ROOT / "tests" / "original" / "result.json"
sys.path.insert(0, str(RESULT.parent))

import listings  # noqa: E402

FIRST, SECOND = "01-kwargs-and-partial", "02-the-caveat"

# Fact: the chapter that states it, and the expression that gives it there.
SOURCES = {
    "fixed_model.params": (FIRST, "repr(fixed_model.params)"),
    "loss of the free model": (FIRST, "loss_fn(free_model).item()"),
    "loss of the fixed model": (FIRST, "loss_fn(fixed_model).item()"),
    "parameter of the fixed model": (FIRST, "fixed_model.params['layer']['a'].item()"),
    "gradient of the free model": (FIRST, "free_model_grad.params['layer']['a'].item()"),
    "gradient of the fixed model": (FIRST, "fixed_model_grad.params['layer']['a'].item()"),
    "output of the fixed model": (SECOND, "fixed_model(x).item()"),
    "parameter after replace": (SECOND, "new_fixed_model.params['layer']['a'].item()"),
    "output after replace": (SECOND, "new_fixed_model(x).item()"),
    "output with the new kwargs": (SECOND, "redefined_model(x).item()"),
    "loss with the new kwargs": (SECOND, "loss_fn(redefined_model).item()"),
    "gradient with the new kwargs": (SECOND, "redefined_grad.item()"),
}

# All else is compared exactly: 0, 1 and 2 are exact in floating point, and so is every step on the way to them. 3.14 is
# rounded to a 32-bit float, and another version may round its square and mean the other way: a few units of 6e-8.
TOLERANCES = dict.fromkeys(["parameter after replace", "output with the new kwargs", "loss with the new kwargs"], 1e-6)


def stop(problem, remedy):
    """End with exit code 1 and one line: what is wrong, and what to do."""
    sys.exit(f"original: {problem}. {remedy}.")


def agree(ours, theirs, tolerance):
    """Whether two values are the same; two numbers, whether they are within the relative tolerance."""
    if type(ours) is not type(theirs):
        return False
    return ours == theirs or (bool(tolerance) and abs(ours - theirs) <= tolerance * abs(theirs))


def compare(original, book):
    """[(whether they agree, one line)] for every fact that either side has; a fact that one side lacks disagrees."""
    results = []
    for fact in [*book, *(fact for fact in original if fact not in book)]:
        if fact not in original or fact not in book:
            results.append((False, f"{fact}: missing in the {'book' if fact in original else 'original'}"))
            continue
        same = agree(original[fact], book[fact], TOLERANCES.get(fact, 0))
        results.append((same, f"{fact}: original {original[fact]}, book {book[fact]}"))
    return results


def assertions(code):
    """The assertions at the top level of this code, in one spelling: no outer parentheses, no message."""
    statements = [node for node in ast.parse(code).body if isinstance(node, ast.Assert)]
    return [f"assert {ast.unparse(statement.test)}" for statement in statements]


def run_cells(cells, name):
    """Execute (source, may raise) cells in one namespace; that namespace, and {assertion: what it did}."""
    namespace, outcomes = {"__name__": name}, {}
    for number, (source, may_raise) in enumerate(cells, start=1):
        outcome = "passes"
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(source, f"{name}, code cell {number}", "exec"), namespace)
        except Exception as error:
            if not may_raise:
                stop(f"{name}, code cell {number}, raises {type(error).__name__}", "Mend the chapter: see make test")
            outcome = f"raises {type(error).__name__}"
        outcomes |= dict.fromkeys(assertions(source), outcome)
    return namespace, outcomes


def code_cells(path):
    """(source without magics, may raise) of each code cell of a notebook."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            lines = [line for line in "".join(cell["source"]).splitlines() if not line.startswith("%")]
            yield "\n".join(lines), "raises-exception" in cell["metadata"].get("tags", [])


def book_facts():
    """{fact: value} as chapters 1 and 2 have them: numbers, and what each of the post's assertions does."""
    os.environ.update(ENVIRONMENT, MPLBACKEND="Agg")
    printed = [line for listing in (listings.GRADIENTS, listings.CAVEAT) for line in assertions(listing)]
    namespaces, facts = {}, {}
    for chapter in (FIRST, SECOND):
        namespaces[chapter], outcomes = run_cells(code_cells(ROOT / "book" / f"{chapter}.ipynb"), f"{chapter}.ipynb")
        # The printed assertions, and the corrected one, which is the one that a chapter shows raising.
        facts |= {line: what for line, what in outcomes.items() if line in printed or what != "passes"}
    try:
        return facts | {fact: eval(code, namespaces[chapter]) for fact, (chapter, code) in SOURCES.items()}
    except (NameError, AttributeError, KeyError, TypeError, ValueError) as error:
        return stop(f"a chapter no longer has what is compared ({error})", "Mend SOURCES in scripts/original.py")


def run_original(python):
    """The text of the JSON that tests/original/run.py writes when this interpreter runs it."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "result.json"
        command = [python, "-B", RESULT.with_name("run.py"), path]
        if subprocess.run(command, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.DEVNULL).returncode != 0:
            stop("the listings did not run, for the reason above", "Mend the shim or the glue in tests/original/run.py")
        return path.read_text(encoding="utf-8")


def main():
    python = environment.make("original")
    text = run_original(python)
    result = json.loads(text)
    interpreter = subprocess.run([python, "--version"], capture_output=True, text=True).stdout.strip()
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    print(f"original: {interpreter}, {versions}")
    results = compare(result["facts"], book_facts())
    for passed, line in results:
        print("passed  " if passed else "FAILED  ", line)
    failed = sum(not passed for passed, _ in results)
    if not failed:
        RESULT.write_text(text, encoding="utf-8")
    print(f"original: {len(results) - failed} passed, {failed} failed")
    return not failed


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(0 if main() else 1)
