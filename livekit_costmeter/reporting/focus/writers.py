"""
FOCUS files: CSV and Parquet.

Invariant: rows are written as charges are read, one row each, in their order; null is an empty field in CSV and null in
Parquet. Decimals are plain (no exponent, no separators), instants ISO 8601 in UTC: whole seconds in the columns of the
specification, microseconds in custom ones. An empty period is a file with a header and no rows.

One file holds several billing currencies, each row in its own: the specification has the currency per row, and asks
only that amounts of different ones are not added up.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from operator import itemgetter
from typing import IO, Any

from livekit_costmeter.records import Charge, decimal_text, format_instant
from livekit_costmeter.reporting.export.parquet import write_parquet
from livekit_costmeter.reporting.focus.columns import focus_columns
from livekit_costmeter.reporting.focus.rows import FocusOptions, focus_row


@dataclass(slots=True)
class FocusSummary:
    """How many rows were written, and of how many the cost or the billed amount is not known (and stands as 0)."""

    rows: int = 0
    unpriced: int = 0
    unbilled: int = 0


def write_focus(
    charges: Iterable[Charge],
    stream: IO[bytes],
    version: str = "1.4",
    options: FocusOptions | None = None,
    *,
    parquet: bool = False,
) -> FocusSummary:
    """Write charges as a FOCUS file, CSV in UTF-8 or Parquet, to a stream of bytes.

    Raises:
        ValueError: The version is not one of `FOCUS_VERSIONS`.
        CannotExport: Parquet has no room for a value, or pyarrow is not installed.
    """
    columns = focus_columns(version)
    summary = FocusSummary()
    nothing = dict.fromkeys(column.name for column in columns)
    pick = itemgetter(*nothing)
    rows = (pick({**nothing, **row}) for row in _rows(charges, options or FocusOptions(), summary))
    if parquet:
        write_parquet([(column.name, column.kind) for column in columns], rows, stream)
    else:
        _write_csv([column.name for column in columns], rows, stream)
    return summary


def _rows(charges: Iterable[Charge], options: FocusOptions, summary: FocusSummary) -> Iterator[dict[str, Any]]:
    for charge in charges:
        summary.rows += 1
        summary.unpriced += charge.pricing_status == "unpriced"
        summary.unbilled += charge.billed_cost is None
        yield focus_row(charge, options)


def _write_csv(names: list[str], rows: Iterable[tuple[Any, ...]], stream: IO[bytes]) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            writer.writerow([value if value is None or value.__class__ is str else _cell(value) for value in row])
    finally:
        text.detach()


def _cell(value: Any) -> str:
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return format_instant(value) if value.microsecond else f"{value.astimezone(UTC).isoformat()[:19]}Z"
    return str(value).lower() if isinstance(value, bool) else str(value)
