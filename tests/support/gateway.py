# SPDX-License-Identifier: Apache-2.0
"""Real gateways and simulators, as an operator starts them: a YAML file, a state directory, port 0, a ready file."""

import hashlib
import json
import secrets
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from support.metrics import Scrape
from support.process import BIN, Process
from support.simctl import SimControl
from support.wait import eventually

KEY = "sk-aigw-test-0123456789abcdef0123456789"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def sha256(key):
    return hashlib.sha256(key.encode()).hexdigest()


def merged(base, over):
    """Mappings merge, everything else is replaced; None removes a key."""
    out = dict(base)
    for key, value in over.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = merged(out[key], value)
        else:
            out[key] = value
    return out


def provider(name, url, **more):
    return {"name": name, "kind": "openai", "base_url": url, "api_keys": ["sk-upstream-" + name], **more}


def model(name, *targets, **more):
    """Targets as "provider/model"."""
    pairs = [t.split("/", 1) for t in targets]
    return {"name": name, "targets": [{"provider": p, "model": m} for p, m in pairs], **more}


def config(providers, models=(), tenants=None, **more):
    base = {
        "listen": "127.0.0.1:0",
        "admin": {"listen": "127.0.0.1:0", "token": "admin-" + secrets.token_hex(16)},
        "workers": 2,
        "breaker": {"failures": 0, "error_rate": 0},  # most stories let providers fail as often as they like
        "health": {"interval": "200ms", "probe_interval": "0s"},  # quick, and nobody asks but the story
        "providers": list(providers),
        "models": list(models),
        "tenants": tenants
        or [{"id": "acme", "plan": "pro", "keys": [{"id": "test", "sha256": sha256(KEY)}]}],
    }
    return merged(base, more)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:400]!r}>"


def http(url, method=None, body=None, headers=None, timeout=30):
    """One plain request; error statuses are answers, not exceptions."""
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
    headers = {"content-type": "application/json", **(headers or {})} if body is not None else dict(headers or {})
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as r:
            return Answer(r.status, r.headers, r.read())
    except urllib.error.HTTPError as e:
        with e:
            return Answer(e.code, e.headers, e.read())


class Simulator(Process):
    def __init__(self, directory, name="simulator", seed=None):
        super().__init__(directory, name, [])
        self.truth_log = self.directory / f"{name}.truth.jsonl"
        self.args = ["--simulate", "127.0.0.1:0", "--ready-file", str(self.ready_file)]
        self.args += ["--truth-log", str(self.truth_log)]
        if seed is not None:
            self.args += ["--seed", str(seed)]

    @property
    def address(self):
        return self.ready["listen"]

    @property
    def url(self):
        return f"http://{self.address}"

    def base_url(self, profile):
        return f"{self.url}/{profile}/v1"

    @property
    def control(self):
        return SimControl(self.address)


class Gateway(Process):
    def __init__(self, directory, configuration=None, name="gateway", env=None, args=()):
        super().__init__(directory, name, [], env)
        self.state_dir = self.directory / f"{name}.state"
        self.config_file = self.directory / f"{name}.yaml"
        self.access_log_file = self.state_dir / "access.log"
        self.args = ["--state-dir", str(self.state_dir), "--ready-file", str(self.ready_file), *args]
        self.config = configuration
        if configuration is not None:
            self.write_config(configuration)
            self.args = ["-c", str(self.config_file), *self.args]

    def write_config(self, configuration):
        """Replaces the file whole, as an operator's editor does."""
        text = configuration if isinstance(configuration, str) else yaml.safe_dump(configuration, sort_keys=False)
        new = self.config_file.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o600)
        new.rename(self.config_file)

    @property
    def address(self):
        return self.ready["listen"]

    @property
    def host_port(self):
        host, port = self.address.rsplit(":", 1)
        return host, int(port)

    @property
    def url(self):
        return f"http://{self.address}"

    @property
    def admin_url(self):
        return f"http://{self.ready['admin']}"

    @property
    def base_url(self):
        """What an OpenAI SDK is given."""
        return self.url + "/v1"

    def post(self, path, body, key=KEY, headers=None, timeout=30):
        auth = {"authorization": f"Bearer {key}"} if key else {}
        return http(self.url + path, "POST", body, {**auth, **(headers or {})}, timeout)

    def get(self, path, key=KEY, headers=None, timeout=30):
        auth = {"authorization": f"Bearer {key}"} if key else {}
        return http(self.url + path, "GET", None, {**auth, **(headers or {})}, timeout)

    def chat(self, text="hello", model="chat", key=KEY, timeout=30, **more):
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        return self.post("/v1/chat/completions", body, key, timeout=timeout)

    def metrics_text(self, openmetrics=False):
        answer = http(self.url + "/metrics", headers={"accept": OPENMETRICS if openmetrics else "text/plain"})
        assert answer.status == 200, answer
        return answer.body.decode()

    def scrape(self, openmetrics=False):
        return Scrape(self.metrics_text(openmetrics), openmetrics)

    def metric(self, name, **labels):
        """Of one sample name. Only its lines are parsed: stories ask again and again, and all of it takes 20 ms."""

        def is_of_it(line):
            return name.startswith(line.split(" ", 3)[2]) if line.startswith("# TYPE") else line.startswith((name + "{", name + " "))

        return Scrape("\n".join(filter(is_of_it, self.metrics_text().split("\n")))).sum(name, **labels)

    def monitoring(self, path):
        answer = http(f"{self.admin_url}/api/monitoring/{path}", headers={"authorization": f"Bearer {self.ready['admin_token']}"})
        assert answer.status == 200, answer
        return answer.json

    def health(self, provider, attempts=0):
        """Of one provider, once that many attempts are in it."""

        def enough():
            row = self.monitoring(f"health/{provider}")
            return row if row["attempts"] >= attempts else None

        return eventually(enough, 10, what=f"{attempts} attempts in the health of {provider}")

    def access_log(self):
        if not self.access_log_file.exists():
            return []
        lines = self.access_log_file.read_text().split("\n")
        return [json.loads(line) for line in lines[:-1]]  # the last one may still be on its way

    def logged(self, count, within=10.0):
        """The access log once it has at least that many lines."""

        def enough():
            lines = self.access_log()
            return lines if len(lines) >= count else None

        return eventually(enough, within, what=f"{count} lines in the access log")

    def reload(self):
        self.signal(signal.SIGHUP)


class Stream:
    """An answer that is being streamed, read up to its first word, which is "one"."""

    def __init__(self, gateway):
        body = json.dumps({"model": "chat", "stream": True, "messages": [{"role": "user", "content": "go"}]}).encode()
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        self.answer = urllib.request.urlopen(urllib.request.Request(gateway.base_url + "/chat/completions", body, headers), timeout=20)
        while b"one" not in self.answer.readline():
            pass

    def rest(self):
        return self.answer.read()


def run(args, env=None, directory=None, timeout=60):
    """A program that ends by itself: its exit code, output and complaints."""
    scratch = Process(directory or Path("."), "run", [], env)
    return subprocess.run(
        [BIN / args[0], *map(str, args[1:])], env=scratch.environment(), cwd=scratch.directory,
        capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
    )
