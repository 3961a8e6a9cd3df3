"""
What repricing changes, summed up by model, unit and source of the price.

Invariant: sums are exact and by currency; memory grows with models and prices, never with records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import NamedTuple

from livekit_costmeter.billing.corrections import Balance, part_of
from livekit_costmeter.billing.reprice import Change, Repriced, Status
from livekit_costmeter.records import UNIT_ORDER, Charge

Money = dict[str, Decimal]

_EXACT = Context(prec=100)
_ZERO = Decimal(0)


class Group(NamedTuple):
    """What changes alike. Sources are without flags; `rule` is a plan's, or empty."""

    component: str
    provider: str
    model: str
    unit: str
    rule: str
    status: Status
    old_source: str
    new_source: str


@dataclass(slots=True)
class Difference:
    """The sums of one group, by currency: what was booked, and what it comes to; in how many records."""

    records: int = 0
    old_cost: Money = field(default_factory=dict)
    new_cost: Money = field(default_factory=dict)
    old_billed: Money = field(default_factory=dict)
    new_billed: Money = field(default_factory=dict)

    @property
    def cost(self) -> Money:
        """Return what the cost changes by."""
        return _less(self.new_cost, self.old_cost)

    @property
    def billed(self) -> Money:
        """Return what the billed cost changes by."""
        return _less(self.new_billed, self.old_billed)


@dataclass(slots=True)
class Differences:
    """Everything that repricing changes; `corrections` are the rows that it takes, taxes included."""

    groups: dict[Group, Difference] = field(default_factory=dict)
    total: Difference = field(default_factory=Difference)
    records: int = 0
    changed: int = 0
    corrections: int = 0

    def add(self, record: Repriced) -> None:
        """Count one record."""
        self.records += 1
        self.changed += bool(record.corrections)
        self.corrections += len(record.corrections)
        for change in record.changes:
            group = self.groups.setdefault(_group(change), Difference())
            group.records += 1
            for sums in (group, self.total):
                _add_booked(sums, change.booked)
            _add_rows(group, change.rows)
        _add_rows(self.total, record.corrections)

    def ordered(self) -> list[tuple[Group, Difference]]:
        """Return the groups: what changes, what is priced now, what is kept, each by model and unit."""
        last = len(UNIT_ORDER)
        return sorted(
            self.groups.items(),
            key=lambda item: (item[0].status, item[0][:3], UNIT_ORDER.get(item[0].unit, last), item[0]),
        )


def _group(change: Change) -> Group:
    line = change.line
    old = change.booked.source or line.pricing_source
    return Group(
        line.component,
        line.provider,
        line.model,
        line.unit,
        part_of(change.new)[0],
        change.status,
        old.partition("?")[0],
        change.new.pricing_source.partition("?")[0],
    )


def _add_booked(sums: Difference, booked: Balance) -> None:
    for cost, billed in ((sums.old_cost, sums.old_billed), (sums.new_cost, sums.new_billed)):
        _add(cost, booked.cost.items())
        _add(billed, booked.billed.items())


def _add_rows(sums: Difference, rows: Iterable[Charge]) -> None:
    for row in rows:
        _add(sums.new_cost, [(row.currency or "", row.cost)])
        _add(sums.new_billed, [(row.billed_currency or "", row.billed_cost)])


def _add(sums: Money, amounts: Iterable[tuple[str, Decimal | None]]) -> None:
    for currency, amount in amounts:
        if amount is not None and (currency or amount):
            sums[currency] = _EXACT.add(sums.get(currency, _ZERO), amount)


def _less(new: Mapping[str, Decimal], old: Mapping[str, Decimal]) -> Money:
    return {name: _EXACT.subtract(new.get(name, _ZERO), old.get(name, _ZERO)) for name in sorted({*new, *old})}
