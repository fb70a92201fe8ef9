"""What `make torch` and `make gpflow` share: whether another library can run here, and the comparison with a record."""

import json
import platform
import sys

import environment

LIBRARIES = {"torch": "PyTorch", "gpflow": "TensorFlow"}  # an environment, and what has no build for Intel Macs


def reason_not_to_run(name):
    """Why an environment cannot be made here; None if it can."""
    if environment.find_python(name) is None:
        return f"There is no {environment.Environment(name).range()} here"
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        return f"There is no current {LIBRARIES[name]} for Intel Macs"
    return None


def numbers(value):
    """The floats in nested lists."""
    if isinstance(value, list):
        return [number for inner in value for number in numbers(inner)]
    return [value] if isinstance(value, float) else []


def flatten(value, path="", scale=None):
    """{path: (number or text, scale)} of nested dictionaries and lists.

    The scale is what a tolerance is relative to: a number itself, and in an array its largest number, since an array's
    small numbers carry the rounding of the large ones.
    """
    if isinstance(value, dict):
        items, scale = value.items(), None
    elif isinstance(value, list):
        items = enumerate(value)
        scale = scale or max(map(abs, numbers(value)), default=0.0)
    else:
        return {path: (value, abs(value) if scale is None and isinstance(value, float) else scale)}
    return {name: leaf for key, inner in items for name, leaf in flatten(inner, f"{path}/{key}", scale).items()}


def agree(one, other, tolerance, scale):
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= tolerance * scale
    return type(one) is type(other) and one == other


def differences(fresh, recorded, tolerance):
    """A line for each value that one side lacks, or that differs."""
    fresh, recorded = flatten(fresh), flatten(recorded)
    for path in {**recorded, **fresh}:
        if path not in fresh or path not in recorded:
            yield f"{path}: missing in the {'record' if path in fresh else 'new run'}"
            continue
        (now, _), (then, scale) = fresh[path], recorded[path]
        if not agree(now, then, tolerance, scale):
            yield f"{path}: recorded {then!r}, now {now!r}"


def compare(fresh, path, tolerance, record, command):
    """The lines in which a new run differs from the record at this path; with `record` it becomes the record."""
    if record:
        path.write_text(json.dumps(fresh, indent=2) + "\n", encoding="utf-8")
    if not path.exists():
        return [f"there is no {path.name}: run `{command}`, look at what it writes, and commit it"]
    return list(differences(fresh, json.loads(path.read_text(encoding="utf-8")), tolerance))
