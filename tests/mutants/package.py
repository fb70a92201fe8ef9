"""Break the book's package on purpose, and see that its tests turn red.

    python tests/mutants/package.py

A mutant is an edit of a module: in trainability/NAME.toml, `find` occurs exactly once in book/trainability/NAME.py and
is replaced by `replace`. tests/test_NAME.py runs against the edited copy. The mutant is killed if the first test that
fails does so by an assertion, because an expected error was not raised, or by one of the package's own errors. Any
other exception has broken the program, not the claim, and counts as alive. The unedited module must pass.
"""

import concurrent.futures
import pathlib
import subprocess
import sys
import tempfile
import tomllib
from xml.etree import ElementTree

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from notebook_environment import ENVIRONMENT, compilation_cache  # noqa: E402

POOL = concurrent.futures.ThreadPoolExecutor(2)  # each thread waits for a process of its own
CACHE = tempfile.TemporaryDirectory()  # of what JAX compiles: nearly the same for each mutant
KILLS = ("AssertionError", "assert ", "Failed: DID NOT RAISE", "trainability.")  # the last: an error of our own


def first_failure(module, source, tests):
    """Run the tests against `source` in the place of a module; the message of the first failure, or None."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch) / module.parent.name / module.name
        copy.parent.mkdir()
        for sibling in module.parent.glob("*.py"):
            (copy.parent / sibling.name).write_text(sibling.read_text(encoding="utf-8"), encoding="utf-8")
        copy.write_text(source, encoding="utf-8")
        for test in (tests, tests.with_name("package_checks.py")):
            (pathlib.Path(scratch) / test.name).write_text(test.read_text(encoding="utf-8"), encoding="utf-8")
        report = pathlib.Path(scratch) / "report.xml"
        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            f"--junitxml={report}",
            f"--rootdir={scratch}",
        ]
        command = [sys.executable, "-m", "pytest", "-c", "/dev/null", *options, tests.name]
        environment = {"PYTHONPATH": scratch, **ENVIRONMENT, **compilation_cache(CACHE.name)}
        subprocess.run(command, cwd=scratch, env=environment, capture_output=True)
        found = ElementTree.parse(report).iter()
        return next((node.get("message", "") for node in found if node.tag in ("failure", "error")), None)


def is_killed(message):
    return message is not None and message.startswith(KILLS)


def judge(module, tests, mutants):
    """Run the mutants of a module, a line each; True if all are killed and the unedited module passes."""
    original = module.read_text(encoding="utf-8")
    misfits = [mutant["find"] for mutant in mutants if original.count(mutant["find"]) != 1]
    if misfits:
        sys.exit(
            "\n".join(f"{module.name}: {find!r} occurs {original.count(find)} times, not once" for find in misfits)
        )
    if message := first_failure(module, original, tests):
        print(f"{module.name}: the unedited module fails ({message.splitlines()[0]})")
        return False
    killed = 0
    sources = [original.replace(mutant["find"], mutant["replace"]) for mutant in mutants]
    messages = POOL.map(lambda source: first_failure(module, source, tests), sources)
    for mutant, message in zip(mutants, messages, strict=True):
        killed += is_killed(message)
        how = message.splitlines()[0][:60] if message else "every test passed"
        print(
            f"{'killed' if is_killed(message) else 'ALIVE ':6}  {module.stem}  {mutant['claim']}  ({how})", flush=True
        )
    print(f"{killed} of {len(mutants)} mutants of {module.stem} killed.")
    return killed == len(mutants)


def main():
    results = []
    for path in sorted(HERE.glob("trainability/*.toml")):
        mutants = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
        module = ROOT / "book" / "trainability" / f"{path.stem}.py"
        results.append(judge(module, ROOT / "tests" / f"test_{path.stem}.py", mutants))
    return bool(results) and all(results)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
