# SPDX-License-Identifier: Apache-2.0
"""Every command of aigwctl as it looks in 80 columns, on a real gateway with simulated providers. What differs from run to run
stands still (support/still.py); what follows from the requests below does not, and is parsed from the screen as well."""

import json
import re
import shlex
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest
from conftest import Stage
from support.ctl import GOLDEN, on_terminal
from support.gateway import http, model, provider, run, sha256
from support.golden import same
from support.process import ROOT, SLOWNESS
from support.still import Still
from support.wait import eventually
from test_cli import LONG, PAGES

KEYS = {"acme/web": "sk-aigw-web-0123456789abcdef0123456789ab", "acme/batch": "sk-aigw-batch-0123456789abcdef01234567",
        "globex/app": "sk-aigw-app-0123456789abcdef0123456789ab", "hooli/only": "sk-aigw-only-0123456789abcdef012345678"}
PRICES = {"prices": [{"provider": "openrouter", "model": LONG, "input_usd_per_mtok": "1", "output_usd_per_mtok": "1000",
                      "context_tokens": 1000, "max_output_tokens": 4000},
                     {"provider": "fireworks", "model": "llama-3-70b", "input_usd_per_mtok": "9", "output_usd_per_mtok": "9",
                      "context_tokens": 1000, "max_output_tokens": 4000}]}
BREAKER = {"failures": 3, "error_rate": 0, "min_requests": 20, "open_for": "1h", "max_open_for": "1h", "probes": 1, "close_after": 2}


def tenants():
    def keys(tenant):
        return [{"id": k.split("/")[1], "sha256": sha256(v)} for k, v in KEYS.items() if k.startswith(tenant + "/")]

    return [
        {"id": "acme", "plan": "pro", "keys": keys("acme"), "limits": {"rpm": 600, "tpm": 250_000, "concurrent": 50},
         "budget": {"usd": 5, "period": "month", "warn": 80, "at_limit": "block"}},
        {"id": "globex", "plan": "free", "keys": keys("globex"), "budget": {"usd": 0.1, "period": "total", "at_limit": "block"}},
        {"id": "hooli", "plan": "free", "keys": keys("hooli"), "limits": {"rpm": 1}},
    ]


class World:
    """A gateway with something of everything to look at."""

    def __init__(self, stage):
        # Within one hour, so that it is in one row everywhere.
        eventually(lambda: time.time() % 3600 < 3540, 70, every=1, what="an hour that lasts")
        prices = stage.directory / "prices.json"
        prices.write_text(json.dumps(PRICES))
        self.sim = stage.simulator(seed=7)
        self.sim.control.profile("a", output_tokens=20)
        self.sim.control.profile("b", output_tokens=20, script=["ok", "429", "ok", "500", "503", "500"])
        self.gw = stage.gateway(
            [provider("openrouter", self.sim.base_url("a")), provider("fireworks", self.sim.base_url("b"))],
            [model("chat-default", f"openrouter/{LONG}", "fireworks/llama-3-70b"), model("rough", "fireworks/llama-3-70b", retries=0)],
            tenants=tenants(), prices="prices.json", breaker=BREAKER, workers=1)
        self.talk()
        eventually(lambda: self.stored() == len(self.answers), 20 * SLOWNESS, what="all requests are in the history")
        eventually(lambda: self.counted() == (19, len(self.answers)), 20 * SLOWNESS, what="all attempts and requests are in the books")
        self.gw.health("fireworks", 6), self.gw.health("openrouter", 13)
        self.topup, self.hour = None, time.strftime("%Y-%m-%dT%H", time.gmtime(time.time() - 7200))
        self.still = Still(self.gw.admin_url, self.gw.ready["admin_token"], [(str(stage.directory), "/srv")],
                           {"/api/admin/sim": {"simulator": self.sim.url}})
        stage.endings.append(self.still.close)
        self.home = stage.directory
        shutil.copy(ROOT / "deploy/prometheus/rules/gatewayd.yml", self.home)

    def chat(self, key, model="chat-default", **more):
        return self.gw.chat("how are you?", model, KEYS[key], max_tokens=20, **more)

    def get(self, path):
        return http(self.gw.admin_url + path, headers={"authorization": "Bearer " + self.gw.ready["admin_token"]})

    def counted(self):
        books = self.get("/api/monitoring/cost-analysis?days=7&by=tenant").json
        return books["total_requests"], sum(t["total_requests"] for t in books["tenants"])

    def stored(self):
        board = self.get("/health/dashboard").json
        lags = [s["lag_s"] for s in board["stores"]]
        return board["summary"]["total_requests"] if lags == [0, 0] else None

    def talk(self):
        self.answers = [self.chat("acme/web") for _ in range(6)] + [self.chat("acme/batch") for _ in range(2)]
        self.answers += [self.chat("acme/web", "rough") for _ in range(2)]
        globex = [self.chat("globex/app") for _ in range(6)]
        self.answers += globex + [self.chat("hooli/only") for _ in range(2)]
        self.answers += [self.chat("acme/batch", "rough") for _ in range(5)]
        self.refused = next(a for a in globex if a.status == 402).headers["x-request-id"]
        self.served = self.answers[0].headers["x-request-id"]
        self.failed = self.answers[-2].headers["x-request-id"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("pages"))
    try:
        yield World(stage)
    finally:
        stage.end()


FIRE, OPEN = "fireworks/llama-3-70b", f"openrouter/{LONG}"

# ---- figures; before anything is changed



def figure(cell):
    """What a cell says, and by how much what it stands for may differ."""
    m = re.fullmatch(r"(-?)\$?([\d,]+(?:\.(\d+))?)(K|M|B|ms|s|m|%)?", cell)
    assert m, cell
    unit = {None: 1, "K": 1000, "M": 10**6, "B": 10**9, "ms": 1, "s": 1000, "m": 60_000, "%": Fraction(1, 100)}[m[4]]
    value = Fraction(m[2].replace(",", "")) * unit
    return -value if m[1] else value, Fraction(unit, 2 * 10 ** len(m[3] or ""))


def is_shown(cell, truth):
    value, half = figure(cell)
    return abs(value - Fraction(truth)) <= half


def table_of(world, *args):
    """The rows of a table as the terminal shows it, by heading; a cell has no two blanks within."""
    code, text = on_terminal(world.home, world.gw.admin_url, args, NO_COLOR="1", GATEWAYD_PAGER="", GATEWAYD_TOKEN=world.gw.ready["admin_token"])
    assert code == 0, text
    lines = text.split("\n\n")[0].splitlines()
    headings = re.split(r" {2,}", lines[0].strip())
    return [dict(zip(headings, re.split(r" {2,}", line.strip()), strict=True)) for line in lines[1:]]


def asked(world, path):
    answer = world.get("/api/monitoring/" + path)
    assert answer.status == 200, answer
    return answer.json


def spent_by_the_simulator(world, provider):
    """Attempts, failures, tokens and dollars of a provider by what its simulator says that it did, at the prices above."""
    profile, (row,) = {"openrouter": "a", "fireworks": "b"}[provider], [p for p in PRICES["prices"] if p["provider"] == provider]
    log = [r for r in world.sim.control.settled_log() if r["profile"] == profile and r["operation"] == "chat"]
    tin, tout = (sum(r[name] for r in log) for name in ("prompt_tokens", "completion_tokens"))
    usd = (tin * Fraction(row["input_usd_per_mtok"]) + tout * Fraction(row["output_usd_per_mtok"])) / 10**6
    return len(log), sum(r["status"] != 200 for r in log), tin, tout, usd


def test_figures_on_the_screen_are_those_of_the_simulator_and_of_the_api(world):
    truth = {name: spent_by_the_simulator(world, name) for name in ("openrouter", "fireworks")}
    assert [t[:2] for t in truth.values()] == [(13, 0), (6, 4)] and all(t[4] > 0 for t in truth.values())
    whole = [sum(t[i] for t in truth.values()) for i in range(5)]

    # cost, by what it is added up
    document = asked(world, "cost-analysis?days=7")
    assert Fraction(document["total_cost_nanousd"], 10**9) == whole[4]
    rows = {r["PROVIDER"]: r for r in table_of(world, "cost")}
    assert set(rows) == {*truth, "TOTAL"}
    for name, row in rows.items():
        n, _, tin, tout, usd = truth.get(name, whole)
        assert is_shown(row["REQUESTS"], n) and is_shown(row["TOKENS"], tin + tout) and is_shown(row["COST"], usd), row
        assert is_shown(row["SHARE"], usd / whole[4]) and is_shown(row["$/1K REQ"], usd * 1000 / n), row
        assert is_shown(row["$/1M TOK"], usd * 10**6 / (tin + tout)), row
    for by, heading, member in (("tenant", "TENANT", "tenants"), ("key", "KEY", "keys"), ("day", "DAY", "by_day")):
        told = {r[by]: r for r in asked(world, f"cost-analysis?days=7&by={by}")[member]}
        rows = [r for r in table_of(world, "cost", "--by", by) if "TOTAL" not in r.values()] if by != "key" else []
        assert by == "key" or {r[heading] for r in rows} == set(told)
        for row in rows:
            it = told[row[heading]]
            assert is_shown(row["COST"], Fraction(it["total_cost_nanousd"], 10**9)) and is_shown(row["REQUESTS"], it["total_requests"]), row
        assert sum(r["total_cost_nanousd"] for r in told.values()) == whole[4] * 10**9

    # tokens, errors, latency
    for name, target in (("openrouter", OPEN), ("fireworks", FIRE)):
        n, failed, tin, tout, _ = truth[name]
        code, text = on_terminal(world.home, world.gw.admin_url, ["tokens", target, "--columns", "attempts,in,out,in/req,out/req"],
                                 GATEWAYD_TOKEN=world.gw.ready["admin_token"], NO_COLOR="1")
        cells = text.splitlines()[1].split()
        assert code == 0 and all(map(is_shown, cells, (n, tin, tout, Fraction(tin, n), Fraction(tout, n)))), text
        (row,) = [r for r in table_of(world, "errors", "rates", "--by", "provider") if r["PROVIDER"] == name]
        assert is_shown(row["ATTEMPTS"], n) and is_shown(row["FAILED"], failed) and is_shown(row["ERR"], Fraction(failed, n)), row
        (row,) = table_of(world, "latency", "show", target)
        told = asked(world, "latency/" + target)
        for heading, member in (("COUNT", "count"), ("P50", "p50"), ("P95", "p95"), ("P99", "p99")):
            assert heading == "COUNT" and "COUNT" not in row or is_shown(row[heading], Fraction(str(told[member]))), (row, told)
    assert sorted(r["HTTP"] for r in table_of(world, "errors", "--columns", "http,took")) == ["429", "500", "500", "503"]

    # budgets: the counter is what was billed, the same as by the keys of the tenant
    told = {b["account"].split(":")[1]: b for b in world.get("/api/admin/budgets").json["budgets"]}
    by_tenant = {r["tenant"]: r["total_cost_nanousd"] for r in asked(world, "cost-analysis?days=7&by=tenant")["tenants"]}
    rows = {r["ACCOUNT"]: r for r in table_of(world, "budgets", "list", "--all", "--columns", "name,spent,limit,used_ratio")}
    assert {"acme", "globex"} <= set(rows)
    for name in ("acme", "globex"):
        it = told[name]
        assert it["spent_nanousd"] == by_tenant[name] and it["held_nanousd"] == 0
        assert is_shown(rows[name]["SPENT"], Fraction(it["spent_nanousd"], 10**9)) and is_shown(rows[name]["LIMIT"], Fraction(str(it["limit_usd"])))
        assert is_shown(rows[name]["used_ratio"], Fraction(it["spent_nanousd"], it["limit_nanousd"])), rows[name]


# ---- pages

VERSION = re.search(r"VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())[1]

# In this order: what is looked at first has been changed by nobody yet. `{served}` and so on are members of World; a number is the
# exit code.
STORY = [
    ("explain-refused", "explain {refused}"), ("explain-served", "explain {served}"), ("explain-failed", "explain {failed}"),
    ("explain-account", "explain globex"), ("explain-key", "explain acme/web"), ("explain-provider", "explain fireworks"),
    ("explain-target", f"explain {OPEN}"), ("explain-nothing", "explain nobody", 5),
    ("events-real", "events --kind breaker,budget"), ("errors-real", "errors list"), ("health-explain", "health openrouter --explain"),
    ("breakers-all", "breakers list --all"), ("breakers-show", "breakers show fireworks"), ("breakers-history", "breakers list --history"),
    ("budgets", "budgets"), ("budgets-all", "budgets list --all --forecast none"), ("budgets-over", "budgets list --over 90"),
    ("budgets-show", "budgets show globex"), ("budgets-explain", "budgets explain globex"),
    ("budgets-reconcile", "budgets reconcile"), ("limits", "limits"), ("limits-hits", "limits hits"),
    ("tenants", "tenants"), ("tenants-tree", "tenants list --tree"), ("tenants-show", "tenants show acme"),
    ("keys", "keys"), ("keys-show", "keys show acme/web"),
    ("providers", "providers"), ("providers-show", "providers show fireworks"),
    ("report-daily", "report daily"), ("report-monthly", "report monthly --tenant acme"), ("doctor", "doctor", 10),
    ("metrics-check", "metrics check"), ("metrics-show", "metrics show --grep ^aigateway_budget_limit_usd"),
    ("ping", "ping -n 2 -i 100ms"), ("wait", "wait 'health(openrouter)>=70'"), ("api", "api GET /healthz"),
    ("reconcile", "reconcile"), ("journal-inspect", "journal inspect --last 6 {gw.state_dir}"),
    ("audit-none", "audit"), ("anomalies-none", "anomalies"),
    ("aggregate-status", "aggregate status"), ("db-migrate", "db migrate"), ("db-verify", "db verify"), ("db-refresh", "db refresh", 6),
    ("aggregate-hourly", "aggregate hourly"), ("aggregate-backfill", "aggregate backfill --from {hour} --to {hour} --allow-gaps"),
    ("db-archive", "db archive --older-than 90d --out-file old.csv.gz --confirm metrics", 6),
    ("mock-list", "mock list"), ("mock-set", "mock set b --latency 400ms --error-rate 8% --error 429"), ("mock-heal", "mock heal b"),
    # control
    ("breakers-asks", f"breakers open {OPEN} --for 30m --no-input", 7),
    ("breakers-open", f"breakers open {OPEN} --drain --for 30m --yes --reason 'the network team moves a cable in hall seven'"),
    ("breakers-forced", "breakers"), ("breakers-forced-show", "breakers show openrouter"),
    ("breakers-auto", f"breakers auto {OPEN} --yes"), ("breakers-close", f"breakers close {FIRE} --for 5m --yes"),
    ("breakers-reset", f"breakers reset {FIRE} --yes"),
    ("providers-disable", "providers disable fireworks --yes --reason 'invoice in dispute'"), ("providers-drain", "providers drain fireworks --yes"),
    ("providers-changed", "providers --columns provider,state,kind,in_flight,until,reason"), ("providers-enable", "providers enable fireworks --yes"), ("providers-probe", "providers probe fireworks --yes"),
    ("tenants-create", "tenants create initech --rpm 600 --name 'Initech Incorporated'"), ("tenants-update", "tenants update initech --tpm 1000"),
    ("tenants-suspend", "tenants suspend initech --yes"), ("tenants-resume", "tenants resume initech"),
    ("keys-create", "keys create initech/web --expires 720h"), ("keys-rotate", "keys rotate initech/web --yes"),
    ("keys-disable", "keys disable initech/web --yes"), ("keys-enable", "keys enable initech/web"), ("keys-revoke", "keys revoke initech/web --yes"),
    ("keys-revoke-all", "keys revoke --all initech --confirm initech"), ("keys-revoked", "keys list initech"),
    ("limits-set", "limits set initech --rpm 60 --yes"), ("limits-none", "limits set nobody --rpm 60 --yes", 5),
    ("budgets-set", "budgets set initech --limit 2500 --period month"), ("budgets-lower", "budgets set initech --limit 1500 --yes"),
    ("budgets-add", "budgets add initech --amount 200 --until 2099-11-30"), ("budgets-remove", "budgets remove initech --id {topup} --yes"),
    ("budgets-reset", "budgets reset globex --confirm globex"), ("budgets-delete", "budgets delete initech --yes"),
    ("tenants-delete", "tenants delete initech --confirm initech"),
    ("reload", "reload"), ("metrics-reset", "metrics reset --confirm metrics"), ("audit-real", "audit --filter '!aggregate !config.reload' --columns at,actor,action,subject,reason"), ("audit-verify-real", "audit verify"),
    # no gateway is asked
    ("config-check", "config check {gw.config_file}"), ("config-explain", "config explain workers"), ("config-diff", "config diff {gw.config_file}"),
    ("config-set", "config set prod --url https://gw.example.net --read-only=yes"), ("config-contexts", "config contexts"),
    ("config-rename", "config rename prod live"), ("config-use", "config use live"), ("config-delete", "config delete live"),
    ("config-init", "config init --profile single new.yaml"),
    ("alerts-list", "alerts list --group provider_health"), ("alerts-explain", "alerts list --explain CircuitBreakerOpen"),
    ("alerts-check", "alerts check gatewayd.yml"), ("alerts-test", "alerts test --group provider_health rules-test.yml"), ("alerts-now", "alerts test --now --group provider_health"),
    ("alerts-routes", "alerts routes"),
    ("dashboards-list", "dashboards list --limit 2"), ("dashboards-check", "dashboards check cache"), ("dashboards-install", "dashboards install --out-dir grafana --provisioning grafana.yaml"),
    ("dashboards-push", "dashboards push --url http://127.0.0.1:1", 3),
    ("schema", "schema"), ("version", "version"),
    # complaints
    ("unknown-command", "brakers", 2), ("unknown-verb", "budgets lst", 2), ("unknown-option", "cost --dya 3", 2), ("wrong-value", "health -o xml", 2),
    ("no-answer", "--url http://127.0.0.1:1 health", 3), ("no-token", "--url {gw.admin_url} health", 4),
]


WITHOUT = {  # commands whose pages are compared elsewhere
    "top": "tests/golden/aigwtop", "demo": "tests/e2e/test_demo.py", "alerts generate": "deploy/prometheus/rules/gatewayd.yml",
    "dashboards render": "dashboards", "completion": "completions/aigwctl.bash",
}


MEASURED = ("ping", "aggregate-", "db-", "providers-probe", "doctor")  # their own durations and sizes


def settled(name, text):
    """What differs from run to run and does not come through the glass: each in as many characters as it had."""
    if name.startswith(MEASURED):
        text = re.sub(r" {2,}", "  ", re.sub(r"\b\d[\d.]*( ?[KMG]iB|ms|us|m?s)\b|(?<= )\d\d:\d\d(?= )", "#", text))
    if name in ("metrics-check", "dashboards-install", "alerts-check", "audit-verify-real"):  # as many as there are
        text = re.sub(r"\b\d+(?= [a-z])", lambda m: "0" * len(m[0]), text)
    text = text.replace(VERSION, "0.1.0")
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "01a1fe83-adec-71f5-9c60-000000000000", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "ab" * 32, text)
    text = re.sub(r"\b20[2-5]\d-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d+)?)?)?)?", lambda m: re.sub(r"\d", "0", m[0]), text)
    text = re.sub(r"(?<=through )\d\d:\d\d:\d\d", "00:00:00", text)
    text = re.sub(r"\bgw-[0-9A-Za-z]{5}([0-9A-Za-z]{38})?\b", lambda m: "gw-" + "x" * (len(m[0]) - 3), text)
    text = re.sub(r"\b\d{17}\b", "1" * 17, text)  # a place in the journal
    return re.sub(r"127\.0\.0\.1:\d{5}\b", "127.0.0.1:50000", text)


def test_every_command_looks_as_it_did(world):
    """In the order of the story, in 80 columns; with the exit code where it is not 0."""
    wrong = []
    for name, words, *code in STORY:
        args = shlex.split(words.format(**vars(world)))
        got, text = on_terminal(world.home, world.still.address, args, NO_COLOR="1", GATEWAYD_PAGER="", GATEWAYD_STATE_DIR=world.gw.state_dir.name)
        if name == "budgets-add":
            world.topup = re.search(r"--id (\S+)", text)[1]
        wide = [line for line in text.splitlines() if len(line) > 80 and not name.startswith("report")]
        page = settled(name, text) + (f"[exit {got}]\n" if got else "")
        if got != (code or [0])[0] or wide or not same(GOLDEN / f"{name}.txt", page):
            wrong.append((name, got, wide, page))
    assert not wrong, "\n".join(f"--- {name}: exit {got}, too wide: {wide}\n{page}" for name, got, wide, page in wrong)


def commands():
    """What the table of commands holds, as "budgets list" or "cost"."""
    text = run(["aigwctl", "__emit", "markdown"]).stdout
    return [re.match(r"[a-z]+( [a-z]+(?![a-z\\|]))?", row)[0] for row in re.findall(r"^\| `aigwctl ([^`]+)` \|", text, re.M)]


def test_every_command_has_a_page_and_every_page_a_command():
    table = commands()
    assert len(table) > 100 and {"budgets list", "db migrate", "cost", "keys revoke"} <= set(table)
    looked_at = set()
    for args in [*PAGES.values(), *(shlex.split(words) for _, words, *_ in STORY)]:
        default = next((c for c in table if c.split()[0] == (args or [""])[0]), None)
        looked_at.add(" ".join(args[:2]) if " ".join(args[:2]) in table else default)
    assert set(table) - looked_at == set(WITHOUT)
    assert all((ROOT / place).exists() for place in WITHOUT.values())
    names = [name for name, *_ in STORY]
    assert len(set(names)) == len(names) and not set(names) & set(PAGES)
    assert {p.stem for p in GOLDEN.glob("*.txt")} == set(PAGES) | set(names)


def test_no_help_and_no_complaint_is_wider_than_the_terminal(tmp_path):
    nouns = sorted({c.split()[0] for c in commands()})
    topics = re.findall(r"[a-z-]+", run(["aigwctl"]).stdout.strip().splitlines()[-1])
    calls = [[noun, "--help"] for noun in nouns] + [["help", topic] for topic in topics]
    calls += [[noun, *wrong] for noun in nouns if noun != "top"
              for wrong in (["--nope"], ["-Z"], ["frobnicate", "x", "y", "z"], ["-o", "xml"], ["--columns"], ["--timeout", "soon"])]
    calls += [c.split() for c in commands() if c.split()[0] not in ("top", "demo", "ping")]  # nobody answers, or an argument is missing

    def wide(args):
        code, text = on_terminal(tmp_path, "http://127.0.0.1:1", args, NO_COLOR="1", GATEWAYD_PAGER="")
        assert code >= 0 and text.strip(), (args, code)
        return [(" ".join(args), line) for line in text.splitlines() if len(line) > 80 and not is_a_document(args)]

    with ThreadPoolExecutor(4) as pool:
        found = [line for lines in pool.map(wide, calls) for line in lines]
    assert len(calls) > 300 and found == []


def is_a_document(args):
    """What is made for a file or a program and not to be read in place."""
    return " ".join(args[:2]) in ("alerts generate", "dashboards render", "config init")
