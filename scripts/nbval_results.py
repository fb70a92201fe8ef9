"""Run nbval in a process of its own and read what became of each cell."""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

from notebook_environment import ENVIRONMENT

ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Cell:
    """What nbval found of one code cell, numbered from 1: kind is 'passed', 'output', or the name of an error."""

    notebook: str
    number: int
    kind: str
    text: str


def kind_of(failure):
    """What made a cell fail, from nbval's text: 'output' if only its output differs, else the error's name."""
    if other := re.search(r"mismatch 'ename'.*?'\w+' == '(\w+)'", failure, re.DOTALL):
        return other[1]  # an error was expected, and another one came
    if "Cell outputs differ" in failure:
        return "output"
    errors = re.findall(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception|Interrupt|Exit))\b", failure, re.MULTILINE)
    return errors[-1] if errors else "unknown"


def without_colours(text):
    return re.sub(r"\x1b\[[0-9;]*m|#x1B\[[0-9;]*m", "", text)


def run(python, paths, folder, plugins=(), **variables):
    """Run nbval on notebooks with the given interpreter, two at a time; every cell's result, in order.

    `plugins` are pytest plugins of this folder, `variables` are added to the environment. Figures are compared, too. A
    run in which no cell was executed is an error, not a success.
    """
    with tempfile.TemporaryDirectory() as scratch:
        report = pathlib.Path(scratch) / "report.xml"
        command = [python, "-m", "pytest", "--nbval", "--nbval-current-env"]
        command += ["--nbval-cell-timeout=120", "-n", "2", "--dist", "loadscope", "-q", f"--junitxml={report}"]
        command += ["-p", "no:cacheprovider", "--noconftest", "-c", os.devnull, f"--rootdir={folder}", *map(str, paths)]
        command += [part for plugin in ("nbval_figures", *plugins) for part in ("-p", plugin)]
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT / "scripts"), **variables}
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if result.returncode not in (0, 1) or not report.exists():
            sys.exit(f"nbval could not be run:\n{result.stdout}{result.stderr}")
        cells = [read(case) for case in ElementTree.parse(report).iter("testcase")]
    if not cells:
        sys.exit("nbval executed no cell.")
    return sorted(cells, key=lambda cell: (cell.notebook, cell.number))


def read(case):
    """The `Cell` of one test case of a JUnit report."""
    notebook = pathlib.PurePath(case.get("classname").replace(".ipynb", "")).name.rsplit(".", 1)[-1]
    number = int(case.get("name").split()[-1]) + 1
    problem = next((child for child in case if child.tag in ("failure", "error")), None)
    if problem is None:
        skipped = any(child.tag == "skipped" for child in case)
        return Cell(notebook, number, "skipped" if skipped else "passed", "")
    text = without_colours(problem.text or "")
    return Cell(notebook, number, kind_of(text), text)
