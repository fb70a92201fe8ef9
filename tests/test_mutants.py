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


def test_killed_and_alive_are_told_apart(capsys):
    planted = [
        mutant("an assertion fires", "a**2)(1.0)", "a**3)(1.0)"),
        mutant("only an output changes", 'print(f"{answer:.2f}")', 'print(f"{answer:.3f}")'),
        mutant("an expected error goes away", "a**2)(1)", "a**2)(1.5)"),
        mutant("nothing changes", "assert gradient == 2", "assert gradient == 2.0"),
        mutant("a name is missing", "assert gradient == 2", "assert gradien == 2"),
        mutant("the syntax is broken", "assert gradient == 2", "assert gradient =="),
        mutant("another expected error", "jax.grad(lambda a: a**2)(1)", "jaks.grad(lambda a: a**2)(1)"),
    ]
    assert not mutants.judge(planted, ROOT / "templates")
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["killed"] * 3 + ["ALIVE"] * 4 + ["3"], said


def test_a_red_chapter_is_seen(tmp_path, capsys):
    notebook = nbformat.read(ROOT / "templates" / "chapter.ipynb", 4)
    wrong = mutants.edited(notebook, mutant("", "assert gradient == 2", "assert gradient == 3"))
    nbformat.write(wrong, tmp_path / "chapter.ipynb")
    assert not mutants.judge([mutant("killed anyway", "a**2)(1.0)", "a**3)(1.0)")], tmp_path)
    said = capsys.readouterr().out
    assert "the unedited chapter fails in code cell 2 (AssertionError)" in said and "1 of 1 mutants killed" in said


def test_an_edit_without_a_place_is_refused():
    notebook = nbformat.read(ROOT / "templates" / "chapter.ipynb", 4)
    for find, replace in (("not in the notebook", ""), ("assert", "print"), ("plt.show()", "plt.show()")):
        with pytest.raises(ValueError):
            mutants.edited(notebook, mutant("", find, replace))


def test_every_notebook_of_the_book_has_mutants():
    with_mutants = {path.stem for path in (ROOT / "tests" / "mutants").glob("*.toml")}
    assert with_mutants == {path.stem for path in notebooks.all_notebooks() if path.parent.name == "book"}
