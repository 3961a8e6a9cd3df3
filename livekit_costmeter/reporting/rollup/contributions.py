"""
What charges contribute to a rollup, and how much of it is theirs alone.

A unit is a set of charges of which none says anything of a charge outside: a session, or a record without one together
with what corrects it. In a report of some days a unit counts with its charges of those days, and what these come to
cannot be put together from single days: a call goes on over midnight, a later charge says that earlier work was thrown
away or has a price after all. So a unit of several days contributes once for each run of them, and a report takes that
one of them which it sees whole: the `Span`.

Invariant: contributions are exact and additive. What a unit has contributed can be computed again from the same
charges, and taken back; so nothing about single units is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache, partial
from operator import attrgetter
from typing import NamedTuple

from livekit_costmeter.records import UNKNOWN, Charge
from livekit_costmeter.reporting.rollup.traits import Traits, traits_of
from livekit_costmeter.reporting.settling import read_settled
from livekit_costmeter.reporting.tally import (
    BILLED_KINDS,
    COST_KINDS,
    ESTIMATES,
    EXACT,
    CallTimes,
    answers,
    is_unpriced,
)

PLACES = 12
"""Amounts are whole numbers of the last place that a charge has."""
NO_DAY_BEFORE, NO_DAY_AFTER = 0, 1 << 30
_MOST_DAYS = 14
_LARGEST = 10**15
_in_order = attrgetter("at", "record_id", "line")
_distinguished = attrgetter(
    "component",
    "provider",
    "model",
    "key_owner",
    "account",
    "project",
    "agent",
    "outcome",
    "unit",
    "billed_by",
    "pricing_source",
    "kind",
    "quantity_basis",
    "currency",
    "billed_currency",
    "pricing_status",
)


class CannotRollUp(Exception):
    """These charges cannot be summed up in advance; the message says why. They can still be read as a stream."""


class Span(NamedTuple):
    """The days of a contribution, as ordinals, and the unit's days around them, which a report must not see."""

    first: int
    last: int
    previous: int
    following: int


class Measure(NamedTuple):
    """What an amount is of: a `quantity` of a unit, a `cost`, a `billed` cost or one that is not known (`unbilled`)."""

    kind: str
    name: str
    estimated: bool


@dataclass(frozen=True, slots=True, eq=False)
class Sort:
    """Charges that add up: their traits, and the measures of their quantity, their cost and their billed cost."""

    traits: Traits
    quantity: Measure | None
    cost: Measure | None
    billed: Measure | None


Shape = frozenset[Traits]
"""All traits of a record, or of a session: it counts once in each group that one of them belongs to."""


class Contributions:
    """The sum of contributions: amounts by span, day and sort; things counted by span, day, kind and shape.

    Amounts are lists of charges, quantity, its magnitude, cost, its magnitude, billed cost. Counted are the `records`
    of a day, and the seconds of sessions: `both` for a session within one day, else `call` for the whole of it and
    `part` for its part of a day.
    """

    def __init__(self) -> None:
        self.amounts: dict[tuple[Span, int, Sort], list[int]] = defaultdict(lambda: [0] * 6)
        self.counts: dict[tuple[Span, int, str, Shape], list[int]] = defaultdict(lambda: [0, 0])
        self._sorts: dict[tuple[object, ...], Sort] = {}

    def add(self, unit: Sequence[Charge], sign: int = 1) -> None:
        """Add what the charges of one unit contribute; with -1 take it back.

        Raises:
            CannotRollUp: They are on too many days, say something of charges outside, or have amounts out of bounds.
        """
        _see_that_it_is_whole(unit)
        charges = sorted(unit, key=_in_order)
        days = sorted({_day(charge.at) for charge in charges})
        if len(days) > _MOST_DAYS:
            raise CannotRollUp(f"session {charges[0].session_id} is on {len(days)} days")
        for span in _spans(days):
            part = charges if len(days) == 1 else [c for c in charges if span.first <= _day(c.at) <= span.last]
            self._merge(span, read_settled(part, None, None, partial(self._portion, span)), sign)

    def _portion(self, span: Span, settled: Iterator[Charge]) -> _Portion:
        portion = _Portion(several=span.first != span.last)
        for charge in settled:
            portion.add(charge, self._sort(charge))
        return portion

    def _sort(self, charge: Charge) -> Sort:
        cost, billed = charge.cost, charge.billed_cost
        key = (*_distinguished(charge), not cost, cost is None, not billed, billed is None)
        sort = self._sorts.get(key)
        if sort is None:
            sort = self._sorts[key] = sort_of(charge)
        return sort

    def _merge(self, span: Span, portion: _Portion, sign: int) -> None:
        for (day, sort), parts in portion.amounts.items():
            amounts = self.amounts[span, day, sort]
            for place, part in enumerate(parts):
                amounts[place] += sign * part
        for day, kind, shape, seconds in portion.counted(span):
            count = self.counts[span, day, kind, shape]
            count[0] += sign
            count[1] += sign * seconds


class _Portion:
    """What the charges of one unit and one span come to."""

    def __init__(self, *, several: bool) -> None:
        self._several = several
        self.amounts: dict[tuple[int, Sort], list[int]] = {}
        self._records: dict[tuple[int, str], set[Traits]] = defaultdict(set)
        self._days: dict[int, set[Traits]] = defaultdict(set)
        self._whole, self._daily = CallTimes(daily=False), CallTimes(daily=True)
        self._numbers: dict[int, int] = {}

    def add(self, charge: Charge, sort: Sort) -> None:
        day = _day(charge.at)
        amounts = self.amounts.get((day, sort))
        if amounts is None:
            amounts = self.amounts[day, sort] = [0] * 6
        amounts[0] += 1
        if sort.quantity is not None:
            quantity = scaled(charge.quantity)
            amounts[1] += quantity
            amounts[2] += abs(quantity)
        if sort.cost is not None and charge.cost is not None:
            cost = scaled(charge.cost)
            amounts[3] += cost
            amounts[4] += abs(cost)
        if sort.billed is not None and charge.billed_cost is not None:
            amounts[5] += scaled(charge.billed_cost)
        self._records[day, charge.record_id].add(sort.traits)
        if charge.session_id is not None:
            self._days[day].add(sort.traits)
            self._numbers[day] = self._daily.mark(charge) or 0
            if self._several:
                self._whole.mark(charge)

    def counted(self, span: Span) -> Iterator[tuple[int, str, Shape, int]]:
        for (day, _), traits in self._records.items():
            yield day, "records", frozenset(traits), 0
        if not self._days:
            return
        for day, number in self._numbers.items():
            seconds = scaled(self._daily.seconds({number}) or Decimal(0))
            yield day, "part" if self._several else "both", frozenset(self._days[day]), seconds
        if self._several:
            seconds = scaled(self._whole.seconds({0}) or Decimal(0))
            yield span.first, "call", frozenset[Traits]().union(*self._days.values()), seconds


def sort_of(charge: Charge) -> Sort:
    """Return what a charge is counted as, in the way of `Tally`."""
    estimated = charge.quantity_basis in ESTIMATES
    quantity = Measure("quantity", charge.unit, estimated) if charge.kind == "usage" else None
    cost = billed = None
    # Nothing, in no currency, adds nothing.
    if charge.kind in COST_KINDS and not is_unpriced(charge) and (charge.currency or charge.cost):
        cost = Measure("cost", charge.currency or UNKNOWN, estimated)
    if charge.kind in BILLED_KINDS and charge.billed_cost is None:
        billed = Measure("unbilled", "", estimated=False)
    elif charge.kind in BILLED_KINDS and (charge.billed_currency or charge.billed_cost):
        billed = Measure("billed", charge.billed_currency or UNKNOWN, estimated=False)
    return Sort(traits_of(charge), quantity, cost, billed)


@lru_cache(1 << 16)
def scaled(amount: Decimal) -> int:
    """Return an amount as a whole number of its last place.

    Raises:
        CannotRollUp: It has more places than a charge has, or is larger than any quantity may be.
    """
    last_places = amount.scaleb(PLACES, context=EXACT)
    if not -_LARGEST < amount < _LARGEST or last_places != last_places.to_integral_value():
        raise CannotRollUp(f"amount {amount} is out of bounds")
    return int(last_places)


def _see_that_it_is_whole(unit: Sequence[Charge]) -> None:
    if all(charge.kind != "correction" and charge.outcome != "discarded" for charge in unit):
        return
    keys = {(charge.record_id, charge.line) for charge in unit}
    for charge in unit:
        if answers(charge) and (charge.corrects, charge.line) not in keys:
            raise CannotRollUp(f"correction {charge.record_id} is of another session than what it corrects")
        elsewhere = charge.session_id is None and charge.speech_id is not None
        if elsewhere and charge.outcome == "discarded" and not charge.quantity:
            raise CannotRollUp(f"record {charge.record_id} was discarded in no session")


def _spans(days: Sequence[int]) -> Iterator[Span]:
    for first, begin in enumerate(days):
        previous = days[first - 1] if first else NO_DAY_BEFORE
        for last, end in enumerate(days[first:], first):
            yield Span(begin, end, previous, days[last + 1] if last + 1 < len(days) else NO_DAY_AFTER)


def _day(at: datetime) -> int:
    return at.astimezone(UTC).toordinal()
