"""Break each main claim of the book on purpose, and see that its chapter turns red.

    python tests/mutants/run.py [CHAPTER ...]       all chapters, or those whose names begin so

A mutant is an edit of a chapter's code: in NAME.toml, `find` must occur exactly once in the code of NAME.ipynb and is
replaced by `replace`. The edited copy goes through nbval. The mutant is killed if the first cell that fails does so by
an AssertionError or by an output that differs from the stored one. An edit that makes the code stumble (a NameError, a
TypeError ...) has broken the program, not the claim, and counts as alive. The unedited chapters must pass.
"""

import dataclasses
import pathlib
import shutil
import sys
import tempfile
import tomllib

import nbformat

HERE = pathlib.Path(__file__).parent
BOOK = HERE.parents[1] / "book"
sys.path.insert(0, str(HERE.parents[1] / "scripts"))

import nbval_results  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One edit: the claim that it attacks, the code that it looks for, and what it puts there."""

    chapter: str
    claim: str
    find: str
    replace: str


def read_mutants(path):
    """The mutants of a chapter, from its TOML file."""
    with path.open("rb") as file:
        return [Mutant(path.stem, **entry) for entry in tomllib.load(file)["mutant"]]


def edited(notebook, mutant):
    """A copy of the notebook with the mutant's edit; ValueError if there is not exactly one place for it."""
    notebook = nbformat.from_dict(notebook)
    places = [cell for cell in notebook.cells if cell.cell_type == "code" and mutant.find in cell.source]
    times = sum(cell.source.count(mutant.find) for cell in places)
    if times != 1:
        raise ValueError(f"{mutant.chapter}: {mutant.find!r} occurs {times} times, not once ({mutant.claim})")
    if mutant.find == mutant.replace:
        raise ValueError(f"{mutant.chapter}: {mutant.find!r} is replaced by itself ({mutant.claim})")
    places[0].source = places[0].source.replace(mutant.find, mutant.replace)
    return notebook


def first_failures(notebooks, companions):
    """Run {name: notebook} through nbval, among copies of `companions`; {name: first cell that failed, or None}."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "book"
        shutil.copytree(companions, folder, ignore=shutil.ignore_patterns("*.ipynb", "_static", "__pycache__"))
        for name, notebook in notebooks.items():
            nbformat.write(notebook, folder / f"{name}.ipynb")
        cache = pathlib.Path(scratch) / "cache"  # a mutant compiles most of what its chapter does
        cells = nbval_results.run(sys.executable, [folder], folder, stop_at_first=True, cache=cache)
    failures = dict.fromkeys(notebooks)
    for cell in cells:
        if cell.kind not in ("passed", "skipped") and failures[cell.notebook] is None:
            failures[cell.notebook] = cell
    return failures


def is_killed(failure):
    return failure is not None and failure.kind in ("AssertionError", "output")


def judge(mutants, folder):
    """Run mutants of the notebooks in `folder`, print a line each; True if all are killed and the originals pass."""
    originals = {name: nbformat.read(folder / f"{name}.ipynb", 4) for name in {mutant.chapter for mutant in mutants}}
    copies, misfits = {}, []
    for number, mutant in enumerate(mutants):
        try:
            copies[f"{mutant.chapter}-mutant-{number}"] = edited(originals[mutant.chapter], mutant)
        except ValueError as error:
            misfits.append(str(error))
    if misfits:
        sys.exit("\n".join(misfits))

    failures = first_failures({**originals, **copies}, folder)
    red = [failures[name] for name in sorted(originals) if failures[name]]
    for failure in red:
        print(f"{failure.notebook}: the unedited chapter fails in code cell {failure.number} ({failure.kind})")
    killed = 0
    for name, mutant in zip(copies, mutants, strict=True):
        failure = failures[name]
        killed += is_killed(failure)
        how = f"code cell {failure.number}: {failure.kind}" if failure else "every cell passed"
        print(f"{'killed' if is_killed(failure) else 'ALIVE ':6}  {mutant.chapter}  {mutant.claim}  ({how})")
    print(f"{killed} of {len(mutants)} mutants killed.")
    return not red and killed == len(mutants)


def main(chosen):
    files = sorted(HERE.glob("*.toml"))
    if chosen:
        files = [path for path in files if any(path.stem.startswith(name) for name in chosen)]
    mutants = [mutant for path in files for mutant in read_mutants(path)]
    if not mutants:
        sys.exit(f"There is no mutant for {' '.join(chosen)}.")
    return judge(mutants, BOOK)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
