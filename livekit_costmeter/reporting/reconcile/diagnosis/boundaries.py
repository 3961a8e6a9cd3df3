"""
Whether the provider's days are ours.

A provider whose days begin at another hour has the same usage in other buckets: at the right offset both sides agree
(but for a factor, where something is missing too), at ours they do not. A provider may also file work under the time
it began, where we count it when it ends. All models of a kind are looked at together, because what was recorded under
another name is on the right day all the same.

Invariant: nothing is shifted unless that leaves clearly less of what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from livekit_costmeter.reporting.reconcile.diagnosis.causes import Finding
from livekit_costmeter.reporting.reconcile.diagnosis.evidence import Grid, Line, Series, Subject, added, kinds_of
from livekit_costmeter.reporting.reconcile.matching.recorded import Recorded
from livekit_costmeter.reporting.reconcile.matching.slots import DAY, HOUR

_FARTHEST = 28  # slots: no time zone is farther than 14 hours
_ENOUGH = 0.8
_MATERIAL = 1e-4
_ESTIMATES_OFF = 0.35
_LATEST_DAYS = 4
_SHORT = 10
_FEWEST = 3
_SINGULAR = 1e-6


@dataclass(frozen=True, slots=True)
class _Kind:
    """All lines that count the same, as one; ours by half hour."""

    theirs: Series
    quantity: Mapping[int, float]
    started: Mapping[int, float]
    doubled: Mapping[int, float]
    estimated: Mapping[int, float]


def align(subjects: Sequence[Subject], grid: Grid) -> list[Finding]:
    """Put our side into the provider's days, and say so."""
    kinds = [_kind(lines, grid) for lines in kinds_of(subjects) if any(line.recorded for line in lines)]
    if grid.count < _FEWEST or not kinds:
        return []
    last = grid.count - (_LATEST_DAYS * DAY // grid.step if grid.days > _SHORT else 0)
    base = _difference(kinds, grid, 0, last)
    choices = [(_difference(kinds, grid, offset, last), abs(offset), offset, False) for offset in _offsets(grid)]
    choices.append((_difference(kinds, grid, 0, last, started=True), 0, 0, True))
    best, _, offset, started = min(choices)
    if base < _MATERIAL or best > base * _ENOUGH:
        return []
    for subject in subjects:
        _shift(subject, grid, offset, started=started)
    models = tuple(subject.match.model for subject in subjects)
    return [Finding("day_boundary", _words(offset, started=started), models, weight=base)]


def _kind(lines: Sequence[Line], grid: Grid) -> _Kind:
    found = [line.recorded for line in lines if line.recorded is not None]
    parts: dict[str, dict[int, float]] = {}
    for name in ("quantity", "started", "doubled", "estimated"):
        sums = parts.setdefault(name, {})
        for recorded in found:
            for slot, amount in getattr(recorded, name).items():
                sums[slot] = sums.get(slot, 0.0) + float(amount)
    return _Kind(added(grid, [line.theirs for line in lines]), **parts)


def _offsets(grid: Grid) -> list[int]:
    smallest = 1 if grid.step >= DAY else HOUR
    return [offset for offset in range(-_FARTHEST, _FARTHEST + 1, smallest) if offset]


def _difference(kinds: Sequence[_Kind], grid: Grid, offset: int, last: int, *, started: bool = False) -> float:
    parts = []
    for kind in kinds:
        quantity = kind.started if started else kind.quantity
        ours, twice, guessed = (grid.of_slots(part, offset)[:last] for part in (quantity, kind.doubled, kind.estimated))
        ours = [value - extra for value, extra in zip(ours, twice, strict=True)]
        theirs = kind.theirs[:last]
        if sum(ours) <= 0 or sum(theirs) <= 0:
            continue
        expected = _expected(theirs, ours, guessed)
        # What estimates may be off is no sign of anything else.
        off = (max(0.0, abs(a - b) - _ESTIMATES_OFF * c) for a, b, c in zip(theirs, expected, guessed, strict=True))
        parts.append(min(1.0, sum(off) / sum(theirs)))
    return sum(parts) / len(parts) if parts else 0.0


def _expected(theirs: Series, ours: Series, guessed: Series) -> Series:
    """Return ours, with a factor for what is missing and one for estimates, as near to theirs as these can bring it."""
    certain = [a - b for a, b in zip(ours, guessed, strict=True)]
    cc, gg = sum(a * a for a in certain), sum(a * a for a in guessed)
    cg = sum(a * b for a, b in zip(certain, guessed, strict=True))
    tc, tg = (sum(a * b for a, b in zip(theirs, part, strict=True)) for part in (certain, guessed))
    determinant = cc * gg - cg * cg
    if determinant <= _SINGULAR * cc * gg:
        factor = sum(theirs) / sum(ours)
        return [factor * value for value in ours]
    first, second = (tc * gg - tg * cg) / determinant, (tg * cc - tc * cg) / determinant
    return [first * a + second * b for a, b in zip(certain, guessed, strict=True)]


def _shift(subject: Subject, grid: Grid, offset: int, *, started: bool) -> None:
    matches = subject.match.operations
    for line in subject.lines.values():
        recorded = line.recorded or Recorded()
        line.ours = grid.of_slots(recorded.started if started else recorded.quantity, offset)
        line.estimated = grid.of_slots(recorded.estimated, offset)
        line.doubled = grid.of_slots(recorded.doubled, offset)
        line.measured = grid.of_slots(recorded.measured, offset) if recorded.measured else line.ours
        for step in line.roundings:
            parts: list[Mapping[int, Decimal]] = [each.rounding.get((line.unit, step), {}) for each in matches]
            line.roundings[step] = added(grid, [grid.of_slots(part, offset) for part in parts])
    subject.operations = added(grid, [grid.of_slots(each.count, offset) for each in matches])
    subject.doubled = added(grid, [grid.of_slots(each.doubled, offset) for each in matches])


def _words(offset: int, *, started: bool) -> str:
    if started:
        return "both sides agree if work counts when it began; the ledger counts it when it ended"
    hours, half = divmod(abs(offset), HOUR)
    clock = f"{hours}:30" if half else str(hours)
    side = "later" if offset > 0 else "earlier"
    return (
        f"both sides agree if days begin {clock} h {side} than in UTC, which is midnight in "
        f"UTC{'-' if offset > 0 else '+'}{clock}"
    )
