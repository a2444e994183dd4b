# SPDX-License-Identifier: Apache-2.0
"""Accounts of providers and aliases, budgets by local time, top-ups and resets: what a provider has spent sends requests elsewhere,
what an operator changes holds within seconds, and nothing is lost by a death."""

import datetime
import json
import sqlite3
from decimal import Decimal

import pytest

from support.gateway import KEY, http, model, provider, run, sha256
from support.load import Load
from support.process import SLOWNESS
from support.rawhttp import request
from support.upstream import STALL, as_chunk, chat_completion, chunk, error_answer, event, json_answer, sse_head
from support.wait import eventually

# A prompt is at most the context, 1000 tokens: 0.001 USD. An answer of 100 tokens: 0.1 USD.
ROW = {"model": "m", "input_usd_per_mtok": "1", "output_usd_per_mtok": "1000", "context_tokens": 1000, "max_output_tokens": 4000,
       "search_usd": "0.02"}
PRICES = {"prices": [{"provider": p, **ROW} for p in ("one", "two")]}
COST = Decimal("0.1005")  # 500 and 100 tokens
BOUND = Decimal("0.101")
BODY = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}).encode()


def answer(prompt=500, completion=100):
    body = chat_completion()
    body["usage"] = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return json_answer(body)


class Stage:
    """Two providers behind one alias, of which the first has an account."""

    def __init__(self, stage, one=None, two=None, tenant=None, scripts=(None, None), models=None, **more):
        prices = stage.directory / "prices.json"
        prices.write_text(json.dumps(PRICES))
        self.ups = [stage.upstream(s or (lambda r: answer())) for s in scripts]
        acme = {"id": "acme", "plan": "pro", "keys": [{"id": "test", "sha256": sha256(KEY)}], **(tenant or {})}
        self.gw = stage.gateway(
            [provider("one", self.ups[0].base_url, **(one or {})), provider("two", self.ups[1].base_url, **(two or {}))],
            models or [model("chat", "one/m", "two/m", retries=0), model("only", "one/m", retries=0)], tenants=[acme],
            prices=str(prices), **more)

    def admin(self, path, method="GET", body=None):
        return http(self.gw.admin_url + "/api/admin" + path, method, body,
                    {"authorization": "Bearer " + self.gw.config["admin"]["token"]})

    def budget(self, account):
        return self.admin("/budgets/" + account).json

    def spent(self, account):
        return Decimal(self.budget(account)["spent_nanousd"]) / 10**9

    def settled(self, account):
        return eventually(lambda: (b := self.budget(account))["held_nanousd"] == 0 and b, 20 * SLOWNESS)

    def ctl(self, *args):
        token = self.gw.directory / "token"
        token.write_text(self.gw.config["admin"]["token"])
        return run(["aigwctl", "--url", self.gw.admin_url, "--token-file", token, *args], directory=self.gw.directory)

    def books_agree(self):
        """The windows with the ledger; what is not in both yet comes within a second."""
        def look():
            done = run(["aigwctl", "reconcile", "--state-dir", self.gw.state_dir, "-o", "json"], directory=self.gw.directory)
            assert done.returncode == 0, done
            pair = next(p for p in json.loads(done.stdout)["data"]["pairs"] if p["pair"] == "ledger_budgets")
            return pair["compared"] and not pair["different"] and pair

        return eventually(look, 20 * SLOWNESS, what="the books agree")

    def stored(self, account):
        db = sqlite3.connect(f"file:{self.gw.state_dir}/history.db?mode=ro", uri=True)
        try:
            row = db.execute("SELECT sum(posted_nano) FROM budget_windows WHERE account = ?", (account,)).fetchone()
            return Decimal(row[0] or 0) / 10**9
        finally:
            db.close()

    def ledger(self, kind):
        db = sqlite3.connect(f"file:{self.gw.state_dir}/history.db?mode=ro", uri=True)
        try:
            return db.execute("SELECT tenant, key, provider, cost_nano FROM ledger WHERE kind = ?", (kind,)).fetchall()
        finally:
            db.close()


def in_hours(n):
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=n)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.asan
def test_a_spent_provider_is_passed_over_and_named_when_nobody_is_left(stage):
    s = Stage(stage, one={"budget": {"usd": 0.25, "period": "month"}})
    assert [s.gw.chat(max_tokens=100).headers["x-gatewayd-provider"] for _ in range(4)] == ["one", "one", "two", "two"]
    last = s.gw.chat(max_tokens=100)
    assert last.headers["x-gatewayd-attempts"] == "1", "being passed over is no attempt"
    no = s.gw.chat(model="only", max_tokens=100)
    assert no.status == 402 and no.json["error"]["code"] == "budget_exceeded"
    limit, b = no.json["error"]["limit"], s.budget("provider:one")
    assert (limit["scope"], limit["limit"], limit["used"]) == ("provider:one", "0.25", "0.201")
    assert limit["resets_at"][:19] == b["resets_at"][:19] and "provider:one" in no.json["error"]["message"]
    assert (b["source"], b["spent_nanousd"], b["held_nanousd"]) == ("file", 201000000, 0)
    assert s.gw.chat(model="only", max_tokens=40).status == 200, "what fits is admitted"
    assert s.admin("/explain/" + no.headers["x-request-id"]).json["checks"][0]["scope"] == "provider:one"
    assert s.stored("provider:two") == 0 or s.stored("provider:two") % COST == 0


def test_a_death_does_not_make_a_provider_s_account_forget(stage):
    s = Stage(stage, one={"budget": {"usd": 0.25, "period": "total"}})
    for _ in range(3):
        assert s.gw.chat(max_tokens=100).status == 200
    s.gw.kill()
    s.gw.start()
    assert s.spent("provider:one") == 2 * COST
    assert s.gw.chat(max_tokens=100).headers["x-gatewayd-provider"] == "two"
    eventually(lambda: s.stored("provider:two") == 2 * COST, 20 * SLOWNESS, what="who has no budget is counted, too")


@pytest.mark.asan
def test_many_at_once_never_pass_a_provider_s_budget(stage):
    limit = 20 * COST
    s = Stage(stage, one={"budget": {"usd": float(limit), "period": "month"}})
    results = Load(s.gw.host_port, 50).run(request(body=BODY, key=KEY) for _ in range(150))
    assert {r.status for r in results} == {200}, "the other takes what is over"
    b = s.settled("provider:one")
    assert Decimal(b["spent_nanousd"]) / 10**9 == len(s.ups[0].requests) * COST <= limit
    while s.gw.chat(model="only", max_tokens=100).status == 200:
        pass
    assert limit - s.spent("provider:one") < BOUND, "money for the bound left means admitted"


def test_rates_of_providers_send_elsewhere_and_those_of_aliases_refuse(stage):
    models = [model("chat", "one/m", "two/m", retries=0), model("only", "one/m", retries=0),
              model("slow", "two/m", retries=0, limits={"rpm": 2})]
    s = Stage(stage, one={"limits": {"rpm": 3}}, models=models)
    assert [s.gw.chat(max_tokens=5).headers["x-gatewayd-provider"] for _ in range(5)] == ["one"] * 3 + ["two"] * 2
    no = s.gw.chat(model="only", max_tokens=5)
    assert no.status == 429 and no.json["error"]["limit"]["scope"] == "provider:one"
    assert 1 <= int(no.headers["retry-after"]) <= 21 and no.json["error"]["limit"]["used"] == 3
    assert [s.gw.chat(model="slow", max_tokens=5).status for _ in range(3)] == [200, 200, 429]
    limit = s.gw.chat(model="slow", max_tokens=5).json["error"]["limit"]
    assert (limit["scope"], limit["kind"], limit["limit"]) == ("model:slow", "requests", 2)
    rows = {r["scope"]: r for r in s.admin("/limits").json["limits"]}
    assert rows["provider:one"]["refused"] == 3 and rows["model:slow"]["refused"] == 2
    hits = s.ctl("limits", "hits", "-o", "csv")
    assert hits.returncode == 0 and "provider:one,requests,3," in hits.stdout and "model:slow,requests,2," in hits.stdout


def test_a_failed_attempt_gives_the_first_provider_s_money_back(stage):
    s = Stage(stage, one={"budget": {"usd": 0.15, "period": "month"}}, scripts=(lambda r: error_answer(500), None),
              models=[model("chat", "one/m", "two/m", retries=1)])
    for _ in range(3):
        yes = s.gw.chat(max_tokens=100)
        assert yes.status == 200 and yes.headers["x-gatewayd-attempts"] == "2"
    assert s.settled("provider:one")["spent_nanousd"] == 0


def test_windows_begin_by_local_clocks(stage):
    s = Stage(stage, tenant={"budget": {"usd": 5, "period": "day", "timezone": "Asia/Kolkata"}})
    assert s.gw.chat(max_tokens=100).status == 200
    b = s.budget("tenant:acme")
    assert b["timezone"] == "Asia/Kolkata" and b["resets_at"][11:19] == "18:30:00"
    local = datetime.datetime.fromisoformat(b["resets_at"].replace("Z", "+00:00")) + datetime.timedelta(hours=5.5)
    assert b["window"] == (local - datetime.timedelta(days=1)).strftime("%Y-%m-%d")
    eventually(lambda: s.stored("tenant:acme") == COST, 20 * SLOWNESS)
    s.books_agree()
    for zone, status in (("Europe/Berlin", 200), ("Mars/Olympus", 400), ("../../etc/passwd", 400)):
        put = s.admin("/budgets/global", "PUT", {"limit_usd": 9, "period": "month", "timezone": zone, "reason": "t"})
        assert put.status == status, put
    assert s.ctl("budgets", "set", "global", "--timezone", "Mars/Olympus").returncode != 0


@pytest.mark.asan
def test_a_top_up_holds_until_its_moment_and_is_gone_by_itself(stage):
    s = Stage(stage, tenant={"budget": {"usd": 0.15, "period": "month"}})
    assert [s.gw.chat(max_tokens=100).status for _ in range(2)] == [200, 402]
    made = s.ctl("budgets", "add", "acme", "--amount", "0.1", "--until", "3s", "--reason", "demo day")
    assert made.returncode == 0 and "undo: aigwctl budgets remove acme --id" in made.stdout, made
    assert s.gw.chat(max_tokens=100).status == 200
    no = s.gw.chat(max_tokens=100)
    assert no.status == 402 and no.json["error"]["limit"]["limit"] == "0.25"
    b = s.budget("tenant:acme")
    assert (b["limit_nanousd"], b["limit_now_nanousd"], b["topups"][0]["active"]) == (150000000, 250000000, True)
    b = eventually(lambda: (x := s.budget("tenant:acme"))["limit_now_nanousd"] == 150000000 and x, 10 * SLOWNESS, what="it is over")
    assert b["topups"][0]["active"] is False
    assert s.admin("/explain/acme").json["checks"][0]["limit"] == "0.15"
    for body, status in (({"action": "add", "amount_usd": 1, "until": "2020-01-01T00:00:00Z"}, 400), ({"action": "add"}, 400),
                         ({"action": "remove", "id": "nobody"}, 404)):
        assert s.admin("/budgets/tenant:acme", "POST", body).status == status
    later = s.admin("/budgets/tenant:acme", "POST", {"action": "add", "amount_usd": "0.5", "until": in_hours(2)}).json
    assert later["limit_now_nanousd"] == 650000000
    s.gw.kill()
    s.gw.start()
    assert s.budget("tenant:acme")["limit_now_nanousd"] == 650000000, "it is in the database"
    one = next(t["id"] for t in later["topups"] if t["active"])
    assert s.ctl("budgets", "remove", "acme", "--id", one, "--yes").returncode == 0
    assert s.budget("tenant:acme")["limit_now_nanousd"] == 150000000
    assert "budget.topup" in [e["action"] for e in s.admin("/audit").json["entries"]]


@pytest.mark.asan
def test_a_reset_frees_the_budget_and_leaves_the_ledger_whole(stage):
    s = Stage(stage, tenant={"budget": {"usd": 0.15, "period": "month"}})
    assert [s.gw.chat(max_tokens=100).status for _ in range(2)] == [200, 402]
    asked = s.ctl("budgets", "reset", "acme", "--yes")
    assert asked.returncode == 7 and "--confirm acme" in asked.stderr, asked
    done = s.ctl("budgets", "reset", "acme", "--confirm", "acme", "--reason", "goodwill")
    assert done.returncode == 0, done
    assert s.spent("tenant:acme") == 0 and s.gw.chat(max_tokens=100).status == 200
    assert s.gw.chat(max_tokens=100).status == 402
    eventually(lambda: s.ledger("reset") == [("acme", "", "", -100500000)], 20 * SLOWNESS, what="an entry of its own")
    assert sum(r[3] for r in s.ledger("request")) == 201000000, "history is whole"
    eventually(lambda: s.stored("tenant:acme") == COST, 20 * SLOWNESS)
    assert s.stored("global") == 2 * COST, "no other account was reset"
    for _ in range(3):  # the counter follows the books, and does not swing back
        assert s.spent("tenant:acme") == COST
        s.books_agree()
    s.gw.kill()
    s.gw.start()
    assert s.spent("tenant:acme") == COST
    again = s.admin("/budgets/global", "POST", {"action": "reset"})
    assert again.status == 404


def test_a_cut_that_blocks_at_once_asks_for_the_name(stage):
    s = Stage(stage)
    made = s.ctl("budgets", "set", "acme", "--limit", "1", "--period", "month", "--warn", "50,90", "--reason", "pilot")
    assert made.returncode == 0 and s.budget("tenant:acme")["warn"] == [50, 90], made
    assert s.gw.chat(max_tokens=100).status == 200
    lower = s.ctl("budgets", "set", "acme", "--limit", "0.5", "--no-input")
    assert lower.returncode == 7 and "--yes" in lower.stderr
    assert s.ctl("budgets", "set", "acme", "--limit", "0.5", "--yes").returncode == 0
    cut = s.ctl("budgets", "set", "acme", "--limit", "0.05", "--yes")
    assert cut.returncode == 7 and "--confirm acme" in cut.stderr and "open → blocked" in cut.stderr, cut
    assert s.budget("tenant:acme")["limit_nanousd"] == 500000000
    done = s.ctl("budgets", "set", "acme", "--limit", "0.05", "--confirm", "acme")
    assert done.returncode == 0 and "undo: aigwctl budgets set acme --limit 0.5" in done.stdout, done
    assert s.gw.chat(max_tokens=100).status == 402
    assert s.ctl("budgets", "set", "acme", "--limit", "2").returncode == 0, "more asks nothing"
    assert s.budget("tenant:acme")["warn"] == [50, 90], "what is not said stays"


def test_a_budget_that_is_deleted_limits_nobody_and_its_undo_sets_it_back(stage):
    s = Stage(stage)
    said = ("--limit", "0.05", "--period", "week", "--timezone", "Europe/Berlin", "--warn", "50,90", "--cut-streams", "yes")
    assert s.ctl("budgets", "set", "acme", *said).returncode == 0
    assert s.gw.chat(max_tokens=100).status == 402
    was = s.budget("tenant:acme")
    asked = s.ctl("budgets", "delete", "acme", "--no-input")
    assert asked.returncode == 7 and "limit $0.05 → none" in asked.stderr and s.gw.chat(max_tokens=100).status == 402, asked
    done = s.ctl("budgets", "delete", "acme", "--yes", "--reason", "t")
    assert done.returncode == 0 and s.gw.chat(max_tokens=100).status == 200, done
    assert s.ctl("budgets", "delete", "acme", "--yes").returncode == 5
    undo = done.stdout.split("undo: aigwctl ")[1].replace("\\\n", "").split()
    assert s.ctl(*undo).returncode == 0
    settings = ("limit_usd", "period", "timezone", "warn", "at_limit", "when_store_down", "cut_streams")
    assert {k: s.budget("tenant:acme")[k] for k in settings} == {k: was[k] for k in settings}


def test_marks_are_told_once_a_window(stage):
    s = Stage(stage, tenant={"budget": {"usd": 1.0, "period": "month", "warn": [20, 50, 90], "at_limit": "warn"}})
    for _ in range(12):
        assert s.gw.chat(max_tokens=100).status == 200
    told = eventually(lambda: len(t := [e["facts"]["percent"] for e in s.admin("/events?kind=budget").json["events"]]) >= 4 and t,
                      10 * SLOWNESS)
    assert sorted(told) == [20, 50, 90, 100]


def test_limits_of_keys_are_set_at_run_time_and_live_through_a_rotation(stage):
    s = Stage(stage)
    key = s.admin("/keys", "POST", {"tenant": "acme", "id": "batch", "rpm": 2}).json["key"]
    assert [s.gw.chat(key=key, max_tokens=5).status for _ in range(3)] == [200, 200, 429]
    up = s.ctl("limits", "set", "acme/batch", "--rpm", "4")
    assert up.returncode == 0 and "rpm: 2 → 4" in up.stdout and "undo: aigwctl limits set acme/batch --rpm 2" in up.stdout, up
    assert s.gw.chat(key=key, max_tokens=5).headers["x-ratelimit-limit-requests"] == "4"
    assert s.ctl("limits", "set", "acme/batch", "--rpm", "1", "--no-input").returncode == 7
    fresh = s.admin("/keys/acme/batch/rotate", "POST", {}).json["key"]
    assert s.gw.chat(key=fresh, max_tokens=5).status == 429, "the limits go with the name"
    assert s.admin("/keys/acme/batch", "PATCH", {"rpm": None}).json["rpm"] is None
    assert s.gw.chat(key=fresh, max_tokens=5).status == 200
    assert s.ctl("limits", "set", "acme/nobody", "--rpm", "1", "--yes").returncode == 5


def words(n, size=100):
    """A stream of n pieces, without its end."""
    return [sse_head(), *[as_chunk(event(chunk({"content": "word " * size}))) for _ in range(n)], STALL]


@pytest.mark.asan
def test_a_stream_ends_when_its_budget_says_so_and_nothing_is_left(stage):
    budget = {"usd": 2.0, "period": "month", "at_limit": "warn"}
    for cut in (True, False):
        s = Stage(stage, tenant={"budget": {**budget, "cut_streams": cut}}, scripts=(lambda r: words(40), None),
                  one={"timeouts": {"idle": "1s"}})
        text = s.gw.chat(stream=True, max_tokens=9000).body.decode()
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        assert "error" in events[-1], (cut, text[-600:], s.gw.access_log()[-1:])
        error = events[-1]["error"]
        line = eventually(lambda: [r for r in s.gw.access_log() if r.get("stream_end")] or None, 10 * SLOWNESS)[-1]
        if not cut:
            assert error["code"] != "budget_exceeded" and line["stream_end"] == "idle_timeout"
            continue
        assert error["code"] == "budget_exceeded" and error["limit"]["scope"] == "tenant:acme"
        assert line["stream_end"] == "budget_cut" and len(events) < 40
        spent = s.settled("tenant:acme")["spent_nanousd"] / 10**9
        assert 2.0 < spent < 4.0, "what was generated is billed"


UNBOUNDED = [
    {"tools": [{"type": "web_search"}]},
    {"service_tier": "priority"},
    {"audio": {"voice": "alloy", "format": "wav"}},
    {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}]},
]


def test_what_has_no_bound_is_refused_where_a_budget_has_to_hold_it(stage):
    s = Stage(stage, tenant={"budget": {"usd": 100, "period": "month"}})
    for more in UNBOUNDED:
        body = {"model": "chat", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}], **more}
        no = s.gw.post("/v1/chat/completions", body)
        assert no.status == 400 and no.json["error"]["code"] == "cost_unbounded", (more, no)
    own = {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}
    assert s.gw.chat(max_tokens=10, **own).status == 200
    free = Stage(stage)
    assert free.gw.post("/v1/chat/completions", {"model": "chat", "messages": [], **UNBOUNDED[0]}).status == 200


BODIES = [
    {},
    {"n": 3},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}]}]},
    {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
    {"web_search_options": {}},
    {"max_tokens": None},
]


@pytest.mark.asan
def test_whatever_bodies_ask_for_what_is_spent_stays_within_the_limit(stage):
    """The provider bills what it could at worst: the whole context for what it fetches, all choices, a call of a tool."""
    def worst(r):
        b = r.json
        far = any(k in r.body.decode() for k in ("image_url", "file_id", "web_search_options"))
        out = (b.get("max_tokens") or 100) * b.get("n", 1)
        body = chat_completion()
        body["usage"] = {"prompt_tokens": 1000 * (2 if "web_search_options" in b else 1) if far else len(r.body) // 2,
                         "completion_tokens": out, "web_search_requests": 1 if "web_search_options" in b else 0}
        return json_answer(body)

    s = Stage(stage, tenant={"budget": {"usd": 8.0, "period": "total"}}, scripts=(worst, worst))
    payloads = []
    for i in range(120):
        body = {"model": "chat", "max_tokens": 20 + i, "messages": [{"role": "user", "content": "hi" * (i % 50)}]}
        payloads.append(request(body=json.dumps({**body, **BODIES[i % len(BODIES)]}).encode(), key=KEY))
    results = Load(s.gw.host_port, 30).run(payloads)
    assert {r.status for r in results} == {200, 402}
    b = s.settled("tenant:acme")
    assert 0 < b["spent_nanousd"] <= b["limit_nanousd"]
    while s.gw.chat(max_tokens=100).status == 200:
        pass
    assert s.budget("tenant:acme")["spent_nanousd"] <= 8 * 10**9
