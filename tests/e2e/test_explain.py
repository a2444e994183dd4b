# SPDX-License-Identifier: Apache-2.0
"""What happened and why: events, the story of a request, the limits of an account, and when a budget will be spent. What is
shown is compared with what decided: the simulator's truth, the counters, the stores."""

import json
import signal
import sqlite3
import time
from datetime import datetime, timedelta, timezone

import pytest

from support.gateway import KEY, http, model, provider, run, sha256
from support.process import SLOWNESS, Process
from support.terminal import on_terminal
from support.wait import eventually

BREAKER = {"failures": 3, "error_rate": 0, "min_requests": 20, "open_for": "1h", "max_open_for": "1h", "probes": 1, "close_after": 2}


def admin(gw, path, method="GET", body=None):
    return http(gw.admin_url + path, method, body, {"authorization": "Bearer " + gw.config["admin"]["token"]})


def ctl(gw, *words, code=0, env=None):
    done = run(["aigwctl", "--url", "unix:" + gw.ready["admin_socket"], *words], env=env, directory=gw.directory)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def data(gw, *words):
    return json.loads(ctl(gw, *words, "-o", "json"))["data"]


def events(gw, **query):
    text = "&".join(f"{k}={v}" for k, v in query.items())
    answer = admin(gw, "/api/admin/events?" + text)
    assert answer.status == 200, answer
    return answer.json["events"]


def terminal(gw, *words, columns=80):
    lines = on_terminal(["aigwctl", "--url", "unix:" + gw.ready["admin_socket"], *words], gw.directory, columns)
    assert all(len(line) <= columns for line in lines), lines
    return lines


class Follower(Process):
    """aigwctl that goes on until it is told to end."""

    def __init__(self, gw, *words):
        super().__init__(gw.directory, "follower", ["--url", "unix:" + gw.ready["admin_socket"], *words], program="aigwctl")

    def lines(self):
        return [line for line in self.stderr().splitlines() if line]


@pytest.mark.asan
def test_a_breaker_that_opens_is_told_by_the_api_the_stream_the_log_and_a_follower(stage):
    redis = stage.redis()
    sim = stage.simulator()
    sim.control.profile("a", faults={"500": 1.0})
    made = [stage.gateway([provider("first", sim.base_url("a"))], [model("chat", "first/m/1", retries=0)], breaker=BREAKER,
                          redis=redis.url()) for _ in range(2)]
    gw, other = made
    follower = Follower(gw, "events", "-f", "--kind", "breaker")
    follower.spawn()
    stage.endings.append(follower.kill)
    for _ in range(3):
        assert gw.chat().status == 500
    (told,) = eventually(lambda: events(gw, kind="breaker"), 5 * SLOWNESS, what="the event")
    assert (told["kind"], told["severity"], told["subject"]) == ("breaker", "warning", "first/m/1")
    assert told["text"] == "OPEN: 3 failures in a row: HTTP 500"
    assert told["facts"] == {"old": "CLOSED", "new": "OPEN"}
    with redis.client() as r:
        stream = eventually(lambda: r("XRANGE", "{gw}:events", "-", "+"), 5 * SLOWNESS, what="the stream")
        in_stream = [json.loads(fields[1]) for _, fields in stream]
        assert [e for e in in_stream if e["kind"] == "breaker"] == [told]
        assert 0 < r("TTL", "{gw}:events") <= 7 * 86400
    line = eventually(follower.lines, 10 * SLOWNESS, what="the follower's line")
    assert len(line) == 1 and line[0].endswith("Z  breaker   warning   first/m/1: OPEN: 3 failures in a row: HTTP 500"), line
    assert "event: breaker: first/m/1: OPEN" in gw.stderr()

    # The other node tells the same event, not another one.
    assert eventually(lambda: events(other, kind="breaker"), 10 * SLOWNESS, what="it is heard elsewhere") == [told]
    eventually(lambda: other.chat().status == 503, 10 * SLOWNESS, what="its breaker is open, too")
    assert events(other, kind="breaker") == [told]

    # A follower goes on when the gateway was started anew, and shows nothing twice.
    assert admin(gw, "/api/admin/breakers/first/m/1", "POST", {"action": "reset"}).status == 200
    eventually(lambda: len(follower.lines()) == 2, 10 * SLOWNESS, what="the reset")
    follower.signal(signal.SIGTERM)
    assert follower.child.wait(10) == 143


def test_events_are_asked_for_by_kind_time_severity_and_place(stage):
    sim = stage.simulator()
    gw = stage.gateway([provider("first", sim.base_url("a"))], [model("chat", "first/m", retries=0)], breaker=BREAKER, health={"interval": "60s"})
    for action in ("open", "reset", "open", "reset"):
        assert admin(gw, "/api/admin/breakers/first/m", "POST", {"action": action, "reason": "drill", **({"for": "1m"} if action == "open" else {})}).status == 200
    all_ = events(gw)
    assert all_ == sorted(all_, key=lambda e: e["at"]) and len(all_) >= 4
    assert len({e["id"] for e in all_}) == len(all_)
    assert events(gw, limit=1) == all_[-1:]
    assert events(gw, severity="warning") == [e for e in all_ if e["severity"] != "info"]
    assert events(gw, kind="health,budget") == []
    assert events(gw, since="1h") == all_ == events(gw, since=int(time.time()) - 3600)
    page = admin(gw, "/api/monitoring/events").json
    assert admin(gw, f"/api/monitoring/events?after={page['next']}").json["events"] == []
    for bad in ("since=yesterday", "kind=wealth", "severity=loud", "limit=0", "limit=x", "after=-1"):
        assert admin(gw, "/api/admin/events?" + bad).status == 400, bad
    assert http(gw.url + "/api/monitoring/events").status == 401
    shown = ctl(gw, "events", "--limit", "2").splitlines()
    assert shown[0].split() == ["WHEN", "KIND", "SEVERITY", "SUBJECT", "WHAT"] and len(shown) == 3
    assert data(gw, "events", "--severity", "warning") == events(gw, severity="warning")


def test_changes_of_keys_and_configuration_and_stores_that_go_are_told(stage):
    redis = stage.redis()
    sim = stage.simulator()
    gw = stage.gateway([provider("first", sim.base_url("a"))], [model("chat", "first/m")], redis=redis.url())
    ctl(gw, "keys", "create", "acme/web", "--reason", "pilot")
    ctl(gw, "keys", "revoke", "acme/web", "--yes")
    assert [(e["subject"], e["text"]) for e in events(gw, kind="key")] == [("acme/web", "key.create by 'socket': pilot"), ("acme/web", "key.revoke by 'socket'")]
    gw.write_config("listen: [")
    assert admin(gw, "/api/admin/reload", "POST").status == 409
    (refused,) = events(gw, kind="config")
    assert refused["severity"] == "warning" and refused["text"].startswith("a reload was refused, the one in use stays: ")

    # What happens while the stream's store is away is there once it is back.
    redis.kill()
    down = eventually(lambda: events(gw, kind="store"), 20 * SLOWNESS, what="the store's end")
    assert [(e["subject"], e["facts"]["new"]) for e in down] == [("realtime", "down")]
    redis.restart()
    eventually(lambda: [(e["subject"], e["facts"]["new"]) for e in events(gw, kind="store")] == [("realtime", "down"), ("realtime", "up")],
               30 * SLOWNESS, what="the store is back")

    def stream():
        with redis.client() as r:
            return [json.loads(fields[1])["id"] for _, fields in r("XRANGE", "{gw}:events", "-", "+")]

    wanted = [e["id"] for e in events(gw, kind="store")]
    eventually(lambda: set(wanted) <= set(stream()), 20 * SLOWNESS, what="they are in the stream")
    assert len(stream()) == len(set(stream())), "each once"
    eventually(lambda: gw.metric("aigateway_telemetry_exported_total", pipeline="events") >= len(wanted), 10 * SLOWNESS)
    assert gw.metric("aigateway_telemetry_dropped_total", pipeline="events") == 0


# ---- forecasts --------------------------------------------------------------------------------------------------------

HOURLY = 2 * 10**9  # nano-USD


def longest_window(now):
    """Of week and month the one that ends later, so that no test stands at an end."""
    week = datetime.combine((now - timedelta(days=now.weekday())).date(), datetime.min.time(), timezone.utc)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    ends = {"week": week + timedelta(days=7), "month": (month + timedelta(days=32)).replace(day=1)}
    period = max(ends, key=ends.get)
    iso = now.isocalendar()
    return period, f"{iso.year}-W{iso.week:02}" if period == "week" else f"{now:%Y-%m}", ends[period]


def spend_in_the_past(gw, account_rows, days=10):
    """Rows of a ledger and of windows, as if they had been booked: two dollars in every hour."""
    now = int(time.time())
    columns = ("instance, seq, line, kind, minute, budget_hour, tenant, key, provider, model, endpoint, outcome, error, stream_end, "
               "usage_source, count, tokens_in, tokens_cached, tokens_cwrite, tokens_out, tokens_reasoning, images, searches, cost_nano, "
               "unpriced, latency_us, ttft_us, ttft_count")
    db = sqlite3.connect(gw.state_dir / "history.db")
    with db:
        for i, (tenant, window, posted, ends) in enumerate(account_rows):
            for h in range(days * 24 + 1):
                minute = (now // 3600 - h) * 3600
                cost = HOURLY if h else HOURLY * (now % 3600) // 3600
                db.execute("INSERT INTO ledger (" + columns + ") VALUES ('past', ?, 0, 'request', ?, ?, ?, 'test', 'up', 'm', '/v1/chat/completions', 'success', '', "
                           "'none', 'reported', 1, 0, 0, 0, 0, 0, 0, 0, ?, 0, 0, 0, 0)", (h + 1000 * i, minute, minute, tenant, cost))
            db.execute("INSERT INTO budget_windows (account, period, window_id, posted_nano, held_nano, ends_at, updated_at) VALUES (?, ?, ?, ?, 0, ?, ?)", (f"tenant:{tenant}", *window, posted, int(ends.timestamp()), now))
    db.close()


def test_a_forecast_is_in_the_list_the_metrics_and_the_events(stage):
    now = datetime.now(timezone.utc)
    period, window, ends = longest_window(now)
    left = HOURLY * (ends - now).total_seconds() / 3600
    spent = 100 * 10**9
    limit = {"soon": spent + left / 2, "later": spent + left * 3, "spent": spent, "fresh": 5e9}
    tenants = [{"id": t, "plan": "pro", "keys": [{"id": "test", "sha256": sha256(t)}], "budget": {"usd": f"{v / 1e9:.2f}", "period": period}}
               for t, v in limit.items()]
    gw = stage.gateway([provider("up", "http://127.0.0.1:1/v1", allow_private=True)], [model("chat", "up/m")], tenants=tenants)
    gw.stop()
    spend_in_the_past(gw, [(t, (period, window), spent, ends) for t in ("soon", "later", "spent")])
    gw.start()

    def rows():
        found = {b["account"].partition(":")[2]: b for b in admin(gw, "/api/admin/budgets").json["budgets"]}
        return found if "forecast" in found["soon"] else None

    rows = eventually(rows, 20 * SLOWNESS, what="forecasts")
    halfway = now.timestamp() + (ends - now).total_seconds() / 2
    assert rows["soon"]["forecast"] == "at" and rows["soon"]["forecast_method"] == "linear"
    assert abs(datetime.fromisoformat(rows["soon"]["exhausts_at"]).timestamp() - halfway) < 1800
    assert rows["soon"]["forecast_usd"] == pytest.approx((spent + left) / 1e9, rel=0.01)
    assert rows["soon"]["rate_usd_per_hour"] == pytest.approx(2, rel=0.01)
    assert (rows["later"]["forecast"], rows["later"]["exhausts_at"]) == ("never", None)
    assert rows["spent"]["forecast"] == "spent"
    assert rows["fresh"]["forecast"] == "unknown" and "forecast_usd" not in rows["fresh"]

    metric = gw.scrape()
    name = "gatewayd_budget_exhaustion_timestamp_seconds"
    assert abs(metric.sum(name, tenant_id="soon") - halfway) < 1800
    assert metric.sum(name, tenant_id="later") == float("inf")
    assert 0 < metric.sum(name, tenant_id="spent") <= time.time()
    assert set(metric.by(name, "tenant_id")) == {"soon", "later", "spent"}

    (told,) = eventually(lambda: [e for e in events(gw, kind="budget") if "forecast_of" in e["facts"]], 10 * SLOWNESS, what="the event")
    assert (told["subject"], told["severity"]) == ("tenant:soon", "warning")
    assert told["facts"]["exhausts_at"] == rows["soon"]["exhausts_at"] and told["facts"]["forecast_of"] == window


# ---- why --------------------------------------------------------------------------------------------------------------

PRICES = {"prices": [{"provider": p, "model": "m", "input_usd_per_mtok": "1", "output_usd_per_mtok": "10",
                      "context_tokens": 1000, "max_output_tokens": 4000} for p in ("first", "second")]}


def two_providers(stage, sim, budget="100", rpm=600, **more):
    prices = stage.directory / "prices.json"
    prices.write_text(json.dumps(PRICES))
    tenant = {"id": "acme", "plan": "pro", "keys": [{"id": "test", "sha256": sha256(KEY)}], "limits": {"rpm": rpm},
              "budget": {"usd": budget, "period": "month"}}
    return stage.gateway([provider("first", sim.base_url("bad")), provider("second", sim.base_url("good"))],
                         [model("chat", "first/m", "second/m", retries=1)], tenants=[tenant], prices=str(prices), **more)


def explain(gw, what, status=200):
    answer = admin(gw, "/api/admin/explain/" + what)
    assert answer.status == status, answer
    return answer.json


def story_of(gw, request):
    def there():
        answer = admin(gw, "/api/admin/explain/" + request)
        return answer.json if answer.status == 200 and answer.json["story"] else None

    return eventually(there, 20 * SLOWNESS, what="the story")


@pytest.mark.asan
def test_the_story_of_a_request_that_failed_over_is_the_simulators_truth(stage):
    sim = stage.simulator()
    sim.control.profile("bad", faults={"500": 1.0})
    gw = two_providers(stage, sim, breaker=BREAKER)
    done = gw.chat(max_tokens=100)
    assert done.status == 200
    why = story_of(gw, done.headers["x-request-id"])
    story, money = why["story"], why["money"]
    assert why["kind"] == "request" and why["is_request"] and why["checks"] == [] and why["warnings"] == []
    truth = sim.control.settled_log()
    assert [(a["provider"], a["http_status"]) for a in story["attempts"]] == [("first", 500), ("second", 200)]
    assert [t["profile"] for t in truth] == ["bad", "good"] and [t["status"] for t in truth] == [500, 200]
    assert [a["error"] for a in story["attempts"]] == ["upstream_error", None]
    usage = done.json["usage"]
    cost = usage["prompt_tokens"] * 1000 + usage["completion_tokens"] * 10000
    assert (story["usage"]["input"], story["usage"]["output"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert money["settled_nanousd"] == story["cost_nanousd"] == cost == sum(a["cost_nanousd"] for a in story["attempts"])
    assert money["held_nanousd"] >= cost and money["given_back_nanousd"] == money["held_nanousd"] - cost
    assert (story["tenant"], story["key"], story["http_status"], story["detail"]) == ("acme", "test", 200, None)

    # Once the first one's breaker is open it is passed over, which is no attempt.
    while admin(gw, "/api/monitoring/circuit-breakers/first").json[0]["state"] != "OPEN":
        assert gw.chat(max_tokens=100).status == 200
    passed = story_of(gw, gw.chat(max_tokens=100).headers["x-request-id"])["story"]
    assert [a["provider"] for a in passed["attempts"]] == ["second"]
    assert passed["detail"] == "passed over: first/m (OPEN)"


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_what_explain_says_of_an_account_is_what_decides(stage, store):
    sim = stage.simulator()
    gw = two_providers(stage, sim, budget="0.006", **({"database": stage.postgres().url()} if store == "postgres" else {}))
    spent = 0
    while (done := gw.chat(max_tokens=100)).status == 200:
        usage = done.json["usage"]
        spent += usage["prompt_tokens"] * 1000 + usage["completion_tokens"] * 10000
    assert done.status == 402
    listed = next(b for b in admin(gw, "/api/admin/budgets").json["budgets"] if b["account"] == "tenant:acme")

    def read():
        books = explain(gw, "acme")["books"]
        return books if books["ledger_nanousd"] == spent else None

    books = eventually(read, 20 * SLOWNESS, what="the ledger has it")
    assert books["counter_nanousd"] == listed["spent_nanousd"] == spent and books["drift_nanousd"] == 0
    assert (books["held_nanousd"], books["counter_source"], books["ledger_store"]) == (0, "local", store)
    assert [(k["key"], k["cost_nanousd"], k["share"]) for k in books["keys"]] == [("test", spent, 1.0)]
    assert books["forecast"] == "unknown", "of a month, a few seconds say nothing"
    assert story_of(gw, done.headers["x-request-id"])["story"]["error"] == "budget_exceeded"
    why = explain(gw, "acme")
    assert why["kind"] == "account" and why["account"] == "tenant:acme"
    assert [(c["scope"], c["kind"], c["source"]) for c in why["checks"]] == [("tenant:acme", "requests", "local"), ("tenant:acme", "budget", "local")]
    assert why["last_refusal"]["request"] == done.headers["x-request-id"]
    assert {**done.json["error"]["limit"], "source": "local"} == why["last_refusal"]["check"]
    assert explain(gw, "acme/test")["checks"] == why["checks"], "the key has no limits of its own"
    words = "\n".join(terminal(gw, "budgets", "explain", "acme"))
    for part in ("limit $0.006, warn 80/95 %, at limit: block", "enforced counter", "local (this number decides)", f"{store}, through ",
                 "held for open requests", "prices             /", "drift              $0.00", "keys               test 100 %", f"last refusal       {done.headers['x-request-id']} (budget)"):
        assert part in words, words
    explain(gw, "nobody", 404)
    explain(gw, "01a1fe83-adec-71f5-9c60-637c63abee33", 404)


def test_what_explain_says_of_a_provider_is_what_its_pages_say(stage):
    sim = stage.simulator()
    sim.control.profile("bad", faults={"500": 1.0})
    gw = two_providers(stage, sim, breaker=BREAKER)
    for _ in range(3):
        assert gw.chat(max_tokens=10).status == 200
    why = explain(gw, "first/m")
    assert (why["kind"], why["provider"], why["model"], why["enabled"]) == ("provider", "first", "m", True)
    (row,) = why["breakers"]
    assert row["state"] == "OPEN" and row["history"][0]["to"] == "OPEN"
    assert why["breakers"] == admin(gw, "/api/monitoring/circuit-breakers/first").json
    assert why["health"]["provider"] == "first" and why["queue"]["in_flight"] == 0
    assert why["aliases"] == [{"alias": "chat", "place": 1, "of": 2, "model": "m"}]
    assert explain(gw, "first/other")["breakers"] == []
    assert explain(gw, "provider:second")["provider"] == "second"
    shown = "\n".join(terminal(gw, "explain", "first/m"))
    for part in ("first/m, enabled", "in flight          0, no limit", "aliases            chat (1 of 2)", "OPEN", "3 failures in a row: HTTP 500"):
        assert part in shown, shown
    history = terminal(gw, "breakers", "list", "--history")
    assert history[0].split() == ["WHEN", "PROVIDER/MODEL", "FROM", "TO", "CAUSE"] and "first/m         CLOSED  OPEN" in history[1]


def test_a_story_in_words_even_while_the_history_is_behind(stage):
    sim = stage.simulator()
    sim.control.profile("bad", faults={"500": 1.0})
    gw = two_providers(stage, sim, budget="100")
    done = gw.chat(max_tokens=100)
    lines = terminal(gw, "explain", done.headers["x-request-id"])
    shown = "\n".join(lines)
    assert lines[0].startswith(f"request {done.headers['x-request-id']}  20"), shown
    assert lines[1] == "  acme/test asked for chat" and "outcome            success, HTTP 200, by second/m" in shown
    rows = [line.split() for line in lines[lines.index("") + 1:]]
    assert rows[0] == ["#", "PROVIDER/MODEL", "STATUS", "HTTP", "ERROR", "BEGAN", "TOOK", "COST"]
    assert [r[1:5] for r in rows[1:]] == [["first/m", "error", "500", "upstream_error"], ["second/m", "success", "200", "-"]]
    assert ctl(gw, "explain", "01a1fe83-adec-71f5-9c60-637c63abee33", code=5) == ""


def test_budgets_are_listed_by_use_and_reconciled_with_the_ledger(stage):
    sim = stage.simulator()
    gw = two_providers(stage, sim, budget="0.01")
    for _ in range(3):
        assert gw.chat(max_tokens=100).status == 200
    assert admin(gw, "/api/admin/budgets/global", "PUT", {"limit_usd": 1000, "period": "total"}).status == 200
    spent = eventually(lambda: (b := explain(gw, "acme")["books"])["drift_nanousd"] == 0 and b, 20 * SLOWNESS, what="the ledger has it")["counter_nanousd"]
    table = terminal(gw, "budgets", "--all")
    assert table[0].split() == ["ACCOUNT", "PERIOD", "SPENT", "LIMIT", "USED", "FORECAST", "RESETS"]
    assert [line.split()[0] for line in table[1:3]] == ["acme", "global"], table
    ratio = spent / 1e7
    assert f"{ratio * 100:3.0f}%  " + "█" * int(ratio * 10 + 0.5) + "░" * (10 - int(ratio * 10 + 0.5)) in table[1], table
    assert terminal(gw, "budgets", "--tenant", "acme")[-1] == "1 account."
    assert [b["account"] for b in data(gw, "budgets", "--over", "0", "--tenant", "acme")] == ["tenant:acme"]
    assert data(gw, "b", "--over", "1000") == []
    assert ctl(gw, "budgets", "--over", "x", code=2) == "" and ctl(gw, "budgets", "--forecast", "best", code=2) == ""
    assert "FORECAST" not in terminal(gw, "budgets", "--forecast", "none")[0]
    assert "warn at 80/95%; at limit: block" in terminal(gw, "budgets", "show", "acme")[2]

    assert ctl(gw, "budgets", "reconcile").startswith("0 of ")
    assert ctl(gw, "budgets", "reconcile", "--apply", code=7) == "", "it asks, and nobody is there to answer"
    assert "would call POST /api/admin/reconcile" in ctl(gw, "budgets", "reconcile", "--apply", "--dry-run")
    gw.stop()
    db = sqlite3.connect(gw.state_dir / "history.db")
    with db:
        db.execute("UPDATE budget_windows SET posted_nano = posted_nano + 7 WHERE account = 'tenant:acme'")
    db.close()
    gw.start()
    different = json.loads(ctl(gw, "budgets", "reconcile", "-o", "json"))["data"]["differences"]
    assert [(d["other"] - d["ledger"], d["where"].split()[0]) for d in different] == [(7, "tenant:acme")]
    assert "differed; the counters follow the ledger now" in ctl(gw, "budgets", "reconcile", "--apply", "--yes", "--reason", "drill")
    (told,) = [e for e in events(gw, kind="budget") if e["subject"] == "budgets"]
    assert told["text"] == "1 of them were made to follow the ledger by 'socket': drill"
    eventually(lambda: explain(gw, "acme")["books"]["counter_nanousd"] == spent, 20 * SLOWNESS, what="the counter follows")


def test_tenants_keys_and_limits_are_looked_at_from_all_sides(stage):
    sim = stage.simulator()
    gw = two_providers(stage, sim, rpm=2)
    made = json.loads(ctl(gw, "keys", "create", "acme/web", "-o", "json"))["data"]["key"]
    tree = terminal(gw, "tenants", "--tree")
    assert [line.split() for line in tree] == [["acme", "pro", "enabled"], ["├─", "test", "-", "active"], ["└─", "web", made[:8], "active"]] or \
        [line.split() for line in tree] == [["acme", "pro", "enabled"], ["├─", "web", made[:8], "active"], ["└─", "test", "-", "active"]], tree
    assert {k["id"] for k in data(gw, "tenants", "--tree")[0]["keys"]} == {"test", "web"}
    shown = json.dumps(data(gw, "keys", "show", "acme/web"))
    assert made[:8] in shown and made[:9] not in shown
    ctl(gw, "keys", "show", "acme/nobody", code=5)
    assert data(gw, "limits", "hits") == []
    assert admin(gw, "/api/admin/tenants/acme").json["rpm"] == 2
    assert 429 in [gw.chat(max_tokens=1).status for _ in range(4)]
    assert [(h["scope"], h["kind"]) for h in data(gw, "limits", "hits")] == [("tenant:acme", "requests")]
