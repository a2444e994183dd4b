# SPDX-License-Identifier: Apache-2.0
"""The comparison of books finds one nano-dollar, one token and one request, wherever they are missing."""

import re
import sqlite3
from types import SimpleNamespace

import pytest

from support.books import MEASURES, Books, compare
from support.process import ROOT

HOUR = 1_800_000_000 // 3600 * 3600
SPELLING = {"postgres": {"TIMESTAMP": "timestamptz", "BLOB": "bytea", "JSON": "jsonb", "SERIAL": "bigserial PRIMARY KEY"},
            "sqlite": {"TIMESTAMP": "text", "BLOB": "blob", "JSON": "text", "SERIAL": "integer PRIMARY KEY"}}
LEDGER = """INSERT INTO ledger VALUES ('one', 1, {line}, '{kind}', {minute}, {hour}, 'acme', 'test', 'openai', '{model}', '/v1/chat/completions',
 '{outcome}', '', 'none', 'reported', {count}, 100, 25, 0, 50, 5, 0, 0, {cost}, 0, 7000, 3000, {count})"""


def schema(dialect):
    text = (ROOT / "libshared/store/migrations/0001_books.sql").read_text()
    return re.sub(r"\{\{(\w+)\}\}", lambda m: SPELLING[dialect][m[1]], text)


class Made:
    """Books written by hand: three attempts of two requests, one of which failed over."""

    def __init__(self, stage, dialect):
        self.redis = stage.redis()
        self.postgres = stage.postgres() if dialect == "postgres" else None
        self.state_dir = stage.directory
        self.do(schema(dialect))
        self.row(1, "attempt", "gpt-4o", "success", 2, 1000)
        self.row(2, "attempt", "gpt-4o-mini", "error", 1, 1)
        self.row(3, "request", "gpt-4o", "success", 2, 1000)
        self.row(4, "request", "gpt-4o-mini", "error", 0, 1)
        for model, values in (("gpt-4o", dict(req=2, attempts=2, ok=2, cost_nano=1000, ttfb_n=2)),
                              ("gpt-4o-mini", dict(attempts=1, err=1, cost_nano=1, ttfb_n=1))):
            self.hash(model, tin=100, tcached=25, tout=50, treason=5, lat_us=7000, ttfb_us=3000, **values)
        self.redis.call("HSET", "{gw}:ten:2027-01-15T08", "acme/test cost", 1001)
        self.redis.call("HSET", "{gw}:bud:key%3Aacme/test:2027-01", "posted", 1001)
        self.do("INSERT INTO budget_windows VALUES ('key:acme/test', 'month', '2027-01', 1001, 0, NULL, 0)")
        self.books = Books([SimpleNamespace(state_dir=self.state_dir)], None, self.postgres, self.redis, knows_process=False)

    def do(self, sql):
        if self.postgres is not None:
            return self.postgres.execute(sql)
        with sqlite3.connect(self.state_dir / "history.db") as c:
            c.executescript(sql)

    def row(self, line, kind, model, outcome, count, cost):
        self.do(LEDGER.format(line=line, kind=kind, model=model, outcome=outcome, count=count, cost=cost, minute=HOUR + 60, hour=HOUR))

    def hash(self, model, **values):
        assert set(values) <= set(MEASURES)
        self.redis.call("HSET", f"{{gw}}:h:2027-01-15T08:openai:{model}", *(x for item in values.items() for x in item), "b17", 1)


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_the_comparison_of_books_finds_what_is_missing(stage, dialect):
    made = Made(stage, dialect)
    found, shown = made.books.differences()
    assert not found, found
    assert [b.name for b in shown] == ["ledger", "by request", "redis", "budgets"]
    assert shown[0].total("cost_nano") == 1001 and shown[0].rows == {"attempt rows": 2, "request rows": 2}
    made.redis.call("HINCRBY", "{gw}:h:2027-01-15T08:openai:gpt-4o", "cost_nano", -1)
    assert made.books.differences()[0] == ["2027-01-15T08 openai gpt-4o cost_nano: ledger 1000, redis 999 (+1)"]
    made.redis.call("HINCRBY", "{gw}:h:2027-01-15T08:openai:gpt-4o", "cost_nano", 1)
    made.redis.call("HINCRBY", "{gw}:h:2027-01-15T09:openai:gpt-4o", "req", 1)
    assert made.books.differences()[0] == ["2027-01-15T09 openai gpt-4o req: ledger 0, redis 1 (-1)"]
    made.redis.call("DEL", "{gw}:h:2027-01-15T09:openai:gpt-4o")
    made.redis.call("HINCRBY", "{gw}:ten:2027-01-15T08", "acme/test cost", 5)
    assert made.books.differences()[0] == ["tenant acme key test cost_nano: ledger 1001, redis 1006 (-5)"]
    made.redis.call("HINCRBY", "{gw}:ten:2027-01-15T08", "acme/test cost", -5)
    made.do("UPDATE budget_windows SET posted_nano = 1")
    assert made.books.differences()[0] == [
        "tenant acme key test cost_nano: ledger 1001, budgets 1 (+1000)",
        "key:acme/test window 2027-01: ledger (1, 0), redis (1001, 0) (posted, held)"]
    made.do("UPDATE budget_windows SET posted_nano = 1001, held_nano = 7")
    made.redis.call("HSET", "{gw}:bud:key%3Aacme/test:2027-01", "held", 7)
    assert made.books.differences()[0] == ["key:acme/test window 2027-01: 7 nano-USD are still held"]
    made.do("UPDATE budget_windows SET held_nano = 0")
    made.redis.call("HDEL", "{gw}:bud:key%3Aacme/test:2027-01", "held")
    made.do("UPDATE ledger SET tokens_out = tokens_out + 1 WHERE line = 3")
    assert made.books.differences()[0] == ["openai gpt-4o tout: ledger 50, by request 51 (-1)"]
    with pytest.raises(AssertionError, match="do not agree"):
        made.books.agree(within=0.1)


def test_the_comparison_of_books_knows_what_was_billed(stage):
    sim = SimpleNamespace(control=SimpleNamespace())
    records = [dict(profile="openai", model="gpt-4o", prompt_tokens=1000, cached_tokens=0, cache_write_tokens=0, completion_tokens=100,
                    reasoning_tokens=0, images=0, searches=0, ended="answered"),
               dict(profile="openai", model="nobody", prompt_tokens=1, cached_tokens=0, cache_write_tokens=0, completion_tokens=1,
                    reasoning_tokens=0, images=0, searches=0, ended="answered")]
    sim.control.settled_log = lambda: records
    truth = Books([], sim).truth()
    assert truth.total("cost_nano") == 1000 * 2500 + 100 * 10000 and truth.total("unpriced") == 1 and truth.total("attempts") == 2
    other = Books([], sim).truth()
    records.append(dict(records[0], ended="client_gone"))
    assert compare(Books([], sim).truth(), other) == ["openai gpt-4o attempts: simulator 2, simulator 1 (+1)"]
