# SPDX-License-Identifier: Apache-2.0
"""Contexts name stores, too: which of them a command takes, what it says of a key that is missing or wrong, and that one which is
read-only protects the stores as well. aigwtop reads the same ones by the same rules."""

import json
import os
import subprocess
import time

import pytest
import yaml

from support.home import Home
from support.process import SANITIZER

OK, USAGE, NO_ANSWER, NO_AUTH, NOT_FOUND, CONFLICT = 0, 2, 3, 4, 5, 6
NOWHERE = "redis://:s3cret@127.0.0.1:1"
LINE = ["aggregate", "hourly", "--quiet"]


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


@pytest.fixture(autouse=True)
def quiet_secrets(monkeypatch):
    """No answer tells a password."""
    call = Home.__call__

    def checked(self, *args, **more):
        done = call(self, *args, **more)
        assert "s3cret" not in done.stdout + done.stderr
        return done

    monkeypatch.setattr(Home, "__call__", checked)


def database(home, name):
    """A history store of that name, with its tables."""
    (home.directory / name).mkdir()
    home("db", "migrate", "up", "--state-dir", home.directory / name)
    return str(home.directory / name / "history.db")


def where(done):
    """Which store answered: its directory."""
    return yaml.safe_load(done.stdout)["data"]["database"].rsplit("/", 2)[1]


STATUS = ["db", "migrate", "status", "-o", "json"]


@pytest.mark.asan
def test_the_cron_line_finds_its_stores_by_the_context(home):
    one, other = database(home, "one"), database(home, "other")
    home.write("prod", prod={"url": "https://gw.example.net", "database": one}, spare={"url": "https://gw2.example.net", "database": other})
    assert home(*LINE).stdout == "" and home(*LINE, GATEWAYD_CONTEXT="spare").stdout == ""
    for args in (["db", "verify"], ["reconcile"], ["aggregate", "status"]):
        home(*args), home(*args, "-c", "spare")
    assert where(home(*STATUS)) == "one" and where(home(*STATUS, "-c", "spare")) == "other"
    assert where(home(*STATUS, GATEWAYD_CONTEXT="spare")) == "other"
    # Options win over contexts, a context that is named over variables, those over the current context.
    assert where(home(*STATUS, "-c", "spare", "--database", one)) == where(home(*STATUS, "-c", "spare", "--state-dir", home.directory / "one")) == "one"
    assert where(home(*STATUS, "-c", "prod", GATEWAYD_DATABASE_URL=other)) == "one"
    assert where(home(*STATUS, GATEWAYD_DATABASE_URL=other)) == where(home(*STATUS, DATABASE_URL=other)) == "other"
    # Another gateway's address leaves the current context out, and with it its stores.
    assert where(home(*STATUS, "--state-dir", home.directory / "other", "--url", "http://127.0.0.1:1")) == "other"


def test_stores_of_one_gateway_are_not_mixed_with_those_of_another(home):
    one, other = database(home, "one"), database(home, "other")
    home.write("one", one={"url": "https://one.example.net", "database": one},
               other={"url": "https://other.example.net", "database": other, "redis": NOWHERE})
    # The Redis of the variable belongs to the variable's database, and that of `other` to `other`.
    home(*LINE, "-c", "one", REDIS_URL=NOWHERE)
    home(*LINE, "-c", "other", code=NO_ANSWER)
    home(*LINE, "-c", "other", GATEWAYD_DATABASE_URL=one, code=NO_ANSWER)
    assert where(home(*STATUS, "-c", "other", REDIS_URL=NOWHERE, DATABASE_URL=one)) == "other"
    refused = home(*LINE, GATEWAYD_REDIS_URL=NOWHERE, code=USAGE)  # a Redis without a database: not that of `one`
    assert "names no history store" in refused.stderr


@pytest.mark.asan
def test_what_a_context_lacks_is_said_with_key_and_file(home):
    home.write("prod", prod={"url": "https://gw.example.net"})
    for args in (LINE, ["aggregate", "status"], ["db", "verify"], ["reconcile"], ["reconcile", "--repair", "--apply"]):
        lacks = home(*args, code=USAGE).stderr
        assert lacks.splitlines() == [
            "aigwctl: context 'prod' names no history store",
            "  Add it:   aigwctl config set prod --database URL",
            "  Or give:  --database URL, or --state-dir DIR",
            "  The key is 'database' of context 'prod' in",
            "  ~/.config/gatewayd/ctl.yaml"]
        assert all(len(line) <= 80 for line in lacks.splitlines())
    database(home, "one")
    home("config", "set", "prod", "--database", "one/history.db")  # from here; the line runs elsewhere
    assert yaml.safe_load(home.file.read_text())["contexts"]["prod"]["database"] == str(home.directory / "one/history.db")
    assert home(*LINE).stdout == ""
    lacks = home(*LINE, "--source", "redis", code=USAGE).stderr.splitlines()
    assert lacks[0] == "aigwctl: context 'prod' names no realtime store" and "config set prod --redis URL" in lacks[1]
    assert "'redis' of context 'prod'" in lacks[3]
    home("config", "set", "prod", "--redis", NOWHERE)
    home(*LINE, code=NO_ANSWER)
    shown = home("config", "contexts", "-o", "json").stdout
    assert "redis://127.0.0.1:1" in shown


def test_what_a_context_says_wrongly_is_blamed_on_its_file(home):
    for value, code in (("/none/history.db", NOT_FOUND), ("mysql://h/x", USAGE), ("file:/none", USAGE),
                        ("postgresql://u:s3cret@127.0.0.1:1/x", NO_ANSWER)):
        home.write("prod", prod={"url": "https://gw.example.net", "database": value})
        wrong = home(*LINE, code=code).stderr.splitlines()
        assert wrong[-2:] == ["  It is the key 'database' of context 'prod' in", "  ~/.config/gatewayd/ctl.yaml"], wrong
    home.write("local", local={"socket": "/run/none/admin.sock"})
    none = home(*LINE, code=NOT_FOUND).stderr.splitlines()
    assert "config set local --database URL" in none[-4] and "'database' of context 'local'" in none[-2]
    home.file.unlink()
    none = home(*LINE, code=NOT_FOUND).stderr.splitlines()
    assert none[-1] == "  Or give:  --database URL, or --state-dir DIR"
    home(*LINE, "-c", "gone", code=NOT_FOUND)


def test_a_gateway_that_is_reached_by_a_socket_has_its_history_beside_it(home):
    database(home, "state")
    home.write("local", local={"socket": str(home.directory / "state/admin.sock")})
    assert where(home(*STATUS)) == "state" and home(*LINE).stdout == ""


def test_a_demo_that_was_killed_is_no_context(home):
    left = home.directory / ".local/state/gatewayd/contexts/demo.json"
    left.parent.mkdir(parents=True)
    for pid, code in ((os.getpid(), NO_ANSWER), (2**22 + 1, NOT_FOUND)):  # ours lives, and beyond the largest there is none
        left.write_text(json.dumps({"url": f"unix:{home.directory}/none.sock", "pid": pid}))
        home("-c", "demo", "health", code=code)
        assert ("demo" in home("config", "contexts", "-o", "name").stdout) == (code == NO_ANSWER)


def test_a_context_that_is_read_only_protects_the_stores(home):
    one = database(home, "one")
    home.write("prod", prod={"url": "https://gw.example.net", "database": one, "read_only": True})
    for args in (LINE, ["aggregate", "backfill", "--from", "2026-01-01T00", "--to", "2026-01-01T01"], ["reconcile", "--repair", "--apply"],
                 ["db", "migrate", "up"]):
        assert "is read-only" in home(*args, code=NO_AUTH).stderr
    for args in (["aggregate", "hourly", "--dry-run"], ["aggregate", "status"], ["reconcile"], ["reconcile", "--repair"], ["db", "verify"]):
        home(*args)


# ---- aigwtop --------------------------------------------------------------------------------------------------------------


def top(home, *args, code=0, **env):
    """One sample as a document, or the lines that say why there is none."""
    done = subprocess.run(["aigwtop", "-1", "--no-warmup", "-o", "json", *map(str, args)], env={**home.env, **env}, cwd=home.directory,
                          capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert not SANITIZER.search(done.stderr) and "s3cret" not in done.stdout + done.stderr, done.stderr
    assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
    if code == OK:
        return json.loads(done.stdout)
    lines = done.stderr.splitlines()
    assert all(len(line) <= 80 for line in lines), lines
    return lines


def seen(home, *args, **env):
    """Which Redis was read: the one provider that is in it."""
    found = top(home, *args, **env)
    assert found["source"] == "redis"
    return " ".join(row["provider"] for row in found["data"])


@pytest.mark.asan
def test_aigwtop_reads_the_redis_of_the_context(home, stage):
    redis = stage.redis()
    one, two = redis.url(), redis.url(database=1)
    with redis.client() as c:
        for number, name in enumerate(("one", "two")):
            at = int(time.time())
            spans = [time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(s - s % 10)) for s in range(at - 60, at + 120, 10)]
            c.pipeline([("SELECT", number), ("HSET", "{gw}:inst:x", "name", "x", "seen", at + 100, "started", at - 3600),
                        ("ZADD", "{gw}:models", at + 60, f"{name} m"), *[("HSET", f"{{gw}}:p:{s}:{name}", "attempts", 9, "req", 9) for s in spans]])
    home.write("first", first={"url": "http://127.0.0.1:1", "redis": one}, second={"redis": two}, bare={"url": "http://127.0.0.1:1"})
    assert seen(home) == seen(home, GATEWAYD_URL="") == "one"
    # Options win over a context that is named, that over variables, those over the current one.
    assert seen(home, "-c", "second") == seen(home, GATEWAYD_CONTEXT="second") == seen(home, "-c", "second", REDIS_URL=one) == "two"
    assert seen(home, "-c", "second", GATEWAYD_CONTEXT="first") == seen(home, GATEWAYD_CONTEXT="second", GATEWAYD_URL="http://127.0.0.1:1") == "two"
    assert seen(home, REDIS_URL=two) == seen(home, GATEWAYD_REDIS_URL=two, REDIS_URL=one) == seen(home, "--redis", two, "-c", "first") == "two"
    # A gateway that is asked for is not read from the Redis of another one.
    for args, env in ((["-c", "bare"], {"REDIS_URL": one}), ([], {"GATEWAYD_CONTEXT": "bare", "REDIS_URL": one}), (["--url", "http://127.0.0.1:1"], {}),
                      ([], {"GATEWAYD_URL": "http://127.0.0.1:1"}), (["--source", "api"], {}), ([], {"GATEWAYD_REDIS_ENABLED": "false"})):
        top(home, *args, code=NO_ANSWER, **env)
    assert seen(home, "-c", "second", GATEWAYD_REDIS_ENABLED="no") == "two"


@pytest.mark.asan
def test_aigwtop_says_which_key_of_which_context_is_missing_or_wrong(home):
    home.write("prod", prod={"url": "http://127.0.0.1:1", "token-file": "/none", "database": "/none"}, empty={"prometheus": "http://p"},
               bad={"redis": "mysql://:s3cret@h/x", "url": "ftp://u:s3cret@h"}, lost={"redis": "file:/none/redis.url"})

    def says(args, first, key, name):
        lines = top(home, *args, code=USAGE)
        assert first in lines[0] and f"'{key}' of context '{name}' in" in lines[-2], lines
        assert lines[-1] == "  ~/.config/gatewayd/ctl.yaml", lines
        return lines

    lacks = says(["--source", "redis"], "aigwtop: context 'prod' names no realtime store", "redis", "prod")
    assert lacks[1:3] == ["  Add it:   aigwctl config set prod --redis URL", "  Or give:  --redis URL"]
    says(["-c", "empty"], "aigwtop: context 'empty' names no gateway", "url", "empty")
    says([], "cannot read token file", "token-file", "prod")
    says(["-c", "bad"], "redis", "redis", "bad")
    says(["-c", "bad", "--source", "api"], "aigwtop: '...@h' is no address", "url", "bad")
    says(["-c", "lost"], "the address cannot be read from", "redis", "lost")
    assert top(home, "-c", "gone", code=NOT_FOUND) == ["aigwtop: no context is named 'gone'; is its gateway running?",
                                                      "  'aigwctl config contexts' lists them"]
    home.file.write_text("contexts: {prod: {redsi: x}}")
    assert "ctl.yaml:1:19: not known here" in " ".join(top_text(home))


def top_text(home):
    """Without the width: that line names all keys that there are."""
    done = subprocess.run(["aigwtop", "-1"], env=home.env, cwd=home.directory, capture_output=True, text=True, timeout=60)
    assert done.returncode == USAGE
    return done.stderr.splitlines()
