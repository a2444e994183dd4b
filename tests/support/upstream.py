# SPDX-License-Identifier: Apache-2.0
"""A scripted provider on a raw socket: it answers with the bytes that a test gives it and keeps every request exactly
as it came.

A script is a function of the request that returns steps, or the steps themselves:
    bytes          are sent in one write
    Pause(s)       waits (and ends the script when the gateway closes meanwhile)
    Gate(event)    waits until the test sets the event
    SLICES(b, n)   sends `b` in writes of n bytes
    CLOSE, RESET, HALF_CLOSE, STALL   STALL says nothing more until the gateway closes
After the last step the connection is kept open for the next request."""

import itertools
import json
import select
import socket
import struct
import threading
import time

CLOSE, RESET, HALF_CLOSE, STALL = "close", "reset", "half-close", "stall"


class Pause:
    def __init__(self, seconds):
        self.seconds = seconds


class Gate:
    def __init__(self, event=None):
        self.event = event or threading.Event()


def SLICES(data, size=1):
    return [data[i : i + size] for i in range(0, len(data), size)]


class Received:
    def __init__(self, raw_head, body, raw_body, connection, number):
        self.raw_head, self.body, self.raw_body = raw_head, body, raw_body
        self.connection, self.number = connection, number
        self.at = time.monotonic()
        self.closed_at = None  # when the gateway closed while this request was being answered
        lines = raw_head.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = lines[0].split(" ")
        self.headers = []
        for line in lines[1:]:
            if line:
                name, _, value = line.partition(":")
                self.headers.append((name.lower(), value.strip()))

    @property
    def raw(self):
        return self.raw_head + self.raw_body

    @property
    def json(self):
        return json.loads(self.body)

    def header(self, name, default=None):
        for key, value in self.headers:
            if key == name.lower():
                return value
        return default


class Upstream:
    def __init__(self, script=None):
        self.script = script or json_answer(chat_completion())
        self.requests = []
        self.connections = 0
        self.malformed = []
        self.lock = threading.Lock()
        self.is_open = True
        self.live = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def address(self):
        return self.listener.getsockname()[:2]

    @property
    def url(self):
        host, port = self.address
        return f"http://{host}:{port}"

    @property
    def base_url(self):
        return self.url + "/v1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.is_open = False
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self.lock:
            for sock in list(self.live):
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def accept(self):
        for number in itertools.count(1):
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections = number
            threading.Thread(target=self.serve, args=(sock, number), daemon=True).start()

    def serve(self, sock, number):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.live.add(sock)
        reader = Reader(sock)
        try:
            for nth in itertools.count(1):
                parts = reader.request()
                if parts is None:
                    break
                received = Received(*parts, connection=number, number=nth)
                with self.lock:
                    self.requests.append(received)
                steps = self.script(received) if callable(self.script) else self.script
                if not self.play(sock, received, steps):
                    break
        except ValueError as e:
            with self.lock:
                self.malformed.append(str(e))
        except OSError:
            pass
        finally:
            with self.lock:
                self.live.discard(sock)
            sock.close()

    def play(self, sock, received, steps):
        """False when the connection is over."""
        for step in [steps] if isinstance(steps, (bytes, str, Pause, Gate)) else steps:
            if isinstance(step, bytes):
                try:
                    sock.sendall(step)
                except OSError:
                    received.closed_at = received.closed_at or time.monotonic()
                    return False
            elif isinstance(step, Pause):
                if wait_closed(sock, step.seconds):
                    received.closed_at = time.monotonic()
                    return False
            elif isinstance(step, Gate):
                while not step.event.is_set():
                    if not self.is_open:
                        return False
                    if wait_closed(sock, 0.01):
                        received.closed_at = time.monotonic()
                        return False
            elif step == STALL:
                while self.is_open:
                    if wait_closed(sock, 0.2):
                        received.closed_at = time.monotonic()
                        break
                return False
            elif step == HALF_CLOSE:
                sock.shutdown(socket.SHUT_WR)
            elif step == RESET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            elif step == CLOSE:
                return False
            else:
                raise TypeError(f"no such step: {step!r}")
        return True


def wait_closed(sock, seconds):
    """True as soon as the peer has closed; False when the time is over."""
    readable, _, _ = select.select([sock], [], [], seconds) if sock.fileno() < 1024 else poll_readable(sock, seconds)
    if not readable:
        return False
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def poll_readable(sock, seconds):
    p = select.poll()
    p.register(sock, select.POLLIN)
    return ([sock] if p.poll(seconds * 1000) else [], [], [])


class Reader:
    """Requests off a socket, strictly: CRLF, one framing."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""

    def fill(self):
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def take(self, n):
        while len(self.buffer) < n:
            if not self.fill():
                raise ValueError(f"closed in a body, {len(self.buffer)} of {n} bytes")
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def line(self):
        while (at := self.buffer.find(b"\r\n")) < 0:
            if not self.fill():
                raise ValueError("closed in a line")
        return self.take(at + 2)

    def request(self):
        while (at := self.buffer.find(b"\r\n\r\n")) < 0:
            if not self.fill():
                if self.buffer:
                    raise ValueError(f"closed in a head: {self.buffer[:200]!r}")
                return None
        head = self.take(at + 4)
        names = [(n.strip().lower(), v.strip()) for n, _, v in (x.partition(b":") for x in head.split(b"\r\n")[1:] if x)]
        lengths = [v for n, v in names if n == b"content-length"]
        codings = [v for n, v in names if n == b"transfer-encoding"]
        if len(lengths) + len(codings) > 1:
            raise ValueError(f"ambiguous framing: {head!r}")
        if codings:
            if codings != [b"chunked"]:
                raise ValueError(f"transfer-encoding {codings!r}")
            return head, *self.chunked()
        body = self.take(int(lengths[0])) if lengths else b""
        return head, body, body

    def chunked(self):
        body, raw = b"", b""
        while True:
            line = self.line()
            n = int(line, 16)
            data = self.take(n + 2)
            raw += line + data
            if n == 0:
                return body, raw
            body += data[:-2]


# ---- ready answers ------------------------------------------------------------------------------------------------
def head(status=200, headers=(), reason="OK"):
    return b"\r\n".join([f"HTTP/1.1 {status} {reason}".encode(), *(f"{n}: {v}".encode() for n, v in headers)]) + b"\r\n\r\n"


def json_answer(document, status=200, headers=()):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return head(status, [("Content-Type", "application/json"), ("Content-Length", len(body)), *headers]) + body


def error_answer(status, message="no", kind="server_error", code=None, headers=()):
    return json_answer({"error": {"message": message, "type": kind, "code": code}}, status, headers)


def chat_completion(text="pong", model="m", prompt=9, completion=3, **more):
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}, **more,
    }


def chunk(delta=None, finish=None, usage=None, model="m"):
    choices = [] if delta is None and finish is None else [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    document = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": model, "choices": choices}
    if usage:
        document["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return document


def event(document, end=b"\n\n"):
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return b"data: " + data + end


DONE = b"data: [DONE]\n\n"
SSE_HEADERS = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")]


def sse_head(chunked_framing=True):
    framing = [("Transfer-Encoding", "chunked")] if chunked_framing else [("Connection", "close")]
    return head(200, [*SSE_HEADERS, *framing])


def as_chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"


def stream_events(words=("po", "ng"), usage=(9, 3)):
    """The events of an ordinary OpenAI stream without its end marker."""
    out = [event(chunk({"role": "assistant", "content": ""}))]
    out += [event(chunk({"content": w})) for w in words]
    out.append(event(chunk({}, finish="stop")))
    if usage:
        out.append(event(chunk(usage=usage)))
    return out
