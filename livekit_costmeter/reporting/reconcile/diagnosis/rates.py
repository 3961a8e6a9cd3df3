"""
Same units, another rate: what the provider's money says about its prices.

The provider's units are priced at the ledger's own rates and put beside its cost, so that what is missing or doubled
plays no part. A ratio that is the same in all prices is a discount; one of some prices, or from a day on, is a catalog
that is out of date.

Invariant: the rates that are handed out are exact: cost over quantity as the provider states them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from livekit_costmeter.reporting.reconcile.diagnosis.causes import Finding, NewRate
from livekit_costmeter.reporting.reconcile.diagnosis.evidence import Grid
from livekit_costmeter.reporting.reconcile.matching.pairs import Match, Sides, UnitMatch
from livekit_costmeter.reporting.reconcile.matching.slots import (
    DAY,
    EXACT,
    ZERO,
    Span,
    instant_of,
    of_spans,
    within,
)

_SAME = 0.002
_ALIKE = 0.004
_SMALLEST = 0.00001
"""Amounts may be rounded by so much."""

_MILLION = Decimal(1000000)
_PER = {"characters": Decimal(1000), "requests": Decimal(1), "messages": Decimal(1)}
_PER_MINUTE = Decimal(60)


@dataclass(frozen=True, slots=True)
class _Price:
    """One price of theirs beside ours. `since` is the day from which on they differ, if they did not before."""

    match: Match
    units: tuple[str, ...]
    ratio: float
    money: Decimal
    since: int | None


def find_rates(sides: Sides, window: Span, complete: int) -> Iterator[Finding]:
    """
    Yield the prices that differ.

    Args:
        sides: Both sides.
        window: The period.
        complete: The slot after the last one that the provider has completely.
    """
    window = (window[0], min(window[1], complete - window[0]))
    currency = sides.currency
    if currency is None:
        return
    prices = [price for match in sides.matches for price in _prices(match, window, currency)]
    whole = sum((abs(price.money) for price in prices), ZERO)
    other = [price for price in prices if abs(price.ratio - 1) > max(_SAME, _SMALLEST / float(abs(price.money)))]
    if not other:
        return
    same = max(price.ratio for price in other) - min(price.ratio for price in other) < _ALIKE
    discount = same and len(other) == len(prices) and not any(price.since for price in other)
    discount = discount and other[0].ratio < 1 and (len(prices) > 1 or _is_round(other[0].ratio))
    models = tuple(dict.fromkeys(price.match.model for price in other))
    rates = tuple(rate for price in other for rate in _new_rates(price, window, currency))
    ratio = sum(price.ratio for price in other) / len(other)
    yield Finding(
        "discount" if discount else "stale_catalog",
        _words(other, ratio, rates, same=same, discount=discount),
        models,
        tuple(dict.fromkeys(unit for price in other for unit in price.units)),
        weight=max(abs(price.ratio - 1) * float(abs(price.money) / whole) for price in other),
        rates=rates,
    )


def _words(prices: Sequence[_Price], ratio: float, rates: Sequence[NewRate], *, same: bool, discount: bool) -> str:
    starts = {price.since for price in prices if price.since is not None}
    since = f" from {instant_of(min(starts)):%Y-%m-%d} on" if starts else ""
    change = f"{abs(1 - ratio):.2%} {'less' if ratio < 1 else 'more'}"
    explained = "; ".join(
        f"{rate.model} {rate.unit} {rate.price.normalize():f} {rate.currency} per {rate.per:f}" for rate in rates[:4]
    )
    what = "all prices alike: the implied discount is" if discount else "on average" if not same else "that is"
    return f"the provider charges {change} for the same units{since} ({what} {abs(1 - ratio):.2%}); {explained}"


def _is_round(ratio: float) -> bool:
    off = abs(1 - ratio) * 100
    return abs(off - round(off)) < 0.05  # noqa: PLR2004 - percent


def _prices(match: Match, window: Span, currency: str) -> Iterator[_Price]:
    units = [unit for unit in match.units.values() if unit.unit != "requests" and unit.ours and not unit.ours.unpriced]
    alone = [unit for unit in units if unit.cost]
    for unit in alone:
        found = _price(match, [unit], unit.cost or {}, window, currency)
        if found is not None:
            yield found
    if match.cost and not alone:
        found = _price(match, [unit for unit in units if unit.theirs], match.cost, window, currency)
        if found is not None:
            yield found


def _price(
    match: Match, units: Sequence[UnitMatch], cost: Mapping[Span, Decimal], window: Span, currency: str
) -> _Price | None:
    expected = _expected(units, window, currency)
    money = of_spans(cost, window)
    if not expected or not money:
        return None
    ratio = float(money) / expected
    since = _change(units, cost, window, currency) if abs(ratio - 1) > _SAME else None
    if since is not None:
        rest = (since, window[0] + window[1] - since)
        ratio = float(of_spans(cost, rest)) / (_expected(units, rest, currency) or 1.0)
    return _Price(match, tuple(unit.unit for unit in units), ratio, money, since)


def _expected(units: Sequence[UnitMatch], window: Span, currency: str) -> float:
    """Return what their units cost at our rates."""
    return sum(
        float(of_spans(unit.theirs, window)) * rate
        for unit in units
        if unit.theirs and (rate := _our_rate(unit, window, currency))
    )


def _our_rate(unit: UnitMatch, window: Span, currency: str) -> float:
    ours = unit.ours
    if ours is None or currency not in ours.cost:
        return 0.0
    quantity = within(ours.quantity, window)
    cost = EXACT.subtract(within(ours.cost[currency], window), within(ours.booked.get(currency, {}), window))
    return float(cost) / float(quantity) if quantity else 0.0


def _change(units: Sequence[UnitMatch], cost: Mapping[Span, Decimal], window: Span, currency: str) -> int | None:
    """Return the first slot of the days on which the price differs, where it did not on those before."""
    if any(length > DAY + 2 for _, length in cost):
        return None
    grid = Grid(window[0], DAY, max(1, -(-window[1] // DAY)))
    money = grid.of_spans(cost)
    expected = [0.0] * grid.count
    for unit in units:
        rates = _our_rate(unit, window, currency)
        expected = [a + rates * b for a, b in zip(expected, grid.of_spans(unit.theirs or {}), strict=True)]
    ratios = [(day, a / b) for day, (a, b) in enumerate(zip(money, expected, strict=True)) if a and b]
    before = next((number for number, (_, ratio) in enumerate(ratios) if abs(ratio - 1) > _SAME), len(ratios))
    after = [ratio for _, ratio in ratios[before:]]
    if not 0 < before < len(ratios) or max(after) - min(after) > _ALIKE:
        return None
    return window[0] + ratios[before][0] * DAY


def _new_rates(price: _Price, window: Span, currency: str) -> Iterator[NewRate]:
    since = window[0] if price.since is None else price.since
    rest = (since, window[0] + window[1] - since)
    start: datetime = instant_of(since)
    for name in price.units:
        unit = price.match.units[name]
        quantity = of_spans(unit.theirs or {}, rest)
        if not quantity or price.match.ledger_model is None:
            continue
        per = _MILLION if name.endswith("_tokens") else _PER.get(name, _PER_MINUTE)
        cost = of_spans(unit.cost, rest) if unit.cost else Decimal(repr(_our_rate(unit, rest, currency) * price.ratio))
        each = EXACT.divide(cost, quantity) if unit.cost else cost
        if not unit.cost and len(price.units) == 1:
            each = EXACT.divide(of_spans(price.match.cost, rest), quantity)
        yield NewRate(
            price.match.component or "",
            price.match.ledger_model,
            name,
            _as_short(EXACT.multiply(each, per)),
            per,
            currency,
            start,
        )


def _as_short(price: Decimal) -> Decimal:
    """Return the price without the digits that come of rounded amounts, where there is such a price."""
    for places in range(1, 12):
        rounded = round(price, places)
        if rounded and abs(EXACT.divide(EXACT.subtract(price, rounded), price)) < Decimal("0.0000005"):
            return rounded
    return round(price, 12)
