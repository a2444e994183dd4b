# SPDX-License-Identifier: Apache-2.0
"""Every family of the catalogue is exposed with its type and labels, or on the list of those that are not; and after one scripted
scenario each says what its oracle says: the clients, the simulator, the stores, the kernel, a counted fault, own arithmetic."""

import itertools
import math
import os
import re
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from support import reprice
from support.families import CATALOGUE, Watch, commands, documented, statements
from support.gateway import KEY, http, model, provider, sha256
from support.load import Load
from support.metrics import Scrape
from support.process import SLOWNESS, is_sanitized
from support.rawhttp import request
from support.upstream import DONE, LAST_CHUNK, Gate, as_chunk, chat_completion, json_answer, sse_head, stream_events
from support.wait import eventually

OTHER, POOR = "sk-aigw-other-0123456789abcdef0123456789", "sk-aigw-poor-0123456789abcdef01234567890"
BREAKER = {"failures": 3, "error_rate": 0, "open_for": "1s", "max_open_for": "1s", "probes": 1, "close_after": 1}


def admin(s, method, path, body=None):
    answer = http(s.gateway.admin_url + path, method, body if body is not None or method == "GET" else {},
                  {"authorization": "Bearer " + s.gateway.config["admin"]["token"]})
    assert answer.status in (200, 201), (path, answer)
    return answer.json


class Held:
    """A provider with one slot that answers when it is told; a stream stops after its first events."""

    def __init__(self):
        self.seen, self.gates = 0, []

    def __call__(self, received):
        gate = Gate()
        self.seen += 1
        self.gates.append(gate)
        if not received.json.get("stream"):
            return [gate, json_answer(chat_completion(model="m"))]
        events = stream_events()
        return [sse_head(), as_chunk(events[0]), gate, *(as_chunk(e) for e in events[1:]), as_chunk(DONE), LAST_CHUNK]

    def release(self, n):
        eventually(lambda: len(self.gates) > n, 10 * SLOWNESS, what=f"request {n + 1} at the held provider")
        self.gates[n].event.set()


@pytest.fixture(scope="module")
def scene(module_stage):
    s = SimpleNamespace(stage=module_stage, sent=[], held=Held(), before=time.time())
    s.sim = module_stage.simulator(seed=7)
    for name, script in (("again", ["429", "ok"] * 2), ("openrouter", ["500"] * 2), ("broken", ["500"] * 3), ("cutter", ["cut_mid"])):
        s.sim.control.profile(name, script=script, retry_after_s=-1)
    s.sim.control.profile("openai", cached_share=0.25, reasoning_share=0.1)
    s.redis = module_stage.redis()
    s.watch = Watch(s.redis)
    s.postgres = module_stage.postgres("shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.max = 5000")
    with s.postgres.connect() as c:
        c.execute("CREATE EXTENSION pg_stat_statements")
    names = ("openai", "openrouter", "again", "broken", "cutter")
    s.gateway = module_stage.gateway(
        [*(provider(n, s.sim.base_url(n)) for n in names), provider("anthropic", s.sim.base_url("anthropic"), kind="anthropic"),
         provider("up", module_stage.upstream(s.held).base_url, max_concurrent=1), provider("dead", "http://127.0.0.1:9/v1")],
        [model("chat", "openai/gpt-4o-mini"), model("shaky", "openrouter/openai/gpt-4o-mini", "openai/gpt-4o", retries=1),
         model("retry", "again/gpt-4o-mini", retries=2), model("broken", "broken/m", retries=0), model("cutter", "cutter/m", retries=0),
         model("claude", "anthropic/claude-sonnet-4-5"), model("slow", "up/m"), model("dead", "dead/m")],
        tenants=[{"id": "acme", "plan": "pro", "keys": [{"id": "test", "sha256": sha256(KEY)}]},
                 {"id": "umbrella", "plan": "free", "keys": [{"id": "k", "sha256": sha256(OTHER)}], "limits": {"rpm": 2},
                  "budget": {"usd": 100, "period": "month"}},
                 {"id": "poor", "plan": "free", "keys": [{"id": "k", "sha256": sha256(POOR)}], "budget": {"usd": "0.000001", "period": "day"}}],
        breaker=BREAKER, redis=s.redis.url(), database=s.postgres.url(), metrics={"profiles": ["all", "otel", "response-size"]},
    )
    s.first = s.gateway.scrape()  # before anything happened
    play(s)
    s.lines = s.gateway.logged(len([r for r in s.sent if r.endpoint != "__unmatched__"]), 30)
    s.truth = s.sim.control.settled_log()
    eventually(lambda: settled(s), 30 * SLOWNESS, what="the stores to have everything")
    s.scrape = s.gateway.scrape()
    s.om = s.gateway.scrape(openmetrics=True)
    return s


def send(s, name="chat", n=1, key=KEY, tenant="acme", **more):
    for i in range(n):
        answer = s.gateway.chat(f"{name} {i}", model=name, key=key, **more)
        s.sent.append(SimpleNamespace(method="POST", endpoint="/v1/chat/completions", tenant=tenant, name=name, answer=answer, **more))
    return answer


def play(s):
    send(s, n=10)
    send(s, n=6, stream=True)
    send(s, "shaky", 2)
    send(s, "retry", 2)
    send(s, "cutter", stream=True)
    send(s, n=5, key=OTHER, tenant="umbrella")
    send(s, n=2, key=POOR, tenant="poor", max_tokens=100)
    send(s, "no-such-model")
    send(s, n=2, key="sk-wrong-0123456789abcdef", tenant="none")
    send(s, "broken", 4)  # three that open the breaker, and one that it refuses
    for i in range(3):
        body = {"model": "claude", "max_tokens": 50, "messages": [{"role": "user", "content": f"claude {i}"}]}
        answer = s.gateway.post("/v1/messages", body, headers={"anthropic-version": "2023-06-01"})
        s.sent.append(SimpleNamespace(method="POST", endpoint="/v1/messages", tenant="acme", name="claude", answer=answer))
    s.sent.append(SimpleNamespace(method="GET", endpoint="/v1/models", tenant="acme", name=None, answer=s.gateway.get("/v1/models")))
    for i in range(2):
        s.sent.append(SimpleNamespace(method="GET", endpoint="__unmatched__", tenant="none", name=None, answer=s.gateway.get(f"/nothing/{i}")))
    queue_up(s)
    recover(s)
    stories_of_tenants(s)
    s.probes = [admin(s, "POST", f"/api/admin/providers/{p}/probe") for p in ("openai", "openai", "openai", "dead")]


def queue_up(s):
    """One request holds the slot and two wait; then a stream is held open."""
    threads = [threading.Thread(target=send, args=(s, "slow")) for _ in range(3)]
    for i, t in enumerate(threads):
        t.start()
        eventually(lambda: s.held.seen == 1 and s.gateway.metric("task_queue_depth") == i, 10 * SLOWNESS, what=f"{i} in the queue")
    s.while_queued = s.gateway.scrape()
    for i in range(3):
        s.held.release(i)
    for t in threads:
        t.join(30 * SLOWNESS)
    stream = threading.Thread(target=send, args=(s, "slow"), kwargs={"stream": True})
    stream.start()
    eventually(lambda: s.gateway.metric("aigateway_active_streams") == 1, 10 * SLOWNESS, what="an open stream")
    s.held.release(3)
    stream.join(30 * SLOWNESS)


def recover(s):
    s.while_open = s.gateway.scrape()
    s.sim.control.profile("broken")  # good again
    before = len(s.sent)
    eventually(lambda: send(s, "broken").status == 200, 10 * SLOWNESS, 0.2, what="the breaker to close")
    s.recovering = len(s.sent) - before


def stories_of_tenants(s):
    admin(s, "PUT", "/api/admin/plans/try", {"trial": True})
    admin(s, "PUT", "/api/admin/plans/paid", {"price_usd": 20})
    for i in range(3):
        admin(s, "POST", "/api/admin/tenants", {"id": f"t{i}", "plan": "try"})
    admin(s, "POST", "/api/admin/tenants", {"id": "p0", "plan": "paid"})
    admin(s, "PATCH", "/api/admin/tenants/t0", {"plan": "paid"})
    admin(s, "PATCH", "/api/admin/tenants/t0", {"plan": "paid"})  # changes nothing
    admin(s, "PATCH", "/api/admin/tenants/t1", {"enabled": False})


def settled(s):
    now = s.gateway.scrape()
    stores = [now.sum("aigateway_telemetry_queue_length", pipeline=p) for p in ("access_log", "realtime", "history")]
    return stores == [0, 0, 0] and now.sum("gatewayd_store_records_total", store="history") > 0 and now.sum("provider_health_score") > 0


# ---- what the oracles say ----


def counts(s, family, *labels, **where):
    """{label values: whole number}, without zeros."""
    out = Counter()
    for x in s.scrape.samples:
        if x.name == family and all(x.labels.get(k) in (v if isinstance(v, tuple) else (v,)) for k, v in where.items()):
            out[tuple(x.labels[n] for n in labels)] += x.value
    return {k: int(v) if v == int(v) else v for k, v in out.items() if v}


def by(rows, key, weight=lambda r: 1):
    out = Counter()
    for r in rows:
        out[key(r)] += weight(r)
    return {k: v for k, v in out.items() if v}


def attempts(s):
    """What the providers saw, as (provider, model, status, stream): the simulator's truth and the held provider's own count."""
    held = [SimpleNamespace(provider="up", model="m", ok=True, stream=i == 3, t=None) for i in range(s.held.seen)]
    return held + [SimpleNamespace(provider=r["profile"], model=r["model"], ok=r["ended"] == "answered", stream=r["stream"], t=r) for r in s.truth]


def status(ok):
    return "success" if ok else "error"


def whole(s):
    """Attempts whose tokens are certain: answered to the end."""
    return [a for a in attempts(s) if a.t and a.ok]


def tokens(s, kind):
    out = by(whole(s), lambda a: (a.provider, a.model), lambda a: a.t["prompt_tokens" if kind == "input" else "completion_tokens"])
    out["up", "m"] = (9 if kind == "input" else 3) * s.held.seen
    return out


CERTAIN = ("openai", "again", "anthropic", "broken", "up")  # the cut stream's tokens are an estimate


def costs(s):
    """Of the providers that have prices, in dollars, by own arithmetic."""
    billed = reprice.total([a.t for a in whole(s)], reprice.table(), by=("profile", "model"))
    return {k: v / 1e9 for k, v in billed.nanousd.items() if v}


V1 = ("/v1/chat/completions", "/v1/messages", "/v1/models", "__unmatched__")


def same(have, want, **how):
    assert have == (pytest.approx(want, **how) if how else want)


def http_counts(s, *keys):
    """The clients' own count."""
    return by(s.sent, lambda r: tuple(str(r.answer.status) if k == "status" else getattr(r, k) for k in keys))


def check_http(s, family, *labels, **where):
    same(counts(s, family, *labels, endpoint=V1, **where), http_counts(s, *labels))


def duration_of(s, histogram, label):
    """{value: mean seconds}, from the sums and counts of the histogram: all of the scenario fits into five minutes."""
    sums, n = counts(s, histogram + "_sum", label), counts(s, histogram + "_count", label)
    return {k: sums[k] / n[k] for k in n}


def gauges(s, family, label):
    return {(x.labels[label],): x.value for x in s.scrape.samples if x.name == family and not math.isnan(x.value)}


def check_means(s, family, histogram, label, only=None):
    have, want = gauges(s, family, label), duration_of(s, histogram, label)
    same({k: v for k, v in have.items() if not only or k[0] in only}, {k: v for k, v in want.items() if not only or k[0] in only}, rel=1e-5)


def logged_ms(s, provider):
    return sorted(a["duration_ms"] for line in s.lines for a in line["attempts"] if a["provider"] == provider)


def check_quantile(s, family, q):
    """Within the sketch's error of the clients' own share of requests by the access log's durations."""
    took = sorted(line["duration_ms"] / 1e3 for line in s.lines if line["endpoint"] == "/v1/chat/completions")
    have = gauges(s, family, "endpoint")["/v1/chat/completions",]
    low, high = took[max(0, math.floor(q * (len(took) - 1)))], took[min(len(took) - 1, math.ceil(q * (len(took) - 1)))]
    assert low * 0.98 - 1e-5 <= have <= high * 1.02 + 1e-5


def check_attempts(s, family, *labels):
    names = {"provider": lambda a: a.provider, "model": lambda a: a.model, "status": lambda a: status(a.ok)}
    same(counts(s, family, *labels), by(attempts(s), lambda a: tuple(names[x](a) for x in labels)))


def check_errors(s, family, *labels):
    names = {"provider": lambda a: a.provider, "model": lambda a: a.model}
    same(counts(s, family, *labels), by([a for a in attempts(s) if not a.ok], lambda a: tuple(names[x](a) for x in labels)))


def check_tokens(s, family, kind, *labels):
    for value in ("input", "output"):
        have = counts(s, family, "provider", "model", **{kind: value})
        want = tokens(s, value)
        same({k: v for k, v in have.items() if k[0] in CERTAIN}, {k: v for k, v in want.items() if k[0] in CERTAIN})


def check_costs(s, family):
    want = costs(s)
    assert want
    have = counts(s, family, "provider", "model")
    same({k: v for k, v in have.items() if k[0] in ("openai", "anthropic")}, {k: v for k, v in want.items() if k[0] in ("openai", "anthropic")},
         rel=1e-12)


def check_histogram(s, family, want, *labels):
    """As many observations as the oracle has, buckets that add up, and a sum that the counts allow."""
    same(counts(s, family + "_count", *labels), want)
    same(counts(s, family + "_bucket", *labels, le="+Inf"), want)
    for x in s.scrape.samples:
        if x.name == family + "_sum":
            assert 0 <= x.value


def streams(s, model_names=("chat", "slow")):
    return by([a for a in attempts(s) if a.stream and a.ok], lambda a: (a.provider, a.model))


def one(s, name, **labels):
    (value,) = [x.value for x in s.scrape.samples if x.name == name and all(x.labels.get(k) == v for k, v in labels.items())]
    return value


def breaker(s, at, state):
    return s.__dict__[at].sum("circuit_breaker_state", provider="broken", model="m", state=state)


def check_breakers(s):
    assert (breaker(s, "while_open", "open"), breaker(s, "while_open", "closed")) in ((1, 0), (0, 0))  # half-open when the second is over
    assert breaker(s, "scrape", "closed") == 1
    per = counts(s, "circuit_breaker_state", "provider", "model")
    assert set(per.values()) == {1} and len(per) == 9  # exactly one state of each target


def check_redis(s, by_operation):
    """Between two looks that see the same. Scripts are counted by INFO, too; what they call inside is nobody's command."""

    def quiet():
        with s.redis.client() as c:
            before, scripts = s.watch.seen(), commands(c)["script"]
            text = s.gateway.metrics_text()  # parsed afterwards: there are only moments without a command
            if s.watch.seen() != before or not scripts == commands(c)["script"] == before["script"]:
                return None
            s.now = Scrape(text)
            return before

    want = eventually(quiet, 20 * SLOWNESS, 0.05, what="a moment without a command")
    have = Counter()
    for x in s.now.samples:
        if x.name == ("redis_operations_total" if by_operation else "redis_operation_duration_seconds_count"):
            o = x.labels["operation"]
            have["script" if o in ("batch", "set", "lease") else o] += int(x.value)
    same({k: v for k, v in have.items() if v and k != "connect"}, {k: v for k, v in want.items() if v})
    assert have["connect"] > 0 and s.now.sum("redis_operations_total", operation="batch", status="success") > 0


def check_database(s, family):
    def quiet():
        before, text = statements(s.postgres), s.gateway.metrics_text()
        if statements(s.postgres) != before:
            return None
        s.now = Scrape(text)
        return before

    want = eventually(quiet, 20 * SLOWNESS, 0.05, what="a moment without a statement")
    have = Counter()
    for x in s.now.samples:
        if x.name == family and x.labels.get("status", "success") == "success" and x.labels["table"] != "other":
            have[x.labels["table"], x.labels["operation"]] += int(x.value)
    have = {k: v for k, v in have.items() if v and k[1] != "other"}
    tables = {"schema_migrations"}  # some of it belongs to scripts of several statements
    wrong = {k: (have.get(k, 0), want.get(k, 0)) for k in {*have, *want} if have.get(k, 0) != want.get(k, 0) and k[0] not in tables}
    wrong = {k: v for k, v in wrong.items() if k[0] != "none"}  # beginning and ending of connections' own transactions
    assert not wrong and have["ledger", "insert"] > 0 and have["none", "commit"] > 0, wrong


def check_in_use(s):
    """Who waits for a table that somebody else locked is in use, and PostgreSQL counts the same."""
    busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'gatewayd%' AND state <> 'idle'"
    with s.postgres.connect() as c:
        c.autocommit = False
        c.execute("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
        assert s.gateway.chat().status == 200  # the scene's own scrape has been made

        def agree():
            (n,), = s.postgres.query(busy)
            return n if n >= 1 and s.gateway.metric("active_database_connections") == n == s.postgres.query(busy)[0][0] else None

        eventually(agree, 15 * SLOWNESS, 0.05, what="a connection that waits")
        c.rollback()
    backends, = s.postgres.query("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'gatewayd%'")[0]
    assert 1 <= backends <= one(s, "database_connections_max")


def proc(s, file):
    return open(f"/proc/{s.gateway.child.pid}/{file}").read()


def check_process(s):
    fields = proc(s, "stat").rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    now = s.gateway.scrape()
    assert now.sum("process_cpu_seconds_total") == pytest.approx((int(fields[11]) + int(fields[12])) / tick, abs=0.5 * SLOWNESS)
    assert now.sum("process_resident_memory_bytes") == pytest.approx(int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), rel=0.3)
    boot = next(int(line.split()[1]) for line in open("/proc/stat") if line.startswith("btime"))
    assert now.sum("process_start_time_seconds") == pytest.approx(boot + int(fields[19]) / tick, abs=5 * SLOWNESS)
    assert abs(now.sum("process_open_fds") - len(os.listdir(f"/proc/{s.gateway.child.pid}/fd"))) <= 5
    assert now.sum("process_max_fds") == int(re.search(r"Max open files +(\d+)", proc(s, "limits"))[1])
    assert 0 < now.sum("aigateway_memory_limit_bytes") <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < now.sum("aigateway_cpu_limit_cores") <= len(os.sched_getaffinity(s.gateway.child.pid))
    assert 0 < now.sum("gatewayz_uptime_seconds") <= time.time() - s.before + 1


def check_health(s):
    board = {r["provider"]: r for r in s.gateway.monitoring("health")["providers"]} if isinstance(s.gateway.monitoring("health"), dict) \
        else {r["provider"]: r for r in s.gateway.monitoring("health")}
    now = s.gateway.scrape()
    for name in ("openai", "anthropic"):
        assert now.sum("provider_health_score", provider=name) == board[name]["health_score"]
        assert now.sum("gatewayz_provider_health_score", provider=name) == pytest.approx(board[name]["health_score"] / 100)
        assert now.sum("provider_availability", provider=name) == 1
    failed = [a for a in attempts(s) if a.provider == "openrouter" and not a.ok]
    assert now.sum("provider_error_rate", provider="openrouter") == 1 and len(failed) == 2


def check_version(s):
    version = http(s.gateway.url + "/version").json["version"]
    (info,) = [x for x in s.scrape.samples if x.name == "aigateway_build_info"]
    assert info.labels["version"] == version and info.value == 1


def pipelines(s, family):
    return {k: v for (k,), v in counts(s, family, "pipeline").items()}


def check_pipelines(s):
    now = s.gateway.scrape()
    assert now.sum("aigateway_telemetry_exported_total", pipeline="access_log") == len(s.gateway.access_log())
    for p in ("realtime", "history"):
        assert now.sum("aigateway_telemetry_exported_total", pipeline=p) == now.sum("gatewayd_store_records_total", store=p) > 0


def requests_of(s):
    """What becomes of each logical request, by the clients: (tenant, status)."""
    out = Counter()
    for r in s.sent:
        if r.name is None or r.answer.status == 401:
            continue
        refused = r.answer.status in (429, 402, 404) or (r.answer.status == 503 and r.name == "broken")
        cut = r.name == "cutter"
        out[r.tenant, "rejected" if refused else "error" if cut or r.answer.status >= 400 else "success"] += 1
    return dict(out)


def genai(s, family, n_labels):
    return sum(counts(s, family, "gen_ai_provider_name").values())


FAILED = {"openrouter": "server_error", "again": "rate_limited", "broken": "server_error", "cutter": "stream_interrupted"}

# family: (oracle, check). The oracle is named so that a reader knows whom the number was compared with.
TABLE = {
    "http_requests_total": ("clients", lambda s: check_http(s, "http_requests_total", "method", "endpoint", "status")),
    "http_request_duration_seconds": ("clients", lambda s: check_http(s, "http_request_duration_seconds_count", "method", "endpoint")),
    "http_request_errors_total": ("clients", lambda s: same(counts(s, "http_request_errors_total", "endpoint", endpoint=V1), by(
        [r for r in s.sent if r.answer.status >= 500], lambda r: (r.endpoint,)))),
    "http_response_status_total": ("clients", lambda s: check_http(s, "http_response_status_total", "endpoint", "status")),
    "http_request_latency_avg_seconds": ("arithmetic", lambda s: check_means(s, "http_request_latency_avg_seconds", "http_request_duration_seconds", "endpoint", V1)),
    "http_request_latency_p50_seconds": ("access log", lambda s: check_quantile(s, "http_request_latency_p50_seconds", 0.5)),
    "http_request_latency_p95_seconds": ("access log", lambda s: check_quantile(s, "http_request_latency_p95_seconds", 0.95)),
    "http_request_latency_p99_seconds": ("access log", lambda s: check_quantile(s, "http_request_latency_p99_seconds", 0.99)),
    "http_response_size_bytes": ("clients", lambda s: same(counts(s, "http_response_size_bytes_sum", "method", endpoint=("/v1/models", "/v1/messages")), by(
        [r for r in s.sent if r.endpoint in ("/v1/models", "/v1/messages")], lambda r: (r.method,), lambda r: len(r.answer.body)))),
    "model_inference_requests_total": ("simulator", lambda s: check_attempts(s, "model_inference_requests_total", "provider", "model", "status")),
    "model_inference_duration_seconds": ("simulator", lambda s: check_attempts(s, "model_inference_duration_seconds_count", "provider", "model")),
    "model_requests_total": ("simulator", lambda s: check_attempts(s, "model_requests_total", "provider", "model", "status")),
    "model_errors_total": ("simulator", lambda s: check_errors(s, "model_errors_total", "model")),
    "model_error_rate": ("simulator", lambda s: same({k: v for k, v in gauges(s, "model_error_rate", "model").items()}, {
        (m,): len([a for a in attempts(s) if a.model == m and not a.ok]) / len([a for a in attempts(s) if a.model == m]) for m in {a.model for a in attempts(s)}},
        rel=1e-6)),
    "model_latency_avg_seconds": ("arithmetic", lambda s: check_means(s, "model_latency_avg_seconds", "model_inference_duration_seconds", "model")),
    "provider_requests_total": ("simulator", lambda s: check_attempts(s, "provider_requests_total", "provider")),
    "provider_errors_total": ("simulator", lambda s: check_errors(s, "provider_errors_total", "provider")),
    "provider_error_rate": ("scripted faults", check_health),
    "provider_latency_avg_seconds": ("arithmetic", lambda s: check_means(s, "provider_latency_avg_seconds", "model_inference_duration_seconds", "provider")),
    "provider_latency_min_seconds": ("access log", lambda s: same(1e3 * one(s, "provider_latency_min_seconds", provider="openai"), logged_ms(s, "openai")[0], abs=0.002)),
    "provider_latency_max_seconds": ("access log", lambda s: same(1e3 * one(s, "provider_latency_max_seconds", provider="openai"), logged_ms(s, "openai")[-1], abs=0.002)),
    "provider_latency_p95_seconds": ("access log", lambda s: same(1e3 * one(s, "provider_latency_p95_seconds", provider="again"), logged_ms(s, "again")[-1], rel=0.5)),
    "aigateway_anomaly_active": ("a quiet first hour", lambda s: same(counts(s, "aigateway_anomaly_active", "type"), {})),
    "provider_availability": ("health API", check_health),
    "provider_health_score": ("health API", check_health),
    "gatewayz_provider_health_score": ("health API", check_health),
    "tokens_used_total": ("simulator", lambda s: check_tokens(s, "tokens_used_total", "token_type")),
    "model_tokens_total": ("simulator", lambda s: check_tokens(s, "model_tokens_total", "type")),
    "aigateway_tokens_total": ("simulator", lambda s: check_tokens(s, "aigateway_tokens_total", "type")),
    "aigateway_tokens_subset_total": ("simulator", lambda s: [same(counts(s, "aigateway_tokens_subset_total", "provider", kind=kind, provider="openai"), by(
        [a for a in whole(s) if a.provider == "openai"], lambda a: (a.provider,), lambda a: a.t[member]))
        for kind, member in (("cache_read", "cached_tokens"), ("reasoning", "reasoning_tokens"))]),
    "credits_used_total": ("arithmetic", lambda s: check_costs(s, "credits_used_total")),
    "model_cost_usd_total": ("arithmetic", lambda s: check_costs(s, "model_cost_usd_total")),
    "aigateway_cost_usd_total": ("arithmetic", lambda s: check_costs(s, "aigateway_cost_usd_total")),
    "gatewayz_cost_by_provider": ("arithmetic", lambda s: same(counts(s, "gatewayz_cost_by_provider", "provider")["openai",], sum(
        v for (p, _), v in costs(s).items() if p == "openai"), rel=1e-12)),
    "aigateway_requests_total": ("clients", lambda s: same(counts(s, "aigateway_requests_total", "tenant_id", "status", tenant_id=("acme", "umbrella", "poor")),
                                                            requests_of(s))),
    "aigateway_request_duration_seconds": ("clients", lambda s: same(counts(s, "aigateway_request_duration_seconds_count", "tenant_id", tenant_id=("acme", "umbrella", "poor")), by(
        requests_of(s).items(), lambda r: (r[0][0],), lambda r: r[1]))),
    "aigateway_model_selections_total": ("script", lambda s: same(counts(s, "aigateway_model_selections_total", "provider", tier="fallback"), {("openai",): 2})),
    "aigateway_circuit_breaker_state": ("script", lambda s: same(counts(s, "aigateway_circuit_breaker_state", "provider"), {})),
    "gatewayz_circuit_breaker_state": ("script", lambda s: same(counts(s, "gatewayz_circuit_breaker_state", "provider", state="closed")["broken",], 1)),
    "circuit_breaker_state": ("script", check_breakers),
    "circuit_breaker_failure_count": ("script", lambda s: same(counts(s, "circuit_breaker_failure_count", "provider"), {("openrouter",): 2, ("cutter",): 1})),
    "aigateway_circuit_breaker_transitions_total": ("script", lambda s: same(counts(s, "aigateway_circuit_breaker_transitions_total", "to_state", provider="broken"),
                                                                             {("open",): 1, ("half_open",): 1, ("closed",): 1})),
    "aigateway_circuit_breaker_recovery_seconds": ("script", lambda s: check_histogram(s, "aigateway_circuit_breaker_recovery_seconds", {("broken",): 1}, "provider")),
    "aigateway_rate_limit_hits_total": ("clients", lambda s: same(counts(s, "aigateway_rate_limit_hits_total", "tenant_id"), {("umbrella",): 3})),
    "rate_limit_hits_total": ("clients", lambda s: same(counts(s, "rate_limit_hits_total", "limit_type"), {("requests",): 3})),
    "aigateway_active_streams": ("held stream", lambda s: same(counts(s, "aigateway_active_streams"), {})),
    "aigateway_provider_errors_total": ("scripted faults", lambda s: same(counts(s, "aigateway_provider_errors_total", "provider", "error_type"), by(
        [a for a in attempts(s) if not a.ok], lambda a: (a.provider, FAILED[a.provider])))),
    "aigateway_budget_usage_ratio": ("arithmetic", lambda s: same(one(s, "aigateway_budget_usage_ratio", tenant_id="umbrella"), s.scrape.sum(
        "aigateway_cost_usd_total", tenant_id="umbrella") / 100, abs=1e-9)),
    "aigateway_budget_limit_usd": ("configuration", lambda s: same(counts(s, "aigateway_budget_limit_usd", "tenant_id"), {("umbrella",): 100, ("poor",): 0.000001})),
    "aigateway_budget_rejections_total": ("clients", lambda s: same(counts(s, "aigateway_budget_rejections_total", "tenant_id"), by(
        [r for r in s.sent if r.tenant == "poor" and r.answer.status in (402, 429)], lambda r: (r.tenant,)))),
    "aigateway_time_to_first_token_seconds": ("simulator", lambda s: check_histogram(s, "aigateway_time_to_first_token_seconds", by(
        [a for a in attempts(s) if a.stream], lambda a: (a.provider, a.model)), "provider", "model")),
    "aigateway_time_per_output_token_seconds": ("simulator", lambda s: check_histogram(s, "aigateway_time_per_output_token_seconds", streams(s), "provider", "model")),
    "aigateway_streams_total": ("simulator", lambda s: same(counts(s, "aigateway_streams_total", "provider", "model", "outcome"), by(
        [a for a in attempts(s) if a.stream], lambda a: (a.provider, a.model, "complete" if a.ok else "upstream_cut")))),
    "aigateway_retries_total": ("scripted faults", lambda s: same(counts(s, "aigateway_retries_total", "provider", "reason"), {("again", "rate_limited"): 2})),
    "aigateway_failovers_total": ("scripted faults", lambda s: same(counts(s, "aigateway_failovers_total", "from_provider", "to_provider", "reason"),
                                                                    {("openrouter", "openai", "server_error"): 2})),
    "database_query_total": ("pg_stat_statements", lambda s: check_database(s, "database_query_total")),
    "database_query_duration_seconds": ("pg_stat_statements", lambda s: check_database(s, "database_query_duration_seconds_count")),
    "db_queries_total": ("arithmetic", lambda s: same(s.scrape.sum("db_queries_total"), s.scrape.sum("database_query_total"))),
    "db_query_latency_avg_seconds": ("arithmetic", lambda s: same(s.scrape.sum("db_query_latency_avg_seconds"), s.scrape.sum(
        "database_query_duration_seconds_sum") / s.scrape.sum("database_query_duration_seconds_count"), rel=1e-6)),
    "active_database_connections": ("pg_stat_activity", check_in_use),
    "database_connections_max": ("pg_stat_activity", check_in_use),
    "redis_operations_total": ("INFO commandstats", lambda s: check_redis(s, True)),
    "redis_operation_duration_seconds": ("INFO commandstats", lambda s: check_redis(s, False)),
    "redis_connection_failures_total": ("a server that is up", lambda s: same(s.scrape.sum("redis_connection_failures_total"), 0)),
    "external_api_calls_total": ("own count", lambda s: same(counts(s, "external_api_calls_total", "service"), {("openai",): 3, ("dead",): 1})),
    "external_api_errors_total": ("own count", lambda s: same(counts(s, "external_api_errors_total", "service"), {("dead",): 1})),
    "task_duration_seconds": ("script", lambda s: same(counts(s, "task_duration_seconds_count", "status", "priority"), {("success", "p3"): 2})),
    "task_queue_depth": ("held requests", lambda s: same((s.while_queued.sum("task_queue_depth", priority="p3"), s.scrape.sum("task_queue_depth")), (2, 0))),
    "trial_signups_total": ("own count", lambda s: same(s.scrape.sum("trial_signups_total"), 3)),
    "trial_conversions_total": ("own count", lambda s: same(s.scrape.sum("trial_conversions_total"), 1)),
    "active_subscriptions_total": ("own count", lambda s: same(counts(s, "active_subscriptions_total", "tier"), {("pro",): 1, ("free",): 2, ("try",): 1, ("paid",): 2})),
    "gatewayz_uptime_seconds": ("/proc", check_process),
    "process_cpu_seconds_total": ("/proc", check_process),
    "process_resident_memory_bytes": ("/proc", check_process),
    "process_start_time_seconds": ("/proc", check_process),
    "process_open_fds": ("/proc", check_process),
    "process_max_fds": ("/proc", check_process),
    "aigateway_memory_limit_bytes": ("/proc", check_process),
    "aigateway_cpu_limit_cores": ("/proc", check_process),
    "aigateway_build_info": ("/version", check_version),
    "aigateway_telemetry_exported_total": ("access log", check_pipelines),
    "aigateway_telemetry_dropped_total": ("access log", lambda s: same(pipelines(s, "aigateway_telemetry_dropped_total"), {})),
    "aigateway_telemetry_queue_length": ("settled stores", lambda s: same({k: v for k, v in pipelines(s, "aigateway_telemetry_queue_length").items() if k != "events"}, {})),
    "aigateway_telemetry_last_success_timestamp_seconds": ("clock", lambda s: [
        same(s.before - 1 <= v <= time.time() + 1, True) for v in pipelines(s, "aigateway_telemetry_last_success_timestamp_seconds").values()]),
    "aigateway_metric_overflow_total": ("few names", lambda s: same(counts(s, "aigateway_metric_overflow_total", "family"), {})),
    "gen_ai_client_operation_duration_seconds": ("simulator", lambda s: same(counts(s, "gen_ai_client_operation_duration_seconds_count", "gen_ai_provider_name", "error_type"), by(
        attempts(s), lambda a: (a.provider, "" if a.ok else FAILED[a.provider])))),
    "gen_ai_client_token_usage": ("simulator", lambda s: same({k: v for k, v in counts(s, "gen_ai_client_token_usage_sum", "gen_ai_provider_name", gen_ai_token_type="output").items()
                                                               if k[0] in CERTAIN}, by([(p, n) for (p, _), n in tokens(s, "output").items() if p in CERTAIN],
                                                                                       lambda r: (r[0],), lambda r: r[1]))),
    "gen_ai_server_request_duration_seconds": ("clients", lambda s: same(genai(s, "gen_ai_server_request_duration_seconds_count", 5), len(
        [r for r in s.sent if r.name is not None]))),
    "gen_ai_server_time_to_first_token_seconds": ("simulator", lambda s: same(genai(s, "gen_ai_server_time_to_first_token_seconds_count", 4), len(
        [a for a in attempts(s) if a.stream]))),
    "gen_ai_server_time_per_output_token_seconds": ("simulator", lambda s: same(genai(s, "gen_ai_server_time_per_output_token_seconds_count", 4), sum(
        streams(s).values()))),
}


def test_every_family_of_the_catalogue_is_exposed_or_said_not_to_be():
    """`CATALOGUE` names all of them with type and labels; none is silently missing, and none is faked."""
    rows, absent = documented()
    assert not set(rows) & set(absent)
    for name, kind, labels in CATALOGUE:
        if name in absent:
            continue
        assert name in rows, f"{name} is neither exposed nor documented as not exposed"
        assert (rows[name][0], rows[name][1]) == (kind, labels), name
    known = {name for name, _, _ in CATALOGUE}
    assert set(TABLE) == {n for n in known if n in rows}
    assert set(absent) <= known and all(n.startswith("gatewayd_") for n in set(rows) - known)


@pytest.mark.parametrize("family", sorted(TABLE))
def test_a_family_says_what_its_oracle_says(scene, family):
    oracle, check = TABLE[family]
    assert oracle
    check(scene)


def family_name(name, kind, openmetrics):
    if kind == "counter" or kind == "info" and openmetrics:
        return re.sub("_(total|info)$", "", name)
    return name


@pytest.mark.parametrize("openmetrics", [False, True])
def test_types_and_labels_are_exactly_the_documented_ones(scene, openmetrics):
    rows, _ = documented()
    scrape = scene.om if openmetrics else scene.scrape
    seen = set()
    for name, (kind, labels, _) in rows.items():
        found = scrape.families.get(family_name(name, kind, openmetrics)) or scrape.families.get(name)
        assert found is not None, name
        assert found.type == ("gauge" if kind == "info" and not openmetrics else kind), name
        seen.add(found.name)
        for x in found.samples:
            assert list(x.labels) == labels + ["le"] * (x.name.endswith("_bucket") and kind == "histogram"), x
            if kind == "counter":
                assert x.value >= 0
    assert seen == set(scrape.families)


def test_configured_names_have_their_series_before_anything_happened(scene):
    zero, rows = scene.first, documented()[0]
    for name, (kind, _, notes) in rows.items():
        if "from the first scrape" in notes and name not in ("gatewayd_book_drift",):
            assert [x for x in zero.samples if x.name == name], name
    assert zero.sum("database_query_total", table="ledger", operation="insert", status="error") == 0
    assert len([x for x in zero.samples if x.name == "database_query_total" and x.labels["table"] == "revenue"]) == 8
    assert {x.labels["limit_type"] for x in zero.samples if x.name == "rate_limit_hits_total"} >= {"requests", "tokens", "concurrent"}
    assert {x.labels["service"] for x in zero.samples if x.name == "external_api_calls_total"} >= {"openai", "dead"}


def test_promtool_finds_what_it_is_known_to_find_and_nothing_else(scene):
    done = subprocess.run(["promtool", "check", "metrics"], input=scene.scrape.text, capture_output=True, text=True, timeout=60)
    names = {line.split()[0] for line in (done.stdout + done.stderr).splitlines() if line.strip()}
    assert names == {"active_subscriptions_total", "circuit_breaker_failure_count"}


def test_names_of_one_number_agree(scene):
    rows, _ = documented()
    aliases = {name: m[1] for name, (_, _, notes) in rows.items() if (m := re.search("same number as `(\\w+)`", notes))}
    assert len(aliases) > 15
    for name, of in aliases.items():
        if rows[name][0] == "counter":
            assert scene.scrape.sum(name) == pytest.approx(scene.scrape.sum(of)), name


def test_a_reset_begins_windows_anew_and_is_audited(scene):
    s = scene
    before = s.gateway.scrape()
    assert not math.isnan(before.sum("provider_latency_avg_seconds", provider="anthropic"))
    assert http(s.gateway.url + "/metrics/reset", "POST", {}).status in (401, 403, 404)  # not for everybody
    assert admin(s, "POST", "/metrics/reset")["reset"] == "windows"
    after = s.gateway.scrape()
    assert math.isnan(after.sum("provider_latency_avg_seconds", provider="anthropic"))
    assert math.isnan(after.sum("http_request_latency_p99_seconds", endpoint="/v1/messages"))
    for x in before.samples:
        if x.name.endswith("_total") and x.name in TABLE and TABLE[x.name][0] != "own" and documented()[0][x.name][0] == "counter":
            assert after.sum(x.name, **x.labels) >= x.value
    assert after.sum("provider_health_score", provider="anthropic") == before.sum("provider_health_score", provider="anthropic") > 0
    assert s.postgres.query("SELECT count(*) FROM audit WHERE action = 'metrics.reset'") == [(1,)]


def test_profiles_choose_families_while_it_runs(stage):
    gateway = stage.gateway(metrics={"profiles": ["reference-003"]})
    rows = documented()[0]
    assert "model_inference_requests_total" in gateway.scrape().text and "gatewayd_connections" not in gateway.scrape().text
    gateway.write_config({**gateway.config, "metrics": {"profiles": ["all", "-reference-004"]}})
    gateway.reload()
    text = eventually(lambda: t if "\ngatewayd_connections" in (t := gateway.scrape().text) else None, 10 * SLOWNESS)
    assert "db_queries_total" not in text and "http_request_latency_p99_seconds" not in text and "\nhttp_requests_total" in text
    assert "gen_ai" not in text and "off by default" in rows["gen_ai_client_token_usage"][2]
    version = gateway.metric("gatewayd_config_version")
    gateway.write_config({**gateway.config, "metrics": {"profiles": ["everything"]}})
    gateway.reload()
    eventually(lambda: gateway.metric("gatewayd_config_reloads_total", result="failed") == 1, 10 * SLOWNESS)
    assert gateway.metric("gatewayd_config_version") == version
    assert "'metrics.profiles' has no 'everything'" in gateway.stderr()


LEDGER = ("instance seq line kind minute budget_hour tenant key provider model endpoint outcome error stream_end usage_source count tokens_in "
          "tokens_cached tokens_cwrite tokens_out tokens_reasoning images searches cost_nano unpriced latency_us ttft_us ttft_count").split()


def test_an_anomaly_is_active_while_it_lasts(stage):
    """Thirty hours of a dollar each, but one of a hundred."""
    sim = stage.simulator()
    gateway = stage.gateway([provider("openai", sim.base_url("openai")), provider("calm", sim.base_url("calm"))], [model("chat", "openai/m")])
    first = gateway.scrape()
    assert first.sum("aigateway_anomaly_active") == 0
    assert {x.labels["provider"] for x in first.samples if x.name == "aigateway_anomaly_active"} == {"openai", "calm"}
    gateway.stop()
    hour = int(time.time()) // 3600
    with sqlite3.connect(gateway.state_dir / "history.db") as db:
        for n, name in itertools.product(range(1, 31), ("openai", "calm")):
            cost = 100 if (n, name) == (2, "openai") else 1  # one closed hour without it does not end it
            values = dict.fromkeys(LEDGER, 0) | {
                "instance": "old-" + name, "seq": n, "kind": "attempt", "minute": (hour - n) * 3600 + 300, "budget_hour": (hour - n) * 3600, "tenant": "acme",
                "key": "test", "provider": name, "model": "m", "endpoint": "chat", "outcome": "success", "error": "", "stream_end": "none",
                "usage_source": "reported", "count": 100, "tokens_in": 1000, "tokens_out": 1000, "cost_nano": cost * 10**9, "latency_us": 10**8}
            db.execute(f"INSERT INTO ledger ({', '.join(LEDGER)}) VALUES ({', '.join('?' * len(LEDGER))})", [values[c] for c in LEDGER])
    gateway.start()
    spike = {"type": "cost_spike", "provider": "openai"}
    eventually(lambda: gateway.metric("aigateway_anomaly_active", **spike) == 1, 60 * SLOWNESS, 0.5, what="the spike")
    assert gateway.metric("aigateway_anomaly_active", type="cost_spike") == 1  # nobody else's


def test_failures_of_redis_are_counted_when_they_happen(stage):
    redis = stage.redis()
    gateway = stage.gateway(redis=redis.url())
    eventually(lambda: gateway.metric("redis_operations_total", operation="ping", status="success")
               + gateway.metric("redis_operations_total", operation="batch", status="success") > 0, 10 * SLOWNESS)
    assert gateway.metric("redis_connection_failures_total") == 0
    redis.stop()
    eventually(lambda: gateway.metric("redis_connection_failures_total") > 0, 15 * SLOWNESS)
    assert gateway.metric("redis_operations_total", status="error") > 0


def test_invented_names_make_no_series_and_lose_no_request(stage):
    sim = stage.simulator()
    gateway = stage.gateway([provider("openai", sim.base_url("openai"))], [model("chat", "openai/gpt-4o-mini")], metrics={"max_series": 3000})
    n = 300 if is_sanitized() else 1500

    def ask(i):
        name = ("openai/invented-{}", "invented-{}", "openai/x\u202e{}")[i % 3].format(i)
        body = '{"model": "%s", "messages": [{"role": "user", "content": "hi"}]}' % name
        return request(body=body.encode(), key=KEY)

    results = Load(gateway.host_port, 16).run(ask(i) for i in range(n))
    assert not [r for r in results if r.trouble]
    scrape = gateway.scrape()
    assert scrape.sum("http_requests_total", endpoint="/v1/chat/completions") == n == scrape.sum("aigateway_requests_total")
    assert scrape.sum("model_inference_requests_total") == len(sim.control.settled_log())
    assert len(scrape.samples) < 3500 and "invented" not in scrape.text
    models = {x.labels["model"] for x in scrape.samples if "model" in x.labels}
    assert models <= {"gpt-4o-mini", "other", "none", "chat"}
