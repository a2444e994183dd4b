# SPDX-License-Identifier: Apache-2.0
"""Start, reload, drain: what an operator does to a gateway that is in use."""

import json
import signal
import socket
import stat
import threading
import time

import pytest

from support.gateway import KEY, Gateway, config, model, provider, run
from support.load import Load
from support.process import is_sanitized
from support.rawhttp import Closed, RawClient, request
from support.upstream import DONE, LAST_CHUNK, Gate, as_chunk, chat_completion, json_answer, sse_head, stream_events
from support.wait import eventually


def ask(stream=False, chat="chat"):
    body = {"model": chat, "stream": stream, "messages": [{"role": "user", "content": "go"}]}
    return request(body=json.dumps(body).encode(), key=KEY)


def one_provider(stage, script=None, **more):
    up = stage.upstream(script)
    gateway = stage.gateway([provider("up", up.base_url)], [model("chat", "up/m")], **more)
    return gateway, up


# ---- start --------------------------------------------------------------------------------------------------------
def test_ready_file_says_where_and_who(stage):
    gateway, _ = one_provider(stage)
    ready = json.loads(gateway.ready_file.read_text())
    assert ready["pid"] == gateway.pid
    assert ready["listen"].startswith("127.0.0.1:") and not ready["listen"].endswith(":0")
    assert ready["admin"].startswith("127.0.0.1:") and ready["admin"] != ready["listen"]
    assert stat.S_IMODE(gateway.ready_file.stat().st_mode) & 0o077 == 0, "it carries a token"
    assert not list(gateway.directory.glob(f"{gateway.ready_file.name}?*")), "written in place, not moved there"
    assert gateway.get("/healthz", key=None).status == 200
    assert gateway.get("/readyz", key=None).status == 200


def test_ready_file_goes_with_its_gateway_and_not_with_another(stage):
    gateway, _ = one_provider(stage)
    again = run(["gatewayd", *gateway.args], gateway.env, gateway.directory)
    assert again.returncode == 1 and "in use by another process" in again.stderr
    assert json.loads(gateway.ready_file.read_text())["pid"] == gateway.pid
    assert gateway.get("/readyz", key=None).status == 200
    gateway.stop()
    assert not gateway.ready_file.exists()
    assert not (gateway.state_dir / "admin.sock").exists()


def test_environment_alone_starts_a_gateway(stage, tmp_path):
    g = Gateway(tmp_path, None, "envonly", {"OPENAI_API_KEY": "sk-env-0123456789", "GATEWAYD_LISTEN": "127.0.0.1:0"})
    stage.endings.append(g.stop)
    g.start()
    assert g.get("/v1/models", key=None).status == 401
    listed = g.get("/v1/models", key=minted_key(g))
    assert listed.status == 200, listed
    assert "openai" in g.scrape().by("provider_requests_total", "provider")
    assert "sk-env" not in g.stderr()


def minted_key(gateway):
    """Without tenants in a file the gateway mints a key of its own and says where it is."""
    for path in gateway.state_dir.iterdir():
        if path.is_file() and "key" in path.name and path.name != "snapshot.key":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert str(path) in gateway.stderr()
            return path.read_text().strip()
    raise AssertionError(f"no key in {list(gateway.state_dir.iterdir())}, stderr: {gateway.stderr()}")


def test_check_config_accepts_a_good_file_and_starts_nothing(stage, tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(json.dumps(config([provider("up", "http://127.0.0.1:9/v1")], [model("chat", "up/m")])))
    done = run(["gatewayd", "--check-config", "-c", path], directory=tmp_path)
    assert done.returncode == 0, done
    assert not (tmp_path / "gateway.state").exists()


@pytest.mark.parametrize(
    "text,says",
    [
        ("listen: 127.0.0.1:0\nlisen: x\n", ("2:1", "lisen")),
        ("listen: 127.0.0.1:0\nworkers: many\n", ("2:10", "workers")),
        ("workers: 100000\n", ("1:10", "workers")),
        ("listen: [\n", ("2:1",)),
        ("models: [{name: m, targets: [{provider: nowhere, model: x}]}]\n", ("nowhere",)),
        ("admin: {listen: '127.0.0.1:0', token: admin}\n", ("token",)),
        ("providers: [{name: p, kind: openai, base_url: 'ftp://x', api_keys: [k]}]\n", ("base URL",)),
        ("tenants: [{id: a, keys: [{id: k, sha256: abc}]}]\n", ("sha256",)),
        ("redis: ${NOT_SET_ANYWHERE}\n", ("NOT_SET_ANYWHERE",)),
    ],
)
def test_check_config_names_file_line_and_column_of_what_is_wrong(tmp_path, text, says):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    done = run(["gatewayd", "--check-config", "-c", path], directory=tmp_path)
    assert done.returncode not in (0, -11, -6), done
    assert "bad.yaml:" in done.stderr
    for part in says:
        assert part in done.stderr, done.stderr


def test_bad_file_does_not_start(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("nonsense: true\n")
    done = run(["gatewayd", "-c", path, "--state-dir", tmp_path / "s"], directory=tmp_path)
    assert done.returncode != 0 and "nonsense" in done.stderr


def test_port_in_use_is_said_and_ends_the_start(tmp_path):
    stale = tmp_path / "ready"
    stale.write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(
            ["gatewayd", "--listen", f"127.0.0.1:{port}", "--state-dir", tmp_path / "s", "--ready-file", stale],
            {"OPENAI_API_KEY": "sk-x"}, tmp_path,
        )
    assert done.returncode != 0 and str(port) in done.stderr, done
    assert not stale.exists(), "of an earlier run: whoever waits for it would believe it"


def test_help_and_version(tmp_path):
    done = run(["gatewayd", "--help"], directory=tmp_path)
    assert done.returncode == 0
    for flag in ("--check-config", "--listen", "--state-dir", "--ready-file", "--simulate", "--demo"):
        assert flag in done.stdout
    assert run(["gatewayd", "--version"], directory=tmp_path).stdout.startswith("gatewayd 0.")
    assert run(["gatewayd", "--nonsense"], directory=tmp_path).returncode == 2
    shortened = run(["gatewayd", "--check"], directory=tmp_path)
    assert shortened.returncode == 2 and "did you mean '--check-config'" in shortened.stderr


# ---- reload -------------------------------------------------------------------------------------------------------
def config_version(gateway):
    return gateway.metric("gatewayd_config_version")


@pytest.mark.asan
@pytest.mark.tsan
def test_reload_changes_models_and_keys_at_once(stage):
    up = stage.upstream()
    gateway = stage.gateway([provider("up", up.base_url), provider("other", up.base_url)], [model("chat", "up/m")])
    assert gateway.chat(model="new").status == 404
    changed = dict(gateway.config, models=[model("new", "up/m")])
    gateway.write_config(changed)
    gateway.reload()
    eventually(lambda: config_version(gateway) == 2)
    assert gateway.chat(model="new").status == 200
    assert gateway.chat(model="chat").status == 404


@pytest.mark.asan
def test_bad_reload_keeps_the_old_configuration_and_says_why(stage):
    gateway, _ = one_provider(stage)
    for n, bad in enumerate(("listen: 127.0.0.1:0\nnonsense: 1\n", "[", "providers: 3\n"), 1):
        gateway.write_config(bad)
        gateway.reload()
        eventually(lambda: gateway.metric("gatewayd_config_reloads_total", result="error") == n
                   or gateway.metric("gatewayd_config_reloads_total", result="failed") == n)
        assert gateway.chat().status == 200
    assert config_version(gateway) == 1
    said = gateway.stderr()
    assert "2:1" in said and "nonsense" in said
    gateway.config_file.unlink()
    gateway.reload()
    eventually(lambda: "gateway" in gateway.stderr()[len(said):])
    assert gateway.chat().status == 200


@pytest.mark.asan
@pytest.mark.tsan
def test_a_thousand_reloads_under_load_cause_no_error(stage):
    rounds = 60 if is_sanitized() else 1000
    answers = json_answer(chat_completion())
    gateway, up = one_provider(stage, lambda r: answers)
    configs = [gateway.config, dict(gateway.config, models=[model("chat", "up/other"), model("more", "up/m")])]
    stop, results, threads = threading.Event(), [], []

    def requests():
        while not stop.is_set():
            yield ask()

    class Endless(Load):
        def run(self):
            import asyncio

            self.results = {}
            self.todo = iter(enumerate(requests()))
            asyncio.run(self.all())
            results.extend(self.results.values())

    load = Endless(gateway.host_port, 4)
    threads.append(threading.Thread(target=load.run))
    for t in threads:
        t.start()
    try:
        for i in range(1, rounds + 1):
            gateway.write_config(configs[i % 2])
            gateway.reload()
            if i % 20 == 0:
                eventually(lambda: config_version(gateway) > 1)
        last = gateway.metric("gatewayd_config_reloads_total")
        # signals of one kind merge while one is being handled, so every write is not its own reload
        assert last > rounds / 20
        if last < rounds:
            for i in range(int(rounds - last)):
                before = gateway.metric("gatewayd_config_reloads_total")
                gateway.reload()
                eventually(lambda: gateway.metric("gatewayd_config_reloads_total") > before, every=0.001)
    finally:
        stop.set()
        for t in threads:
            t.join(60)
    assert gateway.metric("gatewayd_config_reloads_total") >= rounds
    bad = [r for r in results if r.status != 200]
    assert len(results) > 200 and not bad, f"{len(bad)} of {len(results)} failed: {bad[:3]}"
    assert {r.json["model"] for r in up.requests} == {"m", "other"}
    print(f"{rounds} reloads, {len(results)} requests, 0 errors")


# ---- drain --------------------------------------------------------------------------------------------------------
def open_streams(gateway, count):
    clients = []
    for _ in range(count):
        c = RawClient(gateway.host_port, 30)
        c.send(ask(stream=True))
        clients.append(c)
    for c in clients:
        assert c.read_head().status == 200
        assert c.read_chunk()
    return clients


@pytest.mark.asan
@pytest.mark.tsan
def test_term_lets_two_hundred_streams_finish(stage):
    count = 50 if is_sanitized() else 200
    gate = Gate()
    first, *rest = stream_events(("one", "two", "three"))
    script = [sse_head(), as_chunk(first), gate, *map(as_chunk, rest), as_chunk(DONE), LAST_CHUNK]
    gateway, up = one_provider(stage, lambda r: script)
    clients = open_streams(gateway, count)
    idle = RawClient(gateway.host_port)
    idle.send(request("GET", "/healthz"))
    assert idle.read_response("GET").status == 200

    gateway.signal(signal.SIGTERM)
    eventually(lambda: refuses(gateway.host_port), 5, what="the listener is closed")
    assert idle.is_closed(5), "an idle connection is closed"
    assert gateway.is_running()
    gate.event.set()
    for c in clients:
        body = b""
        while piece := c.read_chunk():
            body += piece
        assert body.endswith(DONE) and b"three" in body and b"error" not in body
        c.close()
    assert gateway.wait(10) == 0
    lines = gateway.access_log()
    assert [line["stream_end"] for line in lines if line["stream"]] == ["complete"] * count


def refuses(address):
    try:
        socket.create_connection(address, 1).close()
        return False
    except OSError:
        return True


def test_second_term_cuts_what_is_open_and_settles_it(stage):
    gate = Gate()
    gateway, _ = one_provider(stage, lambda r: [sse_head(), *map(as_chunk, stream_events()[:2]), gate])
    clients = open_streams(gateway, 5)
    gateway.signal(signal.SIGTERM)
    eventually(lambda: refuses(gateway.host_port), 5)
    gateway.signal(signal.SIGTERM)
    assert gateway.wait(10) == 0
    for c in clients:
        with pytest.raises((Closed, AssertionError)):
            while c.read_chunk():
                pass
            raise AssertionError("cut, but looks like an orderly end")
    lines = gateway.access_log()
    assert len(lines) == 5 and all(line["status"] != "success" for line in lines)


def test_drain_timeout_cuts_with_an_error_event(stage):
    gate = Gate()
    gateway, _ = one_provider(stage, lambda r: [sse_head(), *map(as_chunk, stream_events()[:2]), gate], drain_timeout="500ms")
    (c,) = open_streams(gateway, 1)
    started = time.monotonic()
    gateway.signal(signal.SIGTERM)
    assert gateway.wait(10) == 0
    assert time.monotonic() - started >= 0.5
    assert b"draining" in c.read_all() or c.eof


@pytest.mark.asan
def test_access_log_is_complete_after_the_end(stage):
    gateway, _ = one_provider(stage)
    Load(gateway.host_port, 4).run([ask() for _ in range(100)])
    gateway.stop()
    lines = gateway.access_log()
    assert len(lines) == 100 and all(line["status"] == "success" for line in lines)


def test_kill_loses_no_settled_request(stage):
    """What was answered is in the journal; the next start brings it to the log, once."""
    gateway, _ = one_provider(stage)
    Load(gateway.host_port, 4).run([ask() for _ in range(200)])
    gateway.expects_clean_exit = False
    gateway.kill()
    gateway.expects_clean_exit = True
    gateway.start()
    lines = gateway.logged(200)
    eventually(lambda: len({line["id"] for line in gateway.access_log()}) == 200)
    assert all(line["status"] == "success" for line in lines)
