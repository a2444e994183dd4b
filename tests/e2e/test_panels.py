# SPDX-License-Identifier: Apache-2.0
"""Every panel of every dashboard shows the number that the scenario makes, on a real Prometheus and a real PostgreSQL."""

import calendar
import datetime
import itertools
import math
import os
import re
import threading
import time
from collections import Counter
from decimal import Decimal
from types import SimpleNamespace

import psycopg
import pytest
import yaml

from support import reprice
from support.families import COMMANDS, sql_word
from support.gateway import KEY, http, model, provider, run, sha256
from support.panels import LOG_SETTINGS, Monitor, backfill, bounds, bucket_of, concrete, concrete_sql, panels, quantile, statements
from support.postgres import PASSWORD, USER
from support.process import SLOWNESS, is_sanitized
from support.prometheus import Prometheus
from support.upstream import DONE, LAST_CHUNK, Gate, as_chunk, chat_completion, json_answer, sse_head, stream_events
from support.wait import eventually

OTHER, RICH = "sk-aigw-other-0123456789abcdef0123456789", "sk-aigw-rich-0123456789abcdef01234567890"
CHAT, DAY, HOUR = "/v1/chat/completions", 86400, 3600
LATENCY_MS, PACE_MS, STORE_DELAY_S = 130, 14, 0.055  # what answers take, tokens of a stream, and answers of stores
SIMS = ("openai", "openrouter", "anthropic", "broken", "cutter", "pacer", "early")
LEDGER = ("instance seq line kind minute budget_hour tenant key provider model endpoint outcome error stream_end usage_source count tokens_in "
          "tokens_cached tokens_cwrite tokens_out tokens_reasoning images searches cost_nano unpriced latency_us ttft_us ttft_count").split()


class Held:
    """A provider with one slot that answers when it is told; a stream stops after its first events."""

    def __init__(self):
        self.gates, self.is_open = [], False

    def __call__(self, received):
        gate = Gate()
        self.gates.append(gate)
        if self.is_open:
            gate.event.set()
        if not received.json.get("stream"):
            return [gate, json_answer(chat_completion(model="m"))]
        events = stream_events()
        return [sse_head(), as_chunk(events[0]), gate, *(as_chunk(e) for e in events[1:]), as_chunk(DONE), LAST_CHUNK]

    def open(self):
        self.is_open = True
        for gate in self.gates:
            gate.event.set()


def rules():
    """All of them, with every scrape, and the alert on traffic without its floor and its patience."""
    done = run(["aigwctl", "alerts", "generate", "--pack", "all", "--set", "TrafficAnomalyDetected.floor=0.01", "--set",
                "TrafficAnomalyDetected.for=0s"], timeout=60 * SLOWNESS)
    assert done.returncode == 0, done.stderr
    text = yaml.safe_load(done.stdout)
    for group in text["groups"]:
        group["interval"] = "500ms"
    return yaml.safe_dump(text)


def admin(s, method, path, body=None, template=None):
    answer = http(s.gateway.admin_url + path, method, body if body is not None or method == "GET" else {},
                  {"authorization": "Bearer " + s.gateway.config["admin"]["token"]})
    assert answer.status in (200, 201), (path, answer)
    s.sent.append(SimpleNamespace(method=method, endpoint=template or path, tenant="", name=None, answer=answer, act=s.act))
    return answer.json


@pytest.fixture(scope="module")
def scene(module_stage):
    if is_sanitized():
        pytest.skip("a story about other programs")
    s = SimpleNamespace(stage=module_stage, sent=[], threads=[], held=Held(), act=0)
    try:
        build(s)
        past(s)
        play(s, 1)
        look(s)
        play(s, 2)
        settle(s)
        yield s
    finally:
        s.held.open()


def build(s):
    s.sim = s.stage.simulator(seed=7)
    s.redis, s.postgres = s.stage.redis(), s.stage.postgres(LOG_SETTINGS)
    s.wire = SimpleNamespace(redis=s.stage.tcpfault(s.redis.address), postgres=s.stage.tcpfault(s.postgres.address))
    for name in SIMS:
        s.sim.control.profile(name, latency_ms=LATENCY_MS, ttft_ms=LATENCY_MS)
    s.sim.control.patch("pacer", tokens_per_s=1000 / PACE_MS, output_tokens=[16, 16])
    up = s.stage.upstream(s.held)
    s.gateway = s.stage.gateway(
        [*(provider(n, s.sim.base_url(n), kind="anthropic" if n == "anthropic" else "openai") for n in SIMS), provider("up", up.base_url, max_concurrent=1), provider("shut", s.sim.base_url("shut"))],
        [model("chat", "openai/gpt-4o-mini"), model("half", "openrouter/openai/gpt-4o", retries=0), model("broken", "broken/b", retries=0),
         model("cutter", "cutter/c", retries=0), model("claude", "anthropic/claude-sonnet-4-5"), model("slow", "up/m"),
         model("shut", "shut/s"), model("paced", "pacer/p"), model("early", "early/e"), model("unpriced", "openai/nobody-knows-this-model")],
        tenants=[{"id": "acme", "plan": "pro", "keys": [{"id": "test", "sha256": sha256(KEY)}]},
                 {"id": "umbrella", "plan": "free", "keys": [{"id": "k", "sha256": sha256(OTHER)}], "limits": {"rpm": 2}},
                 {"id": "rich", "plan": "free", "keys": [{"id": "k", "sha256": sha256(RICH)}], "budget": {"usd": 1, "period": "month"}}],
        breaker={"failures": 3, "error_rate": 0, "open_for": "500ms", "max_open_for": "500ms", "probes": 1, "close_after": 1},
        queue={"max_depth": 2, "max_wait": "10m"}, history={"users_key": "0123456789abcdef0123456789abcdef"},
        redis=s.redis.url(s.wire.redis.address), database=s.postgres.url(s.wire.postgres.address))


def past(s):
    """Plans and a paying tenant; a payment and three users of yesterday; thirty hours of a dollar for two providers, and one of a hundred,
    rolled up as cron does it."""
    admin(s, "PUT", "/api/admin/plans/try", {"trial": True})
    admin(s, "PUT", "/api/admin/plans/paid", {"price_usd": 20})
    admin(s, "POST", "/api/admin/tenants", {"id": "p0", "plan": "paid"})
    s.gateway.stop()
    s.today, hour = int(time.time()) // DAY * DAY, int(time.time()) // HOUR
    spike = 1 if time.gmtime().tm_min >= 55 else 2  # the last two hours count, and this one may end meanwhile
    s.old = [dict.fromkeys(LEDGER, 0) | {
        "instance": "old-" + name, "seq": n, "kind": "attempt", "minute": (hour - n) * HOUR + 300, "budget_hour": (hour - n) * HOUR,
        "tenant": "acme", "key": "test", "provider": name, "model": "m", "endpoint": "chat", "outcome": "success", "error": "",
        "stream_end": "none", "usage_source": "reported", "count": 45, "tokens_in": 1000, "tokens_out": 1000,
        "cost_nano": (100 if (n, name) == (spike, "anthropic") else 1) * 10**9, "latency_us": 45 * 10**6}
        for n, name in itertools.product(range(1, 31), ("early", "anthropic"))]
    with s.postgres.connect() as c:
        c.cursor().executemany(f"INSERT INTO ledger ({', '.join(LEDGER)}) VALUES ({', '.join(['%s'] * len(LEDGER))})",
                               [[r[x] for x in LEDGER] for r in s.old])
        c.execute("INSERT INTO revenue (day, tenant, source, reference, amount_nano) VALUES (%s, 'p0', 'payment', 'invoice 7', 7000000000)", [s.today - DAY])
        for user in ("a", "b", "c"):
            c.execute("INSERT INTO active_users (day, tenant, user_hash) VALUES (%s, 'acme', %s)", [s.today - DAY, user])
    done = run(["aigwctl", "aggregate", "backfill", "--from", hour_name(hour - 30), "--to", hour_name(hour - 1), "--database", s.postgres.url()], directory=s.stage.directory, timeout=60 * SLOWNESS)
    assert done.returncode == 0, done
    s.restarted = time.time()
    s.gateway.start()


def hour_name(hour):
    return time.strftime("%Y-%m-%dT%H", time.gmtime(hour * HOUR))


# ---- what is played --------------------------------------------------------------------------------------------------


def send(s, name="chat", n=1, key=KEY, tenant="acme", **more):
    for i in range(n):
        answer = s.gateway.chat(f"{name} {i}", model=name, key=key, timeout=600, **more)
        s.sent.append(SimpleNamespace(method="POST", endpoint=CHAT, tenant=tenant, name=name, answer=answer, act=s.act))
    return answer.status


def claude(s, n):
    for i in range(n):
        body = {"model": "claude", "max_tokens": 50, "messages": [{"role": "user", "content": f"claude {i}"}]}
        answer = s.gateway.post("/v1/messages", body, headers={"anthropic-version": "2023-06-01"})
        s.sent.append(SimpleNamespace(method="POST", endpoint="/v1/messages", tenant="acme", name="claude", answer=answer, act=s.act))


def at_once(*calls):
    threads = [threading.Thread(target=fn, args=(s, *words), kwargs=more, daemon=True) for fn, s, words, more in calls]
    for t in threads:
        t.start()
    return threads


def join(threads):
    for t in threads:
        t.join(60)
        assert not t.is_alive()


def play(s, act):
    """The same twice: rates begin with what a first scrape has seen. What is held is let go after the first act."""
    s.act = act
    for name, script in (("openrouter", ["ok", "500"] * 3), ("broken", ["500"] * 3), ("cutter", ["cut_mid"])):
        s.sim.control.patch(name, script=script, retry_after_s=-1)
    join(at_once(*[(send, s, ("chat", 5), {"user": f"u{i}"}) for i in range(4)], (send, s, ("paced", 6), {"stream": True}),
                 (send, s, ("half", 6), {}), (send, s, ("cutter",), {"stream": True}), (claude, s, (3,), {}), (send, s, ("unpriced", 2), {}),
                 (send, s, ("chat", 5), {"key": OTHER, "tenant": "umbrella"}), (send, s, ("chat", 3), {"key": RICH, "tenant": "rich"}),
                 (send, s, ("no-such-model",), {}), (send, s, ("chat", 2), {"key": "sk-wrong-0123456789abcdef", "tenant": "none"}),
                 (recover, s, (), {}), *([(send, s, ("early",), {}), (newcomer, s, (), {})] if act == 1 else [])))
    queue_up(s)
    if act == 1:
        s.held.open()
        join(s.threads)
        s.held.is_open = False


def newcomer(s):
    """A tenant on trial that uses it."""
    admin(s, "POST", "/api/admin/tenants", {"id": "t0", "plan": "try"})
    s.trial_key = admin(s, "POST", "/api/admin/keys", {"tenant": "t0", "id": "k"})["key"]
    eventually(lambda: send(s, key=s.trial_key, tenant="t0") == 200, 15 * SLOWNESS, 0.2, what="the key to be known")


def recover(s):
    send(s, "broken", 4)  # three that open the breaker, and one that it refuses
    eventually(lambda: send(s, "broken") == 200, 10 * SLOWNESS, 0.2, what="the breaker to close")


def queue_up(s):
    """A stream holds the slot, two wait, and for three there is no room."""
    before = len(s.held.gates)
    s.threads = at_once((send, s, ("slow",), {"stream": True}))
    eventually(lambda: len(s.held.gates) == before + 1, 10 * SLOWNESS, what="the stream at its provider")
    s.threads += at_once((send, s, ("slow",), {}), (send, s, ("slow",), {}))
    eventually(lambda: scraped(s).sum("task_queue_depth") == 2, 10 * SLOWNESS, what="two in the queue")
    for _ in range(3):
        assert send(s, "slow") == 503


def look(s):
    """From here on there is a Prometheus, and stores that take their time."""
    eventually(lambda: idle(s), 30 * SLOWNESS, what="the stores to have everything")
    for wire in (s.wire.redis, s.wire.postgres):
        wire.set("down", latency=STORE_DELAY_S)
    s.monitor, s.pings = Monitor(s.redis), []
    at_once((ping, s, (), {}))
    s.prometheus = Prometheus(s.stage.directory, s.gateway.address, rules(), every="500ms")
    now = time.time()
    backfill(s.prometheus.directory, yesterday(now))
    s.slow_from = time.time()
    s.stage.endings.append(s.prometheus.stop)
    s.prometheus.start()
    scrapes(s, 2)
    s.cpu, s.seen_by_sim = cpu_s(s), s.sim.control.settled_log()[-1]["seq"]
    s.logged_before = len(s.gateway.access_log())


def ping(s):
    """Another client of the same wire, all the time."""
    host, port = s.wire.postgres.address
    with psycopg.connect(host=host, port=port, user=USER, password=PASSWORD, dbname="postgres", autocommit=True) as c:
        while s.act < 4:
            began = time.monotonic()
            c.execute("SELECT 1")
            s.pings.append(time.monotonic() - began)


def yesterday(now):
    """Recorded rates of a day, twice as high in the hour around this time; quantiles of the same minutes."""
    job, minutes = {"job": "gatewayd"}, [now - 25 * HOUR + 60 * n for n in range(24 * 60)]
    usual = [(t, 2.0 if abs(now - t - DAY) <= HOUR else 1.0) for t in minutes]
    out = [(f"{name}:rate5m", "gauge", labels, [(t, v * USUAL[name]) for t, v in usual]) for name, labels in (
        ("job:http_requests", job), ("job:http_errors5xx", job), ("provider:credits_used", {"provider": "openai"}))]
    labels = {**job, "instance": "old:1", "provider": "openai", "model": "m"}
    ticks = [(now - DAY - 600 + 15 * n, n) for n in range(80)]
    for le, share in (("0.1", 0), ("0.25", 0), ("0.5", 1), ("1.0", 2), ("+Inf", 2)):
        out.append(("model_inference_duration_seconds_bucket", "histogram", {**labels, "le": le}, [(t, float(share * n)) for t, n in ticks]))
    return out


def scrapes(s, n=None, more=0):
    def count():
        rows = s.prometheus.query("sum_over_time(up[1h])")
        return int(rows[0]["value"][1]) if rows else 0

    want = n or count() + more
    return eventually(lambda: (c := count()) >= want and c, 60 * SLOWNESS, 0.05, what=f"{want} scrapes")


def scraped(s):
    s.sent.append(SimpleNamespace(method="GET", endpoint="/metrics", tenant="", name=None, answer=SimpleNamespace(status=200), act=s.act))
    return s.gateway.scrape()


def idle(s):
    now = scraped(s)
    return not any(now.sum("aigateway_telemetry_queue_length", pipeline=p) for p in ("access_log", "realtime", "history"))


def stories_of_tenants(s):
    for i in (1, 2):
        admin(s, "POST", "/api/admin/tenants", {"id": f"t{i}", "plan": "try"})
    assert send(s, key=s.trial_key, tenant="t0") == 200
    admin(s, "PATCH", "/api/admin/tenants/t0", {"plan": "paid"}, "/api/admin/tenants/{id}")
    admin(s, "PATCH", "/api/admin/tenants/t1", {"enabled": False}, "/api/admin/tenants/{id}")
    admin(s, "POST", "/api/admin/breakers/shut/s", {"action": "open", "for": "30m"}, "/api/admin/breakers/{target}")


def lock_the_ledger(s):
    """A statement that waits is cancelled, and the one that is sent in its place waits, too."""
    waits = "SELECT pid, extract(epoch FROM now() - query_start) FROM pg_stat_activity WHERE application_name LIKE 'gatewayd%' AND wait_event_type = 'Lock'"
    in_use = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'gatewayd%' AND state <> 'idle'"
    s.waited_s = []

    def waiting():
        rows = s.postgres.query(waits)
        return rows and float(rows[0][1]) > 0.6 and rows[0]

    def agree():
        before = s.postgres.query(in_use)
        scrapes(s, more=1)
        s.while_locked = last_scrape(s)
        (row,) = s.prometheus.query_at("active_database_connections", s.while_locked)
        s.busy = before[0][0]
        return before == s.postgres.query(in_use) and s.busy == float(row["value"][1]) > 0

    with s.postgres.connect() as c:
        c.autocommit = False
        c.execute("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
        assert send(s) == 200
        eventually(waiting, 15 * SLOWNESS, what="a statement that waits")
        eventually(agree, 15 * SLOWNESS, what="a moment without another statement")
        for end in (lambda pid: s.postgres.query("SELECT pg_cancel_backend(%s)", pid), lambda pid: c.rollback()):
            pid, took_s = eventually(waiting, 15 * SLOWNESS, what="a statement that waits")
            s.waited_s.append(float(took_s))
            end(pid)


def cut_redis_off(s):
    s.wire.redis.refuses = True
    s.wire.redis.reset_all()
    eventually(lambda: refused(s) >= 2, 30 * SLOWNESS, what="connections that were refused")
    s.wire.redis.refuses = False


def refused(s):
    return sum(link.server is None for link in list(s.wire.redis.links))


def last_scrape(s):
    """Of one that was answered in time: a busy machine may miss some."""
    return eventually(lambda: (found := s.prometheus.query("timestamp(up == 1)")) and float(found[0]["value"][1]), 20 * SLOWNESS, what="a good scrape")


def settle(s):
    s.act, pid = 3, s.gateway.child.pid
    stories_of_tenants(s)
    lock_the_ledger(s)
    cut_redis_off(s)
    seen = 'sum(gatewayd_store_up) == 2 and sum(aigateway_telemetry_queue_length{pipeline=~"access_log|realtime|history"}) == 0'
    eventually(lambda: s.prometheus.query(seen) and s.prometheus.query("sum(aigateway_anomaly_active) > 0"), 60 * SLOWNESS, 0.2,
               what="stores that have everything, and a detector that speaks")
    scrapes(s, more=3)  # the last of it is recorded, too
    s.now, s.refusals, s.cpu = last_scrape(s), refused(s), cpu_s(s) - s.cpu
    (up,) = s.prometheus.query_at("up[1h]", s.now)
    good = [at for at, value in up["values"] if value == "1"]
    s.scrapes, s.first_scrape = (len(good), len(up["values"])), good[0]
    s.all_truth = s.sim.control.settled_log()
    s.truth = [r for r in s.all_truth if r["seq"] > s.seen_by_sim]
    s.all_lines = s.gateway.access_log()
    s.lines = s.all_lines[s.logged_before:]
    s.resident = int(open(f"/proc/{pid}/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    boot = next(int(line.split()[1]) for line in open("/proc/stat") if line.startswith("btime"))
    s.started = boot + int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    s.act = 4
    s.cores = s.gateway.metric("aigateway_cpu_limit_cores")
    s.health = {r["provider"]: r for r in s.gateway.monitoring("health")}
    s.journal = sum(f.stat().st_size for f in (s.gateway.state_dir / "journal").rglob("*.seg"))
    s.commands = [name for at, name in s.monitor.seen if s.first_scrape < at <= s.now]
    logged = [x for x in statements(s.postgres) if x[0] >= s.restarted]
    s.statements = [x for x in logged if s.first_scrape < x[0] <= s.now]
    s.all_statements = [x for x in logged if x[0] <= s.now]
    s.known_tables = {w[0] for x in logged if x[0] < s.first_scrape and (w := sql_word(x[2]))}
    if int(time.time()) // DAY * DAY != s.today:
        pytest.skip("the day ended meanwhile")


def cpu_s(s):
    fields = open(f"/proc/{s.gateway.child.pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


USUAL = {"job:http_requests": 0.001, "job:http_errors5xx": 0.01, "provider:credits_used": 1e-6}


# ---- what is right ---------------------------------------------------------------------------------------------------
# Each figure is that of the clients, the simulator, the stores' own logs, the kernel, the script or own arithmetic.

SPAN_S = 300  # of rates
PRICES = reprice.table()
CLOSE = {"rel": 0.06}  # rates and increases: extrapolated by half a scrape, of forty and more
EXACT = {"rel": 1e-9}


def sent(s, *keys, only=lambda r: True, since=2):
    """Requests of clients, by what these are."""
    words = {"status": lambda r: str(r.answer.status), "outcome": outcome}
    return count((r for r in s.sent if r.act >= since and r.name and only(r)), lambda r: tuple(words.get(k, lambda r, k=k: getattr(r, k))(r) for k in keys))


def outcome(r):
    if r.answer.status in (401, 402, 404, 429, 503):
        return "rejected"
    return "error" if r.answer.status >= 400 or r.name == "cutter" else "success"


def count(rows, key, weight=lambda r: 1):
    out = Counter()
    for r in rows:
        out[key(r)] += weight(r)
    return {k: v for k, v in out.items() if v}


def bad(r):
    return r["ended"] != "answered"


def attempts(s, *keys, only=lambda r: True, truth=None, weight=lambda r: 1):
    """What providers saw, by what these are."""
    words = {"provider": lambda r: r["profile"], "status": lambda r: "error" if bad(r) else "success"}
    return count((r for r in (s.truth if truth is None else truth) if only(r)),
                 lambda r: tuple(words.get(k, lambda r, k=k: r[k])(r) for k in keys), weight)


def per_second(values):
    return {k: v / SPAN_S for k, v in values.items()}


def shares(part, whole):
    return {k: part.get(k, 0) / n for k, n in whole.items()}


def usd(s, truth, *keys):
    """By the price table."""
    words = {"provider": "profile"}
    billed = reprice.total([r for r in truth if not bad(r)], PRICES, by=tuple(words.get(k, k) for k in keys) or ("operation",))
    values = {k: v / 1e9 for k, v in billed.nanousd.items() if v}
    return values if keys else {(): sum(values.values())}


def usd_of_tenants(s, since=2):
    """By the request's id, which the simulator was told."""
    tenants = {r.answer.headers["x-request-id"]: r.tenant for r in s.sent if r.name and r.act >= since}
    out = Counter()
    for r in s.all_truth:
        if r["request_id"] in tenants and not bad(r):
            out[tenants[r["request_id"]],] += sum(usd(s, [r]).values())
    return {k: v for k, v in out.items() if v}


def tokens(s, *keys):
    """By these and the type, of answers that came whole; those of the stream that was cut are an estimate, which only the log tells."""
    (cut,) = [line for line in s.lines if line["attempts"] and line["attempts"][-1]["provider"] == "cutter"]
    cut = {"profile": "cutter", "model": "c", "prompt_tokens": cut["usage"]["input"], "completion_tokens": cut["usage"]["output"], "ended": "answered"}
    out = {}
    for kind, member in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        whole = attempts(s, *keys, truth=[cut, *(r for r in s.truth if not bad(r))], weight=lambda r, m=member: r[m])
        out |= {(*k, kind): v for k, v in whole.items()}
    return out


def took(s, where=lambda line: True):
    return [line["duration_ms"] / 1e3 for line in s.lines if where(line)]


def rank_of(q, values):
    """Between the two observations that lie beside that rank, and the sketch's error."""
    values, at = sorted(values), q * (len(values) - 1)
    return Within(0.98 * values[math.floor(at)], 1.02 * values[math.ceil(at)])


def mean(values):
    return sum(values) / len(values)


def attempts_took(lines, label, what="duration_ms"):
    """{(value,): seconds of each} of the access log's attempts; no simulated one was answered before its time."""
    out = {}
    for a in (a for line in lines for a in line["attempts"] if a.get(what) is not None):
        assert a["provider"] == "up" or a[what] >= LATENCY_MS
        out.setdefault((a[label],), []).append(a[what] / 1e3)
    return out


def means(values):
    return {k: mean(v) for k, v in values.items()}


class Within:
    """Between two values, where the exact one depends on the machine's other work."""

    def __init__(self, low, high, may_lack=False):
        self.low, self.high, self.may_lack = low, high, may_lack

    def __contains__(self, value):
        return self.low <= value <= self.high

    def __repr__(self):
        return f"within {self.low} and {self.high}"


def in_the_wire(s, longest=0.0, **more):
    """What a call to a store takes at least, and at most by what another client of the same wire saw meanwhile."""
    return Within(STORE_DELAY_S * 0.9, bucket_of(4 * max(s.pings) + longest, bounds("db_seconds"))[1], **more)


def table_times(s):
    """Of tables that were hardly used, or not before the first scrape, the histogram may not show a rate."""
    now = by_table(s)
    return {k: in_the_wire(s, max(s.waited_s) if k == ("ledger",) else 0, may_lack=now.get(k, 0) < 3 or k[0] not in s.known_tables)
            for k in {(t,) for t in s.known_tables} | set(now)}


def scraped_per_second(s):
    """Those that a busy machine did not answer in time may be counted or not."""
    own = len([r for r in s.sent if r.act >= 2 and r.endpoint == "/metrics"])
    return Within((s.scrapes[0] - 1 + own) / SPAN_S, (s.scrapes[1] + own) / SPAN_S * 1.06)


def mean_of_statements(s):
    """The server's own times, what waited until it was cancelled, and the wire's since it takes its time."""
    alone = sum(x[1] for x in s.all_statements if not x[3]) + s.waited_s[0]
    return (alone + mean(s.pings) * sum(x[0] >= s.slow_from for x in s.all_statements)) / len(s.all_statements)


def pace(s):
    """The slowest stream's seconds a token, of sixteen, as they arrived."""
    return max((a["duration_ms"] - a["ttft_ms"]) / 1e3 / 15 for line in s.lines for a in line["attempts"] if a["provider"] == "pacer")


def sql_operation(text):
    return re.search(r"\b(select|insert|update|delete|begin|commit|rollback)\b", text.lower())


def by_operation(s):
    return count([m[1] for x in s.statements if (m := sql_operation(x[2]))], lambda o: (o,))


def by_table(s, failed=None):
    words = [sql_word(x[2]) for x in s.statements if failed is None or x[3] == failed]
    return count([w for w in words if w], lambda w: (w[0],))


def redis_rates(s):
    """What the server was asked (scripts are batches, writes and leases together), and the connections that it did not take."""
    names = {name: purpose for purpose, names in COMMANDS.items() for name in names}
    asked = count([names[c] for c in s.commands if c in names], lambda p: (p, "asked"))
    return per_second(asked | {("connect", "error"): s.refusals})


def redis_shown(have):
    out = Counter()
    for (operation, status), v in have.items():
        if status == "error":
            out[operation, status] += v if operation == "connect" else 0  # others were not sent for want of a connection
        elif operation != "connect":
            out["script" if operation in ("batch", "set", "lease") else operation, "asked"] += v
    return dict(out)


def income(s):
    """A day's share of twenty dollars a month."""
    day = datetime.datetime.fromtimestamp(s.today, datetime.timezone.utc)
    return 20 / calendar.monthrange(day.year, day.month)[1]


def spent_on(s):
    return count(s.old, lambda r: r["minute"] // DAY * DAY, lambda r: r["cost_nano"] / 1e9)


def all_zero(why):
    """A figure that is 0 for a reason."""
    assert why
    return lambda s: {}


def want(labels, right, tolerance=None, only=lambda key: True, at="now", shape=lambda have: have):
    """Of one query: the labels of its series (or columns), what they must be, and which of them are looked at, when and how."""
    return SimpleNamespace(labels=labels.split(), right=right, tolerance=CLOSE if tolerance is None else tolerance, only=only, at=at, shape=shape)


P, M = "provider", "model"
BREAKERS = {("shut", "s"): 2}
NO_CACHE = all_zero("answers are not cached")
ERROR_RATE = want(P, lambda s: shares(attempts(s, P, only=bad, truth=s.all_truth), attempts(s, P, truth=s.all_truth)), EXACT)
ATTEMPT_P95 = want(P, lambda s: {k: quantile(0.95, v, bounds("llm_seconds")) for k, v in attempts_took(s.lines, P).items()})
SPENT = want(P, lambda s: usd(s, s.truth, P))
WORKING = ("/v1/chat/completions", "/v1/messages")
HTTP_5XX = lambda r: r.answer.status >= 500  # noqa: E731

EXPECTED = {
    ("gateway-overview", "Requests per second"): [want("", lambda s: per_second(sent(s)))],
    ("gateway-overview", "Success rate"): [want("", lambda s: shares(sent(s, only=lambda r: outcome(r) == "success"), sent(s)), EXACT)],
    ("gateway-overview", "P95 duration"): [want("", lambda s: {(): quantile(0.95, took(s), bounds("llm_seconds_coarse"))})],
    ("gateway-overview", "Cost"): [want("", lambda s: usd(s, s.truth))],
    ("gateway-overview", "Active streams"): [want("", lambda s: {(): 1}, EXACT)],
    ("gateway-overview", "Availability allowance left"): [want("", lambda s: {(): 1 - sent(s, only=HTTP_5XX)[()] / sent(s)[()] / 0.01})],
    ("gateway-overview", "Requests by outcome"): [want("status", lambda s: per_second(sent(s, "outcome")))],
    ("gateway-overview", "Request duration"): [want("", lambda s, q=q: {(): quantile(q, took(s), bounds("llm_seconds_coarse"))}) for q in (0.5, 0.95, 0.99)],
    ("gateway-overview", "Tokens per second"): [want("type", lambda s: per_second(tokens(s)))],
    ("gateway-overview", "Cost per hour by tenant"): [want("tenant_id", usd_of_tenants)],
    ("gateway-overview", "Circuit breaker state"): [want(P, lambda s: {("shut",): 2}, EXACT)],
    ("gateway-overview", "Provider errors by type"): [want("provider error_type", lambda s: {
        (p, "stream_interrupted" if p == "cutter" else "server_error"): n / SPAN_S for (p,), n in attempts(s, P, only=bad).items()})],
    ("gateway-overview", "Budget used"): [want("tenant_id", lambda s: {("rich",): usd_of_tenants(s, since=1)["rich",] / 1}, EXACT)],
    ("gateway-overview", "Rate limit hits"): [want("tenant_id", lambda s: per_second(sent(s, "tenant", only=lambda r: r.answer.status == 429)))],
    ("gateway-overview", "Cache hits and misses"): [want("", NO_CACHE), want("", NO_CACHE)],
    ("gateway-overview", "Attempts in flight"): [want(P, lambda s: {("up",): 1}, EXACT), want(P, lambda s: {("up",): 1}, EXACT)],
    ("gateway-overview", "Requests that wait for a slot"): [want("priority", lambda s: {("p3",): 2}, EXACT)],
    ("gateway-overview", "Refused for lack of room"): [want("reason", lambda s: {("depth",): sent(s, only=lambda r: r.name == "slow")[()] / SPAN_S})],

    ("application-health", "Provider health score"): [want(P, lambda s: {(p,): r["health_score"] / 100 for p, r in s.health.items()
                                                                      if r["health_score"] is not None}, EXACT)],
    ("application-health", "Provider availability"): [want(P, lambda s: {(p,): 1 for p in (*SIMS, "up") if p != "cutter"}, EXACT)],
    ("application-health", "Provider error rate"): [ERROR_RATE],
    ("application-health", "Circuit breaker state"): [want(P, lambda s: {("shut",): 2}, EXACT)],
    ("application-health", "Cost by provider"): [want(P, lambda s: usd(s, s.all_truth, P), EXACT)],
    ("application-health", "Redis operations"): [want("operation status", redis_rates, {"rel": 0.06, "abs": 3 / SPAN_S}, shape=redis_shown)],
    ("application-health", "Redis operation duration"): [want("operation", lambda s: {(o,): in_the_wire(s) for o in (
        "batch", "connect", "get", "lease", "ping", "scan", "set", "ttl")})],
    ("application-health", "Redis connection failures"): [want("", lambda s: {(): s.refusals}, {"abs": 0.5})],
    ("application-health", "Stores"): [want("store", lambda s: {("history",): 1, ("realtime",): 1}, EXACT)],
    ("application-health", "Store lag"): [want("store", lambda s: {("history",): Within(0, 3), ("realtime",): Within(0, 3)})],
    ("application-health", "Journal used"): [want("", lambda s: {(): s.journal / 2**30}, EXACT)],
    ("application-health", "Uptime"): [want("", lambda s: {(): s.now - s.started}, {"abs": 1.5})],
    ("application-health", "CPU"): [want("", lambda s: {(): s.cpu / SPAN_S / s.cores}, {"rel": 0.25})],
    ("application-health", "Memory"): [want("", lambda s: {(): s.resident}, {"rel": 0.1})],
    ("application-health", "Degraded parts"): [want("part", all_zero("both stores are back"))],

    ("inference-overview", "Total requests"): [want("", lambda s: per_second(attempts(s))), want("status", lambda s: per_second(attempts(s, "status")))],
    ("inference-overview", "Error rate by provider"): [want(P, lambda s: shares(attempts(s, P, only=bad), attempts(s, P)), EXACT)],
    ("inference-overview", "P95 latency by provider"): [ATTEMPT_P95],
    ("inference-overview", "Cost per hour"): [SPENT],
    ("inference-overview", "Token usage by type"): [want("token_type", lambda s: per_second(tokens(s)))],
    ("inference-overview", "Top 10 models by requests"): [want(M, lambda s: attempts(s, M))],
    ("inference-overview", "Time to first token"): [want(P, lambda s: {k: quantile(0.95, v, bounds("ttft_seconds")) for k, v in attempts_took(s.lines, P, "ttft_ms").items()})],
    ("inference-overview", "Time per output token"): [want(P, lambda s: {("pacer",): Within(0.01, bucket_of(pace(s), bounds("tpot_seconds"))[1])})],
    ("inference-overview", "Streams by outcome"): [want("outcome", lambda s: {
        (("upstream_cut" if p == "cutter" else "complete"),): n / SPAN_S for (p,), n in attempts(s, P, only=lambda r: r["stream"]).items()})],

    ("provider-health", "Provider health scores"): [want(P, lambda s: {(p,): r["health_score"] for p, r in s.health.items() if r["health_score"] is not None}, EXACT)],
    ("provider-health", "Circuit breaker states"): [want("provider model", lambda s: BREAKERS, EXACT)],
    ("provider-health", "Failure counts"): [want("provider model", lambda s: {("openrouter", "openai/gpt-4o"): 1, ("cutter", "c"): 2}, EXACT)],
    ("provider-health", "Recovery times"): [want("le", lambda s: {(le,): 1 for le in "5.0 10.0 30.0 60.0 120.0 300.0 600.0 1800.0 3600.0 +Inf".split()})],
    ("provider-health", "Provider comparison table"): [
        want(P, lambda s: attempts(s, P)), want(P, lambda s: shares(attempts(s, P, only=bad), attempts(s, P)), EXACT), ATTEMPT_P95, SPENT],
    ("provider-health", "Provider Error Rates"): [ERROR_RATE],
    ("provider-health", "Provider Latency Comparison"): [want(P, lambda s: means(attempts_took(s.all_lines, P)), {"rel": 0.02})],
    ("provider-health", "Provider Request Volume"): [want(P, lambda s: per_second(attempts(s, P)))],

    ("database-performance", "Query duration by table"): [want("table", table_times)],
    ("database-performance", "Queries per second by operation"): [want("operation", lambda s: per_second(by_operation(s)), {"rel": 0.06, "abs": 3 / SPAN_S})],
    ("database-performance", "Error rate by table"): [want("table", lambda s: {k: Within(n / (by_table(s)[k] + 1.5), n / (by_table(s)[k] - 1.5))
                                                                        for k, n in by_table(s, True).items()})],
    ("database-performance", "Active connections"): [want("", lambda s: {(): s.busy}, EXACT, at="while_locked")],
    ("database-performance", "Database Query Rate"): [want("", lambda s: per_second({(): sum(by_operation(s).values())}), {"rel": 0.06, "abs": 3 / SPAN_S})],
    ("database-performance", "Database Latency"): [want("", lambda s: {(): mean_of_statements(s)}, {"rel": 0.35})],
    ("database-performance", "Slow query log"): [want("label", lambda s: {("ledger_insert",): Within(1e3 * max(s.waited_s), 1e3 * max(s.waited_s) + 1500)},
                                                      only=lambda k: k == ("ledger_insert",))],

    ("business-metrics", "Trial conversion funnel"): [want("metric", lambda s: {("signed up",): 3, ("used it",): 1, ("converted",): 1}, EXACT)],
    ("business-metrics", "Cost by provider"): [SPENT],
    ("business-metrics", "Revenue vs cost"): [want("time", lambda s: {(s.today - DAY,): 7, (s.today,): income(s)}, {"abs": 1e-8}), want("time", lambda s: {
        (day,): v for day, v in spent_on(s).items()}, EXACT)],
    ("business-metrics", "MAU/DAU"): [want("time", lambda s: {(s.today - DAY,): 3, (s.today,): 4}, EXACT), want("time", lambda s: {(s.today - DAY,): 3, (s.today,): 7}, EXACT)],
    ("business-metrics", "Top users by spend"): [want("tenant key", lambda s: {(tenant, "test" if tenant == "acme" else "k"): v for (tenant,), v in usd_of_tenants(
        s, since=1).items()}, {"rel": 1e-6})],
    ("business-metrics", "Total cost"): [want("", lambda s: usd(s, s.truth))],
    ("business-metrics", "Active subscriptions"): [want("tier", lambda s: {("pro",): 1, ("free",): 2, ("paid",): 2, ("try",): 1}, EXACT)],
    ("business-metrics", "Trials"): [want("", lambda s: {(): 2}), want("", lambda s: {(): 1})],

    ("anomaly-detection", "Detected anomalies"): [want("type provider", lambda s: {("cost_spike", "anthropic"): 1}, EXACT), want("alertname", lambda s: {
        ("TrafficAnomalyDetected",): 1}, EXACT)],
    ("anomaly-detection", "Cost anomalies"): [
        want(P, lambda s: per_second(usd(s, s.truth, P))), want(P, lambda s: {("openai",): 2 * USUAL["provider:credits_used"]}, EXACT),
        want(P, lambda s: {("openai",): 4 * USUAL["provider:credits_used"]}, EXACT)],
    ("anomaly-detection", "Latency anomalies"): [ATTEMPT_P95, want(P, lambda s: {("openai",): 0.5 + 0.5 * (0.95 * 2 - 1)}, {"rel": 1e-3})],
    ("anomaly-detection", "Error rate anomalies"): [
        want("", lambda s: per_second(sent(s, only=HTTP_5XX))), want("", lambda s: {(): 2 * USUAL["job:http_errors5xx"]}, EXACT),
        want("", lambda s: {(): 5 * max(2 * USUAL["job:http_errors5xx"], 0.02)}, EXACT)],
    ("anomaly-detection", "Traffic anomalies"): [
        want("", lambda s: per_second(sent(s))), want("", lambda s: {(): 2 * USUAL["job:http_requests"]}, EXACT),
        want("", lambda s: {(): 6 * USUAL["job:http_requests"]}, EXACT)],
    ("anomaly-detection", "Anomaly summary table"): [want("severity kind provider", lambda s: {("critical", "cost_spike", "anthropic"): 100}, EXACT)],

    ("latency", "P99 Latency by Endpoint"): [want("endpoint", lambda s: {(e,): rank_of(0.99, [line["duration_ms"] / 1e3 for line in s.all_lines if line["endpoint"] == e])
                                                                           for e in WORKING}, only=lambda k: k[0] in WORKING)],
    ("latency", "Average Latency Trend"): [want("endpoint", lambda s: {(e,): mean(took(s, lambda x, e=e: x["endpoint"] == e)) for e in WORKING}, {"rel": 0.02},
                                                only=lambda k: k[0] in WORKING)],
    ("latency", "Request Rate"): [want("endpoint method", lambda s: per_second({
        **sent(s, "endpoint", "method"), ("/api/admin/tenants", "POST"): 2}) | {("/metrics", "GET"): scraped_per_second(s)},
        only=lambda k: k[0] in (*WORKING, "/metrics", "/api/admin/tenants"))],

    ("errors", "Error Rate by Endpoint"): [want("endpoint method", lambda s: shares(sent(s, "endpoint", "method", only=HTTP_5XX), sent(s, "endpoint", "method")), EXACT)],
    ("errors", "Total Errors"): [want("", lambda s: sent(s, only=HTTP_5XX))],
    ("errors", "Errors by Status Code"): [want("status", lambda s: per_second(sent(s, "status", only=HTTP_5XX)))],

    ("models", "Model Error Rates"): [want(M, lambda s: shares(attempts(s, M, only=bad, truth=s.all_truth), attempts(s, M, truth=s.all_truth)), {"rel": 1e-6})],
    ("models", "Model Latency"): [want(M, lambda s: means(attempts_took(s.all_lines, M)), {"rel": 0.02})],
    ("models", "Model Request Volume"): [want(M, lambda s: per_second(attempts(s, M)))],
    ("models", "Model Cost"): [want(M, lambda s: usd(s, s.truth, M))],
    ("models", "Model Tokens"): [want("model type", lambda s: per_second(tokens(s, M)))],
    ("models", "Attempts without a price"): [want("provider model", lambda s: attempts(s, P, M, only=lambda r: r["status"] == 200 and r[M] in (
        "b", "c", "p", "nobody-knows-this-model")))],

    ("cache", "Cache Hit Rate"): [want("", NO_CACHE)],
    ("cache", "Cache Operations"): [want("", NO_CACHE), want("", NO_CACHE)],
    ("cache", "Cache size"): [want("", NO_CACHE)],
    ("cache", "Cache evictions"): [want("", NO_CACHE)],
}


# ---- the comparison --------------------------------------------------------------------------------------------------


def series(s, query, w):
    """{labels: number} that the panel shows."""
    out = {}
    for row in s.prometheus.query_at(concrete(query["expr"]), getattr(s, w.at)):
        key = tuple(row["metric"].get(x, "") for x in w.labels)
        assert key not in out, f"two series of {key}"
        out[key] = float(row["value"][1])
    return out


def rows(s, query, w):
    """The same of a table: the last number of each row, the largest of those with the same labels."""
    out = {}
    with s.postgres.connect() as db:
        cursor = db.execute(concrete_sql(query["rawSql"], s.now - 3 * DAY, s.now + 60))
        names = [c.name for c in cursor.description]
        for row in cursor.fetchall():
            cells = {n: int(v.timestamp()) if n == "time" else v for n, v in zip(names, row)}
            numbers = [v["value"] if isinstance(v, dict) else float(v) for n, v in cells.items() if n != "time" and isinstance(v, (int, float, Decimal, dict))]
            key = tuple(cells[x] for x in w.labels)
            out[key] = max(out.get(key, 0), numbers[-1])
    return out


def agree(have, right, tolerance):
    assert have, "nothing is shown"
    assert not [k for k, v in have.items() if math.isnan(v)], "NaN is shown"
    loose = {k: v for k, v in right.items() if isinstance(v, Within)}
    for k, v in loose.items():
        assert k in have or v.may_lack, (k, have, right)
        assert k not in have or have[k] in v, (k, have[k], v)
    keys = {*have, *right} - {*loose}  # what is not shown counts as 0, so that small tolerances hold for it, too
    assert {k: have.get(k, 0) for k in keys} == pytest.approx({k: right.get(k, 0) for k in keys}, **tolerance)


def test_every_panel_has_an_expectation_for_each_of_its_queries():
    assert {k: len(v) for k, v in panels().items()} == {k: len(v) for k, v in EXPECTED.items()}
    assert len(EXPECTED) == 87


def wrong(s, panel):
    """What is wrong with it, or None."""
    try:
        for query, w in zip(panels()[panel], EXPECTED[panel], strict=True):
            have = series(s, query, w) if "expr" in query else rows(s, query, w)
            agree(w.shape({k: v for k, v in have.items() if w.only(k)}), w.right(s), w.tolerance)
    except AssertionError as e:
        return f"{' / '.join(panel)}: {e}"


def test_every_panel_shows_what_was_played(scene):
    """One test, so that no two processes play the scene."""
    found = [text for panel in EXPECTED if (text := wrong(scene, panel))]
    assert not found, "\n\n".join(found)
