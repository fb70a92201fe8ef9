"""Run the tasks of the translation pages in PyTorch, and compare every number with the recorded one.

The script is book/torch_reference/translation.py, and it runs in `.venv-torch`, made from requirements-torch.txt. The
pages read what it gave from the JSON beside it. If there is no record, this run writes it (--record writes it anew).
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys

import environment
from notebook_environment import ENVIRONMENT

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = ROOT / "book" / "torch_reference" / "translation.py"
RECORD = SCRIPT.with_suffix(".json")
TOLERANCE = 1e-12  # relative: 100 steps of a dozen numbers in 64-bit floats, on another processor


def flatten(value, path=""):
    """{path: number or text} of nested dictionaries and lists."""
    if not isinstance(value, dict | list):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {name: leaf for key, inner in items for name, leaf in flatten(inner, f"{path}/{key}").items()}


def agree(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TOLERANCE * abs(other)
    return type(one) is type(other) and one == other


def differences(fresh, recorded):
    """A line for each value that one side lacks, or that differs."""
    fresh, recorded = flatten(fresh), flatten(recorded)
    for path in {**recorded, **fresh}:
        if path not in fresh or path not in recorded:
            yield f"{path}: missing in the {'record' if path in fresh else 'new run'}"
        elif not agree(fresh[path], recorded[path]):
            yield f"{path}: recorded {recorded[path]!r}, now {fresh[path]!r}"


def reason_not_to_run():
    """Why PyTorch cannot be installed here; None if it can."""
    if environment.find_python("torch") is None:
        return "There is no Python 3.11 here"
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        return "There is no current PyTorch for Intel Macs"
    return None


def run(python):
    """What the script prints, read as JSON; None if it failed."""
    ran = subprocess.run([python, SCRIPT], capture_output=True, text=True, env={**os.environ, **ENVIRONMENT})
    if ran.returncode != 0:
        print(f"torch: {SCRIPT.name} failed:\n{ran.stderr}")
        return None
    return json.loads(ran.stdout)


def main(record=False):
    reason = reason_not_to_run()
    if reason:
        print(f"torch: NOT RUN. {reason}.")
        return True
    fresh = run(environment.make("torch"))  # stops with exit code 1 if the installation fails
    if fresh is None:
        return False
    if record or not RECORD.exists():
        RECORD.write_text(json.dumps(fresh, indent=2) + "\n", encoding="utf-8")
    wrong = list(differences(fresh, json.loads(RECORD.read_text(encoding="utf-8"))))
    for line in wrong:
        print("FAILED  ", line)
    print(f"torch: RAN, PyTorch {fresh['torch']}: {len(flatten(fresh))} values, {len(wrong)} differ from the record")
    return not wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write the record anew")
    os.chdir(ROOT)
    sys.exit(0 if main(parser.parse_args().record) else 1)
