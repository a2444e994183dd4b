# SPDX-License-Identifier: Apache-2.0
"""Client of the simulator's control endpoint (docs/simulator.md). Standard library only.

    sim = SimControl("127.0.0.1:9100")
    sim.profile("a", script=["429", "ok"])
    ...
    for record in sim.settled_log():
        print(record["ended"], record["completion_tokens"])
"""

import http.client
import json
import time


class SimError(Exception):
    pass


class SimControl:
    def __init__(self, address):
        self.address = address

    @property
    def host(self):
        return self.address.rsplit(":", 1)[0].strip("[]")

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])

    def url(self, profile, version="v1"):
        """Base URL of a provider: http://ADDR:PORT/<profile>/v1 (version="" for SDKs that add it themselves)."""
        return "http://%s/%s%s" % (self.address, profile, "/" + version if version else "")

    # -- control

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"content-type": "application/json"} if data else {})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise SimError("%s %s: %d %s" % (method, path, answer.status, content.decode("utf-8", "replace").strip()))
        return content

    def _json(self, method, path, body=None):
        return json.loads(self.call(method, path, body))

    def profile(self, name, **members):
        """Sets a profile; members that are not given get their default. An empty call resets it."""
        return self._json("PUT", "/_sim/profiles/" + name, members)

    def patch(self, name, **members):
        return self._json("PATCH", "/_sim/profiles/" + name, members)

    def get_profile(self, name):
        return self._json("GET", "/_sim/profiles/" + name)

    def profiles(self):
        return self._json("GET", "/_sim/profiles")

    def options(self, **members):
        return self._json("PUT", "/_sim/options", members)

    def reset(self, keep_profiles=False):
        return self._json("POST", "/_sim/reset", {"keep_profiles": keep_profiles})

    # -- truth

    def truth(self):
        return self._json("GET", "/_sim/truth")

    def log(self, after=0, page=20000):
        """Every record behind `after`, oldest first, those still open included."""
        records = []
        while True:
            text = self.call("GET", "/_sim/truth/log?after=%d&limit=%d" % (after, page))
            lines = [json.loads(line) for line in text.splitlines()]
            records += lines
            if len(lines) < page:
                return records
            after = lines[-1]["seq"]

    def settled_log(self, after=0, timeout_s=10.0):
        """The log once nothing is open any more."""
        deadline = time.monotonic() + timeout_s
        while True:
            records = self.log(after)
            if all(r["ended"] != "open" for r in records):
                return records
            if time.monotonic() > deadline:
                raise SimError("%d requests are still open" % sum(r["ended"] == "open" for r in records))
            time.sleep(0.02)

    def posts(self):
        return self.truth()["posts"]

    def totals(self, **match):
        """Sums over the rows of the truth that match, e.g. totals(profile="a", key="k1")."""
        sums = {"faults": {}}
        for row in self.truth()["rows"]:
            if any(row[name] != value for name, value in match.items()):
                continue
            for name, value in row.items():
                if isinstance(value, int):
                    sums[name] = sums.get(name, 0) + value
            for name, value in row["faults"].items():
                sums["faults"][name] = sums["faults"].get(name, 0) + value
        return sums

    def body(self, seq):
        """The bytes of a request's body as received (needs options(keep_bodies=True) before it)."""
        return self.call("GET", "/_sim/bodies?seq=%d" % seq)

    def head(self, seq):
        return self.call("GET", "/_sim/bodies?part=head&seq=%d" % seq)
