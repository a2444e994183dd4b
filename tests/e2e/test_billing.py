# SPDX-License-Identifier: Apache-2.0
"""What is billed, case by case, as docs/limits.md has it: the counter, the ledger and the answer say the same."""

import json
import sqlite3
import threading

import pytest

from support.gateway import KEY, http, model, provider, sha256
from support.process import SLOWNESS
from support.rawhttp import RawClient, request
from support.upstream import STALL, as_chunk, chat_completion, chunk, error_answer, event, json_answer, sse_head
from support.wait import eventually

PRICES = {"prices": [
    {"provider": "one", "model": "m", "input_usd_per_mtok": "10", "cached_usd_per_mtok": "1", "output_usd_per_mtok": "100"},
    {"provider": "two", "model": "m", "input_usd_per_mtok": "20", "output_usd_per_mtok": "200"}]}


def answer(usage, text="Hello there."):
    body = chat_completion(text)
    if usage is None:
        del body["usage"]
    else:
        body["usage"] = usage
    return json_answer(body)


class Shop:
    def __init__(self, stage, one=None, two=None, retries=1, **more):
        prices = stage.directory / "prices.json"
        prices.write_text(json.dumps(PRICES))
        usage = {"prompt_tokens": 1000, "completion_tokens": 100}
        self.ups = [stage.upstream(s or (lambda r: answer(usage))) for s in (one, two)]
        tenant = {"id": "acme", "plan": "pro", "budget": {"usd": 100, "period": "month"},
                  "keys": [{"id": "test", "sha256": sha256(KEY)}]}
        self.gw = stage.gateway(
            [provider("one", self.ups[0].base_url, **more), provider("two", self.ups[1].base_url)],
            [model("chat", "one/m", "two/m", retries=retries)], tenants=[tenant], prices=str(prices))

    def spent(self):
        """The counter when nothing is held any more, in nano-dollars; the ledger says the same."""
        def look():
            b = http(self.gw.admin_url + "/api/admin/budgets/tenant:acme", None, None,
                     {"authorization": "Bearer " + self.gw.config["admin"]["token"]}).json
            return b["held_nanousd"] == 0 and b

        spent = eventually(look, 10 * SLOWNESS)["spent_nanousd"]
        eventually(lambda: sum(c for _, _, c, _ in self.rows("request")) == spent, 20 * SLOWNESS, what="the ledger agrees")
        return spent

    def rows(self, kind):
        db = sqlite3.connect(f"file:{self.gw.state_dir}/history.db?mode=ro", uri=True)
        try:
            return db.execute("SELECT provider, outcome, cost_nano, usage_source FROM ledger WHERE kind = ? ORDER BY provider",
                              (kind,)).fetchall()
        except sqlite3.OperationalError:  # not made yet
            return []
        finally:
            db.close()


def test_cached_tokens_have_their_own_price(stage):
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 600}}
    s = Shop(stage, lambda r: answer(usage))
    yes = s.gw.chat(max_tokens=200)
    assert yes.headers["x-gatewayd-cost-usd"] == "0.014600000"  # 400 at 10, 600 at 1, 100 at 100
    assert s.spent() == 14600000


def test_an_answer_without_usage_is_estimated(stage):
    s = Shop(stage, lambda r: answer(None, "x" * 400))
    assert s.gw.chat(max_tokens=200).status == 200
    body = s.ups[0].requests[0]
    rows = eventually(lambda: s.rows("attempt"), 20 * SLOWNESS)
    assert rows[0][3] == "estimated"
    assert s.spent() == rows[0][2] > 100 * 100_000, "100 tokens of answer and the prompt"
    assert rows[0][2] <= 100 * 100_000 + len(body.body) * 10_000


def test_a_failed_attempt_costs_nothing_and_the_next_provider_its_own_price(stage):
    s = Shop(stage, lambda r: error_answer(500))
    yes = s.gw.chat(max_tokens=200)
    assert yes.headers["x-gatewayd-provider"] == "two" and yes.headers["x-gatewayd-cost-usd"] == "0.040000000"
    assert s.spent() == 40000000
    assert eventually(lambda: len(r := s.rows("attempt")) == 2 and r, 20 * SLOWNESS) == [
        ("one", "error", 0, "none"), ("two", "success", 40000000, "reported")]


@pytest.mark.asan
def test_a_client_that_leaves_pays_for_what_had_come(stage):
    pieces = [as_chunk(event(chunk({"content": "word " * 20})))] * 4
    s = Shop(stage, lambda r: [sse_head(), *pieces, STALL], retries=0)
    body = json.dumps({"model": "chat", "stream": True, "max_tokens": 300, "messages": [{"role": "user", "content": "hi"}]}).encode()
    c = RawClient(s.gw.host_port)
    c.send(request(body=body, key=KEY))
    assert c.read_head().status == 200
    seen = bytes(c.buffer)
    while seen.count(b"word ") < 80:
        seen += c.sock.recv(65536)
    c.close()
    spent = s.spent()
    assert 100 * 100_000 <= spent <= 100 * 100_000 + 100 * 10_000, "400 characters are 100 tokens, and the prompt"
    assert eventually(lambda: s.rows("attempt"), 20 * SLOWNESS)[0][3] == "estimated"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_answer_pays_for_its_prompt(stage, stream):
    s = Shop(stage, [STALL])
    body = json.dumps({"model": "chat", "stream": stream, "max_tokens": 300, "messages": [{"role": "user", "content": "hi" * 1000}]}).encode()
    c = RawClient(s.gw.host_port)
    c.send(request(body=body, key=KEY))
    eventually(lambda: s.ups[0].requests, 10 * SLOWNESS)
    c.close()
    rows = eventually(lambda: s.rows("attempt"), 20 * SLOWNESS)
    assert [r[:2] + r[3:] for r in rows] == [("one", "cancelled", "estimated")]
    assert s.spent() == rows[0][2] == (len(body) + 3) // 4 * 10_000


def test_the_first_requests_of_a_tenant_at_once_are_all_counted(stage):
    s = Shop(stage)
    done = []
    threads = [threading.Thread(target=lambda: done.append(s.gw.chat(max_tokens=200).status)) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert done == [200] * 12 and s.spent() == 12 * 20000000


def test_who_is_not_known_and_what_is_refused_costs_nothing(stage):
    s = Shop(stage)
    assert s.gw.chat(key="sk-aigw-nobody", max_tokens=5).status == 401
    assert s.gw.chat(max_tokens=900_000_000).status == 402
    assert s.gw.chat(max_tokens=200).status == 200
    assert s.spent() == 20000000
    assert not s.ups[0].requests[1:], "one reached the provider"
