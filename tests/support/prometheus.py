# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus, a real Alertmanager, and a server that keeps what an Alertmanager tells it."""

import http.server
import json
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

from support import ports
from support.process import SLOWNESS
from support.wait import eventually


def ask(url, timeout=10):
    with urllib.request.urlopen(url, timeout=timeout) as r:
        return json.loads(r.read())


class Server:
    """One of the two: started on a free port, stopped by its id."""

    ready_path = "/-/ready"

    def __init__(self, directory, name):
        self.directory, self.name = Path(directory) / name, name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log_file, self.child, self.port = self.directory / "log", None, None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"http://{self.address}"

    def start(self):
        for _ in range(3):
            self.port = ports.free_port()
            with open(self.log_file, "ab") as log:
                self.child = subprocess.Popen(self.arguments(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory)
            try:
                eventually(self.is_ready, 20 * SLOWNESS, 0.1, what=f"{self.name} is ready")
                return self
            except AssertionError:
                ports.end(self.child, signal.SIGKILL)
        raise AssertionError(f"{self.name} does not start:\n{self.log_file.read_text(errors='replace')[-3000:]}")

    def is_ready(self):
        assert self.child.poll() is None, self.log_file.read_text(errors="replace")[-3000:]
        try:
            with urllib.request.urlopen(self.url + self.ready_path, timeout=5) as r:
                return r.status == 200
        except OSError:
            return False

    def stop(self):
        ports.end(self.child)


class Alertmanager(Server):
    def __init__(self, directory, configuration):
        super().__init__(directory, "alertmanager")
        (self.directory / "alertmanager.yml").write_text(configuration)

    def arguments(self):
        program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
        return [program, "--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address=",
                f"--web.listen-address={self.address}"]


class Prometheus(Server):
    def __init__(self, directory, target, rules, alertmanager=None, every="500ms", job="gatewayd"):
        super().__init__(directory, "prometheus")
        (self.directory / "rules.yml").write_text(rules)
        managers = [{"static_configs": [{"targets": [alertmanager.address]}]}] if alertmanager else []
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump({
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": ["rules.yml"],
            "alerting": {"alertmanagers": managers},
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": [target]}]}],
        }))

    def arguments(self):
        return ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={self.address}",
                "--rules.alert.resend-delay=2s"]

    def query(self, expr):
        return self.query_at(expr, None)

    def query_at(self, expr, at):
        """As of a unix time; None is now."""
        words = {"query": expr} if at is None else {"query": expr, "time": f"{at:.3f}"}
        answer = ask(f"{self.url}/api/v1/query?" + urllib.parse.urlencode(words))
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def alerts(self):
        """(name, state) of each."""
        return {(a["labels"]["alertname"], a["state"]) for a in ask(self.url + "/api/v1/alerts")["data"]["alerts"]}


class Hook:
    """Keeps what it is told: a list of (receiver, status, alert name, labels)."""

    def __init__(self):
        told = self.told = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                told.extend((self.path.strip("/"), a["status"], a["labels"]["alertname"], a["labels"]) for a in body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.server.server_address[1]

    def heard(self, receiver, status):
        return {name for to, was, name, _ in list(self.told) if (to, was) == (receiver, status)}

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
