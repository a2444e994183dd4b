# SPDX-License-Identifier: Apache-2.0
"""The simulated provider: every fault is what its name says, and its truth is true (test_simulator_sdk.py has what it answers).
What other stories prove about the gateway rests on this."""

import hashlib
import http.client
import json
import re
import socket
import threading
import time

import pytest

from support import gateway, reprice
from support.process import ROOT
from support.rawhttp import Closed, ProtocolError, chunked, request
from support.simctl import SimError
from support.simulated import ASK, CHAT, GEMINI, HELLO, address, chat, ctl, data_lines, only, post, raw, rule_tokens, sim  # noqa: F401 (fixtures)
from support.wait import eventually

# -- determinism


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(stage):
    def run(seed):
        s = stage.simulator(seed=seed)
        s.control.profile("p", faults={"429": 0.2, "500": 0.2, "cut_mid": 0.1}, output_tokens=[5, 30])
        out = []
        for i in range(30):
            with raw(s) as c:
                c.send(request(target=CHAT, headers=[("connection", "close")], body=json.dumps(chat(user=str(i))).encode()))
                out.append(c.read_all())
        return out

    first, again, other = run(3), run(3), run(4)
    assert first == again
    assert first != other
    kinds = {b.split(b" ", 2)[1] for b in first}
    assert kinds == {b"200", b"429", b"500"}


def test_a_reset_starts_the_draws_and_the_truth_again(sim, ctl):
    ctl.profile("p", faults={"500": 0.5})
    first = [post(sim).status for _ in range(20)]
    ctl.reset(keep_profiles=True)
    assert ctl.truth()["posts"] == 0 and ctl.log() == []
    assert [post(sim).status for _ in range(20)] == first
    ctl.reset()
    assert {post(sim).status for _ in range(20)} == {200}
    assert [r["seq"] for r in ctl.log()] == list(range(1, 21))


def test_fault_rates_are_met(sim, ctl):
    ctl.profile("p", faults={"429": 0.1, "500": 0.05})
    n = 2000
    c = http.client.HTTPConnection(*address(sim))
    for _ in range(n):
        c.request("POST", CHAT, json.dumps(HELLO))
        c.getresponse().read()
    c.close()
    faults = ctl.totals()["faults"]
    assert abs(faults["429"] / n - 0.1) < 0.025 and abs(faults["500"] / n - 0.05) < 0.02


# -- faults, byte by byte


def stream_body(c, sim_body=None):
    c.send(request(target=CHAT, body=json.dumps(sim_body or chat(stream=True)).encode(), key="k1"))
    return c.read_head()


def ended(ctl, name):
    r = eventually(lambda: [r for r in ctl.log() if r["ended"] != "open"], what="a record")[-1]
    assert (r["fault"], r["ended"]) == (name, name), r
    return r


def test_timeout_reads_and_never_answers(sim, ctl):
    ctl.profile("p", script=["timeout"])
    with raw(sim) as c:
        c.send(request(target=CHAT, body=json.dumps(HELLO).encode()))
        eventually(lambda: only(ctl.log())["ended"] == "open")
        assert not c.is_closed(0.3) and c.buffer == b""
    r = ended(ctl, "timeout")
    assert (r["status"], r["bytes_sent"], r["prompt_tokens"]) == (0, 0, 0)


@pytest.mark.parametrize("fault", ["reset", "reset_after_request"])
def test_reset_is_a_reset_without_an_answer(sim, ctl, fault):
    ctl.profile("p", script=[fault], latency_ms=30)
    s = socket.create_connection(address(sim))
    s.sendall(request(target=CHAT, body=json.dumps(HELLO).encode()))
    with pytest.raises(ConnectionResetError):
        s.recv(1)
    s.close()
    r = ended(ctl, fault)
    assert r["bytes_sent"] == 0 and (r["end_us"] - r["at_us"] >= 30000) == (fault == "reset_after_request")


def test_close_idle_strikes_only_a_reused_connection(sim, ctl):
    ctl.profile("p", script=["close_idle", "ok", "close_idle"])
    body = request(target=CHAT, body=json.dumps(HELLO).encode())
    with raw(sim) as c:
        for _ in range(2):
            c.send(body)
            assert c.read_response().status == 200
        c.send(body)
        assert c.is_closed()
    assert [r["ended"] for r in ctl.settled_log()] == ["answered", "answered", "close_idle"]


def test_garbage_is_not_http(sim, ctl):
    ctl.profile("p", script=["garbage"])
    with raw(sim) as c:
        c.send(request(target=CHAT, body=json.dumps(HELLO).encode()))
        got = c.read_all()
    assert len(got) == 512 and not got.startswith(b"HTTP/")
    assert ended(ctl, "garbage")["completion_tokens"] == 0


@pytest.mark.parametrize("stream", [False, True])
def test_garbage_body_is_a_200_that_is_no_json(sim, ctl, stream):
    ctl.profile("p", script=["garbage_body"])
    r = post(sim, body=chat(stream=stream))
    assert r.status == 200 and len(r.body) == 512
    with pytest.raises(ValueError):
        json.loads(r.body)
    assert ended(ctl, "garbage_body")["prompt_tokens"] == 0


def test_bad_json_is_half_a_document_or_one_broken_event(sim, ctl):
    ctl.profile("p", script=["bad_json", "bad_json"])
    with pytest.raises(ValueError):
        json.loads(post(sim).body)
    lines = data_lines(post(sim, body=chat(stream=True)).body)
    assert lines[-1] == b"[DONE]"
    broken = []
    for line in lines[:-1]:
        try:
            json.loads(line)
        except ValueError:
            broken.append(line)
    assert len(broken) == 1
    assert ended(ctl, "bad_json")["completion_tokens"] > 0


def test_cut_before_first_sends_a_head_and_nothing_more(sim, ctl):
    for stream in (False, True):
        ctl.profile("p", script=["cut_before_first"])
        with raw(sim) as c:
            assert stream_body(c, chat(stream=stream)).status == 200
            assert c.is_closed()
        r = ended(ctl, "cut_before_first")
        assert (r["status"], r["prompt_tokens"], r["completion_tokens"]) == (200, 0, 0)


@pytest.mark.parametrize("fault", ["cut_mid", "reset_mid"])
def test_a_stream_cut_in_the_middle_bills_what_was_generated(sim, ctl, fault):
    ctl.profile("p", script=[fault], output_tokens=20)
    got = b""
    with raw(sim) as c:
        stream_body(c)
        try:
            while True:
                got += c.read_chunk()
        except (Closed, ConnectionResetError):
            pass
    texts = [json.loads(d)["choices"][0]["delta"].get("content") for d in data_lines(got)]
    assert len([t for t in texts if t]) == 10
    r = ended(ctl, fault)
    assert (r["completion_tokens"], r["prompt_tokens"]) == (10, rule_tokens(["hello"], messages=1))


@pytest.mark.parametrize("fault", ["cut_mid", "reset_mid"])
def test_a_whole_answer_cut_in_the_middle_is_shorter_than_promised(sim, ctl, fault):
    ctl.profile("p", script=[fault])
    with raw(sim) as c:
        head = stream_body(c, HELLO)
        rest = c.read_all()
    assert 0 < len(rest) < int(head.header("content-length"))
    assert ended(ctl, fault)["completion_tokens"] > 0


def test_stall_mid_stops_and_stays_open(sim, ctl):
    ctl.profile("p", script=["stall_mid"], output_tokens=20)
    with raw(sim) as c:
        stream_body(c)
        for _ in range(11):
            assert c.read_chunk()
        assert not c.is_closed(0.3) and c.buffer == b""
    assert ended(ctl, "stall_mid")["completion_tokens"] == 10


def test_no_done_ends_cleanly_without_the_marker(sim, ctl):
    markers = {
        CHAT: (chat(stream=True), b"[DONE]"),
        "/p/v1/messages": (dict(ASK, stream=True), b"message_stop"),
        "/p/v1/responses": ({"model": "m", "input": "x", "stream": True}, b"response.completed"),
        "/p/v1beta/models/g:streamGenerateContent?alt=sse": (GEMINI, b"finishReason"),
    }
    for path, (body, marker) in markers.items():
        assert marker in post(sim, path, body).body
        ctl.profile("p", script=["no_done"])
        r = post(sim, path, body)
        assert r.framing == "chunked" and marker not in r.body, path
        assert ended(ctl, "no_done")["completion_tokens"] > 0


def test_error_event_is_an_error_inside_a_200(sim, ctl):
    ctl.profile("p", script=["error_event", "error_event"], output_tokens=20)
    whole = post(sim)
    assert whole.status == 200 and json.loads(whole.body)["error"]["message"]
    assert ended(ctl, "error_event")["completion_tokens"] == 0
    lines = data_lines(post(sim, body=chat(stream=True)).body)
    assert json.loads(lines[-1])["error"]["type"] == "server_error"
    assert ended(ctl, "error_event")["completion_tokens"] == 10


def test_huge_event_is_one_line_of_two_mebibytes(sim, ctl):
    ctl.profile("p", script=["huge_event", "huge_event"])
    lines = data_lines(post(sim, body=chat(stream=True)).body)
    sizes = sorted(len(line) for line in lines)
    assert sizes[-1] > 2**21 - 64 and sizes[-2] < 1000
    assert [json.loads(line) for line in lines if line != b"[DONE]"]
    assert len(post(sim).body) == 2**21
    assert ended(ctl, "huge_event")["completion_tokens"] > 0


@pytest.mark.parametrize("fault", ["slow_drip", "slow_head"])
def test_slow_faults_send_a_byte_at_a_time(sim, ctl, fault):
    ctl.profile("p", script=[fault], drip_ms=2, output_tokens=1)
    with raw(sim) as c:
        c.send(request(target=CHAT, body=json.dumps(HELLO).encode()))
        begin = time.monotonic()
        r = c.read_response()
        took = time.monotonic() - begin
    assert r.status == 200 and json.loads(r.body)["usage"]["completion_tokens"] == 1
    assert took > len(r.body) * 0.002
    assert ended(ctl, fault)["completion_tokens"] == 1


def test_a_script_is_consumed_in_order_and_then_chance_applies(sim, ctl):
    ctl.profile("p", script=["429", "ok", "500"])
    assert [post(sim).status for _ in range(5)] == [429, 200, 500, 200, 200]
    assert ctl.get_profile("p")["script"] == []


def test_gets_do_not_consume_the_script(sim, ctl):
    ctl.profile("p", script=["429"])
    assert gateway.http(ctl.url("p") + "/models").status == 200
    assert post(sim).status == 429


# -- time


def test_latency_first_token_and_pace_are_kept(sim, ctl):
    ctl.profile("p", latency_ms=60, ttft_ms=150, tokens_per_s=100, output_tokens=10)
    with raw(sim) as c:
        begin = time.monotonic()
        stream_body(c)
        head_at = time.monotonic() - begin
        c.read_chunk()
        c.read_chunk()
        first_at = time.monotonic() - begin
        while c.read_chunk():
            pass
        end_at = time.monotonic() - begin
    assert head_at >= 0.060 and first_at >= 0.150 and end_at >= 0.150 + 0.090
    r = only(ctl.settled_log())
    assert r["first_us"] - r["at_us"] >= 60000 and r["end_us"] - r["at_us"] >= 240000


def test_built_in_profiles_behave_as_named(sim, ctl):
    fast, steady, flaky = (ctl.get_profile("sim-" + n) for n in ("fast", "steady", "flaky"))
    assert (fast["latency_ms"], steady["latency_ms"]) == (90, 400)
    assert sum(flaky["faults"].values()) == pytest.approx(0.08) and flaky["tail_ms"] > 0
    begin = time.monotonic()
    assert post(sim, "/sim-fast/v1/chat/completions").status == 200
    assert time.monotonic() - begin >= 0.090


def test_frames_can_be_made_of_one_size(sim, ctl):
    ctl.profile("p", frame_bytes=260, output_tokens=30)
    with raw(sim) as c:
        stream_body(c)
        frames = []
        while chunk := c.read_chunk():
            frames.append(chunk)
    assert {len(f) for f in frames[1:31]} == {260}


def test_streams_may_use_crlf_comments_and_usage_in_every_chunk(sim, ctl):
    ctl.profile("p", sse_crlf=True, sse_comments=True, usage_every_chunk=True, output_tokens=5)
    body = post(sim, body=chat(stream=True)).body
    assert b"\n" not in body.replace(b"\r\n", b"").replace(b": keep-alive\n\n", b"")
    assert body.count(b": keep-alive") >= 5
    usages = [json.loads(d)["usage"]["completion_tokens"] for d in data_lines(body) if d != b"[DONE]"]
    assert usages[-1] == 5 and usages == sorted(usages)


# -- the truth


def test_a_client_that_leaves_is_billed_for_what_was_generated(sim, ctl):
    ctl.profile("p", tokens_per_s=50, output_tokens=1000)
    with raw(sim) as c:
        stream_body(c)
        seen = sum(b'"content":""' not in c.read_chunk() for _ in range(6))
    r = only(eventually(lambda: [r for r in ctl.log() if r["ended"] != "open"]))
    assert r["ended"] == "client_gone" and r["prompt_tokens"] == 6
    assert seen <= r["completion_tokens"] <= seen + 3
    assert ctl.totals()["client_gone"] == 1


def test_a_client_that_leaves_before_the_answer_is_billed_nothing(sim, ctl):
    ctl.profile("p", latency_ms=5000)
    with raw(sim) as c:
        c.send(request(target=CHAT, body=json.dumps(HELLO).encode()))
        eventually(lambda: ctl.truth()["open"] == 1)
    r = only(eventually(lambda: [r for r in ctl.log() if r["ended"] != "open"]))
    assert (r["ended"], r["prompt_tokens"]) == ("client_gone", 0)


def test_a_reader_that_lags_holds_the_stream_back(sim, ctl):
    ctl.profile("p", output_tokens=1000000, chunk_tokens=1)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    s.connect(address(sim))
    s.sendall(request(target=CHAT, body=json.dumps(chat(stream=True)).encode()))
    with_data = eventually(lambda: s.recv(65536))
    assert with_data
    s.close()
    r = only(eventually(lambda: [r for r in ctl.log() if r["ended"] != "open"]))
    assert r["ended"] == "client_gone" and r["completion_tokens"] < 200000


def test_bodies_are_kept_byte_for_byte_whatever_their_framing(sim, ctl):
    ctl.options(keep_bodies=True)
    odd = b'{ "model" : "m" ,\t"messages":[{"role":"user","content":"\\u00e9\\ud83d\\ude42 \xc3\xa9"}],"x":1e400,"y":18446744073709551616}'
    big = json.dumps(chat(pad="x" * 3_000_000)).encode()
    with raw(sim) as c:
        for body in (odd, big):
            c.send(request(target=CHAT, body=body, headers=[("x-request-id", "r-1")]))
            assert c.read_response().status == 200
            c.send(request(target=CHAT, headers=[("transfer-encoding", "chunked")], body=chunked(body, 1000)))
            assert c.read_response().status == 200
        c.send_sliced(request(target=CHAT, body=odd), 7)
        assert c.read_response().status == 200
    log = ctl.settled_log()
    for r, want in zip(log, (odd, odd, big, big, odd)):
        assert (r["body_bytes"], r["body_sha256"]) == (len(want), hashlib.sha256(want).hexdigest())
        assert ctl.body(r["seq"]) == want
    assert log[0]["request_id"] == "r-1" and log[1]["request_id"] is None
    assert ctl.head(1).startswith(b"POST /p/v1/chat/completions HTTP/1.1\r\n")
    assert log[0]["completion_tokens"] == log[1]["completion_tokens"]


def test_the_oldest_bodies_make_room_and_are_gone(sim, ctl):
    ctl.options(keep_bodies=True, keep_bytes=1000)
    for _ in range(20):
        post(sim)
    assert ctl.body(20)
    with pytest.raises(SimError):
        ctl.body(1)


def test_sums_agree_with_the_log_and_the_log_with_its_file(sim, ctl):
    ctl.profile("a", faults={"429": 0.1, "cut_mid": 0.1, "reset": 0.1, "error_event": 0.1}, output_tokens=[1, 50])

    def work(n):
        for i in range(60):
            path = ["/a/v1/chat/completions", "/a/v1/embeddings", "/b/v1/messages"][i % 3]
            body = [chat(stream=i % 2 == 0), {"model": "e", "input": "x"}, dict(ASK, stream=True)][i % 3]
            try:
                post(sim, path, body, key="k%d" % n)
            except (Closed, ConnectionError):
                pass

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    log = ctl.settled_log()
    assert len(log) == 240 == ctl.posts()
    names = {"input": "prompt_tokens", "output": "completion_tokens", "bytes_sent": "bytes_sent"}
    for row in ctl.truth()["rows"]:
        mine = [r for r in log if all(r[n] == row[n] for n in ("profile", "key", "model", "operation"))]
        assert row["posts"] == len(mine)
        assert row["answered"] == sum(r["ended"] == "answered" for r in mine)
        assert sum(row["faults"].values()) == sum(r["ended"] == r["fault"] for r in mine)
        for total, member in names.items():
            assert row[total] == sum(r[member] for r in mine)
    written = [json.loads(line) for line in sim.truth_log.read_text().splitlines()]
    assert sorted(written, key=lambda r: r["seq"]) == log


def test_the_log_is_read_in_pages(sim, ctl):
    for _ in range(25):
        post(sim)
    assert [r["seq"] for r in ctl.log(page=10)] == list(range(1, 26))
    assert [r["seq"] for r in ctl.log(after=20)] == [21, 22, 23, 24, 25]


# -- strictness


BAD_REQUESTS = {
    "both framings": b"POST /p/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "two lengths": b"POST /p/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "signed length": b"POST /p/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}",
    "no length": b"POST /p/v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown coding": b"POST /p/v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"POST /p/v1/chat/completions HTTP/1.1\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    "folded": b"POST /p/v1/chat/completions HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\n{}",
    "space before colon": b"POST /p/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length : 2\r\n\r\n{}",
    "no host": b"POST /p/v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "absolute form": b"POST http://x/p/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    "chunk extension": b"POST /p/v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\n\r\n",
    "bad chunk size": b"POST /p/v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "chunk without CRLF": b"POST /p/v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n",
    "trailer": b"POST /p/v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_ambiguous_framing_is_refused_and_counted_apart(sim, ctl, name):
    with raw(sim) as c:
        c.send(BAD_REQUESTS[name])
        answer = c.read_all()
    assert answer.split(b" ")[1] in (b"400", b"411", b"501") and b"connection: close" in answer
    truth = ctl.truth()
    assert (truth["posts"], truth["malformed"]) == (0, 1)


def test_pipelined_and_sliced_requests_are_answered_in_order(sim, ctl):
    ctl.profile("p", latency_ms=5, output_tokens=50)
    bodies = [json.dumps(chat(user=str(i), max_tokens=i + 1)).encode() for i in range(20)]
    with raw(sim) as c:
        c.send(b"".join(request(target=CHAT, body=b) for b in bodies))
        got = [json.loads(c.read_response().body)["usage"]["completion_tokens"] for _ in bodies]
    assert got == list(range(1, 21))


def test_a_big_body_may_ask_first(sim):
    with raw(sim) as c:
        body = json.dumps(HELLO).encode()
        wire = request(target=CHAT, body=body, headers=[("expect", "100-continue")])
        c.send(wire[: -len(body)])
        assert c.read_head().status == 100
        c.send(body)
        assert c.read_response().status == 200


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"model":"m"}', b'{"messages":[]}', b'{"model":1,"messages":[]}', b'{"model":"m","model":"n","messages":[]}']
)
def test_bodies_that_are_no_request_are_refused_and_recorded(sim, ctl, body):
    with raw(sim) as c:
        c.send(request(target=CHAT, body=body))
        r = c.read_response()
    assert r.status == 400 and json.loads(r.body)["error"]["type"] == "invalid_request_error"
    assert only(ctl.log())["ended"] == "400"


def test_unknown_paths_are_refused_and_recorded(sim, ctl):
    assert post(sim, "/p/v1/nothing").status == 404
    assert (only(ctl.log())["operation"], only(ctl.log())["ended"]) == ("unknown", "404")
    assert post(sim, "/Not_A_Name/v1/chat/completions").status == 404
    assert ctl.posts() == 1


def test_a_profile_may_demand_its_key(sim, ctl):
    ctl.profile("p", require_key="right")
    assert post(sim, key="wrong").status == 401
    assert post(sim, key="right").status == 200
    assert [(r["key"], r["ended"]) for r in ctl.log()] == [("wrong", "401"), ("right", "answered")]


def test_headers_of_a_profile_are_sent(sim, ctl):
    shown = ctl.profile("p", headers={"x-a": "1"}, error_headers={"retry-after-ms": "120"}, script=["429", "ok"])
    assert (shown["headers"], shown["error_headers"]) == ({"x-a": "1"}, {"retry-after-ms": "120"})
    bad, good = post(sim), post(sim)
    assert (bad.header("x-a"), bad.header("retry-after-ms")) == ("1", "120")
    assert (good.header("x-a"), good.header("retry-after-ms")) == ("1", None)


@pytest.mark.parametrize(
    "members", [{"latency": 1}, {"faults": {"nonsense": 0.5}}, {"faults": {"429": 0.6, "500": 0.6}}, {"script": ["huh"]},
                {"latency_ms": -1}, {"output_tokens": [5, 1]}, {"faults": {"429": 2}}]
)
def test_a_bad_profile_is_refused_and_changes_nothing(ctl, members):
    before = ctl.profile("p", latency_ms=5, script=["429"])
    with pytest.raises(SimError):
        ctl.profile("p", **members)
    assert ctl.get_profile("p") == before


# -- staying whole


@pytest.mark.asan
def test_thousands_of_faults_leave_no_connection_and_no_descriptor(sim, ctl):
    every = ["ok", "429", "reset", "reset_after_request", "garbage", "garbage_body", "bad_json", "cut_before_first",
             "cut_mid", "reset_mid", "no_done", "error_event", "close_idle"]
    ctl.profile("p", script=every * 40)
    before = len(sim.fds())
    for i in range(len(every) * 40):
        try:
            post(sim, body=chat(stream=i % 2 == 0))
        except (Closed, ProtocolError, ConnectionError):
            pass
    eventually(lambda: ctl.truth()["connections"] == 1 and ctl.truth()["open"] == 0)
    eventually(lambda: len(sim.fds()) <= before)
    assert ctl.posts() == len(every) * 40


@pytest.mark.asan
def test_clients_that_leave_at_any_point_leave_nothing_behind(sim, ctl):
    ctl.profile("p", tokens_per_s=200, output_tokens=200, latency_ms=2)
    wire = request(target=CHAT, body=json.dumps(chat(stream=True)).encode())
    before = len(sim.fds())
    for i in range(300):
        c = raw(sim)
        c.send(wire[: len(wire) * (i % 10 + 1) // 10])
        if i % 10 == 9:
            c.sock.recv(1 + i)
        c.reset() if i % 2 else c.close()
    eventually(lambda: ctl.truth()["connections"] == 1)
    eventually(lambda: len(sim.fds()) <= before)
    truth = ctl.truth()
    assert truth["open"] == 0 and truth["posts"] == 30 and truth["incomplete"] == 270


def test_stopping_with_open_streams_closes_their_records(sim, ctl):
    ctl.profile("p", tokens_per_s=10, output_tokens=1000)
    clients = [raw(sim) for _ in range(20)]
    for c in clients:
        stream_body(c)
    sim.stop()
    written = [json.loads(line) for line in sim.truth_log.read_text().splitlines()]
    assert [r["ended"] for r in written] == ["stopped"] * 20
    for c in clients:
        c.close()


# -- the documentation and the prices


def test_the_manual_names_every_member_and_every_fault(ctl):
    manual = (ROOT / "docs/simulator.md").read_text()
    rows = re.findall(r'^SIM_FAULT\(\w+, "([^"]+)"', (ROOT / "gatewayd/sim/sim_faults.def").read_text(), re.M)
    members = set(ctl.get_profile("p")) - {"name", "posts", "gets"}
    assert len(rows) > 20 and len(members) > 20
    assert [n for n in [*rows, *members] if f"`{n}`" not in manual] == []


PRICES = """{"prices": [
 {"provider": "a", "model": "m", "input_usd_per_mtok": "0.15", "cached_usd_per_mtok": 0.075,
  "cache_write_usd_per_mtok": "0.1875", "output_usd_per_mtok": "0.6", "reasoning_usd_per_mtok": "0.7"},
 {"provider": "a", "model": "i", "image_usd": "0.04"},
 {"provider": "a", "model": "r", "input_usd_per_mtok": "0", "output_usd_per_mtok": "0", "search_usd": "0.002"}]}"""


def priced(**members):
    zero = dict.fromkeys(
        ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens", "images", "searches"), 0
    )
    return {**zero, "profile": "a", "key": "k", "model": "m", **members}


@pytest.mark.parametrize(
    "record,nano",
    [
        (priced(prompt_tokens=1), 150),
        (priced(prompt_tokens=1, cached_tokens=1), 75),
        (priced(prompt_tokens=1, cache_write_tokens=1), 188),  # 187.5
        (priced(prompt_tokens=10, cached_tokens=4, cache_write_tokens=3), 1313),  # 450 + 300 + 562.5
        (priced(completion_tokens=10, reasoning_tokens=3), 6300),
        (priced(model="i", images=2), 80_000_000),
        (priced(model="r", prompt_tokens=7, searches=1), 2_000_000),
        (priced(model="m-2025-01-02", prompt_tokens=2), 300),
        (priced(model="nowhere", prompt_tokens=1), None),
    ],
)
def test_records_are_repriced_by_hand_counted_examples(record, nano):
    sums = reprice.total([record, priced()], reprice.table(text=PRICES))
    assert (sums.all_nanousd, len(sums.unpriced)) == ((nano, 0) if nano is not None else (0, 1))


def test_a_log_is_rounded_up_once_per_attempt(sim, ctl, tmp_path):
    ctl.profile("a", cache_write_share=0.3, cached_share=0.2, script=["ok"] * 5 + ["429", "cut_mid"])
    for _ in range(7):
        try:
            post(sim, "/a/v1/chat/completions", chat(stream=True))
        except (Closed, ConnectionError):
            pass
    (tmp_path / "prices.json").write_text(PRICES)
    table = reprice.table(tmp_path / "prices.json")
    log = ctl.settled_log()
    sums = reprice.total(log, table, by=("profile", "key"))
    assert sums.nanousd == {("a", "k1"): sum(reprice.cost_nanousd(table["a", "m"], r) for r in log)}
    assert len(log) == 7 and not sums.unpriced
