"""
Comparisons, shown: lines or a table for people, JSON and CSV for programs.

Invariant: decimals are plain strings and the order is fixed. What is not known is `n/a` for people, null or absent for
programs, never 0. A difference of costs that lack prices is marked: `>=` where the current one does, `<=` where the
previous one does, `~` where both do.

JSON: `{since, until, previous_since, previous_until, by, rows: [...], total, left_out}`. A row is `{key, status,
previous, current, difference, percent}`, the total the same without `key` and `status`. `status` is `both`, `new` or
`gone`; `previous` and `current` are the row of the report of each period (`{quantities, cost, billed_cost, records,
unpriced_records, estimated_share, minutes, cost_per_minute}`) or null. `difference` (current minus previous cost) and
`percent` (of the previous cost, such as `"-12.5"`) go by currency and are empty for what is new or gone. `left_out` is
null, or with a limit the number of rows not listed.

CSV: one line per row and currency, without the total: those grouped by, then `status, currency, previous_cost, cost,
difference, percent, previous_cost_per_minute, cost_per_minute`, and `previous_records, records,
previous_unpriced_records, unpriced_records` on the first line of each row only.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from livekit_costmeter.records import decimal_text, format_instant
from livekit_costmeter.reporting.formats import decimal_fields, row_fields
from livekit_costmeter.reporting.report import Row
from livekit_costmeter.reporting.tally import EXACT
from livekit_costmeter.reporting.views.comparison import Comparison, ComparisonRow
from livekit_costmeter.reporting.views.sheet import (
    Cell,
    Column,
    Sheet,
    cost_cell,
    per_minute_cell,
    print_sheet,
    share_text,
    sheet_text,
)
from livekit_costmeter.reporting.wording import (
    AT_LEAST,
    NOT_KNOWN,
    money_text,
    name_text,
    percent_text,
    period_text,
    unpriced_line,
)

if TYPE_CHECKING:
    from rich.console import Console

_ONCE = ("records", "unpriced_records")
_COLUMNS = (
    *("status", "currency", "previous_cost", "cost", "difference", "percent"),
    *("previous_cost_per_minute", "cost_per_minute"),
    *(f"{period}{name}" for name in _ONCE for period in ("previous_", "")),
)


def comparison_json(found: Comparison) -> str:
    """Return the comparison as an indented JSON document, without a newline at the end."""
    fields = {
        "since": _instant(found.current.since),
        "until": _instant(found.current.until),
        "previous_since": _instant(found.previous.since),
        "previous_until": _instant(found.previous.until),
        "by": list(found.current.by),
        "rows": [{"key": dict(row.key), "status": row.status, **_fields(row)} for row in found.rows],
        "total": _fields(found.total),
        "left_out": found.rows_left_out,
    }
    return json.dumps(fields, indent=2, ensure_ascii=False)


def comparison_csv(found: Comparison) -> str:
    """Return the comparison as CSV with a header, lines ending in a bare newline."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*found.current.by, *_COLUMNS])
    for row in found.rows:
        writer.writerows(_csv_lines(row))
    return text.getvalue()


def comparison_text(found: Comparison) -> str:
    """Return the comparison as plain lines, exact and of any width."""
    return sheet_text(_sheet(found, exact=True))


def print_comparison(found: Comparison, console: Console) -> None:
    """Print the comparison to a terminal."""
    print_sheet(_sheet(found, exact=False), console)


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)


def _fields(row: ComparisonRow) -> dict[str, Any]:
    return {
        "previous": None if row.previous is None else row_fields(row.previous),
        "current": None if row.current is None else row_fields(row.current),
        "difference": decimal_fields(row.differences()),
        "percent": {currency: decimal_text(_percent(share)) for currency, share in row.shares().items()},
    }


def _percent(share: Decimal) -> Decimal:
    return EXACT.multiply(share, Decimal(100))


def _csv_lines(row: ComparisonRow) -> Iterator[list[Any]]:
    fields = _fields(row)
    sides = [fields["previous"] or {}, fields["current"] or {}]
    costs: list[dict[str, str]] = [side.get("cost") or {} for side in sides]
    rates: list[dict[str, str]] = [side.get("cost_per_minute") or {} for side in sides]
    counts = [side.get(name) for name in _ONCE for side in sides]
    for position, currency in enumerate(sorted(costs[0].keys() | costs[1].keys()) or [""]):
        amounts = [*costs, fields["difference"], fields["percent"], *rates]
        yield [
            *row.key.values(),
            row.status,
            currency,
            *(amount.get(currency) for amount in amounts),
            *(counts if position == 0 else [None] * len(counts)),
        ]


def _sheet(found: Comparison, *, exact: bool) -> Sheet:
    by = found.current.by
    columns = [*(Column(name, number=False) for name in by or ("",)), Column("previous"), Column("cost")]
    columns += [Column("difference", spare=1), Column("percent")]
    has_minutes = any(
        row is not None and row.minutes is not None for row in (found.total.previous, found.total.current)
    )
    if has_minutes:
        columns += [Column("previous per minute", spare=3), Column("per minute", spare=2)]
    columns.append(Column("", number=False))
    return Sheet(
        columns=columns,
        rows=[_cells(row, by, exact=exact, has_minutes=has_minutes) for row in (found.rows if by else ())],
        total=_cells(found.total, by, exact=exact, has_minutes=has_minutes),
        notes=[*([_periods(found)] if exact else []), *_notes(found)],
        title=_periods(found),
    )


def _periods(found: Comparison) -> str:
    now, before = (period_text(report.since, report.until) for report in (found.current, found.previous))
    return f"{now or 'all'}, compared with {before or 'all'}"


def _cells(row: ComparisonRow, by: tuple[str, ...], *, exact: bool, has_minutes: bool) -> list[Cell]:
    is_total = not row.key
    keys = [["total"], *([""] for _ in by[1:])] if is_total else [[name_text(row.key[name])] for name in by]
    cells = [*keys, cost_cell(row.previous, exact=exact), cost_cell(row.current, exact=exact)]
    cells += [_difference_cell(row, exact=exact), _percent_cell(row)]
    if has_minutes:
        cells += [per_minute_cell(side, exact=exact) for side in (row.previous, row.current)]
    return [*cells, ["" if row.status == "both" else row.status]]


def _difference_cell(row: ComparisonRow, *, exact: bool) -> Cell:
    lead = _bound(row.previous, row.current)
    return [
        f"{lead}{'+' if amount > 0 else ''}{money_text(amount, currency, exact=exact)}"
        for currency, amount in row.differences().items()
    ] or [NOT_KNOWN]


def _percent_cell(row: ComparisonRow) -> Cell:
    lead, shares = _bound(row.previous, row.current), row.shares()
    return [
        f"{lead if currency in shares else ''}{share_text(shares.get(currency), signed=True)}"
        for currency in row.differences()
    ] or [NOT_KNOWN]


def _bound(previous: Row | None, current: Row | None) -> str:
    before = previous is not None and previous.unpriced_records > 0
    now = current is not None and current.unpriced_records > 0
    if before and now:
        return "~ "
    return AT_LEAST if now else "<= " if before else ""


def _notes(found: Comparison) -> Iterator[str]:
    if found.rows_left_out:
        yield f"not shown: {found.rows_left_out} more rows"
    for name, report in (("previous", found.previous), ("current", found.current)):
        yield from (f"{name}: {line}" for line in unpriced_line(report.total.unpriced_records, report.unpriced))
    shares = (percent_text(report.total.estimated_share) for report in (found.previous, found.current))
    yield f"estimated share {' and '.join(shares)}"
