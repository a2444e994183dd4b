# SPDX-License-Identifier: Apache-2.0
"""A provider has so many slots. Who finds none waits in order of priority and fairly between tenants, is told at once when
waiting has no use, and leaves nothing behind when he goes away."""

import asyncio
import json
import signal
import socket
import statistics
import threading
import time

import pytest

from support.gateway import KEY, http, model, provider, sha256
from support.load import read_answer
from support.process import SLOWNESS, is_sanitized
from support.rawhttp import RawClient, chunked, request
from support.upstream import CLOSE, DONE, LAST_CHUNK, STALL, Gate, as_chunk, chat_completion, error_answer, json_answer, sse_head, stream_events
from support.wait import eventually

OTHER = "sk-aigw-other-0123456789abcdef012345678"
GOOD = json_answer(chat_completion())


class Turnstile:
    """A provider that answers when the test says so, one request after the other."""

    def __init__(self, answer=GOOD):
        self.answer, self.gates, self.is_open = answer, [], False

    def __call__(self, received):
        gate = Gate()
        if self.is_open:
            gate.event.set()
        self.gates.append((received.json["messages"][0]["content"], gate))
        return [gate, self.answer]

    @property
    def names(self):
        return [name for name, _ in self.gates]

    def wait_for(self, n):
        return eventually(lambda: len(self.gates) >= n, 10 * SLOWNESS, what=f"{n} requests at the provider")

    def let_go(self, name):
        next(gate for n, gate in self.gates if n == name).event.set()

    def open(self):
        self.is_open = True
        for _, gate in self.gates:
            gate.event.set()


class Client(threading.Thread):
    def __init__(self, gateway, name, key=KEY, model="chat", **headers):
        super().__init__(daemon=True)
        self.gateway, self.text, self.key, self.model = gateway, name, key, model
        self.headers = {k.replace("_", "-"): str(v) for k, v in headers.items()}
        self.answer = None
        self.start()

    def run(self):
        body = {"model": self.model, "messages": [{"role": "user", "content": self.text}]}
        self.answer = self.gateway.post("/v1/chat/completions", body, self.key, self.headers, 60)

    def result(self):
        self.join(30 * SLOWNESS)
        assert self.answer is not None, self.text
        return self.answer


def tenants(**more):
    return [
        {"id": "acme", "keys": [{"id": "test", "sha256": sha256(KEY)}], **more},
        {"id": "other", "keys": [{"id": "test", "sha256": sha256(OTHER)}]},
    ]


def start(stage, slots=1, answer=GOOD, second=None, acme=None, **more):
    turnstile = Turnstile(answer)
    up = stage.upstream(turnstile)
    providers, targets = [provider("up", up.base_url, max_concurrent=slots)], ["up/m"]
    if second:
        providers.append(provider("second", second.base_url))
        targets.append("second/m")
    return stage.gateway(providers, [model("chat", *targets)], tenants=tenants(**(acme or {})), **more), turnstile


def waits(gateway, n):
    return eventually(lambda: gateway.metric("task_queue_depth") == n, 10 * SLOWNESS, what=f"{n} requests in the queue")


def queue_up(gateway, turnstile, *clients):
    """Each waits before the next comes. The first holds the slot."""
    out = [Client(gateway, "holder")]
    turnstile.wait_for(1)
    for n, more in enumerate(clients):
        out.append(Client(gateway, **more))
        waits(gateway, n + 1)
    return out


def let_all_go(turnstile, n):
    """One after the other, in the order in which the provider sees them."""
    for i in range(n):
        turnstile.wait_for(i + 1)
        assert len(turnstile.gates) == i + 1  # never more at once than there are slots
        turnstile.gates[i][1].event.set()


@pytest.mark.asan
@pytest.mark.tsan
def test_the_first_priority_overtakes_the_third_and_the_last_is_served(stage):
    gateway, turnstile = start(stage)
    asked = [{"name": "last", "x_priority": "low"}, *({"name": f"third{i}"} for i in range(6)), {"name": "first", "x_priority": "p1"}]
    clients = queue_up(gateway, turnstile, *asked)
    scrape = gateway.scrape()
    assert [scrape.sum("task_queue_depth", priority=f"p{p}") for p in range(1, 6)] == [1, 0, 6, 0, 1]
    assert scrape.sum("gatewayd_provider_in_flight", provider="up") == scrape.sum("gatewayd_provider_slots", provider="up") == 1
    let_all_go(turnstile, 9)
    assert all(c.result().status == 200 for c in clients)
    assert turnstile.names[1] == "first"
    assert [n for n in turnstile.names if n.startswith("third")] == [f"third{i}" for i in range(6)]
    assert turnstile.names.index("last") < 8  # some of the third priority came later, although they were before it
    assert "x-gatewayd-queue-ms" not in clients[0].answer.headers
    assert int(clients[1].answer.headers["x-gatewayd-queue-ms"]) >= int(clients[-1].answer.headers["x-gatewayd-queue-ms"])
    eventually(lambda: gateway.metric("gatewayd_provider_in_flight", provider="up") == 0)
    scrape = gateway.scrape()
    assert scrape.sum("task_duration_seconds_count", status="success", priority="p3") == 6
    assert scrape.sum("task_duration_seconds_count") == 8 and scrape.sum("task_queue_depth") == 0
    waited = sorted(line["queue_ms"] > 0 for line in gateway.logged(9))
    assert waited == [False] + 8 * [True]


def test_a_busy_tenant_does_not_hold_up_another(stage):
    gateway, turnstile = start(stage)
    asked = [*({"name": f"busy{i}"} for i in range(8)), {"name": "calm0", "key": OTHER}, {"name": "calm1", "key": OTHER}]
    clients = queue_up(gateway, turnstile, *asked)
    let_all_go(turnstile, 11)
    assert all(c.result().status == 200 for c in clients)
    assert turnstile.names.index("calm0") <= 3 and turnstile.names.index("calm1") <= 6


def test_a_tenant_cannot_raise_itself_above_its_cap(stage):
    gateway, turnstile = start(stage, acme={"priority": 4, "max_priority": 3})
    asked = [{"name": "default"}, {"name": "raised", "x_priority": "1"}]
    clients = queue_up(gateway, turnstile, *asked)
    scrape = gateway.scrape()
    assert (scrape.sum("task_queue_depth", priority="p4"), scrape.sum("task_queue_depth", priority="p3")) == (1, 1)
    turnstile.open()
    assert all(c.result().status == 200 for c in clients)


def test_a_plan_of_the_database_gives_its_tenants_a_priority(stage):
    gateway, turnstile = start(stage)

    def admin(method, path, body):
        answer = http(f"{gateway.admin_url}/api/admin/{path}", method, body, {"authorization": f"Bearer {gateway.ready['admin_token']}"})
        assert answer.status in (200, 201), answer
        return answer.json

    plan = admin("PUT", "plans/gold", {"priority": 2, "max_priority": 2})
    assert (plan["priority"], plan["max_priority"]) == (2, 2)
    admin("POST", "tenants", {"id": "db", "plan": "gold"})
    key = admin("POST", "keys", {"tenant": "db", "id": "k"})["key"]
    asked = [{"name": "normal"}, {"name": "gold", "key": key}, {"name": "greedy", "key": key, "x_priority": 1}]
    clients = queue_up(gateway, turnstile, *asked)
    assert gateway.metric("task_queue_depth", priority="p2") == 2
    let_all_go(turnstile, 4)
    assert all(c.result().status == 200 for c in clients)
    assert turnstile.names[1] == "gold"


@pytest.mark.parametrize("header, value", [("x-priority", v) for v in ("0", "6", "p9", "urgent", "1.5", "", "p")] + [("x-gatewayd-timeout-ms", v) for v in ("0", "-1", "soon", "")])
def test_a_bad_header_is_refused_by_its_name(gateway_for_headers, header, value):
    answer = gateway_for_headers.post("/v1/chat/completions", {"model": "chat", "messages": []}, headers={header: value})
    assert answer.status == 400 and f"'{header}'" in answer.json["error"]["message"], answer


@pytest.fixture(scope="module")
def gateway_for_headers(module_stage):
    return start(module_stage)[0]


def refusal(answer):
    assert answer.status == 503, answer
    error = answer.json["error"]
    assert error["code"] == "overloaded" and int(answer.headers["retry-after"]) >= 1
    return error["limit"]


@pytest.mark.asan
@pytest.mark.tsan
def test_a_full_queue_refuses_at_once_and_says_what_is_full(stage):
    gateway, turnstile = start(stage, queue={"max_depth": 2})
    clients = queue_up(gateway, turnstile, {"name": "a"}, {"name": "b"})
    limit = refusal(Client(gateway, "one too many").result())
    assert limit == {
        "scope": "provider:up", "kind": "concurrent", "unit": "requests", "limit": 1, "used": 1, "held": 0, "requested": 1,
        "resets_at": None, "queued": 2, "retry_ms": limit["retry_ms"], "verdict": limit["verdict"],
    }  # fmt: skip
    assert limit["retry_ms"] >= 1000
    assert gateway.metric("gatewayd_queue_refusals_total", reason="depth") == 1
    turnstile.open()
    assert all(c.result().status == 200 for c in clients)
    assert "one too many" not in turnstile.names


def test_bodies_that_wait_are_bounded(stage):
    gateway, turnstile = start(stage, queue={"max_bytes": "8KiB"})
    clients = queue_up(gateway, turnstile, {"name": "x" * 6000})
    refusal(Client(gateway, "y" * 6000).result())
    assert gateway.metric("gatewayd_queue_refusals_total", reason="bytes") == 1
    turnstile.open()
    assert all(c.result().status == 200 for c in clients)


@pytest.mark.parametrize("reason, more, headers", [("wait", {"max_wait": "200ms"}, {}), ("deadline", {}, {"x_gatewayd_timeout_ms": 200})])
def test_nobody_waits_longer_than_he_may(stage, reason, more, headers):
    gateway, turnstile = start(stage, queue=more)
    holder = Client(gateway, "holder")
    turnstile.wait_for(1)
    late = Client(gateway, "late", **headers).result()
    refusal(late)
    assert int(late.headers["x-gatewayd-queue-ms"]) >= 150
    assert gateway.metric("gatewayd_queue_refusals_total", reason=reason) == 1
    assert gateway.metric("task_queue_depth") == 0
    turnstile.open()
    assert holder.result().status == 200 and turnstile.names == ["holder"]


def test_a_wait_that_is_sure_to_be_too_long_is_not_begun(stage):
    gateway, turnstile = start(stage, queue={"max_wait": "1s"})
    clients = queue_up(gateway, turnstile, {"name": "a"})
    time.sleep(0.6)  # the pace that the gateway measures
    turnstile.let_go("holder")
    turnstile.wait_for(2)
    clients.append(Client(gateway, "b"))
    waits(gateway, 1)
    began = time.monotonic()
    refusal(Client(gateway, "c").result())
    assert time.monotonic() - began < 0.5 * SLOWNESS  # at once: not after the second that it may wait
    assert gateway.metric("gatewayd_queue_refusals_total", reason="wait") == 1
    turnstile.open()
    assert all(c.result().status == 200 for c in clients)


def test_the_next_target_is_taken_before_any_waiting_unless_told_otherwise(stage):
    second = stage.upstream(Turnstile())
    second.script.open()
    gateway, turnstile = start(stage, second=second)
    holder = Client(gateway, "holder")
    turnstile.wait_for(1)
    spilled = Client(gateway, "spilled").result()
    assert (spilled.status, spilled.headers["x-gatewayd-provider"], spilled.headers["x-gatewayd-attempts"]) == (200, "second", "1")
    gateway.config["queue"] = {"spill": False}
    gateway.write_config(gateway.config)
    gateway.reload()
    eventually(lambda: gateway.metric("gatewayd_config_version") == 2)
    patient = Client(gateway, "patient")
    waits(gateway, 1)
    turnstile.open()
    assert holder.result().status == 200 and patient.result().headers["x-gatewayd-provider"] == "up"
    assert second.script.names == ["spilled"]


PRICES = {"prices": [{"provider": "up", "model": "m", "input_usd_per_mtok": "1", "output_usd_per_mtok": "1000", "context_tokens": 1000, "max_output_tokens": 4000}]}


@pytest.mark.asan
@pytest.mark.tsan
def test_who_goes_away_while_he_waits_leaves_nothing_behind(stage):
    prices = stage.directory / "prices.json"
    prices.write_text(json.dumps(PRICES))
    limits = {"concurrent": 2, "rpm": 4, "tpm": 2000}
    gateway, turnstile = start(stage, acme={"budget": {"usd": 100}, "limits": limits}, prices=str(prices))
    body = json.dumps({"model": "chat", "max_tokens": 100, "messages": [{"role": "user", "content": "gone"}]}).encode()

    def admin(path):
        return http(f"{gateway.admin_url}/api/admin/{path}", headers={"authorization": f"Bearer {gateway.ready['admin_token']}"}).json

    def holds():
        used = {row["kind"]: row["used"] for row in admin("limits")["limits"] if row["scope"] == "tenant:acme"}
        budget = next(b for b in admin("budgets")["budgets"] if b["account"] == "tenant:acme")
        return used["concurrent"], used["requests"], used["tokens"], budget["held_nanousd"]

    holder = Client(gateway, "holder", key=OTHER)
    turnstile.wait_for(1)
    for _ in range(3):
        with RawClient(gateway.host_port) as c:
            c.send(request(body=body, key=KEY))
            waits(gateway, 1)
            slots, requests, tokens, held = holds()
            assert slots == requests == 1 and tokens > 50 and held > 10**8
        waits(gateway, 0)
        eventually(lambda: holds() == (0, 0, 0, 0))
    turnstile.open()
    assert holder.result().status == 200 and turnstile.names == ["holder"]
    assert [line["status"] for line in gateway.logged(4)].count("cancelled") == 3
    assert gateway.metric("task_duration_seconds_count", status="cancelled") == 3
    eventually(lambda: gateway.metric("gatewayd_buffered_bytes") == gateway.metric("gatewayd_open_requests") == 0)


def test_a_slot_comes_free_however_the_attempt_ends(stage):
    plays = [[CLOSE], [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"], [STALL], [GOOD]]
    up = stage.upstream(lambda r: plays.pop(0))
    gateway = stage.gateway(
        [provider("up", up.base_url, max_concurrent=1, timeouts={"first_byte": "300ms"})], [model("chat", "up/m", retries=0)]
    )
    clients = [Client(gateway, str(i)) for i in range(4)]
    assert sorted(c.result().status for c in clients) == [200, 502, 502, 504]
    eventually(lambda: gateway.metric("gatewayd_provider_in_flight", provider="up") == 0)


def test_a_failed_attempt_waits_for_the_next_provider(stage):
    turnstile = Turnstile()
    broken, second = stage.upstream(error_answer(500)), stage.upstream(turnstile)
    gateway = stage.gateway(
        [provider("broken", broken.base_url), provider("second", second.base_url, max_concurrent=1)],
        [model("chat", "broken/m", "second/m"), model("direct", "second/m")],
    )
    holder = Client(gateway, "holder", model="direct")
    turnstile.wait_for(1)
    patient = Client(gateway, "patient")
    waits(gateway, 1)
    turnstile.open()
    answer = patient.result()
    assert (answer.status, answer.headers["x-gatewayd-provider"], answer.headers["x-gatewayd-attempts"]) == (200, "second", "2")
    assert "x-gatewayd-queue-ms" in answer.headers and holder.result().status == 200


def test_a_breaker_that_opens_sends_away_who_waits(stage):
    gateway, turnstile = start(stage, answer=error_answer(500), breaker={"failures": 1})
    clients = queue_up(gateway, turnstile, *({"name": str(i)} for i in range(3)))
    turnstile.let_go("holder")
    assert [c.result().json["error"]["code"] for c in clients[1:]] == 3 * ["unavailable"]
    assert turnstile.names == ["holder"]
    assert gateway.metric("gatewayd_provider_in_flight", provider="up") == 0


def test_a_reload_gives_more_slots_to_who_waits(stage):
    gateway, turnstile = start(stage)
    clients = queue_up(gateway, turnstile, {"name": "a"}, {"name": "b"})
    gateway.config["providers"][0]["max_concurrent"] = 3
    gateway.write_config(gateway.config)
    gateway.reload()
    turnstile.wait_for(3)
    assert gateway.metric("gatewayd_provider_in_flight", provider="up") == 3
    turnstile.open()
    assert all(c.result().status == 200 for c in clients)


def test_a_drain_serves_who_waits(stage):
    gateway, turnstile = start(stage, drain_timeout="30s")
    clients = queue_up(gateway, turnstile, {"name": "a"}, {"name": "b"})
    gateway.signal(signal.SIGTERM)
    eventually(lambda: "drain" in gateway.stderr())
    let_all_go(turnstile, 3)
    assert all(c.result().status == 200 for c in clients)
    assert gateway.wait() == 0


def test_the_second_signal_cuts_who_waits(stage):
    gateway, turnstile = start(stage, drain_timeout="30s")
    clients = queue_up(gateway, turnstile, {"name": "a"}, {"name": "b"})
    gateway.signal(signal.SIGTERM)
    eventually(lambda: "drain" in gateway.stderr())
    gateway.signal(signal.SIGTERM)
    assert all(c.result().json["error"]["code"] == "draining" for c in clients)
    assert gateway.wait() == 0
    assert turnstile.names == ["holder"]


def test_a_stream_holds_its_slot_to_its_end_and_is_counted(stage):
    release = threading.Event()
    events = [as_chunk(e) for e in [*stream_events(("one", "two")), DONE]]
    plays = [[sse_head() + events[0] + events[1], Gate(release), b"".join(events[2:]) + LAST_CHUNK], [GOOD]]
    up = stage.upstream(lambda r: plays.pop(0))
    gateway = stage.gateway([provider("up", up.base_url, max_concurrent=1)], [model("chat", "up/m")], workers=1)
    body = json.dumps({"model": "chat", "stream": True, "messages": [{"role": "user", "content": "go"}]}).encode()
    with RawClient(gateway.host_port) as c:
        c.send(request(body=body, key=KEY))
        assert c.read_head().status == 200
        assert gateway.metric("aigateway_active_streams") == 1
        second = Client(gateway, "second")
        waits(gateway, 1)
        release.set()
        assert second.result().status == 200
    assert gateway.metric("aigateway_active_streams") == 0


# ---- the whole process ---------------------------------------------------------------------------------------------------


def test_open_requests_are_bounded_over_all_workers(stage):
    gateway, turnstile = start(stage, slots=0, http={"max_requests": 3})
    clients = [Client(gateway, str(i)) for i in range(3)]
    turnstile.wait_for(3)
    limit = refusal(Client(gateway, "one too many").result())
    assert (limit["scope"], limit["limit"], limit["used"]) == ("gateway", 3, 3)
    assert gateway.metric("gatewayd_queue_refusals_total", reason="requests") == 1
    turnstile.open()
    assert all(c.result().status == 200 for c in clients)
    assert gateway.chat("again").status == 200


@pytest.mark.asan
def test_bodies_in_memory_are_bounded_before_they_are_read(stage):
    gateway, turnstile = start(stage, slots=0, http={"max_buffered": "1MiB"})
    large = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x" * (700 << 10)}]}).encode()
    holder = Client(gateway, "x" * (700 << 10))
    turnstile.wait_for(1)
    head = request(headers=[("Content-Length", str(len(large))), ("Content-Type", "application/json")], key=KEY)
    with RawClient(gateway.host_port) as c:
        c.send(head)  # not one byte of the body is sent
        answer = c.read_response()
        assert answer.status == 503 and json.loads(answer.body)["error"]["limit"]["kind"] == "bytes"
    with RawClient(gateway.host_port) as c:  # this one announces nothing
        c.send(request(headers=[("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")], body=chunked(large, 65536), key=KEY))
        assert c.read_response().status == 503
    assert gateway.metric("gatewayd_queue_refusals_total", reason="memory") == 2
    small = Client(gateway, "small")
    turnstile.wait_for(2)
    turnstile.open()
    assert holder.result().status == small.result().status == 200
    eventually(lambda: gateway.metric("gatewayd_buffered_bytes") == 0)


# ---- ten times what the provider can do ----------------------------------------------------------------------------------

SLOTS, LATENCY, SECONDS = 10, 0.1, 4.0
CAPACITY = SLOTS / LATENCY
CONNECTIONS = 120


class Flood:
    """CONNECTIONS clients that together ask for ten times the capacity, whatever they are answered."""

    def __init__(self, gateway):
        self.gateway, self.good, self.refused, self.other = gateway, 0, [], []
        body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x" * 2000}]}).encode()
        self.request = request(body=body, key=KEY)
        asyncio.run(self.all())

    async def all(self):
        self.began = self.last = time.monotonic()
        self.end = self.began + SECONDS
        await asyncio.gather(*(self.one(i) for i in range(CONNECTIONS)), self.watch())

    async def watch(self):
        self.rss = []
        while time.monotonic() < self.end:
            self.rss.append(self.gateway.rss_bytes())
            await asyncio.sleep(0.1)

    async def one(self, i):
        period = CONNECTIONS / (10 * CAPACITY)
        reader, writer = await asyncio.open_connection(*self.gateway.host_port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.sleep(period * i / CONNECTIONS)
        while (began := time.monotonic()) < self.end:
            writer.write(self.request)
            answer = await read_answer(reader)
            took = time.monotonic() - began
            if answer.status == 200:
                self.good += 1
                self.last = time.monotonic()
            elif answer.status == 503:
                self.refused.append(took)
            else:
                self.other.append(answer.status)
            await asyncio.sleep(max(0, period - took))
        writer.close()


def test_ten_times_the_capacity_costs_neither_goodput_nor_memory(stage, record_property):
    simulator = stage.simulator()
    simulator.control.profile("slow", latency_ms=int(LATENCY * 1000), output_tokens=16)
    gateway = stage.gateway(
        [provider("up", simulator.base_url("slow"), max_concurrent=SLOTS)], [model("chat", "up/m")], queue={"max_depth": 30, "max_wait": "2s"}
    )
    before = gateway.rss_bytes()
    flood = Flood(gateway)
    share = flood.good / (CAPACITY * (flood.last - flood.began))
    quick = statistics.quantiles(flood.refused, n=100)
    growth = (max(flood.rss) - before) / (1 << 20)
    late = (max(flood.rss[len(flood.rss) // 2 :]) - max(flood.rss[: len(flood.rss) // 2])) / (1 << 20)
    record_property(
        "figure",
        f"{len(flood.refused) + flood.good} requests in {SECONDS:.0f} s, goodput {100 * share:.0f} % of capacity, refusals p50 "
        f"{quick[49] * 1000:.1f} ms p99 {quick[98] * 1000:.1f} ms, RSS {growth:+.1f} MiB, of it in the second half {late:+.1f} MiB",
    )
    assert not flood.other
    assert len(flood.refused) > 2 * flood.good
    assert share >= 0.6 / SLOWNESS  # 0.95 and more on an idle machine
    assert quick[49] < LATENCY * SLOWNESS * 5
    if not is_sanitized():
        assert late < 16 and growth < 64
    eventually(lambda: gateway.metric("gatewayd_provider_in_flight") == 0 and gateway.metric("task_queue_depth") == 0)
