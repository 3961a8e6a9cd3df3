"""
Waste, shown: lines or a table for people, JSON and CSV for programs.

Invariant: decimals are plain strings and the order is fixed. What is not known is `n/a` for people, null or absent for
programs, never 0; an outcome that a group does not have is `-`, or absent.

JSON: `{since, until, by, rows: [...], total, left_out}`. A row is `{key, cost, wasted, wasted_share, unpriced_records,
outcomes}`, the total the same without `key`: `cost` is all that the group cost, `wasted` the part of it that its
outcomes took, `wasted_share` that as a share, 0 to 1; money and shares go by currency. `outcomes` goes by outcome
(`interrupted`, `discarded`, `failed`, `probe`), each `{cost, share, records, unpriced_records, estimated_share}`.
Groups without any are not listed; the total counts them. `left_out` is null, or with a limit the number of groups not
listed.

CSV: one line per group, outcome and currency: those grouped by, then `outcome, records, unpriced_records, currency,
cost, share, group_cost`. What an outcome has once stands on its first line only. There is no line for the total.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from livekit_costmeter.records import decimal_text, format_instant
from livekit_costmeter.reporting.formats import decimal_fields
from livekit_costmeter.reporting.report import Row
from livekit_costmeter.reporting.views.sheet import Cell, Column, Sheet, cost_cell, print_sheet, share_text, sheet_text
from livekit_costmeter.reporting.views.waste import WASTED, Waste, WasteRow
from livekit_costmeter.reporting.wording import (
    NOTHING,
    cost_texts,
    name_text,
    percent_text,
    period_text,
    unpriced_line,
)

if TYPE_CHECKING:
    from rich.console import Console

_TITLES = {"interrupted": "interruptions", "discarded": "speculation", "failed": "retries", "probe": "probes"}
_COLUMNS = ("outcome", "records", "unpriced_records", "currency", "cost", "share", "group_cost")


def waste_json(waste: Waste) -> str:
    """Return the waste as an indented JSON document, without a newline at the end."""
    fields = {
        "since": None if waste.since is None else format_instant(waste.since),
        "until": None if waste.until is None else format_instant(waste.until),
        "by": list(waste.by),
        "rows": [{"key": dict(row.key), **_fields(row)} for row in waste.rows],
        "total": _fields(waste.total),
        "left_out": waste.rows_left_out,
    }
    return json.dumps(fields, indent=2, ensure_ascii=False)


def waste_csv(waste: Waste) -> str:
    """Return the waste as CSV with a header, lines ending in a bare newline."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*waste.by, *_COLUMNS])
    for row in waste.rows:
        writer.writerows(_csv_lines(row))
    return text.getvalue()


def waste_text(waste: Waste) -> str:
    """Return the waste as plain lines, exact and of any width."""
    return sheet_text(_sheet(waste, exact=True))


def print_waste(waste: Waste, console: Console) -> None:
    """Print the waste to a terminal."""
    print_sheet(_sheet(waste, exact=False), console)


def _fields(row: WasteRow) -> dict[str, Any]:
    return {
        "cost": decimal_fields(row.whole),
        "wasted": decimal_fields(row.wasted),
        "wasted_share": decimal_fields(row.shares()),
        "unpriced_records": row.unpriced_records,
        "outcomes": {name: _outcome_fields(found, row.shares(name)) for name, found in row.outcomes.items()},
    }


def _outcome_fields(found: Row, shares: Mapping[str, Decimal]) -> dict[str, Any]:
    return {
        "cost": decimal_fields(found.cost),
        "share": decimal_fields(shares),
        "records": found.records,
        "unpriced_records": found.unpriced_records,
        "estimated_share": decimal_text(found.estimated_share),
    }


def _csv_lines(row: WasteRow) -> Iterator[list[Any]]:
    for name, found in row.outcomes.items():
        fields, whole = _outcome_fields(found, row.shares(name)), decimal_fields(row.whole)
        for position, currency in enumerate(found.cost or [""]):
            counts = [found.records, found.unpriced_records] if position == 0 else [None, None]
            amounts = [fields["cost"].get(currency), fields["share"].get(currency), whole.get(currency)]
            yield [*row.key.values(), name, *counts, currency, *amounts]


def _sheet(waste: Waste, *, exact: bool) -> Sheet:
    shown = [name for name in WASTED if name in waste.total.outcomes]
    columns = [
        *(Column(name, number=False) for name in waste.by or ("",)),
        *(Column(_TITLES[name], spare=len(shown) - place) for place, name in enumerate(shown)),
        Column("together"),
        Column("share"),
        Column("of cost"),
    ]
    return Sheet(
        columns=columns,
        rows=[_cells(row, waste.by, shown, exact=exact) for row in (waste.rows if waste.by else ())],
        total=_cells(waste.total, waste.by, shown, exact=exact),
        notes=list(_notes(waste)),
        title=period_text(waste.since, waste.until),
    )


def _cells(row: WasteRow, by: tuple[str, ...], shown: list[str], *, exact: bool) -> list[Cell]:
    keys = [[name_text(row.key[name])] for name in by] if row.key else [["total"], *([""] for _ in by[1:])]
    unknown = any(found.unpriced_records for found in row.outcomes.values())
    shares = row.shares()
    return [
        *keys,
        *(cost_cell(row.outcomes[name], exact=exact) if name in row.outcomes else [NOTHING] for name in shown),
        cost_texts(row.wasted, exact=exact, unpriced=unknown) if row.outcomes else [NOTHING],
        [share_text(shares.get(currency)) for currency in row.wasted] or [NOTHING],
        cost_texts(row.whole, exact=exact, unpriced=row.unpriced_records > 0),
    ]


def _notes(waste: Waste) -> Iterator[str]:
    if waste.rows_left_out:
        yield f"not shown: {waste.rows_left_out} more rows"
    if not waste.total.outcomes:
        yield "no work was interrupted, thrown away or tried again"
    yield from unpriced_line(waste.total.unpriced_records, waste.unpriced)
    yield f"estimated share {percent_text(waste.estimated_share)}"
