"""
How a value is spread over calls: mean and percentiles.

Invariant: a percentile is the value of an actual call (nearest rank: the smallest value that at least p % of the calls
do not exceed), never interpolated, so it is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from livekit_costmeter.reporting.tally import EXACT

RANKS = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class Spread:
    """The mean and the percentiles of a value, by rank, over the `calls` that have it.

    `incomplete` of them have something unpriced: their values, and so all these, are lower bounds.
    """

    calls: int
    incomplete: int
    mean: Decimal
    percentiles: dict[int, Decimal]


def spread(values: Sequence[Decimal], incomplete: int, rounded: Callable[[Decimal], Decimal]) -> Spread | None:
    """Return how values are spread, `None` where there are none; only the mean is rounded."""
    if not values:
        return None
    ordered = sorted(values)
    total = Decimal(0)
    for value in ordered:
        total = EXACT.add(total, value)
    mean = rounded(EXACT.divide(total, Decimal(len(ordered))))
    return Spread(len(ordered), incomplete, mean, {rank: ordered[_position(rank, len(ordered))] for rank in RANKS})


def _position(rank: int, count: int) -> int:
    return -(-rank * count // 100) - 1
