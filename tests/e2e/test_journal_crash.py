# SPDX-License-Identifier: Apache-2.0
"""The process dies at each named place of the journal, and the next start has one end for each request on record. Needs a
build with -DCRASH_POINTS=ON."""

import collections
import json
import signal
import threading

import pytest
from support.gateway import model, provider, run
from support.process import SLOWNESS
from support.wait import eventually

pytestmark = pytest.mark.points

SERVING = [
    "reserve_before_append", "reserve_after_bytes", "reserve_after_append",
    "attempt_before_append", "attempt_after_bytes", "attempt_after_append",
    "progress_before_append", "progress_after_append",
    "settle_before_append", "settle_after_bytes", "settle_after_append", "settle_after_reply",
    "free_before_mark", "free_after_mark",
]  # fmt: skip
ROLLING = ["segment_sealed", "segment_recycled", "free_after_unlink"]  # when a segment is full
STARTING = [
    "segment_created", "recovery_begin", "recovery_after_scan", "recovery_before_attempt", "recovery_after_attempt",
    "recovery_after_settle", "recovery_done",
]  # fmt: skip


@pytest.fixture
def sim(stage):
    return stage.simulator(seed=9)


@pytest.fixture
def gw(stage, sim):
    sim.control.profile("broken", faults={"503": 1.0})
    gw = stage.gateway(
        [provider("steady", sim.base_url("steady")), provider("broken", sim.base_url("broken"))],
        [model("chat", "steady/m"), model("rough", "broken/m", "steady/m", retries=3)],
        workers=1,
    )
    gw.stop()
    return gw


def hammer(gw, answered, name):
    while True:
        try:
            answer = gw.chat(model=name, timeout=20)
        except OSError:
            return  # it died
        if answer.status == 200:
            answered.append(answer.headers["x-request-id"])


def load_until_dead(gw, within):
    """Plain requests, ones that fail over and streams; returns the ids of those that were answered."""
    answered = []
    threads = [threading.Thread(target=hammer, args=(gw, answered, n)) for n in ("chat", "rough", "chat", "rough")]
    for t in threads:
        t.start()
    gw.child.wait(within * SLOWNESS)
    for t in threads:
        t.join()
    assert gw.child.returncode == -signal.SIGKILL
    return answered


def leave_one_open(gw, sim):
    """kill -9 amid the second attempt of a request."""
    sim.control.profile("steady", latency_ms=60000)
    before = sim.control.posts()
    thread = threading.Thread(target=hammer, args=(gw, [], "rough"))
    gw.start()
    thread.start()
    eventually(lambda: sim.control.posts() >= before + 2, 20 * SLOWNESS, what="the second attempt")
    gw.signal(signal.SIGKILL)
    gw.child.wait()
    thread.join()
    sim.control.profile("steady", latency_ms=0)


def recover_only(gw):
    """A start that dies when everything has its end and nothing was read or given away yet."""
    gw.env["GATEWAYD_CRASH"] = "recovery_done"
    gw.spawn()
    gw.child.wait(20 * SLOWNESS)
    assert gw.child.returncode == -signal.SIGKILL
    del gw.env["GATEWAYD_CRASH"]


def assert_books_are_whole(gw):
    done = run(["aigwctl", "journal", "inspect", "-o", "json", str(gw.state_dir)], directory=gw.directory)
    assert done.returncode == 0, done.stderr
    ends, attempts = collections.defaultdict(list), collections.defaultdict(list)
    begun = set()
    for r in map(json.loads, done.stdout.splitlines()):
        if not r["released"]:  # what was released may be gone in part
            begun.add(r["id"])
        if r["type"] == "settle":
            ends[r["id"]].append(r)
        elif r["type"] == "attempt":
            attempts[r["id"]].append(r)
    assert begun <= set(ends)
    for request, [end] in ends.items():  # exactly one
        numbers = [a["number"] for a in attempts[request]]
        assert len(set(numbers)) == len(numbers)
        if len(numbers) == len(end["attempts"]):  # else the oldest records are in a segment that was given away
            assert end["cost_nanousd"] == sum(a["cost_nanousd"] for a in attempts[request])
    return ends


def assert_log_has(gw, answered):
    eventually(lambda: set(answered) <= {x["id"] for x in gw.access_log()}, 20 * SLOWNESS, what="all answers in the log")
    assert all(x["status"] == "success" for x in gw.access_log() if x["id"] in answered)
    count = collections.Counter(x["id"] for x in gw.access_log() if not x.get("recovered"))
    assert not [i for i, n in count.items() if n > 1]


@pytest.mark.parametrize("point", SERVING)
@pytest.mark.parametrize("nth", [1, 7])
def test_dying_while_serving_leaves_one_end_for_each_request(gw, point, nth):
    if point.startswith("free_") and nth > 1:
        nth = 3
    if point.startswith("progress_"):
        nth = 1
    gw.env["GATEWAYD_CRASH"] = f"{point}:{nth}"
    try:
        gw.start()
    except AssertionError:
        assert gw.child.returncode == -signal.SIGKILL  # at the start already
        answered = []
    else:
        answered = load_until_dead(gw, 60)
    recover_only(gw)
    assert_books_are_whole(gw)
    gw.start()
    assert_log_has(gw, answered)
    assert gw.chat(model="chat").status == 200
    gw.stop()


@pytest.mark.parametrize("point", ROLLING)
def test_dying_when_a_segment_is_full_loses_nothing(gw, point):
    gw.env["GATEWAYD_CRASH"] = point
    gw.start()
    answered = load_until_dead(gw, 120)
    recover_only(gw)
    assert_books_are_whole(gw)
    gw.start()
    assert_log_has(gw, answered)
    gw.stop()


@pytest.mark.parametrize("point", STARTING)
def test_dying_in_a_recovery_ends_each_request_exactly_once(gw, sim, point):
    leave_one_open(gw, sim)
    gw.env["GATEWAYD_CRASH"] = point
    for _ in range(2):  # the second may get past it, when nothing is left to end
        gw.spawn()
        eventually(lambda: gw.child.poll() is not None or gw.ready_file.exists(), 20 * SLOWNESS)
        if gw.child.poll() is None:
            gw.signal(signal.SIGKILL)
        gw.child.wait()
    recover_only(gw)
    ends = assert_books_are_whole(gw)
    gw.start()
    [end] = [e for [e] in ends.values() if e["recovery"]]
    assert end["error"] == "gateway_crashed" and [a["provider"] for a in end["attempts"]] == ["broken", "steady"]
    eventually(lambda: [x["id"] for x in gw.access_log() if x.get("unsettled")], 20 * SLOWNESS, what="its line")
    assert gw.chat(model="chat").status == 200
    gw.stop()
