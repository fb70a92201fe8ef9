"""The types of the package: mypy has nothing to say about it, and refuses each of a list of wrong calls."""

import collections
import inspect
import pathlib
import re
import subprocess
import sys

import pytest
import trainability as tr

ROOT = pathlib.Path(__file__).parents[1]
WRONG = ROOT / "tests" / "wrong_calls.py"
LINES = dict(enumerate(WRONG.read_text(encoding="utf-8").splitlines(), start=1))
KINDS = {number: line.rpartition("# wrong: ")[2] for number, line in LINES.items() if "# wrong: " in line}


@pytest.fixture(scope="module")
def errors():
    """What mypy says in one run over the package and its callers: {file: {line: [errors]}}."""
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", "--no-pretty"]
    files = ["book/trainability", "tests/first_program.py", "tests/wrong_calls.py"]
    result = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode in (0, 1) and not result.stderr, result.stdout + result.stderr
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for line in result.stdout.splitlines():
        place = re.match(r"(.+?):(\d+): error: (.+)", line)
        if place:
            found[pathlib.PurePath(place[1]).as_posix()][int(place[2])].append(place[3])
    return found


def test_the_package_and_a_first_program_have_no_error(errors):
    assert {file: dict(lines) for file, lines in errors.items() if file != "tests/wrong_calls.py"} == {}


@pytest.mark.parametrize("number", KINDS, ids=lambda number: LINES[number].partition("  #")[0])
def test_a_wrong_call_is_refused(errors, number):
    assert any(error.endswith(f"[{KINDS[number]}]") for error in errors["tests/wrong_calls.py"][number])


def test_its_right_twin_is_accepted(errors):
    """Above each wrong call stands one of the same function, or of the one misspelt, and mypy accepts it."""
    assert len(KINDS) >= 10
    assert {number for number, said in errors["tests/wrong_calls.py"].items() if said} <= set(KINDS)
    for number in KINDS:
        right, wrong = (re.search(r"\btr\.([\w.]+)\(", LINES[line])[1] for line in (number - 1, number))
        assert right == wrong or not hasattr(tr, wrong)


def test_the_right_twins_run():
    right = ["" if number in KINDS else line for number, line in LINES.items()]
    exec(compile("\n".join(right), WRONG, "exec"), {"__name__": "right_calls"})


FUNCTIONS = {name: getattr(tr, name) for name in tr.__all__}
FUNCTIONS |= {f"gp.{name}": getattr(tr.gp, name) for name in tr.gp.__all__}


@pytest.mark.parametrize("name", [name for name, thing in FUNCTIONS.items() if inspect.isfunction(thing)])
def test_a_public_function_is_typed(name):
    """mypy is not asked for it, because functions inside functions need no types."""
    signature = inspect.signature(FUNCTIONS[name])
    untyped = [name for name, parameter in signature.parameters.items() if parameter.annotation is parameter.empty]
    assert untyped == [] and signature.return_annotation is not signature.empty
