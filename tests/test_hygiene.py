"""What nbval passes without a word, and what makes a page hard to read: every notebook is searched for it.

`faults(notebook, name)` lists them. The second half of this file plants each fault in a good notebook and
expects it to be found, so that none of these checks can fall silent.
"""

import ast
import copy
import pathlib
import re

import nbformat
import notebooks
import pytest

ROOT = pathlib.Path(__file__).parents[1]
CHAPTER = re.compile(r"\d\d[a-z]?-.*|chapter")  # the template is called chapter
REFERENCE_PAGES = {"00-freeze-a-parameter"}  # no learning time, no exercises, no recap

MAX_BYTES = 400_000
MAX_CELL_LINES = 25
TAGS = {"raises-exception", "hide-input", "remove-output"}
CHAPTER_HEADINGS = ["You will be able to", "What to know first", "Exercises", "Recap", "What's next", "References"]

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
    if not cell.source.strip():
        yield "empty cell"
    if cell.execution_count != expected_count:
        yield f"execution count {cell.execution_count}, expected {expected_count}: run make execute"
    if tags - TAGS:
        yield f"unknown tag {sorted(tags - TAGS)}"
    if len(cell.source.splitlines()) > MAX_CELL_LINES:
        yield f"more than {MAX_CELL_LINES} lines"
    for fault, pattern in FORBIDDEN_SOURCE.items():
        if re.search(pattern, cell.source):
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


def names_that_assertions_speak_of(nodes):
    """Names in the assertions among these nodes, and names from which those come, or which come from them."""
    functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    printing = {name for name, function in functions.items() if "print(" in ast.unparse(function)}
    spoken, together = set(), [({name}, {argument.arg for argument in functions[name].args.args}) for name in printing]
    for node in nodes:
        match node:
            case ast.Assert():
                spoken |= names(node)
            case ast.Call() if "assert" in ast.unparse(node.func):
                spoken |= names(*node.args)
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
            if (one | other) & spoken:
                spoken |= one | other
    return spoken


def unspoken_numbers(code_cells):
    """Numbers that a cell prints with decimals, and that no assertion in it or in the next cell speaks of."""
    sources = (re.sub(r"^[%!].*", "", cell.source, flags=re.MULTILINE) for cell in code_cells)
    nodes = [list(ast.walk(ast.parse(source))) for source in sources]
    for position, (here, following) in enumerate(zip(nodes, [*nodes[1:], []], strict=True), start=1):
        spoken = names_that_assertions_speak_of([*here, *following])
        tests = " ".join(ast.unparse(node.test) for node in [*here, *following] if isinstance(node, ast.Assert))
        for node in here:
            if not isinstance(node, ast.FormattedValue) or "." not in ast.unparse(node.format_spec or ast.Constant("")):
                continue
            if not names(node.value) & spoken and ast.unparse(node.value) not in tests:
                yield f"code cell {position} prints {ast.unparse(node)}, and no assertion speaks of it"


def chapter_faults(notebook):
    """The faults of a chapter's anatomy."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    if [heading for heading in headings if heading in CHAPTER_HEADINGS] != CHAPTER_HEADINGS:
        yield f"the headings {CHAPTER_HEADINGS} must all be there, in this order"
    stated = notebooks.LEARNING_TIME.findall(text)
    if stated != [str(notebooks.learning_time(notebook))]:
        yield f"learning time {stated}, by the rule {notebooks.learning_time(notebook)}: run make execute"
    promises, kept = (
        len(re.findall(r"^\d\. ", re.split(r"^## ", text.split(f"## {heading}\n")[-1], flags=re.MULTILINE)[0], re.M))
        for heading in ("You will be able to", "Recap")
    )
    if not 0 < promises == kept:
        yield f"{promises} promises at the start, {kept} in the recap"
    yield from exercise_faults(notebook)


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
    found += unspoken_numbers(code_cells)
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


def test_the_answer_has_the_fifteen_lines_that_the_front_page_promises():
    notebook = nbformat.read(ROOT / "book" / "00-freeze-a-parameter.ipynb", as_version=4)
    answer = code_cell(notebook, lambda cell: "def train(" in cell.source)
    assert len([line for line in answer.source.splitlines() if line.strip()]) == 15
    assert "Fifteen lines" in (ROOT / "book" / "index.md").read_text(encoding="utf-8")


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
    code_cell(notebook, prints).outputs = []


def swap_counts(notebook):
    code_cell(notebook).execution_count = 7


def strip_counts(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None


PLANTED = {
    "execution count None": strip_counts,
    "execution count 7": swap_counts,
    "prints, but has no output": drop_outputs,
    "empty cell": lambda nb: nb.cells.append(nbformat.v4.new_code_cell("", execution_count=99)),
    "unknown tag": lambda nb: code_cell(nb).metadata.update(tags=["raises-exceptions"]),
    "more than 25 lines": lambda nb: set_source(nb, "\n" * 30 + "a = 1"),
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
    "no assertion speaks of it": lambda nb: set_source(nb, "stray = 1 / 3\nprint(f'{stray:.2f}')"),
    "no assertion": lambda nb: replace_text(nb, "assert ", "_ = "),
    "more than 400000 bytes": lambda nb: set_source(nb, "#" * 400_001),
    "must all be there": lambda nb: replace_text(nb, "## Recap", "## Conclusion"),
    "learning time": lambda nb: replace_text(nb, "**Learning time:** ", "**Learning time:** 1"),
    "in the recap": lambda nb: replace_text(nb, "2. mended it, and", "and"),
    "asserts nothing": lambda nb: replace_text(nb, "assert answer", "answer"),
    "exercises without a solution": lambda nb: replace_text(nb, "```{solution-end}", "```{note}"),
    "no exercise": lambda nb: replace_text(nb, "```{exercise}", "```{note}"),
}


def test_the_template_is_clean():
    assert faults(good_notebook(), "chapter") == []


@pytest.mark.parametrize("message", PLANTED)
def test_planted_fault_is_found(message):
    notebook = copy.deepcopy(good_notebook())
    PLANTED[message](notebook)
    assert any(message in fault for fault in faults(notebook, "chapter")), faults(notebook, "chapter")
