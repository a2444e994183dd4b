# SPDX-License-Identifier: Apache-2.0
"""What the scripts of tests/soak share: wrk as a load without an end of its own, and a command line."""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from support.process import ROOT
from support.stage import Stage


def wrk(gateway, script, connections, **environment):
    """Runs until it is told to stop by SIGINT; its report is in its output."""
    return subprocess.Popen(
        ["wrk", "-t1", f"-c{connections}", "-d86400s", "--timeout", "60s", "-s", ROOT / "tests" / "soak" / script, gateway.url],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **{k: str(v) for k, v in environment.items()}})


def main(about, run, **numbers):
    """Runs `run(stage, **numbers)` and prints the summary that it returns; each number is an option of that name."""
    parser = argparse.ArgumentParser(description=about.split("\n", maxsplit=1)[0])
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--directory", help="of logs and state; a temporary one by default")
    o = vars(parser.parse_args())
    directory = o.pop("directory")
    with tempfile.TemporaryDirectory(prefix="gatewayd-soak-") as temporary, Stage(Path(directory or temporary)) as stage:
        print(run(stage, **o))
