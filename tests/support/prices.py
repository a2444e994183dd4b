# SPDX-License-Identifier: Apache-2.0
"""What an answer must cost, by code that shares nothing with the gateway's: fractions instead of scaled integers."""

import math
import re
from fractions import Fraction

from support.process import ROOT

ROW = re.compile(r'^MODEL\("([^"]+)", "([^"]+)", PRICES\((-?\d+), (-?\d+), (-?\d+), (-?\d+)\), \d+, \d+\)$')
DATE = re.compile(r"(-20\d\d-\d\d-\d\d|[-@]20\d{6})$")
USD_PER_PICO = Fraction(1, 10**12)


def built_in():
    """{(provider, model): {class: USD per token}} with unknown classes left out."""
    table = {}
    for line in (ROOT / "libshared/catalog/models.def").read_text().splitlines():
        if not line.startswith("MODEL("):
            continue
        row = ROW.match(line)
        assert row, line
        names = ("input", "cached", "cache_write", "output")
        prices = {n: int(v) * USD_PER_PICO for n, v in zip(names, row.groups()[2:]) if int(v) >= 0}
        table[row[1], row[2]] = prices
    return table


def find(table, provider, model):
    """None where the model has no price."""
    for name in (model, DATE.sub("", model)):
        prices = table.get((provider, name))
        if prices is not None:
            return prices if "input" in prices and "output" in prices else None
    return None


def cost_nanousd(prices, usage):
    cached = min(usage["cached"], usage["input"])
    written = min(usage["cache_write"], usage["input"] - cached)
    usd = (usage["input"] - cached - written) * prices["input"]
    usd += cached * prices.get("cached", prices["input"])
    usd += written * prices.get("cache_write", prices["input"])
    usd += usage["output"] * prices["output"]
    return math.ceil(usd * 10**9)
