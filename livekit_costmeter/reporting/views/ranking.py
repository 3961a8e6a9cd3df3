"""
The first so many rows, the largest first, and what the others come to.

Invariant: currencies never mix: one of them decides the order, and nothing that is left out is forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TypeVar

from livekit_costmeter.reporting.report import LeftOut, Report, Row
from livekit_costmeter.reporting.tally import EXACT, sorted_sums

_Item = TypeVar("_Item")
Amounts = Mapping[str, Decimal]
_ZERO = Decimal(0)


def largest(items: Sequence[_Item], amounts: Callable[[_Item], Amounts]) -> list[_Item]:
    """Order items by amount, the largest first, in the currency that most of them have; others follow as they came."""
    currencies = Counter(currency for item in items for currency in amounts(item))
    if not currencies:
        return list(items)
    leading = min(currencies, key=lambda currency: (-currencies[currency], currency))

    def rank(item: _Item) -> tuple[bool, Decimal]:
        amount = amounts(item).get(leading)
        return amount is None, -(amount or _ZERO)

    return sorted(items, key=rank)


def left_out(rows: Iterable[Row]) -> LeftOut:
    """Return how many rows these are and what they come to."""
    count, unpriced, cost, billed = 0, 0, dict[str, Decimal](), dict[str, Decimal]()
    for count, row in enumerate(rows, 1):  # noqa: B007  the last number is the count
        unpriced += row.unpriced_records > 0
        for sums, amounts in ((cost, row.cost), (billed, row.billed_cost)):
            for currency, amount in amounts.items():
                sums[currency] = EXACT.add(sums.get(currency, _ZERO), amount)
    return LeftOut(count, unpriced, sorted_sums(cost), sorted_sums(billed))


def top(report: Report, count: int) -> Report:
    """Return the report with its `count` most expensive rows, the most expensive first; its total stays."""
    ranked = largest(report.rows, lambda row: row.cost)
    return replace(report, rows=tuple(ranked[:count]), left_out=left_out(ranked[count:]))
