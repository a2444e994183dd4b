# SPDX-License-Identifier: Apache-2.0
"""A scrape as a table that tests can ask, read by the reference parser."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text


class Scrape:
    def __init__(self, text, openmetrics=False):
        self.text = text
        self.families = {f.name: f for f in (parse_openmetrics if openmetrics else parse_text)(text)}
        self.samples = [s for f in self.families.values() for s in f.samples]

    def sum(self, name, **labels):
        """The sum over all series of that sample name with these label values (a value may be a set of values)."""

        def fits(sample):
            for key, want in labels.items():
                got = sample.labels.get(key)
                if got not in want if isinstance(want, (set, frozenset, tuple, list)) else got != want:
                    return False
            return True

        return sum(s.value for s in self.samples if s.name == name and fits(s))

    def by(self, name, label, **labels):
        """{value of `label`: sum}."""
        values = {s.labels.get(label) for s in self.samples if s.name == name}
        return {v: self.sum(name, **{label: v}, **labels) for v in values}

    def names(self):
        return {s.name for s in self.samples}
