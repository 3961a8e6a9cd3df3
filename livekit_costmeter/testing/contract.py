"""
The contract test of a sink: `check_sink` fails with the name of the rule that a sink breaks.

Invariant: it uses nothing but the sink's public methods, so any third-party sink can be held to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from livekit_costmeter.records import Charge

_START = datetime(2026, 1, 31, 23, 59, 59, 123456, tzinfo=UTC)
_LARGE = 3_000


class SinkUnderTest(Protocol):
    """The methods that are tested."""

    def open(self) -> None:
        """Get ready to write."""

    def write(self, charges: Sequence[Charge]) -> None:
        """Commit a batch."""

    def check(self) -> str:
        """Return one line on the store's health."""

    def close(self) -> None:
        """Let go of the store."""


ReadBack = Callable[[Any], Iterable[Charge]]


def check_sink(make_sink: Callable[[], SinkUnderTest], read_back: ReadBack | None = None) -> None:
    """Hold a sink to the contract, on a store that is empty at the start.

    `make_sink` returns a new sink on that store each time; `read_back` returns its charges, by default with
    `sink.read(None, None)`.

    Raises:
        AssertionError: Names the rule that is broken.
    """
    bench = _Bench(make_sink, read_back or (lambda sink: sink.read(None, None)))
    for rule in (_health, _empty, _fields, _repeats, _overlap, _first_stays, _reopens, _large, _reads, _closes):
        rule(bench)


class _Bench:
    """The sink under test and what its store has to hold by now."""

    def __init__(self, make_sink: Callable[[], SinkUnderTest], read_back: ReadBack) -> None:
        self.make_sink = make_sink
        self._read_back = read_back
        self._expected: dict[tuple[str, int], Charge] = {}

    @contextmanager
    def opened(self) -> Iterator[SinkUnderTest]:
        sink = self.make_sink()
        sink.open()
        try:
            yield sink
        finally:
            sink.close()

    def write(self, sink: SinkUnderTest, charges: Sequence[Charge]) -> None:
        sink.write(charges)
        for charge in charges:
            self._expected.setdefault((charge.record_id, charge.line), charge)

    def verify(self, sink: SinkUnderTest, rule: str) -> None:
        found = list(self._read_back(sink))
        rows = {(charge.record_id, charge.line): charge for charge in found}
        assert len(found) == len(rows), f"{rule}: {len(found) - len(rows)} rows are there more than once"
        missing = self._expected.keys() - rows.keys()
        assert not missing, f"{rule}: {len(missing)} rows are missing, one is {min(missing)}"
        surplus = rows.keys() - self._expected.keys()
        assert not surplus, f"{rule}: {len(surplus)} rows were never written, one is {min(surplus)}"
        for key, charge in self._expected.items():
            _same(charge, rows[key], rule)


def _same(written: Charge, found: Charge, rule: str) -> None:
    for field in dataclasses.fields(Charge):
        before, after = getattr(written, field.name), getattr(found, field.name)
        if field.name == "labels":
            before, after = dict(before), dict(after)
        problem = f"{rule}: {field.name} of {written.record_id}/{written.line} was {before!r} and is {after!r}"
        assert before == after, problem
        assert (before is None) == (after is None), problem
        assert not isinstance(after, float), f"{rule}: {field.name} is a float"


def _health(bench: _Bench) -> None:
    sink = bench.make_sink()
    line = sink.check()
    sink.close()
    assert isinstance(line, str), "check() says in one line how the store is, also before open()"
    assert line.strip(), "check() says in one line how the store is, also before open()"
    assert "\n" not in line.strip(), "check() says it in one line"


def _empty(bench: _Bench) -> None:
    with bench.opened() as sink:
        bench.write(sink, [])
        bench.verify(sink, "an empty batch writes nothing")


def _fields(bench: _Bench) -> None:
    with bench.opened() as sink:
        bench.write(sink, [_plain("fields", 0), _extreme("fields", 1), _nulls("fields", 2)])
        bench.verify(sink, "a row comes back equal in every field")


def _repeats(bench: _Bench) -> None:
    batch = [_plain("repeat", line) for line in range(5)]
    with bench.opened() as sink:
        bench.write(sink, batch)
        bench.write(sink, batch)
        bench.verify(sink, "the same batch twice is one set of rows")
        bench.write(sink, [_plain("twice", 0), _plain("twice", 0)])
        bench.verify(sink, "the same row twice in a batch is one row")


def _overlap(bench: _Bench) -> None:
    rows = [_plain(f"overlap-{number}", 0) for number in range(20)]
    with bench.opened() as sink:
        bench.write(sink, rows[:12])
        bench.write(sink, rows[8:])
        bench.verify(sink, "a batch that overlaps an earlier one adds what is new")


def _first_stays(bench: _Bench) -> None:
    with bench.opened() as sink:
        bench.write(sink, [_plain("stays", 0)])
        bench.write(sink, [dataclasses.replace(_plain("stays", 0), cost=Decimal(99))])
        bench.verify(sink, "a stored row is never changed")


def _reopens(bench: _Bench) -> None:
    batch = [_plain("reopen", line) for line in range(3)]
    with bench.opened() as sink:
        bench.write(sink, batch)
    with bench.opened() as sink:
        bench.write(sink, batch)
        bench.write(sink, [_plain("reopen", 3)])
        bench.verify(sink, "a batch sent again after a restart is one set of rows")
        sink.close()
        sink.open()
        bench.write(sink, [_plain("reopen", 3), _plain("reopen", 4)])
        bench.verify(sink, "a sink can be opened again after it was closed")


def _large(bench: _Bench) -> None:
    batch = [_plain(f"large-{number // 3}", number % 3) for number in range(_LARGE)]
    with bench.opened() as sink:
        bench.write(sink, batch)
        bench.write(sink, batch[_LARGE // 2 :])
        bench.verify(sink, "a large batch is written whole")


def _reads(bench: _Bench) -> None:
    sink = bench.make_sink()
    if getattr(sink, "readable", False):
        # Reports read a ledger that nobody here writes to; opening it would create one.
        bench.verify(sink, "a readable sink can be read without being opened")


def _closes(bench: _Bench) -> None:
    sink = bench.make_sink()
    sink.open()
    sink.close()
    sink.close()
    bench.make_sink().close()


def _plain(record: str, line: int) -> Charge:
    return Charge(
        record_id=f"20260131T235959123456Z-00112233445566778899aabb-{record}",
        line=line,
        kind="usage",
        at=_START + timedelta(seconds=line),
        started_at=_START,
        component="llm",
        outcome="completed",
        provider="openai",
        model="gpt-4o-mini",
        reported_provider="api.openai.com",
        reported_model="gpt-4o-mini-2024-07-18",
        operation_id="chatcmpl-1",
        unit="input_tokens",
        quantity=Decimal(1200),
        quantity_basis="reported",
        billable_quantity=Decimal(1200),
        unit_price=Decimal("0.15"),
        price_per=Decimal(1_000_000),
        cost=Decimal("0.00018"),
        currency="USD",
        pricing_status="priced",
        pricing_source="ratecard:round@0011223344#openai/gpt-4o-mini@2026-01-01",
        price_digest="0011223344",
        stale=False,
        key_id="9f31c2d07a4e",
        key_owner="platform",
        billed_by="platform",
        billed_cost=Decimal("0.00036"),
        billed_currency="EUR",
        credits=Decimal("0.5"),
        account="acme",
        project="support-line",
        labels={"campaign": "q4"},
        session_id="session-1",
        job_id="AJ_1",
        room="room-1",
        agent="Receptionist",
        participant="caller",
        speech_id="speech-1",
        corrects="another-record",
    )


def _extreme(record: str, line: int) -> Charge:
    return dataclasses.replace(
        _plain(record, line),
        at=datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        started_at=datetime(2099, 1, 1, tzinfo=UTC),
        quantity=Decimal("999999999999999.123456789"),
        billable_quantity=Decimal("0.000000001"),
        unit_price=Decimal("0.000000000001"),
        cost=Decimal("-123456789012345.123456789012"),
        billed_cost=Decimal(0),
        credits=Decimal("-0.000000000001"),
        stale=True,
        account="Zoë & Söhne — 株式会社 🎧",
        room="tabs\tquotes\"' backslash\\ and\nlines; DROP TABLE charges",
        labels={"Ключ": "значение", "empty": "", "quote": '"'},
    )


def _nulls(record: str, line: int) -> Charge:
    optional: dict[str, Any] = {field.name: None for field in dataclasses.fields(Charge) if "None" in str(field.type)}
    optional |= {"labels": {}, "pricing_status": "unpriced", "pricing_source": "unpriced:no rate"}
    return dataclasses.replace(_plain(record, line), **optional)
