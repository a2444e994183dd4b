# SPDX-License-Identifier: Apache-2.0
"""Real Redis servers on free ports: one alone, a cluster, a primary with a replica and sentinels.
And a client small enough to be trusted: it shares nothing with the gateway's."""

import signal
import socket
import subprocess
import time
from pathlib import Path

from support import ports
from support.wait import eventually

PASSWORD = "redis-test-password"


class RedisError(Exception):
    """An error reply."""


class Client:
    """One connection of its own for each call chain; answers are bytes, integers, lists or None."""

    def __init__(self, address, password=None, timeout=10.0):
        self.socket = socket.create_connection(address, timeout)
        self.reader = self.socket.makefile("rb")
        if password:
            self("AUTH", password)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.reader.close()
        self.socket.close()

    def __call__(self, *words):
        (answer,) = self.pipeline([words])
        if isinstance(answer, RedisError):
            raise answer
        return answer

    def pipeline(self, commands):
        """Error replies are returned, not raised."""
        out = []
        for words in commands:
            out.append(b"*%d\r\n" % len(words))
            for word in words:
                data = word if isinstance(word, bytes) else str(word).encode()
                out.append(b"$%d\r\n%s\r\n" % (len(data), data))
        self.socket.sendall(b"".join(out))
        return [self.reply() for _ in commands]

    def reply(self):
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RedisError(rest.decode("utf-8", "replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.reader.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        raise ConnectionError(f"not a reply: {line[:80]!r}")

    def hash(self, key):
        flat = [x.decode() for x in self("HGETALL", key)]
        return dict(zip(flat[::2], flat[1::2]))

    def scan(self, pattern="*"):
        cursor, keys = b"0", set()
        while True:
            cursor, page = self("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            keys.update(page)
            if cursor == b"0":
                return sorted(k.decode() for k in keys)


class Redis:
    """One server. `is_persistent`: what it acknowledged survives kill and restart; otherwise it comes back empty."""

    def __init__(self, directory, name="redis", is_persistent=False, password=PASSWORD, settings=()):
        self.directory = Path(directory) / name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name, self.password, self.settings = name, password, list(settings)
        self.is_persistent = is_persistent
        self.log_file = self.directory / "log"
        self.child, self.port = None, None

    def arguments(self):
        words = ["--port", self.port, "--bind", "127.0.0.1", "--dir", self.directory, "--save", "", "--daemonize", "no",
                 "--repl-diskless-sync-delay", "0",  # a replica is served at once
                 "--appendonly", "yes" if self.is_persistent else "no", "--appendfsync", "always"]
        if self.password:
            words += ["--requirepass", self.password, "--masterauth", self.password]
        for setting in self.settings:
            words += setting
        return [str(w) for w in words]

    def start(self, within=20.0):
        """On the port that it had before, if it had one."""
        had = self.port
        for _ in range(5):
            self.port = had or ports.free_port()
            with open(self.log_file, "ab") as log:
                self.child = subprocess.Popen(["redis-server", *self.arguments()], stdin=subprocess.DEVNULL, stdout=log,
                                              stderr=log, cwd=self.directory)
            if self.is_up(within):
                return self
            ports.end(self.child, signal.SIGKILL)
        raise AssertionError(f"{self.name} does not start:\n{self.log_file.read_text(errors='replace')[-2000:]}")

    def is_up(self, within):
        deadline = time.monotonic() + within
        while self.child.poll() is None and time.monotonic() < deadline:
            try:
                with self.client() as c:
                    if c("PING") == b"PONG":
                        return True
            except (OSError, RedisError):
                time.sleep(0.01)
        return False

    @property
    def address(self):
        return "127.0.0.1", self.port

    def url(self, address=None, database=0):
        """For the gateway; `address` of a proxy in between."""
        host, port = address or self.address
        user = f":{self.password}@" if self.password else ""
        return f"redis://{user}{host}:{port}/{database}"

    def client(self, timeout=10.0):
        return Client(self.address, self.password, timeout)

    def call(self, *words):
        with self.client() as c:
            return c(*words)

    def info(self, section):
        return dict(line.split(":", 1) for line in self.call("INFO", section).decode().splitlines() if ":" in line)

    def pause(self):
        self.child.send_signal(signal.SIGSTOP)

    def resume(self):
        self.child.send_signal(signal.SIGCONT)

    def kill(self):
        ports.end(self.child, signal.SIGKILL)

    def stop(self):
        if self.child is not None:
            ports.end(self.child)

    def restart(self):
        self.kill()
        return self.start()

    def flush(self):
        self.call("FLUSHALL")

    def commandstats(self):
        """{command in lower case: calls} since start or the last CONFIG RESETSTAT."""
        stats = {}
        for line in self.call("INFO", "commandstats").decode().splitlines():
            if line.startswith("cmdstat_"):
                name, _, values = line[len("cmdstat_"):].partition(":")
                stats[name.lower()] = int(dict(v.split("=") for v in values.split(","))["calls"])
        return stats

    def ttls(self, pattern="*"):
        """{key: seconds it has to live, -1 without an end}; keys that ended meanwhile are left out."""
        with self.client() as c:
            keys = c.scan(pattern)
            found = dict(zip(keys, c.pipeline([("TTL", k) for k in keys])))
        return {k: t for k, t in found.items() if t != -2}


class RedisCluster:
    """Primaries that share the slots. `owner(key)` and `move(key, to)` for redirections, `replicate(node)` for failovers."""

    SLOTS = 16384

    def __init__(self, directory, nodes=3, password=None, node_timeout_ms=2000):
        self.directory, self.password, self.node_timeout_ms = directory, password, node_timeout_ms
        self.nodes = [self.node(f"cluster{n}") for n in range(nodes)]

    def node(self, name):
        return Redis(self.directory, name, password=self.password, settings=[
            ("--cluster-enabled", "yes"), ("--cluster-node-timeout", str(self.node_timeout_ms)),
            ("--cluster-port", str(ports.free_port())), ("--cluster-config-file", "nodes.conf"),
            ("--cluster-replica-validity-factor", "0")])

    def start(self):
        for node in self.nodes:
            node.start()
        first, share = self.nodes[0], self.SLOTS // len(self.nodes)
        for n, node in enumerate(self.nodes):
            last = self.SLOTS - 1 if node is self.nodes[-1] else (n + 1) * share - 1
            node.call("CLUSTER", "ADDSLOTSRANGE", n * share, last)
            # Configuration epochs must differ, or the nodes argue about who owns what.
            node.call("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        self.meet(self.nodes[1:])
        return self

    def meet(self, nodes):
        first = self.nodes[0]
        for node in nodes:
            node.call("CLUSTER", "MEET", "127.0.0.1", first.port, dict(first.settings)["--cluster-port"])
        eventually(lambda: all(b"cluster_state:ok" in n.call("CLUSTER", "INFO")
                               and b"cluster_known_nodes:%d" % len(self.nodes) in n.call("CLUSTER", "INFO")
                               for n in self.nodes), 30, what="the cluster is whole")

    def replicate(self, primary):
        """A replica of it, in step."""
        replica = self.node(f"replica{len(self.nodes)}").start()
        self.nodes.append(replica)
        self.meet([replica])
        replica.call("CLUSTER", "REPLICATE", primary.call("CLUSTER", "MYID"))
        eventually(lambda: replica.info("replication").get("master_link_status") == "up", 30, what="the replica follows")
        return replica

    def url(self, nodes=None):
        """The seeds."""
        seeds = nodes or self.nodes
        user = f":{seeds[0].password}@" if seeds[0].password else ""
        return f"redis://{user}" + ",".join(f"127.0.0.1:{n.port}" for n in seeds)

    def slot(self, key):
        return self.nodes[0].call("CLUSTER", "KEYSLOT", key)

    def owner(self, key):
        slot = self.slot(key)
        for first, last, primary, *_ in self.nodes[0].call("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(n for n in self.nodes if n.port == primary[1])
        raise AssertionError(f"nobody owns slot {slot}")

    def move(self, key, to):
        """Gives the slot of `key` with all its keys to another node, as an operator's resharding does."""
        slot, source = self.slot(key), self.owner(key)
        ids = {n.port: n.call("CLUSTER", "MYID") for n in (source, to)}
        to.call("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to.port])
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 100):
            auth = ("AUTH", source.password) if source.password else ()
            source.call("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, *auth, "KEYS", *keys)
        for node in [to, source, *(n for n in self.nodes if n not in (to, source))]:
            node.call("CLUSTER", "SETSLOT", slot, "NODE", ids[to.port])

    def stop(self):
        for node in self.nodes:
            node.stop()


class Sentinels:
    """A primary, its replica and sentinels that watch them under the name `gw`."""

    NAME = "gw"

    def __init__(self, directory, sentinels=1, password=PASSWORD):
        Path(directory).mkdir(parents=True, exist_ok=True)
        self.primary = Redis(directory, "primary", password=password)
        self.replica = Redis(directory, "replica", password=password)
        self.directory, self.password = Path(directory), password
        self.count, self.sentinels, self.children = sentinels, [], []

    def start(self):
        self.primary.start()
        self.replica.settings.append(("--replicaof", f"127.0.0.1 {self.primary.port}"))
        self.replica.start()
        for n in range(self.count):
            self.start_sentinel(n)
        eventually(lambda: b"master_link_status:up" in self.replica.call("INFO", "replication"), 30, what="the replica follows")
        eventually(lambda: all(map(self.is_known, self.sentinels)), 30, what="the sentinels know the replica and each other")
        return self

    def is_known(self, port):
        fields = self.of(port, "MASTER", self.NAME)
        state = dict(zip(fields[::2], fields[1::2]))
        return (state[b"num-slaves"], state[b"num-other-sentinels"], state[b"flags"]) == (b"1", b"%d" % (self.count - 1), b"master")

    def start_sentinel(self, n):
        port, path = ports.free_port(), self.directory / f"sentinel{n}.conf"
        lines = [f"port {port}", "bind 127.0.0.1", f"dir {self.directory}",
                 f"sentinel monitor {self.NAME} 127.0.0.1 {self.primary.port} {self.count // 2 + 1}",
                 f"sentinel down-after-milliseconds {self.NAME} 1000", f"sentinel failover-timeout {self.NAME} 5000"]
        if self.password:
            lines.append(f"sentinel auth-pass {self.NAME} {self.password}")
        path.write_text("\n".join(lines) + "\n")
        with open(self.directory / f"sentinel{n}.log", "ab") as log:
            self.children.append(subprocess.Popen(["redis-server", path, "--sentinel"], stdin=subprocess.DEVNULL,
                                                  stdout=log, stderr=log, cwd=self.directory))
        self.sentinels.append(port)

        def answers():
            try:
                with Client(("127.0.0.1", port)) as c:
                    return c("PING") == b"PONG"
            except OSError:
                return False

        eventually(answers, 20, what=f"sentinel {n}")

    def of(self, port, *words):
        with Client(("127.0.0.1", port)) as c:
            return c("SENTINEL", *words)

    def current(self):
        """Port of the primary, as the first sentinel has it."""
        return int(self.of(self.sentinels[0], "GET-MASTER-ADDR-BY-NAME", self.NAME)[1])

    def fail_over(self, within=40):
        """Kills the primary and waits until the replica is in its place."""
        self.primary.kill()
        eventually(lambda: self.current() == self.replica.port, within, what="the sentinels chose the replica")
        eventually(lambda: self.replica.call("ROLE")[0] == b"master", within, what="the replica leads")

    def url(self):
        user = f":{self.password}@" if self.password else ""
        return f"redis://{user}" + ",".join(f"127.0.0.1:{p}" for p in self.sentinels) + f"/0?sentinel={self.NAME}"

    def stop(self):
        for child in self.children:
            ports.end(child)
        self.replica.stop()
        self.primary.stop()
