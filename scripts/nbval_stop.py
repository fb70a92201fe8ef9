"""A pytest plugin: after the first cell of a notebook that fails, skip the rest of it."""

import pytest


def pytest_runtest_setup(item):
    if getattr(item.parent, "a_cell_failed", False):
        pytest.skip("an earlier cell failed")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        item.parent.a_cell_failed = True
