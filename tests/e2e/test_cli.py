# SPDX-License-Identifier: Apache-2.0
"""aigwctl on recorded answers: every reading command as it looks in 80 columns, every form of output, contexts, completions in
real shells, and the report as one file. The answers are those below, so that every figure on a page can be named.

GOLDEN=write rewrites the pages in tests/golden/aigwctl; never where CI is set."""

import csv
import fcntl
import html.parser
import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import tarfile
import termios
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from support.ctl import GOLDEN, Ctl, environment, on_terminal
from support.gateway import model, provider, run
from support.golden import same
from support.process import BIN, ROOT
from support.wait import eventually

OK, FAILED, USAGE, NO_ANSWER, NO_AUTH, NOT_FOUND, CONFLICT, CANCELLED = range(8)
WARNING, CRITICAL, STALE = 10, 11, 12
LONG = "a-model-with-a-name-of-forty-characters-"  # 40
TOKEN = "admin-0123456789abcdef"


def ago(days):
    """Half a day more, so that an age in days stays as it is while tests run."""
    return (datetime.now(timezone.utc) - timedelta(days=days, hours=12)).strftime("%Y-%m-%dT%H:%M:%SZ")


def measures(requests, failed, cost_nano, tin, tout, latency):
    return {
        "total_requests": requests, "successful_requests": requests - failed, "failed_requests": failed,
        "error_rate": failed / requests, "success_rate": 1 - failed / requests, "avg_latency_ms": latency,
        "input_tokens": tin, "cached_tokens": tin // 4, "output_tokens": tout, "total_tokens": tin + tout,
        "total_cost": cost_nano / 1e9, "total_cost_nanousd": cost_nano, "unpriced_requests": 0,
    }


OPENROUTER = measures(31_420_000, 125_680, 1_533_200_000_000, 20_000_000_000, 5_200_000_000, 640.0)
FIREWORKS = measures(2_460_000, 154_980, 72_400_000_000, 1_500_000_000, 510_000_000, 3100.0)
PERCENTILES = {"p50_ms": 410.0, "p95_ms": 812.0, "p99_ms": 1900.0}
DAYS = [{"day": f"2026-11-{d:02}", **measures(1000 * d, d, d * 10**9, 4000 * d, 1000 * d, 500.0)} for d in range(14, 21)]


def health():
    return [
        {"provider": "openrouter", "health_score": 95.0, "status": "healthy", "last_updated": ago(2), "availability": 0.996,
         "error_rate": 0.004, "latency_p50_ms": 410.0, "latency_p95_ms": 812.0, "requests_per_s": 61.2, "attempts": 18360,
         "errors": 73, "window_s": 300, "computed_at": ago(2)},
        {"provider": "fireworks", "health_score": 72.0, "status": "degraded", "last_updated": ago(2), "availability": 0.937,
         "error_rate": 0.063, "latency_p50_ms": 1300.0, "latency_p95_ms": 4760.0, "requests_per_s": 4.8, "attempts": 1440,
         "errors": 91, "window_s": 300, "computed_at": ago(2)},
        {"provider": "cerebras", "health_score": None, "status": "unknown", "last_updated": None, "availability": None,
         "error_rate": None, "latency_p50_ms": None, "latency_p95_ms": None, "requests_per_s": 0.0, "attempts": 0, "errors": 0,
         "window_s": 300, "computed_at": ago(2)},
    ]


def error(days, model, kind, text, status, ms):
    at = datetime.now(timezone.utc) - timedelta(days=days, hours=12)
    return {"model": model, "error": text, "type": kind, "timestamp": at.timestamp(), "http_status": status, "latency_ms": ms,
            "request_id": f"01a1fe83-adec-71f5-9c60-{days:012}"}


def cost():
    providers = [
        {"provider": "openrouter", **OPENROUTER, "share": 0.9549, "cost_per_1k_requests": 0.0488, "cost_per_1m_tokens": 0.0608,
         "change": 0.04},
        {"provider": "fireworks", **FIREWORKS, "share": 0.0451, "cost_per_1k_requests": 0.0294, "cost_per_1m_tokens": 0.036,
         "change": 0.31},
    ]
    total = {k: OPENROUTER[k] + FIREWORKS[k] for k in OPENROUTER if isinstance(OPENROUTER[k], int) or k == "total_cost"}
    return {
        "timestamp": ago(0), "from": "2026-11-14T00:00:00Z", "to": "2026-11-21T00:00:00Z", "partial": False, "missing": None,
        "stale": False, "days": 7, **total, "share": 1.0, "cost_per_1k_requests": 0.0474, "cost_per_1m_tokens": 0.059,
        "error_rate": 0.0083, "avg_latency_ms": 819.0, "providers": providers,
        "models": [{"provider": "openrouter", "model": LONG, **OPENROUTER, "share": 0.9549},
                   {"provider": "fireworks", "model": "llama-3-70b <b>", **FIREWORKS, "share": 0.0451}],
        "by_day": DAYS, "previous": {"from": "2026-11-07T00:00:00Z", "to": "2026-11-14T00:00:00Z", "change": 0.1, **FIREWORKS},
        "tenants": [{"tenant": "acme", "total_requests": 9000, "total_tokens": 400_000, "total_cost": 12.5,
                     "total_cost_nanousd": 12_500_000_000, "share": 0.0078}],
        "keys": [{"tenant": "acme", "key": "web", "total_requests": 8000, "total_tokens": 300_000, "total_cost": 10.0,
                  "total_cost_nanousd": 10_000_000_000, "share": 0.0062},
                 {"tenant": "other", "key": "x", "total_requests": 1, "total_tokens": 1, "total_cost": 1.0,
                  "total_cost_nanousd": 10**9, "share": 0.0006}],
    }


def answers():
    hours = [f"2026-11-20T{h:02}:00:00Z" for h in range(10, 14)]
    return {
        "/version": {"name": "gatewayd", "version": "0.1.0", "uptime_s": 3600},
        "/readyz": {"status": "ready"},
        "/health/dashboard": {
            "timestamp": ago(0), "version": "0.1.0", "uptime_s": 273_600, "draining": False,
            "providers": [{"name": h["provider"], "status": h["status"], "availability": h["availability"],
                           "error_rate": h["error_rate"], "health_score": h["health_score"] and h["health_score"] / 100}
                          for h in health()],
            "stores": [{"name": "history", "status": "up", "lag_s": 0.2, "down_since": None, "down_s": None, "error": None}],
            "journal": {"room_bytes": 1 << 30, "held_bytes": 0, "room_s": None, "refused_requests": 0},
            "summary": {"status": "degraded", "total_providers": 3, "healthy": 1, "degraded": 1, "unhealthy": 0, "unknown": 1,
                        "avg_health_score": 0.835, "total_requests": 33_880_000, "successful_requests": 33_599_340,
                        "failed_requests": 280_660, "cancelled_requests": 12, "rejected_requests": 7, "requests_per_s": 66.0,
                        "active_streams": 37, "total_cost": 1605.6, "total_cost_nanousd": 1_605_600_000_000},
        },
        "/models/stats": {"timestamp": ago(0), "hours": 24, "models": [
            {"provider": "openrouter", "model": LONG, **OPENROUTER, **PERCENTILES, "avg_ttft_ms": 120.0},
            {"provider": "fireworks", "model": "llama-3-70b", **FIREWORKS, **PERCENTILES, "avg_ttft_ms": None}], "total_models": 2},
        "/metrics/health": {"status": "degraded", "timestamp": ago(0), "uptime_s": 9, "metrics": {}},
        "/api/monitoring/health": health(),
        "/api/monitoring/health/fireworks": health()[1],
        "/api/monitoring/errors/openrouter": [error(3, LONG, "rate_limited", "the provider limits the rate", 429, 1500.0)],
        "/api/monitoring/errors/fireworks": [error(2, "llama-3-70b", "provider_timeout", "no answer in time", None, 30000.0),
                                             error(9, "llama-3-70b", "provider_error", "the provider failed", 503, 80.0)],
        "/api/monitoring/errors/cerebras": [],
        "/api/monitoring/stats/realtime": {
            "timestamp": ago(0), "hours": 1, "providers": {"openrouter": {"health_score": 95.0, **OPENROUTER},
                                                                   "fireworks": {"health_score": 72.0, **FIREWORKS}},
            "total_requests": 33_000_000, "total_cost": 1605.6, "total_cost_nanousd": 1_605_600_000_000, "avg_health_score": 83.5,
            "active_streams": 37},
        "/api/monitoring/stats/hourly/openrouter": {
            "provider": "openrouter", "hours": 4,
            "stats": [{"hour": h, **measures(1000 * (i + 1), 10, 10**9 * (i + 1), 4000, 1000, 500.0), **PERCENTILES}
                      for i, h in enumerate(hours)]},
        "/api/monitoring/circuit-breakers": [
            {"provider": "fireworks", "model": LONG, "state": "OPEN", "failure_count": 5, "is_available": False,
             "last_updated": time.time() - 216000}],
        "/api/monitoring/circuit-breakers/fireworks": [
            {"provider": "fireworks", "model": LONG, "state": "OPEN", "failure_count": 5, "is_available": False,
             "last_updated": time.time() - 216000}],
        "/api/monitoring/providers/comparison": {
            "timestamp": ago(0), "hours": 24, "total_providers": 2,
            "providers": [{"provider": "openrouter", **OPENROUTER, **PERCENTILES, "avg_error_rate": 0.004, "unique_models": 15},
                          {"provider": "fireworks", **FIREWORKS, **PERCENTILES, "p95_ms": 4760.0, "avg_error_rate": 0.063,
                           "unique_models": 4}]},
        f"/api/monitoring/latency/openrouter/{LONG}": {
            "provider": "openrouter", "model": LONG, "count": 100, "avg": 500.0, "min": 90.0, "max": 2000.0, "p50": 450.0,
            "p95": 2800.0, "p99": 3200.0, "p10": 200.0, "p90": 700.0},
        "/api/monitoring/latency-trends/openrouter": {
            "provider": "openrouter", "hours": 4, "trend": {"direction": "rising", "change": 0.2, "p95_ms_per_hour": 12.0},
            "trends": [{"hour": h, "count": 10, "avg_ms": 400.0 + i, **PERCENTILES, "p95_ms": 800.0 + 100 * i}
                       for i, h in enumerate(hours)]},
        "/api/monitoring/anomalies": {
            "timestamp": ago(0), "total_count": 2, "critical_count": 1, "warning_count": 1, "anomalies": [
                {"type": "cost_spike", "provider": "openrouter", "hour": "2026-11-20:14", "value": 50.0, "expected": 12.5,
                 "severity": "warning", "score": 4.2, "method": "hour_of_week"},
                {"type": "latency_spike", "provider": "fireworks", "hour": "2026-11-20:15", "value": 9000.0, "expected": 1500.0,
                 "severity": "critical", "score": 11.0, "method": "last_24h"}]},
        "/api/monitoring/trial-analytics": {
            "timestamp": ago(0), "signups": 1000, "started_trial": 750, "converted": 50, "conversion_rate": 5.0,
            "activation_rate": 75.0, "avg_time_to_conversion_days": 7.5},
        "/api/monitoring/cost-analysis": cost(),
        "/api/monitoring/error-rates": {"timestamp": ago(0), "models": [
            {"provider": "openrouter", "model": LONG, "total_requests": 1000, "failed_requests": 4, "error_rate": 0.004},
            {"provider": "fireworks", "model": "llama-3-70b", "total_requests": 600, "failed_requests": 50, "error_rate": 50 / 600},
            {"provider": "fireworks", "model": "qwen2-72b", "total_requests": 400, "failed_requests": 13, "error_rate": 0.0325}]},
        f"/api/monitoring/token-efficiency/openrouter/{LONG}": {
            "provider": "openrouter", "model": LONG, "days": 7, **OPENROUTER, "avg_input_tokens": 636.5, "avg_output_tokens": 165.5,
            "output_input_ratio": 0.26, "cost_per_1m_tokens": 0.0608, "cost_per_success": 0.000049, "tokens_per_second": 71.0},
        "/api/admin/tenants": {"tenants": [{"id": "acme"}, {"id": "globex"}]},
        "/api/admin/budgets": {"budgets": [
            {"account": "tenant:acme", "period": "month", "spent_nanousd": 82 * 10**9, "limit_nanousd": 100 * 10**9},
            {"account": "tenant:globex", "period": "day", "spent_nanousd": 1, "limit_nanousd": 10**9}]},
        "/api/admin/keys": {"keys": [{"tenant": "acme", "id": "web"}]},
        "/api/admin/audit": {"entries": [{"id": 7, "at": ago(2), "actor": "uid 0", "action": "key.revoke", "subject": "acme/web",
                                          "detail": {"reason": "lost"}, "hash": "ab" * 32}], "count": 1},
        "/api/admin/audit/verify": {"intact": True, "entries": 7, "first_broken_id": None, "last_id": 7, "last_hash": "ab" * 32},
        "/api/admin/config": {"version": 1, "path": None, "options": [
            {"path": "workers", "value": "4", "origin": "environment GATEWAYD_WORKERS", "default": "number of cores",
             "type": "number, 1 to 64", "live": False, "secret": False, "env": "GATEWAYD_WORKERS"},
            {"path": "log_level", "value": "info", "origin": "default", "default": "info", "type": "error, warn, info, debug",
             "live": True, "secret": False, "env": "GATEWAYD_LOG_LEVEL"}]},
        "/api/monitoring/events": {"epoch": 1, "next": 2, "events": [
            {"id": "e1", "at": ago(4), "kind": "breaker", "severity": "warning", "subject": f"fireworks/{LONG}",
             "text": "opened after 5 failures", "node": "n1"}]},
        "/metrics": "# HELP http_requests_total x\n# TYPE http_requests_total counter\nhttp_requests_total 5\n",
    }


class Recorded:
    """A gateway that says what was recorded; it knows every call that it got."""

    def __init__(self, pages):
        outer, self.pages, self.calls = self, pages, []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.calls.append((self.command, self.path))
                page = outer.pages.get(self.path.split("?")[0])
                if callable(page):
                    page = page()
                body = page if isinstance(page, str) else json.dumps(page if page is not None else {"error": {"message": "no such path"}})
                self.send_response(404 if page is None else 200)
                self.send_header("content-length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_DELETE = do_PATCH = do_PUT = do_GET

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def recorded():
    r = Recorded(answers())
    yield r
    r.close()


@pytest.fixture
def ctl(recorded, tmp_path):
    return Ctl(tmp_path, recorded.url)


# ---- pages

PAGES = {
    "status": ["status"], "status-brief": ["status", "--brief"], "health": ["health"], "health-wide": ["health", "-o", "wide"],
    "events": ["events"], "cost": ["cost"], "cost-model": ["cost", "--by", "model"], "cost-tenant": ["cost", "--by", "tenant"],
    "cost-key": ["cost", "--by", "key"], "cost-day": ["cost", "--by", "day"], "cost-prev": ["cost", "--compare", "prev"],
    "errors": ["errors", "list"], "errors-one": ["errors", "list", "fireworks/llama-3-70b", "--type", "provider_error"],
    "errors-rates": ["errors", "rates"], "errors-rates-provider": ["errors", "rates", "--by", "provider"], "stats": ["stats", "now"],
    "stats-hourly": ["stats", "hourly", "openrouter"], "stats-spark": ["stats", "hourly", "openrouter", "--spark"],
    "compare": ["compare"], "compare-cost": ["compare", "--rank", "cost"], "latency": ["latency", "show", f"openrouter/{LONG}"],
    "latency-trend": ["latency", "trend", "openrouter"], "latency-histogram": ["latency", "show", f"openrouter/{LONG}", "--histogram"],
    "anomalies": ["anomalies"], "tokens": ["tokens", f"openrouter/{LONG}"], "trials": ["trials"], "models": ["models"],
    "metrics": ["metrics", "show", "--cardinality"], "breakers": ["breakers"], "audit": ["audit"], "audit-verify": ["audit", "verify"],
    "config": ["config", "show"], "config-origin": ["config", "show", "--changed", "--origin"],
    "filtered": ["models", "--filter", "cost>100", "--sort-by", "-cost", "--columns", "model,cost"],
    "report": ["report", "weekly", "--compare", "prev"], "help": [], "help-filters": ["help", "filters"],
    "help-exit-codes": ["help", "exit-codes"], "help-formatting": ["help", "formatting"], "help-contexts": ["help", "contexts"],
    "help-environment": ["help", "environment"], "help-errors": ["help", "errors"],
}
TABLES = {k for k in PAGES if not k.startswith(("report", "help-errors", "health-wide"))}


def settled(text):
    """What differs from run to run and is no figure: addresses, and when a report was made."""
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    return re.sub(r"made \d{4}-\S+", "made NOW", text)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_looks_as_it_did(recorded, tmp_path, name):
    code, text = on_terminal(tmp_path, recorded.url, PAGES[name], NO_COLOR="1", GATEWAYD_PAGER="")
    assert code == OK, text
    text = settled(text)
    if name in TABLES:
        assert all(len(line) <= 80 for line in text.splitlines()), text
    assert same(GOLDEN / f"{name}.txt", text), text


def test_pages_are_not_written_anew_where_ci_is_set(tmp_path, monkeypatch):
    page = tmp_path / "page.txt"
    monkeypatch.setenv("GOLDEN", "write")
    monkeypatch.delenv("CI", raising=False)
    assert same(page, "as it was") and page.read_text() == "as it was"
    monkeypatch.setenv("CI", "true")
    assert not same(page, "otherwise") and page.read_text() == "as it was"


# ---- forms


def is_valid(value, schema, where="$"):
    """The part of JSON Schema that `aigwctl schema` uses."""
    if "anyOf" in schema:
        problems = [is_valid(value, s, where) for s in schema["anyOf"]]
        return None if None in problems else problems[0]
    if "const" in schema and value != schema["const"]:
        return f"{where}: {value!r}"
    types = schema.get("type")
    if types:
        names = {dict: {"object"}, list: {"array"}, str: {"string"}, bool: {"boolean"}, int: {"integer", "number"}, float: {"number"},
                 type(None): {"null"}}[type(value)]
        if not names & set([types] if isinstance(types, str) else types):
            return f"{where}: {value!r} is no {types}"
    if isinstance(value, dict):
        for key in schema.get("required", []):
            if key not in value:
                return f"{where}: no {key}"
        for key, s in schema.get("properties", {}).items():
            if key in value and is_valid(value[key], s, f"{where}.{key}"):
                return is_valid(value[key], s, f"{where}.{key}")
    if isinstance(value, list):
        for i, item in enumerate(value):
            if is_valid(item, schema.get("items", {}), f"{where}[{i}]"):
                return is_valid(item, schema.get("items", {}), f"{where}[{i}]")
    return None


READING = ["status", "health", "events", "cost", "errors", "errors-rates", "stats", "stats-hourly", "compare", "latency", "latency-trend",
           "anomalies", "tokens", "trials", "models", "metrics", "breakers", "audit", "config"]


@pytest.mark.parametrize("name", READING)
def test_every_form_holds_the_same_rows(ctl, name):
    args = PAGES[name]
    document = ctl.json(*args)
    assert set(document) == {"schema", "generated_at", "source", "stale", "warnings", "data"}
    schema = ctl("schema", document["schema"].split(".")[1].split("/")[0]).stdout
    assert is_valid(document, json.loads(schema)) is None
    same = yaml.safe_load(ctl(*args, "-o", "yaml").stdout)
    assert set(same) == set(document) and json.dumps(same["data"]) == json.dumps(ctl.json(*args)["data"])
    rows = list(csv.DictReader(io.StringIO(ctl(*args, "-o", "csv").stdout), strict=True))
    lines = [json.loads(line) for line in ctl(*args, "-o", "ndjson").stdout.splitlines()]
    tsv = ctl(*args, "-o", "tsv").stdout.splitlines()
    names = ctl(*args, "-o", "name").stdout.splitlines()
    assert len(rows) == len(lines) == len(tsv) - 1 == len(names) > 0
    first = next(iter(rows[0]))
    assert name == "breakers" or [r[first] for r in rows] == [str(line.get(first) if line.get(first) is not None else "") for line in lines]
    assert tsv[0].split("\t") == list(rows[0])
    assert ctl(*args, "-o", "csv", "--no-headers").stdout == ctl(*args, "-o", "csv").stdout.split("\n", 1)[1]


def test_rows_are_filtered_sorted_cut_and_chosen(ctl):
    assert ctl("health", "--filter", "err>5%", "-o", "name").stdout == "fireworks\n"
    assert ctl("health", "--filter", "!rou status!=unknown", "-o", "name").stdout == "fireworks\n"
    assert ctl("health", "--filter", "p95<1s", "-o", "name").stdout == "openrouter\n"
    assert ctl("health", "--filter", "score=none", "-o", "name").stdout == "cerebras\n"
    assert ctl("health", "--filter", "updated>30d", "-o", "name").stdout == ""
    assert ctl("health", "--sort-by", "-p95", "-o", "name").stdout.split() == ["fireworks", "openrouter", "cerebras"]
    assert ctl("health", "--sort-by", "p95", "--limit", "1", "-o", "name").stdout == "openrouter\n"
    assert ctl("health", "--columns", "score,provider", "-o", "tsv").stdout.splitlines()[1] == "95\topenrouter"
    assert ctl("health", "--columns", "window_s", "--no-headers").stdout.split() == ["300"] * 3
    assert ctl.json("health", "--columns", "status", "--limit", "1")["data"] == [{"status": "healthy"}]
    assert ctl("models", "--exact", "--columns", "cost,tokens", "--no-headers").stdout.split() == [
        "$1533.200000000", "25200000000", "$72.400000000", "2010000000"]
    # The sums stay below what they sum up, whatever the order.
    assert ctl("cost", "--sort-by", "cost").stdout.splitlines()[-1].startswith("TOTAL")
    for wrong in (["--filter", "speed>1"], ["--filter", "err>much"], ["--sort-by", "nope"], ["--columns", "nope"], ["--limit", "0"],
                  ["--time", "soon"], ["--until", "err<1"], ["--max-age", "now"]):
        assert ctl("health", *wrong, code=USAGE).stderr.startswith("aigwctl"), wrong
    assert ctl("health", "-o", "name", code=OK, GATEWAYD_OUTPUT="json").stdout.count("\n") == 3
    assert ctl("health", code=OK, GATEWAYD_OUTPUT="csv").stdout.startswith("provider,")


def test_times_are_shown_as_asked(ctl, recorded):
    at = recorded.pages["/api/monitoring/health"][0]["last_updated"]
    assert at in ctl("health").stdout
    unix = int(datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp())
    assert str(unix) in ctl("health", "--time", "unix").stdout
    assert at.replace("Z", "+0000") in ctl("health", "--time", "local").stdout
    assert "ago" in ctl("health", "--time", "relative").stdout


def test_a_file_is_written_whole_or_not_at_all(ctl, tmp_path):
    out = tmp_path / "health.csv"
    assert ctl("health", "-o", "csv", "--out-file", out).stdout == ""
    assert out.read_text() == ctl("health", "-o", "csv").stdout
    ctl("health", "nope", "--out-file", out, code=NOT_FOUND)
    assert out.read_text() == ctl("health", "-o", "csv").stdout
    assert not [p for p in tmp_path.iterdir() if ".new" in p.name]
    ctl("health", "--out-file", tmp_path / "none" / "x", code=FAILED)


def test_checks_speak_by_exit_code_and_to_nagios(ctl):
    ctl("health", "--exit-code", code=WARNING)
    ctl("errors", "rates", "--exit-code", code=WARNING)
    ctl("errors", "rates", "--exit-code", "--critical", "8%", code=CRITICAL)
    ctl("latency", "show", f"openrouter/{LONG}", "--exit-code", code=WARNING)
    ctl("anomalies", "--exit-code", code=CRITICAL)
    ctl("anomalies", "--exit-code", "--severity", "warning", code=WARNING)
    ctl("health", "--max-age", "1m", code=STALE)
    ctl("health", "--max-age", "30d")
    line = ctl("health", "--nagios", code=1).stdout
    assert line.count("\n") == 1 and line.startswith("HEALTH WARNING - 3 rows, 1 degraded, 1 healthy, 1 unknown | ")
    perf = dict(re.findall(r"'([^']+)'=([0-9.]+)", line))
    assert perf["openrouter.health_score"] == "95" and perf["fireworks.latency_p95_ms"] == "4760"
    gone = Ctl(ctl.home, "http://127.0.0.1:1")
    assert gone("health", "--nagios", code=3).stdout.startswith("HEALTH UNKNOWN - no answer")


def test_what_was_meant_is_named(ctl):
    assert 'Did you mean "breakers"?' in ctl("brakers", code=USAGE).stderr
    assert 'Did you mean "rates"?' in ctl("errors", "ratse", code=USAGE).stderr
    assert "Did you mean '--filter'?" in ctl("health", "--fitler", "x", code=USAGE).stderr
    assert "Closest: workers" in ctl("config", "explain", "worker", code=NOT_FOUND).stderr
    assert "Closest: health" in ctl("schema", "heath", code=NOT_FOUND).stderr
    gone = Ctl(ctl.home, "http://127.0.0.1:1")("health", code=NO_ANSWER)
    assert "aigwctl doctor" in gone.stderr and "config contexts" in gone.stderr
    assert Ctl(ctl.home, "http://127.0.0.1:1")("-q", "health", code=NO_ANSWER).stderr.count("\n") == 1


# ---- waiting, watching


def test_wait_ends_when_its_expression_holds(recorded, ctl):
    assert ctl("wait", "health(fireworks)>=70").stdout == "health is 72.0\n"
    ctl("wait", f"breaker(fireworks/{LONG})=open")
    ctl("wait", "errors(fireworks)<10%")
    ctl("wait", "p95(fireworks)>2s")
    ctl("wait", "status=degraded"), ctl("wait", "ready")
    late = ctl("wait", "health(fireworks)>=80", "--timeout", "300ms", "-i", "50ms", code=CRITICAL)
    assert "it is 72.0 now" in late.stderr
    for wrong in ("helth(x)>1", "health>1", "health(x)", "status(x)=1", "health()>1", "health(x)>abc"):
        assert ctl("wait", wrong, code=USAGE if wrong != "health(x)>abc" else NOT_FOUND).stderr.startswith("aigwctl")
    seen = []

    def rising():
        seen.append(1)
        return {**health()[1], "health_score": 60.0 + 10 * len(seen)}

    was = recorded.pages["/api/monitoring/health/fireworks"]
    recorded.pages["/api/monitoring/health/fireworks"] = rising
    try:
        assert ctl("wait", "health(fireworks)>=90", "-i", "20ms").stdout == "health is 90.0\n"
        assert len(seen) == 3
    finally:
        recorded.pages["/api/monitoring/health/fireworks"] = was


def test_watch_ends_once_all_rows_meet_until(recorded, ctl):
    seen = []

    def rates():
        seen.append(1)
        return {"models": [{"provider": "p", "model": "m", "total_requests": 10, "failed_requests": 5 - len(seen), "error_rate": (5 - len(seen)) / 10}]}

    was = recorded.pages["/api/monitoring/error-rates"]
    recorded.pages["/api/monitoring/error-rates"] = rates
    try:
        out = ctl("errors", "rates", "-w100ms", "--until", "err<=20%", "-o", "ndjson").stdout.splitlines()
        assert [json.loads(line)["data"][0]["failed_requests"] for line in out] == [4, 3, 2]
    finally:
        recorded.pages["/api/monitoring/error-rates"] = was


def test_watch_redraws_and_shows_what_changed_in_bold(recorded, tmp_path):
    seen = []

    def rates():
        seen.append(1)
        failed = min(len(seen), 3)
        return {"models": [{"provider": "p", "model": "steady", "total_requests": 10, "failed_requests": failed, "error_rate": failed / 10}]}

    was = recorded.pages["/api/monitoring/error-rates"]
    recorded.pages["/api/monitoring/error-rates"] = rates
    try:
        code, text = on_terminal(tmp_path, recorded.url, ["errors", "rates", "-w100ms", "--until", "failed>=3", "--columns", "model,failed"])
        assert code == OK
        assert text.count("\x1b[2A\r\x1b[J") == 2 and text.count("MODEL") == 3
        assert re.findall(r"\x1b\[1m([^\x1b]*)\x1b\[0m", text) == ["2", "3"]
        _, plain = on_terminal(tmp_path, recorded.url, ["errors", "rates", "-w100ms", "--until", "failed>=3"], NO_COLOR="1")
        assert "\x1b[1m" not in plain
    finally:
        recorded.pages["/api/monitoring/error-rates"] = was


def test_a_long_table_is_paged_on_a_terminal_only(recorded, tmp_path, ctl):
    args = ["metrics", "show", "--cardinality"]
    assert on_terminal(tmp_path, recorded.url, args, rows=2, GATEWAYD_PAGER="sed s/^/paged:/")[1].startswith("paged:FAMILY")
    assert on_terminal(tmp_path, recorded.url, args, rows=2, PAGER="sed s/^/paged:/")[1].startswith("paged:FAMILY")
    for env, more in (({"GATEWAYD_PAGER": "", "PAGER": "false"}, []), ({"PAGER": "false"}, ["--no-pager"])):
        assert on_terminal(tmp_path, recorded.url, [*args, *more], rows=2, **env)[1].startswith("FAMILY")
    assert on_terminal(tmp_path, recorded.url, args, rows=40, PAGER="false")[1].startswith("FAMILY")
    assert ctl(*args, PAGER="false").stdout.startswith("FAMILY")


# ---- contexts


def test_contexts_are_kept_in_one_file(recorded, tmp_path):
    ctl = Ctl(tmp_path, None)
    secret = tmp_path / "t"
    secret.write_text(TOKEN)
    ctl("config", "set", "prod", "--url", recorded.url, "--token-file", secret, "--read-only=yes")
    ctl("config", "set", "local", "--socket", "/run/gatewayd/admin.sock")
    path = tmp_path / "config" / "gatewayd" / "ctl.yaml"
    kept = yaml.safe_load(path.read_text())
    assert kept["current-context"] == "prod" and kept["contexts"]["local"]["url"] == "unix:/run/gatewayd/admin.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    assert ctl("health", "-o", "name").stdout.split()[0] == "openrouter"
    assert [r["name"] for r in ctl.json("config", "contexts")["data"]] == ["prod", "local"]
    recorded.calls.clear()
    refused = ctl("breakers", "reset", "fireworks", "--yes", code=NO_AUTH)
    assert "context 'prod' is read-only" in refused.stderr
    ctl("reload", code=NO_AUTH), ctl("api", "POST", "/api/admin/reload", code=NO_AUTH)
    assert all(method == "GET" for method, _ in recorded.calls)
    ctl("config", "rename", "prod", "live"), ctl("config", "use", "local"), ctl("config", "delete", "local")
    assert "current-context" not in yaml.safe_load(path.read_text())
    assert ctl("-c", "live", "health", "-o", "name").stdout
    ctl("-c", "prod", "health", code=NOT_FOUND)
    ctl("config", "use", "none", code=NOT_FOUND), ctl("config", "set", "a/b", "--url", "x", code=USAGE)
    ctl("config", "set", "new", code=USAGE)
    path.write_text("contexts: {x: {url: http://h, readonly: true}}\n")
    wrong = ctl("config", "contexts", code=FAILED)
    assert re.search(r"ctl\.yaml:1:\d+: not known here", wrong.stderr)


def test_configuration_is_checked_explained_and_begun(ctl, tmp_path):
    begun = tmp_path / "gatewayd.yaml"
    ctl("config", "init", begun)
    ctl("config", "init", begun, code=CONFLICT)
    checked = ctl("config", "check", begun, code=WARNING, OPENAI_API_KEY="k")
    assert "warn: configuration: no tenants are configured" in checked.stdout and "configuration is good" in checked.stdout
    begun.write_text("listen: nonsense\nfoo: 1\n")
    assert "gatewayd.yaml:" in ctl("config", "check", begun, code=CRITICAL).stdout
    ctl("config", "check", tmp_path / "none", code=NOT_FOUND)
    assert "GATEWAYD_WORKERS" in ctl("config", "explain", "workers").stdout
    for profile in ("demo", "single", "prod"):
        text = ctl("config", "init", "--profile", profile).stdout
        assert yaml.safe_load(text)["providers"]


def test_a_real_gateway_says_what_it_runs_with(stage, tmp_path):
    sim = stage.simulator()
    gw = stage.gateway([provider("steady", sim.base_url("steady"))], [model("chat", "steady/m")])
    ctl = Ctl(tmp_path, "unix:" + gw.ready["admin_socket"])
    rows = {r["path"]: r for r in ctl.json("config", "show")["data"]}
    assert rows["workers"]["value"] == "2" and re.search(r"\.yaml:\d+:\d+$", rows["workers"]["origin"])
    assert rows["admin.token"]["value"] == "(set)" and rows["log_level"]["origin"] == "default"
    assert gw.config["admin"]["token"] not in json.dumps(rows)
    assert rows["health.interval"]["value"] == "200ms"
    ctl("config", "diff", gw.config_file, code=OK)
    gw.write_config({**gw.config, "log_level": "warn"})
    changed = ctl.json("config", "diff", code=WARNING)["data"]
    assert [(r["path"], r["running"], r["file"]) for r in changed] == [("log_level", "info", "warn")]
    done = ctl("doctor", "--bundle", tmp_path / "d.tar", "-o", "json", code=None)
    grades = {r["check"]: r["grade"] for r in json.loads(done.stdout)["data"]}
    assert done.returncode == WARNING, done.stdout
    assert grades["gateway"] == "ok" and grades["history"] in ("ok", "skip") and grades["config"] == "warn"
    with tarfile.open(tmp_path / "d.tar") as tar:
        whole = b"".join(tar.extractfile(m).read() for m in tar.getmembers())
        assert {"gatewayd-doctor/config.json", "gatewayd-doctor/metrics.txt"} <= set(tar.getnames())
    for hidden in (gw.config["admin"]["token"], "sk-upstream-steady"):
        assert hidden.encode() not in whole
    assert Ctl(tmp_path, "http://127.0.0.1:1")("doctor", code=NO_ANSWER).stdout.startswith(" FAIL")


# ---- the report


class Page(html.parser.HTMLParser):
    """Everything by which a page could load something, and its text."""

    LOADS = {"src", "href", "srcset", "action", "formaction", "data", "poster", "background", "xlink:href", "ping", "manifest", "cite"}

    def __init__(self):
        super().__init__()
        self.loads, self.tags, self.words = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [(tag, k, v) for k, v in attributes if k in self.LOADS or k.startswith("on") or "url(" in (v or "")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("mail", [[], ["--mail-safe"]])
def test_the_html_report_is_one_file_that_loads_nothing(ctl, tmp_path, mail):
    out = tmp_path / "week.html"
    ctl("report", "weekly", "--format", "html", "--compare", "prev", "--out-file", out, *mail)
    text = out.read_text()
    page = Page()
    page.feed(text)
    assert page.loads == [] and not {"script", "link", "iframe", "img", "object", "embed", "base", "form"} & set(page.tags)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert ("svg" in page.tags) is (not mail)
    words = " ".join(page.words)
    for figure in ("$1,533.20", "$72.40", "llama-3-70b <b>", "2026-11-14", "+31% !", "82.0%", "cost_spike"):
        assert figure in words, figure
    heights = [float(h) for h in re.findall(r'<rect x="[\d.]+" y="[\d.]+" width="[\d.]+" height="([\d.]+)" fill="#3b6ea8"><title>', text)]
    assert mail or [round(h) for h in heights] == [round(140 * d["total_cost_nanousd"] / DAYS[-1]["total_cost_nanousd"]) for d in DAYS]


def test_a_report_of_one_tenant_tells_of_nobody_else(ctl):
    text = ctl("report", "monthly", "--tenant", "acme").stdout
    assert "| acme | web | 8.00K" in text and "| tenant:acme | month | $82.00 | $100.00 | 82.0% |" in text
    assert "other" not in text and "globex" not in text and "openrouter" not in text
    assert {s["title"] for s in ctl.json("report", "weekly")["data"]["sections"]} >= {"Summary", "Day by day", "Providers", "Budgets"}


def test_what_a_report_lacks_is_said(recorded, ctl):
    was = recorded.pages.pop("/api/monitoring/anomalies")
    try:
        assert "The gateway says nothing of: Out of the ordinary." in ctl("report", "daily").stdout
    finally:
        recorded.pages["/api/monitoring/anomalies"] = was


# ---- shells

LINES = [
    ("aigwctl hea", ["health"]),
    ("aigwctl errors ra", ["rates"]),
    ("aigwctl breakers list --state ha", ["half_open"]),
    ("aigwctl health open", ["openrouter"]),
    ("aigwctl -o nd", ["ndjson"]),
    ("aigwctl tenants show glo", ["globex"]),
    ("aigwctl keys rotate ac", ["acme/web"]),
    ("aigwctl budgets explain tenant:ac", ["tenant:acme"]),
    ("aigwctl tokens fire", [f"fireworks/{LONG}"]),
    ("aigwctl help fil", ["filters"]),
    ("aigwctl alerts list --explain CircuitBreakerO", ["CircuitBreakerOpen"]),
    ("aigwctl health --filt", ["--filter"]),
    ("aigwctl config check gatew", ["gatewayd.yaml"]),
    ("aigwctl completion fi", ["fish"]),
]


def shell(args, home, url, text):
    env = environment(home, url)
    env["PATH"] = f"{BIN}:{env['PATH']}"
    done = subprocess.run(args, input=text, env=env, cwd=home, capture_output=True, text=True, timeout=60)
    return done.stdout


@pytest.fixture
def shell_home(tmp_path, recorded):
    (tmp_path / "gatewayd.yaml").write_text("")
    return tmp_path


def test_bash_completes(recorded, shell_home):
    script = "source /usr/share/bash-completion/bash_completion\nsource %s\n" % (ROOT / "completions" / "aigwctl.bash")
    for line, _ in LINES:
        words = line.split(" ")
        script += (f"COMP_LINE={line!r} COMP_POINT={len(line)} COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}\n"
                   "_aigwctl 2>/dev/null; printf '%s ' \"${COMPREPLY[@]}\"; echo\n")
    out = shell(["bash", "--norc"], shell_home, recorded.url, script).splitlines()
    # bash puts what follows the last colon only.
    assert [o.split() for o in out] == [[w.split(":")[-1] for w in want] for _, want in LINES]


def test_fish_completes(recorded, shell_home):
    script = f"source {ROOT}/completions/aigwctl.fish\n"
    for line, _ in LINES:
        script += f"for c in (complete -C '{line}'); printf '%s ' (string split -f1 \\t -- $c); end; echo\n"
    out = shell(["fish", "--no-config"], shell_home, recorded.url, script).splitlines()
    assert [o.split() for o in out] == [want for _, want in LINES]


def test_zsh_completes(recorded, shell_home):
    """zsh completes in its line editor only, so it is typed at."""
    env = environment(shell_home, recorded.url, ZDOTDIR=str(shell_home))
    env["PATH"] = f"{BIN}:{env['PATH']}"
    (shell_home / ".zshrc").write_text(
        f"fpath=({ROOT}/completions $fpath)\nautoload -Uz compinit; compinit -u -d {shell_home}/dump\n"
        "PS1='> '; unsetopt zle_bracketed_paste prompt_sp\nzstyle ':completion:*' list-colors ''\n")
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(shell_home)
        os.execvpe("zsh", ["zsh", "-i"], env)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 160, 0, 0))
    seen = ""

    def read():
        nonlocal seen
        while select.select([fd], [], [], 0.05)[0]:
            seen += os.read(fd, 65536).decode(errors="replace")
        return seen

    try:
        eventually(lambda: "> " in read(), 20, what="a prompt of zsh")
        for line, (want,) in LINES:
            seen = ""
            os.write(fd, line.encode() + b"\t")
            whole = line.rsplit(" ", 1)[0] + " " + want
            eventually(lambda: whole in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\x07", "", read()), 10, what=f"{whole!r} in {seen!r}")
            os.write(b"\x15".__len__() and fd, b"\x15")
            read()
    finally:
        os.close(fd)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_completion_is_quick_silent_and_cached(recorded, tmp_path):
    ctl = Ctl(tmp_path, recorded.url)
    recorded.calls.clear()
    for _ in range(3):
        assert ctl("__complete", "--", "health", "f").stdout == "fireworks\n"
    assert len(recorded.calls) == 1
    silent = Ctl(tmp_path / "x", "http://127.0.0.1:1")
    (tmp_path / "x").mkdir()
    done = silent("__complete", "--", "health", "")
    assert done.stdout == "" and done.stderr == ""


def test_scripts_and_pages_are_clean(tmp_path):
    for shell_name, check in (("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "-n"])):
        path = tmp_path / shell_name
        path.write_text(run(["aigwctl", "completion", shell_name]).stdout)
        assert subprocess.run([*check, path], capture_output=True, text=True).stderr == ""
    for page in sorted((ROOT / "man").iterdir()):
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
        assert done.stdout == "" and done.returncode == 0, done.stdout


# ---- every route has a command

REFERENCE = """/api/monitoring/health /api/monitoring/errors/{provider} /api/monitoring/stats/realtime /api/monitoring/stats/hourly/{provider}
/api/monitoring/circuit-breakers /api/monitoring/circuit-breakers/{provider} /api/monitoring/providers/comparison
/api/monitoring/latency/{provider}/{model} /api/monitoring/latency-trends/{provider} /api/monitoring/anomalies
/api/monitoring/trial-analytics /api/monitoring/cost-analysis /api/monitoring/error-rates
/api/monitoring/token-efficiency/{provider}/{model} /health/dashboard /models/stats /metrics /metrics/health /metrics/reset""".split()


def test_every_documented_route_has_a_command():
    text = (ROOT / "docs" / "cli.md").read_text()
    called = set(re.findall(r"`(?:GET|POST) (/[^`]+)`", text))
    assert set(REFERENCE) <= called, set(REFERENCE) - called


def test_every_command_has_a_page_and_an_example():
    man, doc = (ROOT / "man" / "aigwctl.1").read_text(), (ROOT / "docs" / "cli.md").read_text()
    names = [line.split("\t")[0] for line in run(["aigwctl", "__complete", "--", ""]).stdout.splitlines()]
    assert len(names) > 35
    for name in set(names) - {"help"}:
        assert f"\n.SS {name}\n" in man and f"\n### {name}\n" in doc, name
        page = run(["aigwctl", name, "--help"]).stdout
        assert page.startswith(f"Usage: aigwctl {name}") and re.search(rf"^ .*aigwctl.* {name}", page[6:], re.M), name
