# SPDX-License-Identifier: Apache-2.0
"""Streams: however the provider's bytes are split and however they end, the client gets the provider's own bytes and
the books get the right end-state."""

import json
import socket
import time

import pytest

from support.gateway import KEY, model, provider
from support.load import Load
from support.process import is_sanitized
from support.rawhttp import Closed, RawClient, dechunked, request
from support.upstream import (
    CLOSE, DONE, LAST_CHUNK, RESET, STALL, as_chunk, chunk, event, sse_head, stream_events,
)
from support.wait import eventually

WORDS = ("Grü", "ße, ", "世界 ", "🌍")


def ask(stream_options=None, text="go", chat="chat"):
    body = {"model": chat, "stream": True, "messages": [{"role": "user", "content": text}]}
    if stream_options is not None:
        body["stream_options"] = stream_options
    return request(body=json.dumps(body).encode(), key=KEY)


def lines_end(events, how):
    return [e.replace(b"\n", how) for e in events]


def one_provider(stage, script, **more):
    up = stage.upstream(script)
    gateway = stage.gateway([provider("up", up.base_url, **more)], [model("chat", "up/m", retries=0)])
    return gateway, up


def last_line(gateway, count=1):
    return gateway.logged(count)[-1]


def stream_ends(gateway):
    """{end-state: streams} as the metrics count them."""
    return {k: v for k, v in gateway.scrape().by("aigateway_streams_total", "outcome").items() if v}


# ---- splits -------------------------------------------------------------------------------------------------------
def variants():
    ordinary = [*stream_events(WORDS), DONE]
    hidden = ordinary[-2]  # the chunk with the usage, which the client did not ask for
    compact = [e.replace(b"data: ", b"data:") for e in ordinary]
    return {
        "lf": (ordinary, hidden),
        "crlf": (lines_end(ordinary, b"\r\n"), hidden.replace(b"\n", b"\r\n")),
        "cr": (lines_end(ordinary, b"\r"), hidden.replace(b"\n", b"\r")),
        "no blank behind the colon": (compact, compact[-2]),
        "comments": ([b": ping\n\n", *ordinary[:2], b": ping\n\n:\n\n", *ordinary[2:]], hidden),
        "event and id lines": ([b"id: 1\nevent: message\n" + e for e in ordinary], b"id: 1\nevent: message\n" + hidden),
        "bom": ([b"\xef\xbb\xbf" + ordinary[0], *ordinary[1:]], hidden),
    }


@pytest.mark.parametrize("name", variants())
@pytest.mark.asan
def test_stream_split_at_every_byte_arrives_whole(stage, name):
    events, hidden = variants()[name]
    whole = b"".join(events)
    wanted = whole.replace(hidden, b"")
    cuts = range(1, len(whole), 17 if is_sanitized() else 1)

    def script(r):
        at = int(r.json["messages"][0]["content"])
        if at == 0:  # every byte a piece of its own
            return sse_head() + b"".join(as_chunk(whole[i : i + 1]) for i in range(len(whole))) + LAST_CHUNK
        return sse_head() + as_chunk(whole[:at]) + as_chunk(whole[at:]) + LAST_CHUNK

    gateway, up = one_provider(stage, script)
    asked = [0, *cuts]
    results = Load(gateway.host_port, 8).run([ask(text=str(at)) for at in asked])
    for at, r in zip(asked, results):
        assert r.status == 200 and not r.trouble, (at, r)
        assert r.body == wanted, f"split at {at}: {r.body!r}"
    lines = gateway.logged(len(asked))
    assert {line["stream_end"] for line in lines} == {"complete"}
    assert {(line["usage"]["input"], line["usage"]["output"], line["usage"]["source"]) for line in lines} == {(9, 3, "reported")}


def test_usage_chunk_is_shown_to_a_client_that_asked_for_it(stage):
    events = [*stream_events(WORDS), DONE]
    gateway, up = one_provider(stage, sse_head() + as_chunk(b"".join(events)) + LAST_CHUNK)
    asked, silent = Load(gateway.host_port, 1).run([ask({"include_usage": True}), ask()])
    assert asked.body == b"".join(events)
    assert silent.body == b"".join(e for e in events if b'"usage"' not in e)
    assert [r.json["stream_options"]["include_usage"] for r in up.requests] == [True, True]


# ---- sizes --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [65536, 65537, 200_000, 3_000_000])
def test_long_lines_arrive_whole(stage, size):
    long = event(chunk({"content": "x" * size}))
    events = [*stream_events(("a",), usage=None)[:2], long, *stream_events(("b",))[2:], DONE]
    whole = b"".join(events)
    hidden = [e for e in events if b'"usage"' in e][0]
    pieces = b"".join(as_chunk(whole[i : i + 30_000]) for i in range(0, len(whole), 30_000))
    gateway, _ = one_provider(stage, sse_head() + pieces + LAST_CHUNK)
    (r,) = Load(gateway.host_port, 1).run([ask()])
    assert r.body == whole.replace(hidden, b"")
    line = last_line(gateway)
    assert (line["stream_end"], line["usage"]["output"]) == ("complete", 3)


def test_an_event_without_end_is_cut_at_the_hard_limit(stage):
    endless = [as_chunk(b"data: " + b"x" * 65000)] + [as_chunk(b"x" * 65000)] * 400
    gateway, up = one_provider(stage, [sse_head(), *endless, STALL])
    with RawClient(gateway.host_port, 20) as c:
        c.send(ask())
        head = c.read_head()
        assert head.status == 200
        with pytest.raises((Closed, TimeoutError)):
            while c.read_chunk(10):
                pass
            raise Closed(b"ended in order")
    assert last_line(gateway)["stream_end"] in ("error", "upstream_cut")
    eventually(lambda: up.requests[0].closed_at, 5)


# ---- ends ---------------------------------------------------------------------------------------------------------
def read_stream(gateway, data=None, timeout=15):
    """Bytes of the stream's body, and whether it ended in order (a last chunk)."""
    with RawClient(gateway.host_port, timeout) as c:
        c.send(data or ask())
        head = c.read_head()
        assert head.status == 200, head
        body = b""
        try:
            while piece := c.read_chunk():
                body += piece
            return body, True
        except Closed:
            return body, False


def error_events(body):
    out = []
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        data = b"".join(line[5:].strip() for line in block.split(b"\n") if line.startswith(b"data:"))
        if data.startswith(b"{") and "error" in json.loads(data):
            out.append(json.loads(data)["error"])
    return out


BEGIN = stream_events(WORDS, usage=None)[:4]  # cut before the finish reason


@pytest.mark.parametrize(
    "name,steps",
    {
        "closed between events": [sse_head(), *map(as_chunk, BEGIN), CLOSE],
        "closed inside an event": [sse_head(), *map(as_chunk, BEGIN), as_chunk(b'data: {"id"'), CLOSE],
        "closed inside a chunk": [sse_head(), *map(as_chunk, BEGIN), b"40\r\ndata: {", CLOSE],
        "reset": [sse_head(), *map(as_chunk, BEGIN), RESET],
        "closed without chunks": [sse_head(chunked_framing=False), *BEGIN, CLOSE],
        "last chunk without an end marker or finish reason": [sse_head(), *map(as_chunk, BEGIN), LAST_CHUNK],
    }.items(),
)
@pytest.mark.asan
def test_cut_stream_is_never_shown_as_complete(stage, name, steps):
    gateway, up = one_provider(stage, lambda r: steps)
    body, _ = read_stream(gateway)
    assert body.startswith(b"".join(BEGIN)[:40])
    assert b"[DONE]" not in body
    errors = error_events(body)
    assert len(errors) == 1 and errors[0]["code"] == "upstream_cut", body
    line = last_line(gateway)
    assert (line["stream_end"], line["status"], len(line["attempts"])) == ("upstream_cut", "error", 1)
    assert line["attempts"][0]["stream_end"] == "upstream_cut"
    assert line["usage"]["source"] == "estimated" and line["usage"]["output"] > 0
    assert len(up.requests) == 1, "there is no second attempt after the first byte"


@pytest.mark.parametrize(
    "framing",
    [
        lambda events: [sse_head(), *map(as_chunk, events), LAST_CHUNK],
        lambda events: [sse_head(chunked_framing=False), *events, CLOSE],
    ],
)
def test_stream_without_end_marker_but_with_its_finish_reason_is_complete_when_it_ends_in_order(stage, framing):
    events = stream_events(WORDS)  # finish reason and usage, no [DONE]
    gateway, _ = one_provider(stage, lambda r: framing(events))
    body, in_order = read_stream(gateway)
    assert in_order
    assert error_events(body) == []
    assert last_line(gateway)["stream_end"] == "complete"


@pytest.mark.parametrize(
    "bad",
    [
        event({"error": {"message": "engine on fire", "type": "server_error", "code": "boom"}}),
        b'event: error\ndata: {"error":{"message":"engine on fire","type":"server_error"}}\n\n',
        b'error: {"message":"engine on fire"}\n\n',
    ],
)
@pytest.mark.asan
def test_error_inside_a_stream_is_passed_on_and_booked_as_an_error(stage, bad):
    gateway, _ = one_provider(stage, lambda r: [sse_head(), *map(as_chunk, BEGIN), as_chunk(bad), LAST_CHUNK])
    body, _ = read_stream(gateway)
    assert b"engine on fire" in body
    line = last_line(gateway)
    assert (line["stream_end"], line["status"], line["attempts"][0]["status"]) == ("error", "error", "error")


@pytest.mark.asan
def test_silence_between_events_ends_the_stream_with_an_error_event(stage):
    gateway, up = one_provider(stage, lambda r: [sse_head(), *map(as_chunk, BEGIN), STALL], timeouts={"idle": "300ms"})
    body, _ = read_stream(gateway)
    assert error_events(body)[0]["code"] == "upstream_idle"
    assert last_line(gateway)["stream_end"] == "idle_timeout"
    eventually(lambda: up.requests[0].closed_at, 2)


def test_end_states_are_counted(stage):
    ends = {
        "complete": [sse_head(), as_chunk(b"".join([*stream_events(WORDS), DONE])), LAST_CHUNK],
        "upstream_cut": [sse_head(), *map(as_chunk, BEGIN), CLOSE],
        "idle_timeout": [sse_head(), *map(as_chunk, BEGIN), STALL],
        "error": [sse_head(), *map(as_chunk, BEGIN), as_chunk(event({"error": {"message": "x"}})), LAST_CHUNK],
    }
    gateway, _ = one_provider(stage, lambda r: ends[r.json["messages"][0]["content"]], timeouts={"idle": "300ms"})
    for name in ends:
        read_stream(gateway, ask(text=name))
    assert {line["stream_end"] for line in gateway.logged(4)} == set(ends)
    eventually(lambda: stream_ends(gateway) == {name: 1 for name in ends}, what=f"{stream_ends(gateway)}")


def test_slow_reader_pauses_the_provider(stage):
    """The provider offers 64 MiB; with a client that reads nothing, no more than the buffers' sum may be taken."""
    sent = []
    piece = as_chunk(event(chunk({"content": "x" * 60_000})))

    def script(r):
        def steps():
            yield sse_head()
            for _ in range(1100):
                yield piece
                sent.append(len(piece))
            yield as_chunk(DONE) + LAST_CHUNK

        return steps()

    gateway, up = one_provider(stage, script)
    before = gateway.rss_bytes()
    with RawClient(gateway.host_port, 30) as c:
        c.send(ask())
        assert c.read_head().status == 200
        last = -1
        while sum(sent) != last:  # until nothing moves any more
            last = sum(sent)
            eventually_still(sent)
        assert sum(sent) < 24 << 20, "the provider was not paused"
        assert gateway.rss_bytes() - before < 16 << 20
        total, last = 0, b""
        while got := c.read_chunk():
            total, last = total + len(got), got
    assert last_line(gateway)["stream_end"] == "complete", (last_line(gateway), last[-300:])
    assert last.endswith(DONE) and total > 60_000 * 1100


def test_reader_that_never_quite_catches_up_loses_nothing_and_costs_no_memory(stage):
    events = [event(chunk({"content": f"{i:06d}" + "x" * 60_000})) for i in range(1100)]
    gateway, _ = one_provider(stage, lambda r: [sse_head(), *map(as_chunk, events), as_chunk(DONE), LAST_CHUNK])
    before, most, raw = gateway.rss_bytes(), 0, bytearray()
    with RawClient(gateway.host_port, 30) as c:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        c.send(ask())
        assert c.read_head().status == 200
        while not raw.endswith(LAST_CHUNK):
            raw += c.sock.recv(32768)
            time.sleep(0.0002)  # slower than the provider, so that something is always waiting in the gateway
            most = max(most, gateway.rss_bytes()) if len(raw) % 16 == 0 else most
    assert dechunked(c.buffer + bytes(raw)) == b"".join(events) + DONE
    assert last_line(gateway)["stream_end"] == "complete"
    assert most - before < 6 << 20, f"{(most - before) >> 10} KiB more"


def eventually_still(sent, quiet=0.5):
    """Returns once `sent` has not grown for that long."""
    since, size = time.monotonic(), len(sent)
    while time.monotonic() - since < quiet:
        if len(sent) != size:
            since, size = time.monotonic(), len(sent)
        time.sleep(0.05)
