# SPDX-License-Identifier: Apache-2.0
"""The books on disk: what was answered is on record whatever happens to the process, and is told once it is back."""

import collections
import json
import os
import signal
import threading

import pytest
from support.gateway import Gateway, model, provider, run
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


# ---- aigwctl journal inspect -----------------------------------------------------------------------------------------


def inspect(gw, *args, code=0):
    done = run(["aigwctl", "journal", "inspect", *args], directory=gw.directory)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def records(gw, *args, code=0):
    return [json.loads(line) for line in inspect(gw, "-o", "json", *args, code=code).stdout.splitlines()]


def summary(gw, *args, code=0):
    return json.loads(inspect(gw, "--summary", "-o", "json", *args, code=code).stdout)["data"]


def die(gw):
    gw.expects_clean_exit = False
    gw.signal(signal.SIGKILL)
    gw.child.wait()


def files(directory):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in directory.rglob("*") if p.is_file()}


@pytest.mark.asan
def test_inspect_shows_the_records_of_a_running_and_of_a_dead_gateway(stage, sim):
    gw = start(stage, sim, workers=1)
    sim.control.profile("broken", faults={"503": 1.0})
    answered = [gw.chat(model=name).headers[IDS] for name in ("chat", "rough", "chat")]
    for directory in (gw.state_dir, gw.state_dir / "journal", gw.state_dir / "journal" / "w0"):
        seen = records(gw, str(directory))
        assert {r["id"] for r in seen if r["type"] == "settle"} == set(answered)
    rough = [r for r in records(gw, "--id", answered[1], str(gw.state_dir))]
    assert {r["id"] for r in rough} == {answered[1]}
    assert [r["provider"] for r in rough if r["type"] == "attempt"] == ["broken", "steady"]
    end = rough[-1]
    assert (end["type"], end["status"], end["operation"], len(end["attempts"])) == ("settle", "success", "chat", 2)
    assert end["cost_nanousd"] == sum(a["cost_nanousd"] for a in end["attempts"])
    assert [r["type"] for r in records(gw, "--type", "settle,attempt", str(gw.state_dir))].count("attempt") == 4
    die(gw)
    before = files(gw.state_dir / "journal")
    table = inspect(gw, str(gw.state_dir)).stdout.splitlines()
    assert table[0].split()[:5] == ["W", "SEQ", "TYPE", "TIME", "REQUEST"]
    assert sum(answered[1] in line for line in table[1:]) == len(rough)
    [worker] = summary(gw, str(gw.state_dir), code=0)
    assert (worker["settle"], worker["attempt"], worker["open"], worker["damage"]) == (3, 4, 0, "none")
    assert files(gw.state_dir / "journal") == before  # it never writes


@pytest.mark.asan
def test_inspect_names_what_is_open_and_what_is_damaged(stage, sim):
    gw = start(stage, sim, workers=1)
    gw.chat(model="chat")
    sim.control.profile("steady", latency_ms=60000)
    thread = threading.Thread(target=lambda: hammer(gw, [], threading.Event(), "chat"))
    thread.start()
    eventually(lambda: sim.control.posts() >= 2, 20 * SLOWNESS, what="a request under way")
    die(gw)
    thread.join()
    [worker] = summary(gw, "--exit-code", str(gw.state_dir))
    last = records(gw, str(gw.state_dir))[-1]
    assert (worker["open"], worker["open_ids"], worker["last_seq"]) == (1, [last["id"]], last["seq"])

    # A record that was begun behind the last one and not finished.
    segment = gw.state_dir / "journal" / "w0" / f"{last['seq'] >> 17:016x}.seg"
    whole = segment.read_bytes()
    start_of_last = (last["seq"] & 0x1FFFF) << 3
    length = int.from_bytes(whole[start_of_last:start_of_last + 4], "little")
    end = start_of_last + (16 + length + 4 + 7) // 8 * 8
    with segment.open("r+b") as f:
        f.seek(end + 24)
        f.write(b"half a record")
    [worker] = summary(gw, "--exit-code", str(gw.state_dir), code=10)
    assert (worker["damage"], worker["damage_file"], worker["damage_offset"]) == ("torn", str(segment), end)
    assert "was never finished" in inspect(gw, str(gw.state_dir)).stderr  # and without --exit-code it is no error

    # One whose bytes changed.
    with segment.open("r+b") as f:
        f.seek(start_of_last + 30)
        f.write(bytes([whole[start_of_last + 30] ^ 1]))
    [worker] = summary(gw, "--exit-code", str(gw.state_dir), code=11)
    assert (worker["damage"], worker["damage_offset"], worker["open"]) == ("corrupt", start_of_last, 0)
    # A file that is none.
    os.truncate(segment, 4000)
    assert "shorter than its header says" in inspect(gw, "--exit-code", str(segment), code=11).stderr
    segment.write_bytes(b"\x1b[31m" * 30000)
    assert "no sound header" in inspect(gw, "--exit-code", str(segment), code=11).stderr


def test_inspect_says_what_is_not_there(stage, sim):
    gw = start(stage, sim, workers=1)
    inspect(gw, str(gw.state_dir / "nowhere"), code=5)
    (gw.directory / "empty").mkdir()
    inspect(gw, str(gw.directory / "empty"), code=5)
    inspect(gw, "--type", "payments", str(gw.state_dir), code=2)
    assert run(["aigwctl", "journal"], directory=gw.directory).returncode == 2
