"""The mutants' runner tells a killed mutant from one that is alive, every chapter has mutants, and proofs are kept."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import nbformat
import notebooks
import pytest

ROOT = pathlib.Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests" / "mutants"))

import chapters  # noqa: E402
import proofs  # noqa: E402
import run  # noqa: E402


def mutant(claim, find, replace):
    return chapters.Mutant("chapter", claim, find, replace)


def write_mutants(folder, mutants):
    """The TOML file of a chapter, from (claim, find, replace)."""
    entries = (zip(("claim", "find", "replace"), map(json.dumps, entry), strict=True) for entry in mutants)
    tables = ("[[mutant]]\n" + "".join(f"{key} = {text}\n" for key, text in entry) for entry in entries)
    (folder / "chapter.toml").write_text("\n".join(tables), encoding="utf-8")


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
        ("an assertion fires", "1.0 + 1.0", "1.0 + 2.0"),
        ("only an output changes", 'print(f"{answer:.2f}")', 'print(f"{answer:.3f}")'),
        ("an expected error goes away", "len(answer)", "len([answer])"),
        ("nothing changes", "assert answer == 2", "assert answer == 2.0"),
        ("a name is missing", "assert answer == 2", "assert anser == 2"),
        ("the syntax is broken", "assert answer == 2", "assert answer =="),
        ("another expected error", "len(answer)", "len(anser)"),
    ]
    write_mutants(folder, planted)
    proved, _ = chapters.prove("chapter", folder, folder)
    said = capsys.readouterr().out.splitlines()
    assert not proved
    assert [line.split()[0] for line in said] == ["killed"] * 3 + ["ALIVE"] * 4 + ["chapter:"], said
    assert said[-1] == "chapter: 3 of 7 mutants killed."


@pytest.mark.planted
def test_a_red_chapter_is_seen(folder, tmp_path, capsys):
    notebook = nbformat.read(folder / "chapter.ipynb", 4)
    wrong = chapters.edited(notebook, mutant("", "assert answer == 2", "assert answer == 3"))
    nbformat.write(wrong, tmp_path / "chapter.ipynb")
    write_mutants(tmp_path, [("killed anyway", "1.0 + 1.0", "1.0 + 3.0")])
    proved, _ = chapters.prove("chapter", tmp_path, tmp_path)
    said = capsys.readouterr().out
    assert not proved
    assert "the unedited chapter fails in code cell 2 (AssertionError)" in said and "1 of 1 mutants killed" in said


def test_an_edit_without_a_place_is_refused(folder):
    notebook = nbformat.read(folder / "chapter.ipynb", 4)
    for find, replace in (("not in the notebook", ""), ("answer", "x"), ("print", "print")):
        with pytest.raises(ValueError):
            chapters.edited(notebook, mutant("", find, replace))


def test_every_notebook_of_the_book_has_mutants():
    with_mutants = {path.stem for path in (ROOT / "tests" / "mutants").glob("*.toml")}
    assert with_mutants == {path.stem for path in notebooks.all_notebooks() if path.parent.name == "book"}


# ---- proofs are kept -------------------------------------------------------------------------------------------------

CHAPTER = ["from trainability import used", "print(used.two())", "assert used.two() == 2"]
USED, UNUSED = "def two():\n    return 2\n", "def three():\n    return 3\n"
TEST = "from trainability import used\n\n\ndef test_two():\n    assert used.two() == 2\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of one chapter and one module, with their mutants, all of which were proved."""
    project = tmp_path_factory.mktemp("project")
    for folder in ("scripts", "tests/mutants"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("*.toml", "proved.json"))
    book, tables = project / "book", project / "tests/mutants"
    (book / "trainability").mkdir(parents=True)
    files = {
        book / "trainability/__init__.py": "",
        book / "trainability/used.py": USED,
        book / "trainability/unused.py": UNUSED,
        project / "tests/test_used.py": TEST,
        project / "tests/package_checks.py": "",
    }
    for path, text in files.items():
        path.write_text(text)
    cells = [nbformat.v4.new_markdown_cell("Some prose."), *map(nbformat.v4.new_code_cell, CHAPTER)]
    nbformat.write(notebooks.run(nbformat.v4.new_notebook(cells=cells), book), book / "chapter.ipynb")
    write_mutants(tables, [("two is two", "== 2", "== 3")])
    shutil.copy(tables / "chapter.toml", tables / "trainability/used.toml")
    edit(tables / "trainability/used.toml", {"== 2": "return 2", "== 3": "return 3"})
    proved = prove(project)
    assert proved.returncode == 0, proved.stdout + proved.stderr
    assert "2 proved, 0 proved before, 0 failed" in proved.stdout
    return project


def edit(path, changes):
    text = path.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {path}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def prove(project, *arguments, **variables):
    command = [sys.executable, "tests/mutants/run.py", *arguments]
    return subprocess.run(command, cwd=project, env={**os.environ, **variables}, capture_output=True, text=True)


def unproved(project, **variables):
    listed = prove(project, "--list", **variables)
    assert listed.returncode == 0, listed.stderr
    return listed.stdout.split()


BOTH = ["chapter", "trainability/used"]


@pytest.mark.planted
@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("book/chapter.ipynb", "assert used.two() == 2", "assert 2 == used.two()", ["chapter"]),
        ("book/chapter.ipynb", '"2\\n"', '"2.\\n"', ["chapter"]),
        ("book/chapter.ipynb", "Some prose.", "Other prose.", []),
        ("book/trainability/used.py", "return 2", "return 1 + 1", BOTH),
        ("book/trainability/unused.py", "return 3", "return 2 + 1", []),
        ("tests/test_used.py", "used.two() == 2", "2 == used.two()", ["trainability/used"]),
        ("tests/mutants/chapter.toml", "== 3", "== 4", ["chapter"]),
        ("tests/mutants/trainability/used.toml", "return 3", "return 4", ["trainability/used"]),
        ("tests/mutants/recorder/sitecustomize.py", "Record what", "Record all that", BOTH),
        ("scripts/nbval_results.py", "Run nbval in", "Run it in", BOTH),
        ("scripts/nbval_figures.py", "GREY_LEVELS = 2", "GREY_LEVELS = 3", ["chapter"]),
        ("scripts/notebook_environment.py", '"cpu"', '"tpu"', BOTH),
        ("scripts/shots.py", "Take a picture", "Take pictures", []),
    ],
)
def test_what_a_verdict_depends_on_is_proved_again(project, name, old, new, expected):
    edit(project / name, {old: new})
    try:
        assert unproved(project) == expected
    finally:
        edit(project / name, {new: old})
    assert unproved(project) == []


@pytest.mark.planted
@pytest.mark.parametrize(("distribution", "expected"), [("ipykernel", ["chapter"]), ("pytest", BOTH), ("Sphinx", [])])
def test_another_version_is_proved_again_where_it_was_loaded(project, tmp_path, distribution, expected):
    folder = tmp_path / f"{distribution}-99.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 99\n")
    assert unproved(project, PYTHONPATH=str(tmp_path)) == expected


@pytest.mark.planted
def test_a_forged_record_is_found(project):
    """A mutant that nothing kills, under a digest that is right."""
    record, table = project / "tests/mutants/proved.json", project / "tests/mutants/chapter.toml"
    kept = record.read_bytes()
    assert prove(project, "--again", "any commit").returncode == 0 and record.read_bytes() == kept
    edit(table, {"== 3": "== 2.0"})
    forge = "import proofs, run; record = proofs.Record(run.HERE / 'proved.json'); proof = record.proofs['chapter'];"
    forge += "loaded = proofs.Loaded(proof['files'], proof['distributions'].split());"
    forge += "record.write('chapter', run.chapters.subject('chapter'), loaded)"
    path = os.pathsep.join(str(project / folder) for folder in ("tests/mutants", "scripts"))
    subprocess.run([sys.executable, "-c", forge], env={**os.environ, "PYTHONPATH": path}, check=True)
    try:
        believed = prove(project)
        assert believed.returncode == 0 and "0 proved, 2 proved before" in believed.stdout, believed.stdout
        found = prove(project, "--again", "any commit")
        assert found.returncode != 0 and "ALIVE   chapter" in found.stdout, found.stdout
        assert list(json.loads(record.read_text())) == ["trainability/used"]
    finally:
        edit(table, {"== 2.0": "== 3"})
        record.write_bytes(kept)


def test_each_name_is_drawn_by_some_commit():
    names = list(run.subjects())
    draws = [proofs.drawn(names, 2, f"commit {number}") for number in range(20 * len(names))]
    assert all(len(set(draw)) == 2 for draw in draws) and set().union(*draws) == set(names)


def test_the_record_speaks_of_what_there_is():
    record = json.loads((ROOT / "tests/mutants/proved.json").read_text(encoding="utf-8"))
    assert list(record) == sorted(run.subjects())
