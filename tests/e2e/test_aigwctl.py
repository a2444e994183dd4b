# SPDX-License-Identifier: Apache-2.0
"""aigwctl as an operator types it, against a real gateway with simulated providers."""

import csv
import io
import json
import signal
import subprocess

import pytest
from support.gateway import http, model, provider, run
from support.process import BIN, SANITIZER, Process
from support.wait import eventually

OK, FAILED, USAGE, NO_ANSWER, NO_AUTH, NOT_FOUND, CONFLICT = 0, 1, 2, 3, 4, 5, 6
WARNING, CRITICAL = 10, 11


@pytest.fixture
def sim(stage):
    return stage.simulator(seed=7)


@pytest.fixture
def gw(stage, sim):
    return stage.gateway(
        [provider("steady", sim.base_url("steady")), provider("shaky", sim.base_url("shaky"))],
        [model("chat", "steady/m-one"), model("rough", "shaky/m-two", retries=0)],
    )


class Ctl:
    def __init__(self, directory, url=None, env=None):
        self.directory, self.env = directory, {"XDG_STATE_HOME": str(directory / "ctl-state"), **(env or {})}
        if url:
            self.env["GATEWAYD_URL"] = url

    def __call__(self, *args, code=OK, env=None):
        done = run(["aigwctl", *args], env={**self.env, **(env or {})}, directory=self.directory)
        assert not SANITIZER.search(done.stderr), done.stderr
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done


@pytest.fixture
def ctl(gw, tmp_path):
    return Ctl(tmp_path, "unix:" + gw.ready["admin_socket"])


@pytest.mark.asan
def test_health_shows_every_provider_and_unknown_is_not_zero(gw, ctl):
    for _ in range(3):
        assert gw.chat(model="chat").status == 200
    gw.health("steady", 3)
    lines = ctl("health").stdout.splitlines()
    assert lines[0].split() == ["PROVIDER", "SCORE", "STATUS", "ERR", "P50", "P95", "REQ/S", "UPDATED"]
    shaky, steady = (line.split() for line in lines[1:])
    assert steady[:4] == ["steady", "100.0", "healthy", "0.0%"]
    assert shaky[:6] == ["shaky", "-", "unknown", "-", "-", "-"]
    data = json.loads(ctl("health", "-o", "json").stdout)
    assert data["schema"] == "gatewayd.health/1"
    by_name = {row["provider"]: row for row in data["data"]}
    assert by_name["shaky"]["health_score"] is None and by_name["shaky"]["last_updated"] is None
    assert by_name["steady"]["attempts"] == 3


@pytest.mark.asan
def test_health_follows_failures_and_explains_itself(gw, sim, ctl):
    sim.control.profile("shaky", faults={"500": 1.0})
    for _ in range(4):
        assert gw.chat(model="rough").status >= 500
    gw.health("shaky", 4)
    row = json.loads(ctl("health", "shaky", "-o", "json").stdout)["data"][0]
    assert row["status"] == "unhealthy" and row["error_rate"] == 1.0 and row["health_score"] <= 49
    assert row["terms"]["success_rate"] == {"points": 0.0, "of": 50.0}
    text = ctl("health", "shaky", "--explain").stdout
    assert "unhealthy" in text and "success rate" in text and "100.0% errors" in text
    assert "capped        50.0 → 49.0: 50 % errors or more" in text
    ctl("health", "--exit-code", code=CRITICAL)
    ctl("health", "steady", "--exit-code")
    below = ctl("health", "--below", "80", "-o", "csv").stdout
    assert [r["provider"] for r in csv.DictReader(io.StringIO(below))] == ["shaky"]


@pytest.mark.asan
def test_cost_agrees_with_the_access_log(gw, ctl):
    for n in range(6):
        assert gw.chat(model=["chat", "rough"][n % 2], stream=n % 3 == 0).status == 200
    lines = gw.logged(6)
    spent = sum(line["cost_nanousd"] for line in lines)
    document = eventually(lambda: (d := json.loads(ctl("cost", "-o", "json").stdout)["data"])["total_requests"] == 6 and d)
    assert document["total_cost_nanousd"] == spent
    assert document["input_tokens"] == sum(line["usage"]["input"] for line in lines)
    assert document["output_tokens"] == sum(line["usage"]["output"] for line in lines)
    rows = list(csv.DictReader(io.StringIO(ctl("cost", "--by", "model", "-o", "csv").stdout)))
    assert {(r["provider"], int(r["total_requests"])) for r in rows} == {("steady", 3), ("shaky", 3)}
    assert sum(int(r["total_cost_nanousd"]) for r in rows) == spent
    assert ctl("cost").stdout.splitlines()[-1].startswith("TOTAL")


@pytest.mark.asan
def test_status_is_one_page_or_one_line(gw, sim, ctl):
    assert ctl("status", "--brief").stdout == "unknown: 0 of 2 providers healthy, 0 degraded, 0 unhealthy\n"
    gw.chat(model="chat")
    sim.control.profile("shaky", faults={"503": 1.0})
    gw.chat(model="rough")
    gw.health("steady", 1), gw.health("shaky", 1)
    text = ctl("status").stdout
    assert "yes" in next(line for line in text.splitlines() if line.startswith("steady"))
    assert "2 requests" in text and "1 ok, 1 failed, 0 rejected" in text
    ctl("status", "--brief", "--exit-code", code=CRITICAL)
    board = json.loads(ctl("status", "-o", "json").stdout)["data"]
    assert board["summary"]["total_requests"] == 2
    assert {p["name"]: p["health_score"] for p in board["providers"]}["steady"] == 100.0


def test_raw_is_what_the_server_says(gw, ctl):
    token = gw.ready["admin_token"]
    raw = ctl("health", "--raw").stdout
    answer = http(gw.admin_url + "/api/monitoring/health", headers={"authorization": f"Bearer {token}"})
    assert [r["provider"] for r in json.loads(raw)] == [r["provider"] for r in answer.json]
    assert ctl("api", "GET", "/healthz").stdout == '{"status":"ok"}\n'


def test_a_token_opens_the_tcp_listener_and_is_never_shown(gw, tmp_path):
    ctl = Ctl(tmp_path, gw.admin_url)
    refused = ctl("health", code=NO_AUTH)
    assert "--token-file" in refused.stderr
    secret = tmp_path / "token"
    secret.write_text(gw.ready["admin_token"] + "\n")
    ctl("health", "--token-file", secret)
    ctl("health", env={"GATEWAYD_TOKEN": gw.ready["admin_token"]})
    ctl("health", env={"GATEWAYD_TOKEN_FILE": str(secret)})
    wrong = ctl("health", code=NO_AUTH, env={"GATEWAYD_TOKEN": "tok-wrong-one"})
    assert "tok-wrong-one" not in wrong.stderr + wrong.stdout
    ctl("health", "--token-file", tmp_path / "none", code=NO_AUTH)
    # The option wins over the variable.
    ctl("--url", "unix:" + gw.ready["admin_socket"], "health", env={"GATEWAYD_URL": "http://127.0.0.1:1"})


def test_exit_codes_tell_what_went_wrong(gw, ctl, tmp_path):
    nobody = Ctl(tmp_path, "http://127.0.0.1:1")("health", code=NO_ANSWER)
    assert nobody.stderr.startswith("aigwctl: no answer from http://127.0.0.1:1")
    assert ctl("health", "nope", code=NOT_FOUND).stderr.startswith("aigwctl: no provider is named 'nope'")
    assert 'Did you mean "health"?' in ctl("helth", code=USAGE).stderr
    for wrong in (["frobnicate"], ["health", "-o", "xml"], ["health", "--nope"], ["health", "a", "b"],
                  ["cost", "--days", "0"], ["cost", "--by", "moon"], ["health", "--explain"], ["status", "extra"],
                  ["api", "GET"], ["api", "get", "/x"], ["health", "--outp", "json"], ["health", "--exp"], ["-w0.01s", "health"], ["--url", "nonsense", "health"]):
        done = ctl(*wrong, code=USAGE)
        assert done.stdout == "" and done.stderr.startswith("aigwctl"), wrong
    ctl("api", "GET", "/no/such/path", code=NOT_FOUND)
    nothing = ctl("health", "--below", "1")
    assert nothing.stdout == "" and nothing.stderr == "no provider scores below 1\n"
    ctl("mock", "list", code=FAILED)  # this gateway has no simulator of its own


def test_help_is_the_same_page_whatever_way_it_is_asked_for(tmp_path):
    ctl = Ctl(tmp_path)
    assert ctl().stdout == ctl("help").stdout == ctl("--help").stdout == ctl("-h").stdout
    assert len(ctl().stdout.splitlines()) <= 32
    for name in ("cost", "db"):  # db has '--keep', which is near '--help'
        assert ctl("help", name).stdout == ctl(name, "--help").stdout == ctl(name, "-h").stdout
    assert "130" in ctl("help", "exit-codes").stdout
    assert "GATEWAYD_URL" in ctl("help", "environment").stdout
    for page in ([], ["help", "health"], ["help", "demo"], ["help", "exit-codes"], ["help", "environment"]):
        assert all(len(line) <= 120 for line in ctl(*page).stdout.splitlines())
    assert ctl("--version").stdout.startswith("aigwctl ")


def test_reload_applies_a_good_file_and_keeps_the_old_one_otherwise(gw, ctl):
    assert ctl("reload").stdout == "reloaded, configuration version 2\n"
    gw.write_config("providers: [")
    bad = ctl("reload", code=CONFLICT)
    assert "the configuration in use stays" in bad.stderr
    assert gw.chat(model="chat").status == 200


def test_watch_appends_blocks_and_ends_on_a_signal(gw, ctl, tmp_path):
    out = tmp_path / "watch.out"
    p = Process(tmp_path, "watch", ["health", "-w200ms"], ctl.env, "aigwctl")
    with open(out, "wb") as f:
        child = subprocess.Popen([BIN / "aigwctl", *p.args], stdout=f, env=p.environment(), stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: out.read_text().count("PROVIDER") >= 3, 20, what="three blocks")
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130
    finally:
        child.kill()
    assert "\033" not in out.read_text()


def test_watch_says_once_that_nobody_answers_and_goes_on(gw, ctl, tmp_path):
    out, err = tmp_path / "watch.out", tmp_path / "watch.err"
    p = Process(tmp_path, "watch", ["health", "-w200ms"], ctl.env, "aigwctl")
    with open(out, "wb") as o, open(err, "wb") as e:
        child = subprocess.Popen(
            [BIN / "aigwctl", *p.args], stdout=o, stderr=e, env=p.environment(), stdin=subprocess.DEVNULL
        )
    try:
        eventually(lambda: out.read_text().count("PROVIDER") >= 1, 20, what="a table")
        gw.stop()
        eventually(lambda: "no answer" in err.read_text(), 20, what="its end")
        gw.start()
        blocks = out.read_text().count("PROVIDER")
        eventually(lambda: out.read_text().count("PROVIDER") >= blocks + 2, 20, what="tables again")
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 143
    finally:
        child.kill()
    assert err.read_text().count("no answer") == 1


def test_names_are_shown_as_they_are_written(stage, sim, tmp_path):
    gw = stage.gateway([provider("steady", sim.base_url("steady"))], [model("näme", "steady/modèle-日本")])
    gw.chat(model="näme")
    ctl = Ctl(tmp_path, "unix:" + gw.ready["admin_socket"], {"LC_ALL": "", "LC_CTYPE": "", "LANG": ""})
    eventually(lambda: "modèle-日本" in ctl("cost", "--by", "model").stdout)


def test_output_that_nobody_takes_is_a_failure(gw, ctl):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [BIN / "aigwctl", "health"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30,
            env=Process(ctl.directory, "x", [], ctl.env).environment(), stdin=subprocess.DEVNULL,
        )
    assert done.returncode == FAILED and "could not be written" in done.stderr
    closed = subprocess.run(["sh", "-c", '"$0" health >&-', BIN / "aigwctl"], stderr=subprocess.PIPE, text=True, timeout=30,
                            env=Process(ctl.directory, "x", [], ctl.env).environment(), stdin=subprocess.DEVNULL)
    assert closed.returncode == FAILED and "could not be written" in closed.stderr


# ---- the routes themselves


@pytest.mark.asan
def test_the_monitoring_routes_answer_in_the_documented_shapes(gw):
    auth = {"authorization": "Bearer " + gw.ready["admin_token"]}
    gw.chat(model="chat")
    gw.chat(model="nope")

    def get(path, base=gw.admin_url, headers=auth):
        return http(base + path, headers=headers)

    gw.health("steady", 1)
    rows = get("/api/monitoring/health").json
    assert [set(r) >= {"provider", "health_score", "status", "last_updated"} for r in rows] == [True, True]
    one = get("/api/monitoring/health/steady").json
    assert one["provider"] == "steady" and one["health_score"] == 100.0
    eventually(lambda: get("/api/monitoring/stats/realtime?hours=1").json["total_requests"] == 1)
    stats = get("/api/monitoring/stats/realtime?hours=1").json
    assert set(stats) >= {"timestamp", "providers", "total_requests", "total_cost", "avg_health_score"}
    assert stats["partial"] is False  # a request that reached no provider is nobody's
    assert stats["total_requests"] == stats["providers"]["steady"]["total_requests"] == 1
    assert stats["providers"]["shaky"]["health_score"] is None
    rates = get("/api/monitoring/error-rates?hours=24").json["models"]
    assert rates == [{"provider": "steady", "model": rates[0]["model"], "total_requests": 1, "failed_requests": 0,
                      "error_rate": 0.0}]
    board = get("/health/dashboard").json
    assert {p["name"] for p in board["providers"]} == {"steady", "shaky"}
    assert set(board["providers"][0]) >= {"name", "status", "availability", "error_rate", "health_score"}
    assert set(board) >= {"timestamp", "providers", "summary"}
    assert board["summary"]["rejected_requests"] == 1
    figures = get("/metrics/json").json
    assert set(figures["providers"]) == {"steady", "shaky"} and figures["requests"]["total"] == 2
    assert get("/metrics/health").json["status"] == "healthy"
    assert get("/version").json["name"] == "gatewayd"

    for path in ("/api/monitoring/stats/realtime?hours=0", "/api/monitoring/cost-analysis?days=many",
                 "/api/monitoring/error-rates?hours=1e3", "/api/monitoring/error-rates?hour=1"):
        assert get(path).status == 400, path
    assert get("/api/monitoring/health/a%2Fb").status == 404
    assert http(gw.admin_url + "/healthz", "POST", b"").status == 405


@pytest.mark.asan
def test_scopes_are_kept_on_both_listeners(gw):
    auth = {"authorization": "Bearer " + gw.ready["admin_token"]}
    for base in (gw.url, gw.admin_url):
        for path in ("/healthz", "/readyz", "/version"):
            assert http(base + path).status == 200
        for path in ("/metrics", "/metrics/json", "/metrics/health"):
            assert http(base + path).status == 200  # loopback is allowed by default
        for path in ("/api/monitoring/health", "/api/monitoring/cost-analysis", "/health/dashboard"):
            refused = http(base + path)
            assert refused.status == 401 and "www-authenticate" in refused.headers
            assert http(base + path, headers={"authorization": "Bearer wrong"}).status == 401
            assert http(base + path, headers=auth).status == 200
    assert http(gw.url + "/api/admin/sim", headers=auth).status == 404
    assert http(gw.url + "/api/admin/reload", "POST", b"", headers=auth).status == 404
    assert http(gw.admin_url + "/api/admin/sim").status == 401
    assert http(gw.admin_url + "/api/admin/sim", headers=auth).json == {"simulator": None}
