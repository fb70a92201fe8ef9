"""`make gpflow`: it notices a number that changes, a script that breaks and a record that is missing."""

import json
import re
import sys

import gpflow_runs
import pytest
import recorded_scripts
import reference
import sphinx_lock_versions

ROOT = gpflow_runs.ROOT
SCRIPTS = sorted(gpflow_runs.SCRIPTS.glob("*.py"))
VERSIONS = {"gpflow": "2.0.0", "tensorflow": "2.0.0"}
SCRIPT = "def run():\n    assert 1 == 1\n    return {'number': 0.1, 'array': [1e-9, 1000.0], 'text': 'a'}\n"
MUTANT = """
[[mutant]]
claim = "one is one"
find = "assert 1 == 1"
replace = "assert 1 == 2"
"""


# ---- the comparison --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fresh", "found"),
    [
        ({"a": 0.1 * (1 + 1e-9), "b": [1.0, 1e-9], "c": "x", "d": 1}, []),
        ({"a": 0.1 * (1 + 2e-8), "b": [1.0, 0.0], "c": "x", "d": 1}, ["/a: recorded 0.1, now "]),
        ({"a": 0.1, "b": [1.0, 2e-8], "c": "x", "d": 1}, ["/b/1: recorded 0.0, now 2e-08"]),
        ({"a": float("nan"), "b": [1.0, 0.0], "c": "x", "d": 1}, ["/a: recorded 0.1, now nan"]),
        ({"a": 0.1, "b": [1.0], "c": "x", "d": 1}, ["/b/1: missing in the new run"]),
        ({"a": 0.1, "b": [1.0, 0.0], "c": "y", "d": 1}, ["/c: recorded 'x', now 'y'"]),
        ({"a": 0.1, "b": [1.0, 0.0], "c": "x", "d": 1.0}, ["/d: recorded 1, now 1.0"]),
        ({"a": 0.1, "b": [1.0, 0.0], "c": "x", "d": 1, "e": 2}, ["/e: missing in the record"]),
    ],
)
def test_what_differs_is_named(fresh, found):
    recorded = {"a": 0.1, "b": [1.0, 0.0], "c": "x", "d": 1}
    lines = list(reference.differences(fresh, recorded, 1e-8))
    assert len(lines) == len(found) and all(map(str.startswith, lines, found)), lines


def test_a_matrix_has_one_scale():
    recorded = {"k": [[1.0, 0.0], [0.0, 100.0]], "other": [1.0]}
    assert list(reference.differences({**recorded, "k": [[1.0, 9e-7], [0.0, 100.0]]}, recorded, 1e-8)) == []
    assert len(list(reference.differences({**recorded, "other": [1.0 + 9e-7]}, recorded, 1e-8))) == 1


# ---- the run, with a worker that has no GPflow -----------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with one script, its mutant, and this interpreter with modules of a line in GPflow's place."""
    for folder in ("scripts", "mutants", "modules"):
        (tmp_path / folder).mkdir()
    (tmp_path / "modules/gpflow.py").write_text(
        "import contextlib, unittest.mock\n__version__, keras = '2.0.0', unittest.mock.Mock()\n\n"
        "class config:\n    as_context = contextlib.nullcontext\n"
    )
    (tmp_path / "modules/tensorflow.py").write_text(
        "__version__ = '2.0.0'\n\nclass random:\n    def set_seed(seed): pass\n"
    )
    (tmp_path / "scripts/one.py").write_text(SCRIPT)
    (tmp_path / "mutants/one.toml").write_text(MUTANT)
    monkeypatch.setattr(gpflow_runs, "SCRIPTS", tmp_path / "scripts")
    monkeypatch.setattr(gpflow_runs, "MUTANTS", tmp_path / "mutants")
    monkeypatch.setattr(gpflow_runs, "ROOT", tmp_path)
    monkeypatch.setattr(gpflow_runs.environment, "make", lambda name: sys.executable)
    monkeypatch.setattr(reference.environment, "find_python", lambda name: sys.executable)
    monkeypatch.setattr(reference.sys, "platform", "linux")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    return tmp_path


def edit(project, old, new, name="scripts/one.py"):
    path = project / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_run_that_agrees_passes(project, capsys):
    assert gpflow_runs.main(record=True)
    assert json.loads((project / "scripts/one.json").read_text()) == {
        "versions": VERSIONS,
        "number": 0.1,
        "array": [1e-9, 1000.0],
        "text": "a",
    }
    edit(project, "0.1", "0.1 * (1 + 1e-9)")
    assert gpflow_runs.main()
    assert "gpflow: RAN, GPflow 2.0.0: 1 scripts, 0 failed; 1 of 1 mutants killed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0.1", "0.1000001", "/number: recorded 0.1, now 0.1000001"),
        ("'a'", "'b'", "/text: recorded 'a', now 'b'"),
        ("'text': 'a'", "", "/text: missing in the new run"),
        ("    return", "    import nothing_like_it\n    return", "ModuleNotFoundError"),
        ("assert 1 == 1", "assert 1 == 1\n    assert 2 == 1", "assert 2 == 1"),
        ("{'number'", "{1j: 1, 'number'", "TypeError: keys must be"),
    ],
)
def test_a_script_that_changes_or_breaks_fails(project, capsys, old, new, said):
    gpflow_runs.main(record=True)
    edit(project, old, new)
    assert not gpflow_runs.main()
    assert said in (out := capsys.readouterr().out) and "1 scripts, 1 failed" in out


def test_a_script_chooses_its_tolerance(project):
    gpflow_runs.main(record=True)
    edit(project, "0.1", "0.1000001")
    edit(project, "def run", "RTOL = 1e-5\n\n\ndef run")
    assert gpflow_runs.main()


def test_a_missing_record_fails_and_is_not_written(project, capsys):
    assert not gpflow_runs.main()
    assert "there is no one.json: run `make gpflow RECORD=1`" in capsys.readouterr().out
    assert not (project / "scripts/one.json").exists()


def test_a_record_without_a_script_fails(project, capsys):
    gpflow_runs.main(record=True)
    (project / "scripts/two.json").write_text("{}")
    assert not gpflow_runs.main()
    assert "two.json is the record of no script" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("replacement", "said"),
    [("assert 1 == 1.0", "nothing was noticed"), ("assert one == 1", "NameError"), ("assert 1 == 2 +", "SyntaxError")],
)
def test_a_mutant_must_end_in_an_assertion(project, capsys, replacement, said):
    gpflow_runs.main(record=True)
    edit(project, "assert 1 == 2", replacement, "mutants/one.toml")
    assert not gpflow_runs.main()
    assert f"ALIVE   one  one is one  ({said}" in capsys.readouterr().out
    assert gpflow_runs.main(only_scripts=True)


def test_a_mutant_may_call_one_function(project, capsys):
    edit(project, "def run", "def part():\n    assert 2 == 2\n\n\ndef run")
    edit(project, "1 == 1", "2 == 2", "mutants/one.toml")
    edit(project, "1 == 2", "2 == 1", "mutants/one.toml")
    assert not gpflow_runs.main(record=True)
    assert "nothing was noticed" in capsys.readouterr().out
    edit(project, "claim", "call = 'part'\nclaim", "mutants/one.toml")
    assert gpflow_runs.main()
    edit(project, "2 == 2", "2 == 2\n    assert 2 == 3")
    assert not gpflow_runs.main()
    assert "FAILED   one.py, part():" in capsys.readouterr().out


@pytest.mark.parametrize(("old", "new"), [("1 == 1", "3 == 1"), ("assert 1 == 2", "assert 1 == 1")])
def test_a_mutant_that_edits_nothing_is_refused(project, old, new):
    edit(project, old, new, "mutants/one.toml")
    with pytest.raises(SystemExit, match=r"^gpflow: one\.py: .+ times, or changes nothing\. Mend the mutant\.$"):
        gpflow_runs.main()


def test_a_script_without_mutants_is_refused(project):
    (project / "mutants/one.toml").unlink()
    with pytest.raises(SystemExit, match=r"^gpflow: one\.py has no mutants\. Write mutants/one\.toml\.$"):
        gpflow_runs.main()


def test_an_unknown_script_is_refused(project):
    with pytest.raises(SystemExit, match=r"^gpflow: there is no script three\. Look into scripts\.$"):
        gpflow_runs.main(["three"])


def test_a_process_that_ends_is_a_failure(project):
    (project / "modules/gpflow.py").write_text("raise OSError('no such library')")
    with pytest.raises(SystemExit, match=r"the scripts did not run:(.|\n)+no such library"):
        gpflow_runs.main()


def test_not_run_is_no_failure_only_where_gpflow_cannot_be_installed(project, monkeypatch, capsys):
    def refuse(name):
        raise SystemExit("no network")

    monkeypatch.setattr(gpflow_runs.environment, "make", refuse)
    with pytest.raises(SystemExit, match="no network"):
        gpflow_runs.main()
    monkeypatch.setattr(reference.environment, "find_python", lambda name: None)
    assert gpflow_runs.main()
    assert capsys.readouterr().out == "gpflow: NOT RUN. There is no Python 3.11 to 3.12 here.\n"


# ---- the scripts and their records -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_each_script_has_mutants_and_a_record_of_the_locked_versions(path):
    pinned = sphinx_lock_versions.locked_versions((ROOT / "requirements-gpflow.txt").read_text(encoding="utf-8"))
    record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert record["versions"] == {name: pinned[name] for name in ("gpflow", "tensorflow")}
    assert gpflow_runs.read_mutants(path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_tolerance_has_its_reason(path):
    for above, line in re.findall(r"^(.*)\n(RTOL\b.*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
        assert re.search(r"# \w+ \w+", f"{above}\n{line}"), line


def test_each_table_of_mutants_has_its_script():
    names = {path.stem for path in gpflow_runs.MUTANTS.glob("*.toml")}
    assert names == {path.stem for path in SCRIPTS}


def test_a_page_shows_a_part_of_a_script_without_its_indentation(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text("import math\n\ndef run():\n    # show one\n    x = 1\n    if x:\n        y = 2\n    # end\n")
    shown = []
    monkeypatch.setattr(recorded_scripts, "display", shown.append)
    recorded_scripts.show_parts(script, "one")
    assert [part.data for part in shown] == ["```python\nx = 1\nif x:\n    y = 2\n```"]
    with pytest.raises(ValueError, match=r"script\.py has no part 'two'\."):
        recorded_scripts.show_parts(script, "two")
