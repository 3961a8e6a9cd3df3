"""
Audits, shown: a table on a terminal, plain aligned lines anywhere else, JSON and CSV for programs.

Invariant: decimals are plain strings and the order is fixed. What is known on one side only is `n/a` for people, null
or an empty field for programs, never 0.

JSON: `{since, until, sessions, compared_sessions, rows: [...]}`; a row is `{component, provider, model, unit, quantity,
reported_share, observed_share, estimated_share, lower_bound, livekit, missed, missed_share, reasons: [{code, quantity,
text}]}`; shares are 0 to 1, `missed` and a reason's quantity below 0 where LiveKit has too much. CSV: the same columns,
reasons as `code=quantity` separated by `;`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any

from livekit_costmeter.records import REASONS, decimal_text, format_instant
from livekit_costmeter.reporting.audit import Audit, AuditRow
from livekit_costmeter.reporting.tally import EXACT
from livekit_costmeter.reporting.wording import (
    AT_LEAST,
    NOT_KNOWN,
    NOTHING,
    aligned_lines,
    name_text,
    percent_text,
    period_text,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_KEYS = ("component", "provider", "model", "unit")
_TITLES = (*_KEYS, "quantity", "reported", "observed", "estimated", "LiveKit", "missed", "missed %", "why")
_NUMBERS = (*(False for _ in _KEYS), *(True for _ in range(7)), False)
_COLUMNS = (
    *_KEYS,
    *("quantity", "reported_share", "observed_share", "estimated_share", "lower_bound"),
    *("livekit", "missed", "missed_share", "reasons"),
)
_TERMINAL_TITLES = ("who", *_TITLES[3:])
_WORDS = ("who", "unit", "why")
_SPARE = ("reported", "observed", "missed %", "why")
_PADDING = 3  # what rich puts around a cell, at most
_PERCENT_STEP = Decimal("0.1")


def audit_json(audit: Audit) -> str:
    """Return the audit as an indented JSON document, without a newline at the end."""
    fields = {
        "since": None if audit.since is None else format_instant(audit.since),
        "until": None if audit.until is None else format_instant(audit.until),
        "sessions": audit.sessions,
        "compared_sessions": audit.compared_sessions,
        "rows": [_row_fields(row) for row in audit.rows],
    }
    return json.dumps(fields, indent=2, ensure_ascii=False)


def audit_csv(audit: Audit) -> str:
    """Return the audit as CSV with a header, lines ending in a bare newline."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in audit.rows:
        fields = _row_fields(row)
        fields["lower_bound"] = "true" if row.is_lower_bound else "false"
        fields["reasons"] = ";".join(f"{reason.code}={decimal_text(reason.quantity)}" for reason in row.reasons)
        writer.writerow([fields[name] for name in _COLUMNS])
    return text.getvalue()


def audit_text(audit: Audit) -> str:
    """Return the audit as plain lines, exact and of any width."""
    aligned = aligned_lines([_TITLES, *(_cells(row) for row in audit.rows)], _NUMBERS)
    return "\n".join([*aligned, *_legend(audit)]) + "\n"


def print_audit(audit: Audit, console: Console) -> None:
    """Print the audit to a rich console: a table if it is a terminal, else plain lines."""
    from rich.text import Text

    if not console.is_terminal:
        console.print(Text(audit_text(audit).rstrip("\n")), soft_wrap=True)
        return
    cells = [_terminal_cells(row) for row in audit.rows]
    shown = _fitting([_TERMINAL_TITLES, *cells], console.width)
    console.print(_table(audit, cells, shown))
    for line in _legend(audit):
        console.print(Text(line, style="dim"))
    if hidden := [title for index, title in enumerate(_TERMINAL_TITLES) if index not in shown]:
        console.print(Text(f"no room for: {', '.join(hidden)}", style="dim"))


def _terminal_cells(row: AuditRow) -> tuple[str, ...]:
    _, _, _, *cells, reasons = _cells(row)
    who = f"{name_text(row.work.component)} {name_text(row.work.provider)}/{name_text(row.work.model)}"
    return (who, *cells, reasons.replace(", ", "\n"))


def _fitting(lines: Sequence[Sequence[str]], width: int) -> list[int]:
    """Choose the columns for which there is room, and no less than what an audit is about."""
    from rich.cells import cell_len

    widths = [
        max(cell_len(part) for line in lines for part in line[index].split("\n")) + _PADDING
        for index in range(len(_TERMINAL_TITLES))
    ]
    shown = list(range(len(_TERMINAL_TITLES)))
    for title in _SPARE:
        if sum(widths[index] for index in shown) > width:
            shown.remove(_TERMINAL_TITLES.index(title))
    return shown


def _table(audit: Audit, cells: Sequence[Sequence[str]], shown: Sequence[int]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = period_text(audit.since, audit.until)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for index in shown:
        # A number that is cut would be a wrong number; names can be folded.
        number = _TERMINAL_TITLES[index] not in _WORDS
        table.add_column(
            _TERMINAL_TITLES[index], justify="right" if number else "left", no_wrap=number, overflow="fold"
        )
    for row, line in zip(audit.rows, cells, strict=True):
        table.add_row(*(Text(line[index]) for index in shown), style="yellow" if row.missed else "")
    return table


def _row_fields(row: AuditRow) -> dict[str, Any]:
    return {
        **row.work._asdict(),
        "unit": row.unit,
        "quantity": _decimal(row.quantity),
        "reported_share": _decimal(row.reported_share),
        "observed_share": _decimal(row.observed_share),
        "estimated_share": _decimal(row.estimated_share),
        "lower_bound": row.is_lower_bound,
        "livekit": _decimal(row.livekit),
        "missed": _decimal(row.missed),
        "missed_share": _decimal(row.missed_share),
        "reasons": [
            {"code": reason.code, "quantity": decimal_text(reason.quantity), "text": REASONS[reason.code]}
            for reason in row.reasons
        ],
    }


def _cells(row: AuditRow) -> tuple[str, ...]:
    estimated = NOT_KNOWN if row.estimated_share is None else percent_text(row.estimated_share)
    reasons = [
        reason.code if reason.code == "no_counterpart" else f"{reason.code} {decimal_text(reason.quantity)}"
        for reason in row.reasons
    ]
    return (
        *(name_text(name) for name in row.work),
        name_text(row.unit),
        _decimal(row.quantity) or NOT_KNOWN,
        _percent(row.reported_share),
        _percent(row.observed_share),
        f"{AT_LEAST}{estimated}" if row.is_lower_bound else estimated,
        _decimal(row.livekit) or NOT_KNOWN,
        _decimal(row.missed) or NOT_KNOWN,
        _percent(row.missed_share),
        ", ".join(reasons) or NOTHING,
    )


def _legend(audit: Audit) -> Iterator[str]:
    codes = {reason.code for row in audit.rows for reason in row.reasons}
    yield from (f"{code}: {text}" for code, text in REASONS.items() if code in codes)
    yield f"compared with LiveKit's own usage: {audit.compared_sessions} of {audit.sessions} sessions"


def _percent(share: Decimal | None) -> str:
    if share is None:
        return NOT_KNOWN
    percent = EXACT.multiply(share, Decimal(100)).quantize(_PERCENT_STEP, rounding=ROUND_HALF_EVEN, context=EXACT)
    return f"{decimal_text(percent)} %"


def _decimal(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)
