"""
What was paid for and not used: interruptions, speculation, retries and probes, per model or any other group.

Invariant: nothing is measured anew. It is a report grouped by outcome too, turned so that each group has its outcomes
beside what it cost altogether; a share is of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from livekit_costmeter.reporting.report import Report, Row
from livekit_costmeter.reporting.tally import EXACT, UnpricedModel, sorted_sums
from livekit_costmeter.reporting.views.ranking import largest

WASTED = ("interrupted", "discarded", "failed", "probe")
_SHARE_STEP = Decimal("1e-6")
_ZERO = Decimal(0)
_Key = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class WasteRow:
    """One group: its outcomes other than `completed`, what they cost together, and what all of the group cost.

    `wasted` and `whole` are by currency and of what is priced; `unpriced_records` says of how many records that is not
    known.
    """

    key: Mapping[str, str | None]
    outcomes: Mapping[str, Row]
    wasted: Mapping[str, Decimal]
    whole: Mapping[str, Decimal]
    unpriced_records: int

    def shares(self, outcome: str | None = None) -> dict[str, Decimal]:
        """Return the share of the group's cost by currency, 0 to 1, 6 places; none where the cost is not above 0."""
        amounts = self.wasted if outcome is None else self.outcomes[outcome].cost
        return {
            currency: EXACT.divide(amount, self.whole[currency]).quantize(_SHARE_STEP, context=EXACT)
            for currency, amount in amounts.items()
            if self.whole[currency] > 0
        }


@dataclass(frozen=True, slots=True)
class Waste:
    """Groups in which something was wasted, in the order of their keys, and the total of all groups.

    `rows_left_out` counts those that were not asked for.
    """

    since: datetime | None
    until: datetime | None
    by: tuple[str, ...]
    rows: tuple[WasteRow, ...]
    total: WasteRow
    unpriced: tuple[UnpricedModel, ...]
    estimated_share: Decimal
    rows_left_out: int | None = None


def find_waste(report: Report, *, top: int | None = None) -> Waste:
    """Turn a report whose last dimension is `outcome`; with `top`, list the most wasteful groups alone, those first.

    Raises:
        ValueError: It is grouped otherwise.
    """
    *by, last = report.by or ("",)
    if last != "outcome":
        raise ValueError("waste is found in a report whose last dimension is outcome")
    groups: dict[_Key, dict[str, Row]] = {}
    for row in report.rows:
        *key, outcome = row.key.values()
        groups.setdefault(tuple(key), {})[outcome or ""] = row
    every = (_waste_row(dict(zip(by, key, strict=True)), outcomes) for key, outcomes in groups.items())
    rows = [row for row in every if row.outcomes]
    shown = rows if top is None else largest(rows, lambda row: row.wasted)
    return Waste(
        since=report.since,
        until=report.until,
        by=tuple(by),
        rows=tuple(shown[:top]),
        total=_total(report),
        unpriced=report.unpriced,
        estimated_share=report.total.estimated_share,
        rows_left_out=None if top is None else len(shown[top:]),
    )


def _waste_row(key: Mapping[str, str | None], outcomes: Mapping[str, Row]) -> WasteRow:
    wasted = {name: outcomes[name] for name in WASTED if name in outcomes}
    unpriced = sum(row.unpriced_records for row in outcomes.values())
    return WasteRow(key, wasted, _sum(wasted), _sum(outcomes), unpriced)


def _total(report: Report) -> WasteRow:
    outcomes = {row.key["outcome"] or "": row for row in report.outcomes}
    return WasteRow({}, outcomes, _sum(outcomes), report.total.cost, report.total.unpriced_records)


def _sum(outcomes: Mapping[str, Row]) -> Mapping[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for row in outcomes.values():
        for currency, amount in row.cost.items():
            sums[currency] = EXACT.add(sums.get(currency, _ZERO), amount)
    return sorted_sums(sums)
