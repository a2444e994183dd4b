# SPDX-License-Identifier: Apache-2.0
"""Random valid bodies reach the provider byte for byte, but for the members that the gateway has to patch."""

import os
import random
import re

from support.bodies import MODEL, OPTIONS, Generator
from support.gateway import KEY, model, provider
from support.load import Load
from support.process import is_sanitized
from support.rawhttp import chunked, request
from support.upstream import DONE, as_chunk, chat_completion, json_answer, sse_head, stream_events, LAST_CHUNK

import pytest

SEED = int(os.environ.get("GATEWAYD_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
COUNT = 300 if is_sanitized() else 5000
ANSWER = json_answer(chat_completion())
STREAM = sse_head() + b"".join(as_chunk(e) for e in [*stream_events(), DONE]) + LAST_CHUNK
MARKER = re.compile(rb'"marker"\s*:\s*"(\d+)"')
IS_STREAM = re.compile(rb'"(s|\\u0073)(t|\\u0074)(r|\\u0072)(e|\\u0065)(a|\\u0061)(m|\\u006d)"\s*:\s*true')
# The alias in several spellings: each must be read as the same model.
ALIAS = [b'"chat"', b'"ch\\u0061t"', b'"\\u0063hat"']
TARGET = b'"provider-model-\xc3\xa9"'
# What a client may have said, and what the gateway may make of it to learn the usage.
OPTIONS_SENT = {
    b"null": [b'{"include_usage":true}'],
    b"{}": [b'{"include_usage":true}'],
    b'{"include_usage":true}': [b'{"include_usage":true}'],
    b'{"include_usage": false}': [b'{"include_usage": true}'],
    b'{"x":1}': [b'{"x":1,"include_usage":true}', b'{"include_usage":true,"x":1}'],
}
INSERTED = b'"stream_options":{"include_usage":true}'


def may_arrive(template, options):
    """What a body may look like at the provider: literally what was sent, but for the model and the wish for usage."""
    wanted = template.replace(MODEL, TARGET)
    return [wanted.replace(OPTIONS, o) for o in OPTIONS_SENT[options]] if options is not None else [wanted]


def without_inserted_options(body):
    """The body without the one member that the gateway adds to a stream that did not ask for usage, and its comma."""
    pieces = body.split(INSERTED)
    assert len(pieces) == 2, "stream_options was not inserted exactly once"
    left, right = pieces
    return [left.removesuffix(b",") + right, left + right.removeprefix(b",")]


@pytest.mark.asan
@pytest.mark.tsan
def test_random_bodies_arrive_byte_for_byte(stage, record_property):
    print(f"seed {SEED}, {COUNT} bodies")
    record_property("seed", SEED)
    up = stage.upstream(lambda r: STREAM if IS_STREAM.search(r.body) else ANSWER)
    gateway = stage.gateway([provider("up", up.base_url)], [model("chat", "up/" + TARGET.decode().strip('"'))])
    make = Generator(SEED)
    sent, requests = [], []
    for i in range(COUNT):
        stream = make.random.random() < 0.2
        template = make.request(str(i), stream)
        options = make.random.choice(list(OPTIONS_SENT)) if OPTIONS in template else None
        body = template.replace(MODEL, make.random.choice(ALIAS)).replace(OPTIONS, options or b"")
        sent.append((template, options, stream))
        if make.random.random() < 0.2:
            framed = chunked(body, make.random.choice([None, 1 + len(body) // 3, 7 if len(body) < 2000 else 5000]))
            headers = [("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")]
            requests.append(request(headers=headers, body=framed, key=KEY))
        else:
            requests.append(request(body=body, key=KEY))
    results = Load(gateway.host_port, 8).run(requests)
    bad = [(i, r) for i, r in enumerate(results) if r.status != 200]
    assert not bad, f"seed {SEED}: body {bad[0][0]}: {bad[0][1]}: {requests[bad[0][0]][:2000]!r}"

    arrived = {}
    for r in up.requests:
        marker = int(MARKER.search(r.body)[1])
        assert marker not in arrived, f"seed {SEED}: body {marker} arrived twice"
        arrived[marker] = r.body
    assert len(arrived) == COUNT
    for i, (template, options, stream) in enumerate(sent):
        inserts = stream and options is None
        got = without_inserted_options(arrived[i]) if inserts else [arrived[i]]
        assert set(got) & set(may_arrive(template, options)), (
            f"seed {SEED}: body {i} was changed\nsent    {template[:3000]!r}\noptions {options!r}\narrived {arrived[i][:3000]!r}"
        )


def test_a_body_whose_model_is_the_target_arrives_unchanged(stage):
    up = stage.upstream()
    gateway = stage.gateway([provider("up", up.base_url)])
    body = b'{ "messages":[{"role":"user","content":"\\u0000 1e400"}],"seed":12345678901234567890, "model" : "up/m" }'
    answer = gateway.post("/v1/chat/completions", body)
    assert answer.status == 200, answer
    assert up.requests[0].body == body.replace(b'"up/m"', b'"m"')


def test_the_answer_of_the_provider_reaches_the_client_byte_for_byte(stage):
    make = Generator(SEED)
    bodies = {}

    def script(r):
        number = MARKER.search(r.body)[1]
        return json_answer(bodies[number])

    up = stage.upstream(script)
    gateway = stage.gateway([provider("up", up.base_url)], [model("chat", "up/m")])
    for i in range(100):
        bodies[b"%d" % i] = make.object(
            [(b'"id"', make.string()), (b'"object"', b'"chat.completion"'), (b'"choices"', b"[]"),
             (b'"usage"', b'{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}'), (b'"x"', make.value(5))]
        )
    requests = [request(body=make.request(str(i)).replace(MODEL, b'"chat"'), key=KEY) for i in range(100)]
    for i, r in enumerate(Load(gateway.host_port, 4).run(requests)):
        assert r.status == 200, (i, r)
        assert r.body == bodies[b"%d" % i], f"seed {SEED}, answer {i}"
