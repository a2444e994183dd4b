# SPDX-License-Identifier: Apache-2.0
"""Pages and screens as they are kept. GOLDEN=write writes them anew, but never where CI is set: there they are what is judged by."""

import os


def may_write():
    return os.environ.get("GOLDEN") == "write" and not os.environ.get("CI")


def same(path, text):
    """Whether the page is the one that is kept; it is from now on where pages are written."""
    if may_write():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return path.exists() and path.read_text() == text
