# SPDX-License-Identifier: Apache-2.0
"""Many requests over a few kept connections, each answer kept. Requests are bytes; answers are read strictly."""

import asyncio
import socket
from dataclasses import dataclass, field

from support.rawhttp import parse_headers


@dataclass
class Result:
    status: int = 0  # 0: no answer, see `trouble`
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    trouble: str = ""


async def read_chunked(reader):
    body = []
    while True:
        size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
        if size == 0:
            break
        body.append((await reader.readexactly(size + 2))[:-2])
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return b"".join(body)


async def read_answer(reader):
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        line, _, rest = head.partition(b"\r\n")
        status = int(line.split(b" ")[1])
        if status >= 200:
            break
    headers = dict(parse_headers(rest))
    if "chunked" in headers.get("transfer-encoding", ""):
        body = await read_chunked(reader)
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = await reader.read()
        headers.setdefault("connection", "close")
    return Result(status, headers, body)


class Load:
    def __init__(self, address, connections=32, timeout=60.0):
        self.address, self.connections, self.timeout = address, connections, timeout
        self.opened = 0
        self.stopping = False

    def run(self, requests):
        """Sends every item of `requests` (bytes), returns the answers in the same order."""
        requests = list(requests)
        self.results = [None] * len(requests)
        self.todo = iter(enumerate(requests))
        asyncio.run(self.all())
        return self.results

    async def all(self):
        await asyncio.gather(*(self.one() for _ in range(self.connections)))

    async def one(self):
        writer = None
        for index, request in self.todo:
            for fresh in (False, True):
                if writer is None:
                    fresh = True
                    reader, writer = await asyncio.open_connection(*self.address, limit=1 << 24)
                    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self.opened += 1
                try:
                    writer.write(request)
                    result = await asyncio.wait_for(read_answer(reader), self.timeout)
                except asyncio.IncompleteReadError as e:
                    # A kept connection that the server closed before it read anything may be tried once more.
                    writer.close()
                    writer = None
                    result = Result(trouble=f"closed after {len(e.partial)} bytes")
                    if not fresh and not e.partial:
                        continue
                except Exception as e:
                    writer.close()
                    writer = None
                    result = Result(trouble=f"{type(e).__name__}: {e}")
                break
            self.results[index] = result
            if writer is not None and result.headers.get("connection", "").lower() == "close":
                writer.close()
                writer = None
        if writer is not None:
            writer.close()
