"""
Reports: charges grouped by any dimensions, with exact sums.

Invariant: `cost` holds only what is priced, by currency; what is not priced is counted beside it, never taken as 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from livekit_costmeter.records import UNIT_ORDER, Charge, round_cost
from livekit_costmeter.reporting.ledger import Dimension, Where, dimension, matcher
from livekit_costmeter.reporting.settling import read_settled
from livekit_costmeter.reporting.tally import EXACT, CallTimes, Tally, UnpricedModel, UnpricedModels, sorted_sums

_SECONDS_PER_MINUTE = Decimal(60)
_MINUTE_STEP = Decimal("1e-6")
_BESIDE_THE_ANSWERS = ("interrupted", "discarded", "failed", "probe")
Key = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One group of a report.

    `quantities` are the measured ones of usage lines, by unit. `cost` sums the priced usage and correction lines,
    `billed_cost` also fees and taxes, both by currency; `billed_incomplete` says that some line has no known billed
    cost. `records` and `unpriced_records` count distinct records. `estimated_share` is defined in `Tally`. `minutes`
    is the length of the calls (sessions) that have a charge in this row, each with its whole length (its part of the
    day in reports by day), so rows that share calls do not add up to the total; `cost_per_minute` is `cost` over it.
    """

    key: Mapping[str, str | None]
    quantities: Mapping[str, Decimal]
    cost: Mapping[str, Decimal]
    billed_cost: Mapping[str, Decimal]
    billed_incomplete: bool
    records: int
    unpriced_records: int
    estimated_share: Decimal
    minutes: Decimal | None
    cost_per_minute: Mapping[str, Decimal] | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The rows that are not shown: how many, in how many something is unpriced, and what they come to by currency."""

    rows: int
    unpriced_rows: int
    cost: Mapping[str, Decimal]
    billed_cost: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Report:
    """Rows in the order of their keys, their total (with an empty key), and the models that have no price.

    `outcomes` are further rows, by outcome alone: what interruptions, speculation, retries and probes took of the
    total. It has those that there are, and nothing of what was simply completed. `left_out` are rows that were not
    asked for.
    """

    since: datetime | None
    until: datetime | None
    by: tuple[str, ...]
    rows: tuple[Row, ...]
    total: Row
    unpriced: tuple[UnpricedModel, ...]
    outcomes: tuple[Row, ...] = ()
    left_out: LeftOut | None = None


def build_report(
    charges: Iterable[Charge],
    by: Sequence[str],
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    where: Where | None = None,
) -> Report:
    """Group the charges with `since` <= `at` < `until` by the named dimensions.

    The charges are read once, and once more where finished work was thrown away later on (see `Discards`) or a
    correction found a price (see `LaterPrices`); so they are a list or another object that can be read again, and no
    iterator. Give filters as `where` rather than filtering before: the length of a call is then still taken from its
    `call_seconds`, also where only one provider is asked for.

    Raises:
        UnknownDimension: `by` or `where` names something charges do not have.
        TypeError: The charges are an iterator, which can be read only once.
    """
    names = tuple(dict.fromkeys(by))
    dimensions, matches = [dimension(name) for name in names], matcher(where or {})

    def filled(settled: Iterator[Charge]) -> _Tables:
        tables = _Tables(dimensions, CallTimes(daily="day" in names))
        for charge in settled:
            tables.add(charge, wanted=matches(charge))
        return tables

    tables = read_settled(charges, since, until, filled)
    rows, beside = rows_of(names, tables.groups, tables.calls), rows_beside(tables.outcomes, tables.calls)
    total = sum_up({}, tables.total, tables.calls)
    return Report(since, until, names, rows, total, tables.unpriced.listed(), beside)


class _Tables:
    """Everything that one pass over the charges fills."""

    def __init__(self, dimensions: Sequence[Dimension], calls: CallTimes) -> None:
        self._dimensions = dimensions
        self.groups: dict[Key, Tally] = {}
        self.outcomes: dict[str, Tally] = {}
        self.calls = calls
        self.total = Tally()
        self.unpriced = UnpricedModels()

    def add(self, charge: Charge, *, wanted: bool) -> None:
        call = self.calls.mark(charge)
        if not wanted:
            return
        key = tuple([read(charge) for read in self._dimensions])
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Tally()
        group.add(charge, call)
        self.total.add(charge, call)
        self.unpriced.add(charge)
        if charge.outcome != "completed":
            self.outcomes.setdefault(charge.outcome, Tally()).add(charge, call)


class Lengths(Protocol):
    """How long calls lasted, such as `CallTimes`."""

    def seconds(self, calls: set[int]) -> Decimal | None:
        """Return the length of these calls together."""


def rows_of(names: Sequence[str], groups: Mapping[Key, Tally], calls: Lengths) -> tuple[Row, ...]:
    """Return a row per group, in the order of their keys."""
    ordered = sorted(groups.items(), key=lambda item: [(part is None, part or "") for part in item[0]])
    return tuple(sum_up(dict(zip(names, key, strict=True)), tally, calls) for key, tally in ordered)


def rows_beside(outcomes: Mapping[str, Tally], calls: Lengths) -> tuple[Row, ...]:
    """Return a row per outcome that is no answer, as far as there is any of it."""
    found = [outcome for outcome in _BESIDE_THE_ANSWERS if outcome in outcomes]
    return tuple(sum_up({"outcome": outcome}, outcomes[outcome], calls) for outcome in found)


def sum_up(key: Mapping[str, str | None], tally: Tally, calls: Lengths) -> Row:
    """Return the row that a tally comes to, with the length of its calls."""
    seconds = calls.seconds(tally.calls)
    cost = sorted_sums(tally.cost)
    return Row(
        key=key,
        quantities=sorted_sums(tally.quantities, UNIT_ORDER),
        cost=cost,
        billed_cost=sorted_sums(tally.billed_cost),
        billed_incomplete=tally.billed_incomplete,
        records=tally.records,
        unpriced_records=tally.unpriced_records,
        estimated_share=tally.estimated_share(),
        minutes=_minutes(seconds),
        cost_per_minute=_per_minute(cost, seconds),
    )


def _minutes(seconds: Decimal | None) -> Decimal | None:
    if seconds is None:
        return None
    return EXACT.divide(seconds, _SECONDS_PER_MINUTE).quantize(_MINUTE_STEP, context=EXACT)


def _per_minute(cost: Mapping[str, Decimal], seconds: Decimal | None) -> Mapping[str, Decimal] | None:
    if seconds is None or not cost:
        return None
    return {
        currency: round_cost(EXACT.divide(EXACT.multiply(amount, _SECONDS_PER_MINUTE), seconds))
        for currency, amount in cost.items()
    }
