"""A Sphinx extension: a page shows statements of a notebook, and so cannot show anything that does not run.

    ```{snippet} translation-choosing linen 1
    mask =
    params =
    ```

Of the tabs of a library (the tag `tab-linen`) below the heading `## 1 ...` it shows the statements that begin so, in
this order. A beginning that fits no statement, or several, is an error. Task 0 is what stands above the first task.
"""

import ast
import pathlib
import re

import nbformat
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

BOOK = pathlib.Path(__file__).parents[1] / "book"


def code_of(notebook, library, task):
    """The code of a library's tabs in the section of a task."""
    section, codes = "0", []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            section = [section, *re.findall(r"^## (\d+) ", cell.source, re.MULTILINE)][-1]
        elif section == task and f"tab-{library}" in cell.metadata.get("tags", []):
            codes.append(cell.source)
    return "\n".join(codes)


def statements(code):
    """The statements of some code, each with its decorators and the comment behind it."""
    lines = code.splitlines()
    for node in ast.parse(code).body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        yield "\n".join(lines[first - 1 : node.end_lineno])


def chosen(code, beginnings):
    """The statements that begin so; ValueError if there is not exactly one of each."""
    for beginning in beginnings:
        found = [statement for statement in statements(code) if statement.startswith(beginning)]
        if len(found) != 1:
            raise ValueError(f"{len(found)} statements begin with {beginning!r}, and not one")
        yield found[0]


def snippet(page, library, task, beginnings):
    notebook = nbformat.read(BOOK / f"{page}.ipynb", as_version=4)
    lines = "\n".join(chosen(code_of(notebook, library, task), beginnings)).splitlines()
    return "\n".join(line for line in lines if line.strip())


class Snippet(SphinxDirective):
    required_arguments = 3
    has_content = True

    def run(self):
        page, library, task = self.arguments
        self.env.note_dependency(str(BOOK / f"{page}.ipynb"))
        try:
            text = snippet(page, library, task, [line for line in self.content if line.strip()])
        except ValueError as problem:
            raise self.error(f"{page}, {library}, task {task}: {problem}") from problem
        return [nodes.literal_block(text, text, language="python")]


def setup(app):
    app.add_directive("snippet", Snippet)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
