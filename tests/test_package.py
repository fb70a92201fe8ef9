"""The package as a reader meets it: what it holds, what the reference page says, what a notebook alone says."""

import doctest
import importlib
import inspect
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import nbformat
import pytest
import sphinx_book_zip
import trainability as tr
from bs4 import BeautifulSoup
from sphinx_package import NEEDS, imports_the_package

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("book/*.ipynb"))
USERS = [path for path in NOTEBOOKS if imports_the_package(path)]


IMPORT = f"import trainability as tr  # pip install {sphinx_book_zip.ZIP.name}, the download on the front page"


def imports(notebook):
    """The lines of a notebook that import the package, in any way."""
    lines = [line for cell in notebook.cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    return [line for line in lines if re.match(r"\s*(import|from) trainability\b", line)]


def test_chapters_to_3_stand_alone_and_later_ones_need_the_package():
    needed = {path: path in USERS for path in NOTEBOOKS if path.stem[0].isdigit()}
    assert needed == {path: path.stem[:2] > "03" for path in needed}


@pytest.mark.parametrize("path", USERS, ids=lambda path: path.stem)
def test_a_notebook_imports_the_package_in_one_line_that_says_where_it_is(path):
    assert set(imports(nbformat.read(path, 4))) == {IMPORT}  # twice if two tabs, which run alone, import it


def test_other_imports_are_noticed():
    cells = [nbformat.v4.new_code_cell(f"x = 1\n{code}") for code in ("from trainability.masks import combine", IMPORT)]
    assert imports(nbformat.v4.new_notebook(cells=cells)) == ["from trainability.masks import combine", IMPORT]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_download_says_when_it_needs_the_package(site, path):
    page = BeautifulSoup((site / "book" / f"{path.stem}.html").read_text(encoding="utf-8"), "html.parser")
    button = page.select_one("a.btn-download-source-button")
    assert [NEEDS in button["title"], NEEDS in button.get_text()] == [path in USERS] * 2


# ---- what the package holds ------------------------------------------------------------------------------------------

# The modules whose names are not at the top level: {name: the files that define what is in it}.
LAZY = {"gp": ["arrays", "gp", "kernels", "likelihoods", "natural", "sparse", "transforms"], "live": ["live"]}
FILES = [path.stem for path in ROOT.glob("book/trainability/[a-z]*.py")]
EAGER = sorted(set(FILES).difference(*LAZY.values()))


def public_names(*modules):
    """What the modules define, and do not import."""
    return {
        name: thing
        for module in modules
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__
    }


def modules(names):
    return [importlib.import_module(f"trainability.{name}") for name in names if name in FILES]


PUBLIC = public_names(*modules(EAGER))
PUBLIC_LAZY = {name: public_names(*modules(files)) for name, files in LAZY.items()}


def run(code):
    """What a new Python prints that has the package on its path."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "book")}
    return subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    ).stdout


def test_the_top_level_holds_exactly_the_public_names():
    assert tr.__all__ == sorted(PUBLIC)
    assert {name: getattr(tr, name) for name in PUBLIC} == PUBLIC
    assert dir(tr) == sorted([*PUBLIC, *LAZY])


def test_gp_holds_exactly_the_public_names_of_its_files():
    assert sorted(tr.gp.__all__) == sorted(PUBLIC_LAZY["gp"])
    assert {name: getattr(tr.gp, name) for name in tr.gp.__all__} == PUBLIC_LAZY["gp"]


def test_a_module_has_no_name_of_a_function():
    """Python binds a module's name in its package when it loads the module, over a function of the same name."""
    assert not set(FILES) & set(PUBLIC)


def test_scipy_is_loaded_by_who_needs_it():
    """It comes with JAX, so that it is always there, and takes half a second to load."""
    use = "tr.fit_lbfgs(lambda params: params['a'] ** 2, {'a': 1.0}, {'a': True})"
    code = f"import sys; import trainability as tr; print('scipy' in sys.modules); {use}; print('scipy' in sys.modules)"
    assert run(code) == "False\nTrue\n"


@pytest.mark.parametrize("name", LAZY)
def test_a_module_that_needs_flax_is_loaded_when_it_is_first_used(name):
    """Flax is an extra: without it the rest of the package works."""
    loaded = f"print('trainability.{name}' in sys.modules)"
    assert run(f"import sys; import trainability as tr; {loaded}; tr.{name}; {loaded}") == "False\nTrue\n"
    assert run("import sys; import trainability as tr; print('flax' in sys.modules)") == "False\n"
    assert run("import trainability as tr; print(hasattr(tr, 'life'))") == "False\n"


def test_the_example_of_the_package_runs():
    result = doctest.testmod(tr)
    assert result.attempted >= 3 and result.failed == 0


def test_the_reference_page_holds_the_whole_package(site):
    page = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    html = (site / "book" / "api.html").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto(?:function|exception|class):: (?:trainability\.)?(\S+)", page, re.MULTILINE)
    lazy = {f"{module}.{name}": thing for module, names in PUBLIC_LAZY.items() for name, thing in names.items()}
    found = {**PUBLIC, **lazy}
    described_there = {"Row", "Summary", "gp.ParameterRow", "gp.ParameterTable"}  # what summary returns
    assert sorted(listed) == sorted(set(found) - described_there)
    for name in listed:
        first_words = re.split(r"[,.`:']", inspect.getdoc(found[name]))[0].strip()
        assert f'id="trainability.{name}"' in html and first_words in html


def test_readme_and_reference_page_say_how_to_install_and_import():
    """In the words that `make wheel` tries: the name of the zip, the name of the package, its extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in ("README.md", "book/api.md"):
        page = (ROOT / name).read_text(encoding="utf-8")
        assert f"pip install {sphinx_book_zip.ZIP.name}\n" in page and "import trainability as tr\n" in page
        for extra in project["optional-dependencies"]:
            assert f"{sphinx_book_zip.ZIP.name}[{extra}]" in page
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for requirement in project["dependencies"]:
        assert f" {requirement.partition('>=')[2]} " in readme
    assert project["name"] == tr.__name__
