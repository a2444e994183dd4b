# SPDX-License-Identifier: Apache-2.0
"""What a program shows on a terminal of so many columns."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

from support.process import BIN, Process


def on_terminal(args, directory, columns=80, env=None, timeout=30):
    """The lines, as they were printed, without colours; the exit code must be 0."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    scratch = Process(directory, "terminal", [], {"TERM": "xterm", "LC_ALL": "C.UTF-8", **(env or {})})
    child = subprocess.Popen([BIN / args[0], *map(str, args[1:])], stdin=theirs, stdout=theirs, stderr=theirs,
                             env=scratch.environment(), cwd=scratch.directory)
    os.close(theirs)
    out = b""
    try:
        while data := os.read(ours, 65536):
            out += data
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    code = child.wait(timeout)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.decode()).replace("\r\n", "\n")
    assert code == 0, (code, text)
    return text.splitlines()
