# SPDX-License-Identifier: Apache-2.0
"""The pictures of README.md, taken of a real demo: aigwtop on a terminal as an SVG, and the HTML report in a browser as a PNG.

Usage: pictures.py [--out-dir DIR]     (needs tmux and chromium; docs/images by default)"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.browser import Browser  # noqa: E402
from support.process import BIN, ROOT  # noqa: E402
from support.screen import Screen  # noqa: E402
from support.screen_svg import svg  # noqa: E402
from support.tour import PORT, Tour  # noqa: E402

WARM_UP_S, TROUBLE_S = 100, 20  # so long the demo runs, and then with a provider that fails


def ctl(tour, *words):
    done = subprocess.run([tour.bin_dir / "aigwctl", "-c", "demo", *words], env=tour.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def top(directory, tour, out):
    """It is there from the start, so that its curves have something to show."""
    screen = Screen(directory, ["-c", "demo"], {"XDG_STATE_HOME": str(tour.directory)}, 100, 26)
    try:
        time.sleep(WARM_UP_S)
        ctl(tour, "mock", "set", "sim-flaky", "--error-rate", "100%")
        screen.shows("sim-fast", "down", within=60)
        time.sleep(TROUBLE_S)
        (out / "aigwtop.svg").write_text(svg(shown(tour, screen.coloured()), "aigwtop beside the demo"))
    finally:
        screen.close()


def shown(tour, text):
    """Whatever port is free here, the page says 8080."""
    return text.replace(f":{tour.real_port}", f":{PORT}".ljust(len(tour.real_port) + 1))


def report(directory, tour, out):
    page = directory / "report.html"
    ctl(tour, "report", "daily", "--format", "html", "--out-file", str(page))
    browser = Browser(directory)
    browser.picture(page, directory / "report.png", 1000, 1040)
    said, asked, _ = browser.visit(page)
    assert not said and not asked, (said, asked)
    (out / "report.png").write_bytes((directory / "report.png").read_bytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out-dir", default=ROOT / "docs/images", type=Path)
    o = parser.parse_args()
    o.out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-") as name, Tour(name, BIN) as tour:
        directory = Path(name)
        top(directory, tour, o.out_dir)
        report(directory, tour, o.out_dir)
    for file in sorted(o.out_dir.iterdir()):
        print(f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}: {file.stat().st_size / 1024:.1f} KiB")


if __name__ == "__main__":
    main()
