"""
Why both sides differ.

What is certain is looked for first, and taken away before the next cause is tried: other days, doubled records, late
days, foreign keys, swapped names, increments; what is then left over is missing, or an estimate. Prices come last, by
the provider's own units.

Invariant: a cause is named only with evidence that would not be there without it; what nothing explains stays without a
cause. Findings are ordered by how much they explain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from livekit_costmeter.reporting.reconcile.diagnosis.boundaries import align
from livekit_costmeter.reporting.reconcile.diagnosis.causes import CAUSES, Finding, NewRate
from livekit_costmeter.reporting.reconcile.diagnosis.counts import (
    find_doubled,
    find_foreign_keys,
    find_late,
    find_missing,
)
from livekit_costmeter.reporting.reconcile.diagnosis.evidence import (
    Grid,
    Series,
    Subject,
    cost_subjects_of,
    grid_of,
    subjects_of,
)
from livekit_costmeter.reporting.reconcile.diagnosis.factors import find_factors
from livekit_costmeter.reporting.reconcile.diagnosis.increments import find_increments
from livekit_costmeter.reporting.reconcile.diagnosis.rates import find_rates
from livekit_costmeter.reporting.reconcile.diagnosis.swaps import find_modalities, find_models
from livekit_costmeter.reporting.reconcile.matching.pairs import Match, Sides
from livekit_costmeter.reporting.reconcile.matching.slots import DAY, Span

__all__ = ["CAUSES", "Finding", "NewRate", "diagnose"]

KeySpans = Mapping[str, Mapping[tuple[str, str], Mapping[Span, Decimal]]]
"""The provider's id of a key, to what it states by model and unit."""


def diagnose(
    sides: Sides, window: Span, by_key: KeySpans | None = None, known_keys: frozenset[str] = frozenset()
) -> tuple[Finding, ...]:
    """
    Name the causes of what differs.

    Args:
        sides: Both sides.
        window: The period.
        by_key: What the provider states by key.
        known_keys: The keys that are known to be ours; empty where nobody said.
    """
    money = not sides.states_usage
    spans = [span for match in sides.matches for unit in match.units.values() for span in (unit.theirs or {})]
    if money:
        spans = [span for match in sides.matches for part in _costs(match) for span in part]
    grid = grid_of(window, spans)
    subjects = cost_subjects_of(sides, grid) if money else subjects_of(sides, grid)
    keys = {
        key: {place: grid.of_spans(sums) for place, sums in stated.items()} for key, stated in (by_key or {}).items()
    }
    if not any(line.stated for subject in subjects for line in subject.lines.values()):
        return ()
    found = list(_of_usage(subjects, grid, keys, known_keys, money=money))
    if not money:
        found += find_rates(sides, window, _complete(found, grid))
    return _ordered(found)


def _costs(match: Match) -> list[Mapping[Span, Decimal]]:
    return [match.cost, *(unit.cost for unit in match.units.values() if unit.cost)]


def _of_usage(
    subjects: list[Subject],
    grid: Grid,
    keys: Mapping[str, Mapping[tuple[str, str], Series]],
    known: frozenset[str],
    *,
    money: bool,
) -> Iterator[Finding]:
    yield from align(subjects, grid)
    yield from find_doubled(subjects)
    yield from find_late(subjects, grid)
    yield from find_foreign_keys(subjects, keys, known)
    if money:
        yield from find_factors(subjects, grid)
    yield from find_modalities(subjects)
    yield from find_models(subjects)
    yield from find_increments(subjects)
    yield from find_missing(subjects)


def _complete(found: list[Finding], grid: Grid) -> int:
    """Return the slot after the last complete day."""
    days = [finding.first_day for finding in found if finding.first_day is not None]
    return grid.first + (days[0] * DAY if days else grid.count * grid.step)


def _ordered(found: list[Finding]) -> tuple[Finding, ...]:
    merged: dict[str, Finding] = {}
    for finding in sorted(found, key=lambda finding: -finding.weight):
        named = finding.naming_models()
        first = merged.setdefault(finding.code, named)
        if first is not named:
            merged[finding.code] = first.with_more(named)
    return tuple(merged.values())
