# SPDX-License-Identifier: Apache-2.0
"""Budgets at the ends of their windows, with the wall clock in the test's hand: what is spent on one side of the instant never
counts on the other, is never lost, and no window grants more than its limit. What the provider answered is the truth."""

import json
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from urllib.parse import quote

import psycopg
import pytest

from support.gateway import KEY, http, model, provider, run, sha256
from support.process import SLOWNESS
from support.shiftclock import DAY, HOUR, SECOND, ShiftClock, instant
from support.upstream import Gate, chat_completion, json_answer
from support.wait import eventually

PRICES = {"prices": [{"provider": "up", "model": "m", "input_usd_per_mtok": "1", "output_usd_per_mtok": "1000",
                      "context_tokens": 1000, "max_output_tokens": 4000}]}
BOUND = 101_000_000  # nano-USD: 1000 and 100 tokens
COST = 10_500_000  # 500 and 10 tokens
ENDS = instant("2026-12-01")
TENANT = "tenant:acme"


def answer():
    body = chat_completion()
    body["usage"] = {"prompt_tokens": 500, "completion_tokens": 10, "total_tokens": 510}
    return json_answer(body)


class Servers:
    """For all tests of this file: a Redis whose clock is moved, too, and a PostgreSQL; each test has a database of its own in
    both."""

    def __init__(self, stage):
        self.stage, self.count = stage, 0
        self.clock = ShiftClock(stage.directory / "redis.clock")
        self.postgres = stage.postgres()
        self.redis = self.new_redis(stage)

    def new_redis(self, stage):
        self.clock.run(ENDS - HOUR)
        with preloaded(self.clock):
            redis = stage.redis(settings=[("--databases", "100")])
        stage.endings.append(redis.resume)
        return redis

    def database(self):
        self.count += 1
        self.postgres.execute(f"CREATE DATABASE test{self.count} TEMPLATE postgres")
        return self.postgres.url().rpartition("/")[0] + f"/test{self.count}"


@contextmanager
def preloaded(clock):
    with pytest.MonkeyPatch.context() as m:
        for name, value in clock.env.items():
            m.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    from conftest import Stage

    stage = Stage(tmp_path_factory.mktemp("resets"))
    yield Servers(stage)
    stage.end()


def text_of(ns):
    return datetime.fromtimestamp(ns // SECOND, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Town:
    """Gateways under one clock, and their stores."""

    def __init__(self, stage, servers, limit, start=ENDS - HOUR, nodes=1, embedded=False, redis=None, clocks=1,
                 limits=None, **budget):
        self.stage, self.servers, self.limit, self.redis = stage, servers, limit, redis or servers.redis
        prices = stage.directory / "prices.json"
        prices.write_text(json.dumps(PRICES))
        self.gate = Gate()  # what the user "slow" waits for
        self.up = stage.upstream(lambda r: [self.gate, answer()] if r.json.get("user") == "slow" else answer())
        self.clocks = [ShiftClock(stage.directory / f"clock{n}") for n in range(clocks)]
        self.options, self.url = {"prices": str(prices), "lease_ttl": "2s"}, None
        if not embedded:
            self.url = servers.database()
            self.number = 0 if redis else servers.count
            self.options |= {"redis": self.redis.url(database=self.number), "database": self.url}
        tenant = {"id": "acme", "plan": "pro", "keys": [{"id": "test", "sha256": sha256(KEY)}],
                  "budget": {"usd": limit / 10**9, "period": "month", **budget}}
        if limits:
            tenant["limits"] = limits
        self.options["tenants"] = [tenant]
        self.stand(start)
        self.nodes = []
        for n in range(nodes):
            self.add_node(n % clocks)
        self.gw = self.nodes[0]
        stage.endings.append(self.gate.event.set)

    def slow(self, **more):
        """A request that is open until the gate is; returns its thread."""
        had = len(self.up.requests)

        def ask():
            with suppress(OSError):
                self.gw.chat(user="slow", max_tokens=100)
        thread = threading.Thread(target=ask)
        thread.start()
        eventually(lambda: len(self.up.requests) > had, 10 * SLOWNESS, what="it reached the provider")
        return thread

    def add_node(self, clock=0):
        self.nodes.append(self.stage.gateway([provider("up", self.up.base_url)], [model("chat", "up/m", retries=0)],
                                             env=self.clocks[clock].env, **self.options))

    def stand(self, ns):
        """Redis's clock goes on from there, since it judges by it who is alive."""
        for c in self.clocks:
            c.stand(ns)
        self.servers.clock.run(ns)

    def ask(self, node=0, within=20):
        """A request's status, once it is not told to come again."""
        def said():
            r = self.nodes[node].chat(max_tokens=100)
            assert r.status in (200, 402), r
            return r
        return eventually(said, within * SLOWNESS, 0.05, "an answer that is 200 or 402")

    def spend(self, n, node=0):
        for _ in range(n):
            r = self.ask(node)
            assert r.status == 200, r
        return n * COST

    def spend_all(self, spent):
        """Until each node says 402; what was spent with `spent`. Nobody holds anything, so money for the bound means admitted."""
        for node in range(len(self.nodes)):
            while (r := self.ask(node)).status == 200:
                assert spent + BOUND <= self.limit, "no more than the limit"
                spent += COST
        assert spent + BOUND > self.limit, r
        return spent

    def api(self, node=0, account=TENANT, method=None, body=None):
        gw = self.nodes[node]
        return http(f"{gw.admin_url}/api/admin/budgets/{account}", method, body,
                    {"authorization": "Bearer " + gw.config["admin"]["token"]})

    def show(self, *args, node=0):
        done = run(["aigwctl", "--url", "unix:" + self.nodes[node].ready["admin_socket"], *args, "-o", "json"], self.clocks[0].env,
                   self.stage.directory)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)["data"]

    def rows(self, sql):
        if self.url:
            with psycopg.connect(self.url, connect_timeout=5) as db:
                return [tuple(r) for r in db.execute(sql).fetchall()]
        db = sqlite3.connect(f"file:{self.gw.state_dir}/history.db?mode=ro", uri=True)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def books(self):
        """{window: (posted, held)}"""
        rows = self.rows(f"SELECT window_id, posted_nano, held_nano FROM budget_windows WHERE account = '{TENANT}'")
        return {r[0]: (int(r[1]), int(r[2])) for r in rows}

    def spans(self):
        """{window: (start, end)} in nanoseconds."""
        rows = self.rows(f"SELECT window_id, starts_at, ends_at FROM budget_windows WHERE account = '{TENANT}'")
        return {r[0]: (int(r[1]) * SECOND, int(r[2]) * SECOND) for r in rows}

    def key(self, window):
        return "{gw}:bud:" + quote(TENANT, safe="") + ":" + window

    def in_redis(self):
        """{window: (posted, held)} of windows in which anything is; what is leased is within the limit."""
        prefix = self.key("")
        with self.redis.client() as c:
            c("SELECT", self.number)
            found = {k.removeprefix(prefix): c.hash(k) for k in c.scan(prefix + "*")}
        got = {k: tuple(int(w.get(f, 0)) for f in ("posted", "held", "leased")) for k, w in found.items()}
        assert all(sum(w) <= self.limit for w in got.values()), found
        return {k: w[:2] for k, w in got.items() if any(w[:2])}

    def settled(self, **windows):
        """All books say that this was spent in these windows, and nothing in others."""
        want = {k.replace("_", "-").removeprefix("w"): (v, 0) for k, v in windows.items()}

        def agree():
            assert self.books() == want
            assert not self.url or self.in_redis() == {k: v for k, v in want.items() if v[0]}
            return True
        eventually(agree, 20 * SLOWNESS, what=f"the books say {want}")


STORES = pytest.mark.parametrize("embedded", [False, True], ids=["servers", "embedded"])


@STORES
def test_a_month_ends_at_its_instant_everywhere(stage, servers, embedded):
    t = Town(stage, servers, 2 * COST + BOUND, embedded=embedded)

    def is_shown(window, ends, spent):
        no = t.ask()
        limit = no.json["error"]["limit"]
        assert (no.status, limit["window"], limit["resets_at"]) == (402, window, text_of(ends)), no
        assert text_of(ends) in no.json["error"]["message"]
        for b in (t.api().json, t.show("budgets", "show", "acme")):
            assert (b["window"], b["resets_at"], b["spent_nanousd"], b["held_nanousd"]) == (window, text_of(ends), spent, 0)
        why = t.show("explain", "acme")
        assert (why["checks"][0]["resets_at"], why["books"]["resets_at"]) == (text_of(ends),) * 2
        assert (why["books"]["window"], why["books"]["counter_nanousd"]) == (window, spent)

    before = t.spend(2)
    t.stand(ENDS - 1000)
    before += t.spend(1)
    is_shown("2026-11", ENDS, before)
    t.stand(ENDS)
    after = t.spend(3)
    is_shown("2026-12", instant("2027-01-01"), after)
    t.settled(w2026_11=before, w2026_12=after)
    assert t.spans() == {"2026-11": (instant("2026-11-01"), ENDS), "2026-12": (ENDS, instant("2027-01-01"))}
    eventually(lambda: t.show("explain", "acme")["books"]["drift_nanousd"] == 0, 20 * SLOWNESS, what="the ledger agrees")


@pytest.mark.parametrize(("is_killed", "policy"), [(False, "closed"), (True, "bounded")], ids=["stopped", "killed and emptied"])
def test_redis_is_away_while_the_month_ends(stage, servers, is_killed, policy):
    redis = servers.new_redis(stage)
    t = Town(stage, servers, 10 * COST + 2 * BOUND, nodes=2, redis=redis, when_store_down=policy)
    before = t.spend(2) + t.spend(1, node=1)
    held = t.slow()
    before += COST
    redis.kill() if is_killed else redis.pause()
    statuses = [g.chat(max_tokens=100).status for g in t.nodes]
    assert set(statuses) <= {200, 503}
    before += statuses.count(200) * COST
    t.stand(ENDS)
    assert [g.chat(max_tokens=100).status for g in t.nodes] == [503, 503], "nothing is leased of the new month"
    t.gate.event.set()
    held.join()
    assert len(t.up.requests) * COST == before
    redis.start() if is_killed else redis.resume()
    after = t.spend_all(0)
    t.settled(w2026_11=before, w2026_12=after)


def test_the_history_store_is_away_while_the_month_ends(stage, servers):
    t = Town(stage, servers, 2 * COST + BOUND, nodes=2)
    before = t.spend(1) + t.spend(1, node=1)
    stage.endings.append(servers.postgres.resume)
    servers.postgres.pause()
    before = t.spend_all(before)
    t.stand(ENDS)
    after = t.spend_all(0)
    servers.postgres.resume()
    t.settled(w2026_11=before, w2026_12=after)


DAYS = [("2026-03-29", "2026-03-28T23:00", "2026-03-29T22:00"), ("2026-10-25", "2026-10-24T22:00", "2026-10-25T23:00")]


@pytest.mark.parametrize(("day", "start", "end"), DAYS, ids=["23 hours", "25 hours"])
def test_a_day_in_berlin_ends_when_its_clocks_show_midnight(stage, servers, day, start, end):
    start, end = instant(start), instant(end)
    names = [datetime.fromtimestamp(instant(day) // SECOND + d * 86400, timezone.utc).strftime("%Y-%m-%d") for d in (-1, 0, 1)]
    t = Town(stage, servers, 100 * COST, start - HOUR, period="day", timezone="Europe/Berlin")
    for at, window, n in ((start - 1000, 0, 1), (start, 1, 2), (start + 22 * HOUR, 1, 1), (end - 1000, 1, 1), (end, 2, 1)):
        t.stand(at)
        t.spend(n)
        b = t.api().json
        assert b["window"] == names[window] and b["resets_at"] == text_of([start, end, end + DAY][window]), (at, b)
    r = t.api(method="POST", body={"action": "reset", "reason": "test"})
    assert r.status == 200 and r.json["spent_nanousd"] == 0, r
    t.settled(**dict(zip(("w" + n for n in names), (COST, 4 * COST, 0))))
    assert t.spans() == dict(zip(names, ((start - DAY, start), (start, end), (end, end + DAY))))


@STORES
def test_a_clock_that_steps_over_the_instant_grants_no_month_twice(stage, servers, embedded):
    t = Town(stage, servers, 6 * COST + BOUND, nodes=1 if embedded else 2, embedded=embedded, limits={"rpm": 6000})
    spent = [0, 0]
    steps = (-HOUR, HOUR, -HOUR, 0, -1000, 0, -SECOND, SECOND, -1000000, 1000000, -1000, 1000, -HOUR, HOUR, -1000, HOUR, -HOUR, 0)
    for i, step in enumerate(steps):
        t.stand(ENDS + step)
        if embedded and i == 6:  # in the old month, with some spent in the new one
            t.gw.stop()
            t.gw.start()
        r = t.ask(i % len(t.nodes))
        assert r.status == (200 if spent[step >= 0] + BOUND <= t.limit else 402), (spent, r)
        spent[step >= 0] += COST if r.status == 200 else 0
    assert spent == [7 * COST, 7 * COST]
    t.settled(w2026_11=spent[0], w2026_12=spent[1])


@pytest.mark.parametrize(("period", "window", "weeks"), [("month", "w2026_11", 3), ("total", "total", 60)], ids=["month", "total"])
def test_what_nobody_touched_for_weeks_is_not_forgotten(stage, servers, period, window, weeks):
    start = instant("2026-11-02")
    t = Town(stage, servers, 2 * COST + BOUND, start, period=period)
    spent = t.spend(3)
    t.settled(**{window: spent})

    def is_known():
        for node in range(len(t.nodes)):
            assert t.ask(node).status == 402
            assert t.api(node).json["spent_nanousd"] == spent
        t.settled(**{window: spent})

    with t.redis.client() as c:
        c("SELECT", t.number)
        rests = c("TTL", t.key(window.removeprefix("w").replace("_", "-")))
    assert rests > weeks * 7 * 86400, "others may write meanwhile, so that Redis is not taken for an emptied one"
    t.stand(start + weeks * 7 * DAY)
    is_known()
    if period == "total":
        return
    t.gw.stop()
    t.gw.start()
    is_known()
    t.redis.flush()
    is_known()
    t.gw.stop()
    t.redis.flush()
    t.gw.start()
    t.add_node()
    is_known()


@STORES
def test_what_is_open_when_the_month_ends_counts_where_it_arrived(stage, servers, embedded):
    t = Town(stage, servers, 2 * COST + BOUND, embedded=embedded)
    t.stand(ENDS - 1000)
    before = t.spend(1)
    held = t.slow()
    assert t.api().json["held_nanousd"] == BOUND
    assert t.gw.chat(max_tokens=100).status in (402, 503), "the rest is held"
    t.stand(ENDS)
    b = t.api().json
    assert (b["window"], b["spent_nanousd"], b["held_nanousd"]) == ("2026-12", 0, 0)
    after = t.spend_all(0)
    eventually(lambda: t.books() == {"2026-11": (before, BOUND), "2026-12": (after, 0)}, 20 * SLOWNESS)
    t.gate.event.set()
    held.join()
    assert t.api().json["spent_nanousd"] == after
    t.settled(w2026_11=before + COST, w2026_12=after)


def test_what_was_open_when_the_gateway_died_counts_where_it_arrived(stage, servers):
    t = Town(stage, servers, 10 * BOUND, embedded=True)
    t.stand(ENDS - 1000)
    held = t.slow()
    t.gw.kill()
    held.join()
    t.stand(ENDS)
    t.gate.event.set()
    t.gw.start()
    after = t.spend(1)
    eventually(lambda: t.books().get("2026-11", (0, 1))[1] == 0, 20 * SLOWNESS)
    lost = t.rows("SELECT sum(cost_nano) FROM ledger WHERE kind = 'request' AND budget_hour < %d" % (ENDS // SECOND))[0][0]
    assert 0 < lost < BOUND, "its prompt"
    t.settled(w2026_11=lost, w2026_12=after)


def test_two_nodes_whose_clocks_differ_pass_the_instant_together(stage, servers):
    t = Town(stage, servers, 40 * COST + BOUND, nodes=2, clocks=2)
    stopping, statuses = threading.Event(), set()

    def spend(g):
        while not stopping.is_set():
            statuses.add(g.chat(max_tokens=100).status)
            time.sleep(0.02)

    for c, early in zip(t.clocks, (0, SECOND // 4)):
        c.run(ENDS - SECOND + early)
    t.servers.clock.run(ENDS - SECOND)
    threads = [threading.Thread(target=spend, args=(g,)) for g in t.nodes]
    for th in threads:
        th.start()
    eventually(lambda: t.clocks[0].now() > ENDS + SECOND, 20, what="both are in the new month")
    stopping.set()
    for th in threads:
        th.join()
    assert statuses <= {200, 402, 503}
    eventually(lambda: all(t.api(n).json["held_nanousd"] == 0 for n in (0, 1)), 10 * SLOWNESS)
    for node in range(2):
        while t.ask(node).status == 200:
            pass
    ledger = "SELECT coalesce(sum(cost_nano), 0) FROM ledger WHERE kind = 'request' AND budget_hour %s %d"

    def agree():
        books = {k: v[0] for k, v in t.books().items()}
        before, after = (int(t.rows(ledger % (sign, ENDS // SECOND))[0][0]) for sign in ("<", ">="))
        assert books == {"2026-11": before, "2026-12": after} and before + after == len(t.up.requests) * COST
        assert t.in_redis() == t.books()
        return before, after
    before, after = eventually(agree, 20 * SLOWNESS)
    assert 0 < before <= t.limit and t.limit - BOUND < after <= t.limit
    assert all(g.metric("gatewayd_budget_overshoot_bound_usd") == 0 for g in t.nodes)


@STORES
def test_another_period_begins_with_nothing_and_what_was_spent_stays_in_the_old_one(stage, servers, embedded):
    t = Town(stage, servers, 2 * COST + BOUND, embedded=embedded)
    spent = t.spend_all(0)
    for period, window in (("day", "2026-11-30"), ("month", "2026-11")):
        t.options["tenants"][0]["budget"]["period"] = period
        t.gw.write_config({**t.gw.config, "tenants": t.options["tenants"]})
        t.gw.reload()
        b = eventually(lambda: (b := t.api().json)["period"] == period and b, 10 * SLOWNESS)
        assert b["window"] == window
        if period == "day":
            assert b["spent_nanousd"] == 0 and t.spend_all(0) == spent
            t.settled(**{"w2026_11": spent, "w2026_11_30": spent})
    assert t.ask().status == 402, "nothing is granted before it is known again"
    assert t.api().json["spent_nanousd"] == spent


def test_a_reset_that_is_under_way_when_the_month_ends_gives_nothing_to_the_next(stage, servers):
    t = Town(stage, servers, 2 * COST + BOUND)
    spent = t.spend_all(0)
    t.settled(w2026_11=spent)
    done = []
    thread = threading.Thread(target=lambda: done.append(t.api(method="POST", body={"action": "reset", "reason": "test"})))
    with psycopg.connect(t.url) as db:
        db.execute("LOCK TABLE audit IN EXCLUSIVE MODE")
        thread.start()
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'audit'::regclass"
        eventually(lambda: t.rows(waits) == [(1,)], 10 * SLOWNESS, what="the audit row waits for the lock")
        t.stand(ENDS)
    thread.join()
    assert done[0].status == 200 and done[0].json["window"] == "2026-12", done
    after = t.spend_all(0)
    eventually(lambda: t.books() == {"2026-11": (0, 0), "2026-12": (after, 0)}, 10 * SLOWNESS)
    t.settled(w2026_11=0, w2026_12=after)


def test_a_second_reset_takes_off_what_other_nodes_spent_since_the_first(stage, servers):
    t = Town(stage, servers, 100 * BOUND, nodes=2)
    ledger = "SELECT sum(cost_nano) FROM ledger WHERE kind = 'request'"
    for n in (1, 2, 3):
        t.spend(2)
        t.spend(3, node=1)
        eventually(lambda: t.rows(ledger) == [(n * 5 * COST,)], 10 * SLOWNESS, what="the books have it")
        r = t.api(method="POST", body={"action": "reset", "reason": "test"})
        assert r.status == 200 and r.json["spent_nanousd"] == 0, r
    t.settled(w2026_11=0)
    assert t.api(method="POST", body={"action": "reset", "reason": "test"}).status == 409, "nothing is spent"
