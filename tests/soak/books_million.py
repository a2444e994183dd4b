# SPDX-License-Identifier: Apache-2.0
"""Three gateways, one Redis, one PostgreSQL, a million requests: then every book says the same to the nano-dollar.

Usage: books_million.py [--requests N] [--directory DIR]     (needs wrk; about 2 KiB of disk a request)"""

import json
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.books import Books  # noqa: E402
from support.gateway import model, provider, sha256  # noqa: E402
from support.process import SLOWNESS  # noqa: E402
from support.soak import main, wrk  # noqa: E402
from support.wait import eventually  # noqa: E402

GATEWAYS, CONNECTIONS = 3, 16
KEYS = {f"tenant{n}": f"sk-aigw-soak{n}-0123456789abcdef0123456789" for n in range(5)}


def gateway(stage, sim, redis, postgres):
    sim.control.profile("openai", cached_share=0.25, reasoning_share=0.1, output_tokens=[4, 24])
    sim.control.profile("openrouter", faults={"429": 0.1, "500": 0.05}, retry_after_s=-1, output_tokens=[4, 24])
    return stage.gateway(
        [provider("openai", sim.base_url("openai")), provider("openrouter", sim.base_url("openrouter"))],
        [model("chat", "openai/gpt-4o-mini"), model("mini", "openai/gpt-4o"), model("unpriced", "openai/nobody-knows-this-model"),
         model("shaky", "openrouter/openai/gpt-4o-mini", "openai/gpt-4o", retries=4)],
        tenants=[{"id": t, "keys": [{"id": "k", "sha256": sha256(k)}]} for t, k in KEYS.items()],
        redis=redis.url(), database=postgres.url(), workers=1, access_log="",
    )


def counted(gateways):
    """Requests that ended, by what each process says."""
    return sum(int(g.metric("aigateway_requests_total")) for g in gateways)


def send(gateways, requests, within):
    shares = [requests // len(gateways) + (n < requests % len(gateways)) for n in range(len(gateways))]
    loads = [wrk(g, "books.lua", CONNECTIONS, BOOKS_SHARE=share, BOOKS_KEYS=",".join(KEYS.values())) for g, share in zip(gateways, shares)]
    began = time.monotonic()
    try:
        eventually(lambda: counted(gateways) >= requests, within, every=0.25, what=f"{requests} requests")
        took = time.monotonic() - began
    finally:
        for load in loads:
            load.send_signal(signal.SIGINT)
        texts = [load.communicate()[0] for load in loads]
    for text in texts:
        assert "Socket errors" not in text and "Non-2xx" not in text, text
    assert counted(gateways) == requests, f"{counted(gateways)} requests were counted instead of {requests}"
    return took


def truth_log(sim):
    with open(sim.truth_log, encoding="utf-8") as f:
        for line in f:
            yield json.loads(line)


def run(stage, requests):
    """A summary in one line; fails when any two books differ."""
    redis, postgres, sim = stage.redis(), stage.postgres(), stage.simulator(seed=17)
    gateways = [gateway(stage, sim, redis, postgres) for _ in range(GATEWAYS)]
    took = send(gateways, requests, (60 + requests / 300) * SLOWNESS)
    books = Books(gateways, sim, postgres, redis)
    eventually(lambda: sim.control.truth()["open"] == 0)
    posts = sum(1 for _ in truth_log(sim))
    truth = books.truth(truth_log(sim))
    began = time.monotonic()
    found = books.agree(within=60, truth=truth, at_least=requests)
    lag = time.monotonic() - began
    assert found["ledger"].total("req") == requests and found["ledger"].total("attempts") == posts > requests
    stories, distinct = books.story_count()
    assert 0 < stories == distinct <= requests, (stories, distinct)
    assert len(books.watermarks()) == GATEWAYS == len(books.realtime_watermarks())
    return (f"{requests:,} requests of {GATEWAYS} gateways in {took:.0f} s ({requests / took:,.0f}/s), {posts:,} attempts, "
            f"{found['ledger'].total('cost_nano'):,} nano-USD in every book {lag:.1f} s later")


if __name__ == "__main__":
    main(__doc__, run, requests=1_000_000)
