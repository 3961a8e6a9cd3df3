"""
What a diagnosis looks at: both sides of each unit as series over time, of which explained parts are taken away.

Invariant: evidence, not amounts. Series are binary fractions, good for finding a cause and for nothing else; what is
shown as money or booked never comes from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import median

from livekit_costmeter.reporting.reconcile.matching.operations import STEPS, TIMES
from livekit_costmeter.reporting.reconcile.matching.pairs import Match, Sides, UnitMatch
from livekit_costmeter.reporting.reconcile.matching.recorded import Recorded
from livekit_costmeter.reporting.reconcile.matching.slots import DAY, HOUR, Span

Series = list[float]
_CLOCK_CHANGE = 2


@dataclass(frozen=True, slots=True)
class Grid:
    """Buckets of `step` slots from `first` on."""

    first: int
    step: int
    count: int

    def of_slots(self, sums: Mapping[int, Decimal] | Mapping[int, float], offset: int = 0) -> Series:
        """Add up slots, as they fall into buckets that begin `offset` slots later."""
        series = [0.0] * self.count
        for slot, amount in sums.items():
            position = (slot - self.first - offset) // self.step
            if 0 <= position < self.count:
                series[position] += float(amount)
        return series

    def of_spans(self, sums: Mapping[Span, Decimal]) -> Series:
        """Add up spans, by where they begin."""
        series = [0.0] * self.count
        for (start, _), amount in sums.items():
            position = (start - self.first) // self.step
            if 0 <= position < self.count:
                series[position] += float(amount)
        return series

    def day(self, position: int) -> int:
        """Return the number of the day that a bucket is in, from the beginning."""
        return position * self.step // DAY

    @property
    def days(self) -> int:
        """Return how many days there are."""
        return self.day(self.count - 1) + 1


def grid_of(window: Span, spans: Iterable[Span]) -> Grid:
    """Return buckets as fine as the longest of these spans: hours, days, or all in one."""
    first, count = window
    longest = max((length for _, length in spans), default=DAY)
    step = HOUR if longest <= HOUR else DAY if longest <= DAY + _CLOCK_CHANGE else count
    return Grid(first, step, max(1, -(-count // step)))


@dataclass(slots=True)
class Line:
    """One unit of one model. `ours` loses and gains what is explained, until it is what the provider has."""

    unit: str
    theirs: Series
    ours: Series
    estimated: Series
    doubled: Series
    measured: Series
    roundings: dict[int, Series] = field(default_factory=dict)
    recorded: Recorded | None = None

    def residual(self) -> Series:
        """Return what is not explained yet, theirs - ours."""
        return [theirs - ours for theirs, ours in zip(self.theirs, self.ours, strict=True)]

    @property
    def stated(self) -> float:
        """Return all of theirs."""
        return sum(self.theirs)


@dataclass(slots=True)
class Subject:
    """
    One model with its units, and its requests on both sides.

    Attributes:
        models: The model, and those that are taken together with it.
        their_requests: `None` where the provider does not count them.
    """

    match: Match
    models: tuple[str, ...]
    lines: dict[str, Line]
    their_requests: Series | None
    operations: Series
    doubled: Series

    @property
    def component(self) -> str | None:
        """Return what the model does."""
        return self.match.component


def subjects_of(sides: Sides, grid: Grid) -> list[Subject]:
    """Return the models of both sides as series."""
    return [_subject(match, grid) for match in sides.matches if match.recorded or match.stated]


def _subject(match: Match, grid: Grid) -> Subject:
    lines = {name: _line(match, unit, grid) for name, unit in match.units.items() if name != "requests"}
    operations = [grid.of_slots(each.count) for each in match.operations]
    doubled = [grid.of_slots(each.doubled) for each in match.operations]
    requests = None if match.requests is None else grid.of_spans(match.requests)
    return Subject(match, (match.model,), lines, requests, added(grid, operations), added(grid, doubled))


def _line(match: Match, unit: UnitMatch, grid: Grid) -> Line:
    ours = unit.ours or Recorded()
    roundings = {}
    if unit.unit in TIMES:
        for step in STEPS:
            parts = [grid.of_slots(each.rounding.get((unit.unit, step), {})) for each in match.operations]
            roundings[step] = added(grid, parts)
    doubled = grid.of_slots(ours.doubled)
    quantity = grid.of_slots(ours.quantity)
    return Line(
        unit=unit.unit,
        theirs=grid.of_spans(unit.theirs or {}),
        ours=quantity,
        estimated=grid.of_slots(ours.estimated),
        doubled=doubled,
        measured=grid.of_slots(ours.measured) if unit.unit in TIMES else quantity,
        roundings=roundings,
        recorded=ours,
    )


def cost_subjects_of(sides: Sides, grid: Grid) -> list[Subject]:
    """Return the models as series of money, for providers that state nothing else."""
    found = []
    for match in sides.matches:
        currency = sides.currency or ""
        units = list(match.units.values())
        whole = [match.cost, *(unit.cost for unit in units if unit.cost)]
        recorded = [unit.ours for unit in units if unit.ours is not None]
        merged = Recorded()
        for each in recorded:
            _add(merged.quantity, each.cost.get(currency, {}))
            _add(merged.estimated, each.estimated_cost.get(currency, {}))
            _add(merged.doubled, each.doubled_cost.get(currency, {}))
        merged.started = merged.quantity
        theirs = added(grid, [grid.of_spans(part) for part in whole])
        ours = grid.of_slots(merged.quantity)
        line = Line(
            "cost", theirs, ours, grid.of_slots(merged.estimated), grid.of_slots(merged.doubled), ours, {}, merged
        )
        nothing = [0.0] * grid.count
        found.append(Subject(match, (match.model,), {"cost": line}, None, nothing, nothing))
    return found


def _add(into: dict[int, Decimal], sums: Mapping[int, Decimal]) -> None:
    for slot, amount in sums.items():
        into[slot] = into.get(slot, Decimal(0)) + amount


def added(grid: Grid, parts: Sequence[Series]) -> Series:
    """Return the sum of series."""
    return [sum(values) for values in zip(*parts, strict=True)] if parts else [0.0] * grid.count


def kinds_of(subjects: Iterable[Subject]) -> list[list[Line]]:
    """Return lines by what they count: what was recorded under another name is in the same list."""
    kinds: dict[tuple[str | None, str], list[Line]] = {}
    for subject in subjects:
        for line in subject.lines.values():
            measure = "tokens" if line.unit.endswith("_tokens") else line.unit
            kinds.setdefault((subject.component, measure), []).append(line)
    return [lines for lines in kinds.values() if any(line.stated for line in lines)]


def size(series: Iterable[float]) -> float:
    """Return the sum of the magnitudes."""
    return sum(map(abs, series))


def typical(values: Sequence[float]) -> float:
    """Return the middle value; 1 of none."""
    return median(values) if values else 1.0
