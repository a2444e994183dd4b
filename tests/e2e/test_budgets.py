# SPDX-License-Identifier: Apache-2.0
"""Budgets and rates: what is spent never passes the limit, what fits is admitted, and whoever is refused is told by which
numbers: those of the counter that refused."""

import json
import sqlite3
import threading
from decimal import Decimal

import pytest

from support.gateway import KEY, http, model, provider, run, sha256
from support.load import Load
from support.process import SLOWNESS
from support.rawhttp import RawClient, request
from support.upstream import STALL, Gate, as_chunk, chat_completion, chunk, error_answer, event, json_answer, sse_head
from support.wait import eventually

PRICES = {"prices": [{"provider": "up", "model": "m", "input_usd_per_mtok": "1", "output_usd_per_mtok": "1000",
                      "context_tokens": 1000, "max_output_tokens": 4000}]}
# A prompt is at most the context, 1000 tokens: 0.001 USD. An answer of 100 tokens: 0.1 USD.
BOUND = Decimal("0.101")
COST = Decimal("0.1005")  # 500 and 100 tokens


def answer(prompt=500, completion=100):
    body = chat_completion()
    body["usage"] = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return json_answer(body)


def start(stage, script=None, budget=None, limits=None, key_limits=None, models=None, **more):
    prices = stage.directory / "prices.json"
    prices.write_text(json.dumps(PRICES))
    up = stage.upstream(script or (lambda r: answer()))
    tenant = {"id": "acme", "plan": "pro", "keys": [{"id": "test", "sha256": sha256(KEY)}]}
    if budget:
        tenant["budget"] = budget
    if limits:
        tenant["limits"] = limits
    if key_limits:
        tenant["keys"][0]["limits"] = key_limits
    return stage.gateway([provider("up", up.base_url)], models or [model("chat", "up/m", retries=0)], tenants=[tenant],
                         prices=str(prices), **more), up


def admin(gw, path, method="GET", body=None):
    return http(gw.admin_url + "/api/admin" + path, method, body, {"authorization": "Bearer " + gw.config["admin"]["token"]})


def budget(gw, account="tenant:acme"):
    return next(b for b in admin(gw, "/budgets").json["budgets"] if b["account"] == account)


def spent(gw):
    return Decimal(budget(gw)["spent_nanousd"]) / 10**9


def stored(gw):
    db = sqlite3.connect(f"file:{gw.state_dir}/history.db?mode=ro", uri=True)
    try:
        return db.execute("SELECT posted_nano, held_nano FROM budget_windows WHERE account = 'tenant:acme'").fetchone()
    finally:
        db.close()


def settled(gw):
    return eventually(lambda: (b := budget(gw))["held_nanousd"] == 0 and b, 20 * SLOWNESS, what="nothing is held")


BODY = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}).encode()


@pytest.mark.asan
@pytest.mark.tsan
def test_five_hundred_at_once_against_money_for_a_hundred(stage):
    limit = 100 * COST
    gw, up = start(stage, budget={"usd": float(limit), "period": "total"})
    results = Load(gw.host_port, 100).run(request(body=BODY, key=KEY) for _ in range(500))
    assert {r.status for r in results} == {200, 402}, {r.status for r in results}
    ok = sum(r.status == 200 for r in results)
    b = settled(gw)
    assert ok == len(up.requests)
    assert Decimal(b["spent_nanousd"]) / 10**9 == ok * COST <= limit
    while gw.chat(max_tokens=100).status == 200:  # those that were refused because others were held
        ok += 1
    assert 99 <= ok <= 100 and spent(gw) == ok * COST <= limit
    assert limit - spent(gw) < BOUND, "money for the bound left means admitted"
    eventually(lambda: stored(gw) == (int(ok * COST * 10**9), 0), 20 * SLOWNESS, what="the books say the same")
    refused = sum(r.status == 402 for r in results) + 1
    assert gw.metric("aigateway_budget_rejections_total", tenant_id="acme") == refused
    assert gw.metric("aigateway_budget_usage_ratio", tenant_id="acme") == pytest.approx(float(ok * COST / limit))
    assert gw.metric("aigateway_budget_limit_usd", tenant_id="acme") == float(limit)
    assert gw.metric("gatewayd_budget_overshoot_bound_usd") == 0


@pytest.mark.asan
def test_exactly_the_bound_is_admitted_and_the_refusal_names_the_numbers(stage):
    gw, _ = start(stage, budget={"usd": 0.2015, "period": "month"})
    assert gw.chat(max_tokens=100).status == 200
    assert gw.chat(max_tokens=100).status == 200, "0.101 of 0.2015 - 0.1005"
    no = gw.chat(max_tokens=100)
    assert no.status == 402
    e = no.json["error"]
    assert (e["type"], e["code"]) == ("insufficient_quota", "budget_exceeded")
    limit, b = e["limit"], budget(gw)
    assert limit == {"scope": "tenant:acme", "kind": "budget", "unit": "usd", "limit": "0.2015", "used": "0.201",
                     "held": "0.00", "requested": "0.101", "window": b["window"], "resets_at": limit["resets_at"],
                     "verdict": "refused"}
    assert limit["resets_at"].endswith("-01T00:00:00.000Z") and limit["resets_at"][:19] == b["resets_at"][:19]
    assert (b["limit_nanousd"], b["spent_nanousd"], b["held_nanousd"]) == (201500000, 201000000, 0)
    for number in ("tenant:acme", "0.2015", "0.201", "0.101", limit["resets_at"]):
        assert number in e["message"]
    why = admin(gw, "/explain/" + no.headers["x-request-id"]).json
    assert why["is_request"] and why["checks"] == [{**limit, "source": "local"}]
    now = admin(gw, "/explain/acme").json["checks"][0]
    assert (now["limit"], now["used"]) == (limit["limit"], limit["used"])
    anthropic = gw.post("/v1/messages", {"model": "chat", "max_tokens": 100, "messages": []})
    assert anthropic.status in (402, 501)
    assert admin(gw, "/explain/nobody").status == 404


@pytest.mark.asan
def test_abort_and_failure_give_the_hold_back(stage):
    piece = [as_chunk(event(chunk({"content": "word "})))]

    def script(r):
        return [sse_head(), *piece, STALL] if r.json.get("stream") else error_answer(500)

    gw, up = start(stage, script, {"usd": 1, "period": "total"})
    assert gw.chat(max_tokens=100).status == 500
    assert settled(gw)["spent_nanousd"] == 0
    c = RawClient(gw.host_port)
    c.send(request(body=BODY.replace(b"{", b'{"stream":true,', 1), key=KEY))
    assert c.read_head().status == 200
    eventually(lambda: budget(gw)["held_nanousd"] == int(BOUND * 10**9), 10 * SLOWNESS, what="the bound is held")
    c.close()
    assert 0 < settled(gw)["spent_nanousd"] < int(BOUND * 10**9), "the partial answer is billed, the rest is given back"


def test_a_restart_keeps_what_was_spent(stage):
    gw, up = start(stage, budget={"usd": 0.5, "period": "total"})
    n = 0
    while gw.chat(max_tokens=100).status == 200:
        n += 1
    assert n == 4
    gw.kill()
    gw.start()
    assert spent(gw) == 4 * COST
    assert gw.chat(max_tokens=100).status == 402
    assert gw.chat(max_tokens=90).status == 200, "what is left is there too"


def test_without_a_stated_maximum_one_is_put_in_while_a_budget_has_to_hold_it(stage):
    gw, up = start(stage, budget={"usd": 100, "period": "month"})
    assert gw.chat().status == 200 and up.requests[-1].json["max_tokens"] == 4000
    assert gw.chat(max_tokens=None).status == 200 and up.requests[-1].json["max_tokens"] == 4000
    assert gw.chat(max_completion_tokens=7).status == 200 and "max_tokens" not in up.requests[-1].json
    free, up2 = start(stage)
    assert free.chat().status == 200 and "max_tokens" not in up2.requests[-1].json


def test_a_model_without_a_price_is_refused_where_a_budget_must_hold(stage):
    models = [model("chat", "up/m"), model("free", "up/unknown"), model("both", "up/unknown", "up/m")]
    gw, up = start(stage, budget={"usd": 1, "period": "month"}, models=models)
    no = gw.chat(model="free", max_tokens=5)
    assert no.status == 402 and "no price" in no.json["error"]["message"]
    assert gw.chat(model="both", max_tokens=5).status == 200 and up.requests[-1].json["model"] == "m"
    warned, _ = start(stage, budget={"usd": 1, "period": "month", "at_limit": "warn"}, models=models)
    assert warned.chat(model="free", max_tokens=5).status == 200


@pytest.mark.parametrize("rule", ["warn", "throttle"])
def test_budgets_that_do_not_block(stage, rule):
    gw, _ = start(stage, budget={"usd": 0.2, "period": "month", "at_limit": rule})
    answers = [gw.chat(max_tokens=100) for _ in range(12)]
    if rule == "warn":
        assert {a.status for a in answers} == {200}
        text = eventually(lambda: "100%" in gw.stderr() and gw.stderr(), 5)
        assert 1 <= text.count("event: budget: tenant:acme: 100% of its") <= 2
        assert spent(gw) == 12 * COST
        return
    assert [a.status for a in answers] == [200] * 7 + [429] * 5
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    assert answers[-1].json["error"]["limit"]["kind"] == "budget"


def test_budgets_of_keys_and_of_all_come_from_the_database(stage):
    gw, _ = start(stage)
    for account, usd in (("key:acme/test", "0.05"), ("global", "0.15")):
        put = admin(gw, "/budgets/" + account, "PUT", {"limit_usd": usd, "period": "day", "reason": "test"})
        assert put.status == 200 and put.json["limit_nanousd"], put
    no = gw.chat(max_tokens=100)
    assert no.status == 402 and no.json["error"]["limit"]["scope"] == "key:acme/test"
    assert admin(gw, "/budgets/key:acme/test", "DELETE").status == 200
    assert gw.chat(max_tokens=100).status == 200
    no = gw.chat(max_tokens=100)
    assert no.status == 402 and no.json["error"]["limit"]["scope"] == "global"


@pytest.mark.asan
def test_requests_and_tokens_a_minute(stage):
    gw, up = start(stage, limits={"rpm": 3, "tpm": 10000})
    for left in (2, 1, 0):
        yes = gw.chat(max_tokens=100)
        assert yes.status == 200
        assert (yes.headers["x-ratelimit-limit-requests"], yes.headers["x-ratelimit-remaining-requests"]) == ("3", str(left))
        assert yes.headers["x-ratelimit-limit-tokens"] == "10000"
    no = gw.chat(max_tokens=100)
    assert no.status == 429 and no.json["error"]["code"] == "rate_limit_exceeded"
    assert no.json["error"]["limit"]["kind"] == "requests" and no.json["error"]["limit"]["used"] == 3
    assert no.headers["x-ratelimit-remaining-requests"] == "0" and 1 <= int(no.headers["retry-after"]) <= 20
    assert no.headers["x-ratelimit-reset-requests"].endswith("s")
    rows = {r["kind"]: r for r in admin(gw, "/limits").json["limits"]}
    assert rows["requests"]["refused"] == 1 and rows["requests"]["limit"] == 3
    assert 1700 <= rows["tokens"]["used"] <= 1800, "three times 600, whatever was thought before"
    assert gw.metric("rate_limit_hits_total", limit_type="requests") == 1
    assert gw.metric("aigateway_rate_limit_hits_total", tenant_id="acme") == 1
    tokens, _ = start(stage, limits={"tpm": 1000})
    assert tokens.chat(max_tokens=900).status == 200
    no = tokens.chat(max_tokens=900)
    assert no.status == 429 and no.json["error"]["limit"]["kind"] == "tokens"


def test_requests_at_once_and_limits_of_one_key(stage):
    gate = Gate(threading.Event())
    gw, up = start(stage, lambda r: [gate, answer()], key_limits={"concurrent": 2})
    done = []
    threads = [threading.Thread(target=lambda: done.append(gw.chat(max_tokens=5))) for _ in range(2)]
    for t in threads:
        t.start()
    eventually(lambda: len(up.requests) == 2, 10 * SLOWNESS)
    no = gw.chat(max_tokens=5)
    assert no.status == 429 and no.headers["retry-after"] == "1"
    assert no.json["error"]["limit"] == {"scope": "key:acme/test", "kind": "concurrent", "unit": "requests", "limit": 2,
                                         "used": 2, "held": 0, "requested": 1, "resets_at": None, "verdict": "refused"}
    gate.event.set()
    for t in threads:
        t.join()
    assert [a.status for a in done] == [200, 200] and gw.chat(max_tokens=5).status == 200


def test_in_shadow_nothing_is_refused_and_all_is_counted(stage):
    gw, _ = start(stage, limits={"rpm": 1, "shadow": True})
    assert [gw.chat(max_tokens=5).status for _ in range(4)] == [200] * 4
    assert gw.metric("gatewayd_rate_limit_shadow_hits_total", limit_type="requests") == 3
    assert gw.metric("rate_limit_hits_total", limit_type="requests") == 0


def test_the_demo_is_wide_enough_and_no_setting_is_said_to_have_no_effect(stage):
    gw, _ = start(stage, budget={"usd": 5}, limits={"rpm": 5})
    assert "no effect yet" not in gw.stderr()


def ctl(gw, *args):
    token = gw.directory / "token"
    token.write_text(gw.config["admin"]["token"])
    return run(["aigwctl", "--url", gw.admin_url, "--token-file", token, *args], directory=gw.directory)


def test_an_operator_lists_sets_and_explains(stage):
    gw, _ = start(stage, limits={"rpm": 50})
    made = ctl(gw, "budgets", "set", "acme", "--limit", "0.15", "--period", "day", "--reason", "pilot")
    assert made.returncode == 0 and "limit_usd" in made.stdout, made
    assert gw.chat(max_tokens=100).status == 200
    no = gw.chat(max_tokens=100)
    assert no.status == 402
    table = ctl(gw, "budgets", "list")
    assert table.returncode == 0 and "acme" in table.stdout and "day" in table.stdout
    rows = json.loads(ctl(gw, "budgets", "list", "-o", "json").stdout)["data"]
    assert rows[0]["spent_nanousd"] == int(COST * 10**9)
    assert ctl(gw, "budgets", "show", "acme", "-o", "csv").stdout.splitlines()[1].startswith("tenant:acme,day,")
    told = ctl(gw, "budgets", "explain", no.headers["x-request-id"])
    assert told.returncode == 0 and "refused" in told.stdout and "0.15" in told.stdout, told
    assert ctl(gw, "budgets", "explain", "nobody").returncode != 0
    limits = ctl(gw, "limits", "list", "-o", "csv")
    assert limits.stdout.splitlines()[0].startswith("scope,kind,limit,used") and "tenant:acme,requests,50," in limits.stdout
