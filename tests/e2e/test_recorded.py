# SPDX-License-Identifier: Apache-2.0
"""Recorded answers of real providers, replayed: the decoders read the usage that was recorded, and through a gateway
the client gets the recorded bytes. Skipped where the recordings are absent, except in CI."""

import json
import random

import pytest

from support import prices, recorded
from support.gateway import KEY, provider
from support.rawhttp import RawClient, request
from support.upstream import LAST_CHUNK, as_chunk, head
from support.wait import eventually

SEED = 20260731


DIALECTS = {"openai": recorded.openai_dialect, "anthropic": recorded.anthropic_dialect}


@pytest.fixture(scope="module", params=DIALECTS)
def recordings(request):
    """(rows of the dialect in the index, their exchanges)."""
    recorded.require()
    return recorded.load(DIALECTS[request.param])


def report(differences, what):
    assert not differences, f"{len(differences)} exchanges differ in {what}:\n" + "\n".join(differences)


# ---- the decoders alone -------------------------------------------------------------------------------------------
def test_the_decoders_read_the_recorded_usage(recordings, tmp_path, record_property):
    in_index, exchanges = recordings
    answers = recorded.decode(exchanges, tmp_path)
    wrong = []
    for x in exchanges:
        if x.status < 300:
            wrong += [f"{x}: {d}" for d in recorded.usage_differences(x.usage, answers[x.id])]
        elif "failure" not in answers[x.id]:
            wrong.append(f"{x}: not judged")
    record_property("figure", f"{len(answers)} of {in_index} exchanges decoded")
    assert len(answers) == in_index
    report(wrong, "usage")


def test_the_decoders_find_the_end_and_the_finish_reason(recordings, tmp_path):
    answers = recorded.decode(recordings[1], tmp_path)
    wrong = []
    for x in recordings[1]:
        finish = x.document["expect"]["finish"]
        answer = answers[x.id]
        if x.status < 300 and finish and answer["finish"] not in finish:
            wrong.append(f"{x}: finish {answer['finish']!r}, recorded {finish}")
        stream = x.document["expect"].get("stream") or {}
        if x.is_sse and stream.get("done") and answer["end"] == "open":
            wrong.append(f"{x}: the end marker was not seen")
        if x.is_sse and answer["end"] == "open" and (has_end_marker(x) or b"\"finish_reason\"" not in x.response_body):
            if x.id not in WITHOUT_END:
                wrong.append(f"{x}: no end and no finish reason")
    report(wrong, "their end")


# Streams of text completions that just stop: no end marker, no finish reason.
WITHOUT_END = {"openllmetry/627"}


def has_end_marker(x):
    return any(data_of(event) == b"[DONE]" for event in events(x.response_body))


# ---- through a gateway --------------------------------------------------------------------------------------------
def events(body):
    """Raw events of a stream that ends its lines with LF, each with its blank line."""
    pieces = body.split(b"\n\n")
    return [p + b"\n\n" for p in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def data_of(event):
    return b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))


def is_usage_only(event):
    try:
        chunk = json.loads(data_of(event))
    except ValueError:
        return False
    return isinstance(chunk, dict) and chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict)


def completed_request(x):
    """(content type, body) that a client sends: the recorded bytes where they are a whole request. Some recordings left
    out the body or most of it; those get a model, the members that the operation needs, and what was recorded."""
    body = x.request_body
    if x.operation == "transcription":
        return multipart()
    try:
        document = json.loads(body)
    except ValueError:
        document = {"stream": True} if x.is_sse else {}
    if x.id in REFUSED_BY_US:
        document.update(REFUSED_BY_US[x.id])
    elif isinstance(document.get("model"), str):
        return "application/json", body
    needed = {"chat": {"messages": [{"role": "user", "content": "hello"}]}, "completion": {"prompt": "hello"},
              "images": {"prompt": "a cat"}, "rerank": {"query": "q", "documents": ["d"]},
              "messages": {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}}
    document = {"model": "recorded", **needed.get(x.operation, {"input": "hello"}), **document}
    return "application/json", json.dumps(document).encode()


# What a gateway refuses itself, with what is sent instead so that the provider's answer can be replayed all the same.
REFUSED_BY_US = {"envoy-ai-gateway/023": {"max_tokens": 1}}  # -1: a bound that is none


def multipart():
    mark = "recorded-boundary"
    parts = [('name="model"', b"whisper-1"), ('name="file"; filename="a.wav"', b"RIFF\x00\x01\xff")]
    body = b"".join(b"--%s\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (mark.encode(), name.encode(), value)
                    for name, value in parts)
    return f"multipart/form-data; boundary={mark}", body + b"--%s--\r\n" % mark.encode()


class Replay:
    """One upstream for all exchanges: it plays the answer of the exchange that is current, in slices cut at random."""

    def __init__(self):
        self.current, self.random = None, random.Random(SEED)

    def __call__(self, received):
        x = self.current
        headers = [(n, v) for n, v in x.document["response"]["headers"].items() if n.lower() not in DROPPED]
        body, framing = x.response_body, x.document["response"]["framing"]
        if "content-length" in framing or not (x.is_sse or framing.get("transfer-encoding")):
            return [head(x.status, [*headers, ("Content-Length", len(body))]), *self.slices(body)]
        chunks = [as_chunk(piece) for piece in self.slices(body)]
        return [head(x.status, [*headers, ("Transfer-Encoding", "chunked")]), *chunks, LAST_CHUNK]

    def slices(self, body):
        pieces = []
        while body:
            n = self.random.choice([1, 2, 7, 100, 1400, 16384])
            if len(pieces) > 40:
                n = len(body)
            pieces.append(body[:n])
            body = body[n:]
        return pieces


DROPPED = {"content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive"}


def expected_answer(x, sent):
    """(status, body) for the client, None for a body that is the gateway's own."""
    if x.status in (401, 403):
        return 502, None  # the provider refused our credentials, which are none of the client's business
    asked = (sent.get("stream_options") or {}).get("include_usage") if isinstance(sent, dict) else True
    if x.is_sse and x.operation in ("chat", "completion") and not asked:
        kept = [e for e in events(x.response_body) if not is_usage_only(e)]
        return x.status, b"".join(kept)
    return x.status, x.response_body


def check_answer(x, sent, answer):
    status, body = expected_answer(x, sent)
    if answer.status != status:
        return [f"status {answer.status}, expected {status}: {answer.body[:200]!r}"]
    if body is None:
        return []
    got = answer.body
    if x.id in WITHOUT_END:  # never shown as complete: what came, then an error event
        if not got.startswith(body) or b'"error"' not in got[len(body) :]:
            return ["the client was not told that the stream has no end"]
        got = got[: len(body)]
    if got != body:
        at = next((i for i, (a, b) in enumerate(zip(got, body)) if a != b), min(len(got), len(body)))
        return [f"body differs at {at} of {len(body)} ({len(got)} received): {got[at:at + 80]!r}, recorded {body[at:at + 80]!r}"]
    wrong = []
    if answer.header("content-type") != (x.content_type or None):
        wrong.append(f"content-type {answer.header('content-type')!r}, recorded {x.content_type!r}")
    if x.is_sse and answer.framing != "chunked":
        wrong.append(f"a stream framed by {answer.framing}")
    return wrong


def check_forwarded(x, body, received):
    """The provider gets the client's bytes but for members that the gateway may patch."""
    keys = {"openai": ("authorization", f"Bearer sk-upstream-{x.kind}"), "anthropic": ("x-api-key", f"sk-upstream-{x.kind}")}
    name, value = keys[x.kind]
    if [v for n, v in received.headers if n in ("authorization", "x-api-key")] != [value] or received.header(name) != value:
        return ["the provider did not get exactly its own key"]
    if [v for n, v in received.headers if n == "anthropic-version"] != (["2023-06-01"] if x.kind == "anthropic" else []):
        return ["not exactly one version was stated"]
    if received.body == body:
        return []
    if x.operation == "transcription":
        return ["the form was changed"]
    sent, got = json.loads(body), json.loads(received.body)
    asked = got.pop("stream_options", {}).get("include_usage")
    sent.pop("stream_options", None)
    if got != sent or not sent.get("stream") or x.operation not in ("chat", "completion") or asked is not True:
        return [f"the provider received {received.body[:200]!r}"]
    return []


def check_logged(x, line):
    usage = line["usage"]
    if x.status >= 300:
        spent = usage["input"] + usage["output"]
        return [f"a refusal was billed: {usage}"] if spent else []
    wrong = recorded.usage_differences(x.usage, {**usage, "reported": usage["source"] == "reported"})
    if x.is_sse and x.id not in WITHOUT_END and not is_failed(x) and line["stream_end"] != "complete":
        wrong.append(f"stream ended as {line['stream_end']}")
    if is_failed(x) and line["status"] != "error":
        wrong.append(f"status {line['status']} of a failed answer")
    return wrong


def is_failed(x):
    """A 200 that is an error: a stream with an error event, or a body that is an error object."""
    if x.is_sse:
        return any(e.startswith(b"event: error\n") or e.startswith(b"event: response.failed\n") for e in events(x.response_body))
    document = json.loads(x.response_body)
    return isinstance(document.get("error"), dict)


@pytest.mark.asan
@pytest.mark.tsan
def test_every_exchange_passes_through_the_gateway(recordings, stage, record_property):
    in_index, exchanges = recordings
    replay = Replay()
    upstream = stage.upstream(replay)
    gateway = stage.gateway([provider(exchanges[0].kind, upstream.base_url, kind=exchanges[0].kind)])
    wrong, replayed, by_id, models = [], 0, {}, {}
    with RawClient(gateway.host_port) as client:
        for x in exchanges:
            replay.current = x
            content_type, body = completed_request(x)
            before = len(upstream.requests)
            headers = [("Content-Type", content_type)]
            if x.kind == "anthropic" and replayed % 2:  # its SDK states a version, a plain client may not
                headers.append(("anthropic-version", "2023-06-01"))
            client.send(request("POST", recorded.PATHS[x.operation], headers, body, key=KEY))
            answer = client.read_response()
            sent = None if x.operation == "transcription" else json.loads(body)
            wrong += [f"{x}: {d}" for d in check_answer(x, sent, answer)]
            received = upstream.requests[before:]
            if len(received) != 1:
                wrong.append(f"{x}: the provider was asked {len(received)} times")
            else:
                wrong += [f"{x}: {d}" for d in check_forwarded(x, body, received[0])]
            by_id[answer.header("x-request-id")] = x
            models[x.id] = sent["model"] if sent else None
            replayed += 1
    record_property("figure", f"{replayed} of {in_index} exchanges replayed, slices seeded with {SEED}")
    assert replayed == in_index == len(by_id)
    report(wrong, "what passed")
    lines = check_books(gateway, by_id)
    priced = check_costs(lines, by_id, models)
    record_property("figure", f"{priced} of them priced, each as fractions price it")


def check_costs(lines, by_id, models):
    """Every logged cost against independent arithmetic; returns how many had a price."""
    table, wrong, priced = prices.built_in(), [], 0
    for i, x in by_id.items():
        line, price = lines[i], models[x.id] and prices.find(table, x.kind, models[x.id])
        cost = prices.cost_nanousd(price, line["usage"]) if price else 0
        priced += price is not None
        if line["cost_nanousd"] != cost or line["priced"] != (price is not None):
            wrong.append(f"{x}: {line['cost_nanousd']} nano-USD, priced {line['priced']}; expected {cost} for {models[x.id]}")
    report(wrong, "cost")
    assert priced > 0
    return priced


def check_books(gateway, by_id):
    lines = {line["id"]: line for line in gateway.logged(len(by_id))}
    assert lines.keys() == by_id.keys()
    report([f"{x}: {d}" for i, x in by_id.items() for d in check_logged(x, lines[i])], "what was logged")
    attempts = [a["usage"] for line in lines.values() for a in line["attempts"]]
    assert len(attempts) == len(by_id)
    for kind in ("input", "output"):
        total = sum(u[kind] for u in attempts)
        assert total == sum(line["usage"][kind] for line in lines.values())
        assert total > 0
        eventually(lambda: gateway.metric("tokens_used_total", token_type=kind) == total, what=f"{kind} tokens in the metrics")
    return lines
