"""The package on the site: what a reader of a single notebook is told, and what the reference page holds."""

import ast
import inspect
import pathlib
import re
import subprocess
import sys

import nbformat
import pytest
import trainability.entries
import trainability.fit
import trainability.masks
from bs4 import BeautifulSoup
from sphinx_package import NEEDS, imports_the_package

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("book/*.ipynb"))
USERS = [path for path in NOTEBOOKS if imports_the_package(path)]


def guarded_import(notebook):
    """The statement `try: from trainability... except ...` of a notebook, as code."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "from trainability" in cell.source:
            code = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
            return next((ast.unparse(node) for node in ast.parse(code).body if isinstance(node, ast.Try)), "")
    return ""


def test_chapters_to_3_stand_alone_and_later_ones_need_the_package():
    assert [path.stem for path in NOTEBOOKS if path not in USERS and path.stem[:2] > "03"] == []
    assert {path.stem[:2] for path in NOTEBOOKS if path not in USERS} == {"00", "01", "02", "03"}


@pytest.mark.parametrize("path", USERS, ids=lambda path: path.stem)
def test_a_notebook_alone_says_where_the_package_is(path, tmp_path):
    code = guarded_import(nbformat.read(path, 4))
    alone = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={}, capture_output=True, text=True)
    assert alone.returncode != 0
    assert "ModuleNotFoundError: No module named 'trainability'\nThe package comes with the book." in alone.stderr
    assert "zip of the whole book" in " ".join(alone.stderr.split())


def test_a_bare_import_is_noticed():
    cell = nbformat.v4.new_code_cell("from trainability.masks import combine")
    assert guarded_import(nbformat.v4.new_notebook(cells=[cell])) == ""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_download_says_when_it_needs_the_package(site, path):
    page = BeautifulSoup((site / "book" / f"{path.stem}.html").read_text(encoding="utf-8"), "html.parser")
    button = page.select_one("a.btn-download-source-button")
    note = page.select_one("div.note a.download, div.note a.reference.download")
    said = [NEEDS in button["title"], NEEDS in button.get_text(), bool(note and note["href"].endswith(".zip"))]
    assert said == [path in USERS] * 3


MODULES = [trainability.masks, trainability.entries, trainability.fit]


def test_the_reference_page_holds_the_whole_package(site):
    page = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    html = (site / "book" / "api.html").read_text(encoding="utf-8")
    assert {module.__name__ for module in MODULES} == {
        f"trainability.{path.stem}" for path in ROOT.glob("book/trainability/[a-z]*.py")
    }
    listed = re.findall(r"^\.\. auto(?:function|exception|class):: (\w+)", page, re.MULTILINE)
    public = {
        name: thing
        for module in MODULES
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__
    }
    assert sorted(listed) == sorted(set(public) - {"Row", "Summary"})  # what summary returns, described there
    for name in listed:
        first_words = re.split(r"[,.`:']", inspect.getdoc(public[name]))[0].strip()
        assert f'id="{public[name].__module__}.{name}"' in html and first_words in html
