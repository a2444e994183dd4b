# SPDX-License-Identifier: Apache-2.0
"""A mixed load whose truth is known to the token: buffered and streamed, two dialects, failing over, refused, without a price,
and clients that leave in the middle. And a pulse: a steady small load that tells what each answer took."""

import collections
import http.client
import json
import socket
import threading
import time

from support.gateway import KEY, model, provider, sha256
from support.load import Load
from support.rawhttp import RawClient, request

OTHER = "sk-aigw-other-0123456789abcdef0123456789"
NARROW = "sk-aigw-narrow-0123456789abcdef012345678"
TENANTS = [
    {"id": "acme", "plan": "pro", "keys": [{"id": "test", "sha256": sha256(KEY)}]},
    {"id": "umbrella", "plan": "free", "keys": [{"id": "web", "sha256": sha256(OTHER)}]},
    {"id": "narrow", "models": ["embed"], "keys": [{"id": "k", "sha256": sha256(NARROW)}]},
]
GATEWAY = {
    "tenants": TENANTS,
    "history": {"stories_per_second": 0},  # each request is told one by one
    "models": [
        model("chat", "openai/gpt-4o-mini"),
        model("shaky", "openrouter/openai/gpt-4o-mini", "openai/gpt-4o", retries=3),
        model("embed", "openai/text-embedding-3-small"),
        model("unpriced", "openai/nobody-knows-this-model"),
        model("claude", "anthropic/claude-sonnet-4-5"),
        model("drained", "groq/llama-3.3-70b-versatile"),
        model("left", "mistral/mistral-large-2512"),
    ],
}


def providers(sim):
    sim.control.profile("openai", cached_share=0.25, reasoning_share=0.1)
    sim.control.profile("anthropic", cached_share=0.25, cache_write_share=0.1)
    sim.control.profile("openrouter", faults={"429": 0.15, "500": 0.1, "503": 0.05, "reset": 0.05},
                        retry_after_s=-1)
    for name in ("groq", "mistral"):  # long enough to be left in the middle
        sim.control.profile(name, tokens_per_s=400, output_tokens=200)
    sim.control.patch("mistral", faults={"cut_mid": 0.2, "cut_before_first": 0.1, "error_event": 0.1})
    return [
        provider("openai", sim.base_url("openai")), provider("openrouter", sim.base_url("openrouter")),
        provider("anthropic", sim.base_url("anthropic"), kind="anthropic"),
        provider("groq", sim.base_url("groq"), drain_on_abort=True), provider("mistral", sim.base_url("mistral")),
    ]


def chat(name, text, key=KEY, **more):
    body = {"model": name, "messages": [{"role": "user", "content": text}], **more}
    return request(body=json.dumps(body).encode(), key=key)


def one(i):
    """The i-th request of the load."""
    kind, key, text = i % 20, OTHER if i % 4 == 0 else KEY, f"request {i}"
    if kind == 0:
        return request(target="/v1/embeddings", body=json.dumps({"model": "embed", "input": text}).encode(), key=key)
    if kind == 1:
        return chat("no-such-model", text, key)
    if kind == 2:
        return chat("chat", text, NARROW)
    if kind == 3:
        return chat("chat", text, "sk-wrong-0123456789abcdef")
    if kind == 4:
        return chat("unpriced", text, key)
    if kind in (5, 6):
        body = {"model": "claude", "messages": [{"role": "user", "content": text}], "max_tokens": 50, "stream": kind == 6}
        return request(target="/v1/messages", body=json.dumps(body).encode(), key=key, headers=[("anthropic-version", "2023-06-01")])
    return chat("shaky" if kind % 3 == 0 else "chat", text, key, stream=kind % 2 == 0)


def leave(gateway, name, times):
    """Clients that go away in the middle of their streams; returns their request ids."""
    ids = []
    for n in range(times):
        c = RawClient(gateway.host_port)
        c.send(chat(name, f"a story that nobody hears to its end, number {n}", stream=True))
        head = c.read_head()
        if head.status == 200:
            ids.append(head.header("x-request-id"))
            try:
                for _ in range(3):
                    c.read_chunk()
            except Exception:  # cut by its provider first
                pass
        c.reset() if n % 2 else c.close()
    return ids


class Mixed:
    """What was sent and what came back."""

    def __init__(self, results, left):
        self.results, self.left = results, left
        self.statuses = collections.Counter(r.status for r in results)

    @property
    def answered(self):
        return [r.headers["x-request-id"] for r in self.results if r.status == 200]


def run(gateways, count, leavers=10, connections=16):
    """Spread over the gateways, all at once."""
    parts, left, threads = {}, [], []
    for n, gateway in enumerate(gateways):
        mine = range(n, count, len(gateways))
        load = Load(gateway.host_port, connections)
        threads.append(threading.Thread(target=lambda n=n, load=load, mine=mine: parts.update({n: load.run(one(i) for i in mine)})))
        for name in ("drained", "left"):
            threads.append(threading.Thread(target=lambda g=gateway, name=name: left.extend(leave(g, name, leavers))))
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    results = [r for n in sorted(parts) for r in parts[n]]
    trouble = [r.trouble for r in results if r.trouble]
    assert len(results) == count and not trouble, trouble[:3]
    return Mixed(results, left)


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * q))] if values else float("nan")


class Pulse:
    """Requests one after the other on a few kept connections until told to stop."""

    def __init__(self, gateway, threads=2, every=0.008, name="chat", path="/v1/chat/completions"):
        """`gateway`: anything with an address."""
        self.address, self.every, self.name, self.path = gateway.address, every, name, path
        self.samples, self.failures, self.ids = [], [], []  # samples: (when it began, seconds it took)
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.beat, args=(n,)) for n in range(threads)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for t in self.threads:
            t.join()

    def beat(self, n):
        connection = None
        body = json.dumps({"model": self.name, "messages": [{"role": "user", "content": "a steady beat"}]})
        headers = {"content-type": "application/json", "authorization": f"Bearer {(KEY, OTHER)[n % 2]}"}
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(self.address, timeout=30)
                    connection.connect()
                    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.request("POST", self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
            except OSError as e:
                self.failures.append((began, repr(e)))
                connection = None
            else:
                self.samples.append((began, time.monotonic() - began))
                if answer.status == 200:
                    self.ids.append(answer.headers.get("x-request-id"))
                else:
                    self.failures.append((began, f"{answer.status} {content[:300]!r}"))
            self.stopping.wait(self.every)

    def window(self, since, until):
        return [took for began, took in self.samples if since <= began < until]
