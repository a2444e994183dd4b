# SPDX-License-Identifier: Apache-2.0
"""What the compiler does not check: which way includes point, where third-party headers live, banned calls,
format, licence lines, paths of one machine. Prints one line per finding and a closing count."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# A folder may include folders of a lower rank, of its own rank, and itself.
RANK = {
    "libshared": 0,
    "gatewayd/core": 1,
    "gatewayd/config": 2,
    "gatewayd/directory": 3,
    "gatewayd/http": 3,
    "gatewayd/provider": 4,
    "gatewayd/resilience": 4,
    "gatewayd/limits": 4,
    "gatewayd/telemetry": 4,
    "gatewayd/journal": 4,
    "gatewayd/sim": 4,
    "gatewayd/proxy": 5,
    "gatewayd/books": 5,
    "gatewayd/health": 5,
    "gatewayd/api": 5,
    "gatewayd": 6,
}
# Narrower than their rank.
ONLY = {
    "gatewayd/provider": {"libshared", "gatewayd/provider"},
    "aigwctl": {"libshared", "aigwctl"},
    "aigwtop": {"libshared", "aigwtop"},
}
# Wider than their rank, each with its reason.
ALLOWED = {
    ("gatewayd/config", "gatewayd/provider/pricing.h"): "a snapshot owns the price table that its targets point into",
    ("gatewayd/api", "gatewayd/gateway.h"): "the accessors of what the process owns; the header names no worker",
}

HOMES = {
    "microhttpd.h": {"gatewayd/http/server_priv.h"},
    "curl/": {"libshared/api/client.c"},
    "openssl/ssl.h": {"gatewayd/http/tls.c"},
    "hiredis": {"libshared/store/"},
    "libpq-fe.h": {"libshared/store/"},
    "sqlite3.h": {"libshared/store/"},
    "zlib.h": {"libshared/analytics/archive.c"},
    "curses.h": {"aigwtop/view/"},
    "ncurses": {"aigwtop/view/"},
    "panel.h": {"aigwtop/view/"},
    "yaml.h": {"libshared/yaml/"},
    "libsmartcols": {"libshared/cli/"},
}

BANNED = "strcpy strcat sprintf vsprintf strtok gmtime localtime system popen gets".split()
BANNED_CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
# Written in two parts so that this file does not find itself.
MACHINE_PATH = re.compile(r"(?<![\w.$}/-])/(?:wo" r"rk|far" r"m|ro" r"ot|ho" r"me/\w+)/")
LONGEST = 800

findings: list[str] = []


def report(path, line, text):
    findings.append(f"{path}:{line}: {text}")


def tracked():
    out = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    return [p for p in out.decode().split("\0") if p and (ROOT / p).is_file()]


COMMENT_OR_TEXT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def code_only(text):
    """Comments and literals become blanks; line numbers stay."""
    return COMMENT_OR_TEXT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def folder_of(path):
    parts = path.split("/")
    if parts[0] == "gatewayd" and len(parts) > 2:
        return "/".join(parts[:2])
    return parts[0]


def check_include(path, line, target):
    source, aim = folder_of(path), folder_of(target)
    if source == aim or (source, target) in ALLOWED:
        return
    if source in ONLY:
        if aim not in ONLY[source]:
            report(path, line, f"'{target}': {source}/ sees only {', '.join(sorted(ONLY[source]))}")
        return
    if source not in RANK:
        report(path, line, f"{source}/ has no rank in tests/support/lint.py")
    elif aim not in RANK:
        report(path, line, f"'{target}' is not a header of the daemon or of libshared")
    elif RANK[aim] > RANK[source]:
        report(path, line, f"'{target}' points upward: {source} is below {aim}")
    if target.endswith("_priv.h"):
        report(path, line, f"'{target}' is private to {aim}/")


INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def check_c(path, text):
    product = path.startswith(("gatewayd/", "libshared/", "aigwctl/", "aigwtop/"))
    for m in INCLUDE.finditer(text):
        line, target = text.count("\n", 0, m.start()) + 1, m.group(2)
        if m.group(1) == '"':
            if "/" not in target:
                report(path, line, f"'{target}': includes are written from the root of the tree")
            elif product:
                check_include(path, line, target)
        for header, homes in HOMES.items():
            if target.startswith(header) and product and not any(path.startswith(h) for h in homes):
                report(path, line, f"<{target}> belongs to {' and '.join(sorted(homes))} only")
    bare = code_only(text)
    for m in BANNED_CALL.finditer("" if path == "libshared/base/banned.h" else bare):  # the one that names them
        report(path, bare.count("\n", 0, m.start()) + 1, f"{m.group(1)}() is banned")
    if not text.startswith("/* SPDX-License-Identifier: Apache-2.0 */"):
        report(path, 1, "the first line is not the SPDX line")
    if (lines := text.count("\n")) > LONGEST and path.endswith(".c"):
        report(path, LONGEST, f"{lines} lines: look for the seam")


def check_format(files):
    if not files:
        return
    out = subprocess.run(
        ["clang-format", "--dry-run", "--ferror-limit=3", *files], cwd=ROOT, capture_output=True, text=True
    )
    for m in re.finditer(r"^(\S+?):(\d+):\d+: (?:warning|error): code should be clang-formatted", out.stderr, re.M):
        report(m.group(1), m.group(2), "not formatted: run ./dev format")
    if out.returncode != 0 and not findings:
        report("clang-format", 0, out.stderr.strip().splitlines()[0])


def check_script(path, text):
    run = subprocess.run(["bash", "-n", path], cwd=ROOT, capture_output=True, text=True)
    if run.returncode != 0:
        report(path, 1, run.stderr.strip())
    if "SPDX-License-Identifier" not in text.splitlines()[1]:
        report(path, 2, "no SPDX line")


def check_python(path, text):
    try:
        compile(text, path, "exec")
    except SyntaxError as e:
        report(path, e.lineno, e.msg)
    if not text.startswith("# SPDX-License-Identifier: Apache-2.0"):
        report(path, 1, "the first line is not the SPDX line")


def main():
    files = tracked()
    c_files = [p for p in files if p.endswith((".c", ".h"))]
    for path in files:
        raw = (ROOT / path).read_bytes()
        if b"\0" in raw or path.startswith(("tests/fuzz/corpus/", "tests/fuzz/regressions/")):
            continue
        text = raw.decode("utf-8", "replace")
        for m in MACHINE_PATH.finditer(text):
            report(path, text.count("\n", 0, m.start()) + 1, f"a path of one machine: {m.group()}")
        if path in c_files:
            check_c(path, text)
        elif path.endswith(".py"):
            check_python(path, text)
        elif text.startswith("#!/usr/bin/env bash"):
            check_script(path, text)
    check_format(c_files)
    for line in findings:
        print(line)
    print(f"lint: {len(files)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
