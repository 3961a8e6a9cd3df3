"""
Reports for people: a table on a terminal, plain aligned lines anywhere else.

Invariant: what is unpriced or estimated is said in every rendering, and plain text carries every value whole and exact:
one line per row, columns two spaces apart, nothing wrapped or cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Literal

from livekit_costmeter.records import decimal_text
from livekit_costmeter.reporting.report import Report, Row
from livekit_costmeter.reporting.tally import EXACT
from livekit_costmeter.reporting.views.charts import daily_lines
from livekit_costmeter.reporting.views.sheet import left_out_line
from livekit_costmeter.reporting.wording import (
    AT_LEAST,
    NOT_KNOWN,
    NOTHING,
    UNPRICED,
    aligned_lines,
    cost_texts,
    name_text,
    percent_text,
    period_text,
    quantity_texts,
    records_text,
    unpriced_line,
)

if TYPE_CHECKING:  # rich is imported when something is shown, not when a report is built
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table
    from rich.text import Text

_BAR = "bar"
_BAR_WIDTH = 12
_BESIDE_A_SPARK = 70
_PADDING = 3  # what rich puts around a cell, at most
_MINUTE_STEP = Decimal("0.01")
_OUTCOMES = {
    "interrupted": "interruptions",
    "discarded": "speculation (thrown away)",
    "failed": "retries (failed attempts)",
    "probe": "probes",
}


@dataclass(frozen=True, slots=True)
class _Column:
    """A title and the lines a row shows below it; numbers stand at the right.

    On a narrow terminal the column with the highest `spare` gives way first, one with 0 never.
    """

    title: str
    lines: Callable[[Row], Sequence[str]]
    number: bool = True
    spare: int = 0


class ReportTable:
    """A report as a rich renderable: a table with bars if the console is a terminal, else plain lines."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        if not options.is_terminal:
            yield Text(report_text(self.report).rstrip("\n"), no_wrap=True, overflow="ignore")
            return
        columns = _columns(self.report, exact=False)
        shown = _fitting(columns, _shown_rows(self.report), options.max_width)
        yield _terminal_table(self.report, shown)
        for line in daily_lines(self.report, options.max_width - _BESIDE_A_SPARK):
            yield Text(line, style="cyan", no_wrap=True)
        for line in footer_lines(self.report, exact=False):
            yield Text(line, style="yellow" if UNPRICED in line else "dim")
        hidden = [column.title for column in columns if column not in shown and column.title != _BAR]
        if hidden:
            yield Text(f"no room for: {', '.join(hidden)}", style="dim")


def report_table(report: Report) -> ReportTable:
    """Return the report as a rich renderable; on a console that is no terminal print it with `soft_wrap=True`."""
    return ReportTable(report)


def print_report(report: Report, console: Console) -> None:
    """Print the report to a rich console, which elsewhere than on a terminal would cut lines at its width."""
    console.print(report_table(report), soft_wrap=not console.is_terminal)


def report_text(report: Report) -> str:
    """Return the report as plain lines, exact and of any width."""
    columns = _columns(report, exact=True)
    cells = [[", ".join(column.lines(row)) for column in columns] for row in _shown_rows(report)]
    lines = [[column.title for column in columns], *cells]
    aligned = aligned_lines(lines, [column.number for column in columns])
    return "\n".join([*aligned, *footer_lines(report, exact=True)]) + "\n"


def footer_lines(report: Report, *, exact: bool) -> list[str]:
    """Say what is not shown, what work beside the answers cost, what is unpriced and why, and the estimated share."""
    return [
        *left_out_line(report.left_out, exact=exact),
        *(_outcome_line(row, exact=exact) for row in report.outcomes),
        *unpriced_line(report.total.unpriced_records, report.unpriced),
        f"estimated share {percent_text(report.total.estimated_share)}",
    ]


def _outcome_line(row: Row, *, exact: bool) -> str:
    outcome = row.key["outcome"] or ""
    cost = ", ".join(cost_texts(row.cost, exact=exact, unpriced=row.unpriced_records > 0))
    estimated = f", {percent_text(row.estimated_share)} of it estimated" if row.estimated_share else ""
    return f"{_OUTCOMES.get(outcome, outcome)}: {cost} in {records_text(row.records)}{estimated}"


def _shown_rows(report: Report) -> list[Row]:
    total = replace(report.total, key={_key_columns(report)[0]: "total"})
    return [*(report.rows if report.by else ()), total]


def _key_columns(report: Report) -> tuple[str, ...]:
    return report.by or ("",)


def _columns(report: Report, *, exact: bool) -> list[_Column]:
    total = report.total
    columns = [_Column(name, partial(_key_lines, name), number=False) for name in _key_columns(report)]
    columns.append(_Column("cost", lambda row: cost_texts(row.cost, exact=exact, unpriced=row.unpriced_records > 0)))
    columns.append(_Column("share", lambda row: [_share_text(share) for share in _shares(row, total)] or [NOTHING]))
    if not exact:
        columns.append(_Column(_BAR, lambda _: [" " * _BAR_WIDTH], spare=1))
    columns.append(_Column("estimated", lambda row: [percent_text(row.estimated_share)]))
    if total.minutes is not None:
        columns.append(_Column("per minute", partial(_per_minute_lines, exact=exact), spare=2))
        columns.append(_Column("minutes", partial(_minutes_lines, exact=exact), spare=6))
    if total.billed_cost:
        columns.append(_Column("billed", partial(_billed_lines, exact=exact), spare=4))
    columns.append(_Column("records", lambda row: [str(row.records) if exact else f"{row.records:,}"], spare=5))
    # Last and, in plain text, at the left: several quantities in one cell do not line up anyway.
    quantities = partial(_quantity_lines, exact=exact)
    columns.append(_Column("quantities", quantities, number=not exact, spare=3))
    return columns


def _key_lines(name: str, row: Row) -> list[str]:
    return [name_text(row.key[name]) if name in row.key else ""]


def _per_minute_lines(row: Row, *, exact: bool) -> list[str]:
    if row.cost_per_minute is None:
        return [NOT_KNOWN]
    return cost_texts(row.cost_per_minute, exact=exact, unpriced=row.unpriced_records > 0)


def _billed_lines(row: Row, *, exact: bool) -> list[str]:
    return cost_texts(row.billed_cost, exact=exact, unpriced=row.billed_incomplete)


def _quantity_lines(row: Row, *, exact: bool) -> list[str]:
    return quantity_texts(row.quantities, exact=exact)


def _minutes_lines(row: Row, *, exact: bool) -> list[str]:
    if row.minutes is None:
        return [NOT_KNOWN]
    return [decimal_text(row.minutes) if exact else f"{row.minutes.quantize(_MINUTE_STEP, context=EXACT):,}"]


def _shares(row: Row, total: Row) -> list[Decimal | None]:
    """Return the row's share of the total cost per currency; none where corrections make it meaningless."""
    shares: list[Decimal | None] = []
    for currency, amount in row.cost.items():
        whole = total.cost[currency]
        shares.append(EXACT.divide(amount, whole) if whole > 0 and amount >= 0 else None)
    return shares


def _share_text(share: Decimal | None) -> str:
    return NOTHING if share is None else f"{EXACT.multiply(share, Decimal(100)):.1f} %"


def _fitting(columns: Sequence[_Column], rows: Sequence[Row], width: int) -> list[_Column]:
    """Leave out columns until the rest fits: a number that is cut would be a wrong number."""
    from rich.cells import cell_len

    widths = {
        column.title: max(
            cell_len(line) for line in [column.title, *(line for row in rows for line in column.lines(row))]
        )
        for column in columns
    }
    shown = list(columns)
    while sum(widths[column.title] + _PADDING for column in shown) > width:
        spare = max(shown, key=lambda column: column.spare)
        if not spare.spare:
            break
        shown.remove(spare)
    return shown


def _terminal_table(report: Report, columns: Sequence[_Column]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title=period_text(report.since, report.until),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        header_style="bold",
        pad_edge=False,
    )
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.number else "left"
        table.add_column("" if column.title == _BAR else column.title, justify=justify, overflow="fold")
    *rows, total = _shown_rows(report)
    full = _full_bar(report)
    for row in rows:
        table.add_row(*_terminal_cells(columns, row, report.total, full))
    table.add_section()
    table.add_row(*_terminal_cells(columns, total, report.total, Decimal(1)), style="bold")
    return table


def _full_bar(report: Report) -> Decimal:
    """Return the share that fills a bar: all of the total; of days, which are all small, the largest."""
    shares = [share for row in report.rows for share in _shares(row, report.total) if share]
    return max(shares, default=Decimal(1)) if "day" in report.by else Decimal(1)


def _terminal_cells(columns: Sequence[_Column], row: Row, total: Row, full: Decimal) -> Iterator[RenderableType]:
    for column in columns:
        yield _bars(_shares(row, total), full) if column.title == _BAR else _styled(column.lines(row))


def _styled(lines: Sequence[str]) -> Text:
    from rich.text import Text

    uncertain = any(line == UNPRICED or line.startswith(AT_LEAST) for line in lines)
    return Text("\n".join(lines), style="yellow" if uncertain else "")


def _bars(shares: Sequence[Decimal | None], full: Decimal) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar

    completed = [int(EXACT.divide(EXACT.multiply(share or Decimal(0), Decimal(1000)), full)) for share in shares]
    # A full bar is no finished task; it looks like the others.
    return Group(
        *(
            ProgressBar(
                total=1000,
                completed=part,
                width=_BAR_WIDTH,
                style="bright_black",
                complete_style="cyan",
                finished_style="cyan",
            )
            for part in completed
        )
    )
