"""
What the SQLite sink makes of the speed of `executemany`: the same charges, through the sink and as rows made before.

Invariant: both write batches of the same size to files of the same layout, indexes and journal included, emptied before
each round, in alternating rounds of one process. The bare side is given its rows ready, and would fail on a repeat.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.table import Table

from livekit_costmeter.delivery.sinks.sqlite import SqliteSink
from livekit_costmeter.records import CHARGE_FIELDS, Charge
from tests.bench.postgres import ROWS, rated_charges

ROUNDS = 9
BATCHES = (500, 5_000)
SHARE_BUDGET = 60.0
_INSERT = f"INSERT INTO charges VALUES ({', '.join('?' * len(CHARGE_FIELDS))})"
_SETTLED = "DELETE FROM charges", "PRAGMA wal_checkpoint(TRUNCATE)"


def measure() -> Table:
    """Return the table: rows per second both ways, by size of the batch, and the sink's share; medians."""
    table = Table(title=f"SQLite: {ROWS:,} rated charges, rows per second")
    for name in ("rows per batch", "bare executemany", "through the sink", "share"):
        table.add_column(name, justify="right")
    charges = list(rated_charges())
    for size in BATCHES:
        with tempfile.TemporaryDirectory() as directory:
            table.add_row(f"{size:,}", *_cells(Path(directory), charges, size))
    return table


def _cells(directory: Path, charges: list[Charge], size: int) -> list[str]:
    ours, bare = directory / "sink.db", directory / "bare.db"
    sink, other = (SqliteSink(SqliteSink.Options(path=path)) for path in (ours, bare))
    other.open()  # lays out the file
    other.close()
    sink.write(charges)
    rows = _rows(ours)
    with closing(sqlite3.connect(bare, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=NORMAL")
        speeds: dict[bool, list[float]] = {False: [], True: []}
        for number in range(2 * ROUNDS):
            through = bool(number % 2)
            _empty(ours if through else bare)
            write = sink.write if through else lambda batch: _insert(connection, batch)
            speeds[through].append(_speed(write, charges if through else rows, size))
            assert _rows(ours if through else bare) == rows
    sink.close()
    share = statistics.median(speeds[True]) / statistics.median(speeds[False]) * 100
    judged = "" if share >= SHARE_BUDGET else f" [red](under {SHARE_BUDGET:g} %)[/red]"
    return [f"{statistics.median(speeds[way]):,.0f}" for way in (False, True)] + [f"{share:.0f} %{judged}"]


def _rows(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {', '.join(CHARGE_FIELDS)} FROM charges ORDER BY rowid").fetchall()


def _empty(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in _SETTLED:
            connection.execute(statement)


def _speed(write: Callable[[Any], None], items: Sequence[Any], size: int) -> float:
    started = time.perf_counter()
    for start in range(0, len(items), size):
        write(items[start : start + size])
    return ROWS / (time.perf_counter() - started)


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(_INSERT, rows)
    connection.execute("COMMIT")
