# SPDX-License-Identifier: Apache-2.0
"""Real PostgreSQL servers: initdb runs once, each server gets a copy of what it made. They lie in a short directory of
their own under the temporary one: sockets have short names, and the server's user must be able to reach it."""

import atexit
import functools
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from support import ports
from support.wait import eventually

USER, PASSWORD = "gatewayd", "postgres-test-password"

SETTINGS = """
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
shared_buffers = 32MB
max_connections = 60
timezone = 'Europe/Berlin'
log_min_messages = warning
"""
# Without fsync what was committed still survives the death of the processes, though not that of the machine. The time zone is
# not UTC, so that what depends on it by accident is found.


@functools.cache
def program(name):
    newest = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), key=lambda p: float(p.split("/")[4]))
    found = newest[-1] if newest else shutil.which(name)
    assert found, f"'{name}' of PostgreSQL is not installed"
    return found


@functools.cache
def server_user():
    """It refuses to run as root; packages bring a user for it."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def as_server():
    u = server_user()
    return {"user": u.pw_uid, "group": u.pw_gid, "extra_groups": []} if u else {}


def give(path):
    """Everything below to the server's user."""
    u = server_user()
    if u:
        for where, directories, files in os.walk(path):
            for name in (".", *directories, *files):
                os.chown(os.path.join(where, name), u.pw_uid, u.pw_gid, follow_symlinks=False)


def new_directory():
    path = Path(tempfile.mkdtemp(prefix="gwpg-"))
    give(path)
    return path


@functools.cache
def template():
    root = new_directory()
    atexit.register(shutil.rmtree, root, True)
    word = root / "word"
    word.write_text(PASSWORD)
    give(root)
    done = subprocess.run(
        [program("initdb"), "-D", root / "data", "-U", USER, f"--pwfile={word}", "--auth-local=trust", "--auth-host=scram-sha-256",
         "--no-sync", "--no-locale", "-E", "UTF8", "--wal-segsize=1", "--no-instructions"],
        capture_output=True, text=True, cwd="/", **as_server(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # What new databases are made of is two thirds of the files, and each server gets a copy: there is one database only.
    spare = "".join(f"UPDATE pg_database SET datistemplate = false WHERE datname = '{d}';\nDROP DATABASE {d};\n" for d in ("template0", "template1"))
    done = subprocess.run([program("postgres"), "--single", "-F", "-D", root / "data", "postgres"], input=spare, capture_output=True,
                          text=True, cwd="/", **as_server())
    assert done.returncode == 0 and "ERROR" not in done.stderr, done.stdout + done.stderr
    with open(root / "data" / "postgresql.conf", "a", encoding="utf-8") as f:
        f.write(SETTINGS)
    return root / "data"


class Postgres:
    def __init__(self, settings=""):
        self.directory = new_directory()
        self.data, self.log_file = self.directory / "data", self.directory / "log"
        subprocess.run(["cp", "-a", template(), self.data], check=True)
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as f:
            f.write(f"unix_socket_directories = '{self.directory}'\n{settings}\n")
        self.child, self.port = None, None

    def start(self, within=30.0):
        """On the port that it had before, if it had one."""
        had = self.port
        for _ in range(5):
            self.port = had or ports.free_port()
            with open(self.log_file, "ab") as log:
                self.child = subprocess.Popen([program("postgres"), "-D", self.data, "-p", str(self.port)], cwd="/",
                                              stdin=subprocess.DEVNULL, stdout=log, stderr=log, **as_server())
            if self.is_up(within):
                return self
            self.kill()
        raise AssertionError(f"postgres does not start:\n{self.log()[-2000:]}")

    def is_up(self, within):
        deadline = time.monotonic() + within
        while self.child.poll() is None and time.monotonic() < deadline:
            try:
                self.connect().close()
                return True
            except psycopg.OperationalError:
                time.sleep(0.02)
        return False

    def log(self):
        return self.log_file.read_text(errors="replace")

    @property
    def address(self):
        return "127.0.0.1", self.port

    def url(self, address=None):
        """For the gateway; `address` of a proxy in between."""
        host, port = address or self.address
        return f"postgresql://{USER}:{PASSWORD}@{host}:{port}/postgres"

    def connect(self, timeout=5):
        return psycopg.connect(host=str(self.directory), port=self.port, user=USER, dbname="postgres", autocommit=True,
                               connect_timeout=timeout)

    def query(self, sql, *parameters):
        with self.connect() as c:
            return c.execute(sql, parameters or None).fetchall()

    def execute(self, sql):
        with self.connect() as c:
            c.execute(sql)

    def pause(self):
        """The postmaster first, so that it makes no new ones meanwhile."""
        ports.tell([self.child.pid], signal.SIGSTOP)
        ports.tell(ports.family(self.child.pid)[1:], signal.SIGSTOP)

    def resume(self):
        ports.tell(reversed(ports.family(self.child.pid)), signal.SIGCONT)

    def kill(self):
        """kill -9 of all of it; what was committed is there when it starts again."""
        if self.child is None or self.child.poll() is not None:
            return
        ports.tell([self.child.pid], signal.SIGSTOP)
        pids = ports.family(self.child.pid)
        ports.tell(pids, signal.SIGKILL)
        self.child.wait()
        eventually(lambda: not any(os.path.exists(f"/proc/{p}") for p in pids[1:]), 10, what="the backends are gone")

    def restart(self):
        self.kill()
        return self.start()

    def set_read_only(self, is_read_only):
        """Also for connections that are open, from their next transaction on."""
        self.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if is_read_only else 'off'}")
        self.execute("SELECT pg_reload_conf()")
        want = "on" if is_read_only else "off"
        eventually(lambda: self.query("SHOW default_transaction_read_only") == [(want,)], 10, what="the setting is read")

    def stop(self):
        """Immediate: what it holds is not needed any more."""
        if self.child is not None and self.child.poll() is None:
            ports.tell(reversed(ports.family(self.child.pid)), signal.SIGCONT)
            ports.end(self.child, signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)
