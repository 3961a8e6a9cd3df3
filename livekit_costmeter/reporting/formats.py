"""
Reports for programs: JSON and CSV.

Invariant: decimals are plain strings and the order is fixed, so that the same charges give the same bytes.

JSON: `{since, until, by, rows: [...], total: {...}, outcomes: [...]}`; a row is `{key, quantities, cost, billed_cost,
records, unpriced_records, estimated_share, minutes, cost_per_minute}`, the total the same without `key`. Instants are
ISO 8601 or null; `quantities` goes by unit, money by currency; what is not known is null or absent, never 0. `outcomes`
are rows by `outcome`: what interrupted, discarded, failed and probing work took of the total, as far as there is any.
With a limit of rows there is also `left_out`: `{rows, unpriced_rows, cost, billed_cost}` of those not listed.

CSV: one line per row and currency. The columns are the same whatever the data: those grouped by, then `_COLUMNS`, then
every unit. What a row has once (counts, share, minutes, quantities) stands on its first line only, so that each column
adds up; a row without any money still has one line. There is no line for the total.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from livekit_costmeter.records import UNIT_ORDER, decimal_text, format_instant
from livekit_costmeter.reporting.report import LeftOut, Report, Row

_ONCE = ("records", "unpriced_records", "estimated_share", "minutes")
_COLUMNS = (*_ONCE, "currency", "cost", "cost_per_minute", "billed_cost")


def report_fields(report: Report) -> dict[str, Any]:
    """Return the report as JSON values."""
    fields = {
        "since": _instant(report.since),
        "until": _instant(report.until),
        "by": list(report.by),
        "rows": [{"key": dict(row.key), **row_fields(row)} for row in report.rows],
        "total": row_fields(report.total),
        "outcomes": [{"key": dict(row.key), **row_fields(row)} for row in report.outcomes],
    }
    return fields if report.left_out is None else {**fields, "left_out": left_out_fields(report.left_out)}


def report_json(report: Report) -> str:
    """Return the report as an indented JSON document, without a newline at the end."""
    return json.dumps(report_fields(report), indent=2, ensure_ascii=False)


def report_csv(report: Report) -> str:
    """Return the report as CSV with a header, lines ending in a bare newline."""
    units = [*UNIT_ORDER, *(unit for unit in report.total.quantities if unit not in UNIT_ORDER)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*report.by, *_COLUMNS, *units])
    for row in report.rows:
        writer.writerows(_csv_lines(row, units))
    return text.getvalue()


def row_fields(row: Row) -> dict[str, Any]:
    """Return a row as JSON values, without its key."""
    return {
        "quantities": decimal_fields(row.quantities),
        "cost": decimal_fields(row.cost),
        "billed_cost": decimal_fields(row.billed_cost),
        "records": row.records,
        "unpriced_records": row.unpriced_records,
        "estimated_share": decimal_text(row.estimated_share),
        "minutes": None if row.minutes is None else decimal_text(row.minutes),
        "cost_per_minute": None if row.cost_per_minute is None else decimal_fields(row.cost_per_minute),
    }


def left_out_fields(left_out: LeftOut) -> dict[str, Any]:
    """Return what is not shown as JSON values."""
    return {
        "rows": left_out.rows,
        "unpriced_rows": left_out.unpriced_rows,
        "cost": decimal_fields(left_out.cost),
        "billed_cost": decimal_fields(left_out.billed_cost),
    }


def _csv_lines(row: Row, units: list[str]) -> Iterator[list[Any]]:
    fields = row_fields(row)
    currencies = sorted(row.cost.keys() | row.billed_cost.keys()) or [""]
    for position, currency in enumerate(currencies):
        first = position == 0
        money = [(fields[name] or {}).get(currency) for name in ("cost", "cost_per_minute", "billed_cost")]
        yield [
            *row.key.values(),
            *(fields[name] if first else None for name in _ONCE),
            currency,
            *money,
            *(fields["quantities"].get(unit) if first else None for unit in units),
        ]


def decimal_fields(sums: Mapping[str, Decimal]) -> dict[str, str]:
    """Return sums as text by name."""
    return {name: decimal_text(amount) for name, amount in sums.items()}


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)
