"""The translation pages: every library ends at the same numbers; those of PyTorch and GPflow are the recorded ones."""

import json
import pathlib
import re

import gpflow_runs
import nbformat
import numpy as np
import pytest
import pytorch
import reference
import sphinx_snippets
from bs4 import BeautifulSoup

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ["translation-choosing", "translation-training", "translation-keras"]
LIBRARIES = ["tab-linen", "tab-package", "tab-nnx", "tab-equinox", "tab-haiku", "tab-torch", "tab-gpflow"]
RELATIVE = 1e-10


# ---- the numbers, by hand in NumPy -----------------------------------------------------------------------------------

X = np.array([[1.0, 2.0], [2.0, -1.0], [-1.0, 1.0], [0.5, -2.0]])
Y = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.5]])
KERNEL, HEAD_KERNEL = "body/kernel", "head/kernel"


def start(**replaced):
    values = {KERNEL: [[0.5, -0.3], [0.2, 0.4]], "body/bias": [0.1, -0.1]}
    values |= {HEAD_KERNEL: [[0.6, 0.1], [-0.2, 0.7]], "head/bias": [0.0, 0.2]}
    return {path: np.array(value) for path, value in values.items()} | replaced


def forward(p):
    hidden = np.tanh(X @ p[KERNEL] + p["body/bias"])
    return hidden, hidden @ p[HEAD_KERNEL] + p["head/bias"] - Y


def loss(p):
    return np.mean(forward(p)[1] ** 2)


def gradient(p):
    """By the chain rule: no library differentiates here."""
    hidden, error = forward(p)
    error = 2 * error / Y.size
    inner = error @ p[HEAD_KERNEL].T * (1 - hidden**2)
    body = {KERNEL: X.T @ inner, "body/bias": inner.sum(0)}
    return body | {HEAD_KERNEL: hidden.T @ error, "head/bias": error.sum(0)}


def train(p, fixed=(), decay=0.0, first_row_fixed=False, tied=False):
    """100 steps of gradient descent."""
    for _ in range(100):
        g = gradient(p)
        if tied:
            g[KERNEL] = g[HEAD_KERNEL] = g[KERNEL] + g[HEAD_KERNEL]
        if first_row_fixed:
            g[KERNEL][0] = 0
        p = {path: value if path in fixed else value - 0.1 * (g[path] + decay * value) for path, value in p.items()}
    return p


def numbers():
    """{task: the numbers that every library must have}; task 0 is the start."""
    fixed = train(start(), [KERNEL])
    replaced = start(**{KERNEL: np.eye(2)})
    squares = sum(np.sum(value**2) for path, value in gradient(start()).items() if path != KERNEL)
    tied = train(start(**{HEAD_KERNEL: start()[KERNEL]}), tied=True)
    return {
        0: [loss(start())],
        1: [loss(fixed)],
        2: [loss(train(fixed))],
        3: [],
        4: [loss(replaced), loss(train(replaced, [KERNEL]))],
        5: [squares],
        6: [loss(train(start(), [KERNEL], decay=0.1))],
        7: [loss(train(start(), first_row_fixed=True))],
        8: [loss(train(tied, [KERNEL, HEAD_KERNEL], tied=True))],
    }


NUMBERS = numbers()


def test_the_numbers_tell_the_tasks_apart():
    """A wrong way of a task gives another number."""
    wrong = {1: train(start()), 6: train(start(), decay=0.1), 7: train(start(), [KERNEL])}
    for task, after in wrong.items():
        assert abs(loss(after) / NUMBERS[task][0] - 1) > 0.01
    everything = [number for numbers in NUMBERS.values() for number in numbers]
    assert all(abs(a / b - 1) > 1e-3 for i, a in enumerate(everything) for b in everything[:i])


def test_the_gradient_by_hand_is_that_of_finite_differences():
    p, g = start(), gradient(start())
    for path, value in p.items():
        for index in np.ndindex(value.shape):
            step = np.zeros_like(value)
            step[index] = 1e-6
            slope = (loss({**p, path: value + step}) - loss({**p, path: value - step})) / 2e-6
            np.testing.assert_allclose(slope, g[path][index], rtol=1e-7, atol=1e-9)


# ---- the pages -------------------------------------------------------------------------------------------------------


def tasks(name):
    """{task: {library: code}} of a page, with None for cells that are no tab; task 0 is above the first one."""
    found, task = {0: {}}, 0
    for cell in nbformat.read(ROOT / "book" / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown":
            for number in re.findall(r"^## (\d) ", cell.source, re.MULTILINE):
                task = int(number)
                found[task] = {}
            continue
        library = next((tag for tag in cell.metadata.get("tags", []) if tag.startswith("tab-")), None)
        found[task][library] = f"{found[task].get(library, '')}\n{cell.source}"
    return found


BOOK = {name: tasks(name) for name in PAGES}
TABS = [
    (name, task, library)
    for name in PAGES
    for task, codes in BOOK[name].items()
    for library in ([None] if name == "translation-keras" else LIBRARIES if task else [])
]


def asserted(code):
    """The numbers that the code asserts, at the tolerance of the page."""
    return [float(number) for number in re.findall(r"(\d\.\d{10,}),\s*rtol=1e-10", code)]


def test_the_pages_have_all_tasks_in_all_libraries():
    jax_pages = [task for name in PAGES[:2] for task in BOOK[name] if task]
    assert jax_pages == list(range(1, 9)) and list(BOOK["translation-keras"]) == list(range(9))
    for name in PAGES[:2]:
        assert [list(codes) for codes in BOOK[name].values() if not set(LIBRARIES) <= set(codes)] == []


@pytest.mark.parametrize(("name", "task", "library"), TABS)
def test_each_library_asserts_the_same_numbers(name, task, library):
    np.testing.assert_allclose(asserted(BOOK[name][task][library]), NUMBERS[task], rtol=RELATIVE / 100)


def test_both_pages_have_the_same_models():
    first, second = (BOOK[name][0] for name in PAGES[:2])
    for library in LIBRARIES:
        assert first[library] == second[library]
    assert BOOK["translation-choosing"][0][None].count("0.7975726568631538") == 1


def test_keras_has_its_backend_before_anything_else():
    cells = nbformat.read(ROOT / "book" / "translation-keras.ipynb", as_version=4).cells
    first = next(cell.source for cell in cells if cell.cell_type == "code")
    assert first == 'import os\n\nos.environ["KERAS_BACKEND"] = "jax"'


# ---- PyTorch and GPflow ----------------------------------------------------------------------------------------------

SCRIPTS = {"torch": pytorch.SCRIPT, "gpflow": gpflow_runs.SCRIPTS / "translation.py"}
RECORDS = {name: json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) for name, path in SCRIPTS.items()}
RECORD = RECORDS["torch"]
PARTS = ["model", "fix", "free", "list", "replace", "gradient", "decay", "part", "tie"]


@pytest.mark.parametrize("library", SCRIPTS)
def test_the_record_has_the_numbers(library):
    results = RECORDS[library]["results"]
    assert list(results) == PARTS
    for task, part in enumerate(PARTS):
        numbers = [value for value in results[part].values() if isinstance(value, float)]
        np.testing.assert_allclose(sorted(numbers), sorted(NUMBERS[task]), rtol=RELATIVE)


@pytest.mark.parametrize("library", SCRIPTS)
def test_each_part_of_the_script_is_on_a_page(library):
    script = SCRIPTS[library].read_text(encoding="utf-8")
    assert re.findall(r"^# show (\w+)$", script, re.MULTILINE) == PARTS
    shown = [
        output.data["text/markdown"]
        for name in PAGES
        for cell in nbformat.read(ROOT / "book" / f"{name}.ipynb", as_version=4).cells
        for output in cell.get("outputs", [])
        if f"tab-{library}" in cell.metadata.get("tags", []) and "text/markdown" in output.get("data", {})
    ]
    parts = re.findall(r"^# show \w+\n(.+?)\n# end$", script, re.MULTILINE | re.DOTALL)
    expected = [f"```python\n{part.strip()}\n```" for part in parts]
    assert shown == [*expected[:5], expected[0], *expected[5:]]


def test_the_record_is_of_the_locked_version():
    assert f"torch=={RECORD['torch']}" in (ROOT / "requirements-torch.txt").read_text().split()


@pytest.mark.parametrize("name", ["in", "txt"])
def test_what_is_installed_for_pytorch_is_pinned(name):
    lines = (ROOT / f"requirements-torch.{name}").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    pattern = r"[a-z0-9-]+==[0-9.]+" if name == "txt" else r"[a-z0-9-]+(==[0-9.]+)?\s+# \w.+"
    assert pins and [line for line in pins if not re.fullmatch(pattern, line)] == []


@pytest.mark.parametrize(
    ("planted", "line"),
    [
        (
            lambda r: r["results"]["fix"].update(loss=RECORD["results"]["fix"]["loss"] * (1 + 1e-11)),
            "/results/fix/loss",
        ),
        (lambda r: r["results"]["fix"].update(loss=float("nan")), "/results/fix/loss"),
        (lambda r: r["results"]["list"]["printed"].append("more"), "/results/list/printed/2: missing in the record"),
        (lambda r: r["results"].pop("tie"), "/results/tie/loss: missing in the new run"),
        (lambda r: r.update(torch="2.0.0"), "/torch: recorded"),
    ],
)
def test_a_run_that_differs_is_noticed(planted, line):
    fresh = json.loads(json.dumps(RECORD))
    assert list(reference.differences(fresh, RECORD, pytorch.TOLERANCE)) == []
    fresh["results"]["fix"]["loss"] *= 1 + 1e-14
    assert list(reference.differences(fresh, RECORD, pytorch.TOLERANCE)) == []
    planted(fresh)
    assert any(found.startswith(line) for found in reference.differences(fresh, RECORD, pytorch.TOLERANCE))


def test_not_run_is_no_failure_only_where_pytorch_cannot_be_installed(monkeypatch, capsys):
    def refuse(name):
        raise SystemExit("no network")

    monkeypatch.setattr(pytorch.environment, "make", refuse)
    monkeypatch.setattr(pytorch.environment, "find_python", lambda name: None)
    assert pytorch.main() and "NOT RUN. There is no Python 3.11 here." in capsys.readouterr().out
    monkeypatch.setattr(pytorch.environment, "find_python", lambda name: "python3.11")
    monkeypatch.setattr(reference.sys, "platform", "linux")
    with pytest.raises(SystemExit):
        pytorch.main()


def test_a_record_that_differs_is_a_failure(monkeypatch, capsys):
    fresh = json.loads(json.dumps(RECORD))
    monkeypatch.setattr(pytorch.environment, "find_python", lambda name: "python3.11")
    monkeypatch.setattr(pytorch.environment, "make", lambda name: "python3.11")
    monkeypatch.setattr(pytorch, "run", lambda python: fresh)
    assert pytorch.main() and "torch: RAN" in capsys.readouterr().out
    fresh["results"]["tie"]["loss"] = 0.1
    assert not pytorch.main() and "1 differ from the record" in capsys.readouterr().out
    monkeypatch.setattr(pytorch, "run", lambda python: None)
    assert not pytorch.main()


def test_a_missing_record_is_a_failure_unless_it_is_asked_for(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(pytorch.environment, "find_python", lambda name: "python3.11")
    monkeypatch.setattr(pytorch.environment, "make", lambda name: "python3.11")
    monkeypatch.setattr(pytorch, "run", lambda python: RECORD)
    monkeypatch.setattr(pytorch, "RECORD", tmp_path / "translation.json")
    assert not pytorch.main() and "run `make torch RECORD=1`" in capsys.readouterr().out
    assert pytorch.main(record=True) and json.loads(pytorch.RECORD.read_text()) == RECORD


# ---- the cheat sheet -------------------------------------------------------------------------------------------------

SHEET = (ROOT / "book" / "cheat-sheet.md").read_text(encoding="utf-8")
DIRECTIVES = re.findall(r"```\{snippet\} (\S+) (\S+) (\d)\n(.+?)```", SHEET, re.DOTALL)
CODE = """
first = 1  # a comment

@decorated
def function(x):
    a = x

    return a

second = 2
second = 3
"""


def test_the_cheat_sheet_shows_what_runs(site):
    page = BeautifulSoup((site / "book" / "cheat-sheet.html").read_text(encoding="utf-8"), "html.parser")
    shown = [pre.get_text().strip() for pre in page.select("table.cheat-sheet pre")]
    assert len(shown) == len(DIRECTIVES) == SHEET.count("```{snippet}")
    for text, (name, library, task, _) in zip(shown, DIRECTIVES, strict=True):
        run = BOOK[name][int(task)][f"tab-{library}"].splitlines()
        assert [line for line in text.splitlines() if line not in run] == []


def test_the_cheat_sheet_has_each_task_in_each_library():
    expected = {(library, str(task)) for library in ("linen", "package", "nnx") for task in range(1, 9)}
    assert expected <= {(library, task) for _, library, task, _ in DIRECTIVES}


@pytest.mark.parametrize(
    ("beginnings", "shown"),
    [
        (["first"], "first = 1  # a comment"),
        (["@decorated"], "@decorated\ndef function(x):\n    a = x\n\n    return a"),
        (["second = 3", "first ="], "second = 3\nfirst = 1  # a comment"),
    ],
)
def test_statements_are_chosen_by_their_beginning(beginnings, shown):
    assert "\n".join(sphinx_snippets.chosen(CODE, beginnings)) == shown


@pytest.mark.parametrize(("beginning", "found"), [("second", 2), ("third", 0), ("a = x", 0)])
def test_a_beginning_that_is_not_of_one_statement_is_refused(beginning, found):
    with pytest.raises(ValueError, match=f"{found} statements begin with"):
        list(sphinx_snippets.chosen(CODE, [beginning]))


def test_snippets_are_taken_from_their_library_and_task():
    linen, nnx = (
        sphinx_snippets.snippet("translation-choosing", name, "2", ["freed", "train_nnx(model"][i:][:1])
        for i, name in enumerate(["linen", "nnx"])
    )
    assert (linen, nnx) == ("freed = train(linen_loss, params, mask_without())", "train_nnx(model, nnx.Param)")
    with pytest.raises(ValueError, match="0 statements"):
        sphinx_snippets.snippet("translation-choosing", "linen", "3", ["freed"])
