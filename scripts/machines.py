"""Run the notebooks as another machine would: they must print what is stored, draw it, and assert the same.

    python scripts/machines.py                   one core, an old processor for XLA and for NumPy, all in one run
    python scripts/machines.py --xla=FLAG        with this XLA flag alone, on any processor
    python scripts/machines.py --blas=CORE       with the OpenBLAS kernels of this processor alone

Other machines have other last bits: XLA divides large sums among the cores, and XLA, NumPy and OpenBLAS each choose
their instructions by the processor. For each switch a control shows first that it changes bits on this machine.
Otherwise nothing would be other than usual, and the run would prove nothing: a misspelt switch is ignored in silence.
The numbers that the cells print are marked where they stand on a rounding edge (edges.py), so that a run finds more
than the one other machine that it plays.
"""

import argparse
import dataclasses
import hashlib
import os
import pathlib
import platform
import subprocess
import sys

import nbval_results
import numpy as np
from notebook_environment import ENVIRONMENT

ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Switch:
    """What makes this machine compute as another: environment variables or a single core; `control` shows that."""

    name: str
    control: str
    variables: dict = dataclasses.field(default_factory=dict)
    one_core: bool = False


WRITE = "; import sys; sys.stdout.buffer.write({})"
XLA_SUM = "import jax, numpy; f = jax.random.normal; k = jax.random.key"
XLA_SUM += "; s = (f(k(0), (2000, 2000)) @ f(k(1), (2000, 2000))).sum()" + WRITE.format("numpy.asarray(s)")
XLA_TANH = "import jax, numpy; y = jax.jit(jax.numpy.tanh)(jax.random.normal(jax.random.key(0), (1000,)))"
XLA_TANH += WRITE.format("numpy.asarray(y)")
NUMPY_EXP = "import numpy; x = numpy.linspace(-3, 3, 1000); y = numpy.exp(x), numpy.exp(x.astype('float32'))"
NUMPY_EXP += WRITE.format("y[0].tobytes() + y[1].tobytes()")
BLAS_PRODUCT = "import numpy; x = numpy.random.default_rng(0).normal(size=(300, 300))"
BLAS_PRODUCT += WRITE.format("(x @ x).tobytes()")


def one_core():
    return Switch("one core", XLA_SUM, one_core=True)


def xla(flag):
    return Switch(f"XLA_FLAGS={flag}", XLA_TANH, {"XLA_FLAGS": flag})


def numpy_without(features):
    return Switch(f"NPY_DISABLE_CPU_FEATURES={features}", NUMPY_EXP, {"NPY_DISABLE_CPU_FEATURES": features})


def blas(core):
    return Switch(f"OPENBLAS_CORETYPE={core}", BLAS_PRODUCT, {"OPENBLAS_CORETYPE": core})


def features_of_numpy():
    """The processor's features beyond the least that this NumPy uses here, by its own names for them."""
    return " ".join(np.show_config(mode="dicts")["SIMD Extensions"]["found"])


def bits(control, variables, core=None):
    """A digest of what a control computes with these variables, on one core if it is given; None if it fails."""
    if core is not None:
        control = f"import os; os.sched_setaffinity(0, {{{core}}}); {control}"
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT / "scripts"), **variables}
    environment = {name: value for name, value in environment.items() if value is not None}
    result = subprocess.run([sys.executable, "-c", control], env=environment, capture_output=True)
    return hashlib.sha256(result.stdout).hexdigest()[:8] if result.returncode == 0 and result.stdout else None


def fault(switch):
    """Why a run with this switch would prove nothing, in one sentence; None if it changes bits here.

    The bits must be other than those of the tests' environment, and other than without the variable at all: that is
    what a misspelt value gives where the machine sets the variable itself.
    """
    usual = bits(switch.control, {})
    without = bits(switch.control, dict.fromkeys(switch.variables))
    switched = bits(switch.control, switch.variables, min(os.sched_getaffinity(0)) if switch.one_core else None)
    print(f"machines: {switch.name}: the control is {usual} as usual, {switched} with the switch.", flush=True)
    if None in (usual, without, switched):
        return f"{switch.name}: the control did not run"
    return f"{switch.name}: nothing changes here. Is it misspelt?" if switched in (usual, without) else None


def main(flag, core):
    chosen = [xla(flag)] if flag else []
    chosen += [blas(core)] if core else []
    if not chosen:
        if platform.system() != "Linux" or platform.machine() != "x86_64" or len(os.sched_getaffinity(0)) < 2:
            print("machines: NOT RUN. This needs Linux on x86 and two cores. Elsewhere:")
            print("  make machines XLA=--xla_backend_optimization_level=0")
            return True
        chosen = [one_core(), xla("--xla_cpu_max_isa=SSE4_2"), numpy_without(features_of_numpy())]
    if faults := [sentence for switch in chosen if (sentence := fault(switch))]:
        print("\n".join(f"machines: {sentence}" for sentence in faults))
        return False

    plugins = ["nbval_edges"] + ["nbval_core"] * any(switch.one_core for switch in chosen)
    variables = {name: value for switch in chosen for name, value in switch.variables.items()}
    notebooks = sorted((ROOT / "book").glob("*.ipynb"))
    cells = nbval_results.run(sys.executable, notebooks, ROOT / "book", plugins, **variables)
    different = [cell for cell in cells if cell.kind != "passed"]
    for cell in different:
        print(f"machines: {cell.notebook}, code cell {cell.number}: {cell.kind}\n{cell.text}")
    print(f"machines: {len(cells) - len(different)} cells passed, {len(different)} failed")
    return not different


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--xla", metavar="FLAG")
    parser.add_argument("--blas", metavar="CORE")
    arguments = parser.parse_args()
    sys.exit(0 if main(arguments.xla, arguments.blas) else 1)
