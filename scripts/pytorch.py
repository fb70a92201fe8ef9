"""Run the tasks of the translation pages in PyTorch, and compare every number with the recorded one.

The script is book/torch_reference/translation.py, and it runs in `.venv-torch`, made from requirements-torch.txt. The
pages read what it gave from the JSON beside it, which --record writes.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

import environment
import reference
from notebook_environment import ENVIRONMENT

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = ROOT / "book" / "torch_reference" / "translation.py"
RECORD = SCRIPT.with_suffix(".json")
TOLERANCE = 1e-12  # relative: 100 steps of a dozen numbers in 64-bit floats, on another processor


def run(python):
    """What the script prints, read as JSON; None if it failed."""
    ran = subprocess.run([python, SCRIPT], capture_output=True, text=True, env={**os.environ, **ENVIRONMENT})
    if ran.returncode != 0:
        print(f"torch: {SCRIPT.name} failed:\n{ran.stderr}")
        return None
    return json.loads(ran.stdout)


def main(record=False):
    reason = reference.reason_not_to_run("torch")
    if reason:
        print(f"torch: NOT RUN. {reason}.")
        return True
    fresh = run(environment.make("torch"))  # stops with exit code 1 if the installation fails
    if fresh is None:
        return False
    wrong = reference.compare(fresh, RECORD, TOLERANCE, record, "make torch RECORD=1")
    for line in wrong:
        print("FAILED  ", line)
    values = len(reference.flatten(fresh))
    print(f"torch: RAN, PyTorch {fresh['torch']}: {values} values, {len(wrong)} differ from the record")
    return not wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write the record anew")
    os.chdir(ROOT)
    sys.exit(0 if main(parser.parse_args().record) else 1)
