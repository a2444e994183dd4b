# SPDX-License-Identifier: Apache-2.0
"""A real browser without a window: pictures of a page, and what the page asked for and complained about."""

import json
import re
import shutil
import subprocess
from pathlib import Path

QUIET = ("--headless=new --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --disable-background-networking --disable-component-update "
         "--disable-sync --disable-default-apps --disable-extensions --disable-dev-shm-usage --mute-audio").split()


OWN = "not an origin"


def find():
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """Everything that it writes lies in the directory. No name can be resolved, so nothing leaves the machine."""

    def __init__(self, directory, program=None):
        self.directory, self.program = Path(directory), program or find()

    def run(self, page, *words):
        log = self.directory / "net.json"
        log.unlink(missing_ok=True)
        done = subprocess.run([self.program, *QUIET, f"--user-data-dir={self.directory / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
                               "--enable-logging=stderr", f"--log-net-log={log}", "--virtual-time-budget=2000", *words, Path(page).as_uri()],
                              capture_output=True, text=True, timeout=120, cwd=self.directory, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    def visit(self, page):
        """(what its scripts printed, every address that it asked for, its DOM)."""
        done = self.run(page, "--dump-dom")
        said = re.findall(r"CONSOLE[^\]]*\] (.*)", done.stderr)
        return said, sorted(self.asked()), done.stdout

    def asked(self):
        text = (self.directory / "net.json").read_text()
        try:
            log = json.loads(text)
        except ValueError:  # it was not closed
            log = json.loads(text.rstrip().rstrip(",") + "]}")
        start = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
        # What the browser asks for on its own account has no origin.
        return {e["params"]["url"] for e in log["events"] if e["type"] == start and e["params"].get("initiator", OWN) != OWN}

    def picture(self, page, file, width, height):
        self.run(page, f"--window-size={width},{height}", f"--screenshot={file}")
