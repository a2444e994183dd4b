# SPDX-License-Identifier: Apache-2.0
"""Stores that hang, die, refuse, forget or lose their acknowledgements: requests go on as if nothing had happened, and within
30 seconds of the store's return every book is whole again, nothing missing and nothing twice."""

import os
import random
import subprocess
import time

import pytest

from support import mixed
from support.books import BILLED, Books, compare, table
from support.gateway import Gateway, config
from support.process import SLOWNESS, is_sanitized
from support.wait import eventually

EXTRA = 0.25  # what an answer may take longer while a store is away
RETURN = 30  # seconds for the books to agree again


class Bed:
    """A gateway on PostgreSQL and Redis, each behind a proxy of its own."""

    def __init__(self, stage, **more):
        self.redis, self.postgres = stage.redis(**more), stage.postgres()
        self.to_redis, self.to_postgres = stage.tcpfault(self.redis.address), stage.tcpfault(self.postgres.address)
        self.sim = stage.simulator(seed=9)
        self.control = stage.simulator(seed=1)  # asked directly: what the machine makes of it while the gateway is tried
        self.gateway = stage.gateway(
            mixed.providers(self.sim), **mixed.GATEWAY, redis=self.redis.url(self.to_redis.address),
            database=self.postgres.url(self.to_postgres.address),
        )
        self.books = Books([self.gateway], self.sim, self.postgres, self.redis)

    def heal(self):
        """Whatever was done to them."""
        for proxy in (self.to_redis, self.to_postgres):
            proxy.heal()
        for server in (self.redis, self.postgres):
            if server.child.poll() is None:
                server.resume()
            else:
                server.start()
        if self.postgres.query("SHOW default_transaction_read_only") == [("on",)]:
            self.postgres.set_read_only(False)

    def degraded(self):
        return self.gateway.metric("gatewayd_degraded")


def black_hole(proxy):
    proxy.set(is_black_hole=True)


FAULTS = {
    "redis stops": lambda bed: bed.redis.pause(),
    "redis is killed and comes back empty": lambda bed: bed.redis.kill(),
    "redis is a black hole": lambda bed: black_hole(bed.to_redis),
    "redis resets every connection": lambda bed: (setattr(bed.to_redis, "refuses", True), bed.to_redis.reset_all()),
    "postgres stops": lambda bed: bed.postgres.pause(),
    "postgres is killed": lambda bed: bed.postgres.kill(),
    "postgres is a black hole": lambda bed: black_hole(bed.to_postgres),
    "postgres takes no writes": lambda bed: bed.postgres.set_read_only(True),
    "both stop": lambda bed: (bed.redis.pause(), bed.postgres.pause()),
    "both are killed": lambda bed: (bed.redis.kill(), bed.postgres.kill()),
    "both are black holes": lambda bed: (black_hole(bed.to_redis), black_hole(bed.to_postgres)),
}
SHORT = ("redis stops", "both are killed")


def milliseconds(seconds):
    return f"{seconds * 1000:.1f} ms"


def run_through(bed, fault, seconds):
    """A steady load before, during and after; returns what was measured."""
    direct = mixed.Pulse(bed.control, threads=1, path="/openai/v1/chat/completions")
    with mixed.Pulse(bed.gateway, threads=3) as pulse, direct:
        began = time.monotonic()
        eventually(lambda: time.monotonic() > began + seconds and len(pulse.ids) > 100, 30 * SLOWNESS, every=0.05)
        before = time.monotonic()
        fault(bed)
        count = len(pulse.ids)
        eventually(lambda: bed.degraded() > 0, 20 * SLOWNESS, every=0.1, what="the gateway notices")
        eventually(lambda: time.monotonic() > before + 2 * seconds and len(pulse.ids) > count + 100, 30 * SLOWNESS, every=0.05)
        during = time.monotonic()
        bed.heal()
        count = len(pulse.ids)
        eventually(lambda: len(pulse.ids) > count + 50, 30 * SLOWNESS)
    return pulse, pulse.window(began, before), pulse.window(before, during), direct.window(before, during)


def check_pulse(pulse, before, during, direct, record_property, name):
    assert not pulse.failures, (len(pulse.failures), pulse.failures[:3])
    figures = [mixed.quantile(v, q) for v in (before, during, direct) for q in (0.5, 0.99, 1)]
    text = (f"{name}: p50/p99/max {'/'.join(map(milliseconds, figures[:3]))} of {len(before)} before, "
            f"{'/'.join(map(milliseconds, figures[3:6]))} of {len(during)} during, without a gateway meanwhile "
            f"{'/'.join(map(milliseconds, figures[6:]))}")
    record_property("figure", text)
    print(f"\n    {text}")
    assert figures[3] <= figures[0] + EXTRA * SLOWNESS, text
    # On a machine that is busy with other things its own pauses, seen before or beside the gateway, are not the store's doing.
    assert figures[4] <= max(figures[1], figures[8]) + EXTRA * SLOWNESS, text


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.asan, pytest.mark.tsan] if n in SHORT else []) for n in FAULTS])
def test_requests_go_on_and_the_books_agree_again(stage, name, record_property):
    bed = Bed(stage)
    mixed.run([bed.gateway], 200, leavers=2)
    pulse, *figures = run_through(bed, FAULTS[name], seconds=1.0)
    check_pulse(pulse, *figures, record_property, name)
    bed.books.agree(RETURN, at_least=len(pulse.ids))
    eventually(lambda: bed.degraded() == 0, 20 * SLOWNESS, what="nothing is degraded any more")
    assert bed.books.knows(pulse.ids)


def test_an_emptied_redis_is_filled_again_from_the_ledger(stage):
    bed = Bed(stage)
    mixed.run([bed.gateway], 300)
    first = bed.books.agree(at_least=250)
    with mixed.Pulse(bed.gateway) as pulse:
        for _ in range(3):
            count = len(pulse.ids)
            bed.redis.flush()
            eventually(lambda count=count: len(pulse.ids) > count + 150, 30 * SLOWNESS)
    assert not pulse.failures, pulse.failures[:3]
    last = bed.books.agree(RETURN, at_least=first["ledger"].total("attempts") + len(pulse.ids))
    assert last["redis"].total("cost_nano") > first["redis"].total("cost_nano") > 0
    # Without a request that would make it look: an idle gateway notices by itself.
    bed.redis.flush()
    bed.books.agree(RETURN, at_least=first["ledger"].total("attempts") + len(pulse.ids))


def test_redis_comes_back_empty_while_postgres_is_away(stage):
    """Nothing to refill from yet, and nothing is lost by that."""
    bed = Bed(stage)
    mixed.run([bed.gateway], 200, leavers=2)
    bed.books.agree()
    bed.postgres.pause()
    with mixed.Pulse(bed.gateway) as pulse:
        eventually(lambda: len(pulse.ids) > 50)
        bed.redis.restart()
        count = len(pulse.ids)
        eventually(lambda: len(pulse.ids) > count + 200, 30 * SLOWNESS)
    assert not pulse.failures, pulse.failures[:3]
    bed.heal()
    bed.books.agree(RETURN, at_least=len(pulse.ids))


@pytest.mark.asan
def test_both_stores_are_away_at_the_start(stage):
    bed = Bed(stage)
    mixed.run([bed.gateway], 100, leavers=0)
    bed.gateway.stop()
    bed.redis.kill()
    bed.postgres.kill()
    bed.gateway.start()
    load = mixed.run([bed.gateway], 200, leavers=2)
    assert load.statuses[200] >= 150, load.statuses
    bed.heal()
    bed.books.knows_process = False
    bed.books.agree(RETURN, at_least=200)


def test_stores_away_through_kill_9(stage):
    """What only the journal had when the process died reaches the stores with the next one."""
    bed = Bed(stage)
    bed.redis.kill()
    bed.postgres.pause()
    load = mixed.run([bed.gateway], 400, leavers=0)
    bed.gateway.child.kill()
    bed.gateway.child.wait()
    bed.gateway.start()
    journal = bed.books.journals()
    assert not compare(journal, bed.books.truth(), ("attempts",)), "the journal lacks something"
    bed.heal()
    bed.books.knows_process = False
    ledger = bed.books.agree(RETURN, at_least=300)["ledger"]
    assert not compare(journal, ledger)
    print(table([journal]))
    assert bed.books.knows(load.answered)


EXPOSED = 1.2  # seconds: every connection that batches go over, once a second, has an answer to lose


def lose_answers(proxies):
    """[(proxy, after)]: whatever talks meanwhile is cut so many bytes into its answers. Returns how many were, by proxy."""
    marked, until = [[] for _ in proxies], time.monotonic() + EXPOSED

    def is_over():
        for links, (proxy, after) in zip(marked, proxies):
            links.extend(proxy.lose_answers(after))
        return time.monotonic() > until and all(any(link.is_closed for link in links) for links in marked)

    eventually(is_over, 30 * SLOWNESS, every=0.01, what="a connection to each store is cut")
    for proxy, _ in proxies:
        proxy.keep_answers()
    return [sum(link.is_closed for link in links) for links in marked]


def test_lost_acknowledgements_count_once(stage, record_property):
    """The connection is cut inside an answer of the store, that is after it did what it was asked, at many places."""
    bed = Bed(stage)
    places, seed = (6 if is_sanitized() else 12), int(os.environ.get("GATEWAYD_TEST_SEED", 0)) or random.randrange(1 << 30)
    rng, cut = random.Random(seed), {"redis": 0, "postgres": 0}
    with mixed.Pulse(bed.gateway, threads=3) as pulse:
        eventually(lambda: len(pulse.ids) > 50)
        for _ in range(places):
            n = lose_answers([(bed.to_redis, rng.randrange(12)), (bed.to_postgres, rng.randrange(250))])
            cut = {name: cut[name] + more for name, more in zip(cut, n)}
    assert not pulse.failures, pulse.failures[:3]
    bed.books.agree(RETURN, at_least=len(pulse.ids))
    duplicates = bed.gateway.metric("gatewayd_store_duplicates_total")
    text = f"{cut} answers cut (seed {seed}), {duplicates:.0f} batches were sent again and not counted again"
    record_property("figure", text)
    print(f"\n    {text}")
    assert duplicates > 0, "no cut lay between a commit and its answer: the test proved nothing"


# ---- a full disk --------------------------------------------------------------------------------------------------


def mount_small(where):
    where.mkdir(mode=0o700)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "gatewayd-test", where], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")


def unmount(where):
    subprocess.run(["umount", "-l", where], check=True)


def fill(path):
    """Takes what is left of the disk."""
    with open(path, "ab", buffering=0) as f:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    f.write(b"x" * size)
            except OSError:
                pass


def test_a_full_disk_refuses_before_anything_is_spent_and_loses_nothing(stage):
    sim = stage.simulator(seed=9)
    gateway = Gateway(stage.directory, config(mixed.providers(sim), **mixed.GATEWAY, workers=1, access_log="",
                                              journal={"max_bytes": "8MiB"}), "small")
    mount_small(gateway.state_dir)
    stage.endings.append(lambda: unmount(gateway.state_dir))
    stage.endings.append(gateway.stop)
    gateway.start()
    books = Books([gateway], sim)
    mixed.run([gateway], 200, leavers=0)
    books.agree()
    ballast = gateway.state_dir / "ballast"
    fill(ballast)
    loads, answers, unaccounted = [], [], []

    def is_refused():
        fill(ballast)  # what was freed meanwhile
        loads.append(mixed.run([gateway], 500, leavers=0))
        # The store may still find a place for one batch, and then the journal for as many requests.
        posts = len(sim.control.settled_log())
        answers[:] = [gateway.chat() for _ in range(20)]
        answered = [a for a in answers if a.status == 200]
        unaccounted.append(len(sim.control.settled_log()) - posts - len(answered))
        loads[-1].statuses[200] += len(answered)
        return not answered

    eventually(is_refused, 90, every=0, what="a full journal")
    assert not any(unaccounted), "a refused request was sent to its provider"
    for answer in answers:
        assert (answer.status, answer.json["error"]["code"]) == (503, "journal_full") and answer.headers["retry-after"], answer
    assert gateway.get("/healthz").status == 200 and gateway.metric("gatewayd_degraded") > 0
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=256m", gateway.state_dir], check=True)
    eventually(lambda: gateway.chat().status == 200, RETURN, what="requests are taken again")
    loads.append(mixed.run([gateway], 200, leavers=0))
    answered = sum(load.statuses[200] for load in loads)
    # A second attempt that found no room for its statement is on record as just that, and was not sent.
    truth = books.truth()
    books.simulator = None
    ledger = books.agree(RETURN, at_least=answered)["ledger"]
    unsent = books.query("SELECT coalesce(sum(count), 0) FROM ledger WHERE kind = 'attempt' AND error = 'journal_full'")[0][0]
    assert ledger.total("attempts") - unsent == len(sim.control.log())
    assert not compare(books.ledger()[2], truth, BILLED)
    assert books.knows(i for load in loads for i in load.answered)
