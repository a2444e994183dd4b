# SPDX-License-Identifier: Apache-2.0
"""Several gateways on one Redis and one database spend from one budget, and share rates and slots. What the provider was
asked for is the truth: it counts every request that it answered."""

import json
import random
import threading
import time
from decimal import Decimal

import pytest

from support.gateway import KEY, http, model, provider, sha256
from support.load import Load
from support.process import SLOWNESS
from support.rawhttp import request
from support.upstream import Gate, chat_completion, json_answer
from support.wait import eventually

PRICES = {"prices": [{"provider": "up", "model": "m", "input_usd_per_mtok": "1", "output_usd_per_mtok": "1000",
                      "context_tokens": 1000, "max_output_tokens": 4000}]}
BOUND = 101_000_000  # nano-USD: 1000 and 100 tokens
COST = 10_500_000  # 500 and 10 tokens
BODY = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}).encode()
BUDGET = "{gw}:bud:tenant%3Aacme:total"


def answer(prompt=500, completion=10):
    body = chat_completion()
    body["usage"] = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return json_answer(body)


class Nodes:
    def __init__(self, stage, n, budget=None, limits=None, script=None, **more):
        prices = stage.directory / "prices.json"
        prices.write_text(json.dumps(PRICES))
        self.up = stage.upstream(script or (lambda r: answer()))
        self.redis, self.db = stage.redis(), stage.postgres()
        tenant = {"id": "acme", "plan": "pro", "keys": [{"id": "test", "sha256": sha256(KEY)}]}
        if budget:
            tenant["budget"] = {"usd": budget / 10**9, "period": "total"} if isinstance(budget, int) else budget
        if limits:
            tenant["limits"] = limits
        more.setdefault("lease_ttl", "2s")
        self.nodes = [stage.gateway([provider("up", self.up.base_url)], [model("chat", "up/m", retries=0)], tenants=[tenant],
                                    prices=str(prices), redis=self.redis.url(), database=self.db.url(), **more)
                      for _ in range(n)]

    def __iter__(self):
        return iter(self.nodes)

    def __getitem__(self, i):
        return self.nodes[i]

    def answered(self):
        return len(self.up.requests)

    def budget(self):
        with self.redis.client() as c:
            return {k: v if k.startswith("g:") else int(v) for k, v in c.hash(BUDGET).items()}

    def books(self):
        rows = self.db.query("SELECT posted_nano, held_nano FROM budget_windows WHERE account = 'tenant:acme'")
        return [tuple(map(int, r)) for r in rows]

    def race(self, n, connections=8):
        """`n` requests to each node at once; the statuses."""
        results = {}
        threads = [threading.Thread(target=lambda g=g: results.__setitem__(
            g, Load(g.host_port, connections).run(request(body=BODY, key=KEY) for _ in range(n)))) for g in self]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return [r.status for rs in results.values() for r in rs]

    def spend_the_rest(self, seconds=20):
        """One after the other, on each node in turn, until every one says 402."""
        done, turn, deadline = set(), 0, time.monotonic() + seconds * SLOWNESS
        while len(done) < len(self.nodes) and time.monotonic() < deadline:
            g = self.nodes[turn % len(self.nodes)]
            r = g.chat(max_tokens=100)
            assert r.status in (200, 402, 503), r
            done = done | {g} if r.status == 402 else set() if r.status == 200 else done
            turn += 1
        assert len(done) == len(self.nodes)

    def settled(self):
        """Nothing is held, nothing is leased, and all books say the same."""
        def is_quiet():
            b = self.budget()
            assert (b.get("held", 0), b.get("leased", 0)) == (0, 0) and "posted" in b, b
            return True

        eventually(is_quiet, 30 * SLOWNESS, what="nothing is held or leased")
        eventually(lambda: self.books() == [(self.budget()["posted"], 0)], 20 * SLOWNESS, what="the books agree")
        return self.budget()["posted"]


def reconciled(nodes, limit):
    posted = nodes.settled()
    assert posted == nodes.answered() * COST <= limit
    assert sum(v for k, v in nodes.budget().items() if k.startswith("l:")) == 0
    return posted


def test_one_budget_raced_on_three_nodes_is_spent_to_the_last_request(stage):
    limit = 60 * COST
    nodes = Nodes(stage, 3, budget=limit)
    statuses = nodes.race(60)
    assert set(statuses) <= {200, 402, 503}
    nodes.spend_the_rest()
    assert limit - reconciled(nodes, limit) < BOUND, "money for the bound left means admitted"
    assert all(g.metric("gatewayd_budget_overshoot_bound_usd") == 0 for g in nodes)


def test_what_is_leased_to_a_node_that_does_not_need_it_is_given_to_one_that_does(stage):
    nodes = Nodes(stage, 2, budget=BOUND + 2 * COST)
    assert nodes[0].chat(max_tokens=100).status == 200
    assert nodes[1].chat(max_tokens=100).status == 200
    assert nodes[0].chat(max_tokens=100).status == 200
    no = nodes[1].chat(max_tokens=100)
    assert no.status == 402, no
    limit = no.json["error"]["limit"]
    assert sum(Decimal(limit[k]) for k in ("used", "held", "requested")) > Decimal(limit["limit"])
