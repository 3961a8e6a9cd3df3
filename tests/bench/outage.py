"""
An hour of 100 concurrent calls, replayed faster, with PostgreSQL down for half of it; `python -m tests.bench.outage`.

Four processes append for 25 calls each, one process ships to SQLite and to a PostgreSQL server of its own, which is
killed after a quarter of the hour and comes back after three.

Invariant: the course of events is read from what was stored, not from watching. PostgreSQL numbers its transactions in
their order and keeps the time of each commit; the rows of one transaction arrive at once.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from livekit_costmeter.delivery import ShipLock, list_segments
from tests.engines.postgres import PostgresServer

HOUR, CALLS, WRITERS = 3_600.0, 100, 4
DOWN, BACK = HOUR / 4, HOUR * 3 / 4
SPEED = 90.0
LOOKS = 10
"""How often SQLite is looked at while PostgreSQL is down."""
_PATIENCE = 300.0
_ROOT = Path(__file__).parents[2]
_WRITER = _ROOT / "tests/delivery/children/replay_calls.py"
_CONFIG = """\
spool: {dir: ./spool}
sinks:
  - {name: ledger, type: sqlite, path: ./ledger.db}
  - {name: warehouse, type: postgres, dsn: "${COSTMETER_DSN}"}
"""
_ARRIVALS = (
    "SELECT record_id, line, xmin::text::bigint, "
    "extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM charges"
)


@dataclass(frozen=True, slots=True)
class Appended:
    """What a writer says of one record: due in seconds of the hour, `slip` counts the others that were due too."""

    record_id: str
    session: str
    charges: int
    due: float
    slip: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A row in PostgreSQL: which transaction brought it, and when that was committed (epoch seconds)."""

    record_id: str
    line: int
    transaction: int
    at: float


@dataclass(frozen=True, slots=True)
class Course:
    """What happened.

    `counts` are each writer's refused, dropped and waiting records, `looks` the rows in SQLite from PostgreSQL's end
    to its return, `ledger` the keys of SQLite's rows and `arrivals` the rows of PostgreSQL, both as they came,
    `returned` is when PostgreSQL was started again (epoch seconds), and `said` is what each process logged.
    """

    appended: list[Appended]
    counts: list[dict[str, int]]
    looks: list[int]
    ledger: list[tuple[str, int]]
    arrivals: list[Arrival]
    returned: float
    said: dict[str, str]

    @property
    def charges_per_second(self) -> float:
        """How many charges the calls make in one second of theirs."""
        return sum(record.charges for record in self.appended) / HOUR

    def slip(self, since: float = DOWN, until: float = BACK) -> int:
        """Return by how many records a writer was behind at most, in a part of the hour."""
        return max(record.slip for record in self.appended if since <= record.due < until)

    def backlog(self) -> list[Arrival]:
        """Return the rows that waited for PostgreSQL, as they came: as many as SQLite had when it was back."""
        before = sum(arrival.at < self.returned for arrival in self.arrivals)
        return self.arrivals[before : self.looks[-1]]

    def wait(self) -> float:
        """Return the seconds from PostgreSQL's new start to the first row that came."""
        return self.backlog()[0].at - self.returned

    def drain_rate(self) -> float:
        """Return the rows per second of the backlog, from its first commit to its last."""
        backlog = self.backlog()
        first, last = backlog[0].at, backlog[-1].at
        times = [arrival.at for arrival in backlog]
        return (len(backlog) - times.count(first)) / (last - first)


def replay(directory: Path, speed: float = SPEED) -> Course:
    """Let the hour pass and return its course, when everything has arrived."""
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer(track_commit_timestamp="on"))
        dsn = server.database("warehouse")
        _start_shipper(stack, directory, dsn)
        start = time.time() + 1
        writers = [_start_writer(stack, directory, number, speed, start) for number in range(WRITERS)]
        _sleep_until(start + DOWN / speed)
        server.kill()
        looks = _look_on(directory / "ledger.db", speed, start)
        returned = time.time()
        server.start()
        looks[-1] = _rows(directory / "ledger.db")
        codes = [writer.wait(_PATIENCE) for writer in writers]
        _wait_until(lambda: not list_segments(directory / "spool"))
        arrivals = _arrivals(dsn)
    assert not any(codes), _said(directory)
    appended, counts = _logs(directory)
    return Course(appended, counts, looks, _keys(directory / "ledger.db"), arrivals, returned, _said(directory))


def _start_shipper(stack: ExitStack, directory: Path, dsn: str) -> None:
    config = directory / "costmeter.yaml"
    config.write_text(_CONFIG)
    command = ["-m", "livekit_costmeter", "ship", "--watch", "--config", str(config)]
    _start(stack, directory / "shipper", command, {"COSTMETER_DSN": dsn})
    lock = ShipLock(directory / "spool")
    _wait_until(lambda: not lock.is_free())


def _start_writer(
    stack: ExitStack, directory: Path, number: int, speed: float, start: float
) -> subprocess.Popen[bytes]:
    calls = CALLS // WRITERS
    arguments = (directory / "spool", number * calls, calls, HOUR, speed, start, "ledger", "warehouse")
    return _start(stack, directory / f"writer-{number}", [str(_WRITER), *map(str, arguments)], {})


def _start(stack: ExitStack, log: Path, arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    out = stack.enter_context(log.with_suffix(".out").open("wb"))
    errors = stack.enter_context(log.with_suffix(".err").open("wb"))
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), **environment}
    process = subprocess.Popen([sys.executable, *arguments], stdout=out, stderr=errors, env=environment)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _look_on(ledger: Path, speed: float, start: float) -> list[int]:
    """Count SQLite's rows at even intervals until PostgreSQL is to come back."""
    looks = [_rows(ledger)]
    for number in range(1, LOOKS + 1):
        _sleep_until(start + (DOWN + (BACK - DOWN) * number / LOOKS) / speed)
        looks.append(_rows(ledger))
    return looks


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)


def _rows(ledger: Path) -> int:
    # No row is ever deleted, so the last number counts them, whatever there are.
    with closing(sqlite3.connect(ledger)) as connection:
        return int(connection.execute("SELECT coalesce(max(rowid), 0) FROM charges").fetchone()[0])


def _keys(ledger: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(ledger)) as connection:
        return connection.execute("SELECT record_id, line FROM charges ORDER BY rowid").fetchall()


def _arrivals(dsn: str) -> list[Arrival]:
    with psycopg.connect(dsn) as connection:
        return sorted((Arrival(*row) for row in connection.execute(_ARRIVALS)), key=attrgetter("transaction"))


def _logs(directory: Path) -> tuple[list[Appended], list[dict[str, int]]]:
    appended, counts = [], []
    for number in range(WRITERS):
        *lines, last = (directory / f"writer-{number}.out").read_text().splitlines()
        for record_id, session, charges, due, slip in map(str.split, lines):
            appended.append(Appended(record_id, session, int(charges), float(due), int(slip)))
        counts.append(json.loads(last))
    return appended, counts


def _said(directory: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted(directory.glob("*.err"))}


def measure(speed: float = SPEED) -> Table:
    """Return the table: what the hour was, how far anything fell behind, and how fast the backlog drained."""
    with tempfile.TemporaryDirectory() as directory:
        course = replay(Path(directory), speed)
    real = course.charges_per_second
    title = f"{CALLS} calls for an hour (x{speed:g}), PostgreSQL down for half of it"
    table = Table("", "", title=title, show_header=False)
    for name, value in (
        ("records, charges", f"{len(course.appended):,}, {len(course.arrivals):,}"),
        ("arrival in real time", f"{real:.1f} charges/s"),
        ("appends refused", f"{sum(count['refused'] for count in course.counts)}"),
        ("a writer was behind by, at most", f"{course.slip()} records (without outage: {course.slip(0, DOWN)})"),
        ("rows that waited", f"{len(course.backlog()):,}"),
        ("PostgreSQL started to first row", f"{course.wait():.1f} s"),
        ("drained at", f"{course.drain_rate():,.0f} charges/s = {course.drain_rate() / real:.0f} x arrival"),
    ):
        table.add_row(name, value)
    return table


if __name__ == "__main__":
    Console().print(measure())
