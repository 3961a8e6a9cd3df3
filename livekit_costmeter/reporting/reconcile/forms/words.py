"""
How one row of a reconciliation is worded.

Invariant: nothing is shown as 0 that is not known. Money has six places, or as many as it takes to see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal

from livekit_costmeter.records import decimal_text
from livekit_costmeter.reporting.reconcile.diagnosis import Finding
from livekit_costmeter.reporting.reconcile.matching import Row
from livekit_costmeter.reporting.tally import EXACT
from livekit_costmeter.reporting.wording import NOT_KNOWN, name_text, percent_text

MARKS = {
    "no_provider_data": "(no provider data)",
    "no_meter_data": "(no meter data)",
    "over": "over threshold",
    "within": "within threshold",
    "agrees": "",
}
TITLES = ("model", "unit", "ours", "provider", "diff %", "our cost", "provider cost", "diff", "diff %", "")
_MONEY = Decimal("0.000001")
_UNITS = Decimal("0.001")
_PERCENT = Decimal("0.01")


def units_text(amount: Decimal | None) -> str:
    """Return a quantity, to three places."""
    return NOT_KNOWN if amount is None else decimal_text(_rounded(amount, _UNITS))


def cost_text(amount: Decimal | None, *, signed: bool = False) -> str:
    """Return money, to six places."""
    if amount is None:
        return NOT_KNOWN
    rounded = _rounded(amount, _MONEY)
    text = decimal_text(rounded if rounded or not amount else amount)
    whole, _, places = text.partition(".")
    text = f"{whole}.{places.ljust(4, '0')}"
    return f"+{text}" if signed and amount >= 0 else text


def drift_text(percent: Decimal | None) -> str:
    """Return a signed percentage, to two places; what is too small to be seen is not +0.00."""
    if percent is None:
        return NOT_KNOWN
    rounded = _rounded(percent, _PERCENT)
    if percent and not rounded:
        return "+<0.01" if percent > 0 else "-<0.01"
    return f"{rounded:+.2f}"


def _rounded(amount: Decimal, step: Decimal) -> Decimal:
    return amount.quantize(step, rounding=ROUND_HALF_EVEN, context=EXACT)


def mark_text(row: Row) -> str:
    """Return what is to be said at the end of a row."""
    said = [MARKS[row.state]] if row.level != "total" and MARKS[row.state] else []
    if row.estimated_share and row.level != "total":
        said.append(f"estimated {percent_text(row.estimated_share)}, thresholds widened by it")
    return "; ".join((*said, *row.notes))


def model_text(row: Row) -> str:
    """Return the name of a row: its group and its model, or its unit below it."""
    if row.level == "unit":
        return ""
    name = name_text(row.model)
    return f"{name_text(row.group)} {name}" if row.group is not None else name


def cells_of(row: Row) -> list[str]:
    """Return the cells of a row, as `TITLES` says."""
    return [
        model_text(row),
        name_text(row.unit),
        units_text(row.our_units),
        units_text(row.their_units),
        drift_text(row.unit_percent),
        cost_text(row.our_cost),
        cost_text(row.their_cost),
        cost_text(row.cost_difference, signed=True),
        drift_text(row.cost_percent),
        mark_text(row),
    ]


def shown_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that tell something: of a model that has one unit only, the model alone."""
    shown: list[Row] = []
    for number, row in enumerate(rows):
        if row.level == "model":
            shown.append(row)
            continue
        first = rows[number - 1].level == "model"
        last = number + 1 == len(rows) or rows[number + 1].level == "model"
        if not (first and last):
            shown.append(row)
    return shown


def finding_text(finding: Finding) -> str:
    """Return a cause with its evidence, as one line."""
    return f"{finding.code} ({finding.class_}): {finding.words}. {name_text(finding.evidence)}"
