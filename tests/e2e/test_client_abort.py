# SPDX-License-Identifier: Apache-2.0
"""A client that goes away: the provider is told within a second, the request is settled once with what it used, and
nothing is left behind however often it happens."""

import collections
import json
import time

import pytest

from support.gateway import KEY, model, provider
from support.process import is_sanitized
from support.rawhttp import RawClient, request
from support.upstream import STALL, Gate, Pause, as_chunk, chunk, event, head, sse_head
from support.wait import eventually

PARTIAL = [as_chunk(event(chunk({"role": "assistant", "content": ""})))] + [
    as_chunk(event(chunk({"content": "word "}))) for _ in range(20)
]


def ask(stream=True):
    body = {"model": "chat", "stream": stream, "messages": [{"role": "user", "content": "a rather short prompt"}]}
    return request(body=json.dumps(body).encode(), key=KEY)


def one_provider(stage, script, **more):
    up = stage.upstream(script)
    gateway = stage.gateway([provider("openai", up.base_url, **more)], [model("chat", "openai/gpt-4o-mini", retries=2)])
    return gateway, up


def begin(gateway):
    """A client in the middle of its stream."""
    c = RawClient(gateway.host_port)
    c.send(ask())
    assert c.read_head().status == 200
    got = b""
    while got.count(b"word ") < 20:
        got += c.read_chunk()
    return c


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("then", [[STALL], [Pause(0.05), *PARTIAL] * 200], ids=["silent provider", "talking provider"])
@pytest.mark.asan
@pytest.mark.tsan
def test_client_gone_mid_stream_closes_the_provider_within_a_second(stage, how, then):
    gateway, up = one_provider(stage, lambda r: [sse_head(), *PARTIAL, *then])
    c = begin(gateway)
    left = time.monotonic()
    c.close() if how == "close" else c.reset()
    gone = eventually(lambda: up.requests[0].closed_at, 5)
    assert gone - left <= 1.0, f"the provider was told after {gone - left:.3f} s"
    (line,) = gateway.logged(1)
    assert (line["stream_end"], line["status"], line["http_status"]) == ("client_abort", "cancelled", 499)
    assert line["error"] == "client_closed_request"
    (attempt,) = line["attempts"]
    assert (attempt["stream_end"], attempt["status"]) == ("client_abort", "cancelled")
    assert len(up.requests) == 1, "an aborted request is not tried again"


@pytest.mark.asan
def test_partial_usage_of_an_aborted_stream_is_booked_and_priced(stage):
    gateway, up = one_provider(stage, lambda r: [sse_head(), *PARTIAL, STALL])
    begin(gateway).close()
    (line,) = gateway.logged(1)
    usage = line["usage"]
    assert usage["source"] == "estimated"
    assert usage["input"] > 0 and 10 <= usage["output"] <= 60, usage
    assert line["priced"] and line["cost_nanousd"] > 0
    eventually(lambda: gateway.metric("aigateway_streams_total", outcome="client_abort") == 1)
    assert gateway.metric("tokens_used_total") == usage["input"] + usage["output"]


@pytest.mark.asan
def test_client_gone_before_the_first_byte_closes_the_provider_too(stage):
    for stream, steps in ((True, STALL), (False, STALL), (False, [head(200, [("Content-Length", 100)]), b"{", STALL])):
        up = stage.upstream(lambda r: steps)
        gateway = stage.gateway([provider("up", up.base_url)], [model("chat", "up/m")])
        c = RawClient(gateway.host_port)
        c.send(ask(stream))
        eventually(lambda: up.requests)
        left = time.monotonic()
        c.close()
        gone = eventually(lambda: up.requests[0].closed_at, 5)
        assert gone - left <= 1.0
        (line,) = gateway.logged(1)
        assert (line["status"], line["http_status"], len(line["attempts"])) == ("cancelled", 499, 1)


def test_client_gone_while_its_body_arrives_is_no_request_to_a_provider(stage):
    up = stage.upstream(STALL)
    # A FIN that comes together with the last bytes may go unseen by libmicrohttpd: the body's deadline ends it then.
    gateway = stage.gateway([provider("up", up.base_url)], [model("chat", "up/m")], http={"body_timeout": "1s"})
    with RawClient(gateway.host_port) as c:
        c.send(ask()[:-10])
    assert gateway.get("/healthz").status == 200
    c = RawClient(gateway.host_port)
    c.send(ask()[:-10])
    c.reset()
    eventually(lambda: gateway.metric("gatewayd_connections") <= 1)
    assert not up.requests


def test_provider_that_bills_anyway_is_read_to_its_usage(stage):
    """drain_on_abort: the client is gone, the gateway reads on to learn the true usage."""
    last = [as_chunk(event(chunk({}, finish="stop"))), as_chunk(event(chunk(usage=(11, 222)))), as_chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"]
    gateway, up = one_provider(stage, lambda r: [sse_head(), *PARTIAL, Pause(0.3), *PARTIAL, *last], drain_on_abort=True)
    begin(gateway).close()
    (line,) = gateway.logged(1)
    assert line["stream_end"] == "client_abort"
    assert (line["usage"]["input"], line["usage"]["output"], line["usage"]["source"]) == (11, 222, "reported")


def test_who_leaves_a_whole_answer_before_its_usage_pays_what_it_cost(stage):
    gone = Gate()
    last = [as_chunk(event(chunk(usage=(11, 5000)))), as_chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"]
    gateway, up = one_provider(stage, lambda r: [sse_head(), *PARTIAL, as_chunk(event(chunk({}, finish="stop"))), gone, Pause(0.1), *last])
    c = RawClient(gateway.host_port)
    c.send(ask())
    assert c.read_head().status == 200
    got = b""
    while b'"stop"' not in got:
        got += c.read_chunk()
    c.close()
    gone.event.set()
    (line,) = gateway.logged(1)
    assert line["stream_end"] == "client_abort"
    assert (line["usage"]["output"], line["usage"]["source"]) == (5000, "reported"), "hidden reasoning is in it"


@pytest.mark.asan
def test_a_thousand_aborts_leak_nothing(stage):
    count, first = 1000, 250
    gateway, up = one_provider(stage, lambda r: [sse_head(), *PARTIAL, STALL])

    def abort_some(n):
        for i in range(n):
            c = begin(gateway)
            c.close() if i % 2 else c.reset()

    def settled():
        return (gateway.metric("aigateway_active_streams"), gateway.metric("gatewayd_connections")) == (0, 1)

    abort_some(first)  # pools fill, the writers have had their batches
    eventually(settled, 10)
    fds, rss = gateway.metric("process_open_fds"), gateway.rss_bytes()
    abort_some(count)
    eventually(settled, 10)
    eventually(lambda: gateway.metric("process_open_fds") <= fds + 2, 5, what=f"descriptors, {fds} before")
    lines = gateway.logged(count + first)
    assert len(lines) == count + first
    assert len({line["id"] for line in lines}) == count + first, "settled more than once"
    assert collections.Counter(line["stream_end"] for line in lines) == {"client_abort": count + first}
    eventually(lambda: all(r.closed_at for r in up.requests), 5)
    assert len(up.requests) == count + first
    if not is_sanitized():
        grown = gateway.rss_bytes() - rss
        assert grown < 4 << 20, f"{grown >> 10} KiB more after {count} aborts"
