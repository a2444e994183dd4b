# SPDX-License-Identifier: Apache-2.0
"""Every book that a gateway keeps, read from the outside while it runs, and the simulator's log of what was billed,
which none of them had a hand in. Each becomes a Book; books that share measures and dimensions are compared.

    books = Books([gateway], sim, postgres=pg, redis=redis)
    books.agree()         # eventually; prints a table; fails with the list of differences
"""

import collections
import contextlib
import json
import re
import sqlite3
import subprocess
import time
from dataclasses import dataclass, field
from urllib.parse import unquote

import psycopg

from support import reprice
from support.process import BIN, ROOT, SLOWNESS
from support.redis import RedisError
from support.wait import eventually

MEASURES = re.findall(r"^MEASURE\((\w+),", (ROOT / "libshared/store/measures.def").read_text(), re.M)
HOUR = 3600
# What a provider's bill says. Where its answer did not arrive whole (the client left, the connection broke), its last word was lost
# and the gateway books an estimate: then the number of attempts is all that both sides know.
BILLED = ("tin", "tcached", "tcwrite", "tout", "treason", "images", "searches", "cost_nano", "unpriced")


# What comes of a store that is not there yet, or not again.
UNREADABLE = (OSError, sqlite3.Error, psycopg.Error, RedisError)


@dataclass
class Book:
    name: str
    measures: tuple = ()
    has_hours: bool = True
    at: dict = field(default_factory=lambda: collections.defaultdict(collections.Counter))  # {(hour, provider, model): …}
    spent: dict | None = None  # {(tenant, key): nano-USD}
    rows: dict = field(default_factory=dict)  # {what: how many}, for people

    def add(self, hour, provider, model, values):
        # Requests that reached no provider are in no dimension that the books share.
        if provider not in ("", "none"):
            self.at[hour if self.has_hours else 0, provider, model].update(values)

    def view(self, measures, by_hour):
        out = collections.Counter()
        for (hour, provider, model), values in self.at.items():
            for m in measures:
                if values[m]:
                    out[hour if by_hour else 0, provider, model, m] += values[m]
        return out

    def total(self, measure):
        return sum(v[measure] for v in self.at.values())


def compare(a, b, measures=MEASURES):
    """Every dimension in which the two differ, as text."""
    shared = [m for m in measures if m in a.measures and m in b.measures]
    one, other = (x.view(shared, a.has_hours and b.has_hours) for x in (a, b))
    found = []
    for at in sorted(set(one) | set(other)):
        hour, provider, model, measure = at
        if one[at] != other[at]:
            when = time.strftime("%Y-%m-%dT%H ", time.gmtime(hour)) if hour else ""
            found.append(f"{when}{provider} {model} {measure}: {a.name} {one[at]}, {b.name} {other[at]} ({one[at] - other[at]:+d})")
    if a.spent is not None and b.spent is not None:
        for at in sorted(set(a.spent) | set(b.spent)):
            x, y = a.spent.get(at, 0), b.spent.get(at, 0)
            if x != y:
                found.append(f"tenant {at[0]} key {at[1]} cost_nano: {a.name} {x}, {b.name} {y} ({x - y:+d})")
    return found


def table(books):
    lines = [f"    {'':<12}{'req':>10}{'attempts':>10}{'tokens in':>14}{'tokens out':>14}{'nano-USD':>18}  rows"]
    for book in books:
        cells = [f"{book.total(m):>{w},}" if m in book.measures else f"{'–':>{w}}"
                 for m, w in (("req", 10), ("attempts", 10), ("tin", 14), ("tout", 14), ("cost_nano", 18))]
        rows = ", ".join(f"{n:,} {what}" for what, n in book.rows.items())
        lines.append(f"    {book.name:<12}" + "".join(cells) + f"  {rows}")
    return "\n".join(lines)


LEDGER_SUMS = """SELECT kind, minute - minute % 3600, provider, model, tenant, key, outcome, usage_source, count(*), sum(count), sum(tokens_in),
 sum(tokens_cached), sum(tokens_cwrite), sum(tokens_out), sum(tokens_reasoning), sum(images), sum(searches), sum(cost_nano),
 sum(unpriced), sum(latency_us), sum(ttft_us), sum(ttft_count) FROM ledger GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"""
LEDGER_COLUMNS = ("tin", "tcached", "tcwrite", "tout", "treason", "images", "searches", "cost_nano", "unpriced", "lat_us",
                  "ttfb_us", "ttfb_n")


class Books:
    def __init__(self, gateways, simulator=None, postgres=None, redis=None, prices=None, knows_process=True):
        """`knows_process`: the gateways ran through, so their /metrics tell all of it."""
        self.gateways, self.simulator, self.postgres, self.redis = list(gateways), simulator, postgres, redis
        self.prices, self.knows_process = reprice.table(prices), knows_process

    # ---- history store

    def query(self, sql):
        if self.postgres is not None:
            return [tuple(int(v) if hasattr(v, "as_integer_ratio") and not isinstance(v, float) else v for v in row)
                    for row in self.postgres.query(sql)]
        with contextlib.closing(self.reader()) as connection:
            return connection.execute(sql).fetchall()

    def reader(self):
        """As any other program may read it while the gateway writes."""
        return sqlite3.connect(f"file:{self.gateways[0].state_dir / 'history.db'}?mode=ro", uri=True, timeout=5)

    def ledger(self):
        """By attempts and corrections; the same sums by requests; and of the attempts those whose usage the provider told."""
        attempts = Book("ledger", tuple(MEASURES), spent=collections.Counter())
        requests = Book("by request", ("req", "tin", "tcached", "tcwrite", "tout", "treason", "images", "searches", "cost_nano"),
                        has_hours=False, spent=collections.Counter())
        told, rows = Book("as told", BILLED, has_hours=False), collections.Counter()
        for kind, hour, provider, model, tenant, key, outcome, source, n, count, *sums in self.query(LEDGER_SUMS):
            rows[kind] += n
            values = dict(zip(LEDGER_COLUMNS, sums))
            if kind == "request":
                attempts.add(hour, provider, model, {"req": count})
                requests.add(hour, provider, model, {"req": count, **values})
                requests.spent[tenant, key] += values["cost_nano"]
                continue
            attempts.spent[tenant, key] += values["cost_nano"]
            if kind == "adjust":
                attempts.add(hour, provider, model, {"cost_nano": values["cost_nano"]})
            else:
                values.update(attempts=count, ok=count if outcome == "success" else 0, err=count if outcome == "error" else 0)
                attempts.add(hour, provider, model, values)
                if source == "reported":
                    told.add(hour, provider, model, values)
        attempts.rows = {f"{kind} rows": n for kind, n in sorted(rows.items())}
        return attempts, requests, told

    def stories(self):
        """Requests as `explain` finds them: (id, tenant, key, story)."""
        return [(i, t, k, s if isinstance(s, dict) else json.loads(s))
                for i, t, k, s in self.query("SELECT id, tenant, key, story FROM requests")]

    def knows(self, ids):
        """Each of these requests can be explained."""
        try:
            return set(ids) <= {i for i, in self.query("SELECT id FROM requests")}
        except UNREADABLE:
            return False

    def story_count(self):
        return self.query("SELECT count(*), count(DISTINCT id) FROM requests")[0]

    def hourly(self):
        columns = ", ".join(f"sum({m})" for m in MEASURES)
        epoch = "extract(epoch FROM hour)::bigint" if self.postgres is not None else "CAST(strftime('%s', hour) AS integer)"
        book = Book("hourly", tuple(MEASURES))
        found = self.query(f"SELECT {epoch}, provider, model, {columns} FROM metrics_hourly_aggregates GROUP BY 1, 2, 3")
        for hour, provider, model, *values in found:
            book.add(hour, provider, model, dict(zip(MEASURES, values)))
        book.rows = {"rows": len(found)}
        return book

    def windows(self):
        """{account: (posted, held)} over all windows of it."""
        return {account: (posted, held) for account, posted, held in self.query(
            "SELECT account, sum(posted_nano), sum(held_nano) FROM budget_windows GROUP BY account, period")}

    def budgets(self):
        """By account; None when no account has a window."""
        found = self.windows()
        if not found:
            return None
        book = Book("budgets", spent={}, rows={"accounts": len(found)})
        for account, (posted, _) in found.items():
            kind, _, name = account.partition(":")
            if kind == "key":
                book.spent[tuple(name.split("/", 1))] = posted
        return book if book.spent else None

    def watermarks(self):
        return {i: (b, p) for i, b, p in self.query("SELECT instance, batch, positions FROM journal_watermarks")}

    # ---- realtime store

    def realtime(self, kind="h"):
        """kind "h": hours, "t": ten seconds."""
        book = Book("redis" if kind == "h" else "redis 10 s", tuple(MEASURES), has_hours=kind == "h")
        with self.redis.client() as c:
            keys = c.scan(f"{{gw}}:{kind}:*")
            hashes = c.pipeline([("HGETALL", k) for k in keys])
        fields = 0
        for key, flat in zip(keys, hashes):
            flat = [x.decode() for x in flat]
            values = {f: int(v) for f, v in zip(flat[::2], flat[1::2]) if f in MEASURES}
            fields += len(flat) // 2
            stamp = key[len("{gw}:h:"):][: 13 if kind == "h" else 19]
            provider, model = key[len("{gw}:h:") + len(stamp) + 1:].split(":")
            shape = "%Y-%m-%dT%H" if kind == "h" else "%Y-%m-%dT%H:%M:%S"
            hour = int(time.mktime(time.strptime(stamp, shape)) - time.timezone)
            book.add(hour, unquote(provider), unquote(model), values)
        book.rows = {"hashes": len(keys), "fields": fields}
        if kind == "h":
            book.spent = self.live_tenants()
        return book

    def live_tenants(self):
        spent = collections.Counter()
        with self.redis.client() as c:
            for key in c.scan("{gw}:ten:*"):
                for name, value in c.hash(key).items():
                    who, _, measure = name.rpartition(" ")
                    if measure == "cost" and "/" in who:
                        spent[tuple(who.split("/", 1))] += int(value)
        return spent

    def realtime_windows(self):
        """{(account, window): (posted, held)}."""
        found = {}
        with self.redis.client() as c:
            for key in c.scan("{gw}:bud:*"):
                account, _, window = key[len("{gw}:bud:"):].rpartition(":")
                values = c.hash(key)
                found[unquote(account), unquote(window)] = int(values.get("posted", 0)), int(values.get("held", 0))
        return found

    def realtime_watermarks(self):
        with self.redis.client() as c:
            return {k[len("{gw}:seq:"):]: c.hash(k) for k in c.scan("{gw}:seq:*")}

    # ---- processes

    def prometheus(self):
        names = ("attempts", "ok", "err", "tin", "tout", "tcached", "tcwrite", "treason", "cost_nano", "unpriced")
        book, series = Book("/metrics", names, has_hours=False), 0
        subset = {"cache_read": "tcached", "cache_write": "tcwrite", "reasoning": "treason"}
        for gateway in self.gateways:
            for s in gateway.scrape().samples:
                value, label = s.value, s.labels
                if s.name == "model_inference_requests_total":
                    values = {"attempts": value, {"success": "ok", "error": "err"}.get(label["status"], ""): value}
                elif s.name == "tokens_used_total":
                    values = {{"input": "tin", "output": "tout"}[label["token_type"]]: value}
                elif s.name == "aigateway_tokens_subset_total" and label["kind"] in subset:
                    values = {subset[label["kind"]]: value}
                elif s.name == "credits_used_total":
                    values = {"cost_nano": round(value * 1e9)}
                elif s.name == "gatewayd_unpriced_attempts_total":
                    values = {"unpriced": value}
                else:
                    continue
                series += 1
                book.add(0, label["provider"], label["model"], {k: int(v) for k, v in values.items()})
        book.rows = {"series": series}
        return book

    def journals(self):
        """What the journals still hold; they forget what every store has."""
        names = {"tin": "input", "tcached": "cached", "tcwrite": "cache_write", "tout": "output", "treason": "reasoning",
                 "images": "images", "searches": "searches"}
        book, rows = Book("journal", ("req", "attempts", *names, "cost_nano"), has_hours=False), collections.Counter()
        for gateway in self.gateways:
            for line in self.aigwctl("journal", "inspect", "-o", "json", str(gateway.state_dir)).splitlines():
                r = json.loads(line)
                rows[r["type"]] += 1
                if r["type"] == "settle":
                    book.add(0, r["provider"] or "", r["model"], {"req": 1})
                elif r["type"] == "attempt":
                    usage = {m: r["usage"][n] for m, n in names.items()}
                    book.add(0, r["provider"], r["model"], {"attempts": 1, **usage, "cost_nano": r["cost_nanousd"]})
        book.rows = {f"{kind} records": n for kind, n in sorted(rows.items())}
        return book

    @staticmethod
    def aigwctl(*words):
        done = subprocess.run([BIN / "aigwctl", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def check_by_hand(self):
        """What an operator asks, who has no simulator to compare with."""
        where = ["--database", self.postgres.url() if self.postgres else str(self.gateways[0].state_dir / "history.db")]
        where += ["--redis", self.redis.url()] if self.redis else []
        data = json.loads(self.aigwctl("reconcile", "-o", "json", "--exit-code", *where))["data"]
        pairs = {p["pair"]: p for p in data["pairs"]}
        assert not data["differences"] and not any(p["different"] for p in pairs.values()), data
        assert pairs["ledger_budgets"]["compared"] > 0 and pairs["ledger_redis"]["known"] == bool(self.redis), data

    # ---- truth

    def truth(self, records=None):
        """The simulator's log, priced by code that the gateway does not share. Its profiles are named as the providers."""
        book = Book("simulator", ("attempts", *BILLED), has_hours=False)
        count = whole = 0
        for r in self.simulator.control.settled_log() if records is None else records:
            count += 1
            book.add(0, r["profile"], r["model"], {"attempts": 1})
            if r["ended"] != "answered":
                continue
            whole += 1
            row = reprice.find(self.prices, r["profile"], r["model"])
            bills = reprice.bills(r)
            book.add(0, r["profile"], r["model"], {
                "tin": r["prompt_tokens"], "tcached": r["cached_tokens"], "tcwrite": r["cache_write_tokens"],
                "tout": r["completion_tokens"], "treason": r["reasoning_tokens"], "images": r["images"], "searches": r["searches"],
                "cost_nano": reprice.cost_nanousd(row, r) if bills and row else 0, "unpriced": int(bills and row is None)})
        book.rows = {"POSTs": count, "answered whole": whole}
        return book

    # ---- all of it

    def read(self, truth=None):
        ledger, by_request, told = self.ledger()
        books = [ledger, by_request]
        if truth is not None or self.simulator is not None:
            books += [told, self.truth() if truth is None else truth]
        if self.redis is not None:
            books.append(self.realtime())
        if self.knows_process:
            books.append(self.prometheus())
        budgets = self.budgets()
        return books + ([budgets] if budgets else [])

    def differences(self, truth=None):
        ledger, *others = books = self.read(truth)
        found = []
        for n, other in enumerate(others):
            if other.name == "simulator":
                found += compare(ledger, other, ("attempts",)) + compare(others[n - 1], other, BILLED)
            elif other.name != "as told":
                found += compare(ledger, other)
        return found + self.held_or_unequal(), books

    def held_or_unequal(self):
        """Budgets: nothing is held when nothing is open, and the realtime store says the same as the history."""
        windows = {(a, w): (posted, held) for a, w, posted, held in self.query(
            "SELECT account, window_id, sum(posted_nano), sum(held_nano) FROM budget_windows GROUP BY account, window_id")}
        found = [f"{a} window {w}: {held} nano-USD are still held" for (a, w), (_, held) in sorted(windows.items()) if held]
        if self.redis is None:
            return found
        redis = self.realtime_windows()
        return found + [f"{a} window {w}: ledger {windows.get((a, w))}, redis {redis.get((a, w))} (posted, held)"
                        for a, w in sorted(set(windows) | set(redis))
                        if windows.get((a, w), (0, 0)) != redis.get((a, w), (0, 0))]

    def agree(self, within=30.0, truth=None, at_least=1):
        """All of them, in the end and not only by chance; with at least so many attempts. Returns the books."""
        started = time.monotonic()
        last = []

        def equal():
            try:
                found, books = self.differences(truth)
            except UNREADABLE as e:
                last[:] = [[f"the books cannot be read: {e!r}"], []]
                return False
            last[:] = [found, books]
            return not found and books[0].total("attempts") >= at_least

        try:
            eventually(equal, within * SLOWNESS, every=0.2)
        except AssertionError:
            found, books = last
            found = found or [f"only {books[0].total('attempts')} attempts of {at_least:.0f}"]
            text = "\n".join(f"    {line}" for line in found[:40]) + (f"\n    … {len(found)} in all" if len(found) > 40 else "")
            raise AssertionError(f"the books do not agree after {within * SLOWNESS:.0f} s:\n{text}\n{table(books)}") from None
        print(f"\n    all books agree after {time.monotonic() - started:.1f} s\n{table(last[1])}")
        return {b.name: b for b in last[1]}
