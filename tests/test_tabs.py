"""Tabs: how cells become tabs, that those of each library run alone, and what the first page promises of its own."""

import itertools
import os
import re
import subprocess
import sys

import nbformat
import notebooks
import pytest
import sphinx_tabs
from bs4 import BeautifulSoup
from docutils import nodes
from notebook_environment import ENVIRONMENT

FIRST_PAGE = notebooks.ROOT / "book" / "00-freeze-a-parameter.ipynb"


# ---- cells become tabs -----------------------------------------------------------------------------------------------


def cell(code, *tags):
    classes = ["cell", *(f"tag_{tag}" for tag in tags)]
    return nodes.container("", nodes.literal_block(code, code), classes=classes, nb_element="cell_code")


def title(text):
    # MyST puts an empty text before and after a word in bold
    return nodes.paragraph("", "", nodes.Text(""), nodes.strong("", text), nodes.Text(""))


def text(words):
    return nodes.paragraph("", words)


def outline(gathered):
    """Tab sets as lists of (title, library, codes of the cells), and anything else as its text."""
    return [
        [(label.astext(), label["sync_id"], [cell.astext() for cell in content]) for label, content in node]
        if node.get("design_component") == "tab-set"
        else node.astext()
        for node in gathered
    ]


NNX, LINEN = [title("NNX"), cell("a", "tab-nnx")], [title("Linen"), cell("b", "tab-linen")]
A_TAB, B_TAB = ("NNX", "nnx", ["a"]), ("Linen", "linen", ["b"])
PAGES = {
    "two tabs": ([*NNX, *LINEN], [[A_TAB, B_TAB]]),
    "a tab of two cells, one of them folded": (
        [*NNX, cell("c", "hide-input", "tab-nnx"), *LINEN],
        [[("NNX", "nnx", ["a", "c"]), B_TAB]],
    ),
    "text ends the set": ([text("x"), *NNX, text("y"), *LINEN, text("z")], ["x", [A_TAB], "y", [B_TAB], "z"]),
    "a cell without a library ends the set": ([*NNX, cell("c"), *LINEN], [[A_TAB], "c", [B_TAB]]),
    "the same library again begins a set": ([*NNX, *LINEN, *NNX, *LINEN], [[A_TAB, B_TAB], [A_TAB, B_TAB]]),
    "a bold line that is no title": (
        [title("NNX"), text("y"), title("Not here"), cell("c")],
        ["NNX", "y", "Not here", "c"],
    ),
}


@pytest.mark.parametrize("page", PAGES)
def test_cells_become_tabs(page):
    children, expected = PAGES[page]
    assert outline(sphinx_tabs.gather([child.deepcopy() for child in children])) == expected


@pytest.mark.parametrize(
    "above", [[], [text("NNX")], [nodes.paragraph("", "", nodes.strong("", "NNX"), nodes.Text(" and more"))]]
)
def test_a_tab_without_a_title_is_a_warning(above, monkeypatch):
    warnings = []
    monkeypatch.setattr(sphinx_tabs.LOGGER, "warning", lambda message, library, **where: warnings.append(library))
    assert outline(sphinx_tabs.gather([*above, cell("a", "tab-nnx")]))[-1] == "a"
    assert warnings == ["nnx"]


# ---- the tabs of the book --------------------------------------------------------------------------------------------


def libraries_of(cell):
    return [tag for tag in cell.metadata.get("tags", []) if tag.startswith("tab-")]


def tabs(notebook):
    """(library, code) of each tab of a notebook, in order; cells in a row that have one tag are one tab."""
    found, previous = [], None
    for cell in notebook.cells:
        library = next(iter(libraries_of(cell)), None)
        if library is not None and library == previous:
            found[-1] = (library, f"{found[-1][1]}\n{cell.source}")
        elif library is not None:
            found.append((library, cell.source))
        previous = library
    return found


def programs(notebook):
    """{library: code}: the cells above the first tab, and then the tabs of this library."""
    untagged = itertools.takewhile(lambda cell: not libraries_of(cell), notebook.cells)
    top = [cell.source for cell in untagged if cell.cell_type == "code"]
    found = {}
    for library, code in tabs(notebook):
        found.setdefault(library, [*top]).append(code)
    return {library: "\n".join(codes) for library, codes in found.items()}


NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in notebooks.all_notebooks()}
BOOK = {name: tabs(notebook) for name, notebook in NOTEBOOKS.items()}
PROGRAMS = {name: notebook for name, notebook in NOTEBOOKS.items() if name.startswith(("00-", "translation-"))}
ALL = {f"{name} {library}": code for name, notebook in PROGRAMS.items() for library, code in programs(notebook).items()}


@pytest.mark.parametrize("name", ALL)
def test_the_tabs_of_a_library_run_alone_in_a_fresh_process(name):
    folder = notebooks.ROOT / "book"
    options = {"cwd": folder, "env": os.environ | ENVIRONMENT, "capture_output": True, "text": True}
    ran = subprocess.run([sys.executable, "-c", ALL[name]], **options)
    assert ran.returncode == 0, ran.stderr
    assert "assert" in ALL[name]


@pytest.mark.parametrize("name", [name for name in BOOK if BOOK[name]])
def test_the_built_page_has_all_tabs(site, name):
    page = BeautifulSoup((site / "book" / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    assert [label["data-sync-id"] for label in page.select(".sd-tab-set > label")] == [
        library.removeprefix("tab-") for library, _ in BOOK[name]
    ]
    for tab_set in page.select(".sd-tab-set"):
        buttons = tab_set.find_all("input", recursive=False)
        labels, contents = (tab_set.select(f":scope > {kind}") for kind in (".sd-tab-label", ".sd-tab-content"))
        assert len(buttons) == len(labels) == len(contents) > 1
        assert [button["type"] for button in buttons] == ["radio"] * len(buttons)
        assert [label["for"] for label in labels] == [button["id"] for button in buttons]
        assert all(label.get_text(strip=True) for label in labels)
        assert [content.select_one(".cell_input") is not None for content in contents] == [True] * len(contents)
        assert [button for button in buttons if button.has_attr("checked")] == buttons[:1]
    assert not [cell for cell in page.select("[class*=tag_tab-]") if not cell.find_parent(class_="sd-tab-content")]


# ---- the first page --------------------------------------------------------------------------------------------------


def text_of(path):
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


def lines(code):
    return [line for line in code.splitlines() if line.strip()]


def test_the_first_page_has_a_short_answer_for_each_library():
    assert [library for library, _ in BOOK[FIRST_PAGE.stem]] == ["tab-nnx", "tab-linen", "tab-equinox"]
    assert [len(lines(code)) for _, code in BOOK[FIRST_PAGE.stem] if len(lines(code)) >= 15] == []
    assert "Fewer than fifteen lines" in (notebooks.ROOT / "book" / "index.md").read_text(encoding="utf-8")


def test_the_first_page_has_at_most_twelve_rows():
    (table,) = re.findall(r"(?:^\|.*\n)+", text_of(FIRST_PAGE), re.MULTILINE)
    assert 0 < len(table.splitlines()) - 2 <= 12


def test_the_first_page_needs_no_package_and_no_words_of_the_compiler():
    assert re.findall(r"trainability|\btr\.|\bstatic\b|\btraced\b", text_of(FIRST_PAGE)) == []


LOOP = "for _ in range(10):\n"
COMPILED = {  # the head of a function with the body of the loop, what it returns, and its call
    "tab-nnx": ("@nnx.jit\ndef step(model, optimizer):\n", "", "step(model, optimizer)"),
    "tab-linen": (
        "@jax.jit\ndef step(params, state):\n",
        "return params, state",
        "params, state = step(params, state)",
    ),
    "tab-equinox": ("@eqx.filter_jit\ndef step(mlp, state):\n", "return mlp, state", "mlp, state = step(mlp, state)"),
}


def test_the_loops_of_the_first_page_can_be_compiled():
    programs = []
    for library, code in BOOK[FIRST_PAGE.stem]:
        head, result, call = COMPILED[library]
        before, loop = code.split(LOOP)
        body, after = re.fullmatch(r"((?: {4}[^\n]*\n)+)(.*)", loop, re.DOTALL).groups()
        programs.append(f"{before}{head}{body}    {result}\n{LOOP}    {call}\n{after}")
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(programs)], env=os.environ | ENVIRONMENT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
