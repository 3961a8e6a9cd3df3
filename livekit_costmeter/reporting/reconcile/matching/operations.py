"""
What the ledger's records say about operations: how many there were, how long each was, and which came twice.

Invariant: bounded. An operation is followed while its records come, and is settled when thousands of others have come
since; what is remembered after that are sums by half hour. The ledger is read in the order of time.

An operation that was recorded twice has two records that differ in nothing but their ids (and the instant at which they
were written). Roundings are what a provider may bill of an operation's seconds: up to whole steps of 1 to 60.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Context, Decimal

from livekit_costmeter.records import Charge
from livekit_costmeter.reporting.reconcile.matching.slots import ZERO, add_to, slot_of

STEPS: tuple[int, ...] = (1, 5, 6, 10, 15, 30, 60)
TIMES = frozenset({"audio_seconds", "connection_seconds", "session_seconds", "call_seconds", "output_audio_seconds"})
_MOST_OPEN = 1 << 14
_MOST_SIGNATURES = 1 << 16
_WHOLE = Context(prec=60, rounding=ROUND_CEILING)
_ONE = Decimal(1)


@dataclass(slots=True)
class Operations:
    """The operations of one model, by the half hour in which they ended."""

    count: dict[int, Decimal] = field(default_factory=dict)
    doubled: dict[int, Decimal] = field(default_factory=dict)
    # (unit, step) -> what rounding adds
    rounding: dict[tuple[str, int], dict[int, Decimal]] = field(default_factory=dict)


@dataclass(slots=True)
class _Open:
    operations: Operations
    slot: int
    doubled: bool
    totals: dict[str, Decimal] = field(default_factory=dict)


class OperationCounter:
    """Follows operations from record to record."""

    def __init__(self) -> None:
        self._open: dict[object, _Open] = {}
        self._seen: dict[int, str] = {}

    def add(self, record: Sequence[Charge], operations: Operations) -> bool:
        """Take in the usage lines of one record; tell whether the same was recorded before."""
        first = record[0]
        doubled = self._was_seen(record)
        key = (first.record_id if first.operation_id is None else first.operation_id, first.component, doubled)
        found = self._open.pop(key, None)
        if found is None:
            found = _Open(operations, slot_of(first.at), doubled)
        self._open[key] = found  # the latest stand last
        found.slot = slot_of(first.at)
        for charge in record:
            if charge.unit in TIMES:
                found.totals[charge.unit] = found.totals.get(charge.unit, ZERO) + charge.quantity
        if len(self._open) > _MOST_OPEN:
            _settle(self._open.pop(next(iter(self._open))))
        return doubled

    def close(self) -> None:
        """Settle what is open."""
        for found in self._open.values():
            _settle(found)
        self._open.clear()

    def _was_seen(self, record: Sequence[Charge]) -> bool:
        first = record[0]
        named = first.operation_id is not None or first.session_id is not None
        when = first.started_at or (None if first.operation_id is not None else first.at)
        amounts = tuple((charge.unit, charge.quantity) for charge in record)
        signature = hash(
            (first.component, first.provider, first.model, first.session_id, first.operation_id, when, amounts)
        )
        other = self._seen.pop(signature, None)
        self._seen[signature] = first.record_id if other is None else other
        if len(self._seen) > _MOST_SIGNATURES:
            del self._seen[next(iter(self._seen))]
        return named and other is not None and other != first.record_id


def _settle(found: _Open) -> None:
    operations = found.operations
    if found.doubled:
        add_to(operations.doubled, found.slot, _ONE)
        return
    add_to(operations.count, found.slot, _ONE)
    for unit, amount in found.totals.items():
        for step in STEPS:
            up = _WHOLE.multiply(_WHOLE.divide(amount, Decimal(step)).to_integral_value(ROUND_CEILING), Decimal(step))
            add_to(operations.rounding.setdefault((unit, step), {}), found.slot, _WHOLE.subtract(up, amount))


def counts(operations: Operations | None) -> Mapping[int, Decimal]:
    """Return how many there were; none where nothing was recorded."""
    return {} if operations is None else operations.count
