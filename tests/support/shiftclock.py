# SPDX-License-Identifier: Apache-2.0
"""Wall clocks of programs under test, moved while they run (tests/support/shiftclock.c). Monotonic clocks stay.

    clock = ShiftClock(directory / "clock")
    gateway = stage.gateway(..., env=clock.env)
    clock.stand(instant("2026-12-01") - 1)        # the last nanosecond of November, until told otherwise
    clock.run(instant("2026-12-01"))              # goes on from there
"""

import mmap
import struct
import time
from datetime import datetime, timezone

from support.process import BIN

SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR


def instant(text):
    """Nanoseconds since 1970, of ISO text; UTC where it names no offset."""
    at = datetime.fromisoformat(text)
    return int((at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()) * SECOND


class ShiftClock:
    def __init__(self, path):
        self.env = {"LD_PRELOAD": str(BIN / "libshiftclock.so"), "SHIFTCLOCK_FILE": str(path),
                    "ASAN_OPTIONS": "verify_asan_link_order=0"}
        path.write_bytes(bytes(16))
        with open(path, "r+b") as f:
            self.told = mmap.mmap(f.fileno(), 16)

    def stand(self, ns):
        """Still at that instant."""
        self.told[8:16] = struct.pack("=q", ns)

    def run(self, ns):
        """From that instant on."""
        self.told[0:8] = struct.pack("=q", ns - time.time_ns())
        self.told[8:16] = bytes(8)

    def now(self):
        offset, still = struct.unpack("=qq", self.told[:])
        return still or time.time_ns() + offset
