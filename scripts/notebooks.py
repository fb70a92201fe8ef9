"""Run notebooks and store what they print, in one form for everybody.

    python scripts/notebooks.py execute [FILE ...]   run, store the outputs, tidy, state the learning time
    python scripts/notebooks.py figures [FILE ...]   run a copy, and compare each figure with the stored one

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
    """Minutes: one for 200 words of text, and one for each code cell."""
    text = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    code_cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    return math.ceil(len(text.split()) / WORDS_A_MINUTE + code_cells)


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


def figures(notebook):
    """The PNG outputs in order, each with the number of its code cell."""
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [
        (number, output.data["image/png"].strip())
        for number, cell in enumerate(code_cells, start=1)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def execute_in_place(path):
    fresh = run(nbformat.read(path, as_version=4), path.parent)
    tidy(fresh)
    nbformat.validate(fresh)
    nbformat.write(fresh, path)
    print(f"{path.name}: executed.")
    return True


def compare_figures(path):
    stored = nbformat.read(path, as_version=4)
    old, new = figures(stored), figures(run(stored, path.parent))
    stale = sorted({number for number, _ in set(old) ^ set(new)})
    if stale:
        print(f"{path.name}: stale figure in code cell {', '.join(map(str, stale))}. Run make execute.")
    else:
        print(f"{path.name}: {len(old)} figures, all as stored.")
    return not stale


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["execute", "figures"])
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()
    task = {"execute": execute_in_place, "figures": compare_figures}[arguments.task]
    paths = [path.resolve() for path in arguments.files] or all_notebooks()
    with concurrent.futures.ProcessPoolExecutor(2) as two_at_a_time:
        return all(list(two_at_a_time.map(task, paths)))


if __name__ == "__main__":
    if sys.platform == "win32":  # the kernel's sockets need this event loop
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    sys.exit(0 if main() else 1)
