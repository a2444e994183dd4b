# SPDX-License-Identifier: Apache-2.0
"""/metrics: clean for promtool, readable by the reference parser, and equal to what the simulator knows to be true."""

import collections
import json
import re
import subprocess

import pytest

from support import reprice
from support.gateway import KEY, OPENMETRICS, http, model, provider, sha256
from support.load import Load
from support.metrics import Scrape
from support.process import is_sanitized
from support.rawhttp import request
from support.wait import eventually

OTHER = "sk-aigw-other-0123456789abcdef0123456789"

# Names that the reference documents give as they are, against the linter's taste.
KNOWN_LINT = ("active_subscriptions_total", "circuit_breaker_failure_count")


@pytest.fixture(scope="module")
def busy(module_stage):
    """Ten thousand mixed requests: two tenants, three models, buffered and streamed, failures of every kind."""
    count = 500 if is_sanitized() else 10_000
    sim = module_stage.simulator(seed=11)
    sim.control.profile("openai", cached_share=0.25, reasoning_share=0.1)
    sim.control.profile("anthropic", cached_share=0.25, cache_write_share=0.1)
    sim.control.profile("openrouter", faults={"429": 0.1, "500": 0.1, "reset": 0.05, "cut_mid": 0.05, "400": 0.03, "error_event": 0.03}, retry_after_s=-1)
    gateway = module_stage.gateway(
        [provider("openai", sim.base_url("openai")), provider("openrouter", sim.base_url("openrouter")),
         provider("anthropic", sim.base_url("anthropic"), kind="anthropic")],
        [model("chat", "openai/gpt-4o-mini"), model("shaky", "openrouter/openai/gpt-4o-mini", "openai/gpt-4o", retries=2),
         model("embed", "openai/text-embedding-3-small"), model("unpriced", "openai/nobody-knows-this-model"),
         model("claude", "anthropic/claude-sonnet-4-5")],
        tenants=[{"id": "acme", "plan": "pro", "keys": [{"id": "test", "sha256": sha256(KEY)}]},
                 {"id": "umbrella", "plan": "free", "keys": [{"id": "k", "sha256": sha256(OTHER)}]}],
    )
    results = Load(gateway.host_port, 32).run(mixed(i) for i in range(count))
    assert not [r for r in results if r.trouble], [r for r in results if r.trouble][:3]
    assert sum(r.status == 200 for r in results) > count * 0.8, collections.Counter(r.status for r in results)
    lines = gateway.logged(count, 30)
    truth = sim.control.settled_log()
    return gateway, sim, results, lines, truth


def mixed(i):
    key = OTHER if i % 4 == 0 else KEY
    say = [{"role": "user", "content": f"request {i}"}]
    kind = i % 20
    if kind == 0:
        return request(target="/v1/embeddings", body=json.dumps({"model": "embed", "input": f"text {i}"}).encode(), key=key)
    if kind == 1:
        return request(body=json.dumps({"model": "no-such-model", "messages": say}).encode(), key=key)
    if kind == 2:
        return request(body=json.dumps({"model": "chat", "messages": say}).encode(), key="sk-wrong-0123456789abcdef")
    if kind == 3:
        return request("GET", "/v1/models", key=key)
    if kind == 4:
        return request(body=json.dumps({"model": "unpriced", "messages": say}).encode(), key=key)
    if kind in (5, 6):
        body = {"model": "claude", "messages": say, "max_tokens": 50, "stream": kind == 6}
        return request(target="/v1/messages", body=json.dumps(body).encode(), key=key, headers=[("anthropic-version", "2023-06-01")])
    name = "shaky" if kind % 3 == 0 else "chat"
    return request(body=json.dumps({"model": name, "messages": say, "stream": kind % 2 == 0}).encode(), key=key)


def test_promtool_finds_nothing_new(busy):
    gateway = busy[0]
    done = subprocess.run(["promtool", "check", "metrics"], input=gateway.scrape().text, capture_output=True, text=True, timeout=60)
    found = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    unknown = [line for line in found if not line.startswith(KNOWN_LINT)]
    assert not unknown, "\n".join(unknown)


def test_openmetrics_is_read_by_the_reference_parser_and_says_the_same(busy):
    gateway = busy[0]
    answer = http(gateway.url + "/metrics", headers={"accept": OPENMETRICS})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    text = answer.body.decode()
    assert text.endswith("# EOF\n")
    om, plain = Scrape(text, openmetrics=True), gateway.scrape()
    for name in ("model_inference_requests_total", "tokens_used_total", "aigateway_requests_total"):
        assert om.sum(name) == plain.sum(name) > 0
    exemplars = [s.exemplar for s in om.samples if s.exemplar]
    assert exemplars and all(re.fullmatch("[0-9a-f]{32}", e.labels["trace_id"]) for e in exemplars)


def test_format_follows_the_accept_header(busy):
    gateway = busy[0]
    for accept, kind in (
        ("", "text/plain; version=0.0.4"), ("*/*", "text/plain; version=0.0.4"), ("text/html", "text/plain; version=0.0.4"),
        (OPENMETRICS, "application/openmetrics-text"),
        (f"text/plain;q=0.5, {OPENMETRICS};q=0.4", "text/plain; version=0.0.4"),
        (f"{OPENMETRICS},text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "application/openmetrics-text"),
    ):
        answer = http(gateway.url + "/metrics", headers={"accept": accept} if accept else {})
        assert answer.headers["content-type"].startswith(kind), accept


def test_requests_are_counted_once_by_route_and_status(busy):
    gateway, _, results, lines, _ = busy
    scrape = gateway.scrape()
    sent = collections.Counter(str(r.status) for r in results)
    counted = {k: int(v) for k, v in scrape.by("http_requests_total", "status", endpoint={
        "/v1/chat/completions", "/v1/embeddings", "/v1/models", "/v1/messages"}).items() if v}
    assert counted == dict(sent)
    assert len(lines) == len(results) == len({line["id"] for line in lines})
    assert collections.Counter(str(line["http_status"]) for line in lines) == sent
    histogram = scrape.sum("http_request_duration_seconds_count", endpoint="/v1/chat/completions")
    assert histogram == scrape.sum("http_requests_total", endpoint="/v1/chat/completions")


def test_attempts_are_the_posts_that_the_simulator_saw(busy):
    gateway, _, _, lines, truth = busy
    scrape = gateway.scrape()
    attempts = collections.Counter(a["provider"] for line in lines for a in line["attempts"])
    assert sum(attempts.values()) == len(truth)
    assert {k: int(v) for k, v in scrape.by("model_inference_requests_total", "provider").items() if v} == dict(attempts)
    assert {k: int(v) for k, v in scrape.by("provider_requests_total", "provider").items() if v} == dict(attempts)
    failed = sum(1 for line in lines for a in line["attempts"] if a["status"] == "error")
    assert scrape.sum("provider_errors_total") == failed > 0


def whole(record):
    """The provider answered, and was heard, to the end."""
    return record["ended"] == "answered"


def test_tokens_are_those_that_the_simulator_billed(busy):
    """Exact for every answer that arrived whole; of the others the provider's last word was lost, so only a bound."""
    gateway, _, _, lines, truth = busy
    scrape = gateway.scrape()
    ids = {line["id"] for line in lines if line["status"] == "success"}
    billed_in = sum(r["prompt_tokens"] for r in truth if whole(r))
    billed_out = sum(r["completion_tokens"] for r in truth if whole(r))
    booked = [a for line in lines for a in line["attempts"] if a["usage"]["source"] == "reported"]
    assert sum(a["usage"]["input"] for a in booked) == billed_in
    assert sum(a["usage"]["output"] for a in booked) == billed_out
    booked_all = [a for line in lines for a in line["attempts"]]
    assert scrape.sum("tokens_used_total", token_type="input") == sum(a["usage"]["input"] for a in booked_all)
    assert scrape.sum("tokens_used_total", token_type="output") == sum(a["usage"]["output"] for a in booked_all)
    assert len(ids) > len(lines) / 2


def repriced(rows, attempt):
    """The booked tokens of an attempt at the prices of the table, in nano-dollars; None without a price."""
    row = reprice.find(rows, attempt["provider"], attempt["model"])
    usage = attempt["usage"]
    record = {"prompt_tokens": usage["input"], "cached_tokens": usage["cached"], "cache_write_tokens": usage["cache_write"],
              "completion_tokens": usage["output"], "reasoning_tokens": usage["reasoning"],
              "images": usage.get("images", 0), "searches": usage.get("searches", 0)}
    return reprice.cost_nanousd(row, record) if row is not None else None


def test_cost_is_what_independent_arithmetic_makes_of_the_tokens(busy):
    gateway, _, _, lines, truth = busy
    scrape = gateway.scrape()
    rows = reprice.table()
    for line in lines:
        for a in line["attempts"]:
            assert a["cost_nanousd"] == (repriced(rows, a) or 0), (a, repriced(rows, a))
            assert a["priced"] == (repriced(rows, a) is not None) or a["usage"]["source"] == "none", a
        assert line["cost_nanousd"] == sum(a["cost_nanousd"] for a in line["attempts"])
    told = [a for line in lines for a in line["attempts"] if a["usage"]["source"] == "reported"]
    billed = reprice.total([r for r in truth if whole(r)], rows, by=("profile",))
    for name in ("openai", "openrouter", "anthropic"):
        assert sum(a["cost_nanousd"] for a in told if a["provider"] == name) == billed.nanousd[name,] > 0
    total = sum(line["cost_nanousd"] for line in lines)
    assert scrape.sum("model_cost_usd_total") == pytest.approx(total / 1e9, rel=1e-12)
    per_tenant = collections.Counter()
    for line in lines:
        per_tenant[line["tenant"]] += line["cost_nanousd"]
    for tenant, nano in per_tenant.items():
        if nano:
            assert scrape.sum("aigateway_cost_usd_total", tenant_id=tenant) == pytest.approx(nano / 1e9, rel=1e-12)
    assert scrape.sum("gatewayd_unpriced_attempts_total") == sum(
        1 for line in lines for a in line["attempts"] if a["usage"]["source"] != "none" and not a["priced"])
    assert scrape.sum("gatewayd_unpriced_attempts_total") > 0


def test_alias_families_say_the_same_as_what_they_are_aliases_of(busy):
    scrape = busy[0].scrape()
    assert scrape.sum("model_requests_total") == scrape.sum("model_inference_requests_total")
    assert scrape.sum("model_tokens_total") == scrape.sum("tokens_used_total")
    assert scrape.sum("http_response_status_total") == scrape.sum("http_requests_total")


def test_streams_end_in_exactly_one_state(busy):
    gateway, _, _, lines, _ = busy
    ends = collections.Counter(a["stream_end"] for line in lines for a in line["attempts"] if "stream_end" in a and a["stream_end"] != "none")
    counted = {k: int(v) for k, v in gateway.scrape().by("aigateway_streams_total", "outcome").items() if v}
    assert counted == dict(ends)
    assert counted["complete"] > 0
    assert gateway.metric("aigateway_active_streams") == 0


def test_journal_holds_every_fact_and_the_recorder_read_them_all(busy):
    gateway, _, _, lines, truth = busy
    scrape = gateway.scrape()
    facts = len(lines) + len(truth)
    assert scrape.sum("gatewayd_journal_records_total") >= facts
    eventually(lambda: gateway.metric("gatewayd_journal_read_records_total") == gateway.metric("gatewayd_journal_records_total"))
    assert scrape.sum("aigateway_telemetry_dropped_total") == 0


def test_a_client_cannot_make_series(busy):
    gateway = busy[0]
    before = len(gateway.scrape().samples)
    odd = ["x" * 200, "\u202eevil", 'a"b\\c\nd', "openai/made-up-{}"]
    for i in range(200):
        gateway.chat(model=odd[i % 4].format(i) + str(i))
        gateway.get(f"/v1/nothing/{i}")
    scrape = gateway.scrape()
    assert len(scrape.samples) < before + 200
    assert "made-up" not in scrape.text and "evil" not in scrape.text and "/v1/nothing" not in scrape.text
