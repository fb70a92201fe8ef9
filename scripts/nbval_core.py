"""A pytest plugin: each of the two test processes, and the kernels that it starts, keeps to a core of its own."""

import os


def pytest_configure(config):
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw"))]})
