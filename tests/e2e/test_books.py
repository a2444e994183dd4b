# SPDX-License-Identifier: Apache-2.0
"""All books agree to the nano-dollar with each other and with what the providers billed, on every pair of stores."""

import contextlib
import json
import signal
import threading

import pytest

from soak import books_million
from support import mixed
from support.books import BILLED, Books, compare
from support.gateway import Gateway, config
from support.process import SLOWNESS, is_sanitized
from support.wait import eventually

STORES = ("sqlite", "postgres+redis", "sqlite+redis", "postgres")


def stores(stage, kind):
    """What is configured, and what the comparison reads."""
    redis = stage.redis() if "redis" in kind else None
    postgres = stage.postgres() if "postgres" in kind else None
    options = {**({"redis": redis.url()} if redis else {}), **({"database": postgres.url()} if postgres else {})}
    return options, {"redis": redis, "postgres": postgres}


def start(stage, options, **more):
    sim = stage.simulator(seed=3)
    return sim, stage.gateway(mixed.providers(sim), **{**mixed.GATEWAY, **options, **more})


def check_stories(books, load):
    """Each answered request can be explained, once; those refused as well, but for those of no known tenant."""
    count, distinct = books.story_count()
    assert count == distinct and books.knows(load.answered + load.left)
    assert all(story for *_, story in books.stories())


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.asan
@pytest.mark.tsan
def test_all_books_agree_after_a_mixed_load(stage, kind):
    options, read = stores(stage, kind)
    sim, gateway = start(stage, options)
    count = 400 if is_sanitized() else 3000
    load = mixed.run([gateway], count)
    assert load.statuses[200] >= count * 0.8, load.statuses
    books = Books([gateway], sim, **read)
    found = books.agree(at_least=count * 0.8)
    # The load did what it is there for.
    ledger = found["ledger"]
    assert ledger.total("err") > count / 100 and ledger.total("unpriced") >= count / 20 and ledger.total("tcached") > 0
    assert len(ledger.spent) >= 2 and min(v for (tenant, _), v in ledger.spent.items() if tenant in ("acme", "umbrella")) > 0
    check_stories(books, load)
    books.check_by_hand()
    # By access log as well: it is another reader of the same journal.
    lines = gateway.logged(count + 20).copy()
    assert sum(line["cost_nanousd"] for line in lines) == ledger.total("cost_nano")
    gateway.stop()
    assert not compare(ledger, books.ledger()[0]), "the stop changed something"


@pytest.mark.parametrize("kind", ["sqlite", "postgres+redis"])
def test_after_kill_9_what_was_booked_is_what_was_billed(stage, kind):
    options, read = stores(stage, kind)
    sim, gateway = start(stage, options)
    books = Books([gateway], sim, knows_process=False, **read)
    for _ in range(3):
        with mixed.Pulse(gateway, threads=3, every=0.001) as pulse:
            eventually(lambda: len(pulse.ids) >= 150, 30 * SLOWNESS, what="150 answers")
            gateway.signal(signal.SIGKILL)
            gateway.child.wait()
        gateway.start()
        eventually(lambda: books.knows(pulse.ids), 30 * SLOWNESS, what="every answer's story")
    # What was under way when it died was ended by the next start; what that one did not hear of an answer is an estimate.
    (estimated,) = books.query("SELECT coalesce(sum(count), 0) FROM ledger WHERE kind = 'attempt' AND usage_source = 'estimated'")[0]
    posts = sim.control.settled_log()
    books.simulator = None
    ledger = books.agree(at_least=450)["ledger"]
    # An attempt that was on record and not yet sent is booked: what cannot be known is not forgotten.
    assert len(posts) <= ledger.total("attempts") <= len(posts) + estimated <= len(posts) + 9, (len(posts), estimated)
    told = books.ledger()[2]
    billed = Books([], sim).truth(posts)
    assert told.total("tout") <= billed.total("tout") and told.total("tout") >= billed.total("tout") * 0.9
    assert estimated or not compare(told, billed, BILLED)


@pytest.mark.asan
def test_a_stopped_gateway_leaves_nothing_behind_in_its_journal(stage):
    """A clean stop brings the rest to the stores, however short it lived."""
    options, read = stores(stage, "postgres+redis")
    sim, gateway = start(stage, options)
    for n in range(3):
        mixed.run([gateway], 100, leavers=0)
        gateway.stop()
        books = Books([gateway], sim, knows_process=False, **read)
        found, shown = books.differences()
        assert not found and shown[0].total("attempts") > 60 * (n + 1), found
        gateway.start()


def test_the_history_is_read_by_others_while_it_is_written(stage):
    sim, gateway = start(stage, {})
    books = Books([gateway], sim)
    eventually(lambda: (gateway.state_dir / "history.db").exists())
    eventually(lambda: reads(books) is not None, 20 * SLOWNESS, what="the first read")
    seen, stop, trouble = [], threading.Event(), []

    def keep_reading():
        with contextlib.closing(books.reader()) as connection:
            while not stop.is_set():
                try:
                    seen.append(read_once(connection))
                except Exception as e:
                    trouble.append(repr(e))

    readers = [threading.Thread(target=keep_reading) for _ in range(2)]
    for r in readers:
        r.start()
    eventually(lambda: seen, 20 * SLOWNESS, what="a read")
    for _ in range(4):
        mixed.run([gateway], 500, leavers=2)
        before, batch = len(seen), seen[-1][0] or 0
        eventually(lambda: len(seen) > before + 20 and (seen[-1][0] or 0) > batch, 20 * SLOWNESS, what="reads of another batch")
    books.agree(at_least=1500)
    stop.set()
    for r in readers:
        r.join()
    assert not trouble, trouble[:3]
    # Each read saw whole batches only: the ledger ends where the watermark is, and both kinds say the same.
    assert all(batch == newest and by_attempt == by_request for batch, newest, by_attempt, by_request in seen), seen[:5]
    assert len({batch for batch, *_ in seen}) >= 3, "the writer stood still while others read"
    assert gateway.metric("gatewayd_degraded") == 0
    print(f"\n    {len(seen)} reads, batches {seen[0][0]} to {seen[-1][0]}")


READ = """SELECT (SELECT max(batch) FROM journal_watermarks), (SELECT max(seq) FROM ledger),
 (SELECT sum(cost_nano) FROM ledger WHERE kind = 'attempt'), (SELECT sum(cost_nano) FROM ledger WHERE kind = 'request')"""


def read_once(connection):
    return connection.execute(READ).fetchone()


def reads(books):
    try:
        with contextlib.closing(books.reader()) as connection:
            return read_once(connection)
    except Exception:
        return None


@pytest.mark.asan
def test_every_key_in_redis_ends_by_itself_and_nobody_asks_for_all_keys(stage):
    options, read = stores(stage, "postgres+redis")
    redis = read["redis"]
    redis.call("CONFIG", "RESETSTAT")
    sim, gateway = start(stage, options)
    mixed.run([gateway], 300)
    books = Books([gateway], sim, **read)
    books.agree()
    commands = redis.commandstats()
    gateway.stop()
    redis.flush()  # and what a refill writes
    gateway.start()
    mixed.run([gateway], 100, leavers=0)
    Books([gateway], sim, knows_process=False, **read).agree()
    ttls = redis.ttls()
    kinds = {key.split(":")[1] for key in ttls}
    assert {"h", "t", "seq", "hours", "models", "ten"} <= kinds, kinds
    assert all(key.startswith("{gw}:") for key in ttls)
    assert all(ttl > 0 for ttl in ttls.values()), {k: t for k, t in ttls.items() if t <= 0}
    for key, ttl in ttls.items():
        most = {"h": 6 * 3600, "t": 900, "seq": 30 * 86400, "inst": 30}.get(key.split(":")[1])
        assert most is None or ttl <= most, (key, ttl)
    for forbidden in ("keys", "flushall", "flushdb", "monitor"):
        assert not commands.get(forbidden), commands
    print(f"\n    {len(ttls)} keys of kinds {sorted(kinds)}; commands {commands}")


@pytest.mark.parametrize("how", ["cluster", "sentinel"])
def test_books_agree_when_redis_moves(stage, how):
    """A slot that moves to another node of a cluster; a primary that dies and whose replica takes over."""
    postgres = stage.postgres()
    servers = stage.redis_cluster() if how == "cluster" else stage.sentinels()
    sim, gateway = start(stage, {"redis": servers.url(), "database": postgres.url()})
    mixed.run([gateway], 300, leavers=3)
    before = servers.owner("{gw}:hours") if how == "cluster" else servers.primary
    Books([gateway], sim, postgres, before).agree()
    with mixed.Pulse(gateway) as pulse:
        eventually(lambda: len(pulse.ids) > 100)
        if how == "cluster":
            after = next(n for n in servers.nodes if n is not before)
            servers.move("{gw}:hours", after)
        else:
            # What it acknowledged and the replica has not got is lost with it: the ledger makes up for it.
            servers.fail_over()
            after = servers.replica
        count = len(pulse.ids)
        eventually(lambda: len(pulse.ids) > count + 100)
    assert not pulse.failures, pulse.failures[:3]
    Books([gateway], sim, postgres, after).agree(within=45, at_least=250 + len(pulse.ids))


def test_three_gateways_keep_one_set_of_books(stage, record_property):
    """The short form of tests/soak/books_million.py."""
    found = books_million.run(stage, 20_000)
    record_property("figure", found)


@pytest.mark.asan
def test_five_gateways_that_start_at_once_on_an_empty_database(stage):
    postgres, sim = stage.postgres(), stage.simulator(seed=8)
    gateways = []
    for _ in range(5):
        made = config(mixed.providers(sim), **{**mixed.GATEWAY, "database": postgres.url(), "workers": 1})
        gateways.append(Gateway(stage.directory, made, stage.next_name("gateway")))
        stage.endings.append(gateways[-1].stop)
    for g in gateways:
        g.spawn()
    for g in gateways:
        eventually(g.ready_file.exists, 30 * SLOWNESS, what="all five are ready")
        g.ready = json.loads(g.ready_file.read_text())
        assert g.chat().status == 200
    booked = "SELECT coalesce(sum(count), 0) FROM ledger WHERE kind = 'request'"
    eventually(lambda: postgres.query(booked)[0][0] == 5, 30 * SLOWNESS, what="five requests in one ledger")
    versions = postgres.query("SELECT version FROM schema_migrations ORDER BY version")
    assert [v for v, in versions] == list(range(1, len(versions) + 1)) and len(versions) >= 3
    applied = [line for g in gateways for line in g.stderr().splitlines() if "applied version" in line]
    assert len(applied) == len(versions), applied  # one of them migrated, and each step once
    assert not any('"level":"error"' in g.stderr() for g in gateways)
