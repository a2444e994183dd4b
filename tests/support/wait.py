# SPDX-License-Identifier: Apache-2.0
"""Waiting with a deadline. Tests never sleep for a fixed time and hope."""

import time


def eventually(check, within=10.0, every=0.02, what=""):
    """Calls `check` until it returns something true, and returns that. An AssertionError in it counts as "not yet"."""
    deadline = time.monotonic() + within
    while True:
        trouble = None
        try:
            result = check()
            if result:
                return result
        except AssertionError as e:
            result, trouble = None, e
        if time.monotonic() >= deadline:
            text = f"{what or getattr(check, '__name__', 'condition')}: not within {within} s, last result {result!r}"
            raise AssertionError(text) from trouble
        time.sleep(every)
