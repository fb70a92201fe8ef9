"""The mutants' runner tells a killed mutant from one that is alive, and every chapter has mutants."""

import importlib.util
import pathlib

import nbformat
import notebooks
import pytest

ROOT = pathlib.Path(__file__).parents[1]
specification = importlib.util.spec_from_file_location("mutants", ROOT / "tests" / "mutants" / "run.py")
mutants = importlib.util.module_from_spec(specification)
specification.loader.exec_module(mutants)


def mutant(claim, find, replace):
    return mutants.Mutant("chapter", claim, find, replace)


CELLS = [
    "answer = 1.0 + 1.0",
    "assert answer == 2",
    'print(f"{answer:.2f}")',
    "len(answer)",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A chapter of plain Python, which starts quickly, with its outputs."""
    folder = tmp_path_factory.mktemp("book")
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    cells[-1].metadata["tags"] = ["raises-exception"]
    chapter = notebooks.run(nbformat.v4.new_notebook(cells=cells), folder)
    nbformat.write(chapter, folder / "chapter.ipynb")
    return folder


@pytest.mark.planted
def test_killed_and_alive_are_told_apart(folder, capsys):
    planted = [
        mutant("an assertion fires", "1.0 + 1.0", "1.0 + 2.0"),
        mutant("only an output changes", 'print(f"{answer:.2f}")', 'print(f"{answer:.3f}")'),
        mutant("an expected error goes away", "len(answer)", "len([answer])"),
        mutant("nothing changes", "assert answer == 2", "assert answer == 2.0"),
        mutant("a name is missing", "assert answer == 2", "assert anser == 2"),
        mutant("the syntax is broken", "assert answer == 2", "assert answer =="),
        mutant("another expected error", "len(answer)", "len(anser)"),
    ]
    assert not mutants.judge(planted, folder)
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["killed"] * 3 + ["ALIVE"] * 4 + ["3"], said


@pytest.mark.planted
def test_a_red_chapter_is_seen(folder, tmp_path, capsys):
    notebook = nbformat.read(folder / "chapter.ipynb", 4)
    wrong = mutants.edited(notebook, mutant("", "assert answer == 2", "assert answer == 3"))
    nbformat.write(wrong, tmp_path / "chapter.ipynb")
    assert not mutants.judge([mutant("killed anyway", "1.0 + 1.0", "1.0 + 3.0")], tmp_path)
    said = capsys.readouterr().out
    assert "the unedited chapter fails in code cell 2 (AssertionError)" in said and "1 of 1 mutants killed" in said


def test_an_edit_without_a_place_is_refused(folder):
    notebook = nbformat.read(folder / "chapter.ipynb", 4)
    for find, replace in (("not in the notebook", ""), ("answer", "x"), ("print", "print")):
        with pytest.raises(ValueError):
            mutants.edited(notebook, mutant("", find, replace))


def test_every_notebook_of_the_book_has_mutants():
    with_mutants = {path.stem for path in (ROOT / "tests" / "mutants").glob("*.toml")}
    assert with_mutants == {path.stem for path in notebooks.all_notebooks() if path.parent.name == "book"}
