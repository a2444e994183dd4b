# SPDX-License-Identifier: Apache-2.0
"""The pictures of README.md: a coloured screen becomes an SVG that says and shows the same; the HTML report opens in a real browser, asks
nobody for anything and complains about nothing."""

import re
import xml.etree.ElementTree as ET

import pytest

from support import browser
from support.gateway import model, provider, run
from support.process import ROOT, SLOWNESS, is_sanitized
from support.screen_svg import BACK, BASIC, HEIGHT, PAD, TEXT, WIDTH, svg
from support.wait import eventually

NS = "{http://www.w3.org/2000/svg}"
CAPTURE = ("\x1b[1mPROVIDER\x1b[0m  \x1b[31m49.0\x1b[39m <&>\n"
           "\x1b[30;47mchosen \x1b[0m█▄ \x1b[38;5;196mred\x1b[0m \x1b[38;2;1;2;3;7mback\x1b[0m\n"
           "日本 e\u0301x │⣿ \x1b[2mdim\x1b[0m\n")


def shapes(text, kind):
    return [e for e in ET.fromstring(text).iter(NS + kind)]


def place(column, line):
    return str(PAD + column * WIDTH), PAD + line * HEIGHT


def test_a_screen_becomes_a_picture_that_says_and_shows_the_same():
    text = svg(CAPTURE, "a screen")
    words = {e.text: e for e in shapes(text, "text")}
    assert list(words) == ["PROVIDER", "49.0", "<&>", "chosen", "red", "back", "日本", "e\u0301x", "dim"]
    assert [words[w].get("x") for w in ("49.0", "red", "日本", "e\u0301x")] == [place(c, 0)[0] for c in (10, 10, 0, 5)]
    assert [words[w].get("textLength") for w in ("日本", "e\u0301x")] == [str(4 * WIDTH), str(2 * WIDTH)]
    assert words["PROVIDER"].get("font-weight") == "bold" and words["dim"].get("fill-opacity") and words["<&>"].get("fill") == TEXT
    assert [words[w].get("fill") for w in ("49.0", "chosen", "red", "back")] == [BASIC[1], BASIC[0], "#ff0000", BACK]
    boxes = {(e.get("x"), float(e.get("y")), e.get("width"), float(e.get("height")), e.get("fill")) for e in shapes(text, "rect") if e.get("x")}
    x, y = place(7, 1)
    assert {(x, y, str(WIDTH), HEIGHT, TEXT), (place(8, 1)[0], y + HEIGHT / 2, str(WIDTH), HEIGHT / 2, TEXT)} <= boxes  # blocks
    assert (place(0, 1)[0], y, str(7 * WIDTH), HEIGHT, BASIC[7]) in boxes and (place(14, 1)[0], y, str(4 * WIDTH), HEIGHT, "#010203") in boxes  # grounds
    assert sum(b[2] == "2" for b in boxes) == 8 and any(b[2] == "1" for b in boxes)  # braille, a line
    assert svg(CAPTURE, "a screen") == text and not re.search(r"href|url\(|<script|@import", text)


@pytest.mark.skipif(not browser.find(), reason="no chromium")
@pytest.mark.skipif(is_sanitized(), reason="a story about other programs")
def test_the_report_opens_in_a_browser_and_asks_nobody_for_anything(stage, tmp_path):
    sim = stage.simulator()
    gateway = stage.gateway([provider("openai", sim.base_url("openai"))], [model("chat", "openai/gpt-4o-mini")])
    assert gateway.chat().status == 200
    page, bad, token = tmp_path / "day.html", tmp_path / "bad.html", tmp_path / "token"
    token.write_text(gateway.ready["admin_token"])
    token.chmod(0o600)

    def report():
        done = run(["aigwctl", "--url", gateway.admin_url, "--token-file", token, "report", "daily", "--format", "html"], directory=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout if "openai" in done.stdout else None

    page.write_text(eventually(report, 20 * SLOWNESS, 0.2, what="the request in the report"))
    real = browser.Browser(tmp_path)
    said, asked, shown = real.visit(page)
    assert (said, asked) == ([], []) and "<svg" in shown and "openai" in shown and ">Before<" not in shown
    bad.write_text('<img src="http://example.invalid/x.png"><script>console.error("not good")</script>')
    said, asked, _ = real.visit(bad)  # what it must not do would be seen
    assert asked == ["http://example.invalid/x.png"] and len(said) == 1 and "not good" in said[0]


def test_the_pictures_of_the_readme_are_small_and_need_nothing_else():
    linked = set(re.findall(r"\]\((docs/images/[^)]+)\)", (ROOT / "README.md").read_text()))
    files = {str(f.relative_to(ROOT)) for f in (ROOT / "docs/images").iterdir()}
    assert linked == files == {"docs/images/aigwtop.svg", "docs/images/report.png"}
    for name in files:
        data = (ROOT / name).read_bytes()
        assert 5000 < len(data) < 200_000, name
        if name.endswith(".png"):
            assert data.startswith(b"\x89PNG\r\n\x1a\n")
        else:
            assert "sim-fast" in {e.text for e in shapes(data.decode(), "text")}
            assert not re.search(rb"href|url\(|<script|@import|/root|/work", data)
