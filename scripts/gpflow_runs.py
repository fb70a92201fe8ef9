"""Run every script of book/gpflow_reference in GPflow, compare what they give with the records, and run the mutants.

A script NAME.py has a function `run() -> dict` that asserts its claims and returns numbers and texts. NAME.json is the
record of them, which the chapters read; --record writes it. Two runs agree within the script's RTOL, or 1e-8. In an
array this is relative to the largest number.

A mutant of tests/mutants/gpflow_reference/NAME.toml (claim, find, replace) edits a script, and then the script must end
in an AssertionError. It may name another function to `call` in place of `run`, which must pass in the script itself.

All of it runs in one process of `.venv-gpflow`, made from requirements-gpflow.txt.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import tomllib

import environment
import reference
from notebook_environment import ENVIRONMENT

ROOT = pathlib.Path(__file__).parents[1]
SCRIPTS = ROOT / "book" / "gpflow_reference"
MUTANTS = ROOT / "tests" / "mutants" / "gpflow_reference"
WORKER = pathlib.Path(__file__).with_name("gpflow_worker.py")
COMMAND = "make gpflow RECORD=1"

# One thread, on the CPU, the same kernels on every processor, and no word of TensorFlow's about any of it.
QUIET = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def stop(problem, remedy):
    """End with exit code 1 and one line: what is wrong, and what to do."""
    sys.exit(f"gpflow: {problem}. {remedy}.")


def read_mutants(path):
    """The mutants of a script; stops if an edit has not exactly one place in it."""
    table, source = MUTANTS / f"{path.stem}.toml", path.read_text(encoding="utf-8")
    if not table.exists():
        stop(f"{path.name} has no mutants", f"Write {table.relative_to(ROOT).as_posix()}")
    mutants = tomllib.loads(table.read_text(encoding="utf-8"))["mutant"]
    for mutant in mutants:
        if source.count(mutant["find"]) != 1 or mutant["find"] == mutant["replace"]:
            times = source.count(mutant["find"])
            stop(f"{path.name}: {mutant['find']!r} occurs {times} times, or changes nothing", "Mend the mutant")
    return mutants


def run(python, jobs):
    """What the worker gives for (script, its code, function to call), all in one process: {"versions", "runs"}."""
    with tempfile.TemporaryDirectory() as folder:
        asked, given, written = pathlib.Path(folder, "asked.json"), pathlib.Path(folder, "given.json"), []
        for number, (path, code, call) in enumerate(jobs):
            source = pathlib.Path(folder, f"{path.stem}-{number}.py")
            source.write_text(code, encoding="utf-8")
            written.append({"script": str(path), "source": str(source), "call": call})
        asked.write_text(json.dumps(written), encoding="utf-8")
        # -P: `import gpflow` and the like must not find a file of the folder that the worker is in.
        command = [python, "-P", WORKER, asked, given]
        ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT, **QUIET})
        if ran.returncode != 0:
            stop(f"the scripts did not run:\n{ran.stdout}{ran.stderr}", "Mend that")
        return json.loads(given.read_text(encoding="utf-8"))


def check_script(path, ran, versions, record):
    """Print a line about the run of a script, and one for each difference; whether there is none."""
    if "error" in ran:
        print(f"FAILED   {path.name}:\n{ran['printed']}{ran['traceback']}")
        return False
    fresh = {"versions": versions, **ran["result"]}
    wrong = reference.compare(fresh, path.with_suffix(".json"), ran["tolerance"], record, COMMAND)
    for line in wrong:
        print(f"FAILED   {path.name}: {line}")
    values = len(reference.flatten(fresh))
    print(f"{path.name}: {values} values, {len(wrong)} differ from the record ({ran['seconds']:.1f} s)")
    return not wrong


def check_mutant(path, mutant, ran):
    """Print a line about the run of a mutant; whether it is killed: another error broke the script, not the claim."""
    killed = ran.get("error") == "AssertionError"
    how = ran.get("error", "nothing was noticed")
    print(f"{'killed' if killed else 'ALIVE '}  {path.stem}  {mutant['claim']}  ({how}, {ran['seconds']:.1f} s)")
    return killed


def main(names=(), record=False, only_scripts=False):
    reason = reference.reason_not_to_run("gpflow")
    if reason:
        print(f"gpflow: NOT RUN. {reason}.")
        return True
    paths = [path for path in sorted(SCRIPTS.glob("*.py")) if not names or path.stem in names]
    if not paths:
        stop(f"there is no script {' '.join(names)}", f"Look into {SCRIPTS.relative_to(ROOT).as_posix()}")
    mutants = [] if only_scripts else [(path, mutant) for path in paths for mutant in read_mutants(path)]
    calls = sorted({(path, mutant["call"]) for path, mutant in mutants if "call" in mutant})
    sources = {path: path.read_text(encoding="utf-8") for path in paths}
    jobs = [(path, sources[path], "run") for path in paths]
    jobs += [(path, sources[path], call) for path, call in calls]
    for path, mutant in mutants:
        jobs.append((path, sources[path].replace(mutant["find"], mutant["replace"]), mutant.get("call", "run")))
    given = run(environment.make("gpflow"), jobs)  # stops with exit code 1 if the installation fails
    runs = iter(given["runs"])
    same = [check_script(path, next(runs), given["versions"], record) for path in paths]
    for path, call in calls:
        if "error" in (ran := next(runs)):
            same.append(False)
            print(f"FAILED   {path.name}, {call}():\n{ran['printed']}{ran['traceback']}")
    killed = [check_mutant(path, mutant, ran) for (path, mutant), ran in zip(mutants, runs, strict=True)]
    orphans = [path.name for path in SCRIPTS.glob("*.json") if not path.with_suffix(".py").exists()]
    for name in orphans:
        print(f"FAILED   {name} is the record of no script")
    print(
        f"gpflow: RAN, GPflow {given['versions']['gpflow']}: {len(paths)} scripts, {same.count(False)} failed; "
        f"{killed.count(True)} of {len(mutants)} mutants killed"
    )
    return all(same) and all(killed) and not orphans


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these scripts")
    parser.add_argument("--record", action="store_true", help="write the records anew")
    parser.add_argument("--only-scripts", action="store_true", help="leave out the mutants")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.exit(0 if main(arguments.names, arguments.record, arguments.only_scripts) else 1)
