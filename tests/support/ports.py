# SPDX-License-Identifier: Apache-2.0
"""Ports for servers that cannot be told to choose one themselves, and the stopping of what runs on them."""

import os
import signal
import socket
import subprocess
from pathlib import Path


def free_port():
    """Free now; whoever starts a server on it tries again with another when it was taken meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def children(pid):
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def family(pid):
    """The process and everything that descends from it, parents first."""
    found = [pid]
    for child in children(pid):
        found += family(child)
    return found


def tell(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def end(child, number=signal.SIGTERM, within=15.0):
    """Ends a child of ours by its id; the hard way when it does not listen."""
    if child.poll() is None:
        tell([child.pid], signal.SIGCONT)
        child.send_signal(number)
        try:
            child.wait(within)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
