"""Make the locks: the same versions for every Python and system, with hashes, and no index address."""

import argparse
import pathlib
import subprocess
import sys

LOCKS = {
    "requirements": "3.11",
    "requirements-original": "3.11",
    "requirements-newest": "3.12",
    "requirements-gpflow": "3.11",
}  # name: the oldest Python it is for


def lock(name, oldest_python, upgrade):
    """Write `name`.txt from `name`.in. Without `upgrade`, versions already in the lock stay where they can."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
    command += ["--fork-strategy", "fewest", "--python-version", oldest_python]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command", "make lock"]
    command += ["--overrides", f"{name}.override"] if pathlib.Path(f"{name}.override").exists() else []
    command += ["--upgrade"] if upgrade else []
    subprocess.run([*command, f"{name}.in", "--output-file", f"{name}.txt"], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take newer versions where there are any")
    for name, oldest_python in LOCKS.items():
        lock(name, oldest_python, parser.parse_args().upgrade)
        print(f"{name}.txt is made from {name}.in.")
