# SPDX-License-Identifier: Apache-2.0
"""A program under test: started in a directory of its own, watched, stopped by its process id, and judged at the end
by its exit code and by what a sanitizer wrote."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("GATEWAYD_BIN", ROOT / "build" / "bin"))

# What a test inherits from the shell must not configure a gateway.
SCRUBBED = re.compile(r"^(GATEWAYD_|OPENAI_|ANTHROPIC_|GEMINI_|REDIS_|DATABASE_URL|OTEL_|SENTRY_|METRICS_|.*_API_KEY$|.*_proxy$|.*_PROXY$)")
SANITIZER = re.compile(r"ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|runtime error:")
SLOWNESS = 4.0 if re.search(r"-(asan|tsan)\b", str(BIN)) else 1.0
IS_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")


def is_sanitized():
    return SLOWNESS > 1


def has_crash_points():
    """Asked of both programs that die at them: a build has all or none."""
    programs = [BIN / name for name in ("gatewayd", "aigwctl")]
    return all(p.exists() and b"GATEWAYD_CRASH" in p.read_bytes() for p in programs)


class Process:
    def __init__(self, directory, name, args, env=None, program="gatewayd"):
        self.directory, self.name = Path(directory), name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.args, self.env, self.program = [str(a) for a in args], dict(env or {}), program
        self.ready_file = self.directory / f"{name}.ready"
        self.stderr_file = self.directory / f"{name}.stderr"
        self.child, self.ready = None, {}
        self.expects_clean_exit = True

    def environment(self):
        kept = {k: v for k, v in os.environ.items() if not SCRUBBED.match(k)}
        return {**kept, **self.env}

    def start(self, within=10.0):
        self.spawn()
        deadline = time.monotonic() + within * SLOWNESS
        while not self.ready_file.exists():
            if self.child.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.child.returncode} before it was ready:\n{self.stderr()}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{self.name} was not ready within {within * SLOWNESS} s:\n{self.stderr()}")
            time.sleep(0.01)
        self.ready = json.loads(self.ready_file.read_text())
        return self

    def spawn(self):
        self.ready_file.unlink(missing_ok=True)
        with open(self.stderr_file, "ab") as err:
            self.child = subprocess.Popen(
                [BIN / self.program, *self.args], stdin=subprocess.DEVNULL, stdout=err, stderr=err,
                env=self.environment(), cwd=self.directory,
            )

    @property
    def pid(self):
        return self.child.pid

    def stderr(self):
        return self.stderr_file.read_text(errors="replace") if self.stderr_file.exists() else ""

    def is_running(self):
        return self.child is not None and self.child.poll() is None

    def signal(self, number):
        self.child.send_signal(number)

    def wait(self, within=20.0):
        return self.child.wait(within * SLOWNESS)

    def kill(self):
        if self.is_running():
            self.child.kill()
            self.child.wait()

    def stop(self, within=20.0):
        """SIGTERM, a second SIGTERM after half the time, SIGKILL at its end, which is a failure."""
        if self.child is None:
            return
        if self.is_running():
            self.signal(signal.SIGTERM)
            for _ in range(2):
                try:
                    self.wait(within / 2)
                    break
                except subprocess.TimeoutExpired:
                    self.signal(signal.SIGTERM)
            else:
                self.kill()
                raise AssertionError(f"{self.name} did not end within {within} s of SIGTERM:\n{self.stderr()[-4000:]}")
        self.judge()

    def judge(self):
        text = self.stderr()
        found = SANITIZER.search(text)
        assert not found, f"{self.name}: sanitizer report:\n{text[max(0, found.start() - 200):][:8000]}"
        if self.expects_clean_exit:
            assert self.child.returncode == 0, f"{self.name} ended with {self.child.returncode}:\n{text[-4000:]}"

    # What the kernel says about it.
    def fds(self):
        """Open descriptors. Of a gateway only root may see them: it hides its memory; ask its process_open_fds."""
        return os.listdir(f"/proc/{self.pid}/fd")

    def rss_bytes(self):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
