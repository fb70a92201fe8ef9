"""Build the package's wheel from the clone and from the site's zip, and try it where there is nothing but pip.

Two fresh environments take the two ways of a reader: `pip install .` with the lowest versions that pyproject.toml
allows, and `pip install trainable-false-book.zip` with the newest that pip takes, on the newest Python found here. In
each runs tests/first_program.py; then the extra is added, and it runs with that. All of it lies in _build/wheel.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import environment
import sphinx_book_zip

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "_build" / "wheel"
PROGRAM = ROOT / "tests" / "first_program.py"
PACKAGE = pathlib.PurePath("book/trainability")
NOT_INSTALLED = {"ruff.toml"}
PIP = ["-m", "pip", "-qq", "--disable-pip-version-check"]


def stop(problem, remedy):
    """End with exit code 1 and one line: what is wrong, and what to do."""
    sys.exit(f"wheel: {problem}. {remedy}.")


def lowest_versions(requirements):
    """["jax==1.0"] of ["jax>=1.0"]; an error if one of them says anything else."""
    for requirement in requirements:
        if not re.fullmatch(r"[a-z][a-z0-9-]*>=[0-9][0-9.]*", requirement):
            stop(f"{requirement!r} in pyproject.toml states no lowest version", "Write it as jax>=1.0")
    return [requirement.replace(">=", "==") for requirement in requirements]


def build(source, folder):
    """The path of the wheel that pip makes from the clone or the zip."""
    if subprocess.run([sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", folder, source]).returncode != 0:
        stop(f"{source} gives no wheel, for the reason above", "Mend that (is there a network?)")
    (wheel,) = folder.glob("*.whl")
    return wheel


def faults(wheel, sources):
    """What is wrong with the contents of a wheel: it has each of the sources, what pip needs to know, and no more."""
    wanted = {f"{PACKAGE.name}/{name}" for name in sources if name not in NOT_INSTALLED}
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    yield from (f"it lacks {name}" for name in sorted(wanted - found))
    yield from (f"it holds {name}" for name in sorted(found - wanted))


def try_out(name, python, folder, source, extra, versions):
    """Make a fresh environment, install the source as a reader does, run the program; without and with the extra.

    The reader stands in the folder. `versions` are asked for beside the source: {extra or "": ["jax==1.0"]}.
    """
    inside = FOLDER / name / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if subprocess.run([python, "-m", "venv", "--clear", FOLDER / name]).returncode != 0:
        stop(f"{python} makes no virtual environment, for the reason above", "Mend that, or name another PYTHON=")
    for chosen in ("", extra):
        what = [f"{source}[{chosen}]" if chosen else source, *versions.get(chosen, [])]
        shown = f"pip install {' '.join(what)}"
        if subprocess.run([inside, *PIP, "install", *what], cwd=folder).returncode != 0:
            stop(f"`{shown}` fails in {name}, for the reason above", "Mend that (is there a network?)")
        # -I: neither the folder, nor PYTHONPATH, nor the user's own packages
        program = [inside, "-I", PROGRAM, *filter(None, [chosen])]
        result = subprocess.run(program, cwd=folder, capture_output=True, text=True)
        if result.returncode != 0:
            print(result.stdout, result.stderr, file=sys.stderr)
            stop(f"after `{shown}` {PROGRAM.name} fails in {name}, as above", "Mend the package, or raise the versions")
        print(f"{name}: {shown}\n{name}: {result.stdout.splitlines()[-1]}", flush=True)
    shutil.rmtree(FOLDER / name)  # half a gigabyte; one that failed stays, to be looked at


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    sphinx_book_zip.write_zip(None)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((extra, extra_needs),) = project["optional-dependencies"].items()
    lowest = {"": lowest_versions(project["dependencies"])}
    lowest[extra] = [*lowest[""], *lowest_versions(extra_needs)]

    from_clone, from_zip = build(ROOT, FOLDER / "clone"), build(sphinx_book_zip.ZIP, FOLDER / "zip")
    if from_clone.read_bytes() != from_zip.read_bytes():
        stop("the clone and the zip give different wheels", "Is a file of the package not in git?")
    sources = [path.name for path in sphinx_book_zip.files_of_the_book() if path.parent == PACKAGE]
    for fault in faults(from_clone, sources):
        stop(f"{from_clone.name} is not the package: {fault}", "Mend [tool.hatch] in pyproject.toml")
    print(f"wheel: {from_clone.name}, the same from the clone and from the zip", flush=True)

    newest_python = environment.find_python("newest") or sys.executable
    try_out("lowest", sys.executable, ROOT, ".", extra, lowest)
    try_out("newest", newest_python, sphinx_book_zip.ZIP.parent, sphinx_book_zip.ZIP.name, extra, {})


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
