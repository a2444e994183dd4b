# SPDX-License-Identifier: Apache-2.0
"""Every screen of aigwtop on a real terminal, from recordings: as it is kept in tests/golden/aigwtop/screens, at three sizes, with
UTF-8 and without; and every number on it against the recording's own. GOLDEN=write writes the screens anew, but not where CI is set."""

import difflib
import json
import math
import os
import re
import signal

import pytest
from support.gateway import run
from support.golden import may_write, same
from support.process import BIN, ROOT, SLOWNESS
from support.screen import Screen
from support.wait import eventually

RECORDINGS = ROOT / "tests" / "golden" / "aigwtop"
KEPT = RECORDINGS / "screens"
SIZES = ((80, 24), (60, 15), (160, 50))
LOCALES = ("C.UTF-8", "C")

# The recordings that are played one after the other, and the keys that lead there.
SCREENS = {
    "providers": ("day", []),
    "models": ("day", ["2"]),
    "tenants": ("day", ["3"]),
    "tenants-open": ("day", ["3", "*"]),
    "breakers": ("day", ["4"]),
    "errors": ("day", ["5"]),
    "errors-by-cause": ("day", ["5", "e"]),
    "error": ("day", ["5", "Down", "Enter"]),
    "latency": ("day", ["6"]),
    "anomalies": ("day", ["7"]),
    "provider": ("day", [":", "fireworks", "Enter"]),
    "errors-of-a-provider": ("day", [":", "errors fireworks", "Enter"]),
    "help": ("day", ["?"]),
    "help-more": ("day", ["?", "?"]),
    "setup": ("day", ["F2"]),
    "columns": ("day", ["#"]),
    "sort": ("day", ["s"]),
    "export": ("day", ["x"]),
    "command": ("day", ["4", "c"]),
    "find": ("day", ["/", "groq"]),
    "filter": ("day", ["\\", "err>5"]),
    "filtered": ("day", ["\\", "err>5", "Enter"]),
    "nothing-matches": ("day", ["\\", "nobody", "Enter"]),
    "go-to": ("day", [":", "mod", "Tab"]),
    "paused": ("day", ["Space"]),
    "lost": ("day+lost", ["r"]),
    "lost-provider": ("day+lost", ["r", ":", "fireworks", "Enter"]),
    "no-writer": ("day+silent", ["r"]),
    "refused": ("refused", []),
    "empty": ("empty", []),
    "hostile-names": ("hostile", []),
}


def recording(directory, names):
    path = directory / f"{names}.ndjson"
    path.write_text("".join((RECORDINGS / f"{name}.ndjson").read_text() for name in names.split("+")))
    return path


def plain(text):
    """The version is not the screen's matter."""
    text = re.sub(r"(?<=Version )\d+\.\d+\.\d+", lambda m: "v" * len(m[0]), text)
    return "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n") + "\n"


def settle(screen, want):
    """What is on the screen: when it is what is wanted, or, without anything wanted, when it changes no more."""
    seen = [None]

    def look():
        was, seen[0] = seen[0], plain(screen.text())
        return seen[0] == (was if want is None else want) and seen[0].strip()

    try:
        eventually(look, (10 if want else 5) * SLOWNESS, every=0.02 if want else 0.3)
    except AssertionError:
        pass
    return seen[0]


def parts(name):
    """The kept pictures of a screen, by locale and size."""
    path = KEPT / f"{name}.txt"
    split = re.split(r"^== (\S+) (\d+)x(\d+)\n", path.read_text() if path.exists() else "", flags=re.M)
    return {(split[i], int(split[i + 1]), int(split[i + 2])): split[i + 3] for i in range(1, len(split) - 3, 4)}


@pytest.mark.parametrize("locale", LOCALES)
def test_every_screen_is_the_kept_one_at_every_size(tmp_path, locale):
    wrong = []
    screen = None
    try:
        for name, (names, keys) in SCREENS.items():
            kept = parts(name)
            args = ["--replay", str(recording(tmp_path, names)), "--glyphs", "auto"]
            if screen is None:
                screen = Screen(tmp_path, args, locale=locale)
            else:
                screen.resize(*SIZES[0])
                screen.again(args)
            screen.shows("q Back", "aigwtop", within=10 * SLOWNESS)
            screen.keys(*keys)
            for size in SIZES:
                screen.resize(*size)
                want = None if may_write() else kept[locale, *size]
                text = settle(screen, want)
                assert all(len(line) <= size[0] for line in text.split("\n")), text
                assert locale != "C" or text.isascii(), text
                if may_write():
                    kept[locale, *size] = text
                elif text != want:
                    wrong += [f"{name} {locale} {size}", *difflib.unified_diff(want.split("\n"), text.split("\n"), "kept", "shown", lineterm="")]
            if may_write():
                kept = {**parts(name), **{k: v for k, v in kept.items() if k[0] == locale}}
                same(KEPT / f"{name}.txt", "".join(f"== {key[0]} {key[1]}x{key[2]}\n{kept[key]}" for key in sorted(kept, reverse=True)))
    finally:
        if screen:
            screen.close()
    assert not wrong, "\n".join(wrong)


def test_no_screen_is_kept_that_nobody_looks_at():
    assert {p.stem for p in KEPT.glob("*.txt")} == set(SCREENS)
    for name in SCREENS:
        assert set(parts(name)) == {(locale, *size) for locale in LOCALES for size in SIZES}, name


def test_kept_pages_are_never_written_in_ci(tmp_path, monkeypatch):
    page = tmp_path / "page.txt"
    page.write_text("as it was\n")
    monkeypatch.setenv("GOLDEN", "write")
    monkeypatch.setenv("CI", "true")
    assert not same(page, "otherwise\n") and page.read_text() == "as it was\n"
    assert not same(tmp_path / "new.txt", "new\n") and not (tmp_path / "new.txt").exists()
    monkeypatch.delenv("CI")
    assert same(page, "otherwise\n") and page.read_text() == "otherwise\n"


# ---- keys and terminals that nobody thought of


def test_garbage_from_a_keyboard_and_a_storm_of_sizes_leave_the_screen_as_it_was(tmp_path):
    screen = Screen(tmp_path, ["--replay", str(recording(tmp_path, "day"))])
    try:
        screen.shows("q Back", "openrouter", within=10 * SLOWNESS)
        for garbage in ("\x1b[1;9Z", "\x1b[200~", "\x1b[<0;5;6M", "\x1b[99;99;99u", "\x1bOz", "\x13", "\xff", "é", "\x1b[" + "1;" * 10 + "Z"):
            screen.types(garbage)
        for signal_ in range(100):
            os.kill(screen.pid(), signal.SIGWINCH)
            if signal_ % 10 == 0:
                screen.resize(40 + signal_, 10 + signal_ // 4)
        screen.resize(80, 24)
        screen.keys("2", "1")
        want = parts("providers")["C.UTF-8", 80, 24]
        assert settle(screen, want) == want
    finally:
        screen.close()


def test_a_screen_that_is_too_small_says_so_and_comes_back(tmp_path):
    screen = Screen(tmp_path, ["--replay", str(recording(tmp_path, "day"))], width=39, height=9)
    try:
        screen.shows("39x9, needs 40x10, q quits", within=10 * SLOWNESS)
        for size, words in (((40, 10), ("openrouter", "q quit")), ((200, 60), ("CACHE%", "F10Quit")), ((10, 3), ("10x3",)), ((80, 24), ("F10Quit",))):
            screen.resize(*size)
            text = screen.shows(*words, within=10 * SLOWNESS)
            assert all(len(line) <= size[0] for line in text.split("\n"))
    finally:
        screen.close()


@pytest.mark.parametrize(("term", "says"), [("dumb", "cannot move its cursor"), ("nonsense", "nothing is known of the terminal")])
def test_a_terminal_that_cannot_be_drawn_on_is_told_of_batch_mode(tmp_path, term, says):
    screen = Screen(tmp_path, ["--replay", str(RECORDINGS / "day.ndjson")], term=term, width=120)
    try:
        screen.shows(says, "EXIT 2", within=10 * SLOWNESS)
    finally:
        screen.close()


def test_a_console_gets_ascii_and_is_left_empty(tmp_path):
    screen = Screen(tmp_path, ["--replay", str(RECORDINGS / "day.ndjson")], term="linux")
    try:
        assert screen.shows("+ healthy", "F10Quit", within=10 * SLOWNESS).isascii()
        screen.keys("Q")
        assert screen.shows("EXIT 0", within=10 * SLOWNESS).split() == ["EXIT", "0"]
    finally:
        screen.close()


def test_without_colour_states_are_told_by_shape_bold_and_reverse(tmp_path):
    screen = Screen(tmp_path, ["--replay", str(RECORDINGS / "day.ndjson")], env={"NO_COLOR": "1"})
    try:
        screen.shows("■ down", "F10Quit", within=10 * SLOWNESS)
        escapes = set(re.findall(r"\x1b\[([0-9;]*)m", screen.tmux("capture-pane", "-p", "-e")))
        assert {"1", "7"} <= {part for e in escapes for part in e.split(";")}
        assert not any(30 <= int(part or 0) <= 38 or 90 <= int(part or 0) <= 97 for e in escapes for part in e.split(";")), escapes
    finally:
        screen.close()


# ---- numbers

COLUMNS = {}
for view, key, heading, form in re.findall(r'^COLUMN\((\w+), (\w+), "([^"]*)", \d+, \d+, (\w+),', (ROOT / "aigwtop" / "columns.def").read_text(), re.M):
    COLUMNS.setdefault(view.lower(), {})[heading] = (key, form)
UNITS = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "%": 0.01, "ms": 1, "us": 1e-3, "µs": 1e-3}
MS = {"s": 1e3, "m": 6e4, "h": 3.6e6}
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def read_number(text, form):
    """A number as people read it: its value, and how much its last digit is worth."""
    if form == "AGE" and (m := re.fullmatch(r"(\d+)([mh])(\d\d)[sm]?", text)):
        return int(m[1]) * SECONDS[m[2]] + int(m[3]) * SECONDS["s" if m[2] == "m" else "m"], SECONDS["s" if m[2] == "m" else "m"]
    m = re.fullmatch(r"\$?([\d,]+(\.\d+)?)(\D*)", text)
    scale = (SECONDS if form == "AGE" else MS if form == "MS" and m[3] in MS else UNITS)[m[3]]
    scale *= 0.01 if form == "PERCENT" else 1
    return float(m[1].replace(",", "")) * scale, scale * 10.0 ** -len(m[2][1:] if m[2] else "")


def cells(lines, view, top):
    """The table under the line of headings, as rows of text by column."""
    heads = [(m.start(), m.end(), m[0]) for m in re.finditer(r"\S+( \S+)*", lines[top]) if m[0] in COLUMNS[view]]
    for line in lines[top + 1:]:
        row = {}
        for start, end, heading in heads:
            form = COLUMNS[view][heading][1]
            if form in ("NAME", "TEXT", "STATUS", "BREAKER", "CLOCK", "TREND", "BAR"):
                row[heading] = line[start:].split("  ")[0].strip() if form == "NAME" else line[start:end]
            else:
                row[heading] = (line[:end].split() or [""])[-1]
        yield row


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_every_number_on_the_screen_is_the_exported_one(tmp_path, size):
    path = str(recording(tmp_path, "day"))
    compared = 0
    for view in COLUMNS:
        lines = parts(view)[("C.UTF-8", *size)].split("\n")
        top = next(i for i, line in enumerate(lines) if line.split()[:1] == next(iter(COLUMNS[view])).split()[:1])
        done = run(["aigwtop", "-b", "-o", "json", "--replay", path, "--view", view])
        first = next(iter(COLUMNS[view]))
        for truth, row in zip(json.loads(done.stdout)["data"], cells(lines, view, top), strict=False):
            if not row[first] or view == "tenants":
                continue
            for heading, text in row.items():
                key, form = COLUMNS[view][heading]
                if form in ("NAME", "TEXT", "STATUS", "BREAKER", "CLOCK", "TREND", "BAR") or truth[key] is None or not text:
                    assert form not in ("RATE", "MS", "COUNT") or text == "-" or truth[key] is not None, (view, heading, text)
                    continue
                value, last = read_number(text, form)
                assert value == pytest.approx(truth[key], abs=last), (view, heading, text, truth)
                compared += 1
    assert compared > 60


def quantile_ms(buckets, q):
    """Nearest rank over buckets of sixty-four a power of two, in the middle of its bucket."""
    rank, seen = max(1, math.ceil(q * sum(buckets.values()))), 0
    for b in sorted(buckets):
        seen += buckets[b]
        if seen >= rank:
            return (64 + b % 64 + 0.5) * 2 ** (b // 64 - 1) / 1000
    return None


def test_the_figures_are_those_of_what_was_counted(tmp_path):
    """By arithmetic of its own on the recording: rates of the last minute, everything else of the last five."""
    sample = json.loads((RECORDINGS / "day.ndjson").read_text().split("\n")[0])
    slot = sample["now_us"] - sample["now_us"] % 10_000_000
    exported = {r["provider"]: r for r in json.loads(run(["aigwtop", "-b", "-o", "json", "--replay", str(RECORDINGS / "day.ndjson")]).stdout)["data"]}
    rows = [r for r in sample["rows"] if "model" not in r]
    assert len(rows) == len(exported) == 6
    for row in rows:
        def sums(seconds):
            of = [s for s in row["slices"] if slot - seconds * 1_000_000 <= s["start_us"] <= slot]
            total = lambda name: sum(s["m"].get(name, 0) for s in of)
            buckets = {}
            for s in of:
                for b, n in zip(s["buckets"][::2], s["buckets"][1::2], strict=True):
                    buckets[b] = buckets.get(b, 0) + n
            return total, sum(s["span_us"] for s in of) / 1e6, buckets

        got = exported[row["provider"]]
        total, seconds, _ = sums(60)
        assert got["requests_per_s"] == pytest.approx(total("attempts") / seconds, rel=1e-6)
        assert got["tokens_per_s"] == pytest.approx((total("tin") + total("tout")) / seconds, rel=1e-6)
        total, seconds, buckets = sums(300)
        assert got["cost_usd_per_h"] == pytest.approx(total("cost_nano") / 1e9 * 3600 / seconds, rel=1e-6)
        if total("attempts"):
            assert got["error_rate"] == pytest.approx(total("err") / total("attempts"), rel=1e-6)
            assert got["cached_ratio"] == pytest.approx(total("tcached") / total("tin"), rel=1e-6)
            for q, key in ((0.5, "latency_p50_ms"), (0.95, "latency_p95_ms"), (0.99, "latency_p99_ms")):
                assert got[key] == pytest.approx(quantile_ms(buckets, q), rel=0.01), (row["provider"], key)
        else:
            assert got["error_rate"] is None and got["latency_p95_ms"] is None


# ---- two minutes without Redis, as the recording tells them


def later(value, us):
    """The same sample so much later."""
    if isinstance(value, dict):
        return {k: v + us if k in ("now_us", "beat_us", "start_us", "at_us", "since_us", "until_us", "resets_us") and v else later(v, us) for k, v in value.items()}
    return [later(v, us) for v in value] if isinstance(value, list) else value


def test_two_minutes_without_redis_and_back(tmp_path):
    day, lost = (json.loads((RECORDINGS / f"{name}.ndjson").read_text().split("\n")[0]) for name in ("day", "lost"))
    gone = [1, 2, 4, 8, 16, 30, 60, 90, 120]
    samples = [day, *[{**lost, "now_us": day["now_us"] + s * 1_000_000, "tries": i + 1} for i, s in enumerate(gone)], later(day, 124_000_000)]
    path = tmp_path / "outage.ndjson"
    path.write_text("".join(json.dumps(s) + "\n" for s in samples))
    screen = Screen(tmp_path, ["--replay", str(path)])
    try:
        alive = screen.shows("○ REPLAY", "61.2", "9.12", within=10 * SLOWNESS)
        for i, seconds in enumerate(gone):
            screen.keys("r")
            text = screen.shows(f"STALE {f'{seconds}s' if seconds < 120 else '2m'}", f"Try {i + 1},", "Rates are blank", within=10 * SLOWNESS)
            row = next(line for line in text.split("\n") if "openrouter" in line)
            assert "61.2" not in row and "9.12" not in row and "815ms" in row and "○" in row
        screen.keys("r")
        back = screen.shows("○ REPLAY", "61.2", "9.12", within=10 * SLOWNESS)
        table = lambda text: [line for line in text.split("\n") if re.search(r"openrouter|groq|fireworks ", line)][:3]
        assert [line[:66] for line in table(back)] == [line[:66] for line in table(alive)]
        screen.keys("Q")
        screen.shows("EXIT 0")
    finally:
        screen.close()
