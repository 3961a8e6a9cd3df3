"""
From charges to operations, one at a time, with running totals.

Invariant: what is shown of an operation and what is added to its running total are the same charges; a total is that
after the operation beside which it stands. Memory grows with what totals are kept by, never with charges.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from livekit_costmeter.records import UNIT_ORDER, Charge
from livekit_costmeter.reporting.ledger import dimension
from livekit_costmeter.reporting.tally import ESTIMATES, Tally, sorted_sums, unpriced_reason

_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Sums:
    """Costs by currency (of what is priced), and of how many records; taken from a tally at one moment."""

    cost: Mapping[str, Decimal]
    billed_cost: Mapping[str, Decimal]
    billed_incomplete: bool
    records: int
    unpriced_records: int
    estimated_share: Decimal


@dataclass(frozen=True, slots=True)
class Operation:
    """What one look had of an operation: a request, an utterance, a stretch of a stream.

    `charge` is its last charge, for what all have in common; `estimated` are the units of `quantities` that are
    estimated in part. `key` says what `running`, the total after it, is of.
    """

    charge: Charge
    at: datetime
    quantities: Mapping[str, Decimal]
    estimated: Collection[str]
    sources: Sequence[str]
    reasons: Sequence[str]
    sums: Sums
    key: Mapping[str, str | None]
    running: Sums


class _Total:
    """The sums of everything. The rows of a record may come apart, as they go to different totals, and count once."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._known: set[str] = set()
        self._unpriced: set[str] = set()
        self._records = self._unpriced_records = 0

    def add(self, charge: Charge) -> None:
        before = self._tally.unpriced_records
        self._tally.add(charge, None)
        if charge.record_id not in self._known:
            self._known.add(charge.record_id)
            self._records += 1
        if self._tally.unpriced_records > before and charge.record_id not in self._unpriced:
            self._unpriced.add(charge.record_id)
            self._unpriced_records += 1

    def forget_all_but(self, record_id: str) -> None:
        """Let go of records of which no more rows follow."""
        self._known &= {record_id}
        self._unpriced &= {record_id}

    def sums(self) -> Sums:
        return replace(_sums(self._tally), records=self._records, unpriced_records=self._unpriced_records)


class Operations:
    """Turns charges into operations and keeps the totals by the given dimensions.

    Raises:
        UnknownDimension: `by` names something charges do not have.
    """

    def __init__(self, by: Sequence[str]) -> None:
        self._by = tuple(dict.fromkeys(by))
        self._dimensions = [dimension(name) for name in self._by]
        self._running: dict[tuple[str | None, ...], Tally] = {}
        self._sessions: set[str] = set()
        self._total = _Total()

    @property
    def total(self) -> Sums:
        """The sums of everything that was told so far."""
        return self._total.sums()

    @property
    def sessions(self) -> int:
        """How many sessions there were so far."""
        return len(self._sessions)

    def of(self, look: Iterator[Charge]) -> Iterator[Operation]:
        """Yield the operations of one look in the order of their first charges."""
        groups: dict[tuple[object, ...], list[Charge]] = {}
        held = 0
        for charge in look:
            key = tuple([read(charge) for read in self._dimensions])
            groups.setdefault((*_identity(charge), key), []).append(charge)
            held += 1
            if held >= _AT_ONCE and len(groups) > 1:
                last = groups.pop((*_identity(charge), key))  # more of it may follow
                yield from map(self._operation, groups.values())
                groups, held = {(*_identity(charge), key): last}, len(last)
                self._total.forget_all_but(charge.record_id)
        yield from map(self._operation, groups.values())
        self._total.forget_all_but("")

    def _operation(self, charges: Sequence[Charge]) -> Operation:
        own, last = Tally(), charges[-1]
        key = tuple([read(last) for read in self._dimensions])
        running = self._running.setdefault(key, Tally())
        for charge in charges:
            own.add(charge, None)
            running.add(charge, None)
            self._total.add(charge)
        if last.session_id is not None:
            self._sessions.add(last.session_id)
        return Operation(
            charge=last,
            at=max(charge.at for charge in charges),
            quantities=sorted_sums(own.quantities, UNIT_ORDER),
            estimated={charge.unit for charge in charges if charge.quantity_basis in ESTIMATES},
            sources=_distinct(charge.pricing_source.partition(":")[0] for charge in charges if charge.cost is not None),
            reasons=_distinct(unpriced_reason(charge) for charge in charges if charge.cost is None),
            sums=_sums(own),
            key=dict(zip(self._by, key, strict=True)),
            running=_sums(running),
        )


def _identity(charge: Charge) -> tuple[object, ...]:
    operation = charge.operation_id or charge.record_id
    return charge.session_id, operation, charge.kind, charge.outcome, charge.component, charge.provider, charge.model


def _distinct(texts: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _sums(tally: Tally) -> Sums:
    return Sums(
        cost=sorted_sums(tally.cost),
        billed_cost=sorted_sums(tally.billed_cost),
        billed_incomplete=tally.billed_incomplete,
        records=tally.records,
        unpriced_records=tally.unpriced_records,
        estimated_share=tally.estimated_share(),
    )
