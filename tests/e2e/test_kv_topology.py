# SPDX-License-Identifier: Apache-2.0
"""The realtime store across a real cluster and real sentinels: batches go on through redirections and failovers, and each
counts exactly once, also those that a failover forgot after they were acknowledged."""

import time

import pytest
from support.redisd import INSTALLED, KvTool, RedisServer
from support.wait import eventually

pytestmark = [pytest.mark.skipif(not INSTALLED, reason="there is no redis-server in the path"), pytest.mark.timeout(120)]

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
def servers(stage):
    def start(name, options=(), is_sentinel=False):
        s = RedisServer(stage.directory, name, options, is_sentinel)
        stage.endings.append(s.close)
        return s.start()

    return start


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
    replica.freeze()
    primary.call("CLIENT", "KILL", "TYPE", "replica")
    writer.run_to(writer.done + count)
    primary.kill()
    replica.thaw()


# ---- cluster ----

CLUSTER = ("cluster-enabled yes", "cluster-port {bus}", "cluster-node-timeout 1000", "cluster-replica-validity-factor 0")


def make_cluster(servers):
    """Three primaries that share the slots, and a replica of the one that has ours. Returns (owner, replica, others)."""
    nodes = [servers(f"node{i}", CLUSTER) for i in range(4)]
    for i, node in enumerate(nodes):
        node.call("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
    bounds = [0, 5461, 10923, 16384]
    for i in range(3):
        nodes[i].call("CLUSTER", "ADDSLOTSRANGE", bounds[i], bounds[i + 1] - 1)
    for node in nodes[1:]:
        nodes[0].call("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
    eventually(lambda: all("cluster_known_nodes:4" in n.call("CLUSTER", "INFO") for n in nodes), within=20, what="all know all")
    slot = nodes[0].call("CLUSTER", "KEYSLOT", KEY)
    owner = next(nodes[i] for i in range(3) if bounds[i] <= slot < bounds[i + 1])
    nodes[3].call("CLUSTER", "REPLICATE", owner.call("CLUSTER", "MYID"))
    eventually(lambda: all("cluster_state:ok" in n.call("CLUSTER", "INFO") for n in nodes), within=20, what="the cluster is up")
    eventually(lambda: nodes[3].info("replication").get("master_link_status") == "up", within=20, what="the replica is up")
    return owner, nodes[3], [n for n in nodes[:3] if n is not owner]


def test_a_cluster_is_followed_and_each_batch_counts_once_through_a_failover(servers, writer, record_property):
    owner, replica, others = make_cluster(servers)
    w = writer("redis://" + ",".join(f"127.0.0.1:{n.port}" for n in others))  # neither has our slot
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


def test_a_slot_that_moves_to_another_node_is_followed(servers, writer):
    owner, _, others = make_cluster(servers)
    w = writer(f"redis://127.0.0.1:{owner.port}")
    w.run_to(50)
    target, slot = others[0], owner.call("CLUSTER", "KEYSLOT", KEY)
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


def make_sentinels(servers):
    primary = servers("primary")
    replica = servers("replica", [f"replicaof 127.0.0.1 {primary.port}"])
    watch = [
        f"sentinel monitor main 127.0.0.1 {primary.port} 2", "sentinel down-after-milliseconds main 1000",
        "sentinel failover-timeout main 6000", "sentinel parallel-syncs main 1",
    ]  # fmt: skip
    sentinels = [servers(f"sentinel{i}", watch, is_sentinel=True) for i in range(3)]

    def is_known():
        for s in sentinels:
            fields = s.call("SENTINEL", "MASTER", "main")
            state = dict(zip(fields[::2], fields[1::2]))
            if state["num-slaves"] != "1" or state["num-other-sentinels"] != "2" or state["flags"] != "master":
                return False
        return True

    eventually(is_known, within=20, what="the sentinels know each other and the replica")
    eventually(lambda: replica.info("replication").get("master_link_status") == "up", within=20, what="the replica is up")
    return primary, replica, sentinels


def test_sentinels_are_asked_for_the_primary_and_each_batch_counts_once_through_failovers(servers, writer, record_property):
    primary, replica, sentinels = make_sentinels(servers)
    seeds = ",".join(f"127.0.0.1:{s.port}" for s in sentinels)
    w = writer(f"redis://{seeds}?sentinel=main")
    w.run_to(100)
    assert w.outcomes == {"applied": 100}

    sentinels[0].kill()  # the next one is asked
    lose_acknowledged_batches(w, primary, replica, 5)
    began = time.monotonic()
    w.run_to(w.done + 1)
    took = time.monotonic() - began
    w.run_to(300)
    w.check()
    assert w.rewinds == [5], f"the failover forgot 5 acknowledged batches and the watermark with them: {w.outcomes}"
    record_property("figure", f"sentinel failover: no batch for {took:.1f} s; {w.outcomes}")


def test_a_primary_that_was_demoted_by_hand_is_left(servers, writer):
    primary, replica, sentinels = make_sentinels(servers)
    w = writer("redis://" + ",".join(f"127.0.0.1:{s.port}" for s in sentinels) + "?sentinel=main")
    w.run_to(50)
    assert sentinels[0].call("SENTINEL", "FAILOVER", "main") == "OK"
    eventually(lambda: w.step() and role(replica) == "master", within=30, every=0, what="promoted")
    eventually(lambda: w.step() and role(primary) == "slave", within=30, every=0, what="demoted")
    w.run_to(w.done + 100)
    w.check()
    assert role(replica) == "master"
