"""A Sphinx extension: what theme and highlighter do not get right by themselves, in weight and in accessibility."""

import pathlib

from docutils import nodes
from pygments.lexers.special import TextLexer

# The theme draws its icons twice: with web fonts, and again with this script of 1.5 MB. The fonts are enough.
SECOND_ICON_SET = "_static/scripts/fontawesome.js"
UNUSED = ["_static/**/*.map", "_static/**/*.ttf"]

# docutils gives a bibliography roles that ARIA has deprecated, and that contradict each other.
WRONG_ROLES = {'<div role="list" class="citation-list">': '<div class="citation-list">', ' role="doc-biblioentry"': ""}


def drop_mathjax_where_there_is_no_maths(app, pagename, templatename, context, doctree):
    """Sphinx also loads MathJax on a page whose *sub-pages* hold maths: the front page would carry it for all."""
    if doctree is None or not any(doctree.findall(lambda node: isinstance(node, (nodes.math, nodes.math_block)))):
        files = context.get("script_files", [])
        context["script_files"] = [file for file in files if "mathjax" not in str(getattr(file, "filename", file))]


def mend_roles(app, pagename, templatename, context, doctree):
    for wrong, right in WRONG_ROLES.items():
        context["body"] = context.get("body", "").replace(wrong, right)


def remove_unused_files(app, exception):
    if exception is not None or app.builder.format != "html":
        return
    site = pathlib.Path(app.outdir)
    for pattern in UNUSED:
        for file in site.glob(pattern):
            file.unlink()
    (site / SECOND_ICON_SET).write_text("/* left out: the icons come from the web fonts */\n", encoding="utf-8")


def setup(app):
    # IPython's own lexer stumbles over an error message of several lines, and the strict build over its warning.
    app.add_lexer("ipythontb", TextLexer)
    app.connect("html-page-context", drop_mathjax_where_there_is_no_maths, priority=900)
    app.connect("html-page-context", mend_roles)
    app.connect("build-finished", remove_unused_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
