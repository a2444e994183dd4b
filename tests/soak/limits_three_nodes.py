# SPDX-License-Identifier: Apache-2.0
"""Three gateways on one Redis, far more requests than the limit allows: what they admit together is the limit, second by second.

Usage: limits_three_nodes.py [--requests N] [--rpm N] [--directory DIR]     (needs wrk)

A minute's worth may come at once; so the windows are counted from the first refusal on. The provider counts what was admitted."""

import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.gateway import KEY, model, provider, sha256  # noqa: E402
from support.soak import main, wrk  # noqa: E402

GATEWAYS, CONNECTIONS, WINDOW_S = 3, 8, 10


def counted(gateways):
    return sum(int(g.metric("aigateway_requests_total")) for g in gateways)


def watch(gateways, sim, requests, rpm, within):
    """(when, admitted, asked) about once a second."""
    samples, deadline = [], time.monotonic() + within
    while time.monotonic() < deadline and (not samples or samples[-1][2] < requests):
        admitted = sim.control.truth()["posts"]
        samples.append((time.monotonic(), admitted, counted(gateways)))
        time.sleep(1)
    assert samples[-1][2] >= requests, f"only {samples[-1][2]} requests within {within} s"
    return samples


def judge(samples, rpm):
    """The lowest and highest share of the limit in a window of steady load."""
    steady = [s for s in samples if s[1] >= rpm]
    shares, first = [], 0
    for n, s in enumerate(steady):
        while s[0] - steady[first][0] >= WINDOW_S:
            since = steady[first]
            shares.append((s[1] - since[1]) / ((s[0] - since[0]) * rpm / 60))
            first += 1
    whole = (steady[-1][1] - steady[0][1]) / ((steady[-1][0] - steady[0][0]) * rpm / 60)
    over = max(s[1] - rpm - (s[0] - samples[0][0]) * rpm / 60 for s in samples)
    return min(shares), max(shares), whole, over


def run(stage, requests, rpm):
    redis, postgres, sim = stage.redis(), stage.postgres(), stage.simulator(seed=17)
    sim.control.profile("openai", output_tokens=[4, 8])
    names = ("chat", "shaky", "mini", "unpriced")
    tenants = [{"id": "acme", "keys": [{"id": "k", "sha256": sha256(KEY)}], "limits": {"rpm": rpm}}]
    gateways = [
        stage.gateway([provider("openai", sim.base_url("openai"))], [model(m, "openai/gpt-4o-mini", retries=0) for m in names],
                      tenants=tenants, redis=redis.url(), database=postgres.url(), workers=1, access_log="")
        for _ in range(GATEWAYS)
    ]
    loads = [wrk(g, "books.lua", CONNECTIONS, BOOKS_SHARE=1 << 40, BOOKS_KEYS=KEY) for g in gateways]
    try:
        samples = watch(gateways, sim, requests, rpm, 60 + requests / 300)
    finally:
        for load in loads:
            load.send_signal(signal.SIGINT)
            load.communicate()
    low, high, whole, over = judge(samples, rpm)
    took = samples[-1][0] - samples[0][0]
    text = (f"{samples[-1][2]:,} requests of {GATEWAYS} gateways in {took:.0f} s ({samples[-1][2] / took:,.0f}/s), "
            f"{samples[-1][1]:,} admitted of {rpm:,} a minute: {whole:.2%} of the limit in all, {low:.2%} to {high:.2%} in windows of "
            f"{WINDOW_S} s, {over:,.0f} above it at most")
    assert over <= rpm / 60 and 0.95 <= low and whole <= 1.005, text
    return text


if __name__ == "__main__":
    main(__doc__, run, requests=1_000_000, rpm=6000)
