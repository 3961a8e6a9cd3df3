"""
A reconciliation as JSON and CSV, exact.

JSON: `{provider, since, until, by, currency, over, rows: [...], total, left_out, findings: [...], notes}`. A row is
`{level, group, component, model, unit, our_units, their_units, unit_difference, unit_percent, our_cost, their_cost,
cost_difference, cost_percent, currency, unit_threshold, cost_threshold, estimated_share, state, causes, notes}`;
numbers are decimal strings, what is not known is null. `state` is `agrees`, `within`, `over`, `no_provider_data` or
`no_meter_data`. A finding is `{code, class, words, evidence, models, units, rates: [...]}`. CSV has the rows alone.

Invariant: a row of a model is the sum of its units; do not add both.
"""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

from livekit_costmeter.records import decimal_text, format_instant
from livekit_costmeter.reporting.reconcile.diagnosis import Finding, NewRate
from livekit_costmeter.reporting.reconcile.matching import Row
from livekit_costmeter.reporting.reconcile.result import Reconciliation

_TEXTS = ("level", "group", "component", "model", "unit")
_NUMBERS = (
    "our_units",
    "their_units",
    "unit_difference",
    "unit_percent",
    "our_cost",
    "their_cost",
    "cost_difference",
    "cost_percent",
)
_LIMITS = ("unit_threshold", "cost_threshold", "estimated_share")


def _row(row: Row, found: Reconciliation) -> dict[str, Any]:
    numbers = {name: _number(getattr(row, name), name) for name in (*_NUMBERS, *_LIMITS)}
    limits = {name: numbers.pop(name) for name in _LIMITS}
    return {
        **{name: getattr(row, name) for name in _TEXTS},
        **numbers,
        "currency": row.currency,
        **limits,
        "state": row.state,
        "causes": [finding.code for finding in found.causes_of(row)],
        "notes": list(row.notes),
    }


def _number(value: Decimal | None, name: str) -> str | None:
    if value is None:
        return None
    shown = "percent" in name or name in _LIMITS
    return decimal_text(round(value, 9) if shown else value)


def reconciliation_json(found: Reconciliation) -> str:
    """Return one JSON document."""
    document = {
        "provider": found.provider,
        "since": format_instant(found.since),
        "until": format_instant(found.until),
        "by": found.by,
        "currency": found.total.currency,
        "over": found.over,
        "rows": [_row(row, found) for row in found.rows],
        "total": _row(found.total, found),
        "left_out": found.left_out,
        "findings": [_finding(finding) for finding in found.findings],
        "notes": list(found.notes),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "class": finding.class_,
        "words": finding.words,
        "evidence": finding.evidence,
        "models": list(finding.models),
        "units": list(finding.units),
        "rates": [_rate(rate) for rate in finding.rates],
    }


def _rate(rate: NewRate) -> dict[str, Any]:
    return {
        "component": rate.component,
        "model": rate.model,
        "unit": rate.unit,
        "price": decimal_text(rate.price),
        "per": decimal_text(rate.per),
        "currency": rate.currency,
        "since": rate.since and format_instant(rate.since),
    }


def reconciliation_csv(found: Reconciliation) -> str:
    """Return the rows and the total as CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = [_row(row, found) for row in (*found.rows, found.total)]
    writer.writerow(rows[-1])
    for row in rows:
        writer.writerow([_cell(value) for value in row.values()])
    return text.getvalue()


def _cell(value: Any) -> Any:
    text = " ".join(value) if isinstance(value, list) else value
    # A spreadsheet takes these for formulas.
    return f"'{text}" if isinstance(text, str) and text[:1] in ("=", "@") else text
