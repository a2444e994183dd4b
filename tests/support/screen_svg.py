# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows, with its colours (`tmux capture-pane -e -p`), as a picture that needs nothing else: an SVG without scripts,
fonts or links. The same capture gives the same bytes. Blocks, lines and braille dots are drawn, so that they join whatever font there is."""

import re
import unicodedata
from dataclasses import dataclass, replace
from xml.sax.saxutils import escape

WIDTH, HEIGHT, PAD = 9, 19, 12  # of a cell, and around the screen; whole pixels, so that blocks join
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
BACK, TEXT = "#11151c", "#d5dae3"
BASIC = ("#3b4252 #e06c75 #98c379 #e5c07b #61afef #c678dd #56b6c2 #d5dae3 "
         "#6b7486 #ff7b85 #b5e890 #ffd68a #7cc4ff #e08cf5 #6fd6e3 #ffffff").split()
SGR = re.compile(r"\x1b\[([0-9;:]*)m|\x1b\([A-Z0-9]|[\x0e\x0f]")


@dataclass(frozen=True)
class Style:
    front: str | None = None
    back: str | None = None
    is_bold: bool = False
    is_dim: bool = False
    is_underlined: bool = False
    is_reverse: bool = False

    @property
    def colours(self):
        """(of the text, of the ground); None is the screen's own ground."""
        front, back = self.front or TEXT, self.back
        return (back or BACK, front) if self.is_reverse else (front, back)


def indexed(n):
    if n < 16:
        return BASIC[n]
    if n < 232:
        n -= 16
        return "#" + "".join(f"{0 if v == 0 else 55 + 40 * v:02x}" for v in (n // 36, n // 6 % 6, n % 6))
    return "#" + f"{8 + 10 * (n - 232):02x}" * 3


FLAGS = {1: {"is_bold": True}, 2: {"is_dim": True}, 4: {"is_underlined": True}, 7: {"is_reverse": True},
         22: {"is_bold": False, "is_dim": False}, 24: {"is_underlined": False}, 27: {"is_reverse": False}, 39: {"front": None}, 49: {"back": None}}


def applied(style, codes):
    codes = iter([int(c or 0) for c in re.split("[;:]", codes)])
    for c in codes:
        if c == 0:
            style = Style()
        elif c in FLAGS:
            style = replace(style, **FLAGS[c])
        elif 30 <= c < 38 or 90 <= c < 98:
            style = replace(style, front=BASIC[c - 30 if c < 90 else c - 82])
        elif 40 <= c < 48 or 100 <= c < 108:
            style = replace(style, back=BASIC[c - 40 if c < 100 else c - 92])
        elif c in (38, 48):
            kind = next(codes)
            colour = indexed(next(codes)) if kind == 5 else "#" + "".join(f"{next(codes):02x}" for _ in range(3))
            style = replace(style, **{"front" if c == 38 else "back": colour})
    return style


def columns_of(character):
    if unicodedata.combining(character) or unicodedata.category(character) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cells(capture):
    """Lines of [(text, columns, style)], one for each place."""
    out, style = [], Style()
    for line in capture.rstrip("\n").split("\n"):
        row, at = [], 0
        for found in [*SGR.finditer(line), None]:
            for character in line[at:found.start() if found else len(line)]:
                if columns_of(character):
                    row.append((character, columns_of(character), style))
                elif row:
                    row[-1] = (row[-1][0] + character, *row[-1][1:])
            if found:
                at = found.end()
                style = applied(style, found[1]) if found[1] is not None else style
        out.append(row)
    return out


def number(v):
    return f"{v:.2f}".rstrip("0").rstrip(".")


def rect(x, y, width, height, colour, more=""):
    return f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" fill="{colour}"{more}/>'


LINES = {"─": "lr", "│": "ud", "┌": "rd", "┐": "ld", "└": "ru", "┘": "lu", "├": "rud", "┤": "lud", "┬": "lrd", "┴": "lru", "┼": "lrud"}
SHADES = {"░": 0.25, "▒": 0.5, "▓": 0.75}
DOTS = ((0, 0, 0x01), (0, 1, 0x02), (0, 2, 0x04), (1, 0, 0x08), (1, 1, 0x10), (1, 2, 0x20), (0, 3, 0x40), (1, 3, 0x80))


def drawn(character, x, y, colour, more):
    """Shapes of a block, a line or braille; None for a letter."""
    code = ord(character[0])
    if 0x2581 <= code <= 0x2588:
        part = HEIGHT * (code - 0x2580) / 8
        return [rect(x, y + HEIGHT - part, WIDTH, part, colour, more)]
    if 0x2589 <= code <= 0x258F:
        return [rect(x, y, WIDTH * (0x2590 - code) / 8, HEIGHT, colour, more)]
    if character in SHADES:
        return [rect(x, y, WIDTH, HEIGHT, colour, f' fill-opacity="{SHADES[character]}"')]
    if character in LINES:
        cx, cy, arms = x + WIDTH / 2, y + HEIGHT / 2, LINES[character]
        ends = {"l": (x, cy - 0.5, WIDTH / 2 + 0.5, 1), "r": (cx - 0.5, cy - 0.5, WIDTH / 2 + 0.5, 1), "u": (cx - 0.5, y, 1, HEIGHT / 2 + 0.5),
                "d": (cx - 0.5, cy - 0.5, 1, HEIGHT / 2 + 0.5)}
        return [rect(*ends[a], colour, more) for a in arms]
    if 0x2800 < code <= 0x28FF:
        return [rect(x + WIDTH * (0.18 + 0.42 * dx), y + HEIGHT * (0.05 + 0.25 * dy), 2, 2, colour, more) for dx, dy, bit in DOTS if code - 0x2800 & bit]
    return None


def runs(row):
    """Places in a row that look alike: (first column, columns, style, texts)."""
    at, out = 0, []
    for text, width, style in row:
        if out and out[-1][2] == style:
            out[-1] = (out[-1][0], out[-1][1] + width, style, [*out[-1][3], (at, text, width)])
        else:
            out.append((at, width, style, [(at, text, width)]))
        at += width
    return out


def words(places):
    """Letters that stand together, without the drawn ones: [(column, columns, text)]; blanks end a word."""
    out = []
    for at, text, width in places:
        if text == " " or drawn(text, 0, 0, "", "") is not None:
            continue
        if out and out[-1][0] + out[-1][1] == at:
            out[-1] = (out[-1][0], out[-1][1] + width, out[-1][2] + text)
        else:
            out.append((at, width, text))
    return out


def line_of(row, y):
    shapes = []
    for at, width, style, places in runs(row):
        front, back = style.colours
        more = ' fill-opacity="0.6"' if style.is_dim else ""
        if back:
            shapes.append(rect(PAD + at * WIDTH, y, width * WIDTH, HEIGHT, back))
        for column, text, _ in places:
            shapes += drawn(text, PAD + column * WIDTH, y, front, more) or []
        weight = ' font-weight="bold"' if style.is_bold else ""
        line = ' text-decoration="underline"' if style.is_underlined else ""
        for column, span, text in words(places):
            shapes.append(f'<text x="{number(PAD + column * WIDTH)}" y="{number(y + HEIGHT * 0.74)}" textLength="{number(span * WIDTH)}" '
                          f'fill="{front}"{more}{weight}{line}>{escape(text)}</text>')
    return shapes


def svg(capture, title):
    """The document; what the screen says is also its text, word by word."""
    rows = cells(capture)
    columns = max((sum(width for _, width, _ in row) for row in rows), default=0)
    width, height = number(columns * WIDTH + 2 * PAD), number(len(rows) * HEIGHT + 2 * PAD)
    shapes = [s for n, row in enumerate(rows) for s in line_of(row, PAD + n * HEIGHT)]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="{FONT}" font-size="15" '
        f'xml:space="preserve" role="img"><title>{escape(title)}</title>',
        f'<rect width="{width}" height="{height}" rx="8" fill="{BACK}"/>', *shapes, "</svg>", ""])
