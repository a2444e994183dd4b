# SPDX-License-Identifier: Apache-2.0
"""A million invented model names, each once, over kept connections: no name becomes a series, no request is lost from a sum, and
the process is as big as it was.

Usage: model_names.py [--requests N] [--directory DIR]     (needs wrk)"""

import json
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.gateway import KEY, model, provider  # noqa: E402
from support.process import SLOWNESS  # noqa: E402
from support.soak import main, wrk  # noqa: E402
from support.wait import eventually  # noqa: E402

CONNECTIONS, WARM, MAX_SERIES = 16, 10_000, 3000
CHAT = "/v1/chat/completions"


def send(gateway, first, count):
    """So many requests, by wrk; its connections are idle when the last one is answered."""
    load = wrk(gateway, "names.lua", CONNECTIONS, NAMES_SHARE=count, NAMES_FROM=first, NAMES_KEY=KEY)
    want, began = first + count, time.monotonic()
    try:
        eventually(lambda: gateway.metric("http_requests_total", endpoint=CHAT) >= want, (60 + count / 300) * SLOWNESS, every=0.5,
                   what=f"{want} requests")
        took = time.monotonic() - began
    finally:
        load.send_signal(signal.SIGINT)
        text = load.communicate()[0]
    assert "Socket errors" not in text, text
    return took


def state(gateway):
    """Once everything is stored."""
    def stored():
        s = gateway.scrape()
        return s if all(s.sum("aigateway_telemetry_queue_length", pipeline=p) == 0 for p in ("realtime", "history")) else None

    scrape = eventually(stored, 120 * SLOWNESS, what="the stores to have everything")
    return scrape, gateway.rss_bytes() // 1024


def distinct_models(sim):
    with open(sim.truth_log, encoding="utf-8") as f:
        models = [json.loads(line)["model"] for line in f]
    return len(models), len(set(models))


def run(stage, requests):
    sim = stage.simulator(seed=5)
    gateway = stage.gateway([provider("openai", sim.base_url("openai"))], [model("chat", "openai/gpt-4o-mini")], workers=2, access_log="",
                            metrics={"max_series": MAX_SERIES})
    send(gateway, 0, WARM)
    before, rss_before = state(gateway)
    took = send(gateway, WARM, requests - WARM)
    eventually(lambda: sim.control.truth()["open"] == 0)
    after, rss_after = state(gateway)
    posts, names = distinct_models(sim)
    sums = {
        "http_requests_total": after.sum("http_requests_total", endpoint=CHAT),
        "aigateway_requests_total": after.sum("aigateway_requests_total"),
        "model_inference_requests_total": after.sum("model_inference_requests_total"),
        '… {model="other"}': after.sum("model_inference_requests_total", model="other"),
        '… {model="__overflow__"}': after.sum("model_inference_requests_total", model="__overflow__"),
        "aigateway_metric_overflow_total": after.sum("aigateway_metric_overflow_total"),
    }
    assert sums["http_requests_total"] == sums["aigateway_requests_total"] == requests, sums
    assert sums["model_inference_requests_total"] == sums['… {model="other"}'] == posts == names > requests * 0.6, (sums, posts, names)
    assert "invented" not in after.text
    assert {x.labels["model"] for x in after.samples if "model" in x.labels} <= {"gpt-4o-mini", "other", "none", "chat"}
    assert len(after.samples) < MAX_SERIES * 1.2 and len(after.samples) - len(before.samples) < 50
    assert rss_after - rss_before < 64 * 1024, (rss_before, rss_after)
    lines = [f"{requests:,} requests, each for another model, in {took:.0f} s; {names:,} of the names reached the provider",
             f"series: {len(before.samples):,} after {WARM:,} names, {len(after.samples):,} after all of them (metrics.max_series {MAX_SERIES:,})",
             *(f"{name:<33} {value:>9,.0f}" for name, value in sums.items()),
             f"resident: {rss_before / 1024:.1f} MiB after {WARM:,} names, {rss_after / 1024:.1f} MiB after all of them"]
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, run, requests=1_000_000)
