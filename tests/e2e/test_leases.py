# SPDX-License-Identifier: Apache-2.0
"""Several gateways on one Redis and one database spend from one budget, and share rates and slots. What the provider was
asked for is the truth: it counts every request that it answered."""

import json
import os
import random
import re
import threading
import time
from decimal import Decimal

import pytest

from support.gateway import KEY, http, model, provider, sha256
from support.load import Load
from support.process import ROOT, SLOWNESS
from support.rawhttp import request
from support.redis import PASSWORD
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
        self.redis, self.db = None if "redis" in more else stage.redis(), stage.postgres()
        url = more.pop("redis", None) or self.redis.url()
        tenant = {"id": "acme", "plan": "pro", "keys": [{"id": "test", "sha256": sha256(KEY)}]}
        if budget:
            tenant["budget"] = {"usd": budget / 10**9, "period": "total"} if isinstance(budget, int) else budget
        if limits:
            tenant["limits"] = limits
        more.setdefault("lease_ttl", "2s")
        ups = [provider("up", self.up.base_url) | ({"budget": b} if (b := more.pop("provider_budget", None)) else {})]
        self.nodes = [stage.gateway(ups, [model("chat", "up/m", retries=0)], tenants=[tenant],
                                    prices=str(prices), redis=url, database=self.db.url(), **more)
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

    def is_quiet(self):
        b = self.budget()  # one look: for some seconds after its last request a node may take room ahead again
        assert (b.get("held", 0), b.get("leased", 0)) == (0, 0) and "posted" in b, b
        assert sum(v for k, v in b.items() if k.startswith("l:")) == 0, b
        return True

    def spend_the_rest(self, seconds=20):
        """One after the other, on each node in turn, until every one says 402. Nobody holds anything, so who is told to come
        again gets in or is told 402, and what was 402 once is so everywhere."""
        done, turn, deadline = {}, 0, time.monotonic() + seconds * SLOWNESS
        while len(done) < len(self.nodes) and time.monotonic() < deadline:
            g = self.nodes[turn % len(self.nodes)]
            r = g.chat(max_tokens=100)
            assert r.status in (200, 402, 503), r
            assert r.status != 200 or not done, f"money for the bound was left when 402 was said: {done}{self.both_sides()}"
            if r.status == 503:
                time.sleep(int(r.headers["retry-after"]))
            elif r.status == 402:
                done[g] = r.json["error"]
            turn += r.status != 503
        assert len(done) == len(self.nodes)

    def both_sides(self):
        """All that the stores say about the budget, for the eye that must find out why they differ."""
        def rows(sql):
            return "".join(f"\n      {' '.join(map(str, r))}" for r in self.db.query(sql)) or " nothing"

        with self.redis.client() as c:
            hashes = [BUDGET, "{gw}:lease", "{gw}:books", *sorted(c.scan("{gw}:seq:*"))]
            redis = "".join(f"\n      {k} {c.hash(k)}" for k in hashes)
        return (f"\n    answered {self.answered()}, which cost {self.answered() * COST}\n    redis:{redis}"
                "\n    history, windows (account, window, posted, held):"
                + rows("SELECT account, window_id, posted_nano, held_nano FROM budget_windows ORDER BY 1, 2")
                + "\n    history, watermarks:" + rows("SELECT instance, batch, positions FROM journal_watermarks ORDER BY 1")
                + "\n    ledger (instance, kind, outcome, error, rows, cost):"
                + rows("SELECT instance, kind, outcome, error, sum(count), sum(cost_nano) FROM ledger "
                       "GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"))

    def told(self, check, within, what):
        try:
            return eventually(check, within * SLOWNESS, what=what)
        except AssertionError as e:
            raise AssertionError(f"{e}{self.both_sides()}") from e

    def settled(self):
        """Nothing is held, nothing is leased, and all books say the same."""
        self.told(self.is_quiet, 30, "nothing is held or leased")
        self.told(lambda: self.books() == [(self.budget()["posted"], 0)], 20, "the books agree")
        return self.budget()["posted"]


def reconciled(nodes, limit):
    posted = nodes.settled()
    assert posted == nodes.answered() * COST <= limit
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


class Spenders:
    """A thread for each node that sends one request after the other, to whatever answers."""

    def __init__(self, nodes):
        self.statuses, self.stopping = [], threading.Event()
        self.threads = [threading.Thread(target=self.spend, args=(g,)) for g in nodes for _ in range(2)]
        for t in self.threads:
            t.start()

    def spend(self, g):
        while not self.stopping.is_set():
            try:
                self.statuses.append((time.monotonic(), g.chat(max_tokens=100, timeout=10).status))
            except OSError:
                self.statuses.append((time.monotonic(), 0))
            if self.statuses[-1][1] != 200:
                time.sleep(0.01)

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join()
        return {s for _, s in self.statuses}


def test_deaths_and_stops_of_redis_do_not_let_the_budget_be_passed(stage, pytestconfig, record_property):
    rounds, seed = 2 * pytestconfig.getoption("rounds"), int(os.environ.get("GATEWAYD_TEST_SEED", 0)) or random.randrange(1 << 30)
    print(f"\n    replay with GATEWAYD_TEST_SEED={seed}")
    limit = 100 * rounds * COST
    nodes = Nodes(stage, 3, budget=limit)
    chance = random.Random(seed)
    record_property("figure", f"{rounds} deaths, seed {seed}")
    spenders = Spenders(nodes)
    for round_ in range(rounds):
        g = chance.choice(nodes.nodes)
        g.kill()
        if round_ % 2:
            nodes.redis.pause()
            time.sleep(chance.uniform(0.2, 0.8))
            nodes.redis.resume()
        g.start()
        time.sleep(chance.uniform(0.3, 0.7))
    statuses = spenders.stop()
    assert 200 in statuses and statuses <= {0, 200, 402, 503}
    nodes.spend_the_rest(40)
    posted = nodes.settled()
    assert nodes.answered() * COST <= limit and posted <= limit
    assert limit - posted < BOUND
    assert all(g.metric("gatewayd_budget_overshoot_bound_usd") == 0 for g in nodes)


def test_what_a_node_spent_is_posted_when_it_died_before_redis_had_heard_of_it(stage):
    """The history store has its first records and Redis, which others write to, none: that is no Redis that was emptied."""
    nodes = Nodes(stage, 2, budget=40 * BOUND, lease_ttl="5s")
    assert nodes[0].chat(max_tokens=100).status == 200
    eventually(lambda: nodes.budget().get("posted") == COST, 20 * SLOWNESS)
    assert nodes[1].chat(max_tokens=100).status == 200
    nodes.redis.pause()
    eventually(lambda: nodes.books() == [(2 * COST, 0)], 20 * SLOWNESS, what="the history store has both")
    nodes[1].kill()
    nodes.redis.resume()
    nodes[1].start()
    nodes.settled()
    assert nodes.budget()["posted"] == 2 * COST


def test_an_emptied_redis_forgets_no_money(stage):
    limit = 150 * COST
    nodes = Nodes(stage, 2, budget=limit)
    spenders = Spenders(nodes)
    eventually(lambda: nodes.answered() >= 20, 20 * SLOWNESS)
    nodes.redis.kill()
    nodes.redis.start()
    eventually(lambda: any(s in (402, 503) for _, s in spenders.statuses), 30 * SLOWNESS)
    spenders.stop()
    eventually(lambda: nodes.budget().get("posted", 0) > 0, 30 * SLOWNESS, what="the window is filled again")
    nodes.spend_the_rest(40)
    assert limit - reconciled(nodes, limit) < BOUND


def test_without_redis_each_goes_by_its_own_rule(stage):
    nodes = Nodes(stage, 1, budget={"usd": 10, "period": "total"}, lease_ttl="1s")
    assert nodes[0].chat(max_tokens=100).status == 200
    nodes.redis.kill()
    no = eventually(lambda: (r := nodes[0].chat(max_tokens=100)).status == 503 and r, 20 * SLOWNESS, what="the lease is over")
    assert no.headers["retry-after"] == "1" and "realtime store" in no.json["error"]["message"]
    nodes.redis.start()
    eventually(lambda: nodes[0].chat(max_tokens=100).status == 200, 30 * SLOWNESS, what="it grants again")


def test_an_open_budget_goes_on_up_to_its_cap(stage):
    cap = 5 * COST + BOUND
    nodes = Nodes(stage, 1, lease_ttl="2s", budget={
        "usd": 10, "period": "total", "when_store_down": "open", "open_cap_usd": cap / 10**9})
    assert nodes[0].chat(max_tokens=100).status == 200
    eventually(lambda: nodes.budget().get("leased") == 0, 20 * SLOWNESS, what="nothing is leased")
    nodes.redis.kill()
    before = nodes.answered()
    eventually(lambda: nodes[0].chat(max_tokens=100).status == 503, 20 * SLOWNESS, what="the cap is reached")
    assert 5 <= nodes.answered() - before <= cap // COST
    assert nodes[0].metric("gatewayd_budget_overshoot_bound_usd") >= cap / 10**9
    nodes.redis.start()


def test_a_budget_that_is_set_raised_or_lowered_is_so_on_all_nodes(stage):
    nodes = Nodes(stage, 2)

    def put(limit):
        r = http(nodes[0].admin_url + "/api/admin/budgets/global", "PUT",
                 {"limit_usd": limit / 10**9, "period": "total", "reason": "test"},
                 {"authorization": "Bearer " + nodes[0].config["admin"]["token"]})
        assert r.status == 200, r

    def all_say(status):
        eventually(lambda: all(g.chat(max_tokens=100).status == status for g in nodes), 10 * SLOWNESS, 0.2,
                   what=f"all nodes say {status}")

    all_say(200)
    put(1000)
    all_say(402)
    put(200 * COST)
    all_say(200)
    put(1000)
    all_say(402)


def test_a_reset_takes_off_what_all_nodes_spent_and_frees_the_limit_once(stage):
    limit = 40 * COST
    nodes = Nodes(stage, 2, budget=limit)
    auth = [{"authorization": "Bearer " + g.config["admin"]["token"]} for g in nodes]
    nodes.race(30)
    nodes.spend_the_rest()
    first = nodes.settled()
    r = http(nodes[0].admin_url + "/api/admin/budgets/tenant:acme", "POST", {"action": "reset", "reason": "test"}, auth[0])
    assert r.status == 200 and r.json["spent_nanousd"] == 0, r
    eventually(lambda: (nodes.race(20), nodes.answered() * COST - first > limit - BOUND)[1], 30 * SLOWNESS, 0.2,
               what="the limit is spent again")
    nodes.spend_the_rest()
    second = nodes.settled()
    assert limit - BOUND < first <= limit and second <= limit
    assert nodes.answered() * COST == first + second, "the counter in Redis and the row of the database followed"
    eventually(lambda: all(http(g.admin_url + "/api/admin/budgets/tenant:acme", None, None, a).json["spent_nanousd"] == second
                           for g, a in zip(nodes, auth)), 20 * SLOWNESS, what="all nodes know of it")


def test_the_budget_of_a_provider_raced_on_two_nodes_is_never_passed(stage):
    limit = 40 * COST
    nodes = Nodes(stage, 2, provider_budget={"usd": limit / 10**9, "period": "total"})
    statuses = nodes.race(60)
    assert set(statuses) <= {200, 402, 503} and 402 in statuses
    nodes.spend_the_rest()
    assert limit - BOUND < nodes.answered() * COST <= limit
    assert all(g.metric("gatewayd_budget_overshoot_bound_usd") == 0 for g in nodes)
    key = BUDGET.replace("tenant%3Aacme", "provider%3Aup")

    def is_posted():
        with nodes.redis.client() as c:
            b = c.hash(key)
        assert (int(b.get("posted", 0)), int(b.get("leased", 0))) == (nodes.answered() * COST, 0), b
        return True
    nodes.told(is_posted, 30, "all is posted, and nothing leased")


def test_a_login_that_may_do_what_the_documentation_names_is_enough(stage):
    text = (ROOT / "docs" / "stores.md").read_text()
    words = re.search(r"The login needs\n`([A-Z|\s]+)` and what the scripts call \(`([A-Z\s]+)`\)", text).groups()
    redis = stage.redis()
    with redis.client() as c:
        c("ACL", "SETUSER", "gw", "on", ">secret", "~{gw}:*", *["+" + w.lower() for w in " ".join(words).split()])
    nodes = Nodes(stage, 2, budget=100 * COST, limits={"rpm": 600, "concurrent": 5}, redis=redis.url().replace("//:", "//gw:").replace(PASSWORD, "secret"))
    nodes.redis = redis
    assert set(nodes.race(5, 2)) == {200}
    assert nodes[0].monitoring("stats/realtime")
    assert http(nodes[0].admin_url + "/api/admin/events", headers={"authorization": "Bearer " + nodes[0].config["admin"]["token"]}).status == 200
    nodes.settled()
    with redis.client() as c:
        assert [dict(zip(e[::2], e[1::2])) for e in c("ACL", "LOG")] == []


def test_three_nodes_admit_what_one_would(stage):
    rpm, seconds = 1200, 4
    nodes = Nodes(stage, 3, limits={"rpm": rpm})
    began = time.monotonic()
    r = nodes[0].chat(max_tokens=100)
    assert r.headers["x-ratelimit-limit-requests"] == str(rpm)
    assert int(r.headers["x-ratelimit-remaining-requests"]) == rpm - 1
    assert set(nodes.race(600, 16)) == {200, 429}, "the minute's worth that may come at once"
    spenders = Spenders(nodes)
    time.sleep(seconds + 1)
    assert spenders.stop() == {200, 429}
    ended = time.monotonic()
    at = [q.at for q in nodes.up.requests]
    assert len(at) <= rpm + (ended - began) * rpm / 60
    start = spenders.statuses[0][0] + 0.5
    steady = sum(start <= t < start + seconds for t in at)
    assert 0.95 * rpm / 60 * seconds - 1 <= steady <= 1.05 * rpm / 60 * seconds + 5


def test_slots_of_a_node_that_died_are_free_again(stage):
    gate = Gate()
    nodes = Nodes(stage, 2, limits={"concurrent": 3}, lease_ttl="1s",
                  script=lambda r: [gate, *answer()] if r.json.get("user") == "slow" else answer())
    slow = [threading.Thread(target=lambda: pytest.raises(OSError, nodes[0].chat, user="slow")) for _ in range(3)]
    for t in slow:
        t.start()
    eventually(lambda: nodes.answered() == 3, 20 * SLOWNESS)
    no = nodes[1].chat()
    assert no.status == 429 and no.json["error"]["limit"]["kind"] == "concurrent"
    nodes[0].kill()
    eventually(lambda: nodes[1].chat().status == 200, 20 * SLOWNESS, 0.1, what="its slots are free")
    gate.event.set()
    for t in slow:
        t.join()
    nodes[0].start()
    assert nodes[0].chat().status == 200
