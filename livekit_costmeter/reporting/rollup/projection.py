"""
Contributions as rows of one level: what its traits do not tell apart is added up.

Invariant: a thing counts once in a row, however many of its traits become one there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from livekit_costmeter.reporting.rollup.contributions import Contributions, Measure, Sort
from livekit_costmeter.reporting.rollup.traits import Level, Traits

Rows = dict[tuple[object, ...], list[int]]
"""The key of a row, without its level, to how many it counts and what these come to."""


def sums_of(level: Level, contributions: Contributions, id_of: Callable[[Level, Traits], int]) -> Rows:
    """Return charges, amount and magnitude by span, day, traits and measure."""
    rows: Rows = defaultdict(lambda: [0, 0, 0])
    for (span, day, sort), amounts in contributions.amounts.items():
        traits = id_of(level, level.project(sort.traits))
        for measure, amount, magnitude in _measured(sort, amounts):
            row = rows[*span, day, traits, *measure]
            row[0] += amounts[0]
            row[1] += amount
            row[2] += magnitude
    return rows


def _measured(sort: Sort, amounts: list[int]) -> Iterator[tuple[Measure, int, int]]:
    _, quantity, quantity_magnitude, cost, cost_magnitude, billed = amounts
    if sort.quantity is not None:
        yield sort.quantity, quantity, quantity_magnitude
    if sort.cost is not None:
        yield sort.cost, cost, cost_magnitude
    if sort.billed is not None:
        yield sort.billed, billed, 0


def counts_of(level: Level, contributions: Contributions, id_of: Callable[[Level, Traits], int]) -> Rows:
    """Return things and their amount by span, day, kind and shape."""
    rows: Rows = defaultdict(lambda: [0, 0])
    for (span, day, kind, shape), (things, amount) in contributions.counts.items():
        numbers = sorted({id_of(level, level.project(traits)) for traits in shape})
        row = rows[*span, day, kind, " ".join(map(str, numbers))]
        row[0] += things
        row[1] += amount
    return rows
