# SPDX-License-Identifier: Apache-2.0
"""Writes the generated files from the tables in the sources; with --check compares instead.

Usage: gen.py BUILD-BIN-DIR [--check]. Each row below is a file and the command whose output it is. A file that has a
line `<!-- begin: generated … -->` and a line `<!-- end -->` (in manual pages `.\\" begin: generated …` and `.\\" end`) is written by hand but for what stands between them."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

GENERATED = {
    "docs/errors.md": ["gendoc", "errors"],
    "docs/configuration.md": ["gatewayd", "--print-config-docs"],
    "docs/metrics.md": ["gendoc", "metrics"],
    "docs/api.md": ["gendoc", "api"],
    "docs/aigwtop.md": ["aigwtop", "--print-docs", "markdown"],
    "man/aigwtop.1": ["aigwtop", "--print-docs", "man"],
    "docs/cli.md": ["aigwctl", "__emit", "markdown"],
    "man/aigwctl.1": ["aigwctl", "__emit", "man"],
    "completions/aigwctl.bash": ["aigwctl", "completion", "bash"],
    "completions/_aigwctl": ["aigwctl", "completion", "zsh"],
    "completions/aigwctl.fish": ["aigwctl", "completion", "fish"],
    "docs/alerts.md": ["aigwctl", "alerts", "generate", "--pack", "all", "--format", "markdown"],
    "deploy/prometheus/rules/gatewayd.yml": ["aigwctl", "alerts", "generate", "--pack", "core", "--pack", "extended"],
    "deploy/alertmanager/alertmanager.yml": ["aigwctl", "alerts", "generate", "--format", "alertmanager"],
}

def dashboards(bin_dir):
    out = subprocess.run([bin_dir / "aigwctl", "dashboards", "list", "-o", "json"], check=True, capture_output=True).stdout
    names = [row["name"] for row in json.loads(out)["data"]]
    return {f"dashboards/{name}.json": ["aigwctl", "dashboards", "render", name] for name in names}


BETWEEN = re.compile(rb'(?<=\n)((?:<!--|\.\\") begin: generated [^\n]*\n).*?(?=(?:<!--|\.\\") end\b)', re.S)


def splice(old, new):
    return BETWEEN.sub(lambda m: m[1] + new, old, count=1) if BETWEEN.search(old) else new


def main():
    bin_dir, check = Path(sys.argv[1]), "--check" in sys.argv[2:]
    stale = 0
    generated = {**GENERATED, **dashboards(bin_dir)}
    for path in ROOT.glob("dashboards/*.json"):
        if f"dashboards/{path.name}" not in generated:
            stale += 1
            print(f"dashboards/{path.name}: nothing generates it")
    for name, command in generated.items():
        new = subprocess.run([bin_dir / command[0], *command[1:]], check=True, capture_output=True).stdout
        path = ROOT / name
        old = path.read_bytes() if path.exists() else b""
        new = splice(old, new)
        if old == new:
            continue
        stale += 1
        if check:
            print(f"{name}: differs from its tables: run ./dev gen")
        else:
            path.write_bytes(new)
            print(f"{name}: written")
    print(f"gen: {len(generated)} generated files, {stale} {'stale' if check else 'rewritten'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
