"""Run the book's notebooks with the newest Python found and the newest libraries: what will break next?

Every assertion must hold there. Outputs that differ from the stored ones are listed and are no failure.
With --unlocked the libraries are the newest there are today, instead of those in requirements-newest.txt.
"""

import argparse
import os
import pathlib
import subprocess
import sys

import environment
import nbval_results

ROOT = pathlib.Path(__file__).parents[1]
LIBRARIES = ["jax", "flax", "optax", "equinox", "dm-haiku", "keras", "numpyro"]


def main(unlocked):
    if environment.find_python("newest") is None:
        print("newest: NOT RUN. There is no Python 3.12 or later here, and the newest JAX needs one.")
        return True
    python = environment.make("newest", unlocked=unlocked)
    code = "import importlib.metadata, platform; print(platform.python_version(),"
    code += f" *map(importlib.metadata.version, {LIBRARIES}))"
    versions = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    named = zip(["Python", *LIBRARIES], versions, strict=True)
    print("newest:", ", ".join(f"{name} {version}" for name, version in named))

    notebooks = sorted((ROOT / "book").glob("*.ipynb"))
    cells = nbval_results.run(python, notebooks, ROOT / "book")
    broken, different = 0, 0
    for cell in cells:
        if cell.kind == "output":
            different += 1
            print(f"differs  {cell.notebook}, code cell {cell.number}\n{cell.text}")
        elif cell.kind != "passed":
            broken += 1
            print(f"BROKEN   {cell.notebook}, code cell {cell.number}: {cell.kind}\n{cell.text}")
    print(f"newest: {len(cells) - broken} cells hold, {different} of them with another output; {broken} broken")
    return not broken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unlocked", action="store_true", help="take the newest libraries there are today")
    os.chdir(ROOT)
    sys.exit(0 if main(parser.parse_args().unlocked) else 1)
