# SPDX-License-Identifier: Apache-2.0
"""The dashboards' panels as Grafana asks for them, and samples of other days for a Prometheus that has just been born."""

import json
import math
import re
import subprocess
import threading

from support.process import ROOT

VARIABLE = re.compile(r'"\$(job|instance|provider|tenant_id)"')


def rendered():
    return {p.stem: json.loads(p.read_text()) for p in sorted((ROOT / "dashboards").glob("*.json"))}


def queries(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel, target


def panels():
    """{(dashboard, title): [query, …]} of everything that shows something; titles are unique within a dashboard."""
    out = {}
    for name, dashboard in rendered().items():
        for panel, target in queries(dashboard):
            out.setdefault((name, panel["title"]), []).append(target)
    return out


def concrete(expr, interval="5m", span="1h"):
    """As Grafana would send it with every variable at its default."""
    for name, value in (("$__rate_interval", interval), ("$__range", span), ("$__interval", "1m")):
        expr = expr.replace(name, value)
    return VARIABLE.sub('".+"', expr)


def concrete_sql(sql, begin, end):
    """The macros of Grafana's PostgreSQL data source, for a range of unix times."""
    sql = re.sub(r"\$__unixEpochFilter\(([^)]*)\)", rf"\1 >= {int(begin)} AND \1 <= {int(end)}", sql)
    return re.sub(r"\$__timeFilter\(([^)]*)\)", rf"\1 BETWEEN to_timestamp({int(begin)}) AND to_timestamp({int(end)})", sql)


def backfill(directory, series):
    """Blocks of a Prometheus' data directory: `series` is [(name, type, labels, [(time, value)])]."""
    text = []
    for name, kind, labels, points in series:
        family = re.sub("_(bucket|count|sum)$", "", name) if kind == "histogram" else name
        if f"# TYPE {family} {kind}" not in text:
            text.append(f"# TYPE {family} {kind}")
        words = ",".join(f'{k}="{v}"' for k, v in labels.items())
        text += [f"{name}{{{words}}} {value!r} {at:.3f}" for at, value in points]
    file = directory / "past.om"
    file.write_text("\n".join([*text, "# EOF", ""]))
    done = subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", file, directory / "data"], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Monitor(threading.Thread):
    """Every command that clients send to a Redis, by MONITOR, as (unix time, name); what scripts call is left out."""

    def __init__(self, redis):
        super().__init__(daemon=True)
        self.client, self.seen = redis.client(timeout=None), []
        assert self.client("MONITOR") == b"OK"
        self.start()

    def run(self):
        try:
            while line := self.client.reader.readline():
                if found := re.match(rb'\+([\d.]+) \[\d+ (?!lua)[^\]]*\] "(\w+)"', line):
                    self.seen.append((float(found[1]), found[2].decode().lower()))
        except (OSError, ValueError):
            pass  # the server has gone


LOGGED = re.compile(r"^(\d+\.\d+)\|gatewayd[^|]*\|LOG:  duration: ([\d.]+) ms  (?:execute [^:]*|statement): (.*?)(?=^\d+\.\d+\||\Z)", re.M | re.S)
CANCELLED = re.compile(r"^(\d+\.\d+)\|gatewayd[^|]*\|ERROR:  canceling statement.*?\n(?:^\S*\|(?:CONTEXT|DETAIL):.*?\n)*^\S*\|STATEMENT:  (.*?)(?=^\d+\.\d+\||\Z)",
                       re.M | re.S)
LOG_SETTINGS = "log_min_duration_statement = 0\nlog_line_prefix = '%n|%a|'\n"


def statements(postgres):
    """Of the gateway, by the server's own log: [(unix time of its end, seconds, text, did it fail)]; needs LOG_SETTINGS."""
    log = postgres.log()
    done = [(float(m[1]), float(m[2]) / 1e3, m[3], False) for m in LOGGED.finditer(log)]
    return sorted(done + [(float(m[1]), math.nan, m[2], True) for m in CANCELLED.finditer(log)])


def bounds(name):
    """Upper bounds of a bucket set in seconds, from docs/metrics.md."""
    row = next(line for line in (ROOT / "docs/metrics.md").read_text().splitlines() if line.startswith(f"| `{name}` |"))
    return [float(x) for x in row.split("|")[2].split()]


def quantile(q, values, uppers):
    """What histogram_quantile() makes of these observations: rank by linear interpolation within the bucket."""
    counts = [sum(v <= u for v in values) for u in [*uppers, math.inf]]
    rank, at = q * counts[-1], 0
    while counts[at] < rank:
        at += 1
    if at == len(uppers):
        return uppers[-1]
    low, below = (uppers[at - 1], counts[at - 1]) if at else (0, 0)
    return low + (uppers[at] - low) * (rank - below) / (counts[at] - below)


def bucket_of(value, uppers):
    """(lower, upper) of the bucket in which it lies."""
    upper = next((u for u in uppers if value <= u), math.inf)
    return max([0, *(u for u in uppers if u < upper)]), upper
