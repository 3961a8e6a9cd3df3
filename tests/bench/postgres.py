"""
What the PostgreSQL sink makes of the speed of COPY: the same charges, written through the sink and by a bare COPY.

Invariant: one server of its own, with durable commits; both write rated charges in batches of the same size into a
table of the same layout, indexes included, emptied before each, in alternating rounds of one process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from rich.table import Table

from livekit_costmeter.delivery.sinks.postgres import PostgresSink
from livekit_costmeter.records import CHARGE_FIELDS, Charge
from tests.engines.postgres import PostgresServer

ROUNDS, ROWS = 5, 20_000
BATCHES = (500, 5_000)
SHARE_BUDGET = 40.0
_LABELS = CHARGE_FIELDS.index("labels")
_values = attrgetter(*CHARGE_FIELDS)


def measure() -> Table:
    """Return the table: rows per second both ways, by size of the batch, and the sink's share; medians."""
    table = Table(title=f"PostgreSQL: {ROWS:,} rated charges, rows per second")
    for name in ("rows per batch", "bare COPY", "through the sink", "share"):
        table.add_column(name, justify="right")
    rows = list(rated_charges())
    with PostgresServer(fsync="on") as server:
        dsn = server.database("bench")
        with psycopg.connect(dsn, autocommit=True) as connection:
            for size in BATCHES:
                table.add_row(f"{size:,}", *_cells(connection, dsn, _batches(rows, size)))
    return table


def _cells(connection: psycopg.Connection[Any], dsn: str, batches: list[list[Charge]]) -> list[str]:
    sink = PostgresSink(PostgresSink.Options(dsn=dsn))
    sink.open()
    speeds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * ROUNDS):
        through = bool(number % 2)
        connection.execute("TRUNCATE charges; CHECKPOINT")
        speeds[through].append(_speed(sink.write if through else lambda batch: _copy(connection, batch), batches))
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


def _copy(connection: psycopg.Connection[Any], batch: list[Charge]) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY charges FROM STDIN") as copy:
        for charge in batch:
            row = list(_values(charge))
            row[_LABELS] = Jsonb(row[_LABELS])
            copy.write_row(row)


def _batches(rows: list[Charge], size: int) -> list[list[Charge]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def rated_charges() -> Iterator[Charge]:
    """Make `ROWS` charges as a day of calls makes them, two of each record."""
    start = datetime(2026, 11, 20, tzinfo=UTC)
    missing = dict.fromkeys(CHARGE_FIELDS)
    for number in range(ROWS):
        record, line = divmod(number, 2)
        quantity = Decimal(700 + number % 900)
        yield Charge(**{
            **missing,
            "record_id": f"20261120T000000000000Z-00112233445566778899aabb-{record}",
            "line": line,
            "kind": "usage",
            "at": start + timedelta(milliseconds=37 * record),
            "started_at": start + timedelta(milliseconds=37 * record - 900),
            "component": "llm",
            "outcome": "completed",
            "provider": "openai",
            "model": "gpt-4o-mini",
            "reported_provider": "api.openai.com",
            "reported_model": "gpt-4o-mini-2024-07-18",
            "operation_id": f"chatcmpl-{record}",
            "unit": ("input_tokens", "output_tokens")[line],
            "quantity": quantity,
            "quantity_basis": "reported",
            "billable_quantity": quantity,
            "unit_price": Decimal("0.15"),
            "price_per": Decimal(1_000_000),
            "cost": quantity * Decimal("0.00000015"),
            "currency": "USD",
            "pricing_status": "priced",
            "pricing_source": "catalog:genai-prices@0.2.3#openai/gpt-4o-mini@base",
            "price_digest": "0011223344",
            "stale": False,
            "key_id": "9f31c2d07a4e",
            "key_owner": "platform",
            "billed_by": "platform",
            "account": f"account-{record % 100}",
            "project": "support-line",
            "labels": {"campaign": "q4"},
            "session_id": f"session-{record // 60}",
            "job_id": f"AJ_{record // 60}",
            "room": f"room-{record // 60}",
            "agent": "Receptionist",
            "speech_id": f"speech-{record}",
        })  # fmt: skip
