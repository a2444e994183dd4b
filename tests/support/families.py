# SPDX-License-Identifier: Apache-2.0
"""The families of docs/metrics.md as a table, and what statements and commands a store says that it was asked."""

import re
import threading
from collections import Counter

from support.process import ROOT

ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram|info) \| ([^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$")
GONE = re.compile(r"^\| `(\w+)` \| ([^|]+) \|$")


def documented():
    """({family: (type, labels in order, notes)}, {family that is not exposed: why})."""
    text = (ROOT / "docs/metrics.md").read_text()
    shown, _, absent = text.partition("\n## Not exposed\n")
    rows = {m[1]: (m[2], [x for x in m[4].strip().split(", ") if x], m[6]) for line in shown.splitlines() if (m := ROW.match(line))}
    return rows, {m[1]: m[2] for line in absent.splitlines() if (m := GONE.match(line))}


def sql_word(text):
    """(table, operation) of a statement that PostgreSQL normalised; None for what is about none of our tables."""
    flat = " ".join(text.lower().split())
    while (bare := re.sub(r"\([^()]*\)", "()", flat)) != flat:
        flat = bare
    if not re.match("(with|select|insert|update|delete|begin|commit|rollback)\\b", flat):
        return None
    operation = re.search(r"\b(select|insert|update|delete|begin|commit|rollback)\b", flat)
    table = re.search(r"\b(?:from|into|update) ([a-z_0-9]+)", flat)
    if not operation or "pg_" in flat:
        return None
    if operation[1] in ("begin", "commit", "rollback"):
        return "none", operation[1]
    return (table[1], operation[1]) if table else None


def statements(postgres):
    """What pg_stat_statements counted, by table and operation."""
    out = Counter()
    for text, calls in postgres.query("SELECT query, calls FROM pg_stat_statements"):
        word = sql_word(text)
        if word:
            out[word] += int(calls)
    return out


COMMANDS = {"get": {"hgetall", "hmget", "zrangebyscore", "lrange", "xrevrange"}, "scan": {"scan"}, "ttl": {"ttl"}, "time": {"time"},
            "ping": {"exists"}, "script": {"evalsha", "eval"}}


def commands(client):
    """What INFO commandstats counted, by purpose; scripts are batches, writes and leases together."""
    out = Counter()
    for line in client("INFO", "commandstats").decode().splitlines():
        found = re.match(r"cmdstat_(\w+):calls=(\d+)", line)
        for purpose, names in COMMANDS.items():
            if found and found[1] in names:
                out[purpose] += int(found[2])
    return out


class Watch(threading.Thread):
    """Every command that clients send, by MONITOR; what scripts call is left out."""

    def __init__(self, redis):
        super().__init__(daemon=True)
        self.client, self.count = redis.client(timeout=None), Counter()
        assert self.client("MONITOR") == b"OK"
        self.start()

    def run(self):
        try:
            while line := self.client.reader.readline():
                found = re.match(rb'\+[\d.]+ \[\d+ (?!lua)[^\]]*\] "(\w+)"', line)
                if found:
                    self.count[found[1].decode().lower()] += 1
        except (OSError, ValueError):
            pass  # the server has gone

    def seen(self):
        count = self.count.copy()
        return Counter({purpose: n for purpose, names in COMMANDS.items() if (n := sum(count[x] for x in names))})
