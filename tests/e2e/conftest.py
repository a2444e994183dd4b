# SPDX-License-Identifier: Apache-2.0
"""Fixtures of every story: each test has its own directory, its own processes on port 0, and stops them itself."""

import pytest

from support.gateway import Gateway, Simulator, config
from support.postgres import Postgres
from support.process import IS_CI, has_crash_points
from support.redis import Redis, RedisCluster, Sentinels
from support.tcpfault import TcpFault
from support.upstream import Upstream


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


class Stage:
    """Starts things and ends them in reverse order; a failure of one ending does not spare the others."""

    def __init__(self, directory):
        self.directory, self.endings, self.count = directory, [], 0

    def next_name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def gateway(self, providers=(), models=(), env=None, args=(), **more):
        g = Gateway(self.directory, config(providers, models, **more), self.next_name("gateway"), env, args)
        self.endings.append(g.stop)
        return g.start()

    def simulator(self, **more):
        s = Simulator(self.directory, self.next_name("simulator"), **more)
        self.endings.append(s.stop)
        return s.start()

    def upstream(self, script=None):
        u = Upstream(script)
        self.endings.append(u.close)
        return u

    def tcpfault(self, target):
        t = TcpFault(target)
        self.endings.append(t.close)
        return t

    def redis(self, **more):
        r = Redis(self.directory, self.next_name("redis"), **more)
        self.endings.append(r.stop)
        return r.start()

    def redis_cluster(self, **more):
        c = RedisCluster(self.directory / self.next_name("cluster"), **more)
        self.endings.append(c.stop)
        return c.start()

    def sentinels(self, **more):
        s = Sentinels(self.directory / self.next_name("sentinels"), **more)
        self.endings.append(s.stop)
        return s.start()

    def postgres(self, settings=""):
        p = Postgres(settings)
        self.endings.append(p.stop)
        return p.start()

    def end(self):
        failures = []
        for ending in reversed(self.endings):
            try:
                ending()
            except Exception as e:
                failures.append(e)
        if failures:
            raise failures[0]


@pytest.fixture
def stage(tmp_path):
    s = Stage(tmp_path)
    yield s
    s.end()


def pytest_terminal_summary(terminalreporter):
    """Figures that tests measured (`record_property("figure", text)`), also from parallel workers."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if name == "figure" and getattr(report, "when", "") == "call":
                    terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {text}")
