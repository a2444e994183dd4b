# SPDX-License-Identifier: Apache-2.0
"""Requests that are too large, too slow, too deep or in the wrong wrapping are refused early, clearly and cheaply."""

import json
import time

import pytest

from support.gateway import KEY, model, provider, sha256
from support.process import SLOWNESS, is_sanitized
from support.rawhttp import Closed, RawClient, chunked, request
from support.wait import eventually

GOOD = b'{"model":"chat","messages":[{"role":"user","content":"hi"}]}'


def start(stage, **http):
    up = stage.upstream()
    gateway = stage.gateway([provider("up", up.base_url)], [model("chat", "up/m")], http=http)
    return gateway, up


def code(answer):
    return (answer.status, json.loads(answer.body)["error"]["code"])


def send(gateway, data, timeout=20):
    with RawClient(gateway.host_port, timeout) as c:
        c.send(data)
        return c.read_response()


@pytest.mark.asan
def test_body_above_the_limit_is_413_before_it_is_read(stage):
    gateway, up = start(stage, max_body="64KiB")
    head = request(headers=[("Content-Length", str(50 << 20)), ("Content-Type", "application/json")], key=KEY)
    with RawClient(gateway.host_port) as c:
        c.send(head)  # not one byte of the body is sent
        assert code(c.read_response()) == (413, "body_too_large")
        assert c.is_closed(2)
    exact = b'{"model":"chat","messages":[],"x":"' + b"a" * (65536 - 37) + b'"}'
    assert len(exact) == 65536
    assert send(gateway, request(body=exact, key=KEY)).status == 200
    assert code(send(gateway, request(body=exact + b" ", key=KEY))) == (413, "body_too_large")
    assert len(up.requests) == 1


CHUNKED = [("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")]


@pytest.mark.asan
def test_chunked_body_is_counted_as_it_comes(stage):
    gateway, up = start(stage, max_body="64KiB")
    body = chunked(b" " * (100 << 10) + GOOD, 8192)
    assert code(send(gateway, request(headers=CHUNKED, body=body, key=KEY))) == (413, "body_too_large")
    assert not up.requests


def test_endless_body_costs_no_memory_and_is_cut_at_its_deadline(stage):
    gateway, up = start(stage, max_body="64KiB", body_timeout="1s")
    before, most, sent, began = gateway.rss_bytes(), 0, 0, time.monotonic()
    with RawClient(gateway.host_port) as c:
        c.send(request(headers=CHUNKED, key=KEY))
        try:
            while time.monotonic() - began < 10 * SLOWNESS:
                c.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                sent += 0x10000
                most = max(most, gateway.rss_bytes()) if sent % (1 << 20) == 0 else most
            raise AssertionError("it was never cut")
        except OSError:
            pass
    assert most - before < 4 << 20
    assert not up.requests
    assert gateway.chat().status == 200


@pytest.mark.parametrize("refused_for", ["key", "size", "encoding"])
def test_refusal_comes_before_100_continue(stage, refused_for):
    gateway, up = start(stage, max_body="1MiB")
    length = str((50 << 20) if refused_for == "size" else 1000)
    coding = "gzip" if refused_for == "encoding" else "identity"
    key = "sk-wrong-0123456789abcdef" if refused_for == "key" else KEY
    head = request(headers=[("Content-Length", length), ("Content-Encoding", coding), ("Expect", "100-continue")], key=key)
    with RawClient(gateway.host_port) as c:
        c.send(head)
        first = c.read_head()
        assert first.status == {"key": 401, "size": 413, "encoding": 415}[refused_for], first
        c.read_body(first, "POST", c.deadline())
        assert c.is_closed(2)
    assert not up.requests


def test_100_continue_comes_when_the_head_is_fine(stage):
    gateway, up = start(stage)
    with RawClient(gateway.host_port) as c:
        c.send(request(headers=[("Content-Length", str(len(GOOD))), ("Content-Type", "application/json"), ("Expect", "100-continue")], key=KEY))
        assert c.read_head().status == 100
        c.send(GOOD)
        assert c.read_response().status == 200


def test_big_upload_with_a_bad_key_is_refused_without_reading_it(stage):
    gateway, _ = start(stage)
    before = gateway.metric("http_requests_total")
    sent = 0
    with RawClient(gateway.host_port) as c:
        c.send(request(headers=[("Content-Length", str(30 << 20)), ("Content-Type", "application/json")], key="sk-wrong-0123456789"))
        c.sock.settimeout(1)
        try:
            while sent < 30 << 20:
                sent += c.sock.send(b"x" * 65536)
        except OSError:
            pass
    assert sent < 8 << 20, "it was read all the same"
    eventually(lambda: gateway.metric("http_requests_total") >= before + 1)


@pytest.mark.asan
@pytest.mark.parametrize(
    "body,wanted",
    {
        "empty": (b"", (400, "bad_body")),
        "not JSON": (b"hello", (400, "bad_body")),
        "an array": (b"[]", (400, "bad_body")),
        "cut": (GOOD[:-1], (400, "bad_body")),
        "something behind": (GOOD + b"x", (400, "bad_body")),
        "two documents": (GOOD + GOOD, (400, "bad_body")),
        "bad UTF-8": (GOOD.replace(b"hi", b"\xff\xfe"), (400, "bad_body")),
        "overlong UTF-8": (GOOD.replace(b"hi", b"\xc0\xaf"), (400, "bad_body")),
        "raw control byte": (GOOD.replace(b"hi", b"a\nb"), (400, "bad_body")),
        "bad escape": (GOOD.replace(b"hi", b"\\x41"), (400, "bad_body")),
        "leading zero": (GOOD.replace(b'"hi"', b"01"), (400, "bad_body")),
        "NaN": (GOOD.replace(b'"hi"', b"NaN"), (400, "bad_body")),
        "comment": (GOOD.replace(b'{"model"', b'{/**/"model"'), (400, "bad_body")),
        "trailing comma": (GOOD[:-1] + b",}", (400, "bad_body")),
        "BOM": (b"\xef\xbb\xbf" + GOOD, (400, "bad_body")),
        "duplicate model": (b'{"model":"cheap","model":"chat","messages":[]}', (400, "bad_body")),
        "duplicate model in another spelling": (b'{"model":"cheap","mod\\u0065l":"chat","messages":[]}', (400, "bad_body")),
        "duplicate stream": (GOOD[:-1] + b',"stream":false,"stream":true}', (400, "bad_body")),
        "duplicate of no interest": (GOOD[:-1] + b',"x":1,"x":2}', (400, "bad_body")),
        "too deep": (GOOD[:-1] + b',"x":' + b"[" * 65 + b"]" * 65 + b"}", (400, "bad_body")),
        "a million deep": (GOOD[:-1] + b',"x":' + b"[" * 1_000_000 + b"}", (400, "bad_body")),
        "too many values": (GOOD[:-1] + b',"x":[' + b"0," * 200_001 + b"0]}", (400, "bad_body")),
        "ten megabytes of objects": (GOOD[:-1] + b',"x":[' + b"{}," * 3_400_000 + b"0]}", (400, "bad_body")),
        "a long key": (GOOD[:-1] + b',"' + b"k" * 300 + b'":1}', (400, "bad_body")),
        "no model": (b'{"messages":[]}', (400, "missing_field")),
        "model of another type": (b'{"model":7,"messages":[]}', (400, None)),
        "empty model": (b'{"model":"","messages":[]}', (None, None)),
        "long model": (b'{"model":"' + b"m" * 300 + b'","messages":[]}', (None, None)),
        "stream of another type": (GOOD[:-1] + b',"stream":"yes"}', (400, None)),
        "stream_options of another type": (GOOD[:-1] + b',"stream":true,"stream_options":[]}', (400, None)),
    }.values(),
)
def test_unacceptable_body_is_refused_with_a_clear_error(limits, body, wanted):
    gateway, up = limits
    before = len(up.requests)
    answer = send(gateway, request(body=body, key=KEY), 30)
    assert 400 <= answer.status < 500, answer
    got = code(answer)
    assert wanted[0] in (None, got[0]) and wanted[1] in (None, got[1]), got
    message = json.loads(answer.body)["error"]["message"]
    assert len(message) > 10 and len(message) < 600
    assert len(up.requests) == before


@pytest.fixture(scope="module")
def limits(module_stage):
    return start(module_stage)


def test_a_value_as_deep_and_as_many_as_allowed_passes(limits):
    gateway, _ = limits
    deep = GOOD[:-1] + b',"x":' + b"[" * 60 + b"]" * 60 + b"}"
    many = GOOD[:-1] + b',"x":[' + b"0," * 190_000 + b"0]}"
    for body in (deep, many):
        assert send(gateway, request(body=body, key=KEY)).status == 200


@pytest.mark.parametrize(
    "headers,status",
    [
        ([("Content-Type", "application/x-www-form-urlencoded")], 200),  # what `curl -d` says of any body
        ([("Content-Type", "application/json"), ("Content-Encoding", "gzip")], 415),
        ([("Content-Type", "application/json"), ("Content-Encoding", "br")], 415),
        ([("Content-Type", "application/json; charset=utf-8")], 200),
        ([("Content-Type", "APPLICATION/JSON")], 200),
        ([("Content-Type", "application/json"), ("Expect", "nonsense")], 417),
    ],
)
def test_wrapping_that_is_not_offered_is_refused(limits, headers, status):
    gateway, _ = limits
    answer = send(gateway, request(headers=[*headers, ("Content-Length", str(len(GOOD)))], body=GOOD, key=KEY))
    assert answer.status == status, answer


@pytest.mark.parametrize(
    "method,path,status",
    [
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/V1/MODELS", 404),
        ("GET", "/v1/models?limit=1", 200),
        ("HEAD", "/v1/models", 200),
        ("HEAD", "/healthz", 200),
    ],
)
def test_methods_and_paths(limits, method, path, status):
    gateway, _ = limits
    with RawClient(gateway.host_port) as c:
        c.send(request(method, path, [("Content-Length", "0")] if method in ("PUT", "DELETE") else [], key=KEY))
        answer = c.read_response(method)
        assert answer.status == status, answer
        if status == 405:
            assert answer.header("allow") == ("POST" if "chat" in path else "GET")
        if method == "HEAD":
            assert answer.body == b"" and int(answer.header("content-length")) > 0
            c.send(request("GET", "/healthz"))
            assert c.read_response("GET").status == 200, "a HEAD left bytes of a body behind"


def test_header_above_the_limit_is_431(limits):
    gateway, _ = limits
    with RawClient(gateway.host_port) as c:
        c.send(request(headers=[("X-Long", "a" * 40_000)], body=GOOD, key=KEY))
        answer = c.read_response()
        assert answer.status == 431
        assert c.is_closed(2)


def test_http_1_0_gets_an_answer_that_it_understands(limits):
    gateway, _ = limits
    with RawClient(gateway.host_port) as c:
        c.send(request(version="HTTP/1.0", body=GOOD, key=KEY))
        answer = c.read_response()
        assert answer.status == 200 and answer.framing in ("length", "close")
        assert c.is_closed(2)


# ---- slow clients -------------------------------------------------------------------------------------------------
def test_slow_header_is_cut_at_its_deadline(stage):
    gateway, _ = start(stage, header_timeout="1s")
    data = request(body=GOOD, key=KEY)
    with RawClient(gateway.host_port) as c:
        began = time.monotonic()
        try:
            for i in range(100):  # a byte now and then keeps an idle timeout from firing, but not a deadline
                c.send(data[i : i + 1])
                time.sleep(0.05)
                if c.is_closed(0.01) or c.buffer:
                    break
        except OSError:
            pass
        assert time.monotonic() - began < 3 * SLOWNESS
        assert c.is_closed(2) or b" 408 " in c.buffer


def test_slow_body_is_cut_at_its_deadline(stage):
    gateway, up = start(stage, body_timeout="1s")
    data = request(body=GOOD, key=KEY)
    with RawClient(gateway.host_port) as c:
        began = time.monotonic()
        c.send(data[:-40])
        try:
            for i in range(40):
                c.send(data[-40 + i : len(data) - 39 + i])
                time.sleep(0.1)
                if c.is_closed(0.01) or c.buffer:
                    break
        except OSError:
            pass
        assert time.monotonic() - began < 3.5 * SLOWNESS
        assert c.is_closed(2) or b" 408 " in c.buffer
    assert not up.requests


def test_slow_clients_do_not_hold_up_a_quick_one(stage):
    gateway, _ = start(stage, header_timeout="30s")
    slow = [RawClient(gateway.host_port) for _ in range(100 if is_sanitized() else 500)]
    try:
        for c in slow:
            c.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-A: ")
        took = []
        for _ in range(20):
            began = time.monotonic()
            assert gateway.chat().status == 200
            took.append(time.monotonic() - began)
        assert sorted(took)[10] < 0.5 * SLOWNESS
    finally:
        for c in slow:
            c.close()


def test_idle_connection_is_closed_after_its_keepalive(stage):
    gateway, _ = start(stage, keepalive="500ms")
    with RawClient(gateway.host_port) as c:
        c.send(request(body=GOOD, key=KEY))
        assert c.read_response().status == 200
        assert c.is_closed(5)


def test_connections_above_the_limit_are_turned_away_and_room_comes_back(stage):
    up = stage.upstream()
    gateway = stage.gateway([provider("up", up.base_url)], [model("chat", "up/m")], http={"max_connections": 20}, workers=1)
    held = [RawClient(gateway.host_port) for _ in range(25)]  # the bound is each worker's share, rounded up
    eventually(lambda: turned_away(gateway), 5)
    for c in held:
        c.close()
    eventually(lambda: gateway.chat().status == 200, 5)
    assert gateway.metric("gatewayd_connections_refused_total") >= 1


def turned_away(gateway):
    try:
        with RawClient(gateway.host_port, 2) as c:
            c.send(request(body=GOOD, key=KEY))
            return c.read_response().status == 503
    except (Closed, OSError):
        return True


# ---- keys ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Basic " + KEY)],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer  ")],
        [("Authorization", f"Bearer {KEY} x")],
        [("Authorization", f"Bearer {KEY}\x01")],
        [("Authorization", "Bearer " + "k" * 4000)],
        [("Authorization", f"Bearer {sha256(KEY)}")],
        [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")],
    ],
)
def test_odd_credentials_are_no_credentials(limits, headers):
    gateway, up = limits
    before = len(up.requests)
    answer = send(gateway, request(headers=headers, body=GOOD))
    assert answer.status in (400, 401), answer
    assert len(up.requests) == before


def test_key_may_come_as_anthropic_clients_send_it(limits):
    gateway, _ = limits
    answer = send(gateway, request(headers=[("x-api-key", KEY)], body=GOOD))
    assert answer.status == 200, answer


def test_chunked_request_may_be_as_large_as_the_limit(stage):
    gateway, up = start(stage, max_body="64KiB")
    exact = b'{"model":"chat","messages":[],"x":"' + b"a" * (65536 - 37) + b'"}'
    framed = request(headers=[("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")], body=chunked(exact, 999), key=KEY)
    assert send(gateway, framed).status == 200
