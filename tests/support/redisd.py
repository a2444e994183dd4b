# SPDX-License-Identifier: Apache-2.0
"""Real Redis servers and sentinels for a story: each in a directory of its own, on ports that were free, stopped by its
process id. And the realtime store as a conversation with `kvtool`."""

import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from support.process import BIN, SLOWNESS
from support.wait import eventually

INSTALLED = shutil.which("redis-server") is not None


def free_ports(n):
    """Ports that were free a moment ago: a server that is told its port cannot choose one itself."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


class RedisError(Exception):
    pass


def read_reply(f):
    line = f.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the reply ended early")
    kind, rest = line[:1], line[1:-2].decode(errors="replace")
    if kind == b"-":
        raise RedisError(rest)
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == "-1" else f.read(int(rest) + 2)[:-2].decode(errors="replace")
    if kind == b"*":
        return [read_reply(f) for _ in range(max(0, int(rest)))]
    return rest


class RedisServer:
    """`options` are lines of redis.conf; a sentinel is a server with `sentinel …` lines."""

    def __init__(self, directory, name, options=(), is_sentinel=False):
        self.directory, self.name, self.is_sentinel = Path(directory) / name, name, is_sentinel
        self.directory.mkdir(parents=True)
        self.port, self.bus = free_ports(2)
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.directory}", "logfile log", "daemonize no"]
        if not is_sentinel:
            lines += ['save ""', "appendonly no", "repl-diskless-sync-delay 0"]
        self.conf = self.directory / "redis.conf"
        self.conf.write_text("\n".join([*lines, *(o.format(bus=self.bus) for o in options)]) + "\n")
        self.child = None

    def start(self):
        args = ["redis-server", str(self.conf)] + (["--sentinel"] if self.is_sentinel else [])
        self.child = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self.answers, what=f"{self.name} answers")
        return self

    def answers(self):
        assert self.child.poll() is None, (self.directory / "log").read_text()[-2000:]
        try:
            return self.call("PING") == "PONG"
        except OSError:
            return False

    def call(self, *words):
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s, s.makefile("rwb") as f:
            f.write(b"*%d\r\n" % len(words))
            for w in words:
                w = str(w).encode()
                f.write(b"$%d\r\n%s\r\n" % (len(w), w))
            f.flush()
            return read_reply(f)

    def info(self, section):
        return dict(line.split(":", 1) for line in self.call("INFO", section).splitlines() if ":" in line)

    def freeze(self):
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.child.send_signal(signal.SIGCONT)

    def kill(self):
        self.child.kill()
        self.child.wait()

    def close(self):
        if self.child is not None and self.child.poll() is None:
            self.kill()


class KvTool:
    def __init__(self, url, deadline_ms=1000):
        self.child = subprocess.Popen(
            [BIN / "kvtool", url, str(int(deadline_ms * SLOWNESS))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ},
        )

    def fill(self, *words):
        self.child.stdin.write("\t".join(str(w) for w in words) + "\n")

    def ask(self, *words):
        self.fill(*words)
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        assert line, f"kvtool ended with {self.child.wait()}"
        return json.loads(line)

    def hash(self, key):
        answer = self.ask("hash", key)
        assert answer["result"] == "ok", answer
        return dict(answer["rows"])

    def close(self):
        self.child.stdin.close()
        code = self.child.wait(20)
        self.child.stdout.close()
        assert code == 0
