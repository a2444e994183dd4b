# SPDX-License-Identifier: Apache-2.0
"""`aigwctl demo`: what a newcomer types first. It starts everything itself, and leaves nothing behind."""

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from support.gateway import run
from support.process import BIN, ROOT, SANITIZER, SLOWNESS, Process
from support.tour import Tour, take
from support.wait import eventually


class Demo:
    def __init__(self, directory, *args):
        # A socket's path is short, so the private directory is made under a short one.
        self.directory, self.out, self.err = directory, directory / "demo.out", directory / "demo.err"
        self.tmp = directory / "t" if len(str(directory)) < 50 else Path("/tmp")
        self.tmp.mkdir(exist_ok=True)
        env = {"XDG_STATE_HOME": str(directory / "state"), "TMPDIR": str(self.tmp)}
        self.environment = Process(directory, "demo", [], env).environment()
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.child = subprocess.Popen(
                [BIN / "aigwctl", "demo", *args], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env=self.environment, cwd=directory,
            )

    @property
    def text(self):
        return self.out.read_text()

    def found(self, pattern, within=30):
        return eventually(lambda: re.search(pattern, self.text), within * SLOWNESS, what=f"{pattern!r} in the output")

    @property
    def context(self):
        return json.loads((self.directory / "state/gatewayd/contexts/demo.json").read_text())

    @property
    def private(self):
        return Path(self.context["url"].removeprefix("unix:")).parent.parent

    def wait(self, within=60):
        code = self.child.wait(within * SLOWNESS)
        assert not SANITIZER.search(self.err.read_text()), self.err.read_text()
        return code


@pytest.fixture
def demo(tmp_path):
    started = []

    def start(*args):
        started.append(Demo(tmp_path, *args))
        return started[-1]

    yield start
    for d in started:
        if d.child.poll() is None:
            d.child.send_signal(signal.SIGINT)
            try:
                d.child.wait(20)
            except subprocess.TimeoutExpired:
                d.child.kill()
                d.child.wait()


def processes_in(directory):
    """Programs whose command line names the directory."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(directory) in line and "gatewayd" in line:
                found.append(int(entry))
    return found


@pytest.mark.asan
def test_once_ends_by_itself_with_a_report_and_leaves_nothing(demo):
    d = demo("--once", "6s", "--rps", "8")
    d.found("Try in another terminal")
    private = eventually(lambda: (d.directory / "state/gatewayd/contexts/demo.json").exists() and d.private)
    assert d.wait() == 0, d.text + d.err.read_text()
    expected, sent, answered = map(int, re.search(r"requests +(\d+) expected, (\d+) sent, (\d+) answered", d.text).groups())
    assert 44 <= expected <= 48 and answered >= 0.95 * expected and sent <= expected
    assert re.search(r"books +agree", d.text)
    assert re.search(r"ledger +agrees with what the providers billed: [1-9]\d* calls, [1-9]\d* tokens in, [1-9]\d* out", d.text)
    refused, barred = map(int, re.search(r"refused +(\d+) of (\d+)", d.text).groups())
    assert refused == barred == 2
    for word in ("sim-fast", "sim-steady", "sim-flaky", "healthy", "TOTAL", "streamed"):
        assert word in d.text
    assert "\033" not in d.text
    assert not private.exists() and not (d.directory / "state/gatewayd/contexts/demo.json").exists()
    assert processes_in(private) == []


def test_others_find_it_by_name_and_change_its_providers(demo):
    d = demo("--rps", "10", "--port", "0")
    d.found("Ctrl-C stops")

    def ctl(*args):
        done = subprocess.run([BIN / "aigwctl", "-c", "demo", *args], capture_output=True, text=True, timeout=30,
                              env=d.environment, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def statuses():
        return {r["provider"]: r["status"] for r in json.loads(ctl("health", "-o", "json"))["data"]}

    eventually(lambda: statuses().get("sim-fast") == "healthy", 20 * SLOWNESS)
    assert ctl("mock", "set", "sim-fast", "--error-rate", "100%").split()[-1] == "500"
    eventually(lambda: statuses()["sim-fast"] != "healthy", 30 * SLOWNESS, what="sim-fast is no longer healthy")
    assert "sim-fast" in ctl("mock", "list")
    ctl("mock", "heal", "sim-fast")
    assert [r["name"] for r in json.loads(ctl("config", "contexts", "-o", "json"))["data"]] == ["demo"]
    # Its stores go by that name, too.
    assert ctl("aggregate", "hourly", "--quiet", "--lock-wait", "30s") == "" and "ledger_hourly" in ctl("reconcile")
    ctl("aggregate", "status"), ctl("db", "verify"), ctl("db", "migrate", "status")
    d.found(r"[1-9]\d* failed over")
    private = d.private
    d.child.send_signal(signal.SIGINT)
    assert d.wait() == 130
    assert not private.exists() and processes_in(private) == []


def test_a_taken_port_is_said_and_the_next_one_used(demo):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        d = demo("--once", "1s", "--port", str(port))
        assert int(d.found(r"API +http://127.0.0.1:(\d+)/").group(1)) != port
        assert f"port {port} is taken" in d.text
        assert d.wait() == 0, d.text + d.err.read_text()


def test_what_is_answered_too_seldom_is_a_failure(demo):
    d = demo("--once", "5s", "--rps", "10", "--port", "0")
    d.found("Ctrl-C stops")
    for name in ("sim-fast", "sim-steady", "sim-flaky"):
        done = subprocess.run([BIN / "aigwctl", "-c", "demo", "mock", "set", name, "--error-rate", "100%"], text=True,
                              capture_output=True, timeout=30, env=d.environment, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
    assert d.wait() == 1
    assert "less than 95%" in d.err.read_text() and "failures" in d.text


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_removes_everything(demo, number, code):
    """Ctrl-C, kill, and a terminal that is closed."""
    d = demo("--port", "0")
    d.found("Ctrl-C stops")
    context = d.directory / "state/gatewayd/contexts/demo.json"
    private = eventually(lambda: context.exists() and d.private)
    d.child.send_signal(number)
    assert d.wait() == code, d.err.read_text()
    assert not private.exists() and not context.exists()
    assert processes_in(private) == []


def test_its_children_die_with_it(demo):
    d = demo("--rps", "2", "--port", "0")
    d.found("Ctrl-C stops")
    private = d.private
    assert processes_in(private)
    d.child.kill()
    d.child.wait()
    eventually(lambda: processes_in(private) == [], 20 * SLOWNESS, what="gatewayd and its simulator are gone")
    subprocess.run(["rm", "-r", str(private)], check=True)


def test_real_keys_in_the_environment_stay_out(tmp_path, monkeypatch, demo):
    d = None
    monkeypatch.setattr(Process, "environment", lambda self: {**os.environ, **self.env, "OPENAI_API_KEY": "sk-real",
                                                              "GATEWAYD_LISTEN": "0.0.0.0:1"})
    d = demo("--once", "2s", "--port", "0")
    d.found("Ctrl-C stops")
    pids = processes_in(d.private)
    assert pids
    seen = 0
    for pid in pids:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except PermissionError:
            continue  # a gateway's memory is shown to root only
        assert b"sk-real" not in environment and b"GATEWAYD_LISTEN" not in environment
        seen += 1
    assert seen
    assert d.wait() == 0


def test_wrong_options_start_nothing(tmp_path):
    for wrong in (["--once", "soon"], ["--rps", "0"], ["--rps", "many"], ["--port", "70000"], ["extra"]):
        done = run(["aigwctl", "demo", *wrong], directory=tmp_path)
        assert done.returncode == 2 and done.stdout == "", wrong


def test_every_command_of_the_readme_does_what_the_page_says(tmp_path):
    page = re.sub(r"\$ ./dev demo --once .*\n|(?<=tour: )wait \d+s", "", (ROOT / "README.md").read_text())
    seen = []
    with Tour(tmp_path, BIN, port=0) as tour:
        eventually(lambda: "sim-steady" in "".join(tour.picture()), 30 * SLOWNESS)
        for _, done, fails in take(page, tour):
            seen += [command for command, _, _ in done]
            for i, (command, code, lines) in enumerate(done):
                assert (code != 0) == (fails and i == len(done) - 1), (command, code, lines)
                if command.startswith(("aigwctl", "aigwtop")):
                    assert all(len(line) <= 80 for line in lines), (command, lines)
    assert len(seen) > 15
