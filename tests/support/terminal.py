# SPDX-License-Identifier: Apache-2.0
"""What a program shows on a terminal of so many columns."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from support.process import BIN, Process


def typed(args, environment, directory, columns=80, rows=60, timeout=60):
    """The exit code and all that the terminal got, on both streams; nobody types anything into it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    child = subprocess.Popen([BIN / args[0], *map(str, args[1:])], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment,
                             cwd=directory, start_new_session=True)
    os.close(theirs)
    out, deadline = b"", time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.5)[0]:
                continue
            if not (data := os.read(ours, 65536)):
                break
            out += data
    except OSError:  # the other end is closed
        pass
    if time.monotonic() >= deadline:
        child.kill()
    os.close(ours)
    return child.wait(10), out.decode().replace("\r\n", "\n")


def on_terminal(args, directory, columns=80, env=None):
    """The lines, as they were printed, without colours; the exit code must be 0."""
    scratch = Process(directory, "terminal", [], {"TERM": "xterm", "LC_ALL": "C.UTF-8", **(env or {})})
    code, text = typed(args, scratch.environment(), scratch.directory, columns, 40)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert code == 0, (code, text)
    return text.splitlines()
