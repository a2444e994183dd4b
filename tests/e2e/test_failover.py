# SPDX-License-Identifier: Apache-2.0
"""A target that fails before the first byte costs the client nothing but time; after it, the client is told the truth.
Every attempt is on record, and there are exactly as many as the providers saw."""

import collections
import json
import socket
import ssl
import subprocess
import threading

import pytest

from support.gateway import KEY, model, provider
from support.load import Load
from support.process import is_sanitized
from support.rawhttp import request
from support.upstream import (
    CLOSE, DONE, LAST_CHUNK, RESET, STALL, as_chunk, chat_completion, error_answer, head, json_answer, sse_head, stream_events,
)
from support.wait import eventually
from test_sse import error_events, read_stream

GOOD = json_answer(chat_completion("from the second"))
GOOD_STREAM = sse_head() + b"".join(as_chunk(e) for e in [*stream_events(("from the second",)), DONE]) + LAST_CHUNK


def good(r):
    return GOOD_STREAM if r.json.get("stream") else GOOD


def chat_request(stream=False, chat="chat"):
    body = {"model": chat, "messages": [{"role": "user", "content": "go"}], **({"stream": True} if stream else {})}
    return request(body=json.dumps(body).encode(), key=KEY)


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


# What the first target does, the code that its attempt is booked with, and what the books know of its status.
FAILURES = {
    "429": (error_answer(429, "slow down", "rate_limit_error"), "upstream_rate_limit", 429),
    "429 with a long retry-after": (error_answer(429, "slow down", headers=[("Retry-After", 3600)]), "upstream_rate_limit", 429),
    "500": (error_answer(500), "upstream_error", 500),
    "502": (error_answer(502), "upstream_error", 502),
    "503": (error_answer(503), "upstream_overloaded", 503),
    "529": (error_answer(529, "overloaded", "overloaded_error"), "upstream_overloaded", 529),
    "401": (error_answer(401, "bad key"), "upstream_auth", 401),
    "timeout": (STALL, "upstream_timeout", None),
    "head, then silence": ([head(200, [("Content-Type", "application/json"), ("Content-Length", 500)]), STALL], "upstream_timeout", 200),
    "reset": (RESET, "upstream_reset", None),
    "closed": (CLOSE, "upstream_reset", None),
    "cut inside the head": ([b"HTTP/1.1 200 OK\r\nContent-T", CLOSE], None, None),
    "cut before the first byte of the body": ([head(200, [("Content-Type", "application/json"), ("Content-Length", 500)]), CLOSE], "upstream_cut", 200),
    "cut inside a short body": ([json_answer(chat_completion())[:-20], CLOSE], "upstream_cut", 200),
    "not HTTP": ([b"SSH-2.0-OpenSSH_9.2\r\n", CLOSE], None, None),
    "not JSON": (json_answer(b"<html>not what you asked for</html>"), "upstream_garbage", 200),
}


def pair(stage, script, **first):
    a, b = stage.upstream(script), stage.upstream(good)
    quick = {"timeouts": {"first_byte": "400ms", "connect": "2s"}}
    gateway = stage.gateway(
        [provider("first", a.base_url, **{**quick, **first}), provider("second", b.base_url)],
        [model("chat", "first/m1", "second/m2", retries=3)],
    )
    return gateway, a, b


def check_clean_answer(r, stream):
    assert r.status == 200, r
    assert r.headers["x-gatewayd-provider"] == "second"
    if stream:
        assert r.body.endswith(b"data: [DONE]\n\n") and error_events(r.body) == []
    else:
        assert json.loads(r.body)["choices"][0]["message"]["content"] == "from the second"


@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])
@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.asan
def test_first_target_fails_and_the_client_gets_one_clean_answer_from_the_next(stage, name, stream):
    script, code, status = FAILURES[name]
    gateway, a, b = pair(stage, lambda r: script)
    (r,) = Load(gateway.host_port, 1).run([chat_request(stream)])
    check_clean_answer(r, stream)
    (line,) = gateway.logged(1)
    attempts = line["attempts"]
    assert int(r.headers["x-gatewayd-attempts"]) == len(attempts) == len(a.requests) + len(b.requests)
    assert [x["provider"] for x in attempts] == ["first"] * len(a.requests) + ["second"]
    assert len(b.requests) == 1
    assert (line["status"], line["http_status"], attempts[-1]["status"]) == ("success", 200, "success")
    for failed in attempts[:-1]:
        assert failed["status"] == "error" and failed["error"].startswith("upstream_")
        assert code is None or failed["error"] == code, failed
        assert failed["http_status"] == status or code is None, failed
    assert attempts[-1]["retry_reason"] == attempts[-2]["error"] and attempts[-1]["from_provider"] == "first"
    scrape = gateway.scrape()
    assert scrape.sum("aigateway_failovers_total", from_provider="first", to_provider="second") == 1
    assert scrape.sum("model_inference_requests_total") == len(attempts)
    assert scrape.sum("aigateway_requests_total") == 1


def untrusted_tls_server(directory):
    """A TLS server with a certificate that nobody signed; its port."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", directory / "k.pem", "-out", directory / "c.pem",
         "-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "c.pem", directory / "k.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                plain, _ = listener.accept()
                context.wrap_socket(plain, server_side=True).close()
            except OSError:
                if listener.fileno() < 0:
                    return

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


@pytest.mark.parametrize("url", ["http://no-such-host.invalid/v1", "refused", "https"], ids=["name", "refused", "tls"])
def test_target_that_cannot_be_reached_is_failed_over(stage, tmp_path, url):
    b = stage.upstream(good)
    where = url
    if url == "refused":
        where = f"http://127.0.0.1:{closed_port()}/v1"
    elif url == "https":
        where = f"https://127.0.0.1:{untrusted_tls_server(tmp_path)}/v1"
    gateway = stage.gateway(
        [provider("first", where, allow_private=True), provider("second", b.base_url)],
        [model("chat", "first/m1", "second/m2", retries=2)],
    )
    (r,) = Load(gateway.host_port, 1).run([chat_request()])
    check_clean_answer(r, False)
    (line,) = gateway.logged(1)
    wanted = {"refused": "upstream_connect", "https": "upstream_tls"}.get(url, "upstream_dns")
    assert line["attempts"][0]["error"] == wanted
    assert line["attempts"][-1]["provider"] == "second"


def test_every_target_failing_is_one_answer_in_the_last_providers_own_words(stage):
    up = stage.upstream(lambda r: error_answer(500, "the engine is on fire", "server_error"))
    gateway = stage.gateway(
        [provider("first", up.base_url), provider("second", up.base_url)], [model("chat", "first/m", "second/m", retries=3)]
    )
    answer = gateway.chat()
    assert answer.status == 500, answer
    assert answer.json["error"] == {"message": "the engine is on fire", "type": "server_error", "code": None}
    (line,) = gateway.logged(1)
    assert len(line["attempts"]) == len(up.requests) == 4
    assert (line["status"], line["http_status"], line["error"]) == ("error", 500, "upstream_error")


def test_refused_credentials_are_the_gateways_own_business(stage):
    up = stage.upstream(lambda r: error_answer(401, "Incorrect API key provided: sk-upst**first"))
    gateway = stage.gateway([provider("first", up.base_url)], [model("chat", "first/m")])
    answer = gateway.chat()
    assert answer.status == 502, answer
    error = answer.json["error"]
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_auth")
    assert b"sk-" not in answer.body


def test_refusal_of_the_request_itself_is_not_tried_elsewhere(stage):
    refusal = {"error": {"message": "max_tokens is too large", "type": "invalid_request_error", "param": "max_tokens", "code": None}}
    gateway, a, b = pair(stage, lambda r: json_answer(refusal, 400))
    answer = gateway.chat()
    assert (answer.status, answer.json["error"]["message"]) == (400, "max_tokens is too large")
    assert (len(a.requests), len(b.requests)) == (1, 0)


def test_short_retry_after_is_waited_out_at_the_only_target(stage):
    times = []

    def script(r):
        times.append(r.at)
        return error_answer(429, headers=[("Retry-After", 1)]) if len(times) == 1 else good(r)

    up = stage.upstream(script)
    gateway = stage.gateway([provider("only", up.base_url)], [model("chat", "only/m", retries=2)])
    assert gateway.chat().status == 200
    assert len(times) == 2 and times[1] - times[0] >= 1.0
    scrape = gateway.scrape()
    assert scrape.sum("aigateway_retries_total", provider="only") == 1
    assert scrape.sum("aigateway_failovers_total") == 0


@pytest.mark.parametrize("how", [CLOSE, RESET], ids=["closed", "reset"])
@pytest.mark.asan
def test_failure_after_the_first_byte_is_told_and_never_covered_by_a_second_answer(stage, how):
    begin = stream_events(("half an ", "answer"), usage=None)[:3]
    gateway, a, b = pair(stage, lambda r: [sse_head(), *map(as_chunk, begin), how])
    body, _ = read_stream(gateway, chat_request(True))
    assert body.startswith(begin[0])
    assert b"from the second" not in body and b"[DONE]" not in body
    assert [e["code"] for e in error_events(body)] == ["upstream_cut"]
    assert (len(a.requests), len(b.requests)) == (1, 0)
    (line,) = gateway.logged(1)
    assert (line["stream_end"], line["status"], len(line["attempts"])) == ("upstream_cut", "error", 1)


def test_kept_connection_that_dies_is_never_a_silent_second_post(stage):
    """The provider closes every kept connection right after it read the second request on it."""
    up = stage.upstream(lambda r: GOOD if r.number == 1 else CLOSE)
    gateway = stage.gateway([provider("only", up.base_url)], [model("chat", "only/m", retries=2)])
    count = 40
    results = Load(gateway.host_port, 1).run([chat_request() for _ in range(count)])
    assert [r.status for r in results] == [200] * count
    lines = gateway.logged(count)
    assert sum(len(line["attempts"]) for line in lines) == len(up.requests)
    assert len(up.requests) > count, "no kept connection was used, so nothing was tested"


def test_posts_seen_by_the_simulator_are_the_attempts_on_record(stage):
    """Four targets that misbehave in every way, ten thousand requests, and books that agree to the last one."""
    count = 400 if is_sanitized() else 10_000
    sim = stage.simulator(seed=42)
    quick = {"timeouts": {"first_byte": "300ms", "idle": "300ms"}}
    names = ["rate", "server", "network", "calm"]
    sim.control.profile("rate", faults={"429": 0.2, "529": 0.1}, retry_after_s=-1)
    sim.control.profile("server", faults={"500": 0.2, "503": 0.1, "bad_json": 0.02})
    sim.control.profile("network", faults={"reset": 0.1, "close_idle": 0.1, "cut_before_first": 0.05, "cut_mid": 0.05, "timeout": 0.002})
    sim.control.profile("calm")
    gateway = stage.gateway(
        [provider(n, sim.base_url(n), **quick) for n in names],
        [model("chat", *(f"{n}/sim-small" for n in names), retries=5), model("last", "network/sim-small", "calm/sim-small", retries=3)],
    )
    requests = [chat_request(stream=i % 5 == 0, chat="last" if i % 3 == 0 else "chat") for i in range(count)]
    results = Load(gateway.host_port, 32).run(requests)
    assert not [r for r in results if r.trouble], [r for r in results if r.trouble][:3]
    statuses = collections.Counter(r.status for r in results)
    assert statuses[200] > count * 0.98, statuses

    lines = gateway.logged(count, 30)
    assert len(lines) == count
    assert len({line["id"] for line in lines}) == count
    logged = collections.Counter(a["provider"] for line in lines for a in line["attempts"])
    truth = sim.control.settled_log()
    seen = collections.Counter(r["profile"] for r in truth)
    assert logged == seen, f"attempts on record {logged}, POSTs seen {seen}"
    scrape = gateway.scrape()
    counted = {k: int(v) for k, v in scrape.by("model_inference_requests_total", "provider").items() if v}
    assert counted == dict(seen)
    assert scrape.sum("aigateway_requests_total") == count
    answered = sum(1 for line in lines if line["status"] == "success")
    assert answered == scrape.sum("aigateway_requests_total", status="success")
    assert sum(seen.values()) > count * 1.2, "too few failures to prove anything"
    print(f"{count} requests, {sum(seen.values())} attempts, {dict(statuses)}")


def test_attempts_stay_within_the_retries_that_the_model_allows(stage):
    up = stage.upstream(lambda r: error_answer(500))
    gateway = stage.gateway([provider("only", up.base_url)], [model(f"r{n}", "only/m", retries=n) for n in (0, 1, 3)])
    for n, total in ((0, 1), (1, 3), (3, 7)):
        assert gateway.chat(model=f"r{n}").status == 500
        eventually(lambda: len(up.requests) == total)
