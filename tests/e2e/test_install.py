# SPDX-License-Identifier: Apache-2.0
"""What `cmake --install` puts where: a host finds programs, pages, completions, units, dashboards and rules at the places where
it looks for them, and each is whole."""

import json
import os
import shutil
import signal
import socket
import subprocess

import pytest

from support.gateway import model, provider
from support.process import BIN, ROOT, is_sanitized

BUILD = BIN.parent

pytestmark = [pytest.mark.skipif(not (BUILD / "CMakeCache.txt").exists(), reason="the programs are not in a build directory"),
              pytest.mark.skipif(is_sanitized(), reason="a story about files")]

PLACES = """bin/gatewayd bin/aigwctl bin/aigwtop share/man/man1/aigwctl.1 share/man/man1/aigwtop.1 share/man/man8/gatewayd.8
share/bash-completion/completions/aigwctl share/fish/vendor_completions.d/aigwctl.fish lib/systemd/system/gatewayd.service
lib/systemd/system/gatewayd-aggregate.service lib/systemd/system/gatewayd-aggregate.timer lib/sysusers.d/gatewayd.conf
share/gatewayd/prometheus/prometheus.yml share/gatewayd/prometheus/rules/gatewayd.yml share/gatewayd/alertmanager/alertmanager.yml
share/gatewayd/grafana/provisioning/dashboards/gatewayd.yaml share/doc/gatewayd/copyright share/doc/gatewayd-tools/copyright
share/doc/gatewayd/examples/docker-compose.yml""".split()


def install(dest, prefix):
    done = subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], capture_output=True, text=True, env={**os.environ, "DESTDIR": str(dest)})
    assert done.returncode == 0, done.stderr
    return {str(p.relative_to(dest)) for p in dest.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    root = tmp_path_factory.mktemp("host")
    return root, install(root, "/usr")


def test_everything_is_installed_where_a_host_looks_for_it(host):
    root, files = host
    assert {f"usr/{p}" for p in PLACES} <= files, {f"usr/{p}" for p in PLACES} - files
    assert {"usr/share/zsh/vendor-completions/_aigwctl", "etc/cron.d/gatewayd-tools"} <= files
    dashboards = {p.name for p in (ROOT / "dashboards").glob("*.json")}
    assert {f.rpartition("/")[2] for f in files if f.startswith("usr/share/gatewayd/dashboards/")} == dashboards and len(dashboards) == 11
    for path in (root / "usr/share/gatewayd/dashboards").iterdir():
        assert json.loads(path.read_text())["uid"].startswith("gatewayd-")
    assert not any(f.startswith("etc/gatewayd") for f in files), "a configuration would be overwritten"
    for name in ("gatewayd", "aigwctl", "aigwtop"):
        done = subprocess.run([root / "usr/bin" / name, "--version"], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.startswith(f"{name} "), done
    for shell, place in (("bash", "bash-completion/completions/aigwctl"), ("zsh", "zsh/vendor-completions/_aigwctl"), ("fish", "fish/vendor_completions.d/aigwctl.fish")):
        assert subprocess.run([shell, "-n", root / "usr/share" / place], capture_output=True, text=True).stderr == "", shell


@pytest.mark.skipif(not shutil.which("man"), reason="man not installed")
def test_man_finds_the_pages(host):
    root, _ = host
    for section, name in (("1", "aigwctl"), ("1", "aigwtop"), ("8", "gatewayd")):
        done = subprocess.run(["man", "-M", root / "usr/share/man", "--where", section, name], capture_output=True, text=True)
        assert done.stdout.strip() == str(root / f"usr/share/man/man{section}/{name}.{section}"), done


def test_units_and_the_cron_line_name_the_programs_of_their_prefix(tmp_path):
    files = install(tmp_path, "/opt/gw")
    assert {"opt/gw/etc/cron.d/gatewayd-tools", "opt/gw/share/zsh/site-functions/_aigwctl"} <= files
    assert not any(f.startswith(("etc/", "usr/")) for f in files)
    units = tmp_path / "opt/gw/lib/systemd/system"
    assert "ExecStart=/opt/gw/bin/gatewayd -c" in (units / "gatewayd.service").read_text()
    assert "ExecStart=/opt/gw/bin/aigwctl aggregate hourly" in (units / "gatewayd-aggregate.service").read_text()
    assert "\nPATH=/opt/gw/bin:" in (tmp_path / "opt/gw/etc/cron.d/gatewayd-tools").read_text()


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_the_service_manager_hears_when_it_serves_reloads_and_drains(stage, abstract):
    upstream = stage.upstream()
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stage.endings.append(heard.close)
    heard.bind(f"\0gatewayd-test-{os.getpid()}" if abstract else str(stage.directory / "notify"))
    heard.settimeout(10)
    name = f"@gatewayd-test-{os.getpid()}" if abstract else str(stage.directory / "notify")
    gateway = stage.gateway([provider("up", upstream.url)], [model("chat", "up/m")], env={"NOTIFY_SOCKET": name})

    def word():
        return heard.recv(4096).decode().split("\n")[0]

    assert word() == "READY=1" and gateway.get("/readyz").status == 200
    gateway.signal(signal.SIGHUP)
    assert [word(), word()] == ["RELOADING=1", "READY=1"] and gateway.metric("gatewayd_config_version") == 2
    gateway.signal(signal.SIGTERM)
    assert word() == "STOPPING=1" and gateway.wait() == 0
