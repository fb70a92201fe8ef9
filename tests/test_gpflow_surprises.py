"""The pages on GPflow's surprises show the script as it is, all of it, and read numbers from its record."""

import json
import pathlib
import re
import textwrap

import nbformat

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "book" / "gpflow_reference"
PAGES = ["gpflow-surprises", "gpflow-priors-and-values"]
SCRIPT = (FOLDER / "surprises.py").read_text(encoding="utf-8")
RECORD = json.loads((FOLDER / "surprises.json").read_text(encoding="utf-8"))


def parts():
    """{name: lines} of the parts of the script that are for the pages."""
    found = re.findall(r"# show (\w+)\n(.+?)# end\n", SCRIPT, re.DOTALL)
    return {name: textwrap.dedent(lines).strip() for name, lines in found}


def code_cells():
    for page in PAGES:
        cells = nbformat.read(ROOT / "book" / f"{page}.ipynb", as_version=4).cells
        yield from (cell for cell in cells if cell.cell_type == "code")


def test_each_part_of_the_script_is_on_a_page_once():
    shown = [
        output.data["text/markdown"]
        for cell in code_cells()
        for output in cell.outputs
        if "text/markdown" in output.get("data", {})
    ]
    assert len(parts()) == len(re.findall(r"^ *# show \w+$", SCRIPT, re.MULTILINE)) == SCRIPT.count("# end\n")
    assert sorted(shown) == sorted(f"```python\n{lines}\n```" for lines in parts().values())


def test_a_part_fits_its_page():
    assert [line for lines in parts().values() for line in lines.splitlines() if len(line) > 84] == []


def test_the_record_is_that_of_the_script():
    listed = re.findall(r"^PARTS \+?= \[(.+?)\]", SCRIPT, re.MULTILINE | re.DOTALL)
    names = [name for names in listed for name in re.findall(r"\w+", names)]
    assert list(RECORD) == ["versions", *names]


def test_the_pages_read_no_verdict():
    """A record holds numbers, names and messages: whether a claim is true is for the page to say."""

    def leaves(value):
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return [value] if children is None else [leaf for child in children for leaf in leaves(child)]

    assert {type(leaf) for leaf in leaves(RECORD)} == {float, str}
