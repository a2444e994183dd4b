# SPDX-License-Identifier: Apache-2.0
"""What an operator sees when a store is down, an address is wrong or nobody answers: it is said, soon, and without a login."""

import json
import re
import signal
import subprocess
import time

import pytest
from support.gateway import KEY, Gateway, config, http, model, provider, run
from support.load import Load
from support.process import BIN, SCRUBBED, SLOWNESS
from support.rawhttp import request
from support.wait import eventually

OK, FAILED, USAGE, NO_ANSWER, NOT_FOUND, CONFLICT = 0, 1, 2, 3, 5, 6
WARNING, CRITICAL = 10, 11
SECRET = "not-for-any-eyes"


def ctl(*args, env=None, within=30):
    return run(["aigwctl", *args], env=env, timeout=within * SLOWNESS)


HELLO = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


def ask(gateway):
    return http(gateway.url + "/v1/chat/completions", body=HELLO, headers={"authorization": "Bearer " + KEY})


def serve(stage, env=None):
    sim = stage.simulator()
    return stage.gateway([provider("sim", sim.base_url("sim"), allow_private=True)], [model("chat", "sim/m")], env=env)


def admin(gateway, path):
    return http(gateway.admin_url + path, headers={"authorization": "Bearer " + gateway.ready["admin_token"]}).json


def socket_of(gateway):
    return ["--url", f"unix:{gateway.state_dir}/admin.sock"]


def test_a_store_that_is_down_is_told_wherever_one_looks(stage):
    postgres = stage.postgres()
    gateway = serve(stage, {"DATABASE_URL": postgres.url()})
    assert ask(gateway).status == 200
    eventually(lambda: admin(gateway, "/health/dashboard")["stores"][1]["lag_s"] == 0, 20, what="all is stored")
    assert http(gateway.url + "/readyz").json == {"status": "ready"}
    assert "store" not in ctl("status", *socket_of(gateway)).stdout

    postgres.kill()
    assert ask(gateway).status == 200
    eventually(lambda: http(gateway.url + "/readyz").json == {"status": "ready", "degraded": ["history"]}, 20)
    assert http(gateway.url + "/readyz").status == 200
    board = admin(gateway, "/health/dashboard")
    realtime, history = board["stores"]
    assert realtime["status"] == "up" and realtime["error"] is None
    assert history["status"] == "down" and history["down_s"] >= 0 and "refused" in history["error"]
    journal = board["journal"]
    assert 0 < journal["held_bytes"] < 2 << 20 and journal["room_bytes"] <= journal["limit_bytes"] - journal["held_bytes"]
    assert journal["refused_requests"] == 0

    status = ctl("status", "--exit-code", *socket_of(gateway))
    assert status.returncode == WARNING
    assert re.search(r"^store history is down for \d+s: .*refused", status.stdout, re.M)
    assert re.search(r"^journal: room for .* then requests are refused; 0 were$", status.stdout, re.M)
    assert "a store is down" in ctl("status", "--brief", *socket_of(gateway)).stdout

    postgres.start()
    eventually(lambda: re.search(r"store 'history': it works again, after \d+ s", gateway.stderr()), 20)
    eventually(lambda: http(gateway.url + "/readyz").json == {"status": "ready"}, 20)


def test_a_journal_that_fills_up_is_told_before_requests_are_refused(stage):
    postgres = stage.postgres()
    sim = stage.simulator()
    gateway = stage.gateway([provider("sim", sim.base_url("sim"), allow_private=True)], [model("chat", "sim/m")],
                            env={"DATABASE_URL": postgres.url()}, workers=1, journal={"max_bytes": "4MiB"})
    assert ask(gateway).status == 200
    assert ctl("status", "--exit-code", *socket_of(gateway)).returncode == OK
    postgres.kill()
    room, burst = [], [request(body=json.dumps(HELLO).encode(), key=KEY)] * 50
    while not (refused := [a for a in Load(gateway.host_port, 2).run(burst) if a.status != 200]):
        room.append(admin(gateway, "/health/dashboard")["journal"]["room_bytes"])
    assert {json.loads(a.body)["error"]["code"] for a in refused} == {"journal_full"}
    assert max(b - a for a, b in zip(room, room[1:])) < 1 << 20 and room[-1] < 1 << 20 < 3 << 20 < room[0]
    status = ctl("status", "--exit-code", *socket_of(gateway))
    assert status.returncode == CRITICAL and re.search(r"then requests are refused; [1-9]\d* were", status.stdout)
    postgres.start()
    eventually(lambda: ctl("status", "--exit-code", *socket_of(gateway)).returncode == OK, 20, what="all is well again")


def test_a_gateway_that_ends_without_its_store_says_what_it_keeps(stage):
    postgres = stage.postgres()
    gateway = serve(stage, {"DATABASE_URL": postgres.url()})
    postgres.kill()
    assert ask(gateway).status == 200
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0
    lines = [json.loads(line)["msg"] for line in gateway.stderr().splitlines()]
    assert "store 'history' is down; what it has not taken stays in the journal for the next start" in lines
    assert lines[-1] == "stopped"


def test_a_database_that_says_nothing_holds_no_stop_up(stage):
    """Not even with jobs on the books waiting: a service manager kills what takes longer than 90 s."""
    postgres = stage.postgres()
    gateway = serve(stage, {"DATABASE_URL": postgres.url()})
    eventually(lambda: admin(gateway, "/health/dashboard")["stores"][1]["lag_s"] == 0, 20, what="all is stored")
    postgres.pause()
    try:
        assert ask(gateway).status == 200
        for path in ("aggregate", "reconcile", "aggregate"):
            p = ctl("api", "POST", "/api/admin/" + path, "--timeout", "100ms", *socket_of(gateway))
            assert p.returncode in (NO_ANSWER, FAILED), p.stderr
        gateway.signal(signal.SIGTERM)
        assert gateway.wait(within=45) == 0
    finally:
        postgres.resume()


def test_what_is_asked_for_as_json_is_json(tmp_path):
    db = tmp_path / "history.db"
    assert ctl("db", "migrate", "up", "--database", db).returncode == OK
    for command in (["db", "refresh", "--database", db], ["db", "verify", "--database", db], ["db", "migrate", "--database", db],
                    ["aggregate", "hourly", "--database", db], ["aggregate", "status", "--database", db],
                    ["reconcile", "--database", db], ["tenants", "create", "x", "--dry-run"], ["tenants", "delete", "x", "--dry-run"]):
        p = ctl(*command, "-o", "json")
        assert p.returncode == OK and json.loads(p.stdout)["schema"].startswith("gatewayd."), (command, p.stdout, p.stderr)


def test_a_database_that_says_nothing_holds_no_command_up(stage):
    postgres = stage.postgres()
    url = {"DATABASE_URL": postgres.url()}
    assert ctl("db", "migrate", "up", env=url).returncode == OK
    postgres.pause()
    try:
        for command in (["aggregate", "status"], ["aggregate", "hourly"], ["db", "verify"], ["reconcile"]):
            began = time.monotonic()
            p = ctl(*command, "--timeout", "1s", env=url)
            assert (p.returncode, time.monotonic() - began < 10 * SLOWNESS) == (NO_ANSWER, True), p.stderr
            assert "did not" in p.stderr
    finally:
        postgres.resume()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_waits_for_a_store_can_be_ended(stage, number):
    postgres = stage.postgres()
    postgres.pause()
    try:
        p = subprocess.Popen([BIN / "aigwctl", "aggregate", "status", "--timeout", "600s", "--database", postgres.url()],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        argv = f"/proc/{p.pid}/cmdline"
        eventually(lambda: b"xxxxxxxx" in open(argv, "rb").read(), 10, what="the address is no longer in the process list")
        with open(argv, "rb") as f:
            assert b"password" not in f.read()
        # The address is hidden while options are read, the handler is there a moment later.
        eventually(lambda: (p.send_signal(number), p.poll())[1] is not None, 10, what="it ends")
        assert p.returncode == 128 + number
    finally:
        postgres.resume()


MISTYPED = [
    (f"mysql://u:{SECRET}@h/x", USAGE),
    (f"postgres//u:{SECRET}@h", USAGE),
    (f"postgresql://u:{SECRET}%ZZ@127.0.0.1/x", USAGE),
    (f"postgresql://u:{SECRET}@127.0.0.1:99999/x", USAGE),
    (f"postgresql://u:{SECRET}@127.0.0.1:1/x", NO_ANSWER),
]


@pytest.mark.parametrize("url, code", MISTYPED)
def test_no_command_repeats_a_login(tmp_path, url, code):
    for env, args in (({"DATABASE_URL": url}, []), ({}, ["--database", url])):
        p = ctl("db", "migrate", "--state-dir", tmp_path, *args, env=env)
        assert p.returncode == code and p.stderr.startswith("aigwctl: "), p.stderr
        assert SECRET not in p.stdout + p.stderr


def test_a_failure_of_redis_names_redis_and_not_the_database(tmp_path):
    db = tmp_path / "history.db"
    assert ctl("db", "migrate", "up", "--database", db).returncode == OK
    p = ctl("aggregate", "hourly", "--source", "redis", "--database", db, "--redis", f"redis://:{SECRET}@127.0.0.1:1")
    assert p.returncode == NO_ANSWER
    assert p.stderr.startswith("aigwctl: redis: '127.0.0.1:1': ") and SECRET not in p.stderr


def test_an_address_may_be_in_a_file(stage, tmp_path):
    postgres = stage.postgres()
    named = tmp_path / "database.url"
    named.write_text(postgres.url() + "\n")
    assert ctl("db", "migrate", "up", env={"DATABASE_URL": f"file:{named}"}).returncode == OK
    assert "current" in ctl("db", "migrate", env={"DATABASE_URL": postgres.url()}).stdout
    p = ctl("db", "migrate", env={"DATABASE_URL": f"file:{tmp_path}/none"})
    assert p.returncode == USAGE and "No such file" in p.stderr


def test_only_migrate_up_makes_a_store(tmp_path):
    db = tmp_path / "new.db"
    for command in (["aggregate", "hourly"], ["aggregate", "status"], ["reconcile", "--repair", "--apply"], ["db", "refresh"]):
        p = ctl(*command, "--database", db)
        assert p.returncode == NOT_FOUND and str(db) in p.stderr
        assert list(tmp_path.iterdir()) == []
    assert ctl("db", "migrate", "up", "--database", db).returncode == OK


def test_without_a_home_the_state_directory_is_that_of_the_user_in_the_password_file():
    p = subprocess.run([BIN / "aigwctl", "aggregate", "status"], env={}, capture_output=True, text=True, timeout=30)
    assert "'/.local" not in p.stderr


@pytest.mark.parametrize("name, value, says", [
    ("DATABASE_URL", f"postgresql://u:{SECRET}%ZZ@h/x", "malformed"),
    ("DATABASE_URL", f"postgresql://u:{SECRET}@h:99999/x", "port"),
    ("REDIS_URL", f"redis://:{SECRET}@h:1/abc", "is a number"),
])
def test_check_config_refuses_an_address_that_no_start_would_accept(tmp_path, name, value, says):
    gateway = Gateway(tmp_path, config([]))
    env = {**{k: v for k, v in gateway.environment().items() if not SCRUBBED.match(k)}, name: value}
    p = subprocess.run([BIN / "gatewayd", "-c", gateway.config_file, "--state-dir", tmp_path / "s", "--check-config"],
                       env={**env, "OPENAI_API_KEY": "sk-x"}, capture_output=True, text=True, timeout=30)
    assert p.returncode == 1 and says in p.stderr, p.stderr
    assert SECRET not in p.stdout + p.stderr and not (tmp_path / "s").exists()


def test_check_config_names_the_stores(tmp_path):
    gateway = Gateway(tmp_path, config([]))
    env = {**gateway.environment(), "OPENAI_API_KEY": "sk-x", "REDIS_URL": f"redis://:{SECRET}@r:7000/2"}
    p = subprocess.run([BIN / "gatewayd", "-c", gateway.config_file, "--state-dir", tmp_path / "s", "--check-config"],
                       env=env, capture_output=True, text=True, timeout=30)
    assert p.returncode == 0, p.stderr
    assert f"realtime store: redis://r:7000/2; history store: {tmp_path}/s/history.db" in p.stdout
    assert SECRET not in p.stdout + p.stderr and not (tmp_path / "s").exists()


def test_positions_in_a_journal_are_shown_to_the_last_digit(stage):
    gateway = serve(stage)
    assert ask(gateway).status == 200
    eventually(lambda: "settle" in ctl("journal", "inspect", gateway.state_dir).stdout, 10)
    p = ctl("journal", "inspect", gateway.state_dir)
    rows = [line.split() for line in p.stdout.splitlines()[1:]]
    found = json.loads(ctl("journal", "inspect", "-o", "json", gateway.state_dir).stdout.splitlines()[0])
    assert all(re.fullmatch(r"\d+", cell) for row in rows for cell in row[:2]), p.stdout
    assert str(found["seq"]) in [row[1] for row in rows]
