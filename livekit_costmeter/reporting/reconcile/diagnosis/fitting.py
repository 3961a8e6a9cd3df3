"""
How a difference goes with what is estimated, and how with all there is.

Invariant: least squares of two unknowns, and how sure each of them is; nothing where there is too little to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from livekit_costmeter.reporting.reconcile.diagnosis.evidence import Line

_FEWEST = 8


@dataclass(frozen=True, slots=True)
class Fit:
    """theirs - ours = missing x theirs + bias x estimated, and the standard errors."""

    missing: float
    missing_error: float
    bias: float
    bias_error: float


def fitted(lines: Sequence[Line]) -> Fit | None:
    """Fit the difference of some lines together, each with the same weight."""
    rows: list[tuple[float, float, float]] = []
    for line in lines:
        scale = line.stated or 1.0
        for rest, theirs, guessed in zip(line.residual(), line.theirs, line.estimated, strict=True):
            if theirs or guessed:
                # Larger buckets vary more.
                weight = 1 / sqrt(max(theirs, guessed) / scale)
                rows.append((rest / scale * weight, theirs / scale * weight, guessed / scale * weight))
    if len(rows) < _FEWEST:
        return None
    tt, tg, gg = (sum(a * b for a, b in pairs) for pairs in _products(rows))
    rt, rg = sum(r * t for r, t, _ in rows), sum(r * g for r, _, g in rows)
    determinant = tt * gg - tg * tg
    if determinant <= 1e-12 * tt * gg:
        return None
    missing, bias = (rt * gg - rg * tg) / determinant, (rg * tt - rt * tg) / determinant
    # Units of one request vary together, so that there is less to go by than there are rows.
    left = sum((r - missing * t - bias * g) ** 2 for r, t, g in rows) / max(1, len(rows) - 2) * len(lines)
    return Fit(missing, sqrt(left * gg / determinant), bias, sqrt(left * tt / determinant))


def _products(rows: Sequence[tuple[float, float, float]]) -> list[list[tuple[float, float]]]:
    return [[(t, t) for _, t, _ in rows], [(t, g) for _, t, g in rows], [(g, g) for _, _, g in rows]]
