# SPDX-License-Identifier: Apache-2.0
"""The hourly job as cron and operators run it: on SQLite, on PostgreSQL, from Redis; equal to sums made here."""

import csv
import gzip
import io
import json
import sqlite3
import subprocess
import time

import pytest
from support.gateway import http, model, provider, run
from support.process import BIN, SANITIZER
from support.wait import eventually

OK, FAILED, USAGE, NO_ANSWER, NOT_FOUND, CONFLICT, CANCELLED = 0, 1, 2, 3, 5, 6, 7
WARNING, CRITICAL = 10, 11
HOUR = 3600
COLUMNS = (
    "instance,seq,line,kind,minute,budget_hour,tenant,key,provider,model,endpoint,outcome,error,stream_end,"
    "usage_source,count,tokens_in,tokens_cached,tokens_cwrite,tokens_out,tokens_reasoning,images,searches,"
    "cost_nano,unpriced,latency_us,ttft_us,ttft_count"
).split(",")


def hour_text(second):
    return time.strftime("%Y-%m-%dT%H", time.gmtime(second))


def traffic(hour, n=40):
    """Ledger lines of one hour: every third request fails over once."""
    lines = []
    for i in range(n):
        base = {
            "instance": "i1", "line": 0, "budget_hour": hour, "minute": hour + i * HOUR // n // 60 * 60, "tenant": "acme",
            "key": "web", "provider": "openai" if i % 2 else "groq", "model": "m/%d:x" % (i % 3), "endpoint": "/v1/x",
            "error": "", "stream_end": "none", "usage_source": "reported", "count": 1, "tokens_cached": 1,
            "tokens_cwrite": 0, "tokens_reasoning": 2, "images": 0, "searches": 0, "unpriced": 0,
        }
        tries = 2 if i % 3 == 0 else 1
        for t in range(tries):
            lines.append({**base, "kind": "attempt", "outcome": "success" if t + 1 == tries else "error",
                          "tokens_in": 100 + i, "tokens_out": 7 * i, "cost_nano": 1000 + 31 * i,
                          "latency_us": 20000 + i * i * 311, "ttft_us": 9000, "ttft_count": 1})
        lines.append({**base, "kind": "request", "outcome": "success", "tokens_in": tries * (100 + i),
                      "tokens_cached": tries, "tokens_reasoning": 2 * tries, "tokens_out": tries * 7 * i,
                      "cost_nano": tries * (1000 + 31 * i), "latency_us": 30000, "ttft_us": 9000, "ttft_count": 1})
    lines.append({**lines[-1], "kind": "request", "provider": "", "model": "", "outcome": "rejected", "cost_nano": 0,
                  "tokens_in": 0, "tokens_out": 0, "tokens_cached": 0, "tokens_reasoning": 0})
    return lines


def bucket_of(us):
    """The sketch's log-linear bucket, as its header draws it."""
    if us < 64:
        return us
    top = us.bit_length() - 1
    return ((top - 5) << 6) + ((us >> (top - 6)) & 63)


def expected(lines):
    rows = {}
    for line in lines:
        if not line["provider"]:
            continue
        hour = line["minute"] // HOUR * HOUR
        row = rows.setdefault((hour_text(hour), line["provider"], line["model"]), dict.fromkeys(
            "req attempts ok err tin tcached tout treason cost_nano lat_us ttfb_us ttfb_n".split(), 0))
        if line["kind"] == "request":
            row["req"] += 1
            continue
        row["attempts"] += 1
        row["ok"] += line["outcome"] == "success"
        row["err"] += line["outcome"] == "error"
        for measure, column in (("tin", "tokens_in"), ("tcached", "tokens_cached"), ("tout", "tokens_out"),
                                ("treason", "tokens_reasoning"), ("cost_nano", "cost_nano"),
                                ("lat_us", "latency_us"), ("ttfb_us", "ttft_us"), ("ttfb_n", "ttft_count")):
            row[measure] += line[column]
    return rows


STORED = ("req", "attempts", "ok", "err", "tin", "tcached", "tout", "treason", "cost_nano", "lat_us", "ttfb_us", "ttfb_n")


class Sqlite:
    def __init__(self, directory):
        self.path = directory / "state" / "history.db"
        self.path.parent.mkdir()
        self.args = ["--state-dir", self.path.parent]
        self.name = "history.db"

    def execute(self, sql, *parameters):
        db = sqlite3.connect(self.path, isolation_level=None)
        try:
            return db.execute(sql.replace("%s", "?"), parameters).fetchall()
        finally:
            db.close()

    def hourly(self):
        return self.execute(f"SELECT substr(hour, 1, 13), provider, model, {','.join(STORED)} "
                            "FROM metrics_hourly_aggregates")


class Postgresql:
    def __init__(self, stage):
        self.server = stage.postgres()
        self.args = ["--database", self.server.url()]
        self.name = self.server.url().rsplit("/", 1)[1].split("?")[0]
        self.db = self.server.connect()
        self.db.autocommit = True

    def execute(self, sql, *parameters):
        with self.db.cursor() as c:
            c.execute(sql, parameters)
            return c.fetchall() if c.description else []

    def hourly(self):
        return self.execute("SELECT to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24'), provider, model, "
                            f"{','.join(STORED)} FROM metrics_hourly_aggregates")


class Books:
    def __init__(self, store, directory):
        self.store, self.directory, self.seq = store, directory, 0
        self("db", "migrate", "up")

    def __call__(self, *args, code=OK, env=None):
        done = run(["aigwctl", *args, *self.store.args], env=env, directory=self.directory)
        assert not SANITIZER.search(done.stderr), done.stderr
        assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
        return done

    def data(self, *args, **more):
        return json.loads(self(*args, "-o", "json", **more).stdout)["data"]

    def write(self, lines):
        for line in lines:
            self.seq += 1
            line = {**line, "seq": self.seq}
            self.store.execute(f"INSERT INTO ledger ({','.join(COLUMNS)}) VALUES ({','.join(['%s'] * len(COLUMNS))})",
                               *(line[c] for c in COLUMNS))

    def rows(self):
        return {tuple(r[:3]): dict(zip(STORED, r[3:])) for r in self.store.hourly()}


@pytest.fixture(params=["sqlite", "postgresql"])
def books(request, stage, tmp_path):
    return Books(Sqlite(tmp_path) if request.param == "sqlite" else Postgresql(stage), tmp_path)


@pytest.fixture
def closed():
    """The start of the newest hour that is surely closed."""
    return int(time.time() - 10 * 60) // HOUR * HOUR - HOUR


@pytest.mark.asan
def test_rows_equal_sums_made_elsewhere_and_twice_changes_nothing(books, closed):
    lines = traffic(closed) + traffic(closed - 5 * HOUR) + traffic(int(time.time()) // HOUR * HOUR, 5)
    books.write(lines)
    want = {k: v for k, v in expected(lines).items() if k[0] <= hour_text(closed)}
    status = books.data("aggregate", "status", code=WARNING)
    assert status["missing_hours"] == 2 and status["loss_at"] is None and status["source"] == "ledger"
    assert books.data("aggregate", "hourly", "--dry-run")["hours"] == 2
    assert books.rows() == {}
    done = books.data("aggregate", "hourly")
    assert (done["hours"], done["source"], done["dirty"]) == (2, "ledger", 0)
    assert books.rows() == want
    assert books("aggregate", "hourly", "--quiet").stdout == ""
    assert books.data("aggregate", "hourly", "--hour", hour_text(closed))["hours"] == 1
    assert books.rows() == want
    assert books.data("aggregate", "status")["missing_hours"] == 0
    books("db", "verify")


def test_a_late_line_counts_after_its_hour_was_marked(books, closed):
    books.write(traffic(closed))
    books("aggregate", "hourly")
    late = traffic(closed, 3)
    books.write(late)
    books.store.execute("INSERT INTO dirty_hours (hour, since) VALUES (%s, 1)", closed)
    books("db", "verify", code=WARNING)
    assert books.data("aggregate", "hourly")["dirty"] == 1
    assert books.rows() == expected(traffic(closed) + late)


KILLED = -9


@pytest.mark.points
@pytest.mark.parametrize("point", ["begun", "after_clean", "after_delete", "after_insert", "before_commit", "after_commit",
                                   "before_tidy", "after_tidy"])
def test_a_job_that_dies_anywhere_is_finished_by_the_next(books, closed, point):
    lines = traffic(closed) + traffic(closed - 3 * HOUR)
    books.write(lines)
    books("aggregate", "hourly", code=KILLED, env={"GATEWAYD_CRASH": f"rollup_{point}:1"})
    stored = books.rows()
    want = expected(lines)
    assert all(want[k] == v for k, v in stored.items()), "half an hour is stored"
    books("aggregate", "hourly", "--lock-wait", "20s")
    assert books.rows() == want
    late = traffic(closed, 3)  # the same once more for an hour that has rows
    books.write(late)
    books.store.execute("INSERT INTO dirty_hours (hour, since) VALUES (%s, 1)", closed)
    books("aggregate", "hourly", code=KILLED, env={"GATEWAYD_CRASH": f"rollup_{point}:1"})
    assert books.rows() in (want, expected(lines + late))
    books("aggregate", "hourly", "--lock-wait", "20s")
    assert books.rows() == expected(lines + late)
    books("db", "verify")


def test_open_hours_and_nonsense_are_refused(books, closed):
    now = hour_text(time.time())
    books("aggregate", "hourly", "--hour", now, code=CONFLICT)
    books("aggregate", "hourly", "--hour", "yesterday", code=USAGE)
    books("aggregate", "backfill", "--from", hour_text(closed), code=USAGE)
    books("aggregate", "weekly", code=USAGE)
    books("aggregate", "hourly", "--source", "redis", code=USAGE)
    range_ = ["--from", hour_text(closed - 2 * HOUR), "--to", hour_text(closed)]
    refused = books("aggregate", "backfill", *range_, code=CONFLICT)
    assert "3 hours is gone" in refused.stderr
    assert books.data("aggregate", "backfill", *range_, "--allow-gaps")["hours"] == 3


def test_drift_is_found_and_the_rows_follow_the_ledger(books, closed):
    books.write(traffic(closed))
    books("aggregate", "hourly")
    books.store.execute("UPDATE metrics_hourly_aggregates SET cost_nano = cost_nano + 3, tin = tin - 1")
    found = books.data("reconcile", "--exit-code", code=WARNING)
    pair = {p["pair"]: p for p in found["pairs"]}["ledger_hourly"]
    assert pair["different"] == pair["compared"] == len(books.rows()) and pair["drift"] == 3 * pair["different"]
    assert {d["measure"] for d in found["differences"]} == {"cost_nano", "tin"}
    books("db", "verify", code=CRITICAL)
    assert books.data("reconcile", "--repair")["applied"] is False
    assert books.rows() != expected(traffic(closed))
    assert books.data("reconcile", "--repair", "--apply")["applied"] is True
    assert books.rows() == expected(traffic(closed))
    assert not books.data("reconcile", "--exit-code")["differences"]


def test_the_archive_deletes_what_is_in_its_file(books, closed, tmp_path):
    old = closed - 100 * 24 * HOUR
    books.write(traffic(old) + traffic(closed))
    out = tmp_path / "old.csv.gz"
    archive = ["db", "archive", "--older-than", "90d", "--out-file", out]
    books(*archive, code=CANCELLED)
    refused = books(*archive, "--confirm", books.store.name, code=CONFLICT)
    assert "is not rolled up" in refused.stderr and not out.exists()
    books("aggregate", "hourly")
    before = books.rows()
    books(*archive, "--confirm", "another", code=CANCELLED)
    done = books.data(*archive, "--confirm", books.store.name)
    with gzip.open(out, "rt", newline="") as f:
        rows = list(csv.DictReader(f))
    assert done["rows"] == done["deleted"] == len(rows) == len(traffic(old))
    assert sorted(int(r["cost_nano"]) for r in rows) == sorted(x["cost_nano"] for x in traffic(old))
    assert books.store.execute("SELECT count(*) FROM ledger")[0][0] == len(traffic(closed))
    books("aggregate", "hourly")
    assert books.rows() == before
    books(*archive, "--confirm", books.store.name, code=CONFLICT)  # the file is there


@pytest.mark.points
@pytest.mark.parametrize("point", ["after_verify", "before_commit"])
def test_an_archive_that_dies_deletes_nothing(books, closed, tmp_path, point):
    old = closed - 100 * 24 * HOUR
    books.write(traffic(old) + traffic(closed))
    books("aggregate", "hourly")
    archive = ["db", "archive", "--older-than", "90d", "--confirm", books.store.name, "--out-file"]
    books(*archive, tmp_path / "first.gz", code=KILLED, env={"GATEWAYD_CRASH": f"archive_{point}:1"})
    assert books.store.execute("SELECT count(*) FROM ledger")[0][0] == len(traffic(old) + traffic(closed))
    done = books.data(*archive, tmp_path / "second.gz")
    assert done["rows"] == done["deleted"] == len(traffic(old))
    assert books.store.execute("SELECT count(*) FROM ledger")[0][0] == len(traffic(closed))


def fill_redis(redis, lines, ttl):
    """What gateways keep in Redis for these lines."""
    commands = []
    for line in lines:
        if not line["provider"]:
            continue
        hour = line["minute"] // HOUR * HOUR
        key = "{gw}:h:%s:%s:%s" % (hour_text(hour), line["provider"], line["model"].replace("%", "%25").replace(":", "%3A"))
        if line["kind"] == "request":
            add = {"req": 1}
        else:
            add = {"attempts": 1, "ok" if line["outcome"] == "success" else "err": 1, "tin": line["tokens_in"],
                   "tcached": line["tokens_cached"], "tout": line["tokens_out"], "treason": line["tokens_reasoning"],
                   "cost_nano": line["cost_nano"], "lat_us": line["latency_us"], "ttfb_us": line["ttft_us"],
                   "ttfb_n": 1, "b%d" % bucket_of(line["latency_us"]): 1}
        commands += [("HINCRBY", key, field, str(n)) for field, n in add.items()]
        commands += [("EXPIRE", key, str(ttl)), ("ZADD", "{gw}:hours", str(hour), hour_text(hour))]
    with redis.client() as c:
        c.pipeline(commands)


def test_redis_gives_the_same_rows_where_there_is_no_ledger(books, stage, closed):
    redis = stage.redis()
    lines = traffic(closed) + traffic(closed - HOUR)
    fill_redis(redis, lines, ttl=1800)
    env = {"REDIS_URL": redis.url()}
    status = books.data("aggregate", "status", env=env, code=CRITICAL)
    assert status["missing_hours"] == 2 and status["source"] == "redis" and status["loss_at"]
    text = books("aggregate", "status", env=env, code=CRITICAL).stdout
    assert "Redis forgets the first of it" in text and "before the next run" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    done = books.data("aggregate", "hourly", env=env)
    assert (done["hours"], done["source"]) == (2, "redis")
    assert books.rows() == expected(lines)
    assert books.data("aggregate", "status", env=env)["loss_at"] is None
    # An hour that grew afterwards is done again; one that is only there is not.
    fill_redis(redis, traffic(closed, 4), ttl=1800)
    assert books.data("aggregate", "hourly", env=env)["hours"] == 1
    assert books.rows() == expected(lines + traffic(closed, 4))
    assert redis.url() not in books("aggregate", "hourly", env=env).stderr


def test_what_cannot_be_reached_says_so(tmp_path, stage):
    def ctl(*args, code):
        done = run(["aigwctl", *args], env={}, directory=tmp_path)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "s3cret" not in done.stdout + done.stderr
        return done

    ctl("aggregate", "hourly", "--database", "postgresql://u:s3cret@127.0.0.1:1/x", code=NO_ANSWER)
    ctl("aggregate", "status", "--database", tmp_path / "none.db", code=NOT_FOUND)
    (tmp_path / "empty").mkdir()
    ctl("db", "migrate", "up", "--state-dir", tmp_path / "empty", code=OK)
    ctl("aggregate", "hourly", "--state-dir", tmp_path / "empty", "--redis", "redis://:s3cret@127.0.0.1:1", "--source",
        "redis", code=NO_ANSWER)
    ctl("aggregate", "hourly", "--state-dir", tmp_path / "empty", "--database", "", code=OK)


def test_periodic_runs_until_it_is_told_to_stop(tmp_path):
    store = Sqlite(tmp_path)
    books = Books(store, tmp_path)
    p = subprocess.Popen([BIN / "aigwctl", "aggregate", "hourly", "--periodic=1s", "-o", "csv", *map(str, store.args)],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: store.execute("SELECT count(*) FROM aggregation_runs")[0][0] >= 2, 20, what="two runs")
    finally:
        p.terminate()
        out, err = p.communicate(timeout=20)
    assert p.returncode == 143, (p.returncode, out, err)
    assert len(list(csv.reader(io.StringIO(out)))) >= 4
    assert books.data("aggregate", "status")["result"] == "ok"


@pytest.mark.asan
def test_a_living_gateway_keeps_its_own_books(stage, tmp_path):
    """SQLite has one writer: what changes the file is asked of the gateway, what reads it is not."""
    sim = stage.simulator(seed=3)
    gw = stage.gateway([provider("openai", sim.base_url("steady"))], [model("chat", "openai/gpt-4o-mini")])

    def ctl(*args, code=OK):
        done = run(["aigwctl", *args, "--state-dir", gw.state_dir], env={}, directory=tmp_path)
        assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
        return done

    def data(*args, **more):
        return json.loads(ctl(*args, "-o", "json", **more).stdout)["data"]

    for _ in range(3):
        assert gw.chat().status == 200

    def level():
        pairs = {p["pair"]: p for p in data("reconcile", "--repair", "--apply")["pairs"]}
        return pairs if pairs["ledger_redis"]["known"] and pairs["ledger_redis"]["compared"] else None

    pairs = eventually(level, 20, what="both stores have the traffic")
    assert all(p["different"] == 0 for p in pairs.values()), pairs
    assert pairs["ledger_budgets"]["compared"] >= 1
    done = data("aggregate", "hourly")
    assert (done["hours"], done["source"]) == (0, "ledger")
    assert data("aggregate", "status")["result"] == "ok"
    ctl("db", "migrate", "status")
    ctl("db", "migrate", "up", code=CONFLICT)
    ctl("db", "archive", "--older-than", "90d", "--out-file", tmp_path / "x.csv", "--confirm", "history.db", code=CONFLICT)
    ctl("db", "archive", "--older-than", "90d", "--out-file", tmp_path / "x.csv", "--keep")
    refused = ctl("aggregate", "backfill", "--from", "2020-01-01T00", "--to", "2020-01-01T01", code=CONFLICT)
    assert "2 hours is gone" in refused.stderr
    bad = http(gw.admin_url + "/api/admin/aggregate", "POST", {"form": "x"},
               {"authorization": "Bearer " + gw.config["admin"]["token"]})
    assert bad.status == 400 and "'form' is not known" in bad.body.decode()
