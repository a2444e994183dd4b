# SPDX-License-Identifier: Apache-2.0
"""A gateway behind a glass that keeps still: whatever differs from run to run in its answers, times and durations foremost, has a fixed
value here, so that a page made of them is the same to the last blank. Figures that follow from what was asked are passed on."""

import json
import re
import threading
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
HALF_A_DAY = timedelta(hours=12)  # an age in days stays as it is while a test runs

# By the name of a member; what is null stays so.
FIXED = {
    "p50_ms": 410.0, "p95_ms": 812.0, "p99_ms": 1900.0, "latency_p50_ms": 410.0, "latency_p95_ms": 812.0, "avg_latency_ms": 500.0,
    "avg_ttft_ms": 120.0, "avg": 500.0, "min": 90.0, "max": 2000.0, "p50": 410.0, "p95": 812.0, "p99": 1900.0, "latency_ms": 500.0,
    "duration_ms": 812.0, "ttft_ms": 120.0, "queue_ms": 0.0, "started_ms": 1.0, "avg_ms": 500.0, "took_ms": 95.0, "resets_in_ms": 1500,
    "requests_per_s": 0.5, "tokens_per_second": 71.0, "uptime_s": 273_600, "lag_s": 0.2, "room_bytes": 1 << 30, "held_bytes": 1 << 20,
    "forecast_nanousd": 42 * 10**8, "rate_usd_per_hour": 0.001, "forecast_method": "mean of hours", "forecast": "never",
}
# Fixed ways to look at a moment that was, or will be.
PAST, FUTURE = timedelta(days=2) + HALF_A_DAY, timedelta(days=9) + HALF_A_DAY
WINDOWS = {"hour", "day", "from", "to", "starts_at", "timestamp"}  # begin where the clock says; shown as dates


def moved(text, now):
    when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (now - PAST if when <= now else now + FUTURE).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Still:
    """Passes calls on to `url` with the token, and answers back as they always are. `names` replaces texts such as paths."""

    def __init__(self, url, token, names=(), instead=None):
        """`instead`: answers of paths that are not passed on."""
        self.url, self.token, self.names, self.instead = url, token, list(names), dict(instead or {})
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self)

            do_POST = do_DELETE = do_PATCH = do_PUT = do_GET

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def fixed(self, value, name, now):
        if isinstance(value, dict):
            if value.get("kind") in ("requests", "tokens") and isinstance(value.get("used"), int):  # it flows off by the second
                value = {**value, "used": 0, **({"remaining": value["limit"]} if "remaining" in value else {}),
                         **({"resets_at": None} if "resets_at" in value else {})}
            return {k: self.fixed(v, k, now) for k, v in value.items()}
        if isinstance(value, list):
            return [self.fixed(v, name, now) for v in value]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            if name in FIXED:
                return FIXED[name]
            for old, new in self.names:
                value = value.replace(old, new)
            return value if name in WINDOWS else TIME.sub(lambda m: moved(m[0], now), value)
        if name in ("timestamp", "last_updated") and value > 1e9:
            return (now - PAST).timestamp()
        return FIXED.get(name, value)

    def answer(self, handler):
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        request = urllib.request.Request(self.url + handler.path, data=body or None, method=handler.command, headers={
            "authorization": f"Bearer {self.token}", "content-type": handler.headers.get("content-type") or "application/json"})
        if handler.path in self.instead:
            return self.send(handler, 200, "application/json", json.dumps(self.instead[handler.path]).encode())
        try:
            with urllib.request.urlopen(request, timeout=30) as r:
                status, kind, text = r.status, r.headers.get("content-type", ""), r.read()
        except urllib.error.HTTPError as e:
            with e:
                status, kind, text = e.code, e.headers.get("content-type", ""), e.read()
        if kind.startswith("application/json") and text:
            text = json.dumps(self.fixed(json.loads(text), None, datetime.now(timezone.utc))).encode()
        self.send(handler, status, kind, text)

    def send(self, handler, status, kind, text):
        handler.send_response(status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)
