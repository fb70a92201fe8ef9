"""Break a module of the book's package on purpose, and see that its tests turn red.

A mutant is an edit of a module: in trainability/NAME.toml, `find` occurs exactly once in book/trainability/NAME.py and
is replaced by `replace`. tests/test_NAME.py runs against the edited copy. The mutant is killed if the first test that
fails does so by an assertion, because an expected error was not raised, or by one of the package's own errors. Any
other exception has broken the program, not the claim, and counts as alive. The unedited module must pass.
"""

import concurrent.futures
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
from xml.etree import ElementTree

import proofs
from notebook_environment import ENVIRONMENT, compilation_cache

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGE = ROOT / "book" / "trainability"
KILLS = ("AssertionError", "assert ", "Failed: DID NOT RAISE", "trainability.")  # the last: an error of our own


def first_failure(module, project, variables, source):
    """Run the tests against `source` in the place of a module; the message of the first failure, or None.

    `project` is a folder with copies of the package and of its tests; one process at a time works in it.
    """
    (project / "trainability" / f"{module}.py").write_text(source, encoding="utf-8")
    report = project / "report.xml"
    options = ["-x", "-q", f"--junitxml={report}", f"--rootdir={project}", "-c", os.devnull]
    options += [part for plugin in ("cacheprovider", "xdist", "nbval") for part in ("-p", f"no:{plugin}")]
    command = [sys.executable, "-m", "pytest", *options, f"test_{module}.py"]
    path = os.pathsep.join([variables["PYTHONPATH"], str(project)])
    # No compiled files: by its time and size Python could take a mutant for the one before it.
    environment = {**os.environ, **ENVIRONMENT, **variables, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if result.returncode not in (0, 1, 2):  # 2: the module or its tests could not be imported
        sys.exit(f"The tests of {module}.py could not be run:\n{result.stdout}{result.stderr}")
    found = ElementTree.parse(report).iter()
    return next((node.get("message", "") for node in found if node.tag in ("failure", "error")), None)


def is_killed(message):
    return message is not None and message.startswith(KILLS)


def subject(name):
    """What a proof of a module is about: its mutants. The module and its tests are among what the run loads."""
    return tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))["mutant"]


def prove(name):
    """Run the mutants of a module, `trainability/NAME`, and print a line each.

    Returns whether all are killed and the tests pass on the module itself, and what the runs loaded.
    """
    module = name.rpartition("/")[2]
    original = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    mutants = subject(name)
    misfits = [mutant["find"] for mutant in mutants if original.count(mutant["find"]) != 1]
    if misfits:
        lines = (f"{module}.py: {find!r} occurs {original.count(find)} times, not once" for find in misfits)
        sys.exit("\n".join(lines))

    sources = [original, *(original.replace(mutant["find"], mutant["replace"]) for mutant in mutants)]
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(2) as pool:
        projects = [pathlib.Path(scratch) / half for half in ("first", "second")]
        for project in projects:
            shutil.copytree(PACKAGE, project / "trainability", ignore=shutil.ignore_patterns("__pycache__"))
            for test in (f"test_{module}.py", "package_checks.py"):
                shutil.copy(ROOT / "tests" / test, project)
        places = {project: pathlib.PurePath("tests") for project in projects}
        places = {project / "trainability": pathlib.PurePath("book/trainability") for project in projects} | places
        with proofs.recording(places) as (variables, loaded):
            # Two at a time, each in a project of its own, and with a cache of its own of what JAX compiles.
            runs = [
                functools.partial(first_failure, module, project, variables | compilation_cache(project / "compiled"))
                for project in projects
            ]
            halves = pool.map(lambda number: list(map(runs[number], sources[number::2])), (0, 1))
            messages = [None] * len(sources)
            messages[0::2], messages[1::2] = halves
    unedited, *messages = messages
    if unedited:
        print(f"{module}.py: the tests of the unedited module fail ({unedited.splitlines()[0]})")
    killed = 0
    for mutant, message in zip(mutants, messages, strict=True):
        killed += is_killed(message)
        how = message.splitlines()[0][:60] if message else "every test passed"
        print(f"{'killed' if is_killed(message) else 'ALIVE ':6}  {name}  {mutant['claim']}  ({how})")
    print(f"{name}: {killed} of {len(mutants)} mutants killed.", flush=True)
    return not unedited and killed == len(mutants), loaded
