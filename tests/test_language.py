"""The words of the book: phrases that it does not use, and spelling.

`refused(text)` lists the phrases. Each of them is planted in each kind of text below, and must be found there.
"""

import ast
import io
import itertools
import pathlib
import re
import subprocess
import sys
import tokenize

import nbformat
import notebooks
import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOUNS = "array|bias|bool|class|dictionary|error|flag|float|function|integer|key|layer|leaf|list|loss|mask|matrix|model"
NOUNS += "|module|number|optimizer|parameter|path|prior|proof|pytree|scalar|state|string|tree|tuple|value|vector|way"

PARTICIPLES = r"\w+ed|\w+en|\w+wn|yet|been|run|met|had|read|set|put|made|kept|come|gone|done|found|left|lost|said|built"

# An example of each phrase, and what finds it and its kind. Plainer words: in every bit: bit for bit; mend, cure: fix,
# solution; the half: the trainable part; it counts: it takes effect; ask of each: check each; look which: see which;
# speak of: refer to; hold against: compare with; whoever: if you; shall be: is to be; is no array: is not an array; has
# not a name: does not have a name. For the others, say what happens.
REFUSED = {
    "the same in every bit": r"\bin every bit\b",
    "not by a bit": r"\bby (a|one|any) bit\b",
    "run and mended": r"\bmend(s|ed|ing)?\b",
    "the cure": r"\bcur(e|es|ed|ing)\b",
    "it counts, and stays": r"\bcounts?,? and (stay|is not|are not)|\bcounts? at once\b",
    "Ask of every parameter whether it moved": r"\bask(s|ed|ing)? of (every|each|all)\b",
    "is never typed in by hand": r"\btyped in by hand\b",
    "with a care for": r"\bwith a care for\b",
    "to which we come below": r"\bto which we (come|shall|will)\b|\bwe come (below|later)\b",
    "in another dress": r"\bin another dress\b",
    "more often a slip than a wish": r"\bthan a wish\b|\bslip of the finger\b",
    "look which of them moves": r"\blook(s|ed|ing)? which\b",
    "read by nobody": r"\bread by nobody\b|\bnobody reads\b",
    "speaks of": r"\bsp(eak|eaks|eaking|oke|oken) of\b",
    "holds them against": r"\b(hold|holds|held|holding)( [\w`']+){0,3} against\b",
    "as if nothing had happened": r"\bas if nothing had happened\b",
    "are good gifts": r"\bgood gifts?\b",
    "Whoever puts it there": r"\bwhoever\b",
    "Where to can depend on": r"\bwhere to can\b",
    "shall be": r"\bshall\b",
    "is no array": rf"(?<!\bthere\s)\b(is|are) no ({NOUNS})(s|es)?\b",
    "has not a name": rf"\b(has|have) not\b(?! ({PARTICIPLES})\b)",
    "Rows of the table, executed": r"\brows of the table, executed\b",
    "Zero, and yet not zero": r"\band yet not zero\b",
    "All of them at once": r"^#+ all of them at once\b",
    "L-BFGS over the half": r"\bover the half\b",
}
# Before chapter 4a has shown the two parts, nothing is "the half".
FIRST_PAGES = re.compile(r"README|index|0[0-3][a-z]?-")
REFUSED_ON_FIRST_PAGES = {"gives the optimizer the half that trains": r"\bthe half\b(?! of)"}

# (page, the phrase with a word or two around it, why it stays there)
EXCEPTIONS: list[tuple[str, str, str]] = []


def comments(source):
    """The comments of some Python code. IPython's own lines (%, !) are taken out."""
    source = re.sub(r"^[%!].*", "", source, flags=re.MULTILINE)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def strings(source):
    """All strings of some Python code: docstrings, error messages, whatever it prints."""
    nodes = ast.walk(ast.parse(source))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def texts_of_notebook(notebook):
    """What a notebook says in words: its text, comments, captions and alt texts."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield cell.source
            continue
        yield from comments(cell.source)
        settings = cell.metadata.get("mystnb", {})
        yield settings.get("figure", {}).get("caption", "")
        yield settings.get("image", {}).get("alt", "")


def texts_of(path):
    """What a file says to its reader, in pieces."""
    if path.suffix == ".ipynb":
        return texts_of_notebook(nbformat.read(path, as_version=4))
    text = path.read_text(encoding="utf-8")
    return strings(text) if path.suffix == ".py" else [text]


def pages():
    package = sorted(ROOT.glob("book/trainability/**/*.py"))
    return [*sorted(ROOT.glob("book/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md", *package]


def refused(text, name):
    """The refused phrases of a text, each with the words around it. A line break is a space."""
    patterns = [*REFUSED.values(), *(REFUSED_ON_FIRST_PAGES.values() if FIRST_PAGES.match(name) else [])]
    for pattern in patterns:
        spaced = pattern if pattern.startswith("^") else pattern.replace(" ", r"\s+")
        for match in re.finditer(spaced, text, re.IGNORECASE | re.MULTILINE):
            around = text[max(0, match.start() - 30) : match.end() + 30]
            yield " ".join(around.split())


def faults(path):
    """The refused phrases of a file, without the exceptions."""
    excused = [words for page, words, _ in EXCEPTIONS if page == path.name]
    found = [phrase for text in texts_of(path) for phrase in refused(text, path.name)]
    return [phrase for phrase in found if not any(words in phrase for words in excused)]


@pytest.mark.parametrize("path", [*notebooks.all_notebooks(), *pages()], ids=lambda path: path.stem)
def test_page_is_in_plain_words(path):
    assert faults(path) == []


def test_each_exception_is_needed_and_has_a_reason():
    paths = {path.name: path for path in [*notebooks.all_notebooks(), *pages()]}
    for page, words, reason in EXCEPTIONS:
        assert any(words in phrase for text in texts_of(paths[page]) for phrase in refused(text, page)), words
        assert len(reason.split()) >= 3


# ---- each phrase is found, wherever it stands ------------------------------------------------------------------------


def in_text(phrase):
    return nbformat.v4.new_markdown_cell(f"A sentence.\n\n## {phrase}")


def in_comment(phrase):
    return nbformat.v4.new_code_cell(f"%xmode Minimal\na = '#'  # {phrase}")


def in_caption(phrase):
    return nbformat.v4.new_code_cell("a = 1", metadata={"mystnb": {"figure": {"caption": phrase}}})


def in_alt_text(phrase):
    return nbformat.v4.new_code_cell("a = 1", metadata={"mystnb": {"image": {"alt": phrase}}})


HEADING = "All of them at once"  # refused as a heading only
ANYWHERE = [phrase for phrase in REFUSED if phrase != HEADING]


@pytest.mark.parametrize(
    ("phrase", "place"),
    [(HEADING, in_text), *itertools.product(ANYWHERE, [in_text, in_comment, in_caption, in_alt_text])],
)
def test_planted_phrase_is_found_in_a_notebook(phrase, place, tmp_path):
    path = tmp_path / "05-chapter.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[place(phrase)]), path)
    assert faults(path)


@pytest.mark.parametrize("phrase", [*REFUSED, *REFUSED_ON_FIRST_PAGES])
def test_planted_phrase_is_found_on_a_page(phrase, tmp_path):
    path = tmp_path / "index.md"
    path.write_text(f"# Title\n\n## {phrase}\n", encoding="utf-8")
    assert faults(path)
    if phrase != HEADING:  # in a paragraph that is broken into lines
        path.write_text("# Title\n\nWords " + phrase.replace(" ", "\n") + ".\n", encoding="utf-8")
        assert faults(path)


@pytest.mark.parametrize("source", ['"""{}"""', 'def f():\n    """{}"""', "raise ValueError(f'{{1}} {}')"])
def test_planted_phrase_is_found_in_the_package(source, tmp_path):
    path = tmp_path / "masks.py"
    path.write_text(source.format("The cure is to mend it."), encoding="utf-8")
    assert len(faults(path)) == 2


def test_an_exception_is_for_its_words_and_its_page_only(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "EXCEPTIONS", [("one.md", "a cure for", "quoted from somebody")])
    for name, text, expected in [
        ("one.md", "There is a cure for it.", 0),
        ("one.md", "There is a cure for it, and this is where another cure can be found and is wanted.", 1),
        ("two.md", "There is a cure for it.", 1),
    ]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert len(faults(tmp_path / name)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "There is no key here, and where there are no leaves, nothing trains.",
        "It has not moved, and you have not yet seen it. A curve, a secure line, a recommended one.",
        "It holds the count and the moments. Half of the leaves train. We come back to it.",
    ],
)
def test_ordinary_sentences_are_not_refused(text):
    assert list(refused(text, "index.md")) == []


# ---- spelling --------------------------------------------------------------------------------------------------------


def misspellings(files, folder):
    """What codespell finds in the words of the files, with the settings of pyproject.toml."""
    for path in files:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            notebook = nbformat.reads(text, as_version=4)
            code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
            text = "\n".join([*texts_of_notebook(notebook), *code])  # the outputs hold pictures
        copied = folder / f"{path.parent.name}-{path.name}"
        copied.write_text(text + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "codespell_lib", "--toml", ROOT / "pyproject.toml", folder]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert ran.returncode in (0, 65) and not ran.stderr, ran.stderr
    return [line.removeprefix(f"{folder}/") for line in ran.stdout.splitlines()]


def test_spelling(tmp_path):
    code = [path for folder in ("book", "scripts", "tests") for path in sorted((ROOT / folder).glob("**/*.py"))]
    files = [*notebooks.all_notebooks(), *sorted(ROOT.glob("book/*.md")), *sorted(ROOT.glob("*.md")), *code]
    assert len(files) > 60
    assert misspellings(files, tmp_path) == []


@pytest.mark.parametrize("name", ["page.md", "module.py", "notebook.ipynb"])
def test_planted_misspelling_is_found(name, tmp_path):
    path, folder = tmp_path / name, tmp_path / "words"
    folder.mkdir()
    wrong = "An arg" + "uement"
    cell = nbformat.v4.new_markdown_cell(wrong)
    path.write_text(
        nbformat.writes(nbformat.v4.new_notebook(cells=[cell])) if name.endswith("ipynb") else f"# {wrong}\n",
        encoding="utf-8",
    )
    assert len(misspellings([path], folder)) == 1
