"""`make machines`: switches that change bits and misspelt ones, numbers on a rounding edge, figures that moved."""

import base64
import io
import os
import platform
import shutil
import sys

import edges
import jax.numpy as jnp
import machines
import matplotlib.pyplot as plt
import nbformat
import nbval_figures
import nbval_results
import notebooks
import numpy as np
import pytest

HERE_IT_RUNS = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="make machines is for Linux on x86"
)

# ---- switches --------------------------------------------------------------------------------------------------------

RIGHT = [
    machines.xla("--xla_cpu_max_isa=SSE4_2"),
    machines.xla("--xla_backend_optimization_level=0"),
    machines.numpy_without(machines.features_of_numpy()),
]
MISSPELT = [
    machines.xla("--xla_cpu_max_isa=SSE42"),
    machines.xla("--xla_backend_optimisation_level=0"),
    machines.numpy_without("AVX-2"),
    machines.blas("Nehallem"),
]


@HERE_IT_RUNS
@pytest.mark.planted
@pytest.mark.parametrize("switch", RIGHT, ids=lambda switch: switch.name)
def test_a_switch_changes_bits(switch):
    assert machines.fault(switch) is None


@HERE_IT_RUNS
@pytest.mark.planted
@pytest.mark.parametrize("switch", MISSPELT, ids=lambda switch: switch.name)
def test_a_misspelt_switch_is_refused(switch):
    if "OPENBLAS_CORETYPE" in switch.variables and "OPENBLAS_CORETYPE" in os.environ:
        pytest.skip("this machine sets OPENBLAS_CORETYPE, and its tests leave it so")
    assert switch.name in machines.fault(switch)


@HERE_IT_RUNS
def test_nothing_is_run_with_a_switch_that_does_nothing(monkeypatch, capsys):
    monkeypatch.setattr(machines, "bits", lambda control, variables, core=None: "the same")
    monkeypatch.setattr(nbval_results, "run", lambda *arguments, **variables: pytest.fail("the notebooks were run"))
    assert not machines.main(None, None)
    assert capsys.readouterr().out.count("nothing changes here. Is it misspelt?") == 3


@HERE_IT_RUNS
@pytest.mark.parametrize(("kind", "passes"), [("passed", True), ("output", False), ("AssertionError", False)])
def test_a_cell_that_differs_fails_the_run(kind, passes, monkeypatch, capsys):
    asked = {}

    def run(python, paths, folder, plugins, **variables):
        asked.update(plugins=plugins, **variables)
        return [nbval_results.Cell("chapter", 1, "passed", ""), nbval_results.Cell("chapter", 2, kind, "why")]

    monkeypatch.setattr(machines, "bits", lambda control, variables, core=None: f"{control} {variables} {core}")
    monkeypatch.setattr(nbval_results, "run", run)
    assert machines.main(None, None) == passes
    assert asked["plugins"] == ["nbval_edges", "nbval_core"]
    assert asked["XLA_FLAGS"] == "--xla_cpu_max_isa=SSE4_2" and "X86_V3" in asked["NPY_DISABLE_CPU_FEATURES"]
    assert "OPENBLAS_CORETYPE" not in asked
    assert ("code cell 2" in capsys.readouterr().out) != passes


@pytest.mark.parametrize(("system", "processor"), [("Darwin", "arm64"), ("Linux", "aarch64"), ("Windows", "AMD64")])
def test_elsewhere_it_says_that_it_did_not_run(system, processor, monkeypatch, capsys):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: processor)
    assert machines.main(None, None)
    assert "machines: NOT RUN." in capsys.readouterr().out


# ---- rounding edges --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "spec", "marked"),
    [
        (0.00825, ".4f", True),
        (np.float32(0.00825), ".4f", True),
        (jnp.float32(0.00825), ".4f", True),
        (0.0083, ".4f", False),
        (6.28, ".2f", False),
        (1.5, "4.0f", True),
        (2.0, ".1f", False),
        (2.0, "", False),
        (0.1234567, ".7f", True),  # more digits than a 32-bit float has
        (3, ".0f", False),
        (100_502.7, ".4g", False),
    ],
)
def test_numbers_on_an_edge_are_marked(value, spec, marked):
    assert edges.format_and_mark(value, spec) == format(value, spec) + edges.MARK * marked


def run_as_another_machine(tmp_path, *sources, plugins=("nbval_edges",)):
    """The kinds of the cells of a notebook with these cells, whose outputs were stored as usual."""
    shutil.rmtree(tmp_path / "book", ignore_errors=True)
    (tmp_path / "book").mkdir()
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
    nbformat.write(notebooks.run(notebook, tmp_path), tmp_path / "book" / "chapter.ipynb")
    cells = nbval_results.run(sys.executable, [tmp_path / "book"], tmp_path / "book", plugins)
    return [cell.kind for cell in cells]


@pytest.mark.planted
def test_a_notebook_that_prints_on_an_edge_is_found(tmp_path):
    sources = ['print(f"{0.00825:.4f}")', 'print(f"{0.0083:.4f}, {6.28!s:>6}")', 'f"{2:.3f}"']
    assert run_as_another_machine(tmp_path, *sources) == ["output", "passed", "passed"]
    assert run_as_another_machine(tmp_path, *sources, plugins=()) == ["passed"] * 3


# ---- figures ---------------------------------------------------------------------------------------------------------

DRAW = """import matplotlib.pyplot as plt
figure = plt.figure(figsize=(3, 2), dpi=100)
plt.plot([0, 1], [{0}, 1 + {0}])
plt.ylim(-0.5, 1.5)
plt.show()"""
A_PIXEL = 2 / (0.77 * 200)  # the axes are 2 high, and 77 per cent of the figure's 200 pixels


@pytest.mark.planted
def test_a_curve_that_moved_by_a_pixel_is_found(tmp_path):
    (tmp_path / "book").mkdir()
    drawn = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(DRAW.format(0))])
    stored = notebooks.run(drawn, tmp_path)
    for moved, kind in ((0, "passed"), (A_PIXEL, "output")):
        stored.cells[0].source = DRAW.format(moved)
        nbformat.write(stored, tmp_path / "book" / "chapter.ipynb")
        (cell,) = nbval_results.run(sys.executable, [tmp_path / "book"], tmp_path / "book")
        assert cell.kind == kind, cell.text
        assert ("pixels of a figure differ" in cell.text) == bool(moved)


def png(pixels):
    """An image of 8 x 8 pixels, as a notebook stores it."""
    file = io.BytesIO()
    plt.imsave(file, pixels)
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(("levels", "found"), [(0, False), (2, False), (3, True)])
def test_grey_levels_that_no_eye_sees_are_passed_over(levels, found):
    grey = np.full((8, 8, 3), 100, dtype=np.uint8)
    other = grey.copy()
    other[3, 4, 1] += levels
    assert bool(nbval_figures.difference([png(grey)], [png(other)])) == found
    assert "1 figures are stored, 0 were drawn" in nbval_figures.difference([png(grey)], [])
    assert "a figure of 8 x 8 pixels is 4 x 8" in nbval_figures.difference([png(grey)], [png(grey[:, :4])])
