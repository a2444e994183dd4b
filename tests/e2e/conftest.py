# SPDX-License-Identifier: Apache-2.0
"""Fixtures of every story: each test has its own directory, its own processes on port 0, and stops them itself."""

import pytest

from support.process import IS_CI, has_crash_points
from support.stage import Stage


def pytest_addoption(parser):
    parser.addoption("--rounds", type=int, default=2, help="deaths at each crash point (test_crash_points.py)")


# The reasons for which CI may skip a test; with any other a skip is a failure there.
SKIPS_IN_CI = (
    "a small file system cannot be mounted here",  # containers may lack the right to mount; ./dev test elsewhere has it
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if IS_CI and report.skipped and not any(why in str(report.longrepr) for why in SKIPS_IN_CI):
        report.outcome, report.longrepr = "failed", f"skipped, which no test may be in CI: {report.longrepr}"
    return report


def pytest_collection_modifyitems(config, items):
    """A build without crash points is not asked to die at them."""
    if not has_crash_points():
        config.hook.pytest_deselected(items=[i for i in items if i.get_closest_marker("points")])
        items[:] = [i for i in items if not i.get_closest_marker("points")]


@pytest.fixture
def stage(tmp_path):
    with Stage(tmp_path) as s:
        yield s


@pytest.fixture(scope="module")
def module_stage(request, tmp_path_factory):
    """For what all tests of a file look at and none changes."""
    with Stage(tmp_path_factory.mktemp(request.module.__name__)) as s:
        yield s


def pytest_terminal_summary(terminalreporter):
    """Figures that tests measured (`record_property("figure", text)`), also from parallel workers."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if name == "figure" and getattr(report, "when", "") == "call":
                    terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {text}")
