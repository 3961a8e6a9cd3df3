"""
Running totals of this process, read back from its own spool and priced when somebody asks.

Invariant: the agent's loop keeps no totals; each record is read back and priced once, and what could not be read back
is said (`complete`). What an audit needs is added up without prices, so that closing a session loads no catalog.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from livekit_costmeter.log import log
from livekit_costmeter.metering.audit import add_record
from livekit_costmeter.records import (
    LIVEKIT_KEY,
    Charge,
    InvalidRecord,
    LiveKitUsage,
    Recorded,
    UsageRecord,
    compare,
    is_audit,
    parse_livekit,
    parse_usage,
)

_KEPT_SESSIONS = 1000
_KEPT_LINES = 20_000


class Readback(Protocol):
    """Reads this process's own records, each once."""

    complete: bool

    def new(self) -> Iterable[bytes]:
        """Return the JSON of the records appended since the last call."""


class Delivery(Protocol):
    """Where records go: the spool, and who ships it."""

    def append(self, members: bytes, more: bytes = b"") -> str | None:
        """Append one record: the members of a JSON object, without its id and opening brace, closed by `more`.

        Return the id, or None if the disk refused it.
        """

    def serve(self) -> None:
        """Ship this spool from now on: called in the main process of a worker."""

    async def settle(self) -> None:
        """Close the segment, and in a process that ships, ship it, within a deadline."""

    def readback(self) -> Readback:
        """Return a reader of this process's own records."""


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One component, model and owner. `cost` is per currency and holds what is priced."""

    component: str
    provider: str
    model: str
    owner: str
    quantities: dict[str, Decimal]
    cost: dict[str, Decimal]
    records: int
    unpriced_records: int
    estimated_records: int
    observed_records: int = 0
    reported_records: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals so far.

    Shares are of records, 0 to 1: `estimated_share` of those with an estimate in them, `observed_share` of others that
    were counted on their way, `reported_share` of those that are the provider's word alone. `livekit_missed` is what
    LiveKit's own session usage does not have, by unit, for the sessions that have ended; None while there is none.
    `complete` is False if own records could not be read back, or were too many to be kept until somebody asked.
    """

    rows: tuple[SummaryRow, ...]
    cost: dict[str, Decimal]
    records: int
    unpriced_share: Decimal
    estimated_share: Decimal
    complete: bool
    reported_share: Decimal = Decimal(0)
    observed_share: Decimal = Decimal(0)
    livekit_missed: Mapping[str, Decimal] | None = None


@dataclass(slots=True)
class _Tally:
    quantities: dict[str, Decimal] = field(default_factory=dict)
    cost: dict[str, Decimal] = field(default_factory=dict)
    records: int = 0
    unpriced: int = 0
    estimated: int = 0
    observed: int = 0

    def add(self, record: UsageRecord, lines: Sequence[Charge]) -> None:
        self.records += 1
        self.unpriced += not lines or any(line.cost is None for line in lines)
        bases = set(record.basis.values())
        is_estimated = not bases.isdisjoint(("estimated", "lower_bound"))
        self.estimated += is_estimated
        self.observed += not is_estimated and "observed" in bases
        for unit, quantity in record.quantities.items():
            self.quantities[unit] = self.quantities.get(unit, Decimal(0)) + quantity
        for line in lines:
            if line.cost is not None and line.currency is not None:
                self.cost[line.currency] = self.cost.get(line.currency, Decimal(0)) + line.cost


_Key = tuple[str, str, str, str]


@dataclass(slots=True)
class _Side:
    """Both sides of one session: what was recorded, and LiveKit's own word, None until its audit record is read."""

    recorded: Recorded = field(default_factory=Recorded)
    livekit: tuple[LiveKitUsage, ...] | None = None


class Totals:
    """Folds own records into tallies per session; called from the loop and from the thread of an audit."""

    def __init__(self, readback: Readback, rate: Callable[[UsageRecord], Iterable[Charge]]) -> None:
        self._readback = readback
        self._rate = rate
        self._lock = threading.Lock()
        self._unpriced: deque[bytes] = deque()
        self._has_dropped = False
        self._process: dict[_Key, _Tally] = {}
        self._sessions: dict[str, dict[_Key, _Tally]] = {}
        self._sides: dict[str, _Side] = {}
        self._outside: dict[str | None, Recorded] = {}
        self._has_failed = False

    def summary(self, session_id: str | None) -> Summary:
        """Return the totals of one session, or of the process."""
        with self._lock:
            self._fold()
            while self._unpriced:
                self._price(self._unpriced.popleft())
            tallies = self._process if session_id is None else self._sessions.get(session_id, {})
            missed = _missed(self._sides.values() if session_id is None else [self._side(session_id)])
            return _summary(tallies, missed, complete=self._readback.complete and not self._has_dropped)

    def audited(self, session_id: str) -> tuple[Recorded, tuple[LiveKitUsage, ...] | None]:
        """Return what was recorded of a session, and LiveKit's side if its audit record was read back; no prices."""
        with self._lock:
            self._fold()
            side, recorded = self._side(session_id), Recorded()
            recorded.merge(side.recorded)  # a copy, since others go on adding
            return recorded, side.livekit

    def _fold(self) -> None:
        for line in self._readback.new():
            record = parse_usage(line)
            if is_audit(record):
                self._audit(record)
                continue
            if record.session_id is None:
                add_record(self._outside.setdefault(record.job_id, Recorded()), record)
            else:
                add_record(self._side(record.session_id).recorded, record)
            self._unpriced.append(line)
        while len(self._unpriced) > _KEPT_LINES:
            self._unpriced.popleft()
            self._has_dropped = True

    def _audit(self, record: UsageRecord) -> None:
        if record.session_id is None:
            return
        side = self._side(record.session_id)
        try:
            side.livekit = (*(side.livekit or ()), *parse_livekit(record.attributes[LIVEKIT_KEY]))
        except InvalidRecord as error:
            log().warning("an audit record cannot be read", record=record.id, error=str(error))
        # What the same job did outside its session is what the session's usage cannot have seen.
        side.recorded.merge(self._outside.pop(record.job_id, Recorded()))

    def _side(self, session_id: str) -> _Side:
        side = self._sides.setdefault(session_id, _Side())
        if len(self._sides) > _KEPT_SESSIONS:
            del self._sides[next(iter(self._sides))]
        return side

    def _price(self, line: bytes) -> None:
        record = parse_usage(line)
        if record.outcome == "discarded" and not any(record.quantities.values()):
            return  # it only says that finished work was thrown away
        charges = self._charges(record)
        key = (record.component, record.provider, record.model, record.key_owner)
        self._process.setdefault(key, _Tally()).add(record, charges)
        if record.session_id is not None:
            self._of_session(record.session_id).setdefault(key, _Tally()).add(record, charges)

    def _charges(self, record: UsageRecord) -> list[Charge]:
        try:
            return list(self._rate(record))
        except Exception as error:
            if not self._has_failed:
                log().warning("a summary does without prices", error=type(error).__name__)
            self._has_failed = True
            return []

    def _of_session(self, session_id: str) -> dict[_Key, _Tally]:
        tallies = self._sessions.setdefault(session_id, {})
        if len(self._sessions) > _KEPT_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return tallies


def _missed(sides: Iterable[_Side]) -> dict[str, Decimal] | None:
    known = [compare(side.recorded, side.livekit) for side in sides if side.livekit is not None]
    if not known:
        return None
    missed: dict[str, Decimal] = {}
    for finding in (finding for findings in known for finding in findings):
        difference = finding.difference
        if difference is not None and difference > 0 and finding.reasons:
            missed[finding.unit] = missed.get(finding.unit, Decimal(0)) + difference
    return missed


def _summary(tallies: dict[_Key, _Tally], missed: Mapping[str, Decimal] | None, *, complete: bool) -> Summary:
    rows = tuple(_row(key, tally) for key, tally in sorted(tallies.items()))
    cost: dict[str, Decimal] = {}
    for row in rows:
        for currency, amount in row.cost.items():
            cost[currency] = cost.get(currency, Decimal(0)) + amount
    records = sum(row.records for row in rows)
    return Summary(
        rows,
        cost,
        records,
        _share(sum(row.unpriced_records for row in rows), records),
        _share(sum(row.estimated_records for row in rows), records),
        complete,
        _share(sum(row.reported_records for row in rows), records),
        _share(sum(row.observed_records for row in rows), records),
        missed,
    )


def _row(key: _Key, tally: _Tally) -> SummaryRow:
    return SummaryRow(
        *key,
        quantities=dict(tally.quantities),
        cost=dict(tally.cost),
        records=tally.records,
        unpriced_records=tally.unpriced,
        estimated_records=tally.estimated,
        observed_records=tally.observed,
        reported_records=tally.records - tally.estimated - tally.observed,
    )


def _share(part: int, whole: int) -> Decimal:
    return Decimal(0) if not whole else (Decimal(part) / whole).quantize(Decimal("0.0001"))
