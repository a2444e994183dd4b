# SPDX-License-Identifier: Apache-2.0
"""What is known of a provider decides who is asked: the tracker's board, probes that cost nothing, strategies, and operators who
disable or drain. The simulator's own record is the witness."""

import json
import math
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from support.gateway import KEY, Stream, http, model, provider, run
from support.upstream import DONE, LAST_CHUNK, Gate, as_chunk, chat_completion, json_answer, sse_head, stream_events
from support.wait import eventually


def admin(gateway, path, body=None, method=None):
    headers = {"authorization": f"Bearer {gateway.ready['admin_token']}"}
    return http(gateway.admin_url + path, method or ("POST" if body is not None else "GET"), body, headers)


def spread(stage, strategy, names=("a", "b", "c"), sim=None, **more):
    sim = sim or stage.simulator()
    targets = [f"{n}/m-{n}" for n in names]
    gateway = stage.gateway([provider(n, sim.base_url(n)) for n in names], [model("chat", *targets, strategy=strategy)], **more)
    return sim, gateway


def asked(sim):
    """How many calls each provider got, by the simulator's own record."""
    return Counter(r["profile"] for r in sim.control.settled_log())


# ---- strategies


def test_latency_finds_the_fastest_and_keeps_looking_at_the_others(stage):
    sim = stage.simulator()
    sim.control.profile("a", latency_ms=60)
    sim.control.profile("c", latency_ms=30)
    _, gateway = spread(stage, "latency", sim=sim)
    for _ in range(120):
        assert gateway.chat().status == 200
    got = asked(sim)
    assert got["b"] >= 90, got  # 19 in 20 of those after the first two
    assert got["a"] >= 1 and got["c"] >= 1, got
    sim.control.profile("b", latency_ms=200)
    for _ in range(60):
        assert gateway.chat().status == 200
    assert asked(sim)["b"] - got["b"] <= 20


def test_cost_asks_the_cheapest_for_this_request(stage, tmp_path):
    prices = tmp_path / "prices.json"
    rows = [("a", "9", "1"), ("b", "1", "9")]
    prices.write_text(json.dumps({"prices": [
        {"provider": p, "model": f"m-{p}", "input_usd_per_mtok": i, "output_usd_per_mtok": o, "context_tokens": 100000, "max_output_tokens": 100000}
        for p, i, o in rows]}))
    sim, gateway = spread(stage, "cost", prices=str(prices))
    for _ in range(4):
        assert gateway.chat("x", max_tokens=1).status == 200
    assert asked(sim) == {"b": 4}  # a long prompt for a short answer
    for _ in range(5):
        assert gateway.chat("x", max_tokens=100000).status == 200
    assert asked(sim) == {"b": 4, "a": 5}
    sim.control.profile("a", faults={"500": 1.0})
    assert gateway.chat("x", max_tokens=100000).headers["x-gatewayd-provider"] == "b"


def test_health_asks_the_healthiest(stage):
    sim = stage.simulator()
    sim.control.profile("a", faults={"500": 1.0})
    _, gateway = spread(stage, "health", sim=sim)
    for _ in range(3):
        assert gateway.chat().status == 200
    gateway.health("a", 1)
    before = asked(sim)
    for _ in range(20):
        assert gateway.chat().status == 200
    assert asked(sim)["a"] == before["a"]
    # b has answered and scores 100, more than the 80 of c, of which nothing is known
    eventually(lambda: gateway.monitoring("health/b")["health_score"] == 100)
    assert asked(sim)["b"] - before["b"] == 20


def test_least_busy_spreads_what_is_in_flight(stage):
    sim = stage.simulator()
    for name in "abc":
        sim.control.profile(name, latency_ms=1000)
    _, gateway = spread(stage, "least_busy", sim=sim)
    with ThreadPoolExecutor(18) as pool:
        first = [pool.submit(gateway.chat) for _ in range(18)]
        eventually(lambda: sim.control.truth()["open"] == 18, 5, every=0.01)
        busy = Counter(r["profile"] for r in sim.control.log() if r["ended"] == "open")
        assert max(busy.values()) - min(busy.values()) <= 4, busy  # two workers may choose at once
        assert {f.result().status for f in first} == {200}


# ---- the tracker


def test_the_score_is_what_its_arithmetic_says_and_every_page_shows_it(stage):
    sim = stage.simulator()
    sim.control.profile("a", script=["ok"] * 17 + ["500"] * 3)
    gateway = stage.gateway([provider("a", sim.base_url("a")), provider("idle", sim.base_url("b"))], [model("chat", "a/m", retries=0)])
    scrape = gateway.scrape()  # the first
    for family in ("provider_availability", "provider_error_rate", "provider_health_score", "gatewayz_provider_health_score"):
        assert math.isnan(scrape.sum(family, provider="a")) and math.isnan(scrape.sum(family, provider="idle")), family
    assert scrape.sum("gatewayd_provider_probes_total", provider="a", outcome="ok") == 0
    assert [gateway.chat().status for _ in range(20)].count(500) == 3
    row = gateway.health("a", 20)
    terms = row["terms"]
    assert row["error_rate"] == 0.15 and terms["success_rate"]["points"] == 42.5 and terms["breakers"] == {"points": 20.0, "of": 20.0}
    assert terms["sum"] == 92.5 and terms["cap"] == {"at": 79.0, "reason": "10 % errors or more"}
    assert (row["health_score"], row["status"], row["availability"], row["nodes"]) == (79.0, "degraded", 1.0, 1)
    scrape = gateway.scrape()
    assert scrape.sum("provider_health_score", provider="a") == 79
    assert scrape.sum("gatewayz_provider_health_score", provider="a") == 0.79
    assert scrape.sum("provider_error_rate", provider="a") == 0.15 and scrape.sum("provider_availability", provider="a") == 1
    board = admin(gateway, "/health/dashboard").json
    assert {p["name"]: p["health_score"] for p in board["providers"]} == {"a": 0.79, "idle": None}
    assert gateway.monitoring("stats/realtime")["providers"]["a"]["health_score"] == 79.0
    assert "(healthy) to 79.0 (degraded)" in json.dumps(admin(gateway, "/api/admin/events").json)


def test_two_nodes_add_up_the_same(stage):
    redis, sim = stage.redis(), stage.simulator()
    sim.control.profile("bad", faults={"500": 1.0})
    nodes = [
        stage.gateway([provider("p", sim.base_url(profile))], [model("chat", "p/m", retries=0)], redis=redis.url(), health={"interval": "1s"})
        for profile in ("good", "bad")
    ]
    for _ in range(6):
        assert nodes[0].chat().status == 200
    for _ in range(2):
        assert nodes[1].chat().status == 500

    def agree():
        rows = [n.monitoring("health/p") for n in nodes]
        same = [{k: r[k] for k in ("health_score", "status", "error_rate", "attempts", "latency_p95_ms", "nodes")} for r in rows]
        return same[0] if same[0] == same[1] and same[0]["attempts"] == 8 else None

    row = eventually(agree, 10)
    assert row["error_rate"] == 0.25 and row["health_score"] == 79.0 and row["nodes"] == 2
    assert 0 < redis.ttls()["{gw}:health"] <= 3600
    shown = eventually(lambda: (t := redis.client()("HGET", "{gw}:health", "p")) and json.loads(t)["attempts"] == 8 and json.loads(t))
    assert shown["health_score"] == 79.0 and shown["status"] == "degraded"
    # a node that is gone stops counting
    nodes[1].stop()
    eventually(lambda: nodes[0].monitoring("health/p")["attempts"] == 6, 10)
    redis.stop()
    assert nodes[0].chat().status == 200
    eventually(lambda: nodes[0].monitoring("health/p")["attempts"] == 7, 15)
    redis.start()


# ---- probes


def models_answer(request):
    return json_answer({"object": "list", "data": []}) if request.method == "GET" else json_answer(chat_completion())


def test_probes_ask_for_models_only_and_cost_nothing(stage):
    up, sim = stage.upstream(models_answer), stage.simulator()
    claude = stage.upstream(models_answer)
    gateway = stage.gateway(
        [
            provider("mock", up.base_url, max_concurrent=1),
            provider("sim", sim.base_url("a")),
            provider("claude", claude.base_url, kind="anthropic"),
            provider("silent", sim.base_url("b"), probe=False),
            provider("gone", "http://127.0.0.1:1/v1"),
        ],
        [model("chat", "mock/m", "sim/m")],
        health={"probe_interval": "1s", "probe_timeout": "2s"},
    )
    eventually(lambda: len(up.requests) >= 3 and len(claude.requests) >= 2, 15)
    assert {(r.method, r.target, r.body) for r in up.requests} == {("GET", "/v1/models", b"")}
    assert {r.header("authorization") for r in up.requests} == {"Bearer sk-upstream-mock"}
    assert {(r.method, r.target) for r in claude.requests} == {("GET", "/v1/models")}
    assert claude.requests[0].header("x-api-key") == "sk-upstream-claude" and claude.requests[0].header("anthropic-version")
    row = eventually(lambda: (r := gateway.monitoring("health/mock"))["status"] == "healthy" and r)
    assert row["attempts"] == 0 and row["health_score"] == 100.0 and row["probe"]["outcome"] == "ok"
    row = eventually(lambda: (r := gateway.monitoring("health/gone"))["status"] == "unhealthy" and r)
    assert row["health_score"] <= 49 and row["availability"] == 0 and row["error_rate"] == 1.0
    assert eventually(lambda: gateway.monitoring("health/sim")["status"] == "healthy")
    assert gateway.monitoring("health/silent")["status"] == "unknown"
    scrape = gateway.scrape()
    assert scrape.sum("gatewayd_provider_probes_total", provider="mock", outcome="ok") >= 2
    assert scrape.sum("gatewayd_provider_probes_total", provider="gone", outcome="failed") >= 1
    assert scrape.sum("gatewayd_provider_probes_total", provider="silent") == 0
    for family in ("model_inference_requests_total", "provider_requests_total", "model_cost_usd_total", "tokens_used_total"):
        assert scrape.sum(family) == 0, family
    truth = sim.control.truth()
    assert truth["posts"] == 0 and truth["rows"] == []  # nothing that could be billed
    assert gateway.access_log() == []


def test_a_provider_that_is_used_is_not_probed(stage):
    up = stage.upstream(models_answer)
    gateway = stage.gateway([provider("p", up.base_url)], [model("chat", "p/m")], health={"probe_interval": "2s"})
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert gateway.chat().status == 200
        time.sleep(0.05)
    assert len([r for r in up.requests if r.method == "GET"]) <= 1  # before the first request at most


def ctl(gateway, *words, code=0, env=None):
    token = gateway.directory / "token"
    token.write_text(gateway.ready["admin_token"])
    token.chmod(0o600)
    done = run(["aigwctl", "--url", gateway.admin_url, "--token-file", token, *words], env=env)
    assert done.returncode == code, done
    return done.stdout + done.stderr


def test_an_operator_probes_for_nothing_or_for_money(stage, tmp_path):
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"prices": [
        {"provider": "a", "model": "embed", "input_usd_per_mtok": "0.1", "output_usd_per_mtok": "0"},
        {"provider": "a", "model": "dear", "input_usd_per_mtok": "5", "output_usd_per_mtok": "9"},
        {"provider": "a", "model": "m", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}]}))
    sim = stage.simulator()
    gateway = stage.gateway(
        [provider("a", sim.base_url("a")), provider("down", "http://127.0.0.1:1/v1")],
        [model("embed", "a/embed"), model("chat", "a/dear", "a/m")], prices=str(prices))
    assert "HTTP 200" in ctl(gateway, "providers", "probe", "a")
    eventually(lambda: gateway.monitoring("health/a")["status"] == "healthy")
    text = ctl(gateway, "health", "a", "--explain")
    assert "- of 2.00s" in text and "last probe" in text and "ok, HTTP 200" in text
    assert "failed" in ctl(gateway, "providers", "probe", "down", code=1)
    ctl(gateway, "providers", "probe", "nope", code=5)
    assert sim.control.posts() == 0
    assert "whose money" in ctl(gateway, "providers", "probe", "a", "--billed", code=2)
    assert "costs at most $0.00" in ctl(gateway, "providers", "probe", "a", "--billed", code=7, env={"GATEWAYD_KEY": KEY})
    assert sim.control.posts() == 0  # nobody said yes
    out = ctl(gateway, "providers", "probe", "a", "--billed", "--yes", env={"GATEWAYD_KEY": KEY})
    assert "HTTP 200, cost $0.0000" in out
    (call,) = sim.control.settled_log()
    (line,) = gateway.logged(1)
    assert line["tenant"] == "acme" and line["usage"]["output"] == call["completion_tokens"] == 1
    assert line["cost_nanousd"] == call["prompt_tokens"] * 1000 + 2000


# ---- operators


def test_disabled_and_draining_providers_get_nothing_new_on_any_node(stage):
    redis, sim = stage.redis(), stage.simulator()
    postgres = stage.postgres()
    one, two = (
        stage.gateway(
            [provider("a", sim.base_url("a")), provider("b", sim.base_url("b"))],
            [model("chat", "a/m", "b/m"), model("only", "a/m")],
            redis=redis.url(), database=postgres.url(),
        )
        for _ in range(2)
    )
    path = "/api/admin/providers/a"
    assert [p["state"] for p in admin(one, "/api/admin/providers").json["providers"]] == ["enabled", "enabled"]
    for body in ({}, {"state": "off"}, {"state": "enabled", "for": "1m"}, {"state": "disabled", "for": "0s"}, {"state": "disabled", "for": "1m", "until": "2100-01-01T00:00:00Z"}):
        assert admin(one, path, body, "PATCH").status == 400, body
    assert admin(one, path + "x", {"state": "disabled"}, "PATCH").status == 404
    said = admin(one, path, {"state": "disabled", "reason": "invoice"}, "PATCH")
    assert said.status == 200 and said.json["state"] == "disabled" and said.json["reason"] == "invoice", said
    assert one.chat().headers["x-gatewayd-provider"] == "b"
    eventually(lambda: two.chat().headers["x-gatewayd-provider"] == "b", 5)
    before = asked(sim)["a"]
    refused = two.chat(model="only")
    assert refused.status == 503 and "provider 'a' is disabled by an operator" in refused.json["error"]["message"]
    assert eventually(lambda: two.scrape().sum("provider_availability", provider="a") == 0)
    two.kill()
    two.ready_file.unlink()
    two.start()
    assert two.chat(model="only").status == 503  # it survives a restart
    assert asked(sim)["a"] == before
    assert admin(two, path, {"state": "draining", "for": "3s"}, "PATCH").json["until"]
    assert "draining" in two.chat(model="only").json["error"]["message"]
    eventually(lambda: two.chat(model="only").status == 200, 10)  # it ends by itself
    eventually(lambda: one.chat(model="only").status == 200, 10)
    text = json.dumps(admin(one, "/api/admin/events").json)
    assert "was enabled and is disabled: invoice" in text


def test_drain_lets_streams_end_and_disable_cuts_them_and_the_audit_log_tells(stage):
    release = threading.Event()
    events = [as_chunk(e) for e in [*stream_events(("one", "two")), DONE]]
    up = stage.upstream(lambda r: [sse_head() + events[0] + events[1], Gate(release), b"".join(events[2:]) + LAST_CHUNK])
    gateway = stage.gateway([provider("p", up.base_url)], [model("chat", "p/m")])
    patient = Stream(gateway)
    ctl(gateway, "providers", "drain", "p", code=7)  # nobody said yes
    out = ctl(gateway, "providers", "drain", "p", "--yes", "--reason", "maintenance")
    assert "state: enabled → draining" in out and "undo: aigwctl providers enable p" in out and "1 attempts in flight" in out
    assert gateway.chat().status == 503
    time.sleep(0.6)  # longer than the watch that would cut it
    release.set()
    assert patient.rest().endswith(b"data: [DONE]\n\n")
    table = ctl(gateway, "providers")
    assert "draining" in table and "maintenance" in table
    assert "state: draining → enabled" in ctl(gateway, "providers", "enable", "p")
    release.clear()
    cut = Stream(gateway)
    out = ctl(gateway, "providers", "disable", "p", "--for", "1h", "--yes")
    assert "undo: aigwctl providers enable p" in out
    assert b"an operator has shut it off" in cut.rest()
    release.set()
    assert json.loads(ctl(gateway, "providers", "show", "p", "-o", "json"))["data"]["state"] == "disabled"
    for wrong in (["providers", "explode", "p"], ["providers", "disable"], ["providers", "enable", "p", "--for", "1m"], ["providers", "list", "--billed"]):
        ctl(gateway, *wrong, code=2)
    ctl(gateway, "providers", "show", "nope", code=5)
    with sqlite3.connect(f"file:{gateway.state_dir}/history.db?mode=ro", uri=True) as db:
        rows = db.execute("SELECT action, actor, subject, detail FROM audit WHERE action LIKE 'provider.%' ORDER BY id").fetchall()
    assert [(r[0], r[1], r[2]) for r in rows] == [(f"provider.{a}", "token", "p") for a in ("drain", "enable", "disable")]
    assert json.loads(rows[0][3])["reason"] == "maintenance"
