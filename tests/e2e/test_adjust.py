# SPDX-License-Identifier: Apache-2.0
"""Corrections: what an operator charges or credits is in every book like a request's cost, and in the audit log."""

import sqlite3

import pytest
from support.gateway import http, model, provider
from support.process import SLOWNESS
from support.wait import eventually


@pytest.fixture
def gw(stage):
    sim = stage.simulator(seed=3)
    return stage.gateway([provider("steady", sim.base_url("steady"))], [model("chat", "steady/m")])


def adjust(gw, **body):
    return http(gw.admin_url + "/api/admin/adjustments", "POST", body,
                {"authorization": "Bearer " + gw.config["admin"]["token"]})


def rows(gw, sql):
    db = sqlite3.connect(f"file:{gw.state_dir}/history.db?mode=ro", uri=True)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


CHARGE = {"tenant": "acme", "key": "test", "provider": "steady", "model": "m", "kind": "charge", "amount_usd": "1.250000001",
          "reason": "invoice 7"}


@pytest.mark.asan
def test_a_charge_and_a_credit_are_booked_once_each(gw):
    first = adjust(gw, **CHARGE)
    assert first.status == 200 and first.json["amount_nanousd"] == 1250000001, first
    second = adjust(gw, **{**CHARGE, "kind": "credit", "amount_usd": 0.25})
    assert second.status == 200 and second.json["amount_nanousd"] == -250000000
    ledger = eventually(lambda: rows(gw, "SELECT cost_nano FROM ledger WHERE kind = 'adjust'") or None, 20 * SLOWNESS)
    eventually(lambda: sum(r[0] for r in rows(gw, "SELECT cost_nano FROM ledger WHERE kind = 'adjust'")) == 1000000001,
               20 * SLOWNESS, what="both in the ledger")
    assert ledger
    assert rows(gw, "SELECT posted_nano, held_nano FROM budget_windows WHERE account = 'tenant:acme'") == [(1000000001, 0)]
    assert [r[0] for r in rows(gw, "SELECT action FROM audit ORDER BY id")] == ["adjust", "adjust"]


@pytest.mark.parametrize(("change", "status", "text"), [
    ({"tenant": "nobody"}, 404, "tenant 'nobody' does not exist"),
    ({"key": "other"}, 404, "tenant 'acme' has no key 'other'"),
    ({"provider": "nowhere"}, 404, "provider 'nowhere' is not configured"),
    ({"amount_usd": -1}, 400, "'amount_usd' must be"),
    ({"kind": "gift"}, 400, "'kind' must be one of"),
    ({"reason": None}, 400, "'reason'"),
    ({"why": "x"}, 400, "'why'"),
])
def test_a_correction_that_makes_no_sense_is_refused(gw, change, status, text):
    answer = adjust(gw, **{**CHARGE, **change})
    assert answer.status == status and text in str(answer.json), answer
    assert rows(gw, "SELECT count(*) FROM audit") == [(0,)]
