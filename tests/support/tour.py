# SPDX-License-Identifier: Apache-2.0
"""The tour of README.md, taken for real: a demo, every command that the page shows, and what it printed.

Usage: tour.py [BUILD-BIN-DIR] [--write]. Prints the blocks; with --write puts them into README.md.

A block of the tour is a fence with a comment before it: `<!-- tour -->`, where `wait 9s` in it lets time pass first and
`fails` says that the last command ends with an error. Lines that begin with `$ ` are the commands; all else in the block
is their output, on a terminal of 80 columns. Assignments and functions hold for the blocks that follow. KEY is the
demo's; `./dev demo` stands for the running demo and shows its picture. Whatever port is free here, the page says 8080, and
/tmp for the directory of this run."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.process import BIN, ROOT, SCRUBBED  # noqa: E402

COLUMNS, LONGEST, PORT = 80, 128, 8080
BLOCK = re.compile(r"(<!-- tour(?P<how>[^\n]*?) ?-->\n```\n)(?P<body>.*?)(?=```\n)", re.S)
DEFINITION = re.compile(r"(export )?\w+=\S*( \w+=\S+)*$|\w+\(\)")
LONG_FRAME = re.compile(r"\x1b\[\d+A\r\x1b\[J")


def plain(text):
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace("\r\n", "\n"))
    return [line if len(line) <= LONGEST else line[: LONGEST - 1] + "…" for line in text.rstrip("\n").split("\n")]


class Terminal:
    """A program on a terminal of 80 columns; what it has printed so far."""

    def __init__(self, args, env):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        self.child = subprocess.Popen(args, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=ROOT)
        os.close(theirs)
        self.ours, self.raw = ours, b""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        try:
            while data := os.read(self.ours, 65536):
                self.raw += data
        except OSError:  # the other end is closed
            pass

    @property
    def text(self):
        return self.raw.decode(errors="replace")

    def wait(self, within):
        code = self.child.wait(within)
        self.reader.join(5)
        os.close(self.ours)
        return code


class Tour:
    def __init__(self, directory, bin_dir=BIN, port=PORT):
        self.bin_dir, self.directory, self.definitions = Path(bin_dir).resolve(), Path(directory), []
        kept = {k: v for k, v in os.environ.items() if not SCRUBBED.match(k)}
        self.env = {**kept, "XDG_STATE_HOME": str(directory), "TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": "1",
                    "PATH": f"{self.bin_dir}:{os.environ['PATH']}"}
        self.demo = Terminal([self.bin_dir / "aigwctl", "demo", "--port", str(port)], self.env)

    def __enter__(self):
        deadline = time.monotonic() + 30
        while not (found := re.search(r"API +http://[^:]+:(\d+)(?s:.*?)key +(\S+)(?s:.*)Ctrl-C stops", self.demo.text)):
            if self.demo.child.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no demo:\n{self.demo.text}")
            time.sleep(0.1)
        self.real_port, self.env["KEY"] = found[1], found[2]
        return self

    def __exit__(self, *_):
        self.demo.child.send_signal(signal.SIGINT)
        self.demo.wait(30)

    def shown(self, text):
        text = text.replace(str(self.bin_dir), "./build/bin").replace(f"{ROOT}/", "").replace(f":{self.real_port}", f":{PORT}")
        text = text.replace(f"{self.directory}/", "/tmp/")
        text = re.sub(r"  port \d+ is taken.*\n", "", text)
        return plain(text)

    def picture(self):
        """The banner, and the latest of the frames that are drawn over each other."""
        first, *frames = LONG_FRAME.split(self.demo.text)
        banner = first.partition("stops and removes everything.")
        return self.shown("".join(banner[:2]) + "\n\n" + (frames[-1] if frames else banner[2].lstrip()))

    def run(self, command):
        """The exit code and the lines."""
        if command == "./dev demo":
            return 0, self.picture()
        if command.startswith("./dev demo "):
            done = Terminal([self.bin_dir / "aigwctl", "demo", *command.split()[2:]], self.env)
            code = done.wait(60)
            return code, ["…", *self.shown(done.text[done.text.rfind("Report"):])]
        if DEFINITION.match(command):
            if not command.startswith("KEY="):
                self.definitions.append(command.replace("$PWD/build/bin", str(self.bin_dir)))
            return 0, []
        script = "set -o pipefail\n" + "\n".join([*self.definitions, command])
        script = script.replace(f":{PORT}", f":{self.real_port}").replace("/tmp/", f"{self.directory}/")
        done = Terminal(["bash", "-c", script], self.env)
        code = done.wait(60)
        return code, self.shown(done.text) if done.text else []


def commands_of(body):
    """As they are written, and in one piece."""
    return re.findall(r"^\$ ((?:.*\\\n)*.*)$", body, re.M)


def take(text, tour):
    """Yields (block, [(command, code, lines)], should the last fail) of every block of the page."""
    for block in BLOCK.finditer(text):
        if pause := re.search(r"wait (\d+)s", block["how"]):
            time.sleep(int(pause[1]))
        yield block, [(c, *tour.run(c)) for c in commands_of(block["body"])], "fails" in block["how"]


def main():
    words = [w for w in sys.argv[1:] if w != "--write"]
    page = ROOT / "README.md"
    text, out, at, wrong = page.read_text(), "", 0, 0
    with tempfile.TemporaryDirectory(prefix="tour-") as directory, Tour(directory, words[0] if words else BIN) as tour:
        for block, done, fails in take(text, tour):
            lines = []
            for i, (command, code, printed) in enumerate(done):
                lines += [f"$ {command}", *printed]
                if (code != 0) != (fails and i == len(done) - 1):
                    wrong += 1
                    print(f"tour: exit {code}: {command}", file=sys.stderr)
            body = "\n".join(line.rstrip() for line in lines) + "\n"
            out += text[at:block.start()] + block[1] + body
            at = block.end()
            if "--write" not in sys.argv:
                print(body)
    if "--write" in sys.argv and not wrong:
        page.write_text(out + text[at:])
        print("README.md: written")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
