"""
Other rates where a provider states money alone.

Without its quantities there is only one sign of another rate: each day's amount is ours times the same factor, from the
beginning or from a day on. What is missed or doubled is never that even.

Invariant: a factor is named only where every day has it, but for what estimates may be off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from livekit_costmeter.reporting.reconcile.diagnosis.causes import Finding
from livekit_costmeter.reporting.reconcile.diagnosis.evidence import Grid, Line, Subject, typical
from livekit_costmeter.reporting.reconcile.matching.slots import DAY, day_of

_SAME = 0.002
_ALIKE = 0.004
_ESTIMATES_OFF = 0.35
_FEWEST = 4
Found = tuple[Subject, Line, float, int]
"""What it is about, the factor, and the bucket it begins in."""


def find_factors(subjects: Sequence[Subject], grid: Grid) -> Iterator[Finding]:
    """Yield the models whose amounts are ours by a factor, and apply it to ours."""
    looked_at = [(subject, line, _factor(line)) for subject in subjects for line in subject.lines.values()]
    found: list[Found] = [(subject, line, *factor) for subject, line, factor in looked_at if factor is not None]
    if not found:
        return
    factors = [factor for _, _, factor, _ in found]
    priced = sum(bool(line.stated and sum(line.ours)) for subject in subjects for line in subject.lines.values())
    same = max(factors) - min(factors) < _ALIKE and not any(begins for _, _, _, begins in found)
    discount = same and factors[0] < 1 and len(found) == priced > 1
    said = [_words(each, grid) for each in found]
    for _, line, factor, begins in found:
        line.ours = [value * factor if number >= begins else value for number, value in enumerate(line.ours)]
    yield Finding(
        "discount" if discount else "stale_catalog",
        f"every day's amount is ours by the same factor: {'; '.join(said)}",
        tuple(subject.match.model for subject, *_ in found),
        weight=max(abs(1 - factor) for factor in factors),
    )


def _words(found: Found, grid: Grid) -> str:
    subject, _, factor, begins = found
    since = f" from {day_of(grid.first + begins * grid.step)} on" if begins and grid.step <= DAY else ""
    return f"{subject.match.model} {factor:.4f}{since}"


def _factor(line: Line) -> tuple[float, int] | None:
    """Return the factor and where it begins; `None` where it is 1, or there is none."""
    rows = [
        (number, theirs / ours, _ESTIMATES_OFF * guessed / ours + _SAME)
        for number, (theirs, ours, guessed) in enumerate(zip(line.theirs, line.ours, line.estimated, strict=True))
        if ours > 0
    ]
    before = next((position for position, row in enumerate(rows) if abs(row[1] - 1) > row[2]), len(rows))
    rest = rows[before:]
    if len(rest) < _FEWEST:
        return None
    factor = typical([ratio for _, ratio, _ in rest])
    even = all(abs(ratio - factor) <= slack * max(1.0, factor) for _, ratio, slack in rest)
    # A day or two at the beginning that agree by chance of estimates are of the same price.
    begins = rest[0][0] if before >= _FEWEST else 0
    return (factor, begins) if even and abs(factor - 1) > _SAME else None
