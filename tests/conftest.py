"""What several test files share: how to run make, the built site, and a small book to build."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def make(*arguments, folder=ROOT, **variables):
    """Run make as a reader would, even if make runs these tests."""
    inherited = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON"}
    environment = {name: value for name, value in os.environ.items() if name not in inherited} | variables
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="session")
def site():
    """The folder of the built site. `make test` builds it first; a plain `pytest` builds it if it is not there."""
    folder = ROOT / "_build" / "html"
    if not (folder / "index.html").exists():
        subprocess.run(["make", "book"], cwd=ROOT, check=True)
    return folder


@pytest.fixture
def small_book(tmp_path):
    """A copy of the project with two pages, that shares the environment."""
    for name in (
        "Makefile",
        "_config.yml",
        "requirements.txt",
        "scripts",
        "book/_static",
        "book/_templates",
        "book/references.bib",
        "book/api-links.tsv",
    ):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n  - file: book/second\n")
    (tmp_path / "book/index.md").write_text("# First\n\n[second](second.md) {cite:p}`jax`\n")
    (tmp_path / "book/second.md").write_text("# Second\n\n:::{bibliography}\n:::\n")
    return tmp_path
