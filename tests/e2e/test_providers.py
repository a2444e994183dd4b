# SPDX-License-Identifier: Apache-2.0
"""What is known of a provider decides who is asked: the tracker's board, probes that cost nothing, strategies, and operators who
disable or drain. The simulator's own record is the witness."""

import json
import math
import sqlite3
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.gateway import KEY, http, model, provider, run
from support.process import SLOWNESS
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
