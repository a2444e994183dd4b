# SPDX-License-Identifier: Apache-2.0
"""Tenants, keys, plans and budgets that are made while the gateway runs: used at once, kept over a restart, refused everywhere
within seconds when revoked; known without the database; and every change on record."""

import hashlib
import json
import signal
import sqlite3
import threading
import time

import pytest

from support.gateway import KEY, http, model, provider, run, sha256
from support.process import SLOWNESS
from support.wait import eventually

WITHIN_S = 5.0  # a revocation is on every node


def admin(gateway, method, path, body=None, status=200):
    """One call of the admin API; its JSON."""
    auth = {"authorization": "Bearer " + gateway.config["admin"]["token"]}
    if body is None and method in ("POST", "PUT", "PATCH"):
        body = {}
    answer = http(gateway.admin_url + path, method, body, auth)
    assert answer.status == status, answer
    return answer.json


@pytest.fixture
def upstream(stage):
    return stage.simulator()


def start(stage, upstream, **more):
    return stage.gateway([provider("p", upstream.base_url("openai"))], [model("chat", "p/m")], **more)


def again(gateway, **over):
    """The same state directory, stopped and started."""
    gateway.stop()
    return gateway.start()


def new_key(gateway, tenant="new", key="k", **more):
    return admin(gateway, "POST", "/api/admin/keys", {"tenant": tenant, "id": key, **more}, 201)["key"]


def status_of(gateway, key):
    return gateway.get("/v1/models", key).status


def canonical(row):
    return json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def verify_chain(rows):
    """Of (at, actor, action, subject, detail, hash), the oldest first; the hash of the last."""
    last = bytes(32)
    for at, actor, action, subject, detail, found in rows:
        detail = json.loads(detail) if isinstance(detail, str) else detail
        row = {"at": at, "actor": actor, "action": action, "subject": subject, "detail": detail}
        last = hashlib.sha256(last + canonical(row)).digest()
        assert last == bytes(found), row
    return last


AUDIT = "SELECT at, actor, action, subject, detail, hash FROM audit ORDER BY id"


def audit_of(gateway):
    with sqlite3.connect(f"file:{gateway.state_dir}/history.db?mode=ro", uri=True) as db:
        return db.execute(AUDIT).fetchall()


def test_a_tenant_and_its_key_serve_at_once_and_after_a_restart(stage, upstream):
    gateway = start(stage, upstream)
    admin(gateway, "PUT", "/api/admin/plans/gold", {"price_usd": 19.99, "rpm": 100, "trial": True})
    made = admin(gateway, "POST", "/api/admin/tenants", {"id": "new", "plan": "gold", "tpm": 5000}, 201)
    assert (made["plan"], made["rpm"], made["tpm"], made["source"]) == ("gold", 100, 5000, "database")
    key = new_key(gateway)
    assert gateway.chat(key=key).status == 200
    assert gateway.logged(1)[-1]["tenant"] == "new"
    gateway = again(gateway)
    assert gateway.chat(key=key).status == 200
    assert status_of(gateway, KEY) == 200
    listed = {t["id"]: t for t in admin(gateway, "GET", "/api/admin/tenants")["tenants"]}
    assert listed["acme"]["source"] == "file" and listed["new"]["keys"] == 1


def test_only_the_hash_of_a_key_is_kept(stage, upstream):
    gateway = start(stage, upstream)
    key = new_key(gateway, "acme")
    assert status_of(gateway, key) == 200
    shown = admin(gateway, "GET", "/api/admin/keys?tenant=acme")["keys"]
    assert [k["prefix"] for k in shown if k["id"] == "k"] == [key[:8]]
    gateway.stop()
    for path in gateway.state_dir.rglob("*"):
        if path.is_file():
            assert key.encode() not in path.read_bytes(), path
            assert path.stat().st_mode & 0o077 == 0, path
    assert key not in gateway.stderr()


def test_a_key_is_disabled_expired_rotated_and_revoked(stage, upstream):
    gateway = start(stage, upstream)
    key = new_key(gateway, "acme")
    admin(gateway, "PATCH", "/api/admin/keys/acme/k", {"enabled": False})
    assert gateway.get("/v1/models", key).json["error"]["code"] == "key_disabled"
    admin(gateway, "PATCH", "/api/admin/keys/acme/k", {"enabled": True})
    assert status_of(gateway, key) == 200
    admin(gateway, "PATCH", "/api/admin/keys/acme/k", {"expires_at": "2020-01-01T00:00:00Z"})
    assert "expired" in gateway.get("/v1/models", key).json["error"]["message"]
    admin(gateway, "PATCH", "/api/admin/keys/acme/k", {"expires_at": None})
    second = admin(gateway, "POST", "/api/admin/keys/acme/k/rotate", {"grace_seconds": 3600})["key"]
    assert status_of(gateway, key) == status_of(gateway, second) == 200
    third = admin(gateway, "POST", "/api/admin/keys/acme/k/rotate")["key"]
    assert (status_of(gateway, second), status_of(gateway, third)) == (403, 200)
    admin(gateway, "DELETE", "/api/admin/keys/acme/k")  # with what was rotated out and is in its grace
    assert [status_of(gateway, k) for k in (key, second, third)] == [403, 403, 403]
    admin(gateway, "DELETE", "/api/admin/keys/acme/k", status=404)
    assert status_of(gateway, new_key(gateway, "acme")) == 200  # the name is free again, the old texts are not
    assert status_of(gateway, third) == 403
    assert status_of(gateway, KEY) == 200


def test_a_suspended_tenant_is_refused_and_a_deleted_one_takes_its_keys_along(stage, upstream):
    gateway = start(stage, upstream)
    admin(gateway, "POST", "/api/admin/tenants", {"id": "new"}, 201)
    key = new_key(gateway)
    admin(gateway, "PATCH", "/api/admin/tenants/new", {"enabled": False, "reason": "unpaid"})
    assert status_of(gateway, key) == 403
    admin(gateway, "PATCH", "/api/admin/tenants/new", {"enabled": True})
    assert status_of(gateway, key) == 200
    admin(gateway, "DELETE", "/api/admin/tenants/new?reason=gone")
    assert status_of(gateway, key) == 401
    admin(gateway, "GET", "/api/admin/tenants/new", status=404)
    admin(gateway, "POST", "/api/admin/tenants", {"id": "new"}, 201)
    assert status_of(gateway, key) == 403  # what was revoked stays so in the new one


def test_what_the_file_defines_can_only_be_refused_here(stage, upstream):
    gateway = start(stage, upstream)
    admin(gateway, "POST", "/api/admin/tenants", {"id": "acme"}, 409)
    admin(gateway, "PATCH", "/api/admin/tenants/acme", {"plan": "default"}, 409)
    admin(gateway, "DELETE", "/api/admin/tenants/acme", status=409)
    admin(gateway, "POST", "/api/admin/keys", {"tenant": "acme", "id": "test"}, 409)
    admin(gateway, "POST", "/api/admin/keys/acme/test/rotate", status=409)
    admin(gateway, "PATCH", "/api/admin/tenants/acme", {"enabled": False})
    assert status_of(gateway, KEY) == 403
    admin(gateway, "PATCH", "/api/admin/tenants/acme", {"enabled": True})
    assert status_of(gateway, KEY) == 200
    admin(gateway, "DELETE", "/api/admin/keys/acme/test")
    assert status_of(gateway, KEY) == 403
    gateway.reload()
    eventually(lambda: gateway.metric("gatewayd_config_version") == 2, what="the reload")
    assert status_of(gateway, KEY) == 403
    assert status_of(again(gateway), KEY) == 403


def test_a_broken_file_does_not_hold_up_a_revocation(stage, upstream):
    gateway = start(stage, upstream)
    key = new_key(gateway, "acme")
    gateway.write_config("tenants: [broken")
    admin(gateway, "POST", "/api/admin/reload", status=409)
    assert status_of(gateway, key) == 200
    admin(gateway, "DELETE", "/api/admin/keys/acme/k")
    assert (status_of(gateway, key), status_of(gateway, KEY)) == (403, 200)


def test_plans_give_limits_and_budgets_yield_to_the_file(stage, upstream):
    tenants = [{"id": "acme", "budget": {"usd": 5}, "keys": [{"id": "test", "sha256": sha256(KEY)}]}]
    gateway = start(stage, upstream, tenants=tenants)
    admin(gateway, "PUT", "/api/admin/plans/gold", {"rpm": 7, "budget_usd": "12.5", "period": "day"})
    admin(gateway, "POST", "/api/admin/tenants", {"id": "new", "plan": "gold", "rpm": 9}, 201)
    t = admin(gateway, "PATCH", "/api/admin/tenants/new", {"rpm": None})
    assert (t["rpm"], t["budget"]["limit_nanousd"], t["budget"]["period"]) == (7, 12_500_000_000, "day")
    admin(gateway, "DELETE", "/api/admin/plans/gold", status=409)
    admin(gateway, "POST", "/api/admin/tenants", {"id": "other", "plan": "missing"}, 409)
    admin(gateway, "PUT", "/api/admin/budgets/tenant:acme", {"limit_usd": 1}, 409)
    set_to = admin(gateway, "PUT", "/api/admin/budgets/tenant:new", {"limit_usd": 0.1, "warn": 50, "at_limit": "warn"})
    assert (set_to["limit_nanousd"], set_to["warn"], set_to["period"]) == (100_000_000, 50, "month")
    assert admin(gateway, "GET", "/api/admin/tenants/new")["budget"]["limit_nanousd"] == 100_000_000
    admin(gateway, "PUT", "/api/admin/budgets/key:new/k", {"limit_usd": 1})
    found = {b["account"]: b["source"] for b in admin(gateway, "GET", "/api/admin/budgets")["budgets"]}
    assert found == {"tenant:acme": "file", "tenant:new": "database", "key:new/k": "database"}
    admin(gateway, "DELETE", "/api/admin/budgets/tenant:new")
    admin(gateway, "DELETE", "/api/admin/budgets/tenant:new", status=404)
    admin(gateway, "PUT", "/api/admin/budgets/nobody", {"limit_usd": 1}, 404)


NASTY = ["'; DROP TABLE tenants; --", "a b", "../../etc/passwd", "\x1b[2J", "a\nb", "a/b", "%", "", "~", "-x", "é", "x" * 65]


def test_injection_in_every_field_is_an_error_that_names_it(stage, upstream):
    gateway = start(stage, upstream)
    calls = [
        ("POST", "/api/admin/tenants", {"id": "ok"}, ["id", "plan"]),
        ("POST", "/api/admin/keys", {"tenant": "acme", "id": "ok"}, ["tenant", "id", "expires_at"]),
        ("PATCH", "/api/admin/tenants/acme", {"enabled": True}, ["enabled", "plan", "models", "rpm"]),
        ("PUT", "/api/admin/plans/ok", {}, ["price_usd", "trial", "rpm", "period", "budget_usd", "priority", "max_priority"]),
        ("PUT", "/api/admin/budgets/global", {"limit_usd": 1}, ["limit_usd", "period", "warn", "at_limit", "when_store_down"]),
    ]
    for method, path, body, fields in calls:
        for field in fields:
            for text in NASTY:
                answer = admin(gateway, method, path, {**body, field: text}, 400)
                assert f"'{field}'" in answer["error"]["message"]
        answer = admin(gateway, method, path, {**body, "bogus": 1}, 400)
        assert "'bogus'" in answer["error"]["message"]
    assert audit_of(gateway) == []  # nothing was changed
    odd = "Robert'); DROP TABLE api_keys;-- \" \\ é 名"
    made = admin(gateway, "POST", "/api/admin/tenants", {"id": "odd", "name": odd, "reason": odd, "models": [odd, "chat"]}, 201)
    assert (made["name"], made["models"]) == (odd, [odd, "chat"])
    assert admin(gateway, "GET", "/api/admin/tenants/odd")["name"] == odd
    verify_chain(audit_of(gateway))
    for path in ("/api/admin/tenants/%27%20OR%201=1", "/api/admin/keys/acme/%25", "/api/admin/budgets/tenant:%00"):
        assert http(gateway.admin_url + path, "DELETE", None, {
            "authorization": "Bearer " + gateway.config["admin"]["token"]}).status in (400, 404)


def test_every_change_is_on_record_in_one_chain(stage, upstream):
    gateway = start(stage, upstream)
    admin(gateway, "POST", "/api/admin/tenants", {"id": "new", "reason": "signed up"}, 201)
    admin(gateway, "PUT", "/api/admin/plans/gold", {"price_usd": 1.5, "trial": True})
    key = new_key(gateway)
    admin(gateway, "PATCH", "/api/admin/tenants/new", {"plan": "gold", "enabled": False})
    admin(gateway, "PUT", "/api/admin/budgets/global", {"limit_usd": 1.25})
    admin(gateway, "DELETE", "/api/admin/keys/new/k")
    admin(gateway, "POST", "/api/admin/reload", {"reason": "new keys"})
    admin(gateway, "POST", "/api/admin/reconcile", {"repair": True, "apply": True})
    admin(gateway, "POST", "/api/admin/reconcile", {"repair": True})
    gateway.signal(signal.SIGHUP)
    eventually(lambda: gateway.metric("gatewayd_config_version") == 3)
    gateway = again(gateway)
    admin(gateway, "DELETE", "/api/admin/tenants/new")
    rows = audit_of(gateway)
    done = [r for r in rows if r[2] in ("config.reload", "books.repair")]
    assert sorted((r[1], r[2]) for r in done) == [("signal", "config.reload"), ("token", "books.repair"), ("token", "config.reload")]
    assert any(json.loads(r[4]).get("reason") == "new keys" for r in done)
    verify_chain(rows)
    rows = [r for r in rows if r not in done]
    assert [r[2] for r in rows] == ["tenant.create", "plan.put", "key.create", "tenant.update", "budget.put", "key.revoke",
                                    "tenant.delete"]
    assert {r[1] for r in rows} == {"token"}
    assert json.loads(rows[0][4])["reason"] == "signed up"
    assert not any(key in str(r) for r in rows)
    with pytest.raises(AssertionError):
        verify_chain(rows)
    with sqlite3.connect(f"file:{gateway.state_dir}/history.db?mode=ro", uri=True) as db:
        events = db.execute("SELECT tenant, kind, detail FROM tenant_events WHERE kind <> 'first_answer' ORDER BY id").fetchall()
        assert db.execute("SELECT value FROM settings WHERE name = 'keyver'").fetchone() == (str(len(rows)),)
    assert events == [("new", "created", '{"plan":"default"}'), ("new", "plan_changed", '{"from":"default","to":"gold"}'),
                      ("new", "suspended", "{}"), ("new", "deleted", "{}")]


TRIED = [
    ("POST", "/api/admin/tenants", {"id": "other", "plan": "gold"}, None, {"id": "other", "rpm": 7}),
    ("PATCH", "/api/admin/tenants/new", {"rpm": 9, "enabled": False}, {"rpm": 5, "enabled": True}, {"rpm": 9, "enabled": False}),
    ("DELETE", "/api/admin/tenants/new", None, {"keys": 1}, {"status": "deleted"}),
    ("POST", "/api/admin/keys", {"tenant": "new", "id": "second"}, None, {"key": None}),
    ("PATCH", "/api/admin/keys/new/k", {"enabled": False}, {"state": "active"}, {"state": "disabled"}),
    ("POST", "/api/admin/keys/new/k/rotate", {"grace_seconds": 60}, {"state": "active"}, {"key": None}),
    ("DELETE", "/api/admin/keys/new/k", None, {"state": "active"}, {"status": "revoked"}),
    ("PUT", "/api/admin/plans/gold", {"rpm": 8}, {"rpm": 7, "price_usd": 2.5}, {"rpm": 8, "price_usd": 0}),
    ("DELETE", "/api/admin/plans/gold", None, {"rpm": 7}, {"status": "deleted"}),
    ("PUT", "/api/admin/budgets/tenant:new", {"limit_usd": 0.5}, {"limit_usd": 1}, {"limit_usd": 0.5, "limit_now_usd": 0.5, "verdict": "ok"}),
    ("POST", "/api/admin/budgets/tenant:new", {"action": "add", "amount_usd": 2, "until": "2100-01-01T00:00:00Z"}, None, {"limit_now_usd": 3}),
    ("DELETE", "/api/admin/budgets/tenant:new", None, {"limit_usd": 1}, {"status": "deleted"}),
    ("PATCH", "/api/admin/providers/p", {"state": "disabled"}, {"state": "enabled"}, {"state": "disabled"}),
    ("POST", "/api/admin/breakers/p/m", {"action": "open", "for": "5m"}, {"state": "CLOSED"}, {"state": "OPEN"}),
    ("POST", "/api/admin/events", {"id": "e1", "tenant": "new", "kind": "payment", "amount_usd": 3}, None, {"status": "recorded"}),
    ("POST", "/api/admin/adjustments", {"tenant": "new", "provider": "p", "model": "m", "kind": "charge", "amount_usd": 1, "reason": "x"}, None, {"id": None}),
    ("POST", "/metrics/reset", {}, None, {"reset": "windows"}),
]


def test_a_dry_run_says_what_would_be_and_changes_nothing(stage, upstream):
    gateway = start(stage, upstream)
    admin(gateway, "PUT", "/api/admin/plans/gold", {"rpm": 7, "price_usd": 2.5})
    admin(gateway, "POST", "/api/admin/tenants", {"id": "new", "rpm": 5}, 201)
    key = new_key(gateway)
    admin(gateway, "PUT", "/api/admin/budgets/tenant:new", {"limit_usd": 1})
    assert gateway.chat().status == 200

    def everything():
        lists = [admin(gateway, "GET", f"/api/admin/{p}") for p in ("tenants", "keys", "plans", "budgets")]
        lists.append(admin(gateway, "GET", "/api/admin/events?kind=config,key,provider,breaker")["events"])
        states = [p["state"] for p in admin(gateway, "GET", "/api/admin/providers")["providers"]]
        return lists, states, admin(gateway, "GET", "/api/monitoring/circuit-breakers"), audit_of(gateway), gateway.metric("trial_signups_total")

    before = everything()
    for method, path, body, was, would in TRIED:
        answer = admin(gateway, method, path + "?dry_run=true", body)
        assert answer["dry_run"] is True and {k: (answer["was"] or {}).get(k) for k in was or {}} == (was or {}), (path, answer)
        assert {k: answer[k] for k in would} == would, (path, answer)
    assert everything() == before
    assert status_of(gateway, key) == 200
    assert "does not exist" in admin(gateway, "DELETE", "/api/admin/tenants/nobody?dry_run=true", status=404)["error"]["message"]
    for wrong, why in (({"from": "2000-01-01T00", "to": "2099-12-31T23"}, "366 days"), ({"to": "2026-01-01T00"}, "needs 'from'"),
                       ({"from": "2026-01-02T00", "to": "2026-01-01T00"}, "is after"), ({"from": "2099-01-01T00"}, "in the future")):
        assert why in admin(gateway, "POST", "/api/admin/aggregate", wrong, 400)["error"]["message"]
    more = {"action": "add", "amount_usd": 1, "until": "2100-01-01T00:00:00Z"}
    assert "has no budget" in admin(gateway, "POST", "/api/admin/budgets/tenant:acme", more, 404)["error"]["message"]
    env = {"GATEWAYD_URL": f"unix:{gateway.ready['admin_socket']}"}
    done = run(["aigwctl", "tenants", "update", "new", "--rpm", "9", "--dry-run=server"], env=env)
    assert done.returncode == 0 and "nothing was changed" in done.stdout and "\n  rpm: 5 → 9\n" in done.stdout, done
    assert run(["aigwctl", "tenants", "delete", "nobody", "--dry-run=server", "--no-input"], env=env).returncode == 5
    assert "takes client or server" in run(["aigwctl", "tenants", "delete", "new", "--dry-run=yes"], env=env).stderr
    assert audit_of(gateway) == before[3]


def test_an_operator_makes_and_revokes_keys_at_the_command_line(stage, upstream, tmp_path):
    gateway = start(stage, upstream)
    env = {"GATEWAYD_URL": f"unix:{gateway.ready['admin_socket']}"}

    def ctl(*words, code=0):
        done = run(["aigwctl", *words], env=env, directory=tmp_path)
        assert done.returncode == code, done
        return done

    assert "plan: - → default" in ctl("tenants", "create", "new", "--rpm", "5", "--models", "chat,gpt*").stdout
    assert ctl("tenants", "update", "new", "--rpm", "plan").stdout == "rpm: 5 → 0\n"
    ctl("tenants", "create", "new", code=6)
    key = ctl("keys", "create", "new/k").stdout.strip()
    assert status_of(gateway, key) == 200
    ctl("keys", "create", "new/f", "--out-file", "f.key")
    path = tmp_path / "f.key"
    assert path.stat().st_mode & 0o777 == 0o600 and status_of(gateway, path.read_text().strip()) == 200
    ctl("keys", "create", "new/g", "--out-file", "f.key", code=2)  # it does not replace a file, and makes no key then
    listed = json.loads(ctl("keys", "list", "new", "-o", "json").stdout)["data"]
    assert {(k["id"], k["state"]) for k in listed} == {("k", "active"), ("f", "active")}
    assert key not in ctl("keys", "list").stdout
    ctl("keys", "revoke", "new/k", code=7)  # nobody is there to be asked
    assert "DELETE /api/admin/keys/new/k" in ctl("keys", "revoke", "new/k", "--dry-run").stdout
    assert status_of(gateway, key) == 200
    ctl("keys", "revoke", "new/k", "--yes", "--reason", "lost & found")
    assert status_of(gateway, key) == 403
    ctl("tenants", "suspend", "acme", "-y")
    assert status_of(gateway, KEY) == 403
    ctl("tenants", "resume", "acme")
    ctl("tenants", "delete", "new", "--yes", code=7)  # what cannot be undone needs the name again
    ctl("tenants", "delete", "new", "--confirm", "acme", code=7)
    ctl("tenants", "delete", "new", "--confirm", "new", "--reason", "gone")
    assert status_of(gateway, path.read_text().strip()) == 401
    rows = audit_of(gateway)
    verify_chain(rows)
    assert {r[1] for r in rows} == {"socket"} and json.loads(rows[-1][4])["reason"] == "gone"
    assert "lost & found" in [json.loads(r[4]).get("reason") for r in rows]


# ---- several nodes, and a database that is down


def fleet(stage, upstream, database, redis=""):
    return [start(stage, upstream, database=database, redis=redis) for _ in range(2)]


@pytest.mark.parametrize("with_redis", [True, False])
def test_a_revocation_is_on_every_node_within_five_seconds(stage, upstream, with_redis, record_property):
    postgres = stage.postgres()
    redis = stage.redis() if with_redis else None
    one, two = fleet(stage, upstream, postgres.url(), redis.url() if redis else "")
    admin(one, "POST", "/api/admin/tenants", {"id": "new"}, 201)
    key = new_key(one)
    assert status_of(one, key) == 200
    eventually(lambda: status_of(two, key) == 200, WITHIN_S + 5, what="the key is known to the other node")
    began = time.monotonic()
    admin(two, "DELETE", "/api/admin/keys/new/k")
    assert status_of(two, key) == 403
    eventually(lambda: status_of(one, key) == 403, WITHIN_S + 5, what="the key is refused by the other node")
    took = time.monotonic() - began
    record_property("figure", f"refused by the other node after {took:.2f} s {'with' if redis else 'without'} Redis")
    assert took < WITHIN_S * SLOWNESS
    if redis:
        assert redis.call("HGET", "{gw}:keyver", "version") == b"3"
        assert redis.call("TTL", "{gw}:keyver") > 0
    verify_chain(postgres.query(AUDIT))


def test_two_nodes_that_change_at_once_make_one_chain(stage, upstream):
    postgres = stage.postgres()
    nodes = fleet(stage, upstream, postgres.url())

    def work(node, name):
        for i in range(12):
            admin(node, "POST", "/api/admin/tenants", {"id": f"{name}{i}"}, 201)

    threads = [threading.Thread(target=work, args=(n, "ab"[i])) for i, n in enumerate(nodes)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    rows = postgres.query(AUDIT)
    assert len(rows) == 24
    verify_chain(rows)
    assert postgres.query("SELECT value FROM settings WHERE name = 'keyver'") == [("24",)]
    eventually(lambda: all(len(admin(n, "GET", "/api/admin/tenants")["tenants"]) == 25 for n in nodes), what="all tenants")


def test_without_the_database_known_keys_work_and_others_are_told_to_come_again(stage, upstream):
    postgres = stage.postgres()
    gateway = start(stage, upstream, database=postgres.url())
    admin(gateway, "POST", "/api/admin/tenants", {"id": "new"}, 201)
    key, gone = new_key(gateway), new_key(gateway, key="gone")
    admin(gateway, "DELETE", "/api/admin/keys/new/gone")
    gateway.stop()
    postgres.kill()
    gateway.start(30)
    assert status_of(gateway, KEY) == status_of(gateway, key) == 200
    assert gateway.chat(key=key).status == 200
    assert status_of(gateway, gone) == 403
    answer = gateway.get("/v1/models", "gw-nobody-knows-this-one")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "directory" in answer.json["error"]["message"]
    assert admin(gateway, "GET", "/api/admin/tenants")["complete"] is False
    admin(gateway, "POST", "/api/admin/tenants", {"id": "later"}, 503)
    postgres.start()
    eventually(lambda: status_of(gateway, "gw-nobody-knows-this-one") == 401, 20, what="the database has answered")
    assert status_of(gateway, key) == 200
    postgres.kill()  # later it is only missed, and what was known stays known
    eventually(lambda: "does not answer" in gateway.stderr(), 20, what="the loss is noticed")
    assert (status_of(gateway, key), status_of(gateway, "gw-nobody-knows-this-one")) == (200, 401)


def test_a_database_that_says_nothing_does_not_keep_a_gateway_from_serving(stage, upstream):
    postgres = stage.postgres()
    gateway = start(stage, upstream, database=postgres.url())
    admin(gateway, "POST", "/api/admin/tenants", {"id": "new"}, 201)
    key = new_key(gateway)
    gateway.stop()
    postgres.pause()
    gateway.start(60)
    assert gateway.chat(key=key).status == gateway.chat().status == 200
    assert status_of(gateway, "gw-nobody-knows-this-one") == 503
    postgres.resume()
    eventually(lambda: status_of(gateway, "gw-nobody-knows-this-one") == 401, 30, what="the database has answered")


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "key"])
def test_a_snapshot_that_was_touched_is_not_believed(stage, upstream, harm):
    postgres = stage.postgres()
    gateway = start(stage, upstream, database=postgres.url())
    admin(gateway, "POST", "/api/admin/tenants", {"id": "new"}, 201)
    key = new_key(gateway)
    gateway.stop()
    postgres.kill()
    path = gateway.state_dir / ("snapshot.key" if harm == "key" else "directory.snapshot")
    if harm == "remove":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data if harm != "cut" else data[:-40])
    gateway.start(30)
    assert (status_of(gateway, KEY), status_of(gateway, key)) == (200, 503)
    assert "the snapshot is not used" in gateway.stderr()
    postgres.start()
    eventually(lambda: status_of(gateway, key) == 200, 20, what="the database has answered")
