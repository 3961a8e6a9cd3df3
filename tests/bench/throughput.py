"""
What a shipper gets through: from the spool to SQLite, prices included, and where the time goes.

Invariant: every row is the shipper's own code on the same usage, in one process and one thread; the whole path is
shipped from real segments into a real file. Charges per second of processor time, so that other work on the machine
and waiting for its disk do not count; the clock on the wall stands beside it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.table import Table

from livekit_costmeter.delivery import Shipper, Spool
from livekit_costmeter.delivery.files.acks import Ack, ack_path, write_ack
from livekit_costmeter.delivery.files.charges import decode_charges, encode_charges
from livekit_costmeter.delivery.files.lines import decode_line
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink
from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.records import Charge, UsageRecord, parse_usage, usage_json

RECORDS, BATCH_ROWS = 40_000, 500
BUDGET = 25_000.0


def usage_members(number: int) -> bytes:
    """Return a record as the meter appends it: a reply of a model, speech, or what was heard, in turn."""
    call, kind = number // 60, number % 3
    same = {
        "at": f"2026-11-20T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.123456Z",
        "started_at": f"2026-11-20T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.003456Z",
        "operation_id": f"op-{number}",
        "outcome": "completed",
        "key_id": "9f31c2d07a4e",
        "key_owner": "platform",
        "account": f"account-{call % 100}",
        "project": "support-line",
        "labels": {"campaign": "q4"},
        "session_id": f"session-{call}",
        "job_id": f"AJ_{call}",
        "room": f"room-{call}",
        "agent": "Receptionist",
        "speech_id": f"speech-{number}",
    }
    return usage_json({**_KINDS[kind](number), **same})[1:]


_KINDS: tuple[Callable[[int], dict[str, Any]], ...] = (
    lambda number: {
        "component": "llm",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "reported_provider": "api.openai.com",
        "quantities": {"input_tokens": f"{700 + number % 900}", "cached_input_tokens": "128", "output_tokens": "55"},
        "basis": {"input_tokens": "reported", "cached_input_tokens": "reported", "output_tokens": "reported"},
    },
    lambda number: {
        "component": "tts",
        "provider": "cartesia",
        "model": "sonic-3",
        "quantities": {"characters": f"{40 + number % 200}", "output_audio_seconds": f"{number % 11}.25"},
        "basis": {"characters": "observed", "output_audio_seconds": "observed"},
    },
    lambda number: {
        "component": "stt",
        "provider": "deepgram",
        "model": "nova-3",
        "quantities": {"audio_seconds": f"{number % 5}.75", "connection_seconds": "4"},
        "basis": {"audio_seconds": "observed", "connection_seconds": "observed"},
    },
)


def measure() -> Table:
    """Return the table: processor time per charge and charges per second, by stage and of the whole path."""
    table = Table(title=f"Shipping: {RECORDS:,} records from the spool to SQLite, prices included, one core")
    for name in ("stage", "us per charge", "charges per second", "on the wall"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    book = PriceBook()
    rate(parse_usage(b'{"id":"0-0",' + usage_members(0)), book)  # reads the catalogs
    with tempfile.TemporaryDirectory() as directory:
        for stage, spent in stages(Path(directory), book):
            table.add_row(stage, *_cells(*spent))
        whole = best_of(3, lambda: _ship(book))
        slow = "" if whole[2] / whole[0] >= BUDGET else f" [red](under {BUDGET:,.0f})[/red]"
        *cells, wall = _cells(*whole)
        table.add_row("the whole path", cells[0], cells[1] + slow, wall, style="bold")
    return table


def _cells(processor: float, wall: float, charges: int) -> list[str]:
    return [f"{processor / charges * 1e6:.2f}", f"{charges / processor:,.0f}", f"{charges / wall:,.0f}"]


Spent = tuple[float, float, int]
"""Seconds of processor time, seconds on the wall, charges."""


@contextmanager
def _timed(into: list[float]) -> Iterator[None]:
    processor, wall = time.process_time(), time.perf_counter()
    yield
    into[:] = [time.process_time() - processor, time.perf_counter() - wall]


def best_of(rounds: int, run: Callable[[], Spent]) -> Spent:
    """Run some times and return the quickest: all else is the machine's other work."""
    return min((run() for _ in range(rounds)), key=lambda spent: spent[0])


def stages(directory: Path, book: PriceBook) -> Iterator[tuple[str, Spent]]:
    """Run each stage over what the one before it made."""
    payloads = [b'{"id":"20261120T-00-%d",' % number + usage_members(number) for number in range(RECORDS)]
    records: list[UsageRecord] = []
    rated: list[Sequence[Charge]] = []
    lines: list[bytes] = []
    charges: list[Charge] = []

    def timed(work: Callable[[], object]) -> Spent:
        spent: list[float] = []
        with _timed(spent):
            work()
        return spent[0], spent[1], sum(map(len, rated))

    spent = timed(lambda: records.extend(map(parse_usage, payloads)))
    rating = timed(lambda: rated.extend(rate(record, book) for record in records))
    yield "parse usage", (*spent[:2], rating[2])
    yield "rate", rating
    yield "encode charges", timed(lambda: lines.extend(encode_charges(0, row) for row in rated))
    yield "decode charges", timed(lambda: charges.extend(c for line in lines for c in _decoded(line)))
    sink = SqliteSink(SqliteSink.Options(path=directory / "stages.db"))
    sink.open()
    batches = [charges[start : start + BATCH_ROWS] for start in range(0, len(charges), BATCH_ROWS)]
    yield "write to SQLite", timed(lambda: [sink.write(batch) for batch in batches])
    sink.close()
    path = ack_path(directory, "20261120T-00", "ledger")
    yield "acknowledge", timed(lambda: [write_ack(path, Ack(number, number)) for number in range(len(batches))])


def _decoded(line: bytes) -> list[Charge]:
    return decode_charges(decode_line(line[:-1]) or b"")[1]


def _ship(book: PriceBook) -> Spent:
    with tempfile.TemporaryDirectory() as directory:
        spool = fill(Path(directory) / "spool", RECORDS)
        sink = SqliteSink(SqliteSink.Options(path=Path(directory) / "ledger.db"))
        shipper = Shipper(spool, rate=lambda record: rate(record, book), sinks={"ledger": sink}, batch_rows=BATCH_ROWS)
        spent: list[float] = []
        with _timed(spent):
            shipment = shipper.ship_once()
        assert shipment.records == RECORDS
        return spent[0], spent[1], shipment.charges


def fill(directory: Path, records: int) -> Path:
    """Spool that many records, as processes that have ended have left them; return the directory."""
    spool = Spool(directory, header={"sinks": ["ledger"]}, max_bytes=1 << 50)
    for number in range(records):
        spool.append(usage_members(number))
    spool.close()
    return directory
