"""What `make wheel` says about a wheel and about pyproject.toml. That pip can install it, `make wheel` itself tries."""

import sys
import zipfile

import pytest
import wheel


def test_a_wheel_holds_the_package_and_nothing_else(tmp_path):
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("trainability/masks.py", "trainability/ruff.toml", "tests/x.py", "x-1.dist-info/METADATA"):
            archive.writestr(name, "")
    sources = ["masks.py", "py.typed", "ruff.toml"]
    assert list(wheel.faults(path, sources)) == [
        "it lacks trainability/py.typed",
        "it holds tests/x.py",
        "it holds trainability/ruff.toml",
    ]


def test_lowest_versions():
    assert wheel.lowest_versions(["jax>=0.6.0", "optax>=0.2.5"]) == ["jax==0.6.0", "optax==0.2.5"]


@pytest.mark.parametrize("requirement", ["jax", "jax==1.0", "jax>=1.0,<2", "jax>1"])
def test_a_dependency_without_a_lowest_version_is_refused_in_one_line(requirement):
    with pytest.raises(
        SystemExit, match=r"^wheel: 'jax.*' in pyproject\.toml states no lowest version\. Write it .*\.$"
    ):
        wheel.lowest_versions([requirement])


def test_a_folder_without_a_package_is_refused_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"^wheel: .* gives no wheel, for the reason above\. Mend that.*\.$"):
        wheel.build(tmp_path, tmp_path / "wheel")


@pytest.mark.parametrize(
    ("program", "said"), [("raise SystemExit('no')", "fails in tried, as above"), ("print(1)", None)]
)
def test_a_program_that_fails_is_told(tmp_path, monkeypatch, capsys, program, said):
    """With a pip that does nothing."""
    monkeypatch.setattr(wheel, "FOLDER", tmp_path)
    monkeypatch.setattr(wheel, "PIP", ["-c", ""])
    monkeypatch.setattr(wheel, "PROGRAM", tmp_path / "program.py")
    wheel.PROGRAM.write_text(program)
    arguments = ("tried", sys.executable, tmp_path, ".", "flax", {"flax": ["flax==1.0"]})
    if said:
        with pytest.raises(SystemExit, match=said):
            wheel.try_out(*arguments)
    else:
        wheel.try_out(*arguments)
        assert "tried: pip install .[flax] flax==1.0" in capsys.readouterr().out
