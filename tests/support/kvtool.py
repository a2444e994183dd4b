# SPDX-License-Identifier: Apache-2.0
"""The realtime store as a conversation with `kvtool`."""

import json
import os
import subprocess

from support.process import BIN, SLOWNESS


class KvTool:
    def __init__(self, url, deadline_ms=1000):
        self.child = subprocess.Popen(
            [BIN / "kvtool", url, str(int(deadline_ms * SLOWNESS))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ},
        )

    def fill(self, *words):
        self.child.stdin.write("\t".join(str(w) for w in words) + "\n")

    def ask(self, *words):
        self.fill(*words)
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        assert line, f"kvtool ended with {self.child.wait()}"
        return json.loads(line)

    def hash(self, key):
        answer = self.ask("hash", key)
        assert answer["result"] == "ok", answer
        return dict(answer["rows"])

    def close(self):
        self.child.stdin.close()
        code = self.child.wait(20)
        self.child.stdout.close()
        assert code == 0
