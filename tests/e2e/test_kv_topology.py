# SPDX-License-Identifier: Apache-2.0
"""The realtime store across a real cluster and real sentinels: batches go on through redirections and failovers, and each
counts exactly once, also those that a failover forgot after they were acknowledged."""

import signal
import time

import pytest

from support import ports
from support.kvtool import KvTool
from support.wait import eventually

pytestmark = pytest.mark.timeout(120)

KEY = "{gw}:test"


def role(server):
    try:
        return server.info("replication")["role"]
    except ConnectionError:  # a sentinel that changes a role cuts every connection
        return None


class Writer:
    """What the daemon's store writer does: batch n adds 1 and n; asks again while nothing is known; on a mismatch it reads
    how far the store is and begins again there, from its journal."""

    def __init__(self, url):
        self.kv, self.done, self.token = KvTool(url), 0, 2**64 - 5
        self.outcomes, self.errors, self.rewinds = {}, {}, []

    def watermark(self, n):
        return (n, self.token if n else 0)

    def step(self):
        n = self.done + 1
        if not self.done:
            self.kv.ask("begin")
        self.kv.fill("clear")
        self.kv.fill("add", KEY, "n", 1)
        self.kv.fill("add", KEY, "sum", n)
        self.kv.fill("expire", KEY, 3600)
        answer = self.kv.ask("apply", "node-1", *self.watermark(n - 1), *self.watermark(n), f"0:{n}")
        self.outcomes[answer["result"]] = self.outcomes.get(answer["result"], 0) + 1
        if answer["result"] in ("applied", "duplicate"):
            self.done = n
        elif answer["result"] == "mismatch":
            self.rewind()
        else:
            self.errors[answer["error"]] = answer["text"]
            time.sleep(0.02)
        return answer["result"]

    def rewind(self):
        at = self.kv.ask("watermark", "node-1")
        if at["result"] != "ok":
            return
        assert at["batch"] < self.done + 1 and at["token"] in (self.token, 0)
        self.rewinds.append(self.done - at["batch"])
        self.done = at["batch"]

    def run_to(self, n, within=40):
        deadline = time.monotonic() + within
        while self.done < n:
            assert time.monotonic() < deadline, f"{self.done} of {n} batches; {self.outcomes} {self.errors}"
            self.step()

    def check(self):
        n = self.done
        assert self.kv.hash(KEY) == {"n": str(n), "sum": str(n * (n + 1) // 2)}
        keys = {name: int(ttl) for name, ttl in self.kv.ask("scan", "{gw}:")["rows"]}
        assert set(keys) == {KEY, "{gw}:seq:node-1", "{gw}:books"} and all(ttl > 0 for ttl in keys.values())


@pytest.fixture
def writer(stage):
    def start(url):
        w = Writer(url)
        stage.endings.append(w.kv.close)
        return w

    return start


def lose_acknowledged_batches(writer, primary, replica, count):
    """Replication is asynchronous: batches are acknowledged that the replica never sees, then the primary dies."""
    eventually(lambda: primary.info("replication").get("slave0", "").count("state=online"), what="the replica is in step")
    assert primary.call("WAIT", 1, 5000) == 1
    replica.pause()
    primary.call("CLIENT", "KILL", "TYPE", "replica")
    writer.run_to(writer.done + count)
    primary.kill()
    replica.resume()


# ---- cluster ----


def make_cluster(stage):
    """Three primaries that share the slots, and a replica of the one that has ours. Returns (cluster, owner, replica, others)."""
    cluster = stage.redis_cluster(node_timeout_ms=1000)
    owner = cluster.owner(KEY)
    others = [n for n in cluster.nodes if n is not owner]
    return cluster, owner, cluster.replicate(owner), others


def test_a_cluster_is_followed_and_each_batch_counts_once_through_a_failover(stage, writer, record_property):
    cluster, owner, replica, others = make_cluster(stage)
    w = writer(cluster.url(others))  # neither has our slot
    w.run_to(100)
    assert w.outcomes == {"applied": 100}
    w.check()

    lose_acknowledged_batches(w, owner, replica, 7)
    began = time.monotonic()
    w.run_to(w.done + 1)
    took = time.monotonic() - began
    w.run_to(300)
    w.check()
    assert w.rewinds == [7], f"the failover forgot 7 acknowledged batches and the watermark with them: {w.outcomes}"
    assert role(replica) == "master"
    record_property("figure", f"cluster failover: no batch for {took:.1f} s; {w.outcomes}")


def test_a_slot_that_moves_to_another_node_is_followed(stage, writer):
    cluster, owner, _, others = make_cluster(stage)
    w = writer(cluster.url([owner]))
    w.run_to(50)
    target, slot = others[0], cluster.slot(KEY)
    owner_id, target_id = owner.call("CLUSTER", "MYID"), target.call("CLUSTER", "MYID")
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", owner_id)
    owner.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    w.run_to(80)  # the keys are still there
    keys = owner.call("CLUSTER", "GETKEYSINSLOT", slot, 100)
    owner.call("MIGRATE", "127.0.0.1", target.port, keys[0], 0, 5000)
    assert w.step() == "failed"  # half here, half there: refused, with patience, and not known to be lost
    assert set(w.errors) == {"UNAVAILABLE"} and "TRYAGAIN" in w.errors["UNAVAILABLE"]
    owner.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys[1:])
    for node in (target, owner, others[1]):
        node.call("CLUSTER", "SETSLOT", slot, "NODE", target_id)
    w.run_to(200)
    assert not w.rewinds and w.outcomes.get("mismatch", 0) == 0
    w.check()


# ---- sentinel ----


def test_sentinels_are_asked_for_the_primary_and_each_batch_counts_once_through_failovers(stage, writer, record_property):
    servers = stage.sentinels(sentinels=3, password=None)
    w = writer(servers.url())
    w.run_to(100)
    assert w.outcomes == {"applied": 100}

    ports.end(servers.children[0], signal.SIGKILL)  # the next one is asked
    lose_acknowledged_batches(w, servers.primary, servers.replica, 5)
    began = time.monotonic()
    w.run_to(w.done + 1)
    took = time.monotonic() - began
    w.run_to(300)
    w.check()
    assert w.rewinds == [5], f"the failover forgot 5 acknowledged batches and the watermark with them: {w.outcomes}"
    record_property("figure", f"sentinel failover: no batch for {took:.1f} s; {w.outcomes}")


def test_a_primary_that_was_demoted_by_hand_is_left(stage, writer):
    servers = stage.sentinels(sentinels=3, password=None)
    w = writer(servers.url())
    w.run_to(50)
    assert servers.of(servers.sentinels[0], "FAILOVER", servers.NAME) == b"OK"
    eventually(lambda: w.step() and role(servers.replica) == "master", within=30, every=0, what="promoted")
    eventually(lambda: w.step() and role(servers.primary) == "slave", within=30, every=0, what="demoted")
    w.run_to(w.done + 100)
    w.check()
    assert role(servers.replica) == "master"
