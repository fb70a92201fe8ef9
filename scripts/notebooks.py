"""Run notebooks and store what they print, in one form for everybody.

    python scripts/notebooks.py [FILE ...]   run, store the outputs, tidy, state the learning time

Without a file, all notebooks of the book and the chapter template.
"""

import argparse
import asyncio
import concurrent.futures
import math
import os
import pathlib
import re
import sys

import nbformat
from nbclient import NotebookClient
from nbconvert.filters import strip_ansi
from notebook_environment import ENVIRONMENT

ROOT = pathlib.Path(__file__).parents[1]
CELL_TIMEOUT = 120  # seconds

NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_METADATA = {"tags", "mystnb"}
LEARNING_TIME = re.compile(r"(?<=\*\*Learning time:\*\* )\d+(?= minutes)")
WORDS_A_MINUTE = 200


def all_notebooks():
    """The paths of all notebooks, in reading order, the chapter template last."""
    return [*sorted(ROOT.glob("book/*.ipynb")), *sorted(ROOT.glob("templates/*.ipynb"))]


def learning_time(notebook):
    """Minutes, rounded to five: one for 200 words of text, and one for each code cell."""
    text = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    code_cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    minutes = len(text.split()) / WORDS_A_MINUTE + code_cells
    return max(5, 5 * math.floor(minutes / 5 + 0.5))


def run(notebook, folder):
    """A copy of the notebook with fresh outputs, executed in `folder`."""
    os.environ.update(ENVIRONMENT)
    fresh = nbformat.from_dict(notebook)
    resources = {"metadata": {"path": str(folder)}}
    options = {"timeout": CELL_TIMEOUT, "kernel_name": "python3", "coalesce_streams": True}
    NotebookClient(fresh, resources=resources, **options).execute()
    return fresh


def tidy(notebook):
    """Take out in place what depends on who ran the notebook, and where; state the learning time."""
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    time = str(learning_time(notebook))
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in CELL_METADATA})
        if cell.cell_type == "markdown":
            cell.source = LEARNING_TIME.sub(time, cell.source)
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                output.traceback = [strip_ansi(line) for line in output.traceback]


def execute_in_place(path):
    fresh = run(nbformat.read(path, as_version=4), path.parent)
    tidy(fresh)
    nbformat.validate(fresh)
    nbformat.write(fresh, path)
    print(f"{path.name}: executed.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()
    paths = [path.resolve() for path in arguments.files] or all_notebooks()
    with concurrent.futures.ProcessPoolExecutor(2) as two_at_a_time:
        list(two_at_a_time.map(execute_in_place, paths))


if __name__ == "__main__":
    if sys.platform == "win32":  # the kernel's sockets need this event loop
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    main()
