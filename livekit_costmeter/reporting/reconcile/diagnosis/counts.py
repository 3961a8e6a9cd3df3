"""
How often: what was recorded twice, what is missing, what the provider does not have yet.

Invariant: what is certain comes first and is taken away. Doubled records are known one by one, late days and foreign
keys by their amounts; only what is left over afterwards is called missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from statistics import pstdev

from livekit_costmeter.reporting.reconcile.diagnosis.causes import Finding
from livekit_costmeter.reporting.reconcile.diagnosis.evidence import (
    Grid,
    Line,
    Series,
    Subject,
    kinds_of,
    size,
    typical,
)
from livekit_costmeter.reporting.reconcile.diagnosis.fitting import fitted
from livekit_costmeter.reporting.reconcile.matching.slots import DAY, day_of

_LOW = 0.8
_MOST_LATE_DAYS = 6
_FEWEST_DAYS = 4
_TRACE = 0.0005
_SLIGHT = 0.001
_MATERIAL = 0.005
_KEY_PART = 0.7
_BIASED = 0.2
_MOST_BIASED = 4.0
_SIGMAS = 3.0


def find_doubled(subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Yield what was recorded twice, and take it away from ours."""
    for subject in subjects:
        shares = []
        for line in subject.lines.values():
            ours, twice = sum(line.ours), sum(line.doubled)
            line.ours = [value - extra for value, extra in zip(line.ours, line.doubled, strict=True)]
            line.measured = [value - extra for value, extra in zip(line.measured, line.doubled, strict=True)]
            if ours and twice / ours > _TRACE:
                shares.append(twice / ours)
        if shares:
            count = sum(subject.doubled)
            what = f"{count:,.0f} operations are" if count else "some usage is"
            yield Finding(
                "double_counting",
                f"{what} in the ledger twice, with the same times and quantities: {max(shares):.1%} of ours",
                subject.models,
                weight=max(shares),
            )


def find_late(subjects: Sequence[Subject], grid: Grid) -> Iterator[Finding]:
    """Yield the last days of which the provider has much less than of those before, and leave them out."""
    days = _daily_ratios(subjects, grid)
    if len(days) < _FEWEST_DAYS or grid.step > DAY:
        return
    numbers = sorted(days)
    before = [days[number] for number in numbers[: -min(_MOST_LATE_DAYS, len(numbers) // 2)]]
    usual = typical(before)
    low = min(_LOW * usual, usual - _SIGMAS * pstdev(before))
    late = 0
    while late < min(_MOST_LATE_DAYS, len(numbers) - 2) and days[numbers[-1 - late]] < low:
        late += 1
    if not late:
        return
    first = numbers[-late]
    missing = sum(1 - days[number] / usual for number in numbers[-late:]) / len(numbers)
    for subject in subjects:
        _cut(subject, grid, first)
    since = day_of(grid.first + first * DAY)
    yield Finding(
        "incomplete",
        f"from {since} on the provider has {_average(days, numbers[-late:]) / usual:.0%} of what it has of ours "
        "before; export it again in a few days",
        tuple(dict.fromkeys(subject.match.model for subject in subjects)),
        weight=missing,
        first_day=first,
    )


def _average(days: Mapping[int, float], numbers: Sequence[int]) -> float:
    return sum(days[number] for number in numbers) / len(numbers)


def _daily_ratios(subjects: Sequence[Subject], grid: Grid) -> dict[int, float]:
    """Return theirs in ours by day, each unit with the weight that it has in all."""
    sums: dict[int, tuple[float, float]] = {}
    for lines in kinds_of(subjects):
        whole = sum(sum(line.ours) for line in lines)
        if not whole:
            continue
        for line in lines:
            for position, (theirs, ours) in enumerate(zip(line.theirs, line.ours, strict=True)):
                first, second = sums.get(grid.day(position), (0.0, 0.0))
                sums[grid.day(position)] = (first + theirs / whole, second + ours / whole)
    return {day: theirs / ours for day, (theirs, ours) in sums.items() if ours > 0}


def _cut(subject: Subject, grid: Grid, first: int) -> None:
    def cut(series: Series) -> Series:
        return [0.0 if grid.day(position) >= first else value for position, value in enumerate(series)]

    for line in subject.lines.values():
        for name in ("theirs", "ours", "estimated", "doubled", "measured"):
            setattr(line, name, cut(getattr(line, name)))
        line.roundings = {step: cut(series) for step, series in line.roundings.items()}
    subject.operations = cut(subject.operations)
    subject.their_requests = None if subject.their_requests is None else cut(subject.their_requests)


ByKey = Mapping[str, Mapping[tuple[str, str], Series]]
"""The provider's id of a key, to series by model and unit; requests have the unit `requests`."""


def find_foreign_keys(subjects: Sequence[Subject], by_key: ByKey, known: frozenset[str]) -> Iterator[Finding]:
    """Yield keys whose usage is not ours: those that nobody mapped, else those without which both sides agree."""
    if len(by_key) < 2 and not known:  # noqa: PLR2004 - the only key there is, is ours
        return
    for key, series in by_key.items():
        if key in known:
            continue
        about = [
            (subject, line, series[subject.match.model, line.unit])
            for subject in subjects
            for line in subject.lines.values()
            if (subject.match.model, line.unit) in series and line.stated
        ]
        if not about or not (known or _explains(about)):
            continue
        share = max(sum(theirs) / line.stated for _, line, theirs in about)
        for _, line, theirs in about:
            line.theirs = [value - part for value, part in zip(line.theirs, theirs, strict=True)]
        for subject in {id(each): each for each, _, _ in about}.values():
            _take_requests(subject, series)
        models = tuple(dict.fromkeys(subject.match.model for subject, _, _ in about))
        why = "is not among the mapped ones" if known else "has what we do not: without it both sides agree"
        yield Finding("other_client", f"the key {key} {why} ({share:.1%} of theirs)", models, weight=share)


def _explains(about: Sequence[tuple[Subject, Line, Series]]) -> bool:
    gain = loss = 0.0
    for _, line, theirs in about:
        before = size(line.residual())
        after = size(value - part for value, part in zip(line.residual(), theirs, strict=True))
        gain += (before - after) / line.stated
        loss += sum(theirs) / line.stated
    return loss > 0 and gain > _KEY_PART * loss


def _take_requests(subject: Subject, series: Mapping[tuple[str, str], Series]) -> None:
    theirs = series.get((subject.match.model, "requests"))
    if subject.their_requests is not None and theirs is not None:
        subject.their_requests = [a - b for a, b in zip(subject.their_requests, theirs, strict=True)]


def find_missing(subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Yield what is left over: usage of one side alone, and estimates that are off."""
    for subject in subjects:
        requests, operations = sum(subject.their_requests or ()), sum(subject.operations)
        if not any(line.stated for line in subject.lines.values()):
            if any(size(line.ours) for line in subject.lines.values()):
                yield _one_sided(subject, _part_of(subject, subjects))
        elif not any(size(line.ours) for line in subject.lines.values()):
            yield Finding(
                "other_client",
                "the ledger has nothing of this model: another client, or a worker that is not metered",
                subject.models,
                weight=_part_of(subject, subjects),
            )
        elif requests and operations:
            yield from _by_requests(subject, requests, operations)
        else:
            yield from _by_units(subject)


def _part_of(subject: Subject, subjects: Sequence[Subject]) -> float:
    """Return how much of all that is counted in the same way a model is."""
    parts = [0.0]
    for lines in kinds_of(subjects) or [list(subject.lines.values())]:
        mine = [line for line in lines if any(line is own for own in subject.lines.values())]
        whole, part = (sum(max(line.stated, sum(line.ours)) for line in some) for some in (lines, mine))
        parts.append(part / whole if whole else 0.0)
    return max(parts)


def _one_sided(subject: Subject, weight: float) -> Finding:
    return Finding(
        "wrong_model",
        "the provider has nothing of this model: it may call it otherwise (`reconcile.aliases`), or bill it elsewhere",
        subject.models,
        weight=weight,
    )


def _by_requests(subject: Subject, theirs: float, ours: float) -> Iterator[Finding]:
    share = (theirs - ours) / theirs
    if share > _SLIGHT:
        yield Finding(
            "missed_usage",
            f"the provider counts {theirs:,.0f} requests, the ledger has {ours:,.0f}: {share:.1%} are missing",
            subject.models,
            weight=share,
        )
    elif share < -_SLIGHT:
        yield Finding(
            "double_counting",
            f"the ledger has {ours:,.0f} operations, the provider counts {theirs:,.0f} requests",
            subject.models,
            weight=-share,
        )
    # What chance makes of sums, where some of the operations are missing.
    chance = _SIGMAS * sqrt(abs(theirs - ours)) / theirs
    for line in subject.lines.values():
        rest = line.stated - sum(line.ours) * theirs / ours
        if theirs == ours and not any(line.estimated) and abs(rest) > _SLIGHT * max(line.stated, sum(line.ours)):
            yield _unseen(subject, f"{line.unit} in as many requests", rest / max(line.stated, sum(line.ours)))
        yield from _estimates(subject, line, rest, max(_MATERIAL, chance))


def _by_units(subject: Subject) -> Iterator[Finding]:
    """Tell what is missing from estimates that are off by how they go with either, where nobody counts requests."""
    lines = [line for line in subject.lines.values() if line.stated or size(line.ours)]
    certain = [line for line in lines if not any(line.estimated)]
    for line in certain:
        rest, whole = sum(line.residual()), max(line.stated, sum(line.ours))
        if abs(rest) / whole > 2 * _SLIGHT:
            yield _unseen(subject, line.unit, rest / whole)
            return
    fit = None if certain else fitted([line for line in lines if any(line.estimated)])
    if fit is None:
        return
    if abs(fit.missing) > max(_SLIGHT, _SIGMAS * fit.missing_error):
        yield _unseen(subject, "usage", fit.missing)
    if abs(fit.bias) > max(_BIASED, _SIGMAS * fit.bias_error):
        for line in lines:
            yield from _estimates(subject, line, fit.bias * sum(line.estimated), _MATERIAL)


def _unseen(subject: Subject, what: str, share: float) -> Finding:
    code, side = ("missed_usage", "provider") if share > 0 else ("double_counting", "ledger")
    return Finding(code, f"the {side} has {abs(share):.1%} more {what}", subject.models, weight=abs(share))


def _estimates(subject: Subject, line: Line, rest: float, least: float) -> Iterator[Finding]:
    estimated, whole = sum(line.estimated), max(line.stated, sum(line.ours))
    if (
        not whole
        or not estimated
        or abs(rest) / whole <= least
        or not (_BIASED * estimated < abs(rest) <= _MOST_BIASED * estimated)
    ):
        return
    side = "more" if rest > 0 else "less"
    yield Finding(
        "estimated",
        f"{estimated / whole:.1%} of {line.unit} are estimates, and the provider has {abs(rest) / whole:.1%} {side}",
        subject.models,
        (line.unit,),
        weight=abs(rest) / whole,
    )
