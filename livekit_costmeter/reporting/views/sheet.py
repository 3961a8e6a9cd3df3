"""
One way to lay out a table for people: aligned plain lines anywhere, a table on a terminal.

Invariant: plain text carries every cell whole, one line per row. On a terminal whole columns are left out where there
is no room, and named; a number that is cut would be a wrong number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

from livekit_costmeter.records import decimal_text
from livekit_costmeter.reporting.report import LeftOut, Row
from livekit_costmeter.reporting.tally import EXACT
from livekit_costmeter.reporting.wording import (
    AT_LEAST,
    NOT_KNOWN,
    UNPRICED,
    aligned_lines,
    cost_texts,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Cell = Sequence[str]
"""The lines of one cell; plain text joins them with a comma."""

_PADDING = 3  # what rich puts around a cell, at most
_MINUTE_STEP = Decimal("0.01")
_PERCENT_STEP = Decimal("0.1")


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title; numbers stand at the right. The highest `spare` gives way first, 0 never."""

    title: str
    number: bool = True
    spare: int = 0


@dataclass(frozen=True, slots=True)
class Sheet:
    """Columns, the rows below them, the total, what is said underneath, and what only a terminal shows (charts)."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    total: Sequence[Cell]
    notes: Sequence[str] = ()
    title: str | None = None
    charts: Sequence[str] = ()


def sheet_text(sheet: Sheet) -> str:
    """Return a sheet as plain lines of any width."""
    titles = [column.title for column in sheet.columns]
    lines = [titles, *([", ".join(cell) for cell in row] for row in (*sheet.rows, sheet.total))]
    return "\n".join([*aligned_lines(lines, [column.number for column in sheet.columns]), *sheet.notes]) + "\n"


def print_sheet(sheet: Sheet, console: Console) -> None:
    """Print a sheet to a terminal: its table, charts and notes."""
    from rich.text import Text

    shown = _fitting(sheet, console.width)
    console.print(_table(sheet, shown))
    for line in sheet.charts:
        console.print(Text(line, no_wrap=True, style="cyan"))
    for line in sheet.notes:
        console.print(Text(line, style="yellow" if UNPRICED in line else "dim"))
    if hidden := [column.title for index, column in enumerate(sheet.columns) if index not in shown]:
        console.print(Text(f"no room for: {', '.join(hidden)}", style="dim"))


def _fitting(sheet: Sheet, width: int) -> list[int]:
    from rich.cells import cell_len

    cells = [[[column.title] for column in sheet.columns], *sheet.rows, sheet.total]
    widths = [max(cell_len(line) for row in cells for line in row[index]) for index in range(len(sheet.columns))]
    shown = list(range(len(sheet.columns)))
    while sum(widths[index] + _PADDING for index in shown) > width:
        spare = max(shown, key=lambda index: sheet.columns[index].spare)
        if not sheet.columns[spare].spare:
            break
        shown.remove(spare)
    return shown


def _table(sheet: Sheet, shown: Sequence[int]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=sheet.title, title_justify="left", box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for index in shown:
        column = sheet.columns[index]
        table.add_column(column.title, justify="right" if column.number else "left", overflow="fold")
    for row in sheet.rows:
        table.add_row(*(_styled(row[index]) for index in shown))
    table.add_section()
    table.add_row(*(_styled(sheet.total[index]) for index in shown), style="bold")
    return table


def _styled(lines: Cell) -> Text:
    from rich.text import Text

    uncertain = any(line == UNPRICED or line.startswith((AT_LEAST, "<= ", "~ ")) for line in lines)
    return Text("\n".join(lines), style="yellow" if uncertain else "")


def cost_cell(row: Row | None, *, exact: bool) -> Cell:
    """Return a row's cost per currency; `n/a` where there is no row."""
    return [NOT_KNOWN] if row is None else cost_texts(row.cost, exact=exact, unpriced=row.unpriced_records > 0)


def billed_cell(row: Row, *, exact: bool) -> Cell:
    """Return a row's billed cost per currency."""
    return cost_texts(row.billed_cost, exact=exact, unpriced=row.billed_incomplete)


def per_minute_cell(row: Row | None, *, exact: bool) -> Cell:
    """Return a row's cost per minute and currency; `n/a` where the length of its calls is not known."""
    if row is None or row.cost_per_minute is None:
        return [NOT_KNOWN]
    return cost_texts(row.cost_per_minute, exact=exact, unpriced=row.unpriced_records > 0)


def minutes_text(minutes: Decimal | None, *, exact: bool) -> str:
    """Return minutes, exact or with 2 places."""
    if minutes is None:
        return NOT_KNOWN
    return decimal_text(minutes) if exact else f"{minutes.quantize(_MINUTE_STEP, context=EXACT):,}"


def share_text(share: Decimal | None, *, signed: bool = False) -> str:
    """Return a share as a percentage with one place, `n/a` where there is none; signed with its direction."""
    if share is None:
        return NOT_KNOWN
    percent = EXACT.multiply(share, Decimal(100)).quantize(_PERCENT_STEP, rounding=ROUND_HALF_EVEN, context=EXACT)
    return f"{percent:+,f} %" if signed else f"{percent:,f} %"


def count_text(count: int, *, exact: bool) -> str:
    """Return a count, on a terminal with separators."""
    return str(count) if exact else f"{count:,}"


def left_out_line(left_out: LeftOut | None, *, exact: bool, things: str = "rows") -> list[str]:
    """Say how many rows are not shown and what they come to; nothing where all are shown."""
    if left_out is None or not left_out.rows:
        return []
    cost = cost_texts(left_out.cost, exact=exact, unpriced=left_out.unpriced_rows > 0)
    return [f"not shown: {left_out.rows} more {things}, {', '.join(cost)}"]
