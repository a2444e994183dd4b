# SPDX-License-Identifier: Apache-2.0
"""The monitoring API against the truth of a day: 24 hours of facts are written into the journal of a gateway that does not run
yet, by the calls that a worker makes, so that its start brings them to every book. What the API says is then held against sums
made here, before and after the hours are rolled up."""

import json
import math
import os
import random
import re
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from datetime import datetime, timezone
from urllib.parse import quote

import jsonschema_rs
import pytest

from support.gateway import KEY, Gateway, config, http, model, provider, sha256
from support.process import BIN, SLOWNESS
from support.wait import eventually

HOUR = 3600
SLASHED = "meta-llama/llama-3.1/70b"
MODELS = [("openrouter", "gpt-4o"), ("openrouter", SLASHED), ("fireworks", "llama-3-70b")]
USERS = ["%032x" % (0xABC << 100 | n) for n in range(7)]
TENANTS = [{"id": "acme", "plan": "pro", "keys": [{"id": "test", "sha256": sha256(KEY)}]},
           {"id": "globex", "plan": "pro", "keys": [{"id": "one", "sha256": sha256("k1")}, {"id": "two", "sha256": sha256("k2")}]}]
OWNERS = [("acme", "test"), ("globex", "one"), ("globex", "two")]


class Fact:
    """One request; `before` is the attempt that failed before it: (provider, model, error, ms)."""

    def __init__(self, rng, end, p, m, spike):
        self.end_ms, self.provider, self.model = end, p, m
        self.tenant, self.key = rng.choice(OWNERS)
        self.user = rng.choice(USERS)
        self.ms = int(rng.lognormvariate(6, 0.4))
        self.error = "-" if rng.random() > (0.4 if spike and p == "fireworks" else 0.01) else rng.choice(["upstream_rate_limit", "upstream_error"])
        ok = self.error == "-"
        self.input, self.output = (rng.randint(50, 900), rng.randint(10, 400)) if ok else (0, 0)
        self.cached = self.input // 3 if ok and rng.random() < 0.2 else 0
        self.cost = (rng.randint(20_000_000, 24_000_000) * (4 if spike and p == "openrouter" else 1)) if ok else 0
        self.ttft = self.ms // 4 if ok and rng.random() < 0.5 else None
        self.before = ("fireworks", "llama-3-70b", "upstream_error", rng.randint(5, 50)) if p == "openrouter" and rng.random() < 0.01 else None

    def line(self):
        out = [self.end_ms, self.ms, self.tenant, self.key, self.user, self.provider, self.model, self.error, self.input, self.cached,
               self.output, self.cost, "-" if self.ttft is None else self.ttft]
        if self.before:
            out += list(self.before)
        return "\t".join(str(x) for x in out)

    def attempts(self):
        """(provider, model, end of it in seconds, ok, ms, input, cached, output, cost, ttft)"""
        if self.before:
            p, m, _, ms = self.before
            yield p, m, (self.end_ms - self.ms) / 1000, False, ms, 0, 0, 0, 0, None
        yield (self.provider, self.model, self.end_ms / 1000, self.error == "-", self.ms, self.input, self.cached, self.output, self.cost,
               self.ttft)


def make_day(now):
    rng = random.Random(11)
    facts = []
    running = int(now) // HOUR * HOUR
    for h in range(24):
        start = running - (23 - h) * HOUR
        span = min(HOUR, max(1, int(now) - start - 2))
        for p, m in MODELS:
            # The last closed hour is out of the ordinary: four times the cost, and errors.
            for _ in range(30 if span == HOUR else 8):
                facts.append(Fact(rng, (start + 1) * 1000 + rng.randrange(span * 1000 - 500), p, m, start == running - HOUR))
    return sorted(facts, key=lambda f: f.end_ms)


class Truth:
    def __init__(self, facts):
        self.facts = facts

    def sums(self, since, until=math.inf, provider=None, model=None, by=lambda p, m, at: None):
        out = defaultdict(lambda: defaultdict(float))
        for f in self.facts:
            for p, m, at, ok, ms, tin, cached, tout, cost, ttft in f.attempts():
                if not since <= at < until or provider not in (None, p) or model not in (None, m):
                    continue
                s = out[by(p, m, at)]
                for name, v in (("total_requests", 1), ("successful_requests", ok), ("failed_requests", not ok), ("ms", ms), ("input_tokens", tin),
                                ("cached_tokens", cached), ("output_tokens", tout), ("total_tokens", tin + tout), ("total_cost_nanousd", cost),
                                ("ttft", ttft or 0), ("ttfts", ttft is not None)):
                    s[name] += v
                s.setdefault("all", [])
                s["all"] = s["all"] + [ms] if isinstance(s["all"], list) else [ms]
                s.setdefault("models", set())
                s["models"] = (s["models"] if isinstance(s["models"], set) else set()) | {(p, m)}
        return out

    def one(self, since, **more):
        return self.sums(since, **more)[None]


def second(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def hour_name(s):
    return time.strftime("%Y-%m-%d:%H", time.gmtime(s))


def near_percentile(sorted_ms, q, got):
    want = sorted_ms[max(0, math.ceil(q / 100 * len(sorted_ms)) - 1)]
    assert got == pytest.approx(want, rel=0.011), (q, got, want)


def check_measures(row, want):
    for name in ("total_requests", "successful_requests", "failed_requests", "input_tokens", "cached_tokens", "output_tokens", "total_tokens",
                 "total_cost_nanousd"):
        assert row[name] == want[name], (name, row[name], want[name])
    assert row["total_cost"] == pytest.approx(want["total_cost_nanousd"] / 1e9)
    assert row["unpriced_requests"] == 0
    if not want["total_requests"]:
        assert row["error_rate"] is row["success_rate"] is row["avg_latency_ms"] is None
        return
    assert row["error_rate"] == pytest.approx(want["failed_requests"] / want["total_requests"])
    assert row["success_rate"] == pytest.approx(want["successful_requests"] / want["total_requests"])
    assert row["avg_latency_ms"] == pytest.approx(want["ms"] / want["total_requests"], abs=0.001)


def check_percentiles(row, want):
    for q, name in ((50, "p50_ms"), (95, "p95_ms"), (99, "p99_ms")):
        if want["total_requests"]:
            near_percentile(sorted(want["all"]), q, row[name])
        else:
            assert row[name] is None


class Api:
    def __init__(self, gateway):
        self.gateway = gateway
        self.auth = {"authorization": "Bearer " + gateway.ready["admin_token"]}
        self.document = http(gateway.admin_url + "/api/openapi.json", headers=self.auth).json
        self.seen = set()

    def call(self, path, method="GET", body=None, base=None):
        return http((base or self.gateway.admin_url) + path, method, body, self.auth)

    def get(self, path, route=None):
        """What a route answers, once it is what the document says."""
        answer = self.call(path)
        assert answer.status == 200, (path, answer)
        route = route or path.partition("?")[0]
        self.seen.add(route)
        schema = self.document["paths"][route]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema_rs.validate({**schema, "components": self.document["components"]}, answer.json)
        return answer.json

    def monitoring(self, path, route=None):
        return self.get("/api/monitoring/" + path, route and "/api/monitoring/" + route)


def start_day(stage, name="day", **more):
    now = time.time()
    if now % HOUR > HOUR - 100 * SLOWNESS:  # let the hour end first: the day should be one and the same throughout
        time.sleep(HOUR - now % HOUR + 1)
        now = time.time()
    upstream = stage.upstream()
    settings = config([provider("openrouter", upstream.url), provider("fireworks", upstream.url)],
                      [model("chat", "openrouter/gpt-4o")], tenants=TENANTS, history={"users_key": "a key of this test alone"}, **more)
    gateway = Gateway(stage.directory, settings, name)
    stage.endings.append(gateway.stop)
    facts = make_day(now)
    gateway.state_dir.mkdir(parents=True, mode=0o700)
    subprocess.run([BIN / "daytool", gateway.state_dir], input="\n".join(f.line() for f in facts) + "\n", text=True, check=True)
    gateway.start()
    api = Api(gateway)
    first = int(now) // HOUR * HOUR - 23 * HOUR
    total = sum(a[2] >= first for f in facts for a in f.attempts())
    eventually(lambda: sum(p["total_requests"] for p in api.monitoring("providers/comparison")["providers"]) == total, 30 * SLOWNESS,
               what="the day in the books")
    return gateway, api, Truth(facts)


def check_hours(api, truth):
    """All that is made of hours; the same whichever store has them."""
    now = api.monitoring("stats/realtime")
    assert not now["partial"] and not now["stale"] and now["missing"] is None
    want = truth.sums(second(now["from"]), by=lambda p, m, at: p)
    assert set(now["providers"]) == {"openrouter", "fireworks"}
    for p, row in now["providers"].items():
        check_measures(row, want[p])
    assert now["total_requests"] == sum(1 for f in truth.facts if f.end_ms / 1000 >= second(now["from"]))
    assert now["total_cost"] == pytest.approx(sum(w["total_cost_nanousd"] for w in want.values()) / 1e9)
    day = api.monitoring("stats/realtime?hours=24")
    assert day["total_requests"] == len([f for f in truth.facts if f.end_ms / 1000 >= second(day["from"])])

    for p in ("openrouter", "fireworks"):
        hourly = api.monitoring(f"stats/hourly/{p}?hours=24", "stats/hourly/{provider}")
        want = truth.sums(second(hourly["from"]), provider=p, by=lambda p, m, at: int(at) // HOUR * HOUR)
        assert [r["hour"] for r in hourly["stats"]] == [hour_name(second(hourly["from"]) + i * HOUR) for i in range(24)]
        for i, row in enumerate(hourly["stats"]):
            w = want[int(second(hourly["from"])) + i * HOUR]
            check_measures(row, w)
            check_percentiles(row, w)
        check_measures(hourly["total"], truth.one(second(hourly["from"]), provider=p))
        trends = api.monitoring(f"latency-trends/{p}?hours=24", "latency-trends/{provider}")
        for i, row in enumerate(trends["trends"]):
            w = want[int(second(trends["from"])) + i * HOUR]
            assert row["count"] == w["total_requests"]
            assert row["avg_ms"] == pytest.approx(w["ms"] / w["total_requests"])
            assert row["avg_ttft_ms"] == (pytest.approx(w["ttft"] / w["ttfts"]) if w["ttfts"] else None)
            check_percentiles(row, w)
        assert trends["trend"]["direction"] in ("rising", "falling", "steady")

    compared = api.monitoring("providers/comparison?hours=24&rank=cost")
    want = truth.sums(second(compared["from"]), by=lambda p, m, at: p)
    assert compared["total_providers"] == 2
    assert [r["provider"] for r in compared["providers"]] == sorted(want, key=lambda p: -want[p]["total_cost_nanousd"])
    for row in compared["providers"]:
        w = want[row["provider"]]
        check_measures(row, w)
        check_percentiles(row, w)
        assert row["avg_error_rate"] == row["error_rate"] and row["unique_models"] == len(w["models"])

    stats = api.get("/models/stats?hours=24&rank=errors")
    want = truth.sums(second(stats["from"]), by=lambda p, m, at: (p, m))
    assert stats["total_models"] == len(stats["models"]) == len(want) == 3
    rates = [r["error_rate"] for r in stats["models"]]
    assert rates == sorted(rates, reverse=True)
    for row in stats["models"]:
        check_measures(row, want[row["provider"], row["model"]])
        check_percentiles(row, want[row["provider"], row["model"]])
    assert [m["model"] for m in api.get("/models/stats?provider=fireworks&limit=1")["models"]] == ["llama-3-70b"]

    errors = api.monitoring("error-rates?hours=24")
    for row in errors["models"]:
        w = want[row["provider"], row["model"]]
        assert (row["total_requests"], row["failed_requests"]) == (w["total_requests"], w["failed_requests"])
        assert row["error_rate"] == pytest.approx(w["failed_requests"] / w["total_requests"])
    assert len(errors["models"]) == 3 and len(errors["providers"]) == 2

    for p, m in MODELS:
        for path in (f"latency/{p}/{m}", f"latency/{p}/{quote(m, safe='')}", f"latency/{p}%2F{quote(m, safe='')}"):
            latency = api.monitoring(path + "?percentiles=1,50,95,99,99.9", "latency/{provider}/{model}")
            w = truth.one(second(latency["from"]), provider=p, model=m)
            assert (latency["provider"], latency["model"], latency["count"]) == (p, m, w["total_requests"])
            assert latency["avg"] == pytest.approx(w["ms"] / w["total_requests"])
            for q in ("1", "50", "95", "99", "99.9"):
                near_percentile(sorted(w["all"]), float(q), latency["p" + q])
        tokens = api.monitoring(f"token-efficiency/{p}/{m}?days=1", "token-efficiency/{provider}/{model}")
        w = truth.one(second(tokens["from"]), provider=p, model=m)
        check_measures(tokens, w)
        assert tokens["avg_output_tokens"] == pytest.approx(w["output_tokens"] / w["total_requests"])
        assert tokens["output_input_ratio"] == pytest.approx(w["output_tokens"] / w["input_tokens"])
        assert tokens["cached_ratio"] == pytest.approx(w["cached_tokens"] / w["input_tokens"])
        assert tokens["cost_per_success"] == pytest.approx(w["total_cost_nanousd"] / 1e9 / w["successful_requests"])
        assert tokens["tokens_per_second"] == pytest.approx(w["output_tokens"] / w["ms"] * 1000)


def check_cost(api, truth):
    cost = api.monitoring("cost-analysis?days=2")
    since = second(cost["from"])
    everything = truth.one(since)
    check_measures({**cost}, everything)
    for name, by in (("providers", lambda p, m, at: (p, None)), ("models", lambda p, m, at: (p, m))):
        want = truth.sums(since, by=by)
        assert len(cost[name]) == len(want)
        for row in cost[name]:
            w = want[row["provider"], row.get("model")]
            check_measures(row, w)
            assert row["share"] == pytest.approx(w["total_cost_nanousd"] / everything["total_cost_nanousd"])
            assert row["cost_per_1m_tokens"] == pytest.approx(w["total_cost_nanousd"] / 1e3 / w["total_tokens"])
            assert row["previous_cost_nanousd"] == 0 and row["change"] is None
    want = truth.sums(since, by=lambda p, m, at: time.strftime("%Y-%m-%d", time.gmtime(at)))
    assert len(cost["by_day"]) == 2
    for row in cost["by_day"]:
        check_measures(row, want[row["day"]])
    for by, name in (("tenant", "tenants"), ("key", "keys")):
        want = defaultdict(lambda: [0, 0, 0])
        for f in truth.facts:
            if f.end_ms / 1000 >= since:
                w = want[(f.tenant, f.key if by == "key" else None)]
                w[0] += 1
                w[1] += f.input + f.output
                w[2] += f.cost
        rows = api.monitoring("cost-analysis?days=2&by=" + by)[name]
        assert {(r["tenant"], r.get("key")): [r["total_requests"], r["total_tokens"], r["total_cost_nanousd"]] for r in rows} == dict(want)
        assert [r["total_cost_nanousd"] for r in rows] == sorted((w[2] for w in want.values()), reverse=True)
    assert len(api.monitoring("cost-analysis?days=2&by=key&limit=1")["keys"]) == 1
    # The days before: what is there of them.
    one = api.monitoring("cost-analysis?days=1")
    earlier = truth.one(second(one["previous"]["from"]), until=second(one["previous"]["to"]))
    check_measures(one["previous"], earlier)
    assert second(one["previous"]["to"]) - second(one["previous"]["from"]) <= 86400


def check_errors(api, truth):
    for p in ("openrouter", "fireworks"):
        rows = api.monitoring(f"errors/{p}?limit=100", "errors/{provider}")
        failed = [(at, ms) for f in truth.facts for q, _, at, ok, ms, *_ in f.attempts() if q == p and not ok]
        assert len(rows) == min(100, len(failed))
        assert {(round(r["timestamp"], 3), r["latency_ms"]) for r in rows} <= {(round(at, 3), float(ms)) for at, ms in failed}
        assert all(r["error"] and r["type"] in ("upstream_rate_limit", "upstream_error") for r in rows)
        assert len(api.monitoring(f"errors/{p}?limit=3", "errors/{provider}")) == min(3, len(failed))


def check_anomalies(api):
    """The last closed hour cost four times what is usual, and 40 % of it failed at one provider."""
    def found():
        a = api.monitoring("anomalies")
        return a if {("cost_spike", "openrouter"), ("error_spike", "fireworks")} <= {(x["type"], x["provider"]) for x in a["anomalies"]} else None

    a = eventually(found, 40 * SLOWNESS, what="both anomalies")
    assert a["total_count"] == len(a["anomalies"]) == a["critical_count"] + a["warning_count"]
    hour = hour_name(time.time() // HOUR * HOUR - HOUR)
    spike = next(x for x in a["anomalies"] if (x["type"], x["provider"], x["hour"]) == ("cost_spike", "openrouter", hour))
    assert spike["severity"] == "warning" and 3.5 < spike["ratio"] < 4.5 and spike["active"] and spike["samples"] >= 6
    assert spike["value"] == pytest.approx(spike["expected"] * spike["ratio"])
    errors = next(x for x in a["anomalies"] if (x["type"], x["provider"], x["hour"]) == ("error_spike", "fireworks", hour))
    assert errors["severity"] == "critical" and errors["value"] > 0.2
    assert {x["severity"] for x in api.monitoring("anomalies?severity=critical")["anomalies"]} == {"critical"}
    assert {x["provider"] for x in api.monitoring("anomalies?provider=openrouter")["anomalies"]} == {"openrouter"}
    events = api.monitoring("events?kind=anomaly")["events"]
    assert {(e["subject"], e["facts"]["type"]) for e in events} >= {("openrouter", "cost_spike"), ("fireworks", "error_spike")}


@pytest.mark.parametrize("stores", ["sqlite", "postgres+redis"])
def test_every_answer_is_the_truth_of_the_day(stage, stores):
    more = {"database": stage.postgres().url(), "redis": stage.redis().url()} if "postgres" in stores else {}
    gateway, api, truth = start_day(stage, **more)
    check_hours(api, truth)
    check_cost(api, truth)
    assert api.call("/api/admin/aggregate", "POST", {}).status == 200
    check_hours(api, truth)
    check_cost(api, truth)
    check_errors(api, truth)
    check_anomalies(api)
    users = api.monitoring("trial-analytics")["active_users"]
    assert users["mau"] == len({(f.tenant, f.user) for f in truth.facts if f.error == "-"})
    healths = api.monitoring("health")
    assert {h["provider"] for h in healths} == {"openrouter", "fireworks"} and healths[0]["health_score"] is None
    api.monitoring("health/openrouter", "health/{provider}")
    api.monitoring("circuit-breakers")
    api.monitoring("circuit-breakers/openrouter", "circuit-breakers/{provider}")
    api.get("/health/dashboard")
    api.get("/version"), api.get("/healthz"), api.get("/readyz"), api.get("/metrics/health"), api.get("/metrics/json")
    api.get("/api/admin/slow-queries"), api.get("/api/admin/audit"), api.get("/api/admin/audit/verify"), api.get("/api/admin/events")
    wanted = {p for p, m in api.document["paths"].items() if "get" in m and ("monitoring" in p or p in ("/models/stats", "/health/dashboard"))}
    assert wanted <= api.seen, wanted - api.seen
    for path in ("stats/hourly/nobody", "latency/nobody/x", "latency-trends/nobody", "errors/nobody", "token-efficiency/nobody/x", "latency/openrouter",
                 "health/nobody"):
        assert api.call("/api/monitoring/" + path).status == 404, path
    nothing = api.monitoring("latency/openrouter/never-used", "latency/{provider}/{model}")
    assert nothing["count"] == 0 and nothing["avg"] is nothing["p50"] is nothing["max"] is None


def test_a_store_that_is_away_makes_answers_partial_and_not_zero(stage):
    redis, postgres = stage.redis(), stage.postgres()
    gateway, api, truth = start_day(stage, database=postgres.url(), redis=redis.url())
    assert api.call("/api/admin/aggregate", "POST", {}).status == 200
    whole = api.monitoring("stats/realtime?hours=24")
    redis.stop()
    # The ledger knows the last hour, too.
    without = eventually(lambda: (a := api.monitoring("stats/realtime?hours=24"))["stale"] and a, 30 * SLOWNESS)
    assert without["total_requests"] == whole["total_requests"] and not without["partial"]
    assert api.call("/api/monitoring/errors/openrouter").status == 503
    postgres.stop()
    gone = eventually(lambda: (a := api.call("/api/monitoring/providers/comparison")).status == 503 and a, 30 * SLOWNESS)
    assert "no store can be read" in gone.json["error"]["message"]
    assert api.call("/api/monitoring/health").status == 200
    gateway.kill()  # it would wait for its stores
    stage.endings.remove(gateway.stop)


def test_more_anomalies_than_an_answer_holds_are_said_to_be_missing(stage):
    gateway = stage.gateway([provider("up", stage.upstream().url)], [model("chat", "up/m")])
    gateway.stop()
    hour = int(time.time()) // 3600 * 3600
    with sqlite3.connect(f"{gateway.state_dir}/history.db") as db:
        db.executemany("INSERT INTO anomalies (kind, provider, model, hour, severity, detail, at) VALUES (?, ?, '', ?, ?, '{}', ?)",
                       [("cost_spike", "up" if i else "rare", hour - (i + 2) * 3600, "critical" if i % 2 else "warning", hour) for i in reversed(range(1100))])
    api = Api(gateway.start())
    answer = eventually(lambda: a if (a := api.get("/api/monitoring/anomalies?hours=9600"))["computed_at"] else None, 10 * SLOWNESS)
    assert (answer["total_count"], answer["partial"], answer["missing"]) == (1000, True, "those before the newest 1000")
    half = api.get("/api/monitoring/anomalies?hours=9600&severity=critical")
    assert (half["critical_count"], half["warning_count"], half["partial"]) == (550, 0, False)
    assert api.get("/api/monitoring/anomalies?hours=9600&provider=rare")["total_count"] == 1


@pytest.mark.parametrize("stores", ["sqlite", "postgres"])
def test_steps_of_a_tenants_life_are_counted_once(stage, stores):
    upstream = stage.upstream()
    more = {"database": stage.postgres().url()} if stores == "postgres" else {}
    gateway = stage.gateway([provider("up", upstream.url)], [model("chat", "up/m")], history={"users_key": "shared by all nodes"}, **more)
    api = Api(gateway)

    def post(expect=201, **body):
        answer = api.call("/api/admin/events", "POST", body)
        assert answer.status == expect, answer
        return answer.json

    def at(days_ago):
        return datetime.fromtimestamp(time.time() - days_ago * 86400, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    assert api.call("/api/admin/plans/trial", "PUT", {"price_usd": 0, "trial": True}).status in (200, 201)
    assert api.call("/api/admin/plans/gold", "PUT", {"price_usd": 310}).status in (200, 201)
    for t in ("t1", "t2", "t3", "t4"):
        assert api.call("/api/admin/tenants", "POST", {"id": t, "plan": "trial"}).status == 201
    trials = api.monitoring("trial-analytics")
    assert (trials["signups"], trials["started_trial"], trials["converted"]) == (4, 0, 0)
    assert trials["conversion_rate"] == 0 and trials["avg_time_to_conversion_days"] is None
    # The first answered request is seen in the ledger.
    key = api.call("/api/admin/keys", "POST", {"tenant": "t1", "id": "k"}).json["key"]
    assert gateway.chat(key=key, user="alice").status == gateway.chat(key=key, user="bob").status == gateway.chat(key=key, user="alice").status == 200
    eventually(lambda: api.monitoring("trial-analytics")["started_trial"] == 1)
    users = api.monitoring("trial-analytics")["active_users"]
    assert (users["today"], users["dau"], users["wau"], users["mau"]) == (2, 0, 2, 2)
    assert all("alice" not in f.read_bytes().decode("latin-1") for f in [gateway.access_log_file])
    # A plan with a price converts a trial.
    assert api.call("/api/admin/tenants/t1", "PATCH", {"plan": "gold"}).status == 200
    trials = api.monitoring("trial-analytics")
    assert (trials["converted"], trials["conversion_rate"], trials["activation_rate"], trials["trial_conversion_rate"]) == (1, 25, 25, 100)
    # What another system saw, with times of its own.
    post(id="e1", tenant="acme", kind="trial_started", at=at(10))
    post(id="e2", tenant="acme", kind="first_answer", at=at(9))
    post(id="e3", tenant="acme", kind="converted", at=at(2))
    post(id="e4", tenant="t2", kind="cancelled")
    assert post(200, id="e3", tenant="acme", kind="converted", at=at(2))["status"] == "known"
    post(409, id="e3", tenant="t2", kind="converted")
    trials = api.monitoring("trial-analytics")
    assert (trials["signups"], trials["started_trial"], trials["converted"], trials["cancelled"]) == (5, 2, 2, 1)
    assert trials["avg_time_to_conversion_days"] == pytest.approx(4, abs=0.01)
    assert api.monitoring("trial-analytics?days=5")["signups"] == 4
    # Money.
    post(id="p1", tenant="acme", kind="payment", amount_usd=99.5)
    post(200, id="p1", tenant="acme", kind="payment", amount_usd=99.5)
    post(409, id="p1", tenant="acme", kind="payment", amount_usd=100)
    post(id="p2", tenant="acme", kind="refund", amount_usd="0.500000001")
    cost = eventually(lambda: (c := api.monitoring("cost-analysis?by=tenant"))["total_requests"] == 3 and c)
    assert cost["revenue_payments"] == pytest.approx(98.999999999)
    assert cost["margin"] == pytest.approx(cost["revenue"] - cost["total_cost"])
    for body, what in (({"tenant": "acme", "kind": "payment", "amount_usd": 1}, "id"), ({"id": "x", "tenant": "acme", "kind": "payment"}, "amount_usd"),
                       ({"id": "x", "tenant": "acme", "kind": "gift"}, "kind"), ({"id": "x", "tenant": "acme", "kind": "converted", "amount_usd": 1}, "amount_usd"),
                       ({"id": "x", "tenant": "acme", "kind": "converted", "at": "2099-01-01T00:00:00Z"}, "at")):
        assert what in post(400, **body)["error"]["message"]
    post(404, id="x", tenant="nobody", kind="converted")
    # All of it is in the audit log, whose chain proves itself, and does not once a row was touched.
    entries = api.get("/api/admin/audit?action=tenant.event")["entries"]
    assert {e["subject"] for e in entries} == {"acme", "t2"}
    proof = api.get("/api/admin/audit/verify")
    assert proof["intact"] and proof["entries"] == len(api.get("/api/admin/audit?limit=1000")["entries"]) and proof["last_hash"] == entries[0]["hash"]


def test_the_configuration_says_where_it_comes_from(stage):
    upstream = stage.upstream()
    gateway = stage.gateway([provider("up", upstream.url)], [model("chat", "up/m")], env={"GATEWAYD_DRAIN_TIMEOUT": "90s"},
                            history={"users_key": "not to be shown"}, redis="redis://user:not-shown@127.0.0.1:1/0")
    answer = Api(gateway).get("/api/admin/config")
    options = {o["path"]: o for o in answer["options"]}
    assert (answer["providers"], answer["models"], answer["tenants"]) == (1, 1, 1)
    assert (options["drain_timeout"]["value"], options["drain_timeout"]["origin"]) == ("90s", "environment GATEWAYD_DRAIN_TIMEOUT")
    assert options["workers"]["value"] == "2" and re.fullmatch(r".*gateway1\.yaml:\d+:\d+", options["workers"]["origin"])
    assert options["http.max_body"]["origin"] == "default" and options["metrics.allow"]["value"].startswith("127.0.0.0/8")
    assert options["state_dir"]["origin"] == "flag --state-dir" and options["log_level"]["value"] == "info"
    assert options["history.users_key"]["secret"] and options["redis"]["value"] == options["history.users_key"]["value"] == "(set)"
    text = json.dumps(answer)
    assert "not to be shown" not in text and "not-shown" not in text and gateway.ready["admin_token"] not in text


# ---- who may what ----------------------------------------------------------------------------------------------------

SAMPLES = {"{provider}": "up", "{model}": "m", "{target}": "up/m", "{name}": "up", "{id}": "x", "{tenant}": "acme", "{account}": "global", "{what}": "up"}


def test_every_route_knows_who_may(stage):
    """Every row against no token, a wrong one, the token on the main listener, and the token on the admin listener."""
    upstream = stage.upstream()
    gateway = stage.gateway([provider("up", upstream.url)], [model("chat", "up/m")], metrics={"allow": []})
    api = Api(gateway)
    rows = 0
    for path, methods in api.document["paths"].items():
        real = path
        for name, value in SAMPLES.items():
            real = real.replace(name, value)
        assert "{" not in real, path
        for method, row in methods.items():
            rows += 1
            is_open, on_main = not row["security"], row["x-gatewayd-main-listener"]
            for base, is_main in ((gateway.url, True), (gateway.admin_url, False)):
                for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic " + gateway.ready["admin_token"]}):
                    status = http(base + real, method.upper(), None if method in ("get", "delete") else b"{}", headers).status
                    want = 404 if is_main and not on_main else 200 if is_open else 401
                    assert status == want, (method, real, is_main, headers, status)
                if method == "get":
                    status = http(base + real, "GET", None, api.auth).status
                    assert (status == 404) if is_main and not on_main else (status in (200, 404)), (real, is_main, status)
                    if not (is_main and not on_main) and row["tags"][0] in ("monitoring", "admin"):
                        refused = http(base + real + "?no_such=1", "GET", None, api.auth)
                        assert refused.status == 400 and "'no_such'" in refused.json["error"]["message"], (real, refused)
            if method != "get":
                status = http(gateway.admin_url + real, method.upper(), None if method == "delete" else b"[]", api.auth).status
                assert status not in (401, 403, 405) and status < 500, (method, real, status)
            for base, is_main in ((gateway.url, True), (gateway.admin_url, False)):
                wrong = http(base + real, "OPTIONS", None, api.auth)
                allowed = sorted(m.upper() for m, r in methods.items() if r["x-gatewayd-main-listener"] or not is_main)
                assert wrong.status == (405 if allowed else 404), (real, is_main, wrong)
                assert not allowed or sorted(set(wrong.headers["allow"].split(", ")) - {"HEAD"}) == allowed, (real, wrong.headers)
    assert rows > 50
    assert {r["tags"][0] for m in api.document["paths"].values() for r in m.values()} == {"health", "metrics", "monitoring", "admin"}
    text = json.dumps(api.document)
    assert "additionalProperties" in text and '"nullable"' not in text


# ---- whatever is asked -----------------------------------------------------------------------------------------------

# Not "unsupported_method", which wants a 405 also where the framing is refused before anybody looks at the path, and not
# "positive_data_acceptance", which knows nothing of members that exclude each other.
CHECKS = ("not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,"
          "negative_data_rejection,missing_required_header,allow_header_conformance,ignored_auth")
CASES = int(os.environ.get("SCHEMATHESIS_CASES", "500"))


def test_whatever_is_asked_is_answered_as_the_document_says(stage, tmp_path, record_property):
    """Requests that a generator makes of the document, right ones and wrong ones: no 5xx, and answers as promised."""
    upstream = stage.upstream()
    gateway = stage.gateway([provider("up", upstream.url)], [model("chat", "up/m")])
    document = http(gateway.admin_url + "/api/openapi.json", headers={"authorization": "Bearer " + gateway.ready["admin_token"]}).json
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(document))
    operations = sum(len(m) for m in document["paths"].values())
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", str(file), "--url", gateway.admin_url, "-H", "Authorization: Bearer " + gateway.ready["admin_token"],
         "--checks", CHECKS, "--phases", "coverage,fuzzing",
         "--max-examples", str(max(1, CASES // operations)), "--generation-database", "none", "--seed", "5", "--no-color", "--continue-on-failure",
         "--warnings", "off", "--no-shrink", "--report", "junit", "--report-dir", str(tmp_path / "report")],
        cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    count = int(re.search(r"(\d+) generated", done.stdout).group(1))
    record_property("figure", f"{count} requests to {operations} operations")
    assert count >= CASES
    assert http(gateway.url + "/healthz").status == 200
