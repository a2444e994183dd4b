# SPDX-License-Identifier: Apache-2.0
"""A program on a real terminal: tmux, with a server of its own that ends with the test."""

import os
import shlex
import subprocess

from support.process import BIN, SCRUBBED
from support.wait import eventually


class Screen:
    """`aigwtop` in a window of the given size; what is on it, keys into it, other sizes."""

    def __init__(self, directory, args, env=None, width=80, height=24, locale="C.UTF-8", term=None):
        self.socket, self.directory = str(directory / "tmux.sock"), directory
        variables = {"LC_ALL": locale, **(env or {})}
        settings = [x for name, value in variables.items() for x in ("-e", f"{name}={value}")]
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), *settings, "sh", "-c", self.line(args, term))

    @staticmethod
    def line(args, term=None):
        program = shlex.join([*(["env", f"TERM={term}"] if term else []), str(BIN / "aigwtop"), "--no-config", *args])
        return f"stty -a > before; {program}; echo EXIT $?; stty -a > after; sleep 600"

    def again(self, args):
        """Another run in the same window, which begins empty."""
        self.tmux("respawn-pane", "-k", "sh", "-c", self.line(args))

    def tmux(self, *words):
        scrubbed = {k: v for k, v in os.environ.items() if not SCRUBBED.match(k) and k != "TMUX"}
        return subprocess.run(["tmux", "-u", "-S", self.socket, *words], cwd=self.directory, env={**scrubbed, "LC_ALL": "C.UTF-8"},
                              check=True, capture_output=True, text=True, timeout=20).stdout

    def text(self):
        return self.tmux("capture-pane", "-p")

    def coloured(self):
        return self.tmux("capture-pane", "-e", "-p")

    def lines(self):
        return self.text().split("\n")

    def keys(self, *names):
        for name in names:
            self.tmux("send-keys", name)

    def types(self, text):
        """Its bytes as they are, at once."""
        self.tmux("send-keys", "-l", text)

    def resize(self, width, height):
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def shows(self, *words, within=15.0):
        """The screen once it has all of these."""
        def look():
            text = self.text()
            return text if all(word in text for word in words) else None

        try:
            return eventually(look, within, every=0.1, what=f"{words} on the screen")
        except AssertionError:
            raise AssertionError(f"{words} not on the screen:\n{self.text()}") from None

    def row(self, name):
        """The words of the line that begins with a name."""
        for line in self.lines():
            if line.split()[:1] == [name]:
                return line.split()
        return None

    def pid(self):
        """Of the program; the shell's child."""
        shell = self.tmux("display-message", "-p", "#{pane_pid}").strip()
        return int(open(f"/proc/{shell}/task/{shell}/children").read().split()[0])

    def close(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], capture_output=True, check=False)
