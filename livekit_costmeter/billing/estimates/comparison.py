"""
Amounts of calls brought into one currency, to be compared: totals, shares of parts, and how single calls spread.

Invariant: nothing is added up across currencies without a rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, Decimal

from livekit_costmeter.billing.estimates.parts import EXACT, Part, Sums, added
from livekit_costmeter.billing.estimates.quotes import KEPT_IN, Measure, Spread, share
from livekit_costmeter.billing.estimates.schemes import Convert
from livekit_costmeter.records import round_cost

_ZERO = Decimal(0)
_CONFIDENCE = Decimal("1.96")
_ENOUGH = 30


def in_one(sums: Sums, convert: Convert, calls: int) -> tuple[str, Decimal] | None:
    """Return a call's share of sums in one currency, or `None` where they cannot be added up."""
    total: dict[str, Decimal] = {}
    for currency, amount in _without_zeros(sums).items():
        converted = convert(currency, amount)
        if converted is None:
            return None
        total = added(total, dict([converted]))
    if len(total) != 1:
        return None
    [(currency, amount)] = total.items()
    return currency, share(amount, 1, calls)


def shares_of(measure: Measure, parts: Sequence[Part], convert: Convert) -> dict[str, Decimal]:
    """Return each part's share of what is known; of nothing, and of what cannot be added up, there are none."""
    amounts: dict[str, Decimal] = {}
    currencies: set[str] = set()
    for part in parts:
        sums = added(*(part.amounts[name] for name in KEPT_IN[measure]))
        amount = in_one(sums, convert, 1)
        if amount is None and any(sums.values()):
            return {}
        if amount is not None and part.knows(*KEPT_IN[measure]):
            currencies.update([amount[0]] if amount[1] else ())
            amounts[part.name] = amount[1]
    whole = sum(amounts.values(), _ZERO)
    if len(currencies) != 1 or not whole:
        return {}
    return {name: EXACT.divide(amount, whole) for name, amount in amounts.items()}


def spread_of(calls: Iterable[Sums], convert: Convert) -> Spread | None:
    """Return how the amounts of single calls spread, or `None` where they are not all in one currency."""
    amounts: list[Decimal] = []
    currencies: set[str] = set()
    for sums in calls:
        total = _ZERO
        for currency, amount in sums.items():
            converted = convert(currency, amount)
            if converted is None:
                return None
            currencies.add(converted[0])
            total += converted[1]
        amounts.append(total)
    return _spread(currencies.pop(), amounts) if len(currencies) == 1 else None


def _without_zeros(sums: Sums) -> Sums:
    """Leave out currencies of which there is nothing; where there is nothing at all, one of them stays."""
    return {currency: amount for currency, amount in sums.items() if amount} or dict(list(sums.items())[:1])


def _spread(currency: str, amounts: list[Decimal]) -> Spread:
    amounts.sort()
    count = len(amounts)
    mean = EXACT.divide(sum(amounts, _ZERO), Decimal(count))
    median, ninth = _quantile(amounts, "0.5"), _quantile(amounts, "0.9")
    return Spread(currency, round_cost(mean), median, ninth, _margin(amounts, mean))


def _margin(amounts: Sequence[Decimal], mean: Decimal) -> Decimal | None:
    count = len(amounts)
    if count < _ENOUGH:
        return None
    variance = sum(((amount - mean) ** 2 for amount in amounts), _ZERO) / (count - 1)
    # Both means are uncertain: this one, and that of the other calls.
    return round_cost(_CONFIDENCE * (variance * 2 / count).sqrt())


def _quantile(ordered: Sequence[Decimal], part: str) -> Decimal:
    rank = (Decimal(part) * len(ordered)).to_integral_value(rounding=ROUND_CEILING)
    return round_cost(ordered[max(int(rank) - 1, 0)])
