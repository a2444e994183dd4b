# SPDX-License-Identifier: Apache-2.0
"""Recorded provider traffic, where it is present: an archive beside the repository that is never part of it.

Its open/index.jsonl has one row per exchange, open/<id>.json the exchange itself."""

import base64
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from support.process import BIN, IS_CI, ROOT

ARCHIVE = Path(os.environ.get("RECORDED_TRAFFIC", ROOT.parent / "shared" / "data" / "recorded-traffic.tar.gz"))

# What each recorded endpoint is called on our side.
OPERATIONS = {
    "chat.completions": "chat",
    "writer.chat": "chat",
    "completions": "completion",
    "responses": "responses",
    "embeddings": "embeddings",
    "images": "images",
    "audio": "transcription",
    "rerank": "rerank",
    "messages": "messages",
}
PATHS = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "images": "/v1/images/generations",
    "transcription": "/v1/audio/transcriptions",
    "rerank": "/v1/rerank",
    "messages": "/v1/messages",
}


def openai_dialect(row):
    """Whether an index row is an exchange in the OpenAI dialect.

    It is the endpoint that decides: /chat/completions, /completions, /responses, /embeddings, /images/generations,
    /audio/transcriptions (and /audio/translations, whose answers are the same) and /rerank, whoever serves them and
    under whatever prefix (Azure's deployments, DashScope's compatible mode). Writer's /v1/chat is included: its bodies
    and chunks are OpenAI's. Ollama's and Vertex's own embedding endpoints are not: they share only the name."""
    if row["endpoint"] == "embeddings" and row["provider"] in ("ollama", "vertex_ai"):
        return False
    return row["endpoint"] in OPERATIONS and row["endpoint"] != "messages"


def anthropic_dialect(row):
    return row["provider"] == "anthropic" and row["endpoint"] == "messages"


class Exchange:
    def __init__(self, row, document):
        self.row, self.document = row, document
        self.id = row["id"]
        self.name = self.id.replace("/", "-")
        self.operation = OPERATIONS[row["endpoint"]]
        self.kind = "anthropic" if anthropic_dialect(row) else "openai"
        self.status = document["response"]["status"]
        self.is_sse = document["body_kind"] == "sse"
        self.content_type = header(document["response"], "content-type")
        self.usage = document["expect"]["usage"]

    @property
    def request_body(self):
        return decoded(self.document["request"])

    @property
    def response_body(self):
        return decoded(self.document["response"])

    def __repr__(self):
        return f"<{self.id} {self.row['provider']} {self.row['endpoint']} {self.status}>"


def decoded(message):
    body = message["body"]
    if body is None:
        return b""
    return base64.b64decode(body) if message["body_encoding"] == "base64" else body.encode()


def header(message, name):
    for key, value in (message["headers"] or {}).items():
        if key.lower() == name:
            return value
    return ""


def require():
    """Skips where the archive is absent; in CI that is a failure, since there it must be present."""
    if ARCHIVE.exists():
        return
    if IS_CI:
        pytest.fail(f"recorded traffic is absent ({ARCHIVE.name}), and CI must have it")
    pytest.skip(f"recorded traffic is absent ({ARCHIVE.name} beside the repository)")


def load(wanted):
    """(number of index rows that are wanted, their exchanges)."""
    documents, index = {}, []
    with tarfile.open(ARCHIVE) as tar:
        for member in tar:
            if not member.isfile():
                continue
            text = tar.extractfile(member).read()
            if member.name.endswith("open/index.jsonl"):
                index = [json.loads(line) for line in text.splitlines() if line.strip()]
            elif member.name.endswith(".json"):
                document = json.loads(text)
                documents[document["id"]] = document
    rows = [row for row in index if wanted(row)]
    return len(rows), [Exchange(row, documents[row["id"]]) for row in rows]


def decode(exchanges, directory):
    """What the provider dialects read in each answer, by exchange id."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    lines = []
    for x in exchanges:
        (directory / x.name).write_bytes(x.response_body)
        lines.append("\t".join([x.name, x.kind, x.operation, str(x.status), "sse" if x.is_sse else "body", x.content_type]))
    (directory / "manifest").write_text("\n".join(lines) + "\n")
    out = subprocess.run([BIN / "decode_tool", directory], check=True, capture_output=True, timeout=300)
    answers = [json.loads(line) for line in out.stdout.splitlines()]
    assert len(answers) == len(exchanges)
    return {x.id: a for x, a in zip(exchanges, answers)}


def usage_differences(expected, got):
    """What `expect.usage` says and `got` (input, cached, cache_write, output, reasoning, reported) does not."""
    if expected is None:
        return ["usage was made up"] if got["reported"] and (got["input"] or got["output"]) else []
    names = {"input": "input", "output": "output", "cache_read": "cached", "cache_write": "cache_write", "reasoning": "reasoning"}
    counted = {ours: expected.get(theirs) for theirs, ours in names.items()}
    if counted["input"] is None and counted["output"] is None and "total" in expected:
        counted["input"] = expected["total"]  # endpoints that state one number: all of it is input
    wrong = [f"{name}: expected {n or 0}, got {got[name]}" for name, n in counted.items() if (n or 0) != got[name]]
    return wrong if got["reported"] else ["no usage was found", *wrong]
