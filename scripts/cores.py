"""Run the notebooks on one core: they must print what they printed on several.

XLA divides large computations among the cores it may use, so their last bits depend on how many there are. First a
control shows that this is so here; otherwise one core and two would be the same thing, and the run would prove nothing.
"""

import os
import pathlib
import subprocess
import sys

import nbval_results
from notebook_environment import ENVIRONMENT

ROOT = pathlib.Path(__file__).parents[1]
CONTROL = """
import jax
left, right = (jax.random.normal(jax.random.key(seed), (2000, 2000)) for seed in (0, 1))
print(float((left @ right).sum()).hex())
"""


def control():
    """The bits of a long sum, as hexadecimal digits, on the cores that this process may use."""
    command = [sys.executable, "-c", CONTROL]
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def main():
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        print("cores: NOT RUN. This needs Linux and two cores.")
        return True
    cores = os.sched_getaffinity(0)
    on_several = control()
    os.sched_setaffinity(0, {min(cores)})  # for this process and all that it starts
    on_one = control()
    os.sched_setaffinity(0, cores)
    print(f"cores: a long sum is {on_several} on several cores, {on_one} on one.")
    if on_one == on_several:
        print("cores: the control failed. The two do not differ here, so the run would prove nothing.")
        return False

    notebooks = sorted((ROOT / "book").glob("*.ipynb"))
    cells = nbval_results.run(sys.executable, notebooks, ROOT / "book", core_each=True)
    different = [cell for cell in cells if cell.kind != "passed"]
    for cell in different:
        print(f"cores: {cell.notebook}, code cell {cell.number}: {cell.kind}\n{cell.text}")
    print(f"cores: on one core {len(cells) - len(different)} cells passed, {len(different)} failed")
    return not different


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
