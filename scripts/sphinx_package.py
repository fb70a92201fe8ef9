"""A Sphinx extension: the book's own package, for the page made from its docstrings, and for chapters that import it.

Such a chapter says at its download that the notebook alone will not run.
"""

import pathlib
import re
import sys

BOOK = pathlib.Path(__file__).parents[1] / "book"
IMPORTS_THE_PACKAGE = re.compile(r'^[\s"]*(from|import) trainability\b', re.MULTILINE)
NEEDS = "needs the package in the zip of the book"


def imports_the_package(notebook):
    """Whether a notebook, given by its path, imports the book's package."""
    return bool(IMPORTS_THE_PACKAGE.search(notebook.read_text(encoding="utf-8")))


def say_so_at_the_download(app, pagename, templatename, context, doctree):
    path = app.srcdir / f"{pagename}.ipynb"
    if not path.exists() or not imports_the_package(path):
        return
    for group in context.get("header_buttons", []):
        for button in group["buttons"] if isinstance(group.get("buttons"), list) else []:
            if button.get("label") == "download-source-button":
                button["text"] = f"{button['text']} ({NEEDS})"
                button["tooltip"] = f"{button['tooltip']}: {NEEDS}"


def setup(app):
    sys.path.insert(0, str(BOOK))
    app.connect("html-page-context", say_so_at_the_download, priority=960)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
