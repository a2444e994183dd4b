# SPDX-License-Identifier: Apache-2.0
"""Random request bodies as bytes: valid JSON of every spelling, with the places of the members that a gateway may
patch marked, so that a test can say which bytes must arrive as they were sent."""

import json
import random

MODEL, OPTIONS = b"\x00M", b"\x00O"  # marks; never part of JSON text


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def blank(self):
        return self.random.choice([b"", b"", b"", b" ", b"\n", b"\t", b"\r\n", b"  \n "])

    def string(self):
        r = self.random
        out = []
        for _ in range(r.choice([0, 1, 3, 8, 30])):
            kind = r.random()
            if kind < 0.5:
                out.append(r.choice("abcXYZ 0129{}[],:/'~<>&"))
            elif kind < 0.6:
                out.append(r.choice(['\\"', "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"]))
            elif kind < 0.7:
                out.append(r.choice(["\\u00e9", "\\u0041", "\\u2028", "\\uD83D\\uDE00", "\\u005c", "\\u0022"]))
            else:
                out.append(r.choice("éßñ漢字かな한글ЖяΩ😀🏳️‍🌈\u2028\u00a0\u200b\ufeff"))
        return b'"' + "".join(out).encode() + b'"'

    def number(self):
        return self.random.choice(
            [b"0", b"-0", b"0.1", b"1e2", b"1E+2", b"1.0", b"1.50", b"-1e-400", b"1e400", b"3.141592653589793238462643383279",
             b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"-9007199254740993", b"0.30000000000000004",
             b"1" * 60, str(self.random.getrandbits(70)).encode()]
        )

    def scalar(self):
        kind = self.random.random()
        if kind < 0.45:
            return self.string()
        return self.number() if kind < 0.85 else self.random.choice([b"true", b"false", b"null"])

    def value(self, depth):
        kind = self.random.random()
        if depth <= 0 or kind < 0.5:
            return self.scalar()
        if kind < 0.75:
            return self.array([self.value(depth - 1) for _ in range(self.random.randrange(5))])
        return self.object([(b'"k%d"' % i, self.value(depth - 1)) for i in range(self.random.randrange(5))])

    def nested(self, depth):
        opens = [self.random.choice([b"[", b'{"a":']) for _ in range(depth)]
        closes = [b"]" if o == b"[" else b"}" for o in reversed(opens)]
        return b"".join(opens) + self.scalar() + b"".join(closes)

    def array(self, items):
        return b"[" + self.blank() + (self.blank() + b"," + self.blank()).join(items) + self.blank() + b"]"

    def object(self, members):
        pairs = [k + self.blank() + b":" + self.blank() + v for k, v in members]
        return b"{" + self.blank() + (self.blank() + b"," + self.blank()).join(pairs) + self.blank() + b"}"

    def key(self, name):
        """A member's name, sometimes spelt with an escape."""
        if self.random.random() < 0.1:
            i = self.random.randrange(len(name))
            return (f'"{name[:i]}\\u{ord(name[i]):04x}{name[i + 1:]}"').encode()
        return b'"' + name.encode() + b'"'

    def request(self, marker, stream=None):
        """A chat request; `marker` (ASCII) stands in its `metadata`. MODEL and OPTIONS stand for what may be patched."""
        r = self.random
        messages = self.array(
            [self.object([(b'"role"', b'"user"'), (b'"content"', self.string()), (b'"x"', self.value(3))])
             for _ in range(r.randrange(1, 4))]
        )
        members = [
            (self.key("model"), MODEL),
            (b'"messages"', messages),
            (b'"metadata"', self.object([(b'"marker"', b'"' + marker.encode() + b'"')])),
        ]
        if stream:
            members.append((self.key("stream"), b"true"))
            if r.random() < 0.5:
                members.append((self.key("stream_options"), OPTIONS))
        elif r.random() < 0.2:
            members.append((b'"stream"', b"false"))
        for i in range(r.randrange(6)):
            members.append((b'"field_%d"' % i, self.value(4)))
        if r.random() < 0.1:
            members.append((b'"deep"', self.nested(r.randrange(40, 60))))
        if r.random() < 0.05:
            members.append((b'"long"', b'"' + b"x" * r.randrange(1000, 200000) + b'"'))
        r.shuffle(members)
        return self.blank() + self.object(members) + self.blank()


def exact(document):
    """JSON as nested tuples in which numbers keep their spelling and objects their order."""
    return json.loads(document, parse_float=lambda s: ("n", s), parse_int=lambda s: ("n", s), object_pairs_hook=lambda p: ("o", tuple(p)))
