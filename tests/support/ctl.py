# SPDX-License-Identifier: Apache-2.0
"""aigwctl with a home of its own, as a script calls it and as it looks on a terminal."""

import json
import subprocess

from support.process import BIN, ROOT, Process
from support.terminal import typed

GOLDEN = ROOT / "tests" / "golden" / "aigwctl"


def environment(home, url=None, **more):
    scratch = Process(home, "run", [], {
        "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"), "LC_ALL": "C.UTF-8", "TERM": "xterm", "TZ": "UTC", **({"GATEWAYD_URL": url} if url else {}), **more})
    of_the_shell = {"NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "PAGER", "COLUMNS"} - set(more)
    return {k: v for k, v in scratch.environment().items() if k not in of_the_shell}


class Ctl:
    def __init__(self, home, url):
        self.home, self.url = home, url

    def __call__(self, *args, code=0, **env):
        done = subprocess.run([BIN / "aigwctl", *map(str, args)], env=environment(self.home, self.url, **env), cwd=self.home,
                              capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *args, **more):
        return json.loads(self(*args, "-o", "json", **more).stdout)


def on_terminal(home, url, args, columns=80, rows=60, **env):
    """The exit code and what a terminal of that size gets."""
    return typed(["aigwctl", *args], environment(home, url, **env), home, columns, rows)
