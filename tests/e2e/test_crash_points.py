# SPDX-License-Identifier: Apache-2.0
"""The gateway is killed at every named place of libshared/base/crash_points.def, under load, again and again on the same
books; then it ends in peace and everything that it wrote is compared with what the simulator billed.

Needs a build with crash points (cmake --preset clang); `--rounds N` dies N times at each place (2)."""

import collections
import http.client
import json
import random
import re
import struct
import subprocess
import threading

import pytest
from support import reprice
from support.books import Books, compare
from support.gateway import KEY, Gateway, config, model, provider
from support.process import ROOT, SLOWNESS
from support.wait import eventually

ALL = re.findall(r"^POINT\((\w+),", (ROOT / "libshared/base/crash_points.def").read_text(), re.M)
pytestmark = pytest.mark.points

# Places that no traffic reaches, and who dies there instead.
ELSEWHERE = {
    "adjust_after_append": "only an operator's correction comes by; tests/dst does",
}
SECONDARY = ("rollup_", "archive_")  # of jobs, which have tests of their own
# Reached when the realtime store is not where the gateway left it.
EMPTIED = ("watermark_mismatch",)
# Once a life, at its start.
AT_START = ("recovery_", "refill_", "watermark_")
# Every second or tenth of one.
PERIODIC = ("history_", "realtime_", "cursor_", "batch_", "free_", "segment_")
STORES = ("history_", "realtime_", "refill_", "watermark_", "cursor_", "batch_")
CHAINS = 6


def is_a(point, prefixes):
    return point.startswith(prefixes)


def traffic_points():
    return [p for p in ALL if p not in ELSEWHERE and not is_a(p, SECONDARY)]


def nth(point, chance):
    """How often it is passed before the process dies there."""
    if point in ("segment_sealed", "segment_recycled", "free_after_unlink") or is_a(point, AT_START):
        return 1
    if point == "batch_record":
        return chance.randint(1, 60)
    return chance.randint(1, 2) if is_a(point, PERIODIC) or is_a(point, ("progress_",)) else chance.randint(1, 40)


def chains(rounds, chance):
    """The places, `rounds` times each, dealt into chains of lives."""
    points = [p for p in traffic_points() if p not in EMPTIED] * rounds
    chance.shuffle(points)
    return [points[n::CHAINS] for n in range(CHAINS)]


class Clients:
    """Small requests and streams, one after the other on each of a few connections, until the gateway is dead. Keeps the ids
    of those whose answers came whole."""

    def __init__(self, gateway, answered):
        self.gateway, self.answered, self.stopping = gateway, answered, threading.Event()
        kinds = [("fast", False)] * 3 + [("fast", True), ("shaky", False), ("slow", True), ("slow", True)]
        self.threads = [threading.Thread(target=self.run, args=kind) for kind in kinds]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for t in self.threads:
            t.join()

    def run(self, name, is_stream):
        body = json.dumps({"model": name, "stream": is_stream, "messages": [{"role": "user", "content": "hello"}]})
        headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
        connection = None
        while not self.stopping.is_set():
            try:
                connection = connection or http.client.HTTPConnection(*self.gateway.host_port, timeout=20)
                connection.request("POST", "/v1/chat/completions", body, headers)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                if not self.gateway.is_running():
                    return
                connection = None
                continue
            if answer.status == 200 and (not is_stream or b"[DONE]" in content):
                self.answered.append(answer.headers["x-request-id"])


class Lives:
    """One gateway's books over many lives of it."""

    def __init__(self, stage, sim, **more):
        self.sim, self.answered = sim, []
        self.reached, self.passed = collections.Counter(), collections.Counter()  # died there; came by
        sim.control.profile("openai", cached_share=0.2)
        sim.control.profile("groq", tokens_per_s=500, output_tokens=[700, 900])
        sim.control.profile("openrouter", faults={"500": 0.2, "429": 0.1}, retry_after_s=-1)
        models = [model("fast", "openai/gpt-4o-mini"), model("slow", "groq/llama-3.3-70b-versatile"),
                  model("shaky", "openrouter/openai/gpt-4o-mini", "openai/gpt-4o", retries=3)]
        made = config([provider(n, sim.base_url(n)) for n in ("openai", "groq", "openrouter")], models,
                      workers=1, history={"stories_per_second": 0}, **more)
        self.gateway = Gateway(stage.directory, made, "gateway")
        self.counts = stage.directory / "counts"
        stage.endings.append(self.gateway.kill)

    def die_at(self, point, k, during=None):
        """A life that ends there. False when it did not come there in time; it is killed anyhow then."""
        g = self.gateway
        if point.startswith("recovery_"):
            self.leave_open()
        g.env = {"GATEWAYD_CRASH": f"{point}:{k}", "GATEWAYD_CRASH_COUNTS": str(self.counts)}
        self.counts.unlink(missing_ok=True)  # the k-th time is counted in it
        g.spawn()
        eventually(lambda: g.ready_file.exists() or not g.is_running(), 20 * SLOWNESS, what=f"ready or dead at {point}")
        if g.is_running():
            g.ready = json.loads(g.ready_file.read_text())
            with Clients(g, self.answered):
                if during:
                    during()
                try:
                    g.child.wait(40 * SLOWNESS)
                except subprocess.TimeoutExpired:
                    pass
                arrived = not g.is_running()
                g.kill()
        else:
            arrived = True
        assert g.child.returncode == -9, f"at {point}: ended with {g.child.returncode}\n{g.stderr()[-3000:]}"
        self.reached[point] += arrived
        data = self.counts.read_bytes()
        self.passed.update(dict(zip(ALL, struct.unpack(f"={len(ALL)}Q", data[: 8 * len(ALL)]))))
        return arrived

    def must_die_at(self, point, k, during=None):
        """Some places need what an earlier life stored, or a store that changed at the right moment: a life that did not come
        there was killed somewhere, and the next one tries."""
        assert any(self.die_at(point, k, during) for _ in range(4)), f"the gateway never came to {point}"

    def leave_open(self):
        """A life that is killed with streams under way."""
        before = self.sim.control.posts()
        self.gateway.env = {}
        self.gateway.start()
        with Clients(self.gateway, self.answered):
            eventually(lambda: any(r["profile"] == "groq" and r["ended"] == "open" for r in self.sim.control.log(after=before)),
                       20 * SLOWNESS, what="a stream under way")
            self.gateway.kill()

    def end_in_peace(self):
        before = len(self.answered)
        self.gateway.env = {}
        self.gateway.start()
        with Clients(self.gateway, self.answered):
            eventually(lambda: len(self.answered) > before + 20, 20 * SLOWNESS, what="answers in the last life")
        self.posts = self.sim.control.settled_log(timeout_s=60 * SLOWNESS)
        # What short lives left behind may be more than a stop waits for.
        eventually(lambda: all(self.gateway.metric("gatewayd_store_lag_seconds", store=s) == 0 for s in ("history", "realtime")),
                   300 * SLOWNESS, every=0.5, what="stores that have everything")
        self.gateway.stop()


# ---- what must be true in the end

def billed(posts):
    """{request id: [nano-USD of each POST that the provider answered]}, and how many POSTs there were."""
    rows, costs, count = reprice.table(None), collections.defaultdict(list), collections.Counter()
    for r in posts:
        count[r["request_id"]] += 1
        if r["ended"] == "answered" and reprice.bills(r):
            costs[r["request_id"]].append(reprice.cost_nanousd(reprice.find(rows, r["profile"], r["model"]), r))
    return costs, count


def is_crashed(x):
    return (x.get("error") or "") == "gateway_crashed"


def judge_story(i, story, costs, posts):
    made = story["attempts"]
    total = sum(a["cost_nanousd"] for a in made)
    assert story["cost_nanousd"] == total, f"{i}: {story['cost_nanousd']} in all, its attempts {total}"
    if not is_crashed(story):
        assert len(made) == posts, f"{i}: {len(made)} attempts, {posts} POSTs"
        assert total == sum(costs), f"{i}: booked {total}, billed {costs}"
        return
    # Each POST was stated before it was sent; the last may have been stated only.
    assert len(made) in (posts, posts + 1), f"{i}: ended by recovery with {len(made)} attempts, {posts} POSTs"
    own = [a["cost_nanousd"] for a in made if not is_crashed(a) and a["status"] == "success"]
    assert own == costs[: len(own)], f"{i}: booked {own}, billed {costs}"
    assert all(a["cost_nanousd"] > 0 for a in made if is_crashed(a) and a["priced"]), f"{i}: a prompt for nothing"


def judge(lives, books):
    stories = books.stories()
    by_id = {i: story for i, _, _, story in stories}
    costs, posts = billed(lives.posts)
    assert len(by_id) == len(stories)
    lost = [i for i in posts if i not in by_id]
    assert not lost, f"{len(lost)} requests were billed and are on no record, such as {lost[:3]}"
    unkept = [i for i in lives.answered if i not in by_id or is_crashed(by_id[i])]
    assert not unkept, f"{len(unkept)} answers were whole, their ends are not on record, such as {unkept[:3]}"
    for i, story in by_id.items():
        judge_story(i, story, costs[i], posts[i])
    ledger, by_request, *_ = books.ledger()
    assert by_request.total("req") == sum(1 for s in by_id.values() if s["provider"])
    assert ledger.total("attempts") == sum(len(s["attempts"]) for s in by_id.values())
    assert not compare(ledger, by_request), compare(ledger, by_request)
    total = sum(s["cost_nanousd"] for s in by_id.values())
    assert ledger.total("cost_nano") == total
    windows = books.windows()
    assert windows["global"] == (total, 0), f"posted and held {windows['global']}, booked {total}"
    assert all(held == 0 for _, held in windows.values()), windows
    return by_id, total


def figure(lives, by_id, total):
    crashed = sum(map(is_crashed, by_id.values()))
    return (f"{sum(lives.reached.values())} deaths, {len(by_id):,} requests, {crashed} ended by recovery, {len(lives.answered):,} whole"
            f" answers, {total:,} nano-USD, 0 lost, 0 doubled; died at: "
            + ", ".join(f"{p} {n} (passed {lives.passed[p]:,})" for p, n in sorted(lives.reached.items())))


def watermark_key(redis):
    found = list(redis.client().scan("{gw}:seq:*"))
    return (found[0], "batch") if found else None


# ---- the stories

@pytest.mark.parametrize("chain", range(CHAINS))
def test_the_books_hold_wherever_the_gateway_dies(stage, request, record_property, chain):
    rounds = request.config.getoption("--rounds")
    chance = random.Random(20261121)
    lives = Lives(stage, stage.simulator(seed=chain))
    for point in chains(rounds, chance)[chain]:
        lives.must_die_at(point, nth(point, chance))
    lives.end_in_peace()
    by_id, total = judge(lives, Books([lives.gateway]))
    record_property("figure", figure(lives, by_id, total))


def test_the_books_hold_on_redis_and_postgresql(stage, request, record_property):
    rounds = request.config.getoption("--rounds")
    chance = random.Random(11)
    redis, postgres = stage.redis(is_persistent=True), stage.postgres()
    sim = stage.simulator(seed=99)
    lives = Lives(stage, sim, redis=redis.url(), database=postgres.url())
    points = [p for p in traffic_points() if is_a(p, STORES)] * max(1, rounds // 2)
    chance.shuffle(points)
    points.insert(0, "settle_after_append")  # something to be asked about

    def empty_under_way():
        """Once a batch of this life is there: the next is not where the store is."""
        before = redis.call("HGET", *watermark_key(redis)) if watermark_key(redis) else None
        eventually(lambda: watermark_key(redis) and redis.call("HGET", *watermark_key(redis)) != before, 10 * SLOWNESS,
                   what="a batch in Redis")
        redis.flush()

    for point in points:
        if is_a(point, ("refill_",)):
            redis.flush()
        lives.must_die_at(point, nth(point, chance), empty_under_way if point in EMPTIED else None)
    lives.end_in_peace()
    books = Books([lives.gateway], postgres=postgres, redis=redis)
    by_id, total = judge(lives, books)
    found = compare(books.ledger()[0], books.realtime())
    assert not found, "\n".join(found[:20])
    record_property("figure", figure(lives, by_id, total))


def test_there_are_enough_places_and_each_is_died_at_somewhere():
    assert len(ALL) >= 40
    dealt = {p for chain in chains(1, random.Random(1)) for p in chain} | set(EMPTIED)
    assert dealt | set(ELSEWHERE) | {p for p in ALL if is_a(p, SECONDARY)} == set(ALL)
    assert dealt <= set(ALL)
