"""What several test files share."""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="session")
def site():
    """The folder of the built site. `make test` builds it first; a plain `pytest` builds it if it is not there."""
    folder = ROOT / "_build" / "html"
    if not (folder / "index.html").exists():
        subprocess.run(["make", "book"], cwd=ROOT, check=True)
    return folder
