"""
Running totals of this process, read back from its own spool and priced when somebody asks.

Invariant: the agent's loop keeps no totals; each record is read back and priced once, and what could not be read back
is said (`complete`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from livekit_costmeter.log import log
from livekit_costmeter.records import Charge, UsageRecord, parse_usage

_KEPT_SESSIONS = 1000


class Readback(Protocol):
    """Reads this process's own records, each once."""

    complete: bool

    def new(self) -> Iterable[bytes]:
        """Return the JSON of the records appended since the last call."""


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


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals so far. Shares are of records, 0 to 1; `complete` is False if own records could not be read back."""

    rows: tuple[SummaryRow, ...]
    cost: dict[str, Decimal]
    records: int
    unpriced_share: Decimal
    estimated_share: Decimal
    complete: bool


@dataclass(slots=True)
class _Tally:
    quantities: dict[str, Decimal] = field(default_factory=dict)
    cost: dict[str, Decimal] = field(default_factory=dict)
    records: int = 0
    unpriced: int = 0
    estimated: int = 0

    def add(self, record: UsageRecord, lines: Sequence[Charge]) -> None:
        self.records += 1
        self.unpriced += not lines or any(line.cost is None for line in lines)
        self.estimated += any(basis in ("estimated", "lower_bound") for basis in record.basis.values())
        for unit, quantity in record.quantities.items():
            self.quantities[unit] = self.quantities.get(unit, Decimal(0)) + quantity
        for line in lines:
            if line.cost is not None and line.currency is not None:
                self.cost[line.currency] = self.cost.get(line.currency, Decimal(0)) + line.cost


_Key = tuple[str, str, str, str]


class Totals:
    """Folds own records into tallies per session."""

    def __init__(self, readback: Readback, rate: Callable[[UsageRecord], Iterable[Charge]]) -> None:
        self._readback = readback
        self._rate = rate
        self._process: dict[_Key, _Tally] = {}
        self._sessions: dict[str, dict[_Key, _Tally]] = {}
        self._has_failed = False

    def summary(self, session_id: str | None) -> Summary:
        """Return the totals of one session, or of the process."""
        self._fold()
        tallies = self._process if session_id is None else self._sessions.get(session_id, {})
        return _summary(tallies, complete=self._readback.complete)

    def _fold(self) -> None:
        for line in self._readback.new():
            record = parse_usage(line)
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


def _summary(tallies: dict[_Key, _Tally], *, complete: bool) -> Summary:
    rows = tuple(
        SummaryRow(*key, dict(t.quantities), dict(t.cost), t.records, t.unpriced, t.estimated)
        for key, t in sorted(tallies.items())
    )
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
    )


def _share(part: int, whole: int) -> Decimal:
    return Decimal(0) if not whole else (Decimal(part) / whole).quantize(Decimal("0.0001"))
