# SPDX-License-Identifier: Apache-2.0
"""The tools of the other stories do what they say: a tool that cannot fail proves nothing."""

import threading

import psycopg
import pytest

from support.rawhttp import Closed, ProtocolError, RawClient, chunked, request
from support.redis import Client, RedisError
from support.upstream import CLOSE, RESET, Gate, json_answer
from support.wait import eventually


def test_the_scripted_upstream_keeps_requests_byte_exactly(stage):
    up = stage.upstream(json_answer({"ok": True}))
    body = b'{"a": 1.0e+2,  "b":"\xc3\xa9"}'
    sent = request(body=body)
    with RawClient(up.address) as c:
        c.send_sliced(sent, 3)
        assert c.read_response().body == b'{"ok": true}'
        c.send(request(headers=[("Transfer-Encoding", "chunked")], body=chunked(body, 4)))
        assert c.read_response().status == 200
    first, second = up.requests
    assert first.raw == sent
    assert (first.body, second.body) == (body, body)
    assert second.raw_body == chunked(body, 4)
    assert (first.connection, second.connection) == (1, 1)


def test_the_raw_client_sees_bytes_beyond_the_answer(stage):
    up = stage.upstream([json_answer({}) + b"HTTP/1.1 200 OK\r\n", CLOSE])
    with RawClient(up.address) as c:
        c.send(request())
        assert c.read_response().body == b"{}"
        assert not c.is_closed()
        assert c.buffer == b"HTTP/1.1 200 OK\r\n"


def test_the_raw_client_refuses_a_malformed_answer(stage):
    for bad in (b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n"):
        up = stage.upstream([bad, CLOSE])
        with RawClient(up.address) as c:
            c.send(request())
            with pytest.raises(ProtocolError):
                c.read_response()


def test_the_raw_client_tells_a_cut_answer_from_a_whole_one(stage):
    whole = json_answer({"text": "x" * 100})
    up = stage.upstream([whole[:-1], CLOSE])
    with RawClient(up.address) as c:
        c.send(request())
        with pytest.raises(Closed):
            c.read_response()


def test_the_fault_proxy_slices_cuts_resets_and_heals_while_running(stage):
    up = stage.upstream(json_answer({"text": "x" * 1000}))
    proxy = stage.tcpfault(up.address)
    with RawClient(proxy.address) as c:
        c.send(request())
        assert c.read_response().status == 200
        proxy.set("down", slice=7)
        c.send(request())
        assert len(c.read_response().body) > 1000
    proxy.set("down", slice=0, cut_after=50)
    with RawClient(proxy.address) as c:
        c.send(request())
        assert len(c.read_all()) == 50
    proxy.set("down", cut_after=None, reset_after=20)
    with RawClient(proxy.address) as c:
        c.send(request())
        assert len(c.read_all()) <= 20
    proxy.heal()
    with RawClient(proxy.address) as c:
        c.send(request())
        assert c.read_response().status == 200


def test_the_fault_proxy_goes_silent_and_comes_back(stage):
    up = stage.upstream()
    proxy = stage.tcpfault(up.address).set(is_black_hole=True)
    with RawClient(proxy.address) as c:
        c.send(request())
        with pytest.raises(TimeoutError):
            c.read_response(timeout=0.3)
        assert not up.requests
        proxy.heal()
        assert c.read_response().status == 200


def test_the_scripted_upstream_sees_that_its_peer_closed(stage):
    gate = Gate()
    up = stage.upstream([gate, RESET])
    with RawClient(up.address) as c:
        c.send(request())
        eventually(lambda: up.requests)
    eventually(lambda: up.requests[0].closed_at, 2)


def test_eventually_gives_up_with_the_last_result():
    with pytest.raises(AssertionError, match="the flag"):
        eventually(threading.Event().is_set, within=0.05, what="the flag")


def test_the_tcp_proxy_loses_an_answer_and_not_what_was_asked(stage):
    redis = stage.redis()
    proxy = stage.tcpfault(redis.address)
    c = Client(proxy.address, redis.password)
    assert c("INCR", "a") == 1
    (link,) = proxy.lose_answers(after=2)
    with pytest.raises(OSError):
        c("INCR", "a")
    assert link.is_closed and redis.call("GET", "a") == b"2"
    assert Client(proxy.address, redis.password)("INCR", "a") == 3


def test_redis_forgets_or_remembers_as_it_was_told(stage):
    for is_persistent, left in ((False, []), (True, ["a"])):
        redis = stage.redis(is_persistent=is_persistent)
        redis.call("SET", "a", 1)
        assert redis.ttls() == {"a": -1}
        redis.restart()
        assert list(redis.ttls()) == left
    redis.flush()
    redis.call("SET", "b", 1, "EX", 100)
    assert 90 <= redis.ttls()["b"] <= 100 and redis.commandstats()["set"] == 1
    redis.pause()
    with pytest.raises(OSError):
        redis.client(timeout=0.2)
    redis.resume()
    assert redis.call("PING") == b"PONG"


def test_a_key_of_a_redis_cluster_moves_and_its_old_owner_says_where(stage):
    cluster = stage.redis_cluster()
    before = cluster.owner("{gw}:a")
    before.call("SET", "{gw}:a", 1)
    after = next(n for n in cluster.nodes if n is not before)
    cluster.move("{gw}:a", after)
    assert after.call("GET", "{gw}:a") == b"1"
    with pytest.raises(RedisError, match=f"MOVED \\d+ 127.0.0.1:{after.port}"):
        before.call("GET", "{gw}:a")


def test_sentinels_put_the_replica_in_the_place_of_its_primary(stage):
    sentinels = stage.sentinels()
    sentinels.primary.call("SET", "a", 1)
    sentinels.fail_over()
    assert sentinels.current() == sentinels.replica.port and sentinels.replica.call("GET", "a") == b"1"


def test_postgres_stops_and_goes_on_dies_and_keeps_refuses_writes_and_takes_them(stage):
    postgres = stage.postgres()
    postgres.execute("CREATE TABLE t (n int)")
    with postgres.connect() as open_before:
        postgres.pause()
        with pytest.raises(psycopg.OperationalError):
            postgres.connect(timeout=2)
        postgres.resume()
        open_before.execute("INSERT INTO t VALUES (1)")
    postgres.restart()
    assert postgres.query("SELECT n FROM t") == [(1,)]
    postgres.set_read_only(True)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        postgres.execute("INSERT INTO t VALUES (2)")
    postgres.set_read_only(False)
    postgres.execute("INSERT INTO t VALUES (2)")
    with psycopg.connect(postgres.url()) as c:
        assert c.execute("SELECT count(*) FROM t").fetchone() == (2,)
