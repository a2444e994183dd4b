# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that misbehaves on request: between a client and a server it adds latency, slices, limits, cuts, resets,
goes silent or half-closes. Everything can be changed while connections are open; a direction is "up" (client to
server) or "down"."""

import asyncio
import socket
import struct
import threading
from dataclasses import dataclass, field


@dataclass
class Faults:
    latency: float = 0.0  # seconds before each piece
    jitter: float = 0.0  # added to it, up to
    slice: int = 0  # bytes a piece, 0: as they come
    bytes_per_second: int = 0  # 0: no limit
    cut_after: int | None = None  # bytes of this direction, then FIN on both sides
    reset_after: int | None = None  # bytes of this direction, then RST on both sides
    half_close_after: int | None = None  # bytes of this direction, then FIN to its receiver only
    is_black_hole: bool = False  # reads nothing, sends nothing, closes nothing


@dataclass
class Link:
    """One proxied connection."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    passed: dict = field(default_factory=lambda: {"up": 0, "down": 0})
    loses_after: int | None = None  # of what comes down, in all
    is_closed: bool = False


def abort(writer):
    sock = writer.get_extra_info("socket")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    writer.transport.abort()


class TcpFault:
    def __init__(self, target):
        """`target` as (host, port) or "host:port"."""
        if isinstance(target, str):
            host, port = target.rsplit(":", 1)
            target = (host, int(port))
        self.target = target
        self.faults = {"up": Faults(), "down": Faults()}
        self.refuses = False  # accept and reset at once
        self.links = []
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait(10)

    def run(self, ready):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(asyncio.start_server(self.link, "127.0.0.1", 0, backlog=1024))
        self.address = self.server.sockets[0].getsockname()[:2]
        ready.set()
        self.loop.run_forever()

    @property
    def url(self):
        return f"http://{self.address[0]}:{self.address[1]}"

    @property
    def accepted(self):
        return len(self.links)

    def passed(self, direction):
        return sum(link.passed[direction] for link in self.links)

    def set(self, direction="both", **faults):
        """New faults for a direction; what is not named is as it was. Open connections are affected too."""
        for d in ("up", "down") if direction == "both" else (direction,):
            for name, value in faults.items():
                if not hasattr(self.faults[d], name):
                    raise AttributeError(name)
                setattr(self.faults[d], name, value)
        return self

    def heal(self):
        self.faults["up"], self.faults["down"] = Faults(), Faults()
        self.refuses = False

    def on_loop(self, fn):
        done = threading.Event()

        def call():
            fn()
            done.set()

        self.loop.call_soon_threadsafe(call)
        done.wait(10)

    def lose_answers(self, after=0):
        """Of every connection that is open now so many more bytes come down; with the next one it is cut. What the client asks for
        until then reaches the server. New connections are whole. Returns the connections that are to be cut."""
        links = [link for link in self.links if not link.is_closed and link.loses_after is None]
        for link in links:
            link.loses_after = link.passed["down"] + after
        return links

    def keep_answers(self):
        """Those that were not cut yet are whole again."""
        for link in self.links:
            link.loses_after = None

    def reset_all(self):
        self.on_loop(lambda: [self.finish(link, abort) for link in self.links])

    def close(self):
        self.on_loop(self.server.close)
        self.reset_all()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def finish(self, link, how):
        link.is_closed = True
        for writer in (link.client, link.server):
            if writer is not None:
                how(writer)

    async def link(self, reader, writer):
        link = Link(writer)
        self.links.append(link)
        if self.refuses:
            return self.finish(link, abort)
        try:
            server_reader, link.server = await asyncio.open_connection(*self.target)
        except OSError:
            return self.finish(link, abort)
        for w in (writer, link.server):
            w.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pumps = [
            asyncio.ensure_future(self.pump(link, "up", reader, link.server)),
            asyncio.ensure_future(self.pump(link, "down", server_reader, writer)),
        ]
        await asyncio.gather(*pumps, return_exceptions=True)
        if not link.is_closed:
            self.finish(link, lambda w: w.close())

    async def wait_out_black_hole(self, direction):
        while self.faults[direction].is_black_hole:
            await asyncio.sleep(0.01)

    async def pump(self, link, direction, reader, writer):
        while not link.is_closed:
            await self.wait_out_black_hole(direction)
            try:
                data = await reader.read(65536)
            except OSError:
                return self.finish(link, abort)
            await self.wait_out_black_hole(direction)
            if not data:
                if writer.can_write_eof() and not link.is_closed:
                    writer.write_eof()
                return None
            if not await self.deliver(link, direction, writer, data):
                return None

    async def deliver(self, link, direction, writer, data):
        """False when the direction is over."""
        while data and not link.is_closed:
            f = self.faults[direction]
            n = min(len(data), f.slice or len(data))
            for limit in (f.cut_after, f.reset_after, f.half_close_after):
                if limit is not None:
                    n = min(n, max(limit - link.passed[direction], 0))
            if direction == "down" and link.loses_after is not None:
                n = min(n, max(link.loses_after - link.passed["down"], 0))
                if n == 0:
                    self.finish(link, lambda w: w.close())
                    return False
            if n == 0:
                return self.at_limit(link, f, writer)
            delay = f.latency + (f.jitter * ((link.passed[direction] * 2654435761) % 1000) / 1000 if f.jitter else 0)
            if f.bytes_per_second:
                delay += n / f.bytes_per_second
            if delay:
                await asyncio.sleep(delay)
            try:
                writer.write(data[:n])
                await writer.drain()
            except OSError:
                self.finish(link, abort)
                return False
            link.passed[direction] += n
            data = data[n:]
        return not link.is_closed

    def at_limit(self, link, f, writer):
        if f.reset_after is not None:
            self.finish(link, abort)
        elif f.cut_after is not None:
            self.finish(link, lambda w: w.close())
        else:
            writer.write_eof()
        return False
