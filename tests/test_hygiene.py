"""What nbval passes without a word, and what makes a page hard to read: every notebook is searched for it.

`faults(notebook, name)` lists them. The second half of this file plants each fault in a good notebook and
expects it to be found, so that none of these checks can fall silent.
"""

import ast
import copy
import difflib
import itertools
import pathlib
import re
import statistics

import nbformat
import notebooks
import pytest

ROOT = pathlib.Path(__file__).parents[1]
CHAPTER = re.compile(r"(\d\d[a-z]?|gpflow)-.*|chapter")  # the template is called chapter
REFERENCE_PAGES = {"00-freeze-a-parameter"}  # no learning time, no exercises, no recap

MAX_BYTES = 400_000
MAX_CELL_LINES = 25  # with blank lines; 20 in a chapter
MAX_LINE_LENGTH = 84
LIBRARIES = {"tab-nnx", "tab-linen", "tab-package", "tab-equinox", "tab-haiku", "tab-keras", "tab-torch"}
LIBRARIES |= {"tab-gpflow", "tab-gpjax"}
TAGS = {"raises-exception", "hide-input", "remove-output", *LIBRARIES}
CHAPTER_HEADINGS = ["You will be able to", "What to know first", "Recap", "What's next", "References"]

MAX_CHAPTER_CELL_LINES = 20  # with blank lines, which the next ones do not count
# Of a chapter's cells besides those of the exercises' solutions.
MAX_CODE_CELLS = 20
MAX_MEDIAN_LINES = 8
MAX_FOLDED_SHARE = 1 / 5
MAX_LIKENESS = 0.6  # of a line of the recap and one of the opening list

# The one line that may be longer, and that may say how a package is installed.
THE_IMPORT = "import trainability as tr  # pip install trainable-false-book.zip, the download on the front page"

FORBIDDEN_SOURCE = {
    "a marker that takes a cell out of the test": r"NBVAL_|PYTEST_VALIDATE",
    "a date or a clock": r"date\.today|datetime\.now|time\.time|perf_counter|%time",
    "a path of one machine": r"['\"](/home/|/root/|/Users/|/tmp/|[A-Z]:\\\\)",
    "an installation": r"pip install",
    "the choice of a platform, which belongs to the environment": r"JAX_PLATFORMS|jax_platform",
}
FORBIDDEN_OUTPUT = {
    "the address of an object": r"0x[0-9a-f]{6,}",
    "a path of one machine": r"(/home/|/root/|/Users/|/tmp/|site-packages)",
    "a colour code": r"\x1b\[",
    "more than six decimals": r"\d\.\d{7,}",
}


def text_of(output):
    """All text that a reader sees of an output, or that nbval compares."""
    data = output.get("data", {})
    parts = [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
    return "\n".join([*parts, data.get("text/plain", ""), data.get("text/html", "")])


def cell_faults(cell, expected_count):
    """The faults of one code cell, whose execution count must be `expected_count`."""
    tags = set(cell.metadata.get("tags", []))
    outputs = cell.outputs
    lines = [line for line in cell.source.splitlines() if line != THE_IMPORT]
    if not cell.source.strip():
        yield "empty cell"
    if cell.execution_count != expected_count:
        yield f"execution count {cell.execution_count}, expected {expected_count}: run make execute"
    if tags - TAGS:
        yield f"unknown tag {sorted(tags - TAGS)}"
    if len(cell.source.splitlines()) > MAX_CELL_LINES:
        yield f"more than {MAX_CELL_LINES} lines"
    if any(len(line) > MAX_LINE_LENGTH for line in lines):
        yield f"a line of more than {MAX_LINE_LENGTH} characters"
    for fault, pattern in FORBIDDEN_SOURCE.items():
        if re.search(pattern, "\n".join(lines)):
            yield f"source holds {fault}"
    if "remove-output" in tags and "%xmode" not in cell.source:
        yield "remove-output is only for the cell that sets %xmode"

    raises = any(output.output_type == "error" for output in outputs)
    if raises and "raises-exception" not in tags:
        yield "an error without the tag raises-exception"
    if "raises-exception" in tags and not raises:
        yield "the tag raises-exception, but no error"
    if "print(" in cell.source and not re.search(r"^\s*def ", cell.source, re.MULTILINE) and not outputs:
        yield "prints, but has no output: run make execute"
    for output in outputs:
        if output.get("name") == "stderr":
            yield "stderr in an output"
        if any("widget" in kind for kind in output.get("data", {})):
            yield "a widget, which a page cannot show"
        for fault, pattern in FORBIDDEN_OUTPUT.items():
            if re.search(pattern, text_of(output)):
                yield f"output holds {fault}"
        if any(kind.startswith("image/") for kind in output.get("data", {})):
            yield from figure_faults(cell)


def figure_faults(cell):
    """The faults of a cell that draws a figure."""
    settings = cell.metadata.get("mystnb", {})
    alt = settings.get("image", {}).get("alt", "")
    figure = settings.get("figure", {})
    if len(alt.split()) < 8:
        yield "a figure without alt text that says what it shows"
    if not figure.get("caption") or not str(figure.get("name", "")).startswith("fig-"):
        yield "a figure without caption, or without a name fig-..."
    if not cell.source.rstrip().endswith("plt.show()"):
        yield "a figure that does not end with plt.show()"


def names(*roots):
    """The names of data in some code: not those of modules, nor of functions that are called."""
    nodes = [node for root in roots for node in ast.walk(root)]
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    return {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in called} - MODULES


MODULES = {"jax", "jnp", "np", "optax", "nn", "plt", "stats", "random", "math"}


def names_in_assertions(nodes):
    """Names in the assertions among these nodes, and names from which those come, or which come from them."""
    functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    printing = {name for name, function in functions.items() if "print(" in ast.unparse(function)}
    named, together = set(), [({name}, {argument.arg for argument in functions[name].args.args}) for name in printing]
    for node in nodes:
        match node:
            case ast.Assert():
                named |= names(node)
            case ast.Call() if "assert" in ast.unparse(node.func):
                named |= names(*node.args)
            case ast.For() | ast.comprehension():
                together.append((names(node.iter), names(node.target)))
            case ast.Assign():
                together.append((names(node.value), names(*node.targets)))
            case ast.Call(func=ast.Attribute(value=ast.Name(id=collection), attr="append")):
                together.append((names(*node.args), {collection}))
            case ast.Call(func=ast.Name(id=function)) if function in printing:
                together.append((names(*node.args), {function}))
    for _ in together:
        for one, other in together:
            if (one | other) & named:
                named |= one | other
    return named


def unnamed_numbers(code_cells):
    """Numbers that a cell prints with decimals, and that no assertion in it or in the next cell names."""
    sources = (re.sub(r"^[%!].*", "", cell.source, flags=re.MULTILINE) for cell in code_cells)
    nodes = [list(ast.walk(ast.parse(source))) for source in sources]
    for position, (here, following) in enumerate(zip(nodes, [*nodes[1:], []], strict=True), start=1):
        named = names_in_assertions([*here, *following])
        tests = " ".join(ast.unparse(node.test) for node in [*here, *following] if isinstance(node, ast.Assert))
        for node in here:
            if not isinstance(node, ast.FormattedValue) or "." not in ast.unparse(node.format_spec or ast.Constant("")):
                continue
            if not names(node.value) & named and ast.unparse(node.value) not in tests:
                yield f"code cell {position} prints {ast.unparse(node)}, and no assertion names it"


def tab_faults(notebook):
    """Cells that are to be tabs, and have no title: a bold line at the end of the text above, in Jupyter too."""
    previous = None
    for position, cell in enumerate(notebook.cells, start=1):
        libraries = set(cell.metadata.get("tags", [])) & LIBRARIES
        continued = previous is not None and libraries & set(previous.metadata.get("tags", []))
        titled = previous is not None and re.search(r"(^|\n\n)\*\*[^*\n]+\*\*$", previous.source)
        if len(libraries) > 1:
            yield f"cell {position}: a tab of more than one library"
        if libraries and not continued and not titled:
            yield f"cell {position}: a tab without a bold line above it"
        previous = cell


def chapter_faults(notebook):
    """The faults of a chapter's anatomy."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    if [heading for heading in headings if heading in CHAPTER_HEADINGS] != CHAPTER_HEADINGS:
        yield f"the headings {CHAPTER_HEADINGS} must all be there, in this order"
    stated = notebooks.LEARNING_TIME.findall(text)
    if stated != [str(notebooks.learning_time(notebook))]:
        yield f"learning time {stated}, by the rule {notebooks.learning_time(notebook)}: run make execute"
    yield from recap_faults(text)
    yield from size_faults(notebook)
    yield from exercise_faults(notebook)
    yield from exercise_place_faults(notebook)


def recap_faults(text):
    """The recap says what to remember: it does not repeat the opening list."""
    promises, kept = (
        re.findall(r"^(?:\d\.|-) (.+)", re.split(r"^## ", text.split(f"## {heading}\n")[-1], flags=re.M)[0], re.M)
        for heading in ("You will be able to", "Recap")
    )
    if not (promises and kept):
        yield f"{len(promises)} promises at the start, {len(kept)} lines in the recap"
    for promise, line in itertools.product(promises, kept):
        words = (re.findall(r"\w+", sentence.lower()) for sentence in (promise, line))
        if difflib.SequenceMatcher(None, *words, autojunk=False).ratio() > MAX_LIKENESS:
            yield f"the recap repeats the opening list: {line}"


def size_faults(notebook):
    """A chapter has few cells, and they are short."""
    for count, (cell, _) in enumerate(code_cells_and_solutions(notebook), start=1):
        if len(cell.source.splitlines()) > MAX_CHAPTER_CELL_LINES:
            yield f"code cell {count}: more than {MAX_CHAPTER_CELL_LINES} lines"
    cells = [cell for cell, solved in code_cells_and_solutions(notebook) if not solved]
    lines = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in cells]
    folded = ["hide-input" in cell.metadata.get("tags", []) for cell in cells]
    visible = [number for number, fold in zip(lines, folded, strict=True) if not fold]
    hidden = sum(lines) - sum(visible)
    if len(cells) > MAX_CODE_CELLS:
        yield f"{len(cells)} code cells besides solutions, at most {MAX_CODE_CELLS}: split the chapter"
    if statistics.median(visible) > MAX_MEDIAN_LINES:
        yield f"the median of its cells is {statistics.median(visible)} lines, at most {MAX_MEDIAN_LINES}"
    if hidden > MAX_FOLDED_SHARE * sum(lines):
        yield f"{hidden} of {sum(lines)} lines are folded, at most a fifth"


def code_cells_and_solutions(notebook):
    """Each code cell, and whether it is inside the folded solution of an exercise."""
    solved = False
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield cell, solved
        elif marks := re.findall(r"^```\{solution-(start|end)", cell.source, re.MULTILINE):
            solved = marks[-1] == "start"


def exercise_place_faults(notebook):
    """An exercise comes after the section that it practises: below that heading, and not with all the others."""
    places, shown_here, shown, solved = [], False, 0, False
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shown_here, shown = shown_here or not solved, shown + (not solved)
            continue
        for line in cell.source.splitlines():
            if match := re.match(r"```\{solution-(start|end)", line):
                solved = match[1] == "start"
            elif line.startswith("## "):
                shown_here = False
            elif line.startswith("```{exercise}"):
                places.append(shown)
                if not shown_here:
                    yield "an exercise in a section that shows nothing: put it below the section that it practises"
            if re.match(r"#+ exercises?\b", line, re.IGNORECASE):
                yield "a heading for exercises: each one goes to the section that it practises"
    if len(places) > 1 and len(set(places)) == 1:
        yield "all exercises stand together: put each below the section that it practises"


def exercise_faults(notebook):
    """Every exercise has a solution, and every solution an executed cell that asserts something."""
    exercises, solution, asserts = [], None, False
    for cell in notebook.cells:
        if cell.cell_type == "code":
            asserts = asserts or "assert" in cell.source
            continue
        for line in cell.source.splitlines():
            if line == "```{solution-end}":
                if not asserts:
                    yield f"the solution of {solution} asserts nothing"
                if solution in exercises:
                    exercises.remove(solution)
                solution = None
            elif match := re.match(r"```\{solution-start\} (.+)", line):
                solution, asserts = match[1], False
            elif (match := re.match(r":label: (.+)", line)) and solution is None:
                exercises.append(match[1])
    if exercises:
        yield f"exercises without a solution: {exercises}"
    if not any("```{exercise}" in cell.source for cell in notebook.cells):
        yield "no exercise"


def faults(notebook, name):
    """Everything that is wrong with a notebook, as a list of sentences."""
    found = []
    if notebook.metadata != notebooks.NOTEBOOK_METADATA:
        found.append("metadata of one machine: run make execute")
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code_cells, start=1):
        found += [f"code cell {count}: {fault}" for fault in cell_faults(cell, count)]
    for position, cell in enumerate(notebook.cells, start=1):
        if set(cell.metadata) - notebooks.CELL_METADATA:
            found.append(f"cell {position}: unknown metadata {sorted(cell.metadata)}")
        if cell.cell_type == "markdown" and re.search(r"!\[\]\(|<img(?![^>]*alt=\"[^\"])", cell.source):
            found.append(f"cell {position}: an image without alt text")
    if not any(re.search(r"^\s*(assert\b|np\.testing\.assert_)", cell.source, re.MULTILINE) for cell in code_cells):
        found.append("no assertion")
    found += unnamed_numbers(code_cells)
    found += tab_faults(notebook)
    if len(nbformat.writes(notebook)) > MAX_BYTES:
        found.append(f"more than {MAX_BYTES} bytes")
    if CHAPTER.fullmatch(name) and name not in REFERENCE_PAGES:
        found += chapter_faults(notebook)
    return found


@pytest.mark.parametrize("path", notebooks.all_notebooks(), ids=lambda path: path.stem)
def test_notebook_is_clean(path):
    assert faults(nbformat.read(path, as_version=4), path.stem) == []


def test_all_notebooks_are_found():
    assert len(notebooks.all_notebooks()) >= 6, "there are probably notebooks that were not discovered"


# ---- each check can fail -----------------------------------------------------------------------------------------


def good_notebook():
    """The chapter template: it has text, figures, exercises, an expected error."""
    return nbformat.read(ROOT / "templates" / "chapter.ipynb", as_version=4)


def code_cell(notebook, which=lambda cell: True):
    return next(cell for cell in notebook.cells if cell.cell_type == "code" and which(cell))


def has_output(kind):
    return lambda cell: any(kind in (output.output_type, *output.get("data", {})) for output in cell.outputs)


def replace_text(notebook, old, new):
    touched = [cell for cell in notebook.cells if old in cell.source]
    assert touched, f"the template no longer holds {old!r}"
    for cell in touched:
        cell.source = cell.source.replace(old, new)


def stream(name, text):
    return nbformat.v4.new_output("stream", name=name, text=text)


def add_output(notebook, output):
    code_cell(notebook).outputs.append(output)


def set_source(notebook, line):
    code_cell(notebook).source += f"\n{line}"


def plant_alt(notebook, text):
    code_cell(notebook, has_output("image/png")).metadata["mystnb"]["image"]["alt"] = text


def prints(cell):
    return "print(" in cell.source


def drop_outputs(notebook):
    code_cell(notebook, lambda cell: prints(cell) and "def " not in cell.source).outputs = []


def swap_counts(notebook):
    code_cell(notebook).execution_count = 7


def strip_counts(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None


def add_cells(notebook, number, source):
    notebook.cells += [nbformat.v4.new_code_cell(source) for _ in range(number)]


def two_exercises(notebook):
    replace_text(
        notebook, "```{exercise} A title", "```{exercise} Another\n:label: another\n```\n\n```{exercise} A title"
    )


PLANTED = {
    "execution count None": strip_counts,
    "execution count 7": swap_counts,
    "prints, but has no output": drop_outputs,
    "empty cell": lambda nb: nb.cells.append(nbformat.v4.new_code_cell("", execution_count=99)),
    "unknown tag": lambda nb: code_cell(nb).metadata.update(tags=["raises-exceptions"]),
    "more than 25 lines": lambda nb: set_source(nb, "\n" * 25 + "a = 1"),
    "more than 20 lines": lambda nb: set_source(nb, "\n" * 20 + "a = 1"),
    "a line of more than 84 characters": lambda nb: set_source(nb, "#" * 85),
    "a tab without a bold line": lambda nb: code_cell(nb).metadata.update(tags=["tab-nnx"]),
    "more than one library": lambda nb: code_cell(nb).metadata.update(tags=["tab-nnx", "tab-linen"]),
    "takes a cell out of the test": lambda nb: set_source(nb, "# NBVAL_SKIP"),
    "source holds a date": lambda nb: set_source(nb, "datetime.date.today()"),
    "source holds a path": lambda nb: set_source(nb, "open('/home/me/data.csv')"),
    "source holds an installation": lambda nb: set_source(nb, "!pip install jax"),
    "choice of a platform": lambda nb: set_source(nb, "jax.config.update('jax_platforms', 'cpu')"),
    "remove-output is only for": lambda nb: code_cell(nb, prints).metadata.update(tags=["remove-output"]),
    "an error without the tag": lambda nb: code_cell(nb, has_output("error")).metadata.clear(),
    "but no error": lambda nb: code_cell(nb, prints).metadata.update(tags=["raises-exception"]),
    "stderr": lambda nb: add_output(nb, stream("stderr", "DeprecationWarning")),
    "widget": lambda nb: add_output(
        nb, nbformat.v4.new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}})
    ),
    "address of an object": lambda nb: add_output(nb, stream("stdout", "<object at 0x7f51c0ffee00>")),
    "output holds a path": lambda nb: add_output(nb, stream("stdout", "/home/me/book")),
    "colour code": lambda nb: add_output(nb, stream("stdout", "\x1b[31mred\x1b[0m")),
    "more than six decimals": lambda nb: add_output(nb, stream("stdout", "0.123456789")),
    "a figure without alt text": lambda nb: plant_alt(nb, "figure 1"),
    "a figure without caption": lambda nb: code_cell(nb, has_output("image/png")).metadata["mystnb"].pop("figure"),
    "does not end with plt.show()": lambda nb: replace_text(nb, "plt.show()", "plt.plot()"),
    "metadata of one machine": lambda nb: nb.metadata.kernelspec.update(name="my-venv"),
    "unknown metadata": lambda nb: nb.cells[0].metadata.update(collapsed=True),
    "an image without alt text": lambda nb: replace_text(nb, "## Recap", "![](a.png)\n\n## Recap"),
    "no assertion names it": lambda nb: set_source(nb, "stray = 1 / 3\nprint(f'{stray:.2f}')"),
    "no assertion": lambda nb: replace_text(nb, "assert ", "_ = "),
    "more than 400000 bytes": lambda nb: set_source(nb, "#" * 400_001),
    "must all be there": lambda nb: replace_text(nb, "## Recap", "## Conclusion"),
    "learning time": lambda nb: replace_text(nb, "**Learning time:** ", "**Learning time:** 1"),
    "0 lines in the recap": lambda nb: replace_text(nb, "- T", "T"),
    "the recap repeats the opening list": lambda nb: replace_text(
        nb, "- Two or three", "- Run a wrong program and see what it does.\n- Two or three"
    ),
    "21 code cells besides solutions": lambda nb: add_cells(nb, 15, "a = 1"),
    "the median of its cells is 9": lambda nb: add_cells(nb, 12, "\n".join("abcdefghi")),
    "lines are folded, at most a fifth": lambda nb: code_cell(nb, has_output("error")).metadata.tags.append(
        "hide-input"
    ),
    "a section that shows nothing": lambda nb: replace_text(
        nb, "An exercise comes", "## More practice\n\nAn exercise comes"
    ),
    "a heading for exercises": lambda nb: replace_text(nb, "An exercise comes", "### Exercises\n\nAn exercise comes"),
    "all exercises stand together": two_exercises,
    "asserts nothing": lambda nb: replace_text(nb, "assert answer", "answer"),
    "exercises without a solution": lambda nb: replace_text(nb, "```{solution-end}", "```{note}"),
    "no exercise": lambda nb: replace_text(nb, "```{exercise}", "```{note}"),
}


def test_the_template_is_clean():
    assert faults(good_notebook(), "chapter") == []


def test_one_line_may_be_long_and_say_how_the_package_is_installed():
    notebook = good_notebook()
    set_source(notebook, THE_IMPORT)
    assert faults(notebook, "chapter") == []
    set_source(notebook, THE_IMPORT.replace("the download", "a download"))
    assert len(faults(notebook, "chapter")) == 2


@pytest.mark.parametrize("message", PLANTED)
def test_planted_fault_is_found(message):
    notebook = copy.deepcopy(good_notebook())
    PLANTED[message](notebook)
    assert any(message in fault for fault in faults(notebook, "chapter")), faults(notebook, "chapter")
