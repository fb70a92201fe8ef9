"""A pytest plugin: each of pytest's processes keeps what JAX compiles for its next notebook, in a folder of its own.

The processes do not share it, since JAX does not guard a folder against two that write at once. It goes with the tests.
"""

import os
import tempfile

from notebook_environment import compilation_cache


def pytest_configure(config):
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    os.environ.update(compilation_cache(folder.name))
