"""A Sphinx extension: {py:func}`jax.lax.stop_gradient` becomes a link to that function's own documentation.

The names and addresses are in book/api-links.tsv. Each address there was confirmed. A name that is not there cannot be
linked: the strict build then fails on the reference.
"""

import csv
import pathlib

from docutils import nodes

LINKS = pathlib.Path(__file__).parents[1] / "book" / "api-links.tsv"


def read_links(path=LINKS):
    """{name: address} from a file of two columns, separated by a tab."""
    with path.open(encoding="utf-8", newline="") as file:
        return dict(csv.reader(file, delimiter="\t"))


def resolve(app, env, node, contnode):
    links = read_links()
    target = node.get("reftarget")
    if node.get("refdomain") != "py" or target not in links:
        return None
    return nodes.reference("", "", contnode, internal=False, refuri=links[target], classes=["api-link"])


def setup(app):
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
