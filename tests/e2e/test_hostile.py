# SPDX-License-Identifier: Apache-2.0
"""Clients and providers that mean harm, or are broken in ways that look like it."""

import contextlib
import json
import resource
import signal
import socket
import time
from pathlib import Path

import pytest

from support.gateway import KEY, model, provider
from support.rawhttp import RawClient, request
from support.upstream import CLOSE, DONE, STALL, Gate, as_chunk, chunk, event, head, sse_head, stream_events
from support.wait import eventually

pytestmark = pytest.mark.asan


def chat_body(stream=False, **more):
    return json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x"}], "stream": stream, **more}).encode()


def gateway_to(stage, upstream, **more):
    p = provider("p", upstream.base_url, **more.pop("provider", {}))
    return stage.gateway([p], [model("chat", "p/m", retries=more.pop("retries", 0))], **more)


def ask(body, **more):
    return request(body=body, key=KEY, **more)


# ---- stopping -----------------------------------------------------------------------------------------------------
def test_a_second_sigterm_reaches_a_worker_that_has_already_stopped(stage):
    gate = Gate()
    up = stage.upstream(lambda r: [sse_head(), as_chunk(event(chunk({"content": "a"}))), gate, STALL])
    g = gateway_to(stage, up, workers=4)
    with RawClient(g.host_port) as c:
        c.send(ask(chat_body(True)))
        assert c.read_head().status == 200
        assert c.read_chunk()
        g.signal(signal.SIGTERM)
        eventually(lambda: "drain" in g.stderr(), what="draining")
        eventually(lambda: len([t for t in threads(g) if t.startswith("worker-")]) == 1, what="idle workers have stopped")
        g.signal(signal.SIGTERM)
        assert g.wait(10) == 0
        assert b"error" in c.read_all()


def threads(g):
    names = []
    for t in Path(f"/proc/{g.pid}/task").iterdir():
        try:
            names.append((t / "comm").read_text().strip())
        except OSError:
            pass
    return names



def test_what_is_open_when_the_grace_is_over_ends_with_the_process(stage):
    g = gateway_to(stage, stage.upstream())
    with RawClient(g.host_port) as c:
        c.send(ask(b"5;", headers=[("Transfer-Encoding", "chunked")]) + b"x" * 20000)
        eventually(lambda: g.metric("gatewayd_connections") >= 2, what="the connection is open")
        g.signal(signal.SIGTERM)
        eventually(lambda: "drain" in g.stderr(), what="draining")
        g.signal(signal.SIGTERM)
        assert g.wait(15) == 0


# ---- clients ------------------------------------------------------------------------------------------------------
def test_an_endless_chunk_line_does_not_keep_the_loop_busy(stage):
    g = gateway_to(stage, stage.upstream(), workers=1, drain_timeout="1s")
    with RawClient(g.host_port) as c:
        c.send(ask(b"5;", headers=[("Transfer-Encoding", "chunked")]) + b"x" * 20000)
        before, begun = g.metric("gatewayd_loop_turns_total"), time.monotonic()
        eventually(lambda: time.monotonic() - begun > 1, 5)
        turns = (g.metric("gatewayd_loop_turns_total") - before) / (time.monotonic() - begun)
        assert turns < 3000
        assert g.chat().status == 200


def test_a_client_that_left_inside_a_chunk_line_is_forgotten_at_its_deadline(stage):
    g = gateway_to(stage, stage.upstream(), workers=1, http={"body_timeout": "1s"})
    for _ in range(20):
        with RawClient(g.host_port) as c:
            c.send(ask(b"5;", headers=[("Transfer-Encoding", "chunked")]) + b"x" * 20000)
    eventually(lambda: g.metric("gatewayd_connections") == 1, 15, what="only the one that asks is open")
    g.signal(signal.SIGTERM)
    assert g.wait(15) == 0


@contextlib.contextmanager
def no_files_left(g):
    """More clients than the gateway may have files."""
    resource.prlimit(g.pid, resource.RLIMIT_NOFILE, (128, 128))
    with contextlib.ExitStack() as clients:
        for _ in range(300):
            clients.enter_context(socket.create_connection(g.host_port, 10))
        eventually(lambda: len(g.fds()) == 128, what="all files are in use")
        yield


def test_clients_are_served_again_once_there_are_files(stage):
    g = gateway_to(stage, stage.upstream())
    for _ in range(2):
        with no_files_left(g):
            pass
        for _ in range(8):  # both workers get some
            assert g.chat(timeout=10).status == 200


def test_a_client_that_cannot_be_accepted_does_not_keep_a_thread_busy(stage):
    g = gateway_to(stage, stage.upstream())
    host, port = g.ready["admin"].rsplit(":", 1)
    with no_files_left(g), RawClient((host, int(port))) as waiting:
        waiting.send(request("GET", "/healthz"))
        begun, used = time.monotonic(), g.cpu_seconds()
        eventually(lambda: time.monotonic() - begun > 1, 5)
        assert g.cpu_seconds() - used < 0.5 * (time.monotonic() - begun)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_request_of_any_header_size_gets_an_answer(stage, is_stream):
    """The header of the answer comes out of the memory that the request's header fills."""
    up = stage.upstream(lambda r: [sse_head(), as_chunk(b"".join(stream_events()) + DONE) + b"0\r\n\r\n"])
    g = gateway_to(stage, up)
    statuses = []
    for size in [*range(4000, 7500, 97), *range(7700, 12000, 97)]:
        with RawClient(g.host_port) as c:
            c.send(ask(chat_body(is_stream), headers=[("X-Filler", "a" * size)]))
            statuses.append(c.read_response().status)
    assert statuses == [200] * statuses.count(200) + [431] * statuses.count(431)
    assert statuses[:10] == [200] * 10 and 431 in statuses


def test_a_client_that_said_goodbye_and_reads_nothing_is_let_go(stage):
    def script(r):
        yield sse_head()
        while True:
            yield as_chunk(event(chunk({"content": "x" * 4000})))

    up = stage.upstream(script)
    g = gateway_to(stage, up)
    with RawClient(g.host_port) as c:
        c.send(ask(chat_body(True)))
        assert c.read_head().status == 200
        c.half_close()
        assert g.logged(1)[0]["stream_end"] == "client_abort"
        eventually(lambda: g.metric("gatewayd_connections") == 1, what="the connection is closed")
        eventually(lambda: not up.live, what="the provider's connection is closed")


def test_names_that_act_on_a_terminal_reach_no_log(stage):
    g = gateway_to(stage, stage.upstream())
    for name in ["\x1b[2J", "p/\x1b]0;x\x07", "p/\u009b31m", "p/a\u202eb", "p/\u2028", "\x7f", "p/\u2066x"]:
        for is_ascii in (True, False):
            body = json.dumps({"model": name, "messages": []}, ensure_ascii=is_ascii).encode()
            assert g.post("/v1/chat/completions", body).status in (200, 400, 404)
    g.logged(14)
    text = g.access_log_file.read_bytes().decode() + g.stderr()
    assert not [c for c in text if (c < " " and c != "\n") or "\x7f" <= c <= "\x9f" or c in "\u2028\u2029\u202e\u2066"]


# ---- providers ----------------------------------------------------------------------------------------------------
def test_a_large_answer_that_is_cut_ends_with_its_connection(stage):
    body = b'{"id":"x","p":"' + b"y" * (3 << 20)
    up = stage.upstream([head(200, [("Content-Type", "application/json"), ("Content-Length", len(body) + 100)]) + body, CLOSE])
    g = gateway_to(stage, up)
    with RawClient(g.host_port) as c:
        c.send(ask(chat_body()))
        got = c.read_all(20)
    assert b"x-gatewayd-provider" in got.lower() and not got.endswith(b"0\r\n\r\n")
    assert g.logged(1)[0]["error"] == "upstream_cut"


def endless(first, piece):
    def script(r):
        yield first
        while True:
            yield piece

    return script


def test_an_endless_error_answer_is_left_early(stage):
    start = head(500, [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")], "No")
    up = stage.upstream(endless(start, as_chunk(b" " * 60000)))
    g = gateway_to(stage, up)
    answer = g.chat()
    assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_error")
    eventually(lambda: not up.live, what="the provider's connection is closed")


def test_an_endless_stream_behind_its_end_marker_is_left_early(stage):
    start = sse_head() + as_chunk(b"".join(stream_events()) + DONE)
    up = stage.upstream(endless(start, as_chunk(event(b"z" * 60000))))
    g = gateway_to(stage, up)
    with RawClient(g.host_port) as c:
        c.send(ask(chat_body(True)))
        answer = c.read_response()
    assert answer.framing == "chunked" and len(answer.body) < 4 << 20
    assert g.logged(1)[0]["stream_end"] == "complete"
    eventually(lambda: not up.live, what="the provider's connection is closed")
