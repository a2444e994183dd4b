# SPDX-License-Identifier: Apache-2.0
"""What the simulator's truth must cost: every record of its log priced again, in fractions, from the price file that
the gateway was given. Shares no code with the gateway.

    table = reprice.table("prices.json")
    sums = reprice.total(sim.settled_log(), table, by=("profile", "model"))
    assert sums.nanousd["a", "m"] == ... and not sums.unpriced

As a program: python3 -m support.reprice PRICES TRUTH.jsonl   (in tests/; prints sums per provider, key and model)"""

import json
import math
import sys
from fractions import Fraction

from support import prices

PER_MILLION = {
    "input_usd_per_mtok": "input",
    "cached_usd_per_mtok": "cached",
    "cache_write_usd_per_mtok": "cache_write",
    "output_usd_per_mtok": "output",
    "reasoning_usd_per_mtok": "reasoning",
}
PER_UNIT = {"image_usd": "image", "search_usd": "search"}
LIMITS = {"context_tokens", "max_output_tokens"}
NANO = 10**9


def amount(value):
    """Decimal text, or a JSON number read as text: never through binary floating point."""
    return Fraction(str(value))


def table(path=None, text=None):
    """{(provider, model): {class: USD per unit}}: the built-in rows, and those of a file in their place."""
    rows = dict(prices.built_in())
    if path is not None:
        with open(path, encoding="utf-8") as f:
            text = f.read()
    if text is not None:
        for row in json.loads(text, parse_float=str, parse_int=str)["prices"]:
            out = {}
            for name, value in row.items():
                if name in PER_MILLION:
                    out[PER_MILLION[name]] = amount(value) / 10**6
                elif name in PER_UNIT:
                    out[PER_UNIT[name]] = amount(value)
                elif name not in LIMITS and name not in ("provider", "model"):
                    raise ValueError(f"unknown member {name!r} of a price")
            rows[row["provider"], row["model"]] = out
    return rows


def find(rows, provider, model):
    """None where the model has no price; a dated name falls back to the undated one."""
    for name in (model, prices.DATE.sub("", model)):
        row = rows.get((provider, name))
        if row is not None:
            is_priced = "image" in row or ("input" in row and "output" in row)
            return row if is_priced else None
    return None


def cost_usd(row, record):
    """Exact; the classes are made disjoint first."""
    tokens_in, cached = record["prompt_tokens"], record["cached_tokens"]
    written, out, thought = record["cache_write_tokens"], record["completion_tokens"], record["reasoning_tokens"]
    base = row.get("input", Fraction(0))
    usd = (tokens_in - cached - written) * base
    usd += cached * row.get("cached", base)
    usd += written * row.get("cache_write", base)
    if "output" in row or "image" not in row:
        per_token = row.get("output", base)
        usd += (out - thought) * per_token + thought * row.get("reasoning", per_token)
    usd += record["images"] * row.get("image", Fraction(0))
    usd += record["searches"] * row.get("search", Fraction(0))
    return usd


def cost_nanousd(row, record):
    """Of one attempt: rounded up, once."""
    return math.ceil(cost_usd(row, record) * NANO)


class Total:
    def __init__(self):
        self.nanousd = {}  # by the chosen members
        self.unpriced = []  # records that billed something no price is known for

    @property
    def all_nanousd(self):
        return sum(self.nanousd.values())


def bills(record):
    names = ("prompt_tokens", "completion_tokens", "images", "searches")
    return any(record[n] for n in names)


def total(records, rows, by=("profile", "key", "model")):
    sums = Total()
    for record in records:
        if not bills(record):
            continue
        row = find(rows, record["profile"], record["model"])
        if row is None:
            sums.unpriced.append(record)
            continue
        at = tuple(record[n] for n in by)
        sums.nanousd[at] = sums.nanousd.get(at, 0) + cost_nanousd(row, record)
    return sums


def main(argv):
    with open(argv[2], encoding="utf-8") as f:
        sums = total(map(json.loads, f), table(argv[1]))
    for (profile, key, model), nano in sorted(sums.nanousd.items()):
        print(json.dumps({"profile": profile, "key": key, "model": model, "cost_nanousd": nano}))
    print(json.dumps({"total_nanousd": sums.all_nanousd, "unpriced": len(sums.unpriced)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
