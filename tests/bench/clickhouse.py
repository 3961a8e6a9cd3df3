"""
What the ClickHouse sink makes of the speed of a native insert: the same charges, through the sink and bare.

Invariant: one server of its own; both insert rated charges by the same client library in batches of the same size into
tables of the same layout, emptied before each, in alternating rounds of one process.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import clickhouse_connect
from rich.table import Table

from livekit_costmeter.delivery.sinks import SinkError
from livekit_costmeter.delivery.sinks.clickhouse import ClickHouseSink
from livekit_costmeter.delivery.sinks.clickhouse_table import create_table
from livekit_costmeter.records import CHARGE_FIELDS, Charge
from tests.bench.postgres import ROUNDS, ROWS, rated_charges

BATCHES = (5_000, 20_000)
SHARE_BUDGET = 60.0
_ENGINE = Path(__file__).parents[1] / "engines" / "clickhouse.py"
_values = attrgetter(*CHARGE_FIELDS)


def measure() -> Table:
    """Return the table: rows per second both ways, by size of the batch, and the sink's share; medians."""
    table = Table(title=f"ClickHouse: {ROWS:,} rated charges, rows per second")
    for name in ("rows per batch", "bare insert", "through the sink", "share"):
        table.add_column(name, justify="right")
    rows = list(rated_charges())
    with _server() as dsn:
        client = clickhouse_connect.get_client(dsn=dsn, autogenerate_session_id=False)
        client.command(create_table("bare"))
        for size in BATCHES:
            batches = [rows[start : start + size] for start in range(0, len(rows), size)]
            table.add_row(f"{size:,}", *_cells(client, dsn, batches))
        client.close()
    return table


@contextmanager
def _server() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        port = _free_port()
        process = subprocess.Popen([sys.executable, str(_ENGINE), str(port), directory])
        try:
            dsn = f"http://costmeter:correct-horse-battery@127.0.0.1:{port}/default"
            _wait_for(ClickHouseSink(ClickHouseSink.Options(dsn=dsn)))
            yield dsn
        finally:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(sink: ClickHouseSink) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            sink.open()
        except SinkError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            sink.close()
            return


def _cells(client: Any, dsn: str, batches: list[list[Charge]]) -> list[str]:
    sink = ClickHouseSink(ClickHouseSink.Options(dsn=dsn))
    sink.open()
    speeds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * ROUNDS):
        through = bool(number % 2)
        table = "charges_rows" if through else "bare"
        client.command(f"TRUNCATE TABLE {table}")
        speeds[through].append(_speed(sink.write if through else lambda batch: _insert(client, batch), batches))
        stored = client.command(f"SELECT count() FROM {table}")
        assert stored == ROWS, f"{stored} rows in {table}"
    sink.close()
    bare, ours = statistics.median(speeds[False]), statistics.median(speeds[True])
    share = ours / bare * 100
    judged = "" if share >= SHARE_BUDGET else f" [red](under {SHARE_BUDGET:g} %)[/red]"
    return [f"{bare:,.0f}", f"{ours:,.0f}", f"{share:.0f} %{judged}"]


def _speed(write: Callable[[list[Charge]], None], batches: list[list[Charge]]) -> float:
    started = time.perf_counter()
    for batch in batches:
        write(batch)
    return ROWS / (time.perf_counter() - started)


def _insert(client: Any, batch: list[Charge]) -> None:
    client.insert("bare", [_values(charge) for charge in batch], column_names=CHARGE_FIELDS)
