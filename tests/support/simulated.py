# SPDX-License-Identifier: Apache-2.0
"""Fixtures and requests of the stories about the simulator itself: no gateway in between."""

import json
import math

import pytest

from support.rawhttp import RawClient, request

CHAT = "/p/v1/chat/completions"
HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
ASK = {"model": "c", "max_tokens": 1000, "messages": [{"role": "user", "content": "hello"}]}
GEMINI = {
    "contents": [{"role": "user", "parts": [{"text": "hello"}, {"inlineData": {"mimeType": "image/png", "data": "AA"}}]}],
    "systemInstruction": {"parts": [{"text": "brief"}]},
}


@pytest.fixture
def sim(stage):
    return stage.simulator(seed=7)


@pytest.fixture
def ctl(sim):
    return sim.control


def address(sim):
    host, port = sim.address.rsplit(":", 1)
    return host, int(port)


def raw(sim):
    return RawClient(address(sim))


def post(sim, path=CHAT, body=None, headers=(), key="k1"):
    with raw(sim) as c:
        c.send(request(target=path, headers=list(headers), body=json.dumps(body or HELLO).encode(), key=key))
        return c.read_response()


def chat(more=None, **members):
    return {**HELLO, **(more or {}), **members}


def data_lines(body):
    return [line[6:] for line in body.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data: ")]


def only(records):
    assert len(records) == 1, records
    return records[0]


# -- the token rules, written a second time


def rule_tokens(texts, messages=0, files=0, tools=0):
    return math.ceil(sum(len(t.encode()) for t in texts) / 4) + 4 * messages + 85 * files + 20 * tools
