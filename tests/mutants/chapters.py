"""Break each main claim of a chapter on purpose, and see that the chapter turns red.

A mutant is an edit of a chapter's code: in NAME.toml, `find` must occur exactly once in the code of NAME.ipynb and is
replaced by `replace`. The edited copy goes through nbval. The mutant is killed if the first cell that fails does so by
an AssertionError, by an output that differs from the stored one, or by another figure. An edit that makes the code
stumble (a NameError, a TypeError ...) has broken the program, not the claim, and counts as alive. The unedited chapter
must pass.
"""

import dataclasses
import pathlib
import shutil
import sys
import tempfile
import tomllib

import nbformat
import nbval_results
import proofs

HERE = pathlib.Path(__file__).parent
BOOK = HERE.parents[1] / "book"


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
    """Run {name: notebook} through nbval, among copies of `companions`.

    Returns {name: the first cell that failed, or None}, and what the run loaded.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "book"
        shutil.copytree(companions, folder, ignore=shutil.ignore_patterns("*.ipynb", "_static", "__pycache__"))
        for name, notebook in notebooks.items():
            nbformat.write(notebook, folder / f"{name}.ipynb")
        with proofs.recording({folder: pathlib.PurePath("book")}) as (variables, loaded):
            cells = nbval_results.run(sys.executable, [folder], folder, ["nbval_stop", "nbval_cache"], **variables)
    failures = dict.fromkeys(notebooks)
    for cell in cells:
        if cell.kind not in ("passed", "skipped") and failures[cell.notebook] is None:
            failures[cell.notebook] = cell
    return failures, loaded


def is_killed(failure):
    return failure is not None and failure.kind in ("AssertionError", "output")


def subject(name, folder=BOOK, tables=HERE):
    """What a proof of a chapter is about: its mutants, and its code cells with tags and stored outputs."""
    mutants = [dataclasses.asdict(mutant) for mutant in read_mutants(tables / f"{name}.toml")]
    cells = [cell for cell in nbformat.read(folder / f"{name}.ipynb", 4).cells if cell.cell_type == "code"]
    return [mutants, [(cell.source, cell.metadata.get("tags", []), cell.outputs) for cell in cells]]


def prove(name, folder=BOOK, tables=HERE):
    """Run the mutants of a chapter, and print a line each.

    Returns whether all are killed and the chapter itself passes, and what the run loaded.
    """
    mutants = read_mutants(tables / f"{name}.toml")
    original = nbformat.read(folder / f"{name}.ipynb", 4)
    copies, misfits = {}, []
    for number, mutant in enumerate(mutants):
        try:
            copies[f"{name}-mutant-{number}"] = edited(original, mutant)
        except ValueError as error:
            misfits.append(str(error))
    if misfits:
        sys.exit("\n".join(misfits))

    failures, loaded = first_failures({name: original, **copies}, folder)
    if red := failures[name]:
        print(f"{name}: the unedited chapter fails in code cell {red.number} ({red.kind})")
    killed = 0
    for copy, mutant in zip(copies, mutants, strict=True):
        failure = failures[copy]
        killed += is_killed(failure)
        how = f"code cell {failure.number}: {failure.kind}" if failure else "every cell passed"
        print(f"{'killed' if is_killed(failure) else 'ALIVE ':6}  {name}  {mutant.claim}  ({how})")
    print(f"{name}: {killed} of {len(mutants)} mutants killed.", flush=True)
    return not red and killed == len(mutants), loaded
