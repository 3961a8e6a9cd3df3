"""
Two periods side by side: both costs of each group, their difference, and that in percent.

Invariant: a group that only one period has is new or gone; its other cost, difference and percentage are not known, not
0 and not infinite. The total's difference covers all groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

from livekit_costmeter.reporting.report import Report, Row
from livekit_costmeter.reporting.tally import EXACT
from livekit_costmeter.reporting.views.ranking import largest

Status = Literal["both", "new", "gone"]
_SHARE_STEP = Decimal("1e-8")
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One group in both periods; `previous` is `None` where it is new, `current` where it is gone."""

    key: Mapping[str, str | None]
    previous: Row | None
    current: Row | None

    @property
    def status(self) -> Status:
        """Say which periods have the group."""
        if self.previous is None:
            return "new"
        return "both" if self.current is not None else "gone"

    def differences(self) -> dict[str, Decimal]:
        """Return current minus previous cost, in the currencies that both have."""
        if self.previous is None or self.current is None:
            return {}
        before, now = self.previous.cost, self.current.cost
        return {currency: EXACT.subtract(now[currency], before[currency]) for currency in now if currency in before}

    def shares(self) -> dict[str, Decimal]:
        """Return the difference as a share of the previous cost, 8 places; none where that is not above 0."""
        before = self.previous.cost if self.previous is not None else {}
        return {
            currency: EXACT.divide(difference, before[currency]).quantize(
                _SHARE_STEP, rounding=ROUND_HALF_EVEN, context=EXACT
            )
            for currency, difference in self.differences().items()
            if before[currency] > 0
        }

    def magnitudes(self) -> dict[str, Decimal]:
        """Return how much the cost moved, also that of a new or gone group; the order of what matters most."""
        before = self.previous.cost if self.previous is not None else {}
        now = self.current.cost if self.current is not None else {}
        moved = {}
        for currency in {**before, **now}:
            moved[currency] = abs(EXACT.subtract(now.get(currency, _ZERO), before.get(currency, _ZERO)))
        return moved


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two reports by the same dimensions, row by row in the order of their keys; `rows_left_out` were not asked for."""

    previous: Report
    current: Report
    rows: tuple[ComparisonRow, ...]
    total: ComparisonRow
    rows_left_out: int | None = None


def compare(previous: Report, current: Report, *, top: int | None = None) -> Comparison:
    """Put two reports side by side; with `top`, only the rows whose cost moved most, those first.

    Raises:
        ValueError: They are grouped by different dimensions.
    """
    if previous.by != current.by:
        raise ValueError(f"reports by {', '.join(previous.by)} and by {', '.join(current.by)} cannot be compared")
    before = {tuple(row.key.values()): row for row in previous.rows}
    now = {tuple(row.key.values()): row for row in current.rows}
    keys = sorted(before.keys() | now.keys(), key=lambda key: [(part is None, part or "") for part in key])
    rows = [ComparisonRow(dict(zip(current.by, key, strict=True)), before.get(key), now.get(key)) for key in keys]
    found = Comparison(previous, current, tuple(rows), ComparisonRow({}, previous.total, current.total))
    if top is None:
        return found
    return replace(found, rows=tuple(largest(rows, ComparisonRow.magnitudes)[:top]), rows_left_out=len(rows[top:]))


def period_before(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """Return the period of the same length that ends where this one begins.

    Whole calendar months (UTC) are preceded by as many whole months, though these may be shorter or longer.
    """
    months = _month(until) - _month(since)
    if months > 0 and since == _first_of(_month(since)) and until == _first_of(_month(until)):
        return _first_of(_month(since) - months), since
    return since - (until - since), since


def _month(instant: datetime) -> int:
    utc = instant.astimezone(UTC)
    return utc.year * 12 + utc.month - 1


def _first_of(month: int) -> datetime:
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)
