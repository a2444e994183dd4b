# SPDX-License-Identifier: Apache-2.0
"""A byte-exact HTTP/1.1 client: what it sends is what the test wrote, in the slices the test chose; what comes back is
read strictly, and bytes beyond the answer are seen."""

import socket
import struct
import time


class ProtocolError(AssertionError):
    pass


class Closed(Exception):
    """The peer closed; `data` is what came before."""

    def __init__(self, data=b""):
        super().__init__(f"closed after {len(data)} bytes: {data[:200]!r}")
        self.data = data


class Response:
    def __init__(self, version, status, reason, headers):
        self.version, self.status, self.reason = version, status, reason
        self.headers = headers  # [(lower-case name, value)]
        self.body, self.chunks, self.trailers = b"", [], []
        self.framing = None  # length | chunked | close | none

    def header(self, name, default=None):
        for key, value in self.headers:
            if key == name.lower():
                return value
        return default

    def __repr__(self):
        return f"<{self.version} {self.status} {self.framing} {len(self.body)} bytes {self.body[:200]!r}>"


def parse_headers(block, what="header"):
    headers = []
    for line in block.split(b"\r\n"):
        if not line:
            continue
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip() or b"\n" in line or b"\r" in line:
            raise ProtocolError(f"bad {what} line {line!r}")
        headers.append((name.decode("latin-1").lower(), value.strip(b" \t").decode("latin-1")))
    return headers


class RawClient:
    def __init__(self, address, timeout=10.0, source=None):
        self.timeout = timeout
        self.sock = socket.create_connection(address, timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.eof = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- sending
    def send(self, data):
        self.sock.sendall(data)

    def send_sliced(self, data, size=1, pause=0.0):
        """`size` bytes a packet, or the sizes of an iterable."""
        sizes = iter(lambda: size, None) if isinstance(size, int) else iter(size)
        while data:
            n = next(sizes, len(data))
            self.sock.sendall(data[:n])
            data = data[n:]
            if pause:
                time.sleep(pause)

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        """RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # -- receiving
    def fill(self, deadline):
        """More bytes into the buffer; False at the end of the stream."""
        if self.eof:
            return False
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"nothing more within the deadline, so far {self.buffer[:200]!r}")
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        self.eof = not data
        self.buffer += data
        return not self.eof

    def deadline(self, timeout=None):
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def take(self, n, deadline):
        while len(self.buffer) < n:
            if not self.fill(deadline):
                raise Closed(self.buffer)
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def take_until(self, mark, deadline):
        while (at := self.buffer.find(mark)) < 0:
            if not self.fill(deadline):
                raise Closed(self.buffer)
        out, self.buffer = self.buffer[: at + len(mark)], self.buffer[at + len(mark) :]
        return out

    def read_head(self, timeout=None):
        deadline = self.deadline(timeout)
        head = self.take_until(b"\r\n\r\n", deadline)
        line, _, rest = head.partition(b"\r\n")
        parts = line.split(b" ", 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit() or len(parts[1]) != 3:
            raise ProtocolError(f"bad status line {line!r}")
        reason = parts[2].decode("latin-1") if len(parts) > 2 else ""
        return Response(parts[0].decode(), int(parts[1]), reason, parse_headers(rest))

    def read_chunk(self, timeout=None):
        """One chunk of a chunked body; b"" is the last one (its trailers stay in the buffer)."""
        deadline = self.deadline(timeout)
        line = self.take_until(b"\r\n", deadline)
        size = line[:-2].partition(b";")[0].strip()
        try:
            n = int(size, 16)
        except ValueError:
            raise ProtocolError(f"bad chunk size {line!r}") from None
        if n == 0:
            return b""
        data = self.take(n + 2, deadline)
        if data[-2:] != b"\r\n":
            raise ProtocolError("a chunk does not end with CRLF")
        return data[:-2]

    def read_response(self, method="POST", timeout=None):
        """A whole answer; 100 Continue before it is skipped."""
        deadline = self.deadline(timeout)
        while True:
            r = self.read_head(deadline - time.monotonic())
            if r.status >= 200:
                break
        self.read_body(r, method, deadline)
        return r

    def read_body(self, r, method, deadline):
        if method == "HEAD" or r.status in (204, 304):
            r.framing = "none"
        elif "chunked" in (r.header("transfer-encoding") or ""):
            if r.header("content-length") is not None:
                raise ProtocolError("both transfer-encoding and content-length")
            r.framing = "chunked"
            while chunk := self.read_chunk(deadline - time.monotonic()):
                r.chunks.append(chunk)
            block = b""
            while (line := self.take_until(b"\r\n", deadline)) != b"\r\n":
                block += line
            r.trailers = parse_headers(block, "trailer")
            r.body = b"".join(r.chunks)
        elif r.header("content-length") is not None:
            r.framing = "length"
            r.body = self.take(int(r.header("content-length")), deadline)
        else:
            r.framing = "close"
            while self.fill(deadline):
                pass
            r.body, self.buffer = self.buffer, b""

    def read_all(self, timeout=None):
        """Everything until the peer closes."""
        deadline = self.deadline(timeout)
        while self.fill(deadline):
            pass
        out, self.buffer = self.buffer, b""
        return out

    def is_closed(self, timeout=2.0):
        """True when the peer closes within that time without sending another byte; what it sends stays in `buffer`."""
        deadline = self.deadline(timeout)
        try:
            while self.fill(deadline):
                pass
        except TimeoutError:
            return False
        return not self.buffer


def request(method="POST", target="/v1/chat/completions", headers=(), body=b"", host="gateway", version="HTTP/1.1", key=None):
    """Bytes of a well-formed request; `headers` as pairs. Content-Length is added unless a framing header is given."""
    names = {n.lower() for n, _ in headers}
    lines = [f"{method} {target} {version}".encode()]
    if host is not None and "host" not in names:
        lines.append(b"Host: " + host.encode())
    if key and "authorization" not in names:
        lines.append(b"Authorization: Bearer " + key.encode())
    if (body or method == "POST") and not names & {"content-length", "transfer-encoding"}:
        lines.append(b"Content-Length: %d" % len(body))
        if "content-type" not in names:
            lines.append(b"Content-Type: application/json")
    for name, value in headers:
        lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode("latin-1")))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(body, size=None):
    pieces = [body] if not size else [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces if p) + b"0\r\n\r\n"


def dechunked(data):
    """The body of a whole chunked message without trailers, in linear time."""
    out, at = [], 0
    while True:
        end = data.index(b"\r\n", at)
        size = int(data[at:end], 16)
        if size == 0:
            if data[end + 2 :] != b"\r\n":
                raise ProtocolError("bytes behind the last chunk")
            return b"".join(out)
        out.append(data[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
        if data[at - 2 : at] != b"\r\n":
            raise ProtocolError("a chunk does not end with CRLF")
