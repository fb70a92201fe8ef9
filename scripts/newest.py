"""Run the book's notebooks with the newest Python found and the newest libraries: what will break next?

Every assertion must hold there. Outputs that differ from the stored ones are listed and are no failure.
With --unlocked the libraries are the newest there are today, instead of those in requirements-newest.txt.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys

import nbval_results

ROOT = pathlib.Path(__file__).parents[1]
VENV = ROOT / ".venv-newest"
OLDEST, NEWEST = (3, 12), (3, 14)


def runs(command):
    """(major, minor) if this command runs a Python that can make environments, else None."""
    code = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    try:
        result = subprocess.run([*command, "-c", code], capture_output=True, text=True)
    except OSError:
        return None
    return tuple(map(int, result.stdout.split())) if result.returncode == 0 else None


def candidates():
    """Paths of interpreters: this one, those on the PATH by name, and those that pyenv keeps."""
    yield sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        yield f"python3.{minor}"
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True).stdout.strip()
        yield from map(str, sorted(pathlib.Path(root).glob("versions/*/bin/python")))


def newest_python():
    """(version, path) of the newest interpreter from 3.12 on; None if there is none."""
    found = [(version, path) for path in candidates() if (version := runs([path])) and OLDEST <= version <= NEWEST]
    return max(found, default=None)


def make_environment(python, unlocked):
    """A fresh `.venv-newest`; the path of its interpreter."""
    subprocess.run([python, "-m", "venv", "--clear", VENV], check=True)
    inside = str(VENV / "bin" / "python")
    install = [inside, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    locked = ["--no-deps", "--require-hashes", "-r", "requirements-newest.txt"]
    subprocess.run([*install, *(["-r", "requirements-newest.in"] if unlocked else locked)], cwd=ROOT, check=True)
    return inside


def main(unlocked):
    found = newest_python()
    if found is None:
        print("newest: NOT RUN. There is no Python 3.12 or later here, and the newest JAX needs one.")
        return True
    version, path = found
    python = make_environment(path, unlocked)
    code = "import jax, flax, optax; print(jax.__version__, flax.__version__, optax.__version__)"
    libraries = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    print(f"newest: Python {version[0]}.{version[1]}, jax {libraries[0]}, flax {libraries[1]}, optax {libraries[2]}")

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
    sys.exit(0 if main(parser.parse_args().unlocked) else 1)
