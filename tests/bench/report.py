"""
What a report takes beside plain SQL over the same rows: a month of calls in SQLite, by model, day and account.

Invariant: one file, one process, alternating rounds; the plain GROUP BY adds costs as floats and counts rows, the
report gives everything that `costmeter report` shows. `COSTMETER_BENCH_CHARGES` says how many charges the month has.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.table import Table

from livekit_costmeter.delivery.sinks.sqlite import SqliteSink
from livekit_costmeter.records import CHARGE_FIELDS
from livekit_costmeter.reporting import Report
from livekit_costmeter.reporting.rollup import rolled_up_report, rollup_path

CHARGES = int(os.environ.get("COSTMETER_BENCH_CHARGES", "10_000_000"))
ROUNDS = 3
BUDGETS = {"model": 20, "day": 20, "account": 5}
_SQL = {"model": "model", "day": "substr(at, 1, 10)", "account": "account"}
_START = datetime(2026, 11, 1, tzinfo=UTC)
_MONTH = timedelta(days=30)
_CALLS_AT_ONCE, _ACCOUNTS, _RECORDS_PER_CALL = 20, 100, 61
_LINES = (
    (0, 0, "llm", "openai", "gpt-4o-mini", "input_tokens", 150_000),
    (0, 1, "llm", "openai", "gpt-4o-mini", "cached_input_tokens", 75_000),
    (0, 2, "llm", "openai", "gpt-4o-mini", "output_tokens", 600_000),
    (1, 0, "tts", "cartesia", "sonic-3", "characters", 38_000_000),
    (1, 1, "tts", "cartesia", "sonic-3", "output_audio_seconds", 0),
    (2, 0, "stt", "deepgram", "nova-3", "audio_seconds", 80_000_000),
    (2, 1, "stt", "deepgram", "nova-3", "connection_seconds", 0),
    (3, 0, "call", "livekit", "call", "call_seconds", 0),
)
"""Kind of record, line, what it is of, and its price in 10^-12 of a dollar. A call has one record of the last kind."""
_ROWS_PER_RECORD = (60 * 7 / 3 + 1) / _RECORDS_PER_CALL
_MEMBERS = {
    "record_id": "printf('20261101T000000000000Z-00112233445566778899aabb-%d', number)",
    "line": "line",
    "kind": "'usage'",
    "at": "at",
    "started_at": "at",
    "component": "component",
    "outcome": "CASE WHEN component = 'tts' AND number % 17 = 0 THEN 'interrupted' ELSE 'completed' END",
    "provider": "provider",
    "model": "model",
    "operation_id": "'operation-' || number",
    "unit": "unit",
    "quantity": "quantity",
    "quantity_basis": "CASE WHEN component = 'stt' AND number % 9 = 0 THEN 'estimated' ELSE 'reported' END",
    "billable_quantity": "quantity",
    "unit_price": "printf('0.%012d', price)",
    "price_per": "1",
    "cost": "printf('%d.%012d', quantity * price / 1000000000000, quantity * price % 1000000000000)",
    "currency": "'USD'",
    "pricing_status": "CASE price WHEN 0 THEN 'free' ELSE 'priced' END",
    "pricing_source": "'catalog:prices@1#' || provider || '/' || model || '@base'",
    "price_digest": "'0011223344'",
    "stale": "0",
    "key_id": "'9f31c2d07a4e'",
    "key_owner": "CASE call % 10 WHEN 0 THEN 'acme' ELSE 'platform' END",
    "billed_by": "CASE call % 10 WHEN 0 THEN 'provider' ELSE 'platform' END",
    "billed_cost": "printf('%d.%012d', quantity * price / 1000000000000, quantity * price % 1000000000000)",
    "billed_currency": "'USD'",
    "account": f"'account-' || (call % {_ACCOUNTS})",
    "project": "'support-line'",
    "labels": """'{"campaign":"q4"}'""",
    "session_id": "'session-' || call",
    "job_id": "'AJ_' || call",
    "room": "'room-' || call",
    "agent": "'Receptionist'",
    "speech_id": "'speech-' || number",
}


def measure() -> Table:
    """Return the table: seconds of plain SQL and of a report, and how many times quicker the report is."""
    with tempfile.TemporaryDirectory() as directory:
        sink = SqliteSink(SqliteSink.Options(path=Path(directory) / "costmeter.db"))
        sink.open()
        path = Path(directory) / "costmeter.db"
        later = CHARGES // 100
        fill(path, 0, CHARGES - later)
        first = _seconds(lambda: _report(sink, "model"))
        fill(path, CHARGES - later, CHARGES)
        next_ = _seconds(lambda: _report(sink, "model"))
        table = Table(title=_title(path, first, next_, later))
        for name in ("by", "plain GROUP BY, s", "report, s", "times quicker", "asked for"):
            table.add_column(name, justify="left" if name == "by" else "right")
        for by, budget in BUDGETS.items():
            table.add_row(by, *_cells(sink, path, by, budget))
        sink.close()
    return table


def _title(path: Path, first: float, following: float, later: int) -> str:
    ledger, rollup = path.stat().st_size / 2**20, rollup_path(path).stat().st_size / 2**20
    return (
        f"Reports on {CHARGES:,} charges in SQLite ({ledger:,.0f} MiB, the rollup {rollup:,.1f} MiB): "
        f"summed up in {first:,.0f} s, {later:,} more in {following:,.1f} s"
    )


def _cells(sink: SqliteSink, path: Path, by: str, budget: int) -> list[str]:
    plain, ours = [], []
    for _ in range(ROUNDS):
        plain.append(_seconds(lambda: _group_by(path, by)))
        ours.append(_seconds(lambda: _report(sink, by)))
    _see_that_they_agree(_report(sink, by), _group_by(path, by))
    times = min(plain) / min(ours)
    judged = "" if times >= budget else f" [red](under {budget})[/red]"
    return [f"{min(plain):.2f}", f"{min(ours):.3f}", f"{times:,.0f}{judged}", f"{budget}"]


def _see_that_they_agree(report: Report, groups: dict[str, tuple[int, float]]) -> None:
    assert [row.key[report.by[0]] for row in report.rows] == sorted(groups)
    for row in report.rows:
        (name,) = row.key.values()
        assert abs(float(row.cost["USD"]) / groups[str(name)][1] - 1 if groups[str(name)][1] else 0) < 1e-9


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _report(sink: SqliteSink, by: str) -> Report:
    report = rolled_up_report(sink.arrivals(), [by], least_rows=0)
    assert report is not None
    return report


def _group_by(path: Path, by: str) -> dict[str, tuple[int, float]]:
    with closing(sqlite3.connect(path)) as connection:
        query = f"SELECT {_SQL[by]}, count(*), sum(cost) FROM charges GROUP BY 1"
        return {name: (rows, cost) for name, rows, cost in connection.execute(query)}


def fill(path: Path, start: int, stop: int) -> None:
    """Write the charges of about these numbers of a month of `CHARGES`, as fast as SQLite makes them."""
    first, last = int(start / _ROWS_PER_RECORD), int(stop / _ROWS_PER_RECORD)
    step = _MONTH / (CHARGES / _ROWS_PER_RECORD)
    at = f"strftime('%Y-%m-%dT%H:%M:%f', {_START.timestamp()} + number * {step.total_seconds()}, 'unixepoch') || '000Z'"
    # Twenty calls at once, a record of each in turn.
    batch, turn = (
        f"(number / {_CALLS_AT_ONCE * _RECORDS_PER_CALL})",
        f"(number / {_CALLS_AT_ONCE} % {_RECORDS_PER_CALL})",
    )
    query = f"""
        WITH RECURSIVE numbers(number) AS (SELECT {first} UNION ALL SELECT number + 1 FROM numbers
                                           WHERE number + 1 < {last}),
        records AS MATERIALIZED (
            SELECT number, {at} AS at, {batch} * {_CALLS_AT_ONCE} + number % {_CALLS_AT_ONCE} AS call,
                   CASE {turn} WHEN 60 THEN 3 ELSE {turn} % 3 END AS sort FROM numbers),
        quantities AS (
            SELECT records.*, lines.*, CASE component WHEN 'llm' THEN 700 + number % 900 ELSE 1 + number % 40 END
                   AS quantity FROM records CROSS JOIN lines ON lines.sort = records.sort)
        INSERT INTO charges ({", ".join(_MEMBERS)}) SELECT {", ".join(_MEMBERS.values())} FROM quantities"""
    assert set(_MEMBERS) <= set(CHARGE_FIELDS)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("CREATE TEMPORARY TABLE lines (sort, line, component, provider, model, unit, price)")
        connection.executemany("INSERT INTO temp.lines VALUES (?, ?, ?, ?, ?, ?, ?)", _LINES)
        connection.execute(query)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
