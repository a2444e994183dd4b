# SPDX-License-Identifier: Apache-2.0
"""The cron line of deploy/cron as cron runs it, through a day of 24 hours at test speed: facts of each hour come by a gateway's journal,
then the line runs, and at the end every row equals sums made here. Meanwhile Redis is killed, the gateway is killed, lines run at once
with others and with the gateway's own roll-up, and an hour is left out."""

import contextlib
import fcntl
import json
import math
import random
import sqlite3
import subprocess
import time
from collections import Counter

import psycopg
import pytest

from support.gateway import Gateway, config, model, provider
from support.home import Home, ended
from support.process import BIN, SLOWNESS
from support.wait import eventually

HOUR, HOURS = 3600, 24
KEEP_H = 48  # what the gateway's Redis keeps, so that the whole day is in it
NO_ANSWER, CONFLICT, WARNING = 3, 6, 10
TARGETS = [("openai", "gpt-4o"), ("groq", "meta-llama/llama-3.1:70b"), ("groq", "100%")]
STORED = ("req", "attempts", "ok", "err", "tin", "tcached", "tcwrite", "tout", "treason", "images", "searches", "cost_nano", "unpriced",
          "lat_us", "ttfb_us", "ttfb_n")


class Fact:
    """One request; a third of them failed at another target first."""

    def __init__(self, rng, hour):
        (self.provider, self.model), first = rng.choice(TARGETS), rng.choice(TARGETS)
        self.hour, self.end_ms = hour, (hour + rng.randrange(60, 3500)) * 1000 + rng.randrange(1000)
        self.ms, self.ok = rng.randrange(5, 9000), rng.random() < 0.8
        self.tin, self.tcached, self.tout = (rng.randrange(100, 9000), rng.randrange(100), rng.randrange(1, 900)) if self.ok else (0, 0, 0)
        self.cost = rng.randrange(1, 10**9) if self.ok else 0
        self.ttft = rng.randrange(1, self.ms) if self.ok and rng.random() < 0.7 else None
        self.before = (*first, rng.randrange(1, 2000)) if rng.random() < 0.3 else None

    def line(self):
        """As daytool reads it."""
        words = [self.end_ms, self.ms, "acme", "test", "-", self.provider, self.model, "-" if self.ok else "upstream_error", self.tin, self.tcached,
                 self.tout, self.cost, "-" if self.ttft is None else self.ttft]
        if self.before:
            words += [self.before[0], self.before[1], "upstream_rate_limit", self.before[2]]
        return "\t".join(map(str, words)) + "\n"


def hour_text(hour):
    return time.strftime("%Y-%m-%dT%H", time.gmtime(hour))


def add_up(facts):
    """What the table should have: {(hour, provider, model): measures}, and the latencies behind them."""
    rows, latencies = {}, {}
    for f in facts:
        def at(p, m):
            return rows.setdefault((hour_text(f.hour), p, m), Counter())

        own = at(f.provider, f.model)
        own.update(req=1, attempts=1, ok=f.ok, err=not f.ok, tin=f.tin, tcached=f.tcached, tout=f.tout, cost_nano=f.cost, lat_us=f.ms * 1000,
                   ttfb_us=(f.ttft or 0) * 1000, ttfb_n=f.ttft is not None)
        latencies.setdefault((hour_text(f.hour), f.provider, f.model), []).append(f.ms)
        if f.before:
            p, m, ms = f.before
            at(p, m).update(attempts=1, err=1, lat_us=ms * 1000)
            latencies.setdefault((hour_text(f.hour), p, m), []).append(ms)
    return {k: {m: v[m] for m in STORED} for k, v in rows.items()}, {k: sorted(v) for k, v in latencies.items()}


def check_rows(found, facts):
    """`found`: (hour, provider, model, *STORED, p50, p95, p99) of each row. Each hour is there once, and no other one."""
    want, latencies = add_up(facts)
    assert len(found) == len({tuple(r[:3]) for r in found}), "an hour is there twice"
    rows = {tuple(r[:3]): dict(zip(STORED, map(int, r[3:3 + len(STORED)]))) for r in found}
    wrong = {k: (rows.get(k), want.get(k)) for k in set(rows) | set(want) if rows.get(k) != want.get(k)}
    assert not wrong, f"{len(wrong)} rows differ (found, wanted): {dict(sorted(wrong.items())[:4])}"
    for r in found:
        of = latencies[tuple(r[:3])]
        for q, ms in zip((50, 95, 99), r[3 + len(STORED):]):
            assert ms == pytest.approx(of[max(0, math.ceil(q / 100 * len(of)) - 1)], rel=0.011), (r[:3], q)


class Day:
    def __init__(self, hours=HOURS):
        self.first = int(time.time() - 600) // HOUR * HOUR - hours * HOUR  # the newest one is closed, however slow this is
        self.rng, self.facts = random.Random(7), []

    def add(self, h, n=8):
        """Facts of hour `h`, and every fourth hour some that are late, of an hour that is stored."""
        new = [Fact(self.rng, self.first + h * HOUR) for _ in range(n)]
        if h % 4 == 3:
            new += [Fact(self.rng, self.first + self.rng.randrange(h) * HOUR) for _ in range(3)]
        self.facts += new
        return sorted(new, key=lambda f: f.end_ms)


# ---- PostgreSQL and Redis


ROWS = f"SELECT to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24'), provider, model, {', '.join(STORED)}, p50_ms, p95_ms, p99_ms " \
       "FROM metrics_hourly_aggregates"
# The same once more, from the ledger and by nothing but SQL.
LEDGER = """SELECT to_char(to_timestamp(minute - minute % 3600) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24'), provider, model,
 sum(count) FILTER (WHERE kind = 'request'), sum(count) FILTER (WHERE kind = 'attempt'), sum(count) FILTER (WHERE kind = 'attempt' AND outcome = 'success'),
 sum(count) FILTER (WHERE kind = 'attempt' AND outcome = 'error'), sum(tokens_in) FILTER (WHERE kind = 'attempt'),
 sum(tokens_cached) FILTER (WHERE kind = 'attempt'), sum(tokens_cwrite) FILTER (WHERE kind = 'attempt'), sum(tokens_out) FILTER (WHERE kind = 'attempt'),
 sum(tokens_reasoning) FILTER (WHERE kind = 'attempt'), sum(images) FILTER (WHERE kind = 'attempt'), sum(searches) FILTER (WHERE kind = 'attempt'),
 sum(cost_nano) FILTER (WHERE kind = 'attempt'), sum(unpriced) FILTER (WHERE kind = 'attempt'), sum(latency_us) FILTER (WHERE kind = 'attempt'),
 sum(ttft_us) FILTER (WHERE kind = 'attempt'), sum(ttft_count) FILTER (WHERE kind = 'attempt')
 FROM ledger WHERE provider <> '' GROUP BY 1, 2, 3"""


class Site:
    """A gateway with PostgreSQL and Redis, and two homes whose cron runs the line: `books` on the gateway's own database, and `report` on
    one that no gateway writes to, so that Redis is all that it has."""

    def __init__(self, stage):
        self.day, self.redis, self.postgres = Day(), stage.redis(), stage.postgres()
        self.postgres.execute("CREATE DATABASE report TEMPLATE postgres")
        self.db = self.connect("postgres")
        self.reports = self.connect("report")
        stage.endings += [self.db.close, self.reports.close]
        self.gateway = Gateway(stage.directory, self.config(False), "gateway")
        stage.endings.append(self.end)
        url = self.postgres.url()
        self.books, self.report = Home(stage.directory / "books"), Home(stage.directory / "report")
        self.books.write("prod", prod={"url": "https://gw.example.net", "database": url, "redis": self.redis.url()})
        secret = self.report.directory / "database"
        secret.write_text(url.rsplit("/", 1)[0] + "/report\n")
        self.report.write("prod", prod={"url": "https://gw.example.net", "database": f"file:{secret}", "redis": self.redis.url()})
        self.report("db", "migrate", "up")
        self.lines = Counter()

    def connect(self, name):
        return psycopg.connect(host=str(self.postgres.directory), port=self.postgres.port, user="gatewayd", dbname=name, autocommit=True)

    def config(self, rolls_up):
        return config([provider("openai", "http://127.0.0.1:9/v1"), provider("groq", "http://127.0.0.1:9/v1")],
                      [model("chat", "openai/gpt-4o")], redis=self.redis.url(), database=self.postgres.url(),
                      aggregation={"enabled": rolls_up, "retention": f"{KEEP_H}h"})

    def live(self, h, rolls_up):
        """The gateway's next life, with another hour in its journal."""
        self.end(h % 3 == 1)
        self.gateway.write_config(self.config(rolls_up))
        self.gateway.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        subprocess.run([BIN / "daytool", self.gateway.state_dir], input="".join(f.line() for f in self.day.add(h)), text=True, check=True)
        self.gateway.start()

    def end(self, is_killed=False):
        if is_killed:
            self.gateway.kill()
        elif self.gateway.is_running():
            self.gateway.stop()

    def in_ledger(self):
        return self.db.execute("SELECT sum(count) FROM ledger WHERE kind = 'request'").fetchone()[0] == len(self.day.facts)

    def in_redis(self):
        with self.redis.client() as c:
            keys = c.scan("{gw}:h:*")
            return sum(int(n or 0) for n in c.pipeline([("HGET", k, "req") for k in keys])) == len(self.day.facts)

    def settled(self, *stores):
        for is_there in stores or (self.in_ledger, self.in_redis):
            eventually(is_there, 20 * SLOWNESS, what=is_there.__name__)

    def run(self, *ways):
        """Lines at once: "b" of the books, "r" of the report, with what stands behind them."""
        started = []
        for way in ways:
            home, _, more = way.partition(" ")
            started.append({"b": self.books, "r": self.report}[home].cron(" " + more if more else ""))
            self.lines[home] += 1
        return started

    def rows(self, db):
        return db.execute(ROWS).fetchall()

    def status(self, home, code=0):
        return json.loads(home("aggregate", "status", "-o", "json", code=code).stdout)["data"]

    def check(self):
        check_rows(self.rows(self.db), self.day.facts)
        check_rows(self.rows(self.reports), self.day.facts)


def hour_of(site, h):
    return hour_text(site.day.first + h * HOUR)


def calm(site, h):
    site.settled()
    ended(site.run("b", "r"))


def crowd(site, h):
    """All at once, and by name; the gateway's own roll-up may be one of them."""
    site.settled(site.in_redis)
    ended(site.run("b", "b", "r", "r", f"b --hour {hour_of(site, h)}", f"r --hour {hour_of(site, h)}"))


def early(site, h):
    """While the gateway still brings the hour to the books."""
    ended(site.run("b", "r", "b"))


def redis_restarts(site, h):
    lines = site.run("b", "r", "b", "r")
    site.redis.restart()
    mails = ended(lines, (0, NO_ANSWER))
    assert all("redis" in m.lower() for m in mails if m), mails


def redis_is_away(site, h):
    site.settled()
    site.redis.kill()
    mails = ended(site.run("b", "r"), (NO_ANSWER,))
    assert all("redis" in m for m in mails), mails
    check_rows(site.rows(site.db), site.day.facts)  # the ledger has it all
    site.redis.start()


def gateway_dies(site, h):
    lines = site.run("b", "r", "r")
    site.gateway.kill()
    ended(lines)


def left_out(site, h):
    site.settled()
    for home in (site.books, site.report):
        status = site.status(home, WARNING)
        assert (status["missing_hours"], status["oldest_missing"][:13]) == (1, hour_of(site, h)), status
        loss = status["loss_at"]
        if home is site.books:
            assert loss is None and status["source"] == "ledger"
        else:
            at = time.mktime(time.strptime(loss[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
            assert at == pytest.approx(site.day.first + h * HOUR + HOUR + KEEP_H * HOUR, abs=5), loss


PLAN = {1: crowd, 2: early, 4: redis_restarts, 5: gateway_dies, 6: calm, 7: left_out, 8: calm, 9: crowd, 10: redis_restarts, 11: redis_is_away,
        13: redis_is_away, 14: redis_restarts, 16: early, 17: gateway_dies, 19: redis_restarts, 20: crowd, 22: early}
DURABLE = 12  # from this hour on Redis keeps what it has


def test_a_day_of_cron_lines_loses_and_doubles_no_hour(stage, record_property):
    site = Site(stage)
    for h in range(HOURS):
        if h == DURABLE:
            site.redis.is_persistent = True
            site.redis.restart()
        site.live(h, rolls_up=h % 2 == 1 and PLAN.get(h) is not left_out)
        PLAN.get(h, calm)(site, h)
        if h == 8:
            assert site.status(site.report)["missing_hours"] == 0
            site.check()
    site.check()
    # Every hour of the ledger once, by SQL alone.
    stored = sorted(tuple(map(str, r[:-3])) for r in site.rows(site.db))
    assert stored == sorted(tuple(str(v or 0) for v in r) for r in site.db.execute(LEDGER).fetchall())
    for db, home in ((site.db, site.books), (site.reports, site.report)):
        hours = [h for h, in db.execute("SELECT hour FROM aggregated_hours ORDER BY hour").fetchall()]
        assert hours == [site.day.first + h * HOUR for h in range(HOURS)]
        assert db.execute("SELECT count(*) FROM dirty_hours").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM aggregation_runs WHERE result = 'running'").fetchone() == (0,)
        status = site.status(home)
        assert (status["missing_hours"], status["dirty_hours"], status["loss_at"], status["result"]) == (0, 0, None, "ok"), status
        home("db", "verify")
    pairs = json.loads(site.books("reconcile", "--exit-code", "-o", "json", "--from", hour_of(site, 0)).stdout)["data"]["pairs"]
    assert all(p["different"] == 0 for p in pairs) and {p["pair"]: p["compared"] for p in pairs}["ledger_hourly"] == len(site.rows(site.db))
    # The daemon, its API and lines at the same time over hours that all changed.
    for _ in range(2):
        site.db.execute("INSERT INTO dirty_hours (hour, since) SELECT hour, 1 FROM aggregated_hours")
        site.gateway.stop()
        lines = site.run("b", "b", "b")
        site.gateway.write_config(site.config(True))
        site.gateway.start()
        ended(lines)
        eventually(lambda: site.gateway.metric("gatewayd_aggregation_last_success_timestamp_seconds") > 0, 20 * SLOWNESS, what="its own roll-up")
        assert site.db.execute("SELECT count(*) FROM dirty_hours").fetchone() == (0,)
        site.check()
    record_property("figure", f"{len(site.day.facts)} requests in {HOURS} hours, {sum(site.lines.values())} lines ({site.lines['b']} on the ledger, "
                              f"{site.lines['r']} on Redis); {len(site.rows(site.db))} rows each, all equal")


# ---- the embedded stores


class Embedded:
    """A gateway that keeps its history in a SQLite file, and a home whose context names its socket and nothing else."""

    LINE = ("instance,seq,line,kind,minute,budget_hour,tenant,key,provider,model,endpoint,outcome,error,stream_end,usage_source,count,tokens_in,"
            "tokens_cached,tokens_cwrite,tokens_out,tokens_reasoning,images,searches,cost_nano,unpriced,latency_us,ttft_us,ttft_count")

    def __init__(self, stage):
        self.day, self.stage, self.seq = Day(), stage, 0
        self.gateway = Gateway(stage.directory, config([provider("openai", "http://127.0.0.1:9/v1"), provider("groq", "http://127.0.0.1:9/v1")],
                                                       [model("chat", "openai/gpt-4o")]), "gateway")
        stage.endings.append(self.end)
        self.gateway.state_dir.mkdir(mode=0o700)
        self.path = self.gateway.state_dir / "history.db"
        self.home = Home(stage.directory / "home")
        self.home.write("local", local={"socket": str(self.gateway.state_dir / "admin.sock")})
        self.home("db", "migrate", "up", "--state-dir", self.gateway.state_dir)

    def end(self):
        if self.gateway.is_running():
            self.gateway.stop()

    def execute(self, sql, *parameters):
        with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as db, db:
            return db.execute(sql, parameters).fetchall()

    def insert(self, facts):
        """What a gateway writes for them, but for the sketches; late ones mark their hour."""
        rows = []
        for f in facts:
            minute, ttft = f.end_ms // 60000 * 60, (f.ttft or 0) * 1000
            tokens, outcome = (f.tin, f.tcached, 0, f.tout, 0, 0, 0, f.cost, 0), "success" if f.ok else "error"
            if f.before:
                p, m, ms = f.before
                rows.append(("attempt", minute, f.hour, p, m, "error", *(0,) * 9, ms * 1000, 0, 0))
            rows.append(("attempt", minute, f.hour, f.provider, f.model, outcome, *tokens, f.ms * 1000, ttft, int(f.ttft is not None)))
            rows.append(("request", minute, f.hour, f.provider, f.model, outcome, *tokens, f.ms * 1000, ttft, int(f.ttft is not None)))
        with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as db, db:
            for kind, minute, hour, p, m, outcome, *numbers in rows:
                self.seq += 1
                values = ["sql", self.seq, 0, kind, minute, hour, "acme", "test", p, m, "/v1/chat/completions", outcome, "", "none", "reported", 1,
                          *numbers]
                db.execute(f"INSERT INTO ledger ({self.LINE}) VALUES ({','.join('?' * len(values))})", values)
            db.execute("INSERT OR IGNORE INTO dirty_hours (hour, since) SELECT DISTINCT minute / 3600 * 3600, 1 FROM ledger WHERE seq > ? "
                       "AND minute / 3600 * 3600 IN (SELECT hour FROM aggregated_hours)", (self.seq - len(rows),))

    def live(self, h):
        """A start of the gateway while lines have the file, lines while it lives, and a death among lines."""
        subprocess.run([BIN / "daytool", self.gateway.state_dir], input="".join(f.line() for f in self.day.add(h)), text=True, check=True)
        lines = [self.home.cron() for _ in range(3)]
        self.gateway.start()
        ended(lines)
        eventually(lambda: self.execute("SELECT sum(count) FROM ledger WHERE kind = 'request'") == [(len(self.day.facts),)], 20 * SLOWNESS,
                   what="the hour in the ledger")
        ended([self.home.cron() for _ in range(3)])
        lines = [self.home.cron() for _ in range(2)]
        self.gateway.kill() if h % 2 else self.gateway.stop()
        ended(lines, (0, NO_ANSWER, CONFLICT, 1))  # whoever was asked may be gone in the middle of it


def test_the_same_day_in_a_file(stage):
    site = Embedded(stage)
    for h in range(HOURS):
        if h in (5, 14, 20):
            site.live(h)
            continue
        site.insert(site.day.add(h))
        if h == 9:  # left out
            status = json.loads(site.home("aggregate", "status", "-o", "json", code=WARNING).stdout)["data"]
            assert (status["missing_hours"], status["loss_at"]) == (1, None)
            continue
        ended([site.home.cron() for _ in range(4 if h % 6 == 1 else 1)])
    want, _ = add_up(site.day.facts)
    rows = site.execute(f"SELECT substr(hour, 1, 13), provider, model, {', '.join(STORED)} FROM metrics_hourly_aggregates")
    assert {tuple(r[:3]): dict(zip(STORED, r[3:])) for r in rows} == want and len(rows) == len(want)
    assert [h for h, in site.execute("SELECT hour FROM aggregated_hours ORDER BY hour")] == [site.day.first + h * HOUR for h in range(HOURS)]
    assert site.execute("SELECT count(*) FROM dirty_hours") == [(0,)]
    status = json.loads(site.home("aggregate", "status", "-o", "json").stdout)["data"]
    assert (status["missing_hours"], status["dirty_hours"], status["result"]) == (0, 0, "ok")
    pairs = json.loads(site.home("reconcile", "-o", "json", "--from", hour_of(site, 0)).stdout)["data"]["pairs"]
    differ = {p["pair"]: p["different"] for p in pairs}
    assert differ["ledger_self"] == differ["ledger_hourly"] == 0, pairs  # budgets were not part of what was inserted


@pytest.mark.asan
def test_a_file_that_a_command_has_is_waited_for(stage):
    """By lines that say so, and by a gateway that starts; nobody is asked who is not there."""
    site = Embedded(stage)
    site.insert(site.day.add(0))
    with open(f"{site.path}.lock", "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        busy = site.home("aggregate", "hourly", code=CONFLICT).stderr
        assert busy.splitlines() == ["aigwctl: the history store is in use, and no gateway answers for it", f"  '{site.path}'"]
        line = site.home.cron()
        site.gateway.spawn()
        with pytest.raises(subprocess.TimeoutExpired):
            line.wait(0.5)
        assert site.gateway.is_running() and not site.gateway.ready_file.exists()
    ended([line])
    eventually(site.gateway.ready_file.exists, 20 * SLOWNESS, what="the gateway starts")
    assert site.execute("SELECT hour FROM aggregated_hours") == [(site.day.first,)]
