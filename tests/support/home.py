# SPDX-License-Identifier: Apache-2.0
"""A user's home as cron sees it: HOME, PATH, SHELL and LOGNAME are all that a command is given, and ctl.yaml is all that it knows."""

import os
import subprocess
from pathlib import Path

import yaml

from support.process import BIN, ROOT, SANITIZER

CRONTAB = ROOT / "deploy/cron/gatewayd-tools"


def cron_line():
    """The command of the line that is shipped, without its schedule and user, and the PATH above it."""
    lines = [line for line in CRONTAB.read_text().splitlines() if line and not line.startswith("#")]
    (path,) = [line.removeprefix("PATH=") for line in lines if line.startswith("PATH=")]
    (command,) = [line.split(None, 6)[6] for line in lines if not line.startswith("PATH=")]
    # Where systemd runs, its timer does it, and the line's first half ends it.
    return command.split("|| ", 1)[1] if os.path.exists("/run/systemd/system") else command, path


class Home:
    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.file = self.directory / ".config/gatewayd/ctl.yaml"
        self.command, path = cron_line()
        self.env = {"HOME": str(directory), "PATH": f"{BIN}:{path}", "SHELL": "/bin/sh", "LOGNAME": "gatewayd"}

    def write(self, current, **contexts):
        self.file.parent.mkdir(parents=True, exist_ok=True)
        known = {name: {key.replace("_", "-"): value for key, value in c.items()} for name, c in contexts.items()}
        self.file.write_text(yaml.safe_dump({"current-context": current, "contexts": known}))

    def __call__(self, *args, code=0, **env):
        done = subprocess.run(["aigwctl", *map(str, args)], env={**self.env, **env}, cwd=self.directory, capture_output=True, text=True,
                              timeout=60, stdin=subprocess.DEVNULL)
        assert not SANITIZER.search(done.stderr), done.stderr
        assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
        return done

    def cron(self, more=""):
        """Starts the line as cron does, with `more` behind it; see ended()."""
        return subprocess.Popen(["/bin/sh", "-c", self.command + more], env=self.env, cwd=self.directory, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(lines, codes=(0,)):
    """Waits for all of them. What a line prints is mailed to an operator, so one that went well prints nothing."""
    mails = []
    for line in lines:
        out, err = line.communicate(timeout=90)
        assert not SANITIZER.search(err), err
        assert line.returncode in codes, (line.args[-1], line.returncode, out, err)
        assert out == "" and (err == "") == (line.returncode == 0), (line.returncode, out, err)
        mails.append(err)
    return mails
