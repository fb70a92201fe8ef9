"""A Sphinx extension: code cells that show one thing in several libraries become tabs.

A tab is a bold line that stands alone, such as `**Flax NNX**`, and below it one code cell or more with the tag of a
library, such as `tab-nnx`. Tabs that follow one another are a set. Anything between them ends the set, and so does a
tag that the set has already. The tabs are those of sphinx-design: radio buttons and CSS, which need no script. Its
script remembers the library that a reader chooses, for all sets on all pages.
"""

import itertools

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx_design.shared import create_component, is_component

TAG = "tag_tab-"  # MyST-NB's class for a tag tab-...
LOGGER = logging.getLogger(__name__)


def library_of(node):
    """The library in the tag of a code cell, None for anything else."""
    classes = node.get("classes", []) if isinstance(node, nodes.container) else []
    return next((name.removeprefix(TAG) for name in classes if name.startswith(TAG)), None)


def bold_line(node):
    """The bold text of a paragraph that holds nothing else, None for anything else."""
    bold = [child for child in node if isinstance(child, nodes.strong)] if isinstance(node, nodes.paragraph) else []
    return bold[0] if len(bold) == 1 and bold[0].astext() == node.astext() else None


def tab(title, library, cells):
    label = nodes.rubric("", "", *title.children, classes=["sd-tab-label"], sync_group="library", sync_id=library)
    content = create_component("tab-content", classes=["sd-tab-content"], children=cells)
    return create_component("tab-item", classes=["sd-tab-item"], children=[label, content])


def libraries(tab_set):
    return [item[0]["sync_id"] for item in tab_set]


def gather(children):
    """A list of nodes with a tab set in place of each sequence of tabs."""
    gathered = []
    for library, group in itertools.groupby(children, key=library_of):
        cells = list(group)
        if library is None:
            gathered += cells
        elif not gathered or bold_line(gathered[-1]) is None:
            LOGGER.warning(
                "a cell with the tag tab-%s has no bold line above it, its title", library, location=cells[0]
            )
            gathered += cells
        else:
            title = bold_line(gathered.pop())
            if not gathered or not is_component(gathered[-1], "tab-set") or library in libraries(gathered[-1]):
                gathered.append(create_component("tab-set", classes=["sd-tab-set"]))
            gathered[-1] += tab(title, library, cells)
    return gathered


class Tabs(SphinxTransform):
    default_priority = 500

    def apply(self, **kwargs):
        for parent in {cell.parent: None for cell in self.document.findall(library_of)}:
            parent.children, children = [], parent.children
            parent += gather(children)


def setup(app):
    app.add_transform(Tabs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
