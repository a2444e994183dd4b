# SPDX-License-Identifier: Apache-2.0
"""The books on disk: what was answered is on record whatever happens to the process, and is told once it is back."""

import collections
import signal
import threading

import pytest
from support.gateway import Gateway, model, provider
from support.process import SLOWNESS
from support.wait import eventually

IDS = "x-request-id"


@pytest.fixture
def sim(stage):
    return stage.simulator(seed=5)


def start(stage, sim, **more):
    return stage.gateway(
        [provider("steady", sim.base_url("steady")), provider("broken", sim.base_url("broken"))],
        [model("chat", "steady/m"), model("rough", "broken/m", "steady/m", retries=3)],
        **more,
    )


def hammer(gw, answered, stop, name):
    """Requests one after the other until told to stop; ids of those whose answer came whole are kept."""
    while not stop.is_set():
        try:
            answer = gw.chat(model=name, timeout=20)
        except OSError:
            return  # the gateway died under it
        if answer.status == 200:
            answered.append(answer.headers[IDS])


@pytest.mark.asan
def test_after_kill_9_every_answered_request_is_in_the_log(stage, sim):
    gw = start(stage, sim)
    sim.control.profile("broken", faults={"503": 1.0})
    answered, stop = [], threading.Event()
    for life in range(3):
        before = len(answered)
        threads = [threading.Thread(target=hammer, args=(gw, answered, stop, n)) for n in ("chat", "rough", "chat", "rough")]
        for t in threads:
            t.start()
        eventually(lambda: len(answered) >= before + 40, 60 * SLOWNESS, what="40 answers")
        gw.signal(signal.SIGKILL)
        gw.child.wait()
        for t in threads:
            t.join()
        gw.start()
    lines = eventually(lambda: gw.access_log() if set(answered) <= {x["id"] for x in gw.access_log()} else None,
                       20 * SLOWNESS, what="every answered request in the log")
    seen = collections.Counter(line["id"] for line in lines)
    # A line may come again when the process died after it was written and before the journal knew: then it says so.
    for request, count in seen.items():
        first, *again = [line for line in lines if line["id"] == request]
        assert all(line.get("recovered") for line in again), (request, count)
    for line in lines:
        if line.get("model") == "rough" and line["status"] == "success":
            assert [a["provider"] for a in line["attempts"]][-1] == "steady" and len(line["attempts"]) == 2


@pytest.mark.asan
def test_a_request_that_never_ended_is_ended_by_the_next_start(stage, sim):
    gw = start(stage, sim)
    sim.control.profile("broken", faults={"503": 1.0})
    sim.control.profile("steady", latency_ms=60000)  # the second attempt hangs
    thread = threading.Thread(target=lambda: hammer(gw, [], threading.Event(), "rough"))
    thread.start()
    eventually(lambda: sim.control.posts() >= 2, 20 * SLOWNESS, what="the second attempt")
    gw.signal(signal.SIGKILL)
    gw.child.wait()
    thread.join()
    for _ in range(2):  # and only by that one
        gw.start()
        line = gw.logged(1)[0]
        assert line["unsettled"] and line["recovered"]
        assert (line["status"], line["error"], line["operation"]) == ("error", "gateway_crashed", "chat")
        assert (line["tenant"], line["http_status"]) != (None, 200) and line["at"]
        assert [(a["provider"], a["number"], a["http_status"]) for a in line["attempts"]][:1] == [("broken", 1, 503)]
        gw.stop()
        assert len(gw.access_log()) == 1


def test_fewer_workers_read_out_what_more_workers_left(stage, sim):
    gw = start(stage, sim, workers=4)
    answered = [gw.chat(model="chat").headers[IDS] for _ in range(30)]
    gw.signal(signal.SIGKILL)
    gw.child.wait()
    gw.write_config({**gw.config, "workers": 1})
    gw.start()
    lines = gw.logged(30)
    assert {line["id"] for line in lines} == set(answered)
    gw.stop()
    left = sorted(p.name for p in (gw.state_dir / "journal").iterdir())
    assert left == ["floor", "instance", "w0"]


@pytest.mark.asan
def test_a_stop_loses_nothing_and_a_start_repeats_nothing(stage, sim):
    gw = start(stage, sim)
    answered = [gw.chat(model="chat", stream=n % 2 == 0).headers[IDS] for n in range(20)]
    gw.stop()
    assert collections.Counter(line["id"] for line in gw.access_log()) == dict.fromkeys(answered, 1)
    gw.start()
    gw.chat(model="chat")
    gw.stop()
    assert len(gw.access_log()) == 21 and not any(line.get("recovered") for line in gw.access_log())


def test_the_log_is_private_and_follows_its_rotation(stage, sim):
    gw = start(stage, sim)
    gw.chat(model="chat")
    gw.logged(1)
    assert gw.access_log_file.stat().st_mode & 0o777 == 0o600
    rotated = gw.access_log_file.with_suffix(".1")
    gw.access_log_file.rename(rotated)
    gw.reload()
    eventually(gw.access_log_file.exists, 10 * SLOWNESS, what="a new log after SIGHUP")
    gw.chat(model="chat")
    assert len(gw.logged(1)) == 1
    assert rotated.read_text().count("\n") == 1


def test_a_log_that_cannot_be_written_costs_lines_and_nothing_else(stage, sim):
    gw = start(stage, sim, access_log="/dev/full")
    for _ in range(5):
        assert gw.chat(model="chat").status == 200
    eventually(lambda: gw.metric("aigateway_telemetry_dropped_total") == 5,
               10 * SLOWNESS, what="dropped lines are counted")
    assert "No space left on device" in gw.stderr()


def test_a_second_gateway_on_the_same_state_is_refused(stage, sim):
    gw = start(stage, sim)
    second = Gateway(gw.directory, gw.config, "second", args=["--state-dir", str(gw.state_dir)])
    second.spawn()
    assert second.wait() != 0
    assert "in use by another process" in second.stderr()
    assert gw.chat(model="chat").status == 200
