# SPDX-License-Identifier: Apache-2.0
"""aigwtop on a real terminal beside a real gateway: the numbers on the screen are those of the API and of the simulator."""

import csv
import io
import json
import os
import re
import subprocess
import time

import pytest
from support.gateway import http, model, provider, run
from support.process import BIN, SLOWNESS
from support.screen import Screen
from support.wait import eventually

OK, NO_ANSWER, NO_AUTH, WARNING, CRITICAL = 0, 3, 4, 10, 11
OUTAGE_S = float(os.environ.get("AIGWTOP_OUTAGE", "2"))  # 120 is the long form
GOOD, BAD = 24, 8


@pytest.fixture
def screens(tmp_path):
    opened = []

    def open_one(args, **more):
        opened.append(Screen(tmp_path, args, **more))
        return opened[-1]

    yield open_one
    for s in opened:
        s.close()


def admin(gateway, path):
    return http(gateway.admin_url + path, headers={"authorization": "Bearer " + gateway.ready["admin_token"]}).json


def serve(stage, with_redis=True):
    sim = stage.simulator()
    sim.control.profile("flaky", script=["500", "ok"] * BAD)
    redis = stage.redis() if with_redis else None
    gateway = stage.gateway(
        [provider("anthropic", sim.base_url("anthropic"), allow_private=True), provider("flaky", sim.base_url("flaky"), allow_private=True)],
        [model("good", "anthropic/claude-sonnet-4-5"), model("bad", "flaky/gpt-4o-mini", retries=0)],
        env={"REDIS_URL": redis.url()} if redis else None,
        tenants=None)
    for i in range(GOOD):
        assert gateway.chat(f"hello {i}", model="good").status == 200
    statuses = [gateway.chat(f"hello {i}", model="bad").status for i in range(BAD)]
    assert statuses.count(200) == BAD // 2, statuses
    return gateway, sim, redis


def where(gateway, redis):
    """How aigwtop is told of the source, and its environment."""
    if redis:
        return ["--redis", redis.url()], {}
    return ["--url", gateway.admin_url], {"GATEWAYD_TOKEN": gateway.ready["admin_token"]}


def rows(gateway, redis, view, *more):
    args, env = where(gateway, redis)
    done = run(["aigwtop", "-1", "--no-warmup", "-o", "json", "--view", view, *args, *more], env=env, timeout=30 * SLOWNESS)
    assert done.returncode == OK, done.stderr
    return json.loads(done.stdout)["data"]


def number(text):
    """"3.2ms" in milliseconds, "$0.0031", "12.5"."""
    value = float(re.match(r"\$?([\d.,]+)", text)[1].replace(",", ""))
    return value * 1000 if re.fullmatch(r"[\d.]+s", text) else value


@pytest.mark.parametrize("with_redis", [True, False], ids=["redis", "api"])
def test_the_screen_shows_what_the_gateway_did(stage, screens, with_redis):
    gateway, sim, redis = serve(stage, with_redis)
    truth = eventually(lambda: (h := {r["provider"]: r for r in admin(gateway, "/api/monitoring/health")})["flaky"]["attempts"] == BAD and h, 20 * SLOWNESS)
    spent = sum(m["total_cost_nanousd"] for m in admin(gateway, "/api/monitoring/cost-analysis?since=start")["providers"]) / 1e9
    if redis:
        eventually(lambda: {r["provider"]: r["attempts"] for r in rows(gateway, redis, "latency")} == {"anthropic": GOOD, "flaky": BAD}, 20 * SLOWNESS)
    args, env = where(gateway, redis)
    screen = screens(args, env=env)
    screen.shows("LIVE", "anthropic", "flaky", "[1 Providers]", "F10Quit")

    steady, flaky = screen.row("anthropic"), screen.row("flaky")
    # PROVIDER SCORE ● state REQ/S ERR% P50 P95 $/H trend AGE
    columns = screen.lines()[4].split()
    assert columns[:7] == ["PROVIDER", "SCORE", "STATE", "REQ/S", "ERR%", "P50", "P95"]
    for row, name in ((steady, "anthropic"), (flaky, "flaky")):
        error, p50, p95 = row[5:8]
        assert float(error) == pytest.approx(truth[name]["error_rate"] * 100, abs=0.051)
        assert number(p50) == pytest.approx(truth[name]["latency_p50_ms"], rel=0.03, abs=0.06)
        assert number(p95) == pytest.approx(truth[name]["latency_p95_ms"], rel=0.03, abs=0.06)

    screen.keys("2")
    screen.shows("[2 Models]", "gpt-4o-mini", "claude-sonnet-4-5")
    if redis:
        screen.keys("6")
        screen.shows("[6 Latency]")
        assert int(eventually(lambda: (r := screen.row("anthropic")) and r[2].isdigit() and r, 10 * SLOWNESS)[2]) == GOOD
        assert int(screen.row("flaky")[2]) == BAD == len([r for r in sim.control.settled_log() if r["profile"] == "flaky"])
        screen.keys("5")
        screen.shows("[5 Errors]", "upstream_error")
        assert sum(" 500 " in line for line in screen.lines()) == BAD // 2
        screen.keys("Enter")
        screen.shows("tenant acme   key test", "aigwctl explain")
        screen.keys("Escape")
        screen.keys("3")
        screen.shows("[3 Tenants]", "acme", "month")
        row = next(line.split() for line in screen.lines() if "acme" in line and "month" in line)
        assert number(next(w for w in row if w.startswith("$"))) == pytest.approx(spent, rel=0.005)
    screen.keys("1")
    screen.shows("[1 Providers]")
    screen.resize(60, 15)
    screen.shows("ST  REQ/S", "anthropic", "?help")
    screen.resize(160, 50)
    text = screen.shows("CACHE%", "TOK/S", "F10Quit")
    assert max(len(line) for line in text.split("\n")) == 160
    screen.keys("Q")
    screen.shows("EXIT 0")


def test_without_utf8_everything_is_ascii(stage, screens):
    gateway, _, _ = serve(stage, with_redis=False)
    args, env = where(gateway, None)
    screen = screens(args, env=env, locale="C")
    text = screen.shows("+ LIVE", "anthropic", "F10Quit")
    assert text.isascii()
    screen.keys("?")
    assert screen.shows("FIND AND ORDER").isascii()


def test_the_selection_stays_with_its_row_and_the_terminal_is_left_as_it_was(stage, screens, tmp_path):
    gateway, _, redis = serve(stage)
    args, env = where(gateway, redis)
    screen = screens(args, env=env)
    screen.shows("LIVE", "anthropic")
    screen.keys("G", "Enter")
    last = screen.shows("score explained").split("\n")[0].split()[2]
    screen.keys("Escape")
    screen.shows("[1 Providers]")
    for size in ((60, 15), (39, 9), (160, 50), (80, 24)):
        screen.resize(*size)
        screen.shows("needs 40x10" if size == (39, 9) else "anthropic")
    screen.keys("I")  # the other way round: another line, the same row
    screen.keys("Enter")
    assert screen.shows("score explained").split("\n")[0].split()[2] == last
    screen.keys("q")
    screen.shows("[1 Providers]")
    screen.keys("c")
    screen.shows(f"aigwctl health {last}")
    screen.keys("Escape")
    screen.keys("\\", "err>5", "Enter")
    text = screen.shows("filter: err>5", "1 of 2")
    assert "flaky" in text
    screen.keys("x", "Enter")
    name = re.search(r"rows are in (\S+)", screen.shows("rows are in"))[1]
    exported = list(csv.DictReader(io.StringIO((tmp_path / name).read_text())))
    assert [r["provider"] for r in exported] == ["flaky"] and float(exported[0]["error_rate"]) == 0.5
    screen.keys("q")
    text = screen.shows("EXIT 0")
    eventually(lambda: (tmp_path / "after").exists() and (tmp_path / "after").stat().st_size, 5 * SLOWNESS)
    assert (tmp_path / "before").read_text() == (tmp_path / "after").read_text()


def resident(screen):
    """Bytes of the program in memory."""
    return int(open(f"/proc/{screen.pid()}/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_redis_that_dies_and_comes_back(stage, screens):
    gateway, _, redis = serve(stage)
    args, env = where(gateway, redis)
    screen = screens([*args, "-d", "0.5"], env=env)
    screen.shows("LIVE", "anthropic")
    redis.kill()
    screen.shows("STALE")
    before = resident(screen)
    text = screen.shows("STALE", "Rates are blank", "anthropic")
    assert re.search(r"Try \d+, next in \d+s", text)
    row = screen.row("anthropic")
    assert "○" in text and not any(re.fullmatch(r"\d+\.\d\d", w) for w in row[4:]), row  # no money per hour
    screen.keys("?")
    screen.shows("FIND AND ORDER")
    screen.keys("Escape", "2")
    screen.shows("[2 Models]", "STALE")
    screen.keys("1")
    ends = time.monotonic() + OUTAGE_S
    while time.monotonic() < ends:
        assert "EXIT" not in screen.text()
        time.sleep(0.2)
    assert resident(screen) - before < 1 << 20  # waiting costs nothing
    redis.start()
    screen.shows("LIVE", "anthropic", within=16 * SLOWNESS)  # by itself
    screen.keys("Q")
    screen.shows("EXIT 0")


def test_a_gateway_that_died_is_told_from_a_redis_that_did(stage, screens):
    gateway, _, redis = serve(stage)
    args, _ = where(gateway, redis)
    gateway.stop()
    redis.call("DEL", *[k for k in redis.client().scan("{gw}:inst:*")])
    for key in redis.client().scan("{gw}:p:*"):  # as if that had been long ago
        redis.call("DEL", key)
    screens([*args, "-d", "0.5"]).shows("NO WRITER", "systemctl status gatewayd")


def test_batch_mode_prints_what_programs_read(stage, tmp_path):
    gateway, _, redis = serve(stage)
    args, _ = where(gateway, redis)
    eventually(lambda: {r["provider"]: r["attempts"] for r in rows(gateway, redis, "latency")} == {"anthropic": GOOD, "flaky": BAD}, 20 * SLOWNESS)

    def top(*more, code=OK, env=None):
        done = run(["aigwtop", *more], env=env, timeout=30 * SLOWNESS)
        assert done.returncode == code, (more, done.stdout, done.stderr)
        return done.stdout

    found = json.loads(top("-1", "--no-warmup", "-o", "json", *args))
    assert found["schema"] == "gatewayd.top.providers/1" and found["source"] == "redis" and found["stale"] is False
    assert {r["provider"]: r["error_rate"] for r in found["data"]} == {"anthropic": 0, "flaky": 0.5}
    lines = top("-b", "-n", "2", "-d", "0.2", "-o", "ndjson", *args).splitlines()
    assert len(lines) == 4 and all(json.loads(line)["time"] for line in lines)
    table = list(csv.reader(io.StringIO(top("-b", "-n", "2", "-d", "0.2", "-o", "csv", "--columns", "provider,p95", *args))))
    assert table[0] == ["time", "provider", "latency_p95_ms"] and len(table) == 5
    prom = top("-1", "--no-warmup", "-o", "prom", *args)
    assert re.search(r'^aigwtop_providers_error_rate\{provider="flaky"\} 0\.5$', prom, re.M)
    lint = subprocess.run(["promtool", "check", "metrics"], input=prom, text=True, check=False, capture_output=True)
    assert lint.returncode in (0, 3), lint.stderr  # 3: it would like seconds better than milliseconds
    assert [w.split()[0] for w in top("-1", "--no-warmup", "--filter", "err>5", *args).splitlines()] == ["PROVIDER", "flaky"]

    for view in ("providers", "models", "tenants", "breakers", "errors", "latency", "anomalies"):
        assert max(len(line) for line in top("-1", "--no-warmup", "--view", view, *args).splitlines()) <= 80, view
    wide = top("-1", "--no-warmup", "--columns", ",".join(r for r in found["data"][0]), *args).splitlines()
    assert "CACHE%" in wide[0] and "TOK/S" in wide[0] and len(wide) == 3  # what is asked for by name is there

    recording = tmp_path / "recording"
    top("-1", "--no-warmup", "--record", str(recording), *args)
    replayed = json.loads(top("-b", "-o", "json", "--replay", str(recording)))["data"]
    assert {r["provider"]: r["error_rate"] for r in replayed} == {"anthropic": 0, "flaky": 0.5}

    top("-1", "--no-warmup", "--redis", "redis://127.0.0.1:1", code=NO_ANSWER)
    top("-1", "--no-warmup", "--url", gateway.admin_url, code=NO_AUTH)
    top("-1", "--columns", "nonsense", *args, code=2)
    top("-1", "--exit-code", "--filter", "nobody", "--no-warmup", *args)
    score = {r["provider"]: r["health_score"] for r in found["data"]}["flaky"]
    if score is not None:
        top("-1", "--exit-code", "--no-warmup", *args, code=WARNING if score >= 50 else CRITICAL)
    # A reader that goes away ends it without a word.
    pipe = subprocess.run(f"'{BIN}/aigwtop' -b -d 0.2 --redis '{redis.url()}' | head -n 1", shell=True, capture_output=True, text=True, timeout=20)
    assert pipe.stdout.startswith("PROVIDER") and not pipe.stderr


def test_a_context_gives_address_token_and_redis(stage, screens, tmp_path):
    gateway, _, redis = serve(stage)
    (tmp_path / "token").write_text(gateway.ready["admin_token"] + "\n")
    (tmp_path / "wrong").write_text("wrong\n")
    (tmp_path / "gatewayd").mkdir()
    known = {"prod": {"url": gateway.admin_url, "token-file": str(tmp_path / "token"), "redis": redis.url()},
             "plain": {"url": gateway.admin_url, "token-file": str(tmp_path / "token")},
             "refused": {"url": gateway.admin_url, "token-file": str(tmp_path / "wrong")},
             "spare": {"url": gateway.admin_url, "token-file": str(tmp_path / "token"), "redis": "redis://127.0.0.1:1"}}
    (tmp_path / "gatewayd/ctl.yaml").write_text(json.dumps({"current-context": "prod", "contexts": known}))
    home = {"XDG_CONFIG_HOME": str(tmp_path)}

    def top(*args, code=OK, **env):
        done = run(["aigwtop", "-1", "--no-warmup", "-o", "json", *args], env={**home, **env}, timeout=30 * SLOWNESS)
        assert done.returncode == code, (args, done.stdout, done.stderr)
        return (json.loads(done.stdout)["source"], {r["provider"] for r in json.loads(done.stdout)["data"]}) if code == OK else done.stderr

    both = {"anthropic", "flaky"}
    eventually(lambda: top() == ("redis", both), 20 * SLOWNESS)
    assert top("--source", "api") == top("-c", "plain") == top(GATEWAYD_CONTEXT="plain", REDIS_URL=redis.url()) == ("api", both)
    assert top("-c", "spare") == ("api", both)  # its Redis has never answered
    assert top("-c", "refused", "--token-file", str(tmp_path / "token")) == ("api", both)
    assert "'token-file' of the context" in top("-c", "refused", code=NO_AUTH)

    screen = screens([], env=home)
    screen.shows("ctx prod  redis", "LIVE", "anthropic")
    screen.keys(":", "ctx gone", "Enter")
    assert "ctx prod" in screen.shows("no context is named 'gone'")
    screen.keys(":", "ctx plain", "Enter")
    screen.shows("ctx plain  api", "LIVE", "anthropic")
    screen.keys(":", "ctx prod", "Enter")
    screen.shows("ctx prod  redis", "LIVE", "anthropic")
    screen.keys("Q")
    screen.shows("EXIT 0")


def test_thousands_of_models_cost_few_commands(stage, screens, record_property):
    redis = stage.redis()
    now = int(time.time())
    ten = lambda s: time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(s - s % 10))
    spans = [now - 10 * i for i in range(-12, 30)]
    with redis.client() as c:
        for p in range(20):
            words = [("HSET", f"{{gw}}:p:{ten(s)}:p{p}", "attempts", 1000, "req", 1000, *[w for b in range(40) for w in (f"b{600 + 3 * b}", 25)]) for s in spans]
            words += [("ZADD", "{gw}:models", now + 60, f"p{p} model-{m}") for m in range(100)]
            words += [("HSET", f"{{gw}}:t:{ten(s)}:p{p}:model-{m}", "attempts", 10, "b700", 10) for m in range(100) for s in spans[10:15]]
            c.pipeline(words)
        c("HSET", "{gw}:inst:x", "name", "x", "seen", now + 100, "started", now - 3600)
    screen = screens(["--redis", redis.url(), "-d", "0.5"], width=120, height=50)
    screen.shows("LIVE", "p19", "20 of 20")
    screen.keys("2")
    screen.shows("[2 Models]", "model-7", "of 2000")
    redis.call("CONFIG", "RESETSTAT")
    began = time.monotonic()
    pid = screen.pid()
    ticks = lambda: sum(int(x) for x in open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[11:13])
    used = ticks()
    eventually(lambda: redis.commandstats().get("time", 0) >= 6, 30 * SLOWNESS)
    stats, took = redis.commandstats(), time.monotonic() - began
    cpu = (ticks() - used) / os.sysconf("SC_CLK_TCK") / took
    readings = stats["time"]
    reads = sum(n for name, n in stats.items() if name not in ("info", "config|resetstat", "auth", "client|setname", "scan", "ttl"))
    assert "keys" not in stats
    assert reads / readings < 200, stats
    record_property("figure", f"2000 models at 0.5 s: {reads / readings:.0f} commands a reading, {100 * cpu:.1f} % of a core")
