"""A Sphinx extension: `{{ versions }}` on a page becomes the versions that the lock pins, read at build time."""

import pathlib
import re

LOCK = pathlib.Path(__file__).parents[1] / "requirements.txt"
SHOWN = ["jax", "flax", "optax", "numpy", "matplotlib"]


def locked_versions(lock_text):
    """{package: version} of every pin in the text of a lock."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", lock_text, flags=re.MULTILINE))


def add_versions(app, config):
    pinned = locked_versions(LOCK.read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {pinned[name]}" for name in SHOWN)
    config.myst_substitutions = {**config.myst_substitutions, "versions": versions}


def setup(app):
    app.connect("config-inited", add_versions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
