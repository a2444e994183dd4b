# SPDX-License-Identifier: Apache-2.0
"""The expressions of the reference documents, as they stand or in the form that is shipped, give the right number on a real
Prometheus that scrapes a real gateway and has the recording rules of `aigwctl alerts generate` loaded."""

import math
from collections import Counter
from types import SimpleNamespace

import pytest
import yaml

from support import reprice
from support.families import documented
from support.gateway import model, provider, run
from support.process import SLOWNESS
from support.prometheus import Prometheus
from support.wait import eventually

N = SimpleNamespace(chat=24, streams=6, failed=8, down=4)  # requests by what becomes of them


def rules():
    """All recording rules, evaluated with every scrape."""
    done = run(["aigwctl", "alerts", "generate", "--pack", "all"], timeout=60 * SLOWNESS)
    assert done.returncode == 0, done.stderr
    text = yaml.safe_load(done.stdout)
    for group in text["groups"]:
        group["interval"] = "500ms"
    return yaml.safe_dump(text)


@pytest.fixture(scope="module")
def scene(module_stage):
    s = SimpleNamespace(sim=module_stage.simulator(seed=3))
    s.sim.control.profile("openrouter", script=["ok"] + ["ok", "500"] * N.failed)
    s.gateway = module_stage.gateway(
        [provider("openai", s.sim.base_url("openai")), provider("openrouter", s.sim.base_url("openrouter")),
         provider("down", s.sim.base_url("down"))],
        [model("chat", "openai/gpt-4o-mini"), model("half", "openrouter/openai/gpt-4o", retries=0), model("down", "down/m", retries=0)],
        breaker={"failures": 4, "error_rate": 0, "open_for": "1h", "max_open_for": "1h"}, redis=module_stage.redis().url(),
    )
    s.sim.control.profile("down", faults={"500": 1.0})
    s.prometheus = Prometheus(module_stage.directory, s.gateway.address, rules())
    module_stage.endings.append(s.prometheus.stop)
    s.prometheus.start()
    at_least(s, 2)
    warm_up(s)
    s.first = s.gateway.scrape()
    for burst in range(2):
        play(s)
        at_least(s, 9 + 7 * burst)  # rates are the more exact the longer they are looked at
    s.truth = s.sim.control.settled_log()
    s.lines = s.gateway.logged(2 + 2 * (N.chat + N.streams + N.failed) + N.down)
    seen = "sum(http_requests_total{endpoint=\"/v1/chat/completions\"})"
    eventually(lambda: number(s, seen) == len(s.lines), 20 * SLOWNESS, what="the last request in Prometheus")
    eventually(lambda: s.prometheus.query("model_inference_duration_seconds"), 20 * SLOWNESS, what="recorded quantiles")
    s.last = s.gateway.scrape()
    return s


def warm_up(s):
    """A histogram is born with its first observations, which no rate can see."""
    s.gateway.chat()
    s.gateway.chat(model="half")
    seen = 'sum(model_inference_duration_seconds_count{provider=~"openai|openrouter"})'
    eventually(lambda: number(s, seen) == 2, 20 * SLOWNESS, what="the histograms in Prometheus")


def play(s):
    for _ in range(N.chat):
        s.gateway.chat()
    for _ in range(N.streams):
        s.gateway.chat(stream=True)
    for _ in range(N.failed):
        s.gateway.chat(model="half")
    for _ in range(N.down // 2):
        s.gateway.chat(model="down")


def at_least(s, scrapes):
    eventually(lambda: number(s, "max(count_over_time(up[5m]))") >= scrapes, 60 * SLOWNESS, 0.1, what=f"{scrapes} scrapes")


def number(s, expression):
    rows = s.prometheus.query(expression)
    return float(rows[0]["value"][1]) if len(rows) == 1 else math.nan


def table(s, expression, *labels):
    """{label values: number}, without NaN; several series of one key are a mistake."""
    out = {}
    for row in s.prometheus.query(expression):
        key = tuple(row["metric"].get(x) for x in labels)
        assert key not in out, (expression, key)
        if not math.isnan(float(row["value"][1])):
            out[key] = float(row["value"][1])
    return out


# ---- what is right ----


def count(s, *labels, only=lambda r: True):
    """The simulator's requests."""
    names = {"provider": "profile", "model": "model"}
    out = Counter()
    for r in s.truth:
        if only(r):
            out[tuple(r[names[x]] for x in labels)] += 1
    return dict(out)


def bad(r):
    return r["ended"] != "answered"


def per_second(values):
    return {k: v / 300 for k, v in values.items()}


def shares(part, whole):
    return {k: part.get(k, 0) / n for k, n in whole.items()}


def cost(s):
    billed = reprice.total([r for r in s.truth if not bad(r)], reprice.table(), by=("profile",))
    return {k: v / 1e9 for k, v in billed.nanousd.items() if v}


def rose(s, name, *labels):
    """By how much a counter of the gateway rose between the first scrape and the last."""
    out = Counter()
    for scrape, sign in ((s.last, 1), (s.first, -1)):
        for x in scrape.samples:
            if x.name == name:
                out[tuple(x.labels[n] for n in labels)] += sign * x.value
    return {k: v for k, v in out.items() if v}


def sampled(s, name, *labels):
    """By how much it rose from the first sample that Prometheus has to the last."""
    by = f"sum by ({', '.join(labels)})"
    return table(s, f"{by} (max_over_time({name}[5m]) - min_over_time({name}[5m]))", *labels)


def without_zeros(values):
    return {k: v for k, v in values.items() if v}


def mean_s(s, provider):
    took = [a["duration_ms"] / 1e3 for line in s.lines for a in line["attempts"] if a["provider"] == provider]
    return sum(took) / len(took)


def buckets(s, family, label):
    """{value: [(le, count)]} of what was observed since the first scrape."""
    out = {}
    for key, n in rose(s, family + "_bucket", label, "le").items():
        out.setdefault(key[:1], []).append((float(key[1]), n))
    return {k: sorted(v) for k, v in out.items()}


def quantile_within(s, family, label, q, have):
    """Each lies in the bucket that holds the observation of that rank."""
    want = buckets(s, family, label)
    assert have and set(have) <= set(want)
    for key, value in have.items():
        total = want[key][-1][1]
        upper = next(le for le, n in want[key] if n >= q * total)
        assert 0 <= value <= upper and (math.isinf(upper) or value > 0), (key, value, want[key])


def mean_of_histogram(s):
    name = "http_request_duration_seconds"
    return {(CHAT,): rose(s, name + "_sum", "endpoint")[CHAT,] / rose(s, name + "_count", "endpoint")[CHAT,]}


CLOSE = {"rel": 0.15}  # a rate is extrapolated to the ends of its window
EXACT = {"rel": 1e-6, "abs": 1e-9}
CHAT = "/v1/chat/completions"

# (expression, labels of the answer, what it must be, tolerance)
EXPRESSIONS = [
    # reference 003, dashboards
    ("sum(rate(model_inference_requests_total[5m]))", (), lambda s: per_second(count(s)), CLOSE),
    ('sum(rate(model_inference_requests_total{status="error"}[5m])) by (provider) / sum(rate(model_inference_requests_total[5m])) by (provider)',
     ("provider",), lambda s: shares(count(s, "provider", only=bad), count(s, "provider")), EXACT),
    ("sum(increase(credits_used_total[1h])) by (provider)", ("provider",), cost, CLOSE),
    ("sum(increase(credits_used_total[1d])) by (provider)", ("provider",), cost, CLOSE),
    ("sum(increase(credits_used_total[1d]))", (), lambda s: {(): sum(cost(s).values())}, CLOSE),
    ("provider_health_score", ("provider",), lambda s: {(r["provider"],): r["health_score"] for r in s.gateway.monitoring("health")
                                                        if r["health_score"] is not None}, {"abs": 1}),
    ('circuit_breaker_state == 1', ("provider", "state"), lambda s: {("openai", "closed"): 1, ("openrouter", "closed"): 1, ("down", "open"): 1}, EXACT),
    ("circuit_breaker_failure_count", ("provider",), lambda s: {("openrouter",): 1, ("down",): N.down}, EXACT),
    ("sum(rate(database_query_total[5m])) by (operation)", ("operation",), lambda s: per_second(sampled(s, "database_query_total", "operation")), {"rel": 0.2}),
    ('tokens_used_total{token_type="input",provider="openai"}', ("provider",), lambda s: {("openai",): sum(
        r["prompt_tokens"] for r in s.truth if r["profile"] == "openai")}, EXACT),
    ("credits_used_total", ("provider",), cost, EXACT),
    ('model_inference_requests_total{status="success"}', ("provider", "model"), lambda s: count(s, "provider", "model", only=lambda r: not bad(r)), EXACT),
    # reference 004, panels; those that the documents write without aggregation in the form that is shipped
    ("sum by (endpoint, method) (rate(http_requests_total{endpoint=\"" + CHAT + "\"}[5m]))", ("endpoint", "method"),
     lambda s: {(CHAT, "POST"): len(s.lines) / 300}, CLOSE),
    ("sum by (endpoint, method) (rate(http_request_errors_total[5m])) / sum by (endpoint, method) (rate(http_requests_total{endpoint=\"" + CHAT + "\"}[5m]))",
     ("endpoint", "method"), lambda s: {(CHAT, "POST"): sum(line["http_status"] >= 500 for line in s.lines) / len(s.lines)}, EXACT),
    ('http_request_errors_total{endpoint="' + CHAT + '"}', ("method",), lambda s: {("POST",): sum(line["http_status"] >= 500 for line in s.lines)}, EXACT),
    ('http_response_status_total{status=~"5..",endpoint="' + CHAT + '"}', ("status",), lambda s: dict(Counter(
        (str(line["http_status"]),) for line in s.lines if line["http_status"] >= 500)), EXACT),
    ("sum by (endpoint) (rate(http_request_duration_seconds_sum{endpoint=\"" + CHAT + "\"}[5m])) / sum by (endpoint) (rate(http_request_duration_seconds_count[5m]))",
     ("endpoint",), mean_of_histogram, {"rel": 0.1}),
    ('http_request_latency_avg_seconds{endpoint="' + CHAT + '"}', (), lambda s: {(): sum(line["duration_ms"] for line in s.lines) / 1e3 / len(s.lines)}, {"rel": 0.01}),
    ("rate(provider_requests_total[5m])", ("provider",), lambda s: per_second(count(s, "provider")), CLOSE),
    ("rate(provider_errors_total[5m]) / rate(provider_requests_total[5m]) > 0.2", ("provider",), lambda s: shares(count(s, "provider", only=bad), {
        k: v for k, v in count(s, "provider").items() if k != ("openai",)}), EXACT),
    ("provider_error_rate", ("provider",), lambda s: shares(count(s, "provider", only=bad), count(s, "provider")), EXACT),
    ('provider_latency_avg_seconds', ("provider",), lambda s: {(p,): mean_s(s, p) for p in ("openai", "openrouter", "down")}, {"rel": 0.02}),
    ("model_error_rate", ("model",), lambda s: shares(count(s, "model", only=bad), count(s, "model")), EXACT),
    ('model_latency_avg_seconds{model="m"}', (), lambda s: {(): mean_s(s, "down")}, {"rel": 0.02}),
    ("sum by (model) (rate(model_requests_total[5m]))", ("model",), lambda s: per_second(count(s, "model")), CLOSE),
    ("rate(db_queries_total[5m])", (), lambda s: per_second(sampled(s, "db_queries_total")), {"rel": 0.2}),
    # reference 002: the label is `type`, and bare names are recorded
    ('sum by (type) (model_tokens_total{provider="openai"})', ("type",), lambda s: {
        ("input",): sum(r["prompt_tokens"] for r in s.truth if r["profile"] == "openai"),
        ("output",): sum(r["completion_tokens"] for r in s.truth if r["profile"] == "openai")}, EXACT),
    ("model_cost_usd_total", ("provider",), cost, EXACT),
    ('http_request_duration_seconds{method="POST",path="' + CHAT + '"}', ("path",), mean_of_histogram, {"rel": 0.1}),
    ("task_queue_depth", ("priority",), lambda s: {}, EXACT),
    # reference 001
    ('provider_availability', ("provider",), lambda s: {(r["provider"],): r["availability"] for r in s.gateway.monitoring("health") if r["availability"]}, EXACT),
    ("gatewayz_provider_health_score", ("provider",), lambda s: {(r["provider"],): r["health_score"] / 100 for r in s.gateway.monitoring("health")
                                                                if r["health_score"]}, {"abs": 0.01}),
    ("gatewayz_cost_by_provider", ("provider",), cost, EXACT),
    ('gatewayz_circuit_breaker_state{state="open"}', ("provider",), lambda s: {("down",): 1}, EXACT),
    # reference 000
    ("sum by (tenant_id) (aigateway_requests_total)", ("tenant_id",), lambda s: {("acme",): len(s.lines)}, EXACT),
    ("sum by (provider) (aigateway_provider_errors_total)", ("provider",), lambda s: count(s, "provider", only=bad), EXACT),
    ("sum by (tenant_id) (aigateway_cost_usd_total)", ("tenant_id",), lambda s: {("acme",): sum(cost(s).values())}, EXACT),
    ("aigateway_active_streams", (), lambda s: {}, EXACT),
    ("aigateway_circuit_breaker_state", ("provider",), lambda s: {("down",): 2}, EXACT),
]


@pytest.mark.parametrize("index", range(len(EXPRESSIONS)), ids=[e[0][:60] for e in EXPRESSIONS])
def test_an_expression_gives_the_right_number(scene, index):
    expression, labels, right, tolerance = EXPRESSIONS[index]
    rows = scene.prometheus.query(expression)
    assert rows, "no data"
    assert without_zeros(table(scene, expression, *labels)) == pytest.approx(without_zeros(right(scene)), **tolerance)


@pytest.mark.parametrize("expression,family,label", [
    ("histogram_quantile(0.95, sum(rate(model_inference_duration_seconds_bucket[5m])) by (provider, le))", "model_inference_duration_seconds", "provider"),
    ('model_inference_duration_seconds{quantile="0.95"}', "model_inference_duration_seconds", "provider"),
])
def test_a_quantile_lies_in_the_bucket_that_holds_it(scene, expression, family, label):
    quantile_within(scene, family, label, 0.95, table(scene, expression, label))


def test_a_quantile_of_a_table_is_not_above_its_slowest_statement(scene):
    have = table(scene, "histogram_quantile(0.95, sum(rate(database_query_duration_seconds_bucket[5m])) by (table, le))", "table")
    slowest = {}
    for x in (x for x in scene.gateway.scrape().samples if x.name == "database_query_duration_seconds_bucket"):
        counts = slowest.setdefault(x.labels["table"], Counter())
        counts[x.labels["le"]] += x.value
    assert ("ledger",) in have
    for (name,), value in have.items():
        counts = sorted((float(le), n) for le, n in slowest[name].items())
        assert 0 < value <= next(le for le, n in counts if n == counts[-1][1])


def test_what_is_written_per_replica_or_recorded_has_data(scene):
    """Forms that the documents give and whose number depends on the moment."""
    for expression in ("active_database_connections", 'http_request_latency_p99_seconds{endpoint="' + CHAT + '"}', "db_query_latency_avg_seconds",
                       'redis_operations_total{operation="get",status="success"}', 'redis_operation_duration_seconds{operation="get"}',
                       "rate(http_requests_total[1m])", "process_resident_memory_bytes", "gatewayz_uptime_seconds"):
        rows = [float(r["value"][1]) for r in scene.prometheus.query(expression)]
        assert rows and all(v >= 0 for v in rows), expression
    assert number(scene, 'redis_operation_duration_seconds{operation="get"}') < 2 * SLOWNESS


def test_what_has_no_data_is_known(scene):
    """One expression of reference 004 divides series of different labels; and of a cache that is not there nothing is shown."""
    assert scene.prometheus.query("rate(http_request_errors_total[5m]) / rate(http_requests_total[5m])") == []
    absent = documented()[1]
    for family in ("cache_hit_rate", "cache_hits_total", "cache_misses_total"):
        assert family in absent and scene.prometheus.query(family) == []
    assert scene.prometheus.query("(1 - cache_hit_rate) > 0.5") == []
