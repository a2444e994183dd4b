# SPDX-License-Identifier: Apache-2.0
"""A target that keeps failing is left alone, asked again by a few probes, and taken back; operators can overrule that, nodes
agree about it, and a client that cannot be served is told which breaker is open and until when."""

import json
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.gateway import Stream, http, model, provider, run
from support.process import SLOWNESS
from support.upstream import DONE, LAST_CHUNK, STALL, Gate, as_chunk, chat_completion, error_answer, json_answer, sse_head, stream_events
from support.wait import eventually

GOOD = json_answer(chat_completion("from the second"))
QUICK = {"failures": 5, "error_rate": 0.5, "min_requests": 20, "open_for": "1s", "max_open_for": "2s", "probes": 1, "close_after": 2}
SLOW = {**QUICK, "open_for": "1h", "max_open_for": "1h"}
FIRST = "/api/admin/breakers/first/m/1"  # the model id holds a slash


def admin(gateway, path, body=None):
    headers = {"authorization": f"Bearer {gateway.ready['admin_token']}"}
    return http(gateway.admin_url + path, "POST" if body is not None else "GET", body, headers)


def breakers(gateway, name="first"):
    answer = admin(gateway, f"/api/monitoring/circuit-breakers/{name}")
    assert answer.status == 200, answer
    return answer.json


def breaker(gateway, name="first"):
    (row,) = breakers(gateway, name)
    return row


def state(gateway, name="first"):
    return breaker(gateway, name)["state"]


def start(stage, url, breaker=QUICK, second=None, **more):
    providers = [provider("first", url)] + ([provider("second", second)] if second else [])
    targets = ["first/m/1"] + (["second/m2"] if second else [])
    return stage.gateway(providers, [model("chat", *targets, retries=0 if not second else 1)], breaker=breaker, **more)


def fail_until_open(gateway, n=5):
    for _ in range(n):
        assert gateway.chat().status == 500
    assert state(gateway) == "OPEN"


@pytest.mark.asan
def test_25_failures_reach_the_provider_five_times_and_the_caller_is_told(stage):
    sim = stage.simulator()
    sim.control.profile("a", faults={"500": 1.0})
    gateway = start(stage, sim.base_url("a"), SLOW)
    answers = [gateway.chat() for _ in range(25)]
    assert [a.status for a in answers] == [500] * 5 + [503] * 20
    refused = answers[-1]
    assert 2500 <= int(refused.headers["retry-after"]) <= 3600
    error = refused.json["error"]
    assert error["code"] == "unavailable"
    for word in ("'first'", "'m/1'", "OPEN until 20", "5 failures in a row: HTTP 500"):
        assert word in error["message"], error
    row = breaker(gateway)
    assert row.items() >= {"provider": "first", "model": "m/1", "state": "OPEN", "failure_count": 5, "is_available": False}.items()
    assert abs(row["last_updated"] - time.time()) < 60
    assert [(h["from"], h["to"]) for h in row["history"]] == [("CLOSED", "OPEN")]
    scrape = gateway.scrape()
    assert scrape.sum("model_inference_requests_total") == 5
    assert scrape.sum("aigateway_circuit_breaker_state", provider="first") == 2
    assert scrape.sum("gatewayz_circuit_breaker_state", provider="first", state="open") == 1
    assert scrape.sum("circuit_breaker_state", provider="first", model="m/1", state="closed") == 0
    assert scrape.sum("circuit_breaker_failure_count", provider="first", model="m/1") == 5
    assert scrape.sum("aigateway_circuit_breaker_transitions_total", to_state="open") == 1
    health = gateway.health("first", 5)
    assert health["health_score"] <= 49 and health["terms"]["breakers"]["points"] == 0


def test_it_recovers_by_probes_and_says_how_long_it_took(stage):
    sim = stage.simulator()
    sim.control.profile("a", faults={"500": 1.0})
    gateway = start(stage, sim.base_url("a"))
    fail_until_open(gateway)
    sim.control.profile("a")
    eventually(lambda: gateway.chat().status == 200, 5 * SLOWNESS)
    eventually(lambda: gateway.chat().status == 200 and state(gateway) == "CLOSED", 5 * SLOWNESS)
    row = breaker(gateway)
    assert row["last_recovery_s"] > 0.5 and row["failure_count"] == 0
    assert [h["to"] for h in row["history"]] == ["CLOSED", "HALF_OPEN", "OPEN"]
    assert gateway.metric("aigateway_circuit_breaker_recovery_seconds_count", provider="first") == 1


def test_half_open_asks_exactly_as_many_as_configured_whoever_comes(stage):
    release, is_ill = threading.Event(), True
    good = [sse_head() + b"".join(as_chunk(e) for e in [*stream_events(("one", "two")), DONE]) + LAST_CHUNK]
    up = stage.upstream(lambda r: error_answer(500) if is_ill else [Gate(release), *good])
    gateway = start(stage, up.base_url, {**QUICK, "probes": 3, "close_after": 3})
    fail_until_open(gateway)
    is_ill = False
    eventually(lambda: state(gateway) == "HALF_OPEN", 5)
    with ThreadPoolExecutor(200) as pool:
        answers = [pool.submit(gateway.chat, stream=True, timeout=60) for _ in range(200)]
        eventually(lambda: sum(a.done() for a in answers) == 197, 20 * SLOWNESS)
        assert breaker(gateway)["probes"] == 3 and len(up.requests) == 5 + 3
        release.set()
        statuses = Counter(a.result().status for a in answers)
    assert statuses == {200: 3, 503: 197}
    eventually(lambda: state(gateway) == "CLOSED", 5)
    row = breaker(gateway)
    assert [h["to"] for h in row["history"]] == ["CLOSED", "HALF_OPEN", "OPEN"] and row["last_recovery_s"] > 0.5


@pytest.mark.asan
def test_an_open_target_is_passed_over_and_is_no_attempt(stage):
    a, b = stage.upstream(lambda r: error_answer(500)), stage.upstream(lambda r: GOOD)
    gateway = start(stage, a.base_url, SLOW, b.base_url)
    answers = [gateway.chat() for _ in range(12)]
    assert {x.status for x in answers} == {200}
    assert (len(a.requests), len(b.requests)) == (5, 12)
    assert [x.headers["x-gatewayd-attempts"] for x in answers] == ["2"] * 5 + ["1"] * 7


@pytest.mark.parametrize(
    "answer, opens",
    [
        (error_answer(400, "bad", "invalid_request_error"), False),
        (error_answer(404, "no such model", "invalid_request_error", "model_not_found"), False),
        (error_answer(422, "no", "invalid_request_error"), False),
        (error_answer(429, "slow down", "rate_limit_error"), False),
        (error_answer(401, "bad key", "authentication_error"), True),
        (error_answer(503, "overloaded"), True),
        (json_answer({"error": {"message": "context too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}), False),
        (json_answer({"error": {"message": "boom", "type": "server_error"}}), True),
        (json_answer(b"<html>"), True),
    ],
    ids=["400", "404", "422", "429", "401", "503", "refusal inside 200", "failure inside 200", "garbage"],
)
def test_only_what_speaks_against_the_provider_opens_it(stage, answer, opens):
    up = stage.upstream(lambda r: answer)
    gateway = start(stage, up.base_url, SLOW)
    for _ in range(12):
        assert "error" in gateway.chat().json
    assert state(gateway) == ("OPEN" if opens else "CLOSED")
    assert len(up.requests) == (5 if opens else 12)


def test_rate_limits_count_where_the_configuration_says_so(stage):
    up = stage.upstream(lambda r: error_answer(429, "slow down", "rate_limit_error"))
    gateway = start(stage, up.base_url, {**SLOW, "rate_limits": True})
    for _ in range(6):
        gateway.chat()
    assert state(gateway) == "OPEN" and len(up.requests) == 5


def test_a_client_that_leaves_counts_neither_way(stage):
    up = stage.upstream(lambda r: STALL)
    gateway = start(stage, up.base_url, {**SLOW, "failures": 1})
    for n in range(3):
        with pytest.raises(OSError):
            gateway.chat(timeout=0.2)
        gateway.logged(n + 1)
    assert state(gateway) == "CLOSED" and breaker(gateway)["window_attempts"] == 0


def test_two_gateways_on_one_redis_agree_within_a_second(stage, record_property):
    redis = stage.redis()
    up = stage.upstream(lambda r: error_answer(500))
    first, second = (start(stage, up.base_url, SLOW, redis=redis.url()) for _ in range(2))
    took = []

    def until(gateway, wanted):
        began = time.monotonic()
        eventually(lambda: state(gateway) == wanted, 10, every=0.01)
        took.append(time.monotonic() - began)

    fail_until_open(first)
    until(second, "OPEN")
    assert second.chat().status == 503 and len(up.requests) == 5
    assert breaker(second)["history"][0]["cause"] == "another node: 5 failures in a row: HTTP 500"
    assert admin(second, FIRST, {"action": "reset"}).status == 200
    until(first, "CLOSED")
    assert admin(first, FIRST, {"action": "open", "for": "1h", "reason": "maintenance", "drain": True}).status == 200
    until(second, "OPEN")
    assert breaker(second)["forced"]["reason"] == "maintenance"
    assert max(took) < 1 * SLOWNESS, took
    record_property("figure", f"the other node agrees after {max(took):.2f} s at most")
    ttl = redis.ttls()["{gw}:brk"]
    assert 3600 <= ttl <= 3600 + 120
    third = start(stage, up.base_url, SLOW, redis=redis.url())
    assert state(third) == "OPEN"  # a new node starts informed
    redis.flush()
    eventually(lambda: len(redis.client()("HGETALL", "{gw}:brk")) > 0, 5)
    assert admin(third, FIRST, {"action": "auto"}).status == 200
    until(first, "CLOSED")
    assert max(took) < 1 * SLOWNESS, took


@pytest.mark.asan
def test_a_forced_state_survives_a_restart_until_its_end(stage):
    up = stage.upstream(lambda r: GOOD)
    gateway = start(stage, up.base_url)
    answer = admin(gateway, FIRST, {"action": "open", "for": "6s", "reason": "drill"})
    assert answer.status == 200 and answer.json["state"] == "OPEN", answer
    gateway.kill()
    gateway.ready_file.unlink()
    gateway.start()
    row = breaker(gateway)
    assert (row["state"], row["forced"]["reason"], row["forced"]["actor"]) == ("OPEN", "drill", "token")
    assert gateway.chat().status == 503
    eventually(lambda: gateway.chat().status == 200, 10 * SLOWNESS)
    assert breaker(gateway)["forced"] is None


def test_open_cuts_streams_and_drain_lets_them_end(stage):
    release = threading.Event()
    events = [as_chunk(e) for e in [*stream_events(("one", "two")), DONE]]
    plays = [[sse_head() + events[0] + events[1], Gate(release), b"".join(events[2:]) + LAST_CHUNK], [sse_head() + events[0] + events[1], STALL]]
    up = stage.upstream(lambda r: plays.pop(0))
    gateway = start(stage, up.base_url, SLOW)
    patient = Stream(gateway)
    assert admin(gateway, FIRST, {"action": "open", "for": "1h", "drain": True}).status == 200
    assert gateway.chat().status == 503
    release.set()
    assert patient.rest().endswith(b"data: [DONE]\n\n")
    assert admin(gateway, FIRST, {"action": "auto"}).status == 200
    cut = Stream(gateway)
    assert admin(gateway, FIRST, {"action": "open", "for": "1h"}).status == 200
    assert b"an operator has shut it off" in cut.rest()
    assert breaker(gateway)["failure_count"] == 0
    assert len(up.requests) == 2


def test_bad_orders_are_refused_and_good_ones_are_audited(stage):
    up = stage.upstream(lambda r: GOOD)
    gateway = start(stage, up.base_url)
    for body, status in [
        ({"action": "explode"}, 400), ({}, 400), ({"action": "open"}, 400), ({"action": "open", "for": "0s"}, 400),
        ({"action": "open", "for": "31d"}, 400), ({"action": "reset", "for": "1m"}, 400), ({"action": "close", "for": "1m", "drain": True}, 400),
    ]:
        assert admin(gateway, FIRST, body).status == status, body
    for path in ("first", "first/nope", "nope/m", "first/"):
        assert admin(gateway, f"/api/admin/breakers/{path}", {"action": "reset"}).status == 404, path
    assert admin(gateway, "/api/monitoring/circuit-breakers/nope").status == 404
    assert http(gateway.url + FIRST, "POST", {"action": "reset"}).status == 404  # not on the main listener
    assert admin(gateway, "/api/admin/breakers/first/m%2F1", {"action": "close", "for": "1m"}).status == 200
    assert breaker(gateway)["forced"]["state"] == "CLOSED"
    with sqlite3.connect(f"file:{gateway.state_dir}/history.db?mode=ro", uri=True) as db:
        ((actor, subject, detail),) = db.execute("SELECT actor, subject, detail FROM audit WHERE action = 'breaker.close'")
    assert (actor, subject) == ("token", "first/m/1") and json.loads(detail)["set"] == {"action": "close", "for": "1m"}


def ctl(gateway, *words, code=0):
    token = gateway.directory / "token"
    token.write_text(gateway.ready["admin_token"])
    token.chmod(0o600)
    done = run(["aigwctl", "--url", gateway.admin_url, "--token-file", token, *words])
    assert done.returncode == code, done
    return done.stdout


def test_the_command_shows_and_changes_them(stage):
    up = stage.upstream(lambda r: error_answer(500))
    gateway = start(stage, up.base_url, SLOW)
    assert "1 closed (1 quiet hidden" in ctl(gateway, "breakers")
    fail_until_open(gateway)
    table = ctl(gateway, "breakers", "list", "--exit-code", code=11)
    assert "first/m/1" in table and "OPEN" in table and "1 open" in table
    assert json.loads(ctl(gateway, "breakers", "list", "-o", "json"))["data"][0]["failure_count"] == 5
    assert ctl(gateway, "breakers", "list", "-o", "csv").splitlines()[1].startswith("first/m/1,OPEN,5,")
    assert "5 failures in a row" in ctl(gateway, "breakers", "show", "first/m/1")
    ctl(gateway, "breakers", "reset", "first/m/1", code=7)  # nobody said yes
    assert "state: OPEN → CLOSED" in ctl(gateway, "breakers", "reset", "first/m/1", "--yes")
    ctl(gateway, "breakers", "open", "first/m/1", "--yes", code=2)
    done = ctl(gateway, "breakers", "open", "first", "--for", "30m", "--reason", "drill", "--yes")
    assert "state: CLOSED → OPEN" in done and "undo: aigwctl breakers auto first/m/1" in done
    assert "state: OPEN → CLOSED" in ctl(gateway, "breakers", "auto", "--all-open", "--yes")
    ctl(gateway, "breakers", "reset", "first/nope", "--yes", code=5)
