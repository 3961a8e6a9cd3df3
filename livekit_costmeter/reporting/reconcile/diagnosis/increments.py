"""
What a provider adds to each operation: whole steps, or so many seconds per stream.

Sums of whole steps are whole steps: where every sum of theirs is a multiple of 15 s, and ours are not, it rounds to
15 s, whatever else is wrong. Otherwise a rule has to fit. Where operations are missing too, both sides are compared per
operation; where nobody counts operations, only a rule that fits very well is believed.

Invariant: a rule is named only if it explains most of what differs, and the simplest one that does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

from livekit_costmeter.reporting.reconcile.diagnosis.causes import Finding
from livekit_costmeter.reporting.reconcile.diagnosis.evidence import Line, Series, Subject, size

_ENOUGH = 0.5
_ENOUGH_UNCOUNTED = 0.1
_AS_GOOD = 1.25
_EXACT = 0.001
_SIGMAS = 2.0
_TRACE = 0.0005
_LEAST_SECONDS = 0.05
_MOST_SECONDS = 120.0
_FEWEST = 5


@dataclass(frozen=True, slots=True)
class _Rule:
    words: str
    ours: Series


def find_increments(subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Yield rules that explain a difference in seconds, and apply them to ours."""
    for subject in subjects:
        for line in subject.lines.values():
            if not (line.roundings and line.stated and sum(line.ours) and sum(subject.operations)):
                continue
            rule = _whole_steps(line) or _fitting(subject, line)
            if rule is None or size(a - b for a, b in zip(rule.ours, line.ours, strict=True)) < _TRACE * line.stated:
                continue
            share = abs(sum(rule.ours) - sum(line.ours)) / line.stated
            line.ours = rule.ours
            yield Finding(
                "billing_increment",
                f"{rule.words} explains {line.unit}; ours are by the billing policy in force (`policies`)",
                subject.models,
                (line.unit,),
                weight=share,
            )


def _whole_steps(line: Line) -> _Rule | None:
    stated = [value for value in line.theirs if value]
    if len(stated) < _FEWEST:
        return None
    for step in sorted(line.roundings, reverse=True):
        if all(_is_whole(value, step) for value in stated):
            ours = [value for value in line.ours if value]
            return None if all(_is_whole(value, step) for value in ours) else _rounded(line, step)
    return None


def _is_whole(value: float, step: int) -> bool:
    return abs(value - round(value / step) * step) < _EXACT


def _rounded(line: Line, step: int) -> _Rule:
    more = zip(line.measured, line.roundings[step], strict=True)
    return _Rule(f"rounding each operation up to whole {step} s", [value + extra for value, extra in more])


def _fitting(subject: Subject, line: Line) -> _Rule | None:
    requests, count = sum(subject.their_requests or ()), sum(subject.operations)
    factor = requests / count if requests else 1.0
    base = _distance(line.theirs, line.ours, factor)
    # What chance makes of a sum where some of the operations are missing.
    chance = line.stated * _SIGMAS * sqrt(abs(requests - count)) / requests if requests else 0.0
    if base <= max(line.stated * _TRACE, chance):
        return None
    choices = [(_distance(line.theirs, rule.ours, factor), rule) for rule in _rules(line, factor, subject.operations)]
    best = min((distance for distance, _ in choices), default=base)
    if best > base * (_ENOUGH if requests else _ENOUGH_UNCOUNTED):
        return None
    # Rules that fit as well come in the order of how simple they are.
    good = max(best * _AS_GOOD, base * _EXACT, min(chance, base * _ENOUGH))
    return next(rule for distance, rule in choices if distance <= good)


def _distance(theirs: Series, ours: Series, factor: float) -> float:
    """Return what differs, bucket by bucket; only in all where operations are missing, as chance is in each bucket."""
    if abs(factor - 1) < _TRACE:
        return size(a - b for a, b in zip(theirs, ours, strict=True))
    return abs(sum(theirs) - factor * sum(ours))


def _rules(line: Line, factor: float, operations: Series) -> Iterator[_Rule]:
    if size(a - b for a, b in zip(line.measured, line.ours, strict=True)):
        yield _Rule("no rounding at all", line.measured)
    # What is rounded to whole steps shows it; here it is one that others of its kind were added to.
    for step in line.roundings:
        yield _rounded(line, step)
    seconds = (line.stated / factor - sum(line.ours)) / sum(operations)
    if _LEAST_SECONDS < abs(seconds) < _MOST_SECONDS:
        yield _Rule(
            f"{seconds:.2f} s more per stream" if seconds > 0 else f"{-seconds:.2f} s less per stream",
            [value + seconds * number for value, number in zip(line.ours, operations, strict=True)],
        )
