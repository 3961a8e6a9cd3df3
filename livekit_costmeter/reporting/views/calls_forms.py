"""
Calls, shown: lines or a table with a histogram for people, JSON and CSV for programs.

Invariant: decimals are plain strings and the order is fixed. What is not known is `n/a` for people, null or absent for
programs, never 0.

JSON: `{since, until, by: ["session"], rows: [...], total, count, spread, outside, left_out}`. A row is that of a report
(`{key: {session}, quantities, cost, billed_cost, records, unpriced_records, estimated_share, minutes,
cost_per_minute}`) with `{started_at, agents, accounts, outcomes}`; `outcomes` counts records by outcome. `count` is
that of all calls. `spread` is `{cost: {currency: S}, cost_per_minute: {currency: S}, minutes: S or null}`; S is
`{calls, incomplete, mean, p50, p90, p99}`: over how many calls, in how many of them something is unpriced (all values
are lower bounds then), and the values. `outside` sums up what belongs to no call, or is null. `left_out` is null, or
with a limit `{rows, unpriced_rows, cost, billed_cost}` of the calls not listed.

CSV: one line per call and currency, no line for the total; what a call has once stands on its first line only. The
columns are `session, started_at, agents, accounts, records, unpriced_records, estimated_share, minutes`, the records of
each outcome, `currency, cost, cost_per_minute, billed_cost`; several agents or accounts are joined with `;`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from livekit_costmeter.records import decimal_text, format_instant
from livekit_costmeter.reporting.formats import left_out_fields, row_fields
from livekit_costmeter.reporting.report import Row
from livekit_costmeter.reporting.views.calls import OUTCOMES, Call, CallsReport
from livekit_costmeter.reporting.views.charts import histogram_lines
from livekit_costmeter.reporting.views.percentiles import RANKS, Spread
from livekit_costmeter.reporting.views.sheet import (
    Cell,
    Column,
    Sheet,
    billed_cell,
    cost_cell,
    count_text,
    left_out_line,
    minutes_text,
    per_minute_cell,
    print_sheet,
    sheet_text,
)
from livekit_costmeter.reporting.wording import (
    AT_LEAST,
    NOT_KNOWN,
    NOTHING,
    money_text,
    name_text,
    percent_text,
    period_text,
    records_text,
    unpriced_line,
)

if TYPE_CHECKING:
    from rich.console import Console

_ONCE = ("records", "unpriced_records", "estimated_share", "minutes")
_MONEY = ("cost", "cost_per_minute", "billed_cost")
_COLUMNS = (
    Column("session", number=False),
    Column("started", number=False, spare=2),
    Column("minutes", spare=1),
    Column("agent", number=False, spare=7),
    Column("account", number=False, spare=4),
    Column("cost"),
    Column("per minute", spare=3),
    Column("billed", spare=5),
    Column("unpriced", spare=6),
    Column("estimated", spare=8),
    Column("outcomes", number=False, spare=9),
)


def calls_json(report: CallsReport) -> str:
    """Return the calls as an indented JSON document, without a newline at the end."""
    minutes = report.minutes
    fields = {
        "since": _instant(report.since),
        "until": _instant(report.until),
        "by": ["session"],
        "rows": [_call_fields(call) for call in report.calls],
        "total": row_fields(report.total),
        "count": report.count,
        "spread": {
            "cost": {currency: _spread_fields(each) for currency, each in report.cost.items()},
            "cost_per_minute": {currency: _spread_fields(each) for currency, each in report.cost_per_minute.items()},
            "minutes": None if minutes is None else _spread_fields(minutes),
        },
        "outside": None if report.outside is None else row_fields(report.outside),
        "left_out": None if report.left_out is None else left_out_fields(report.left_out),
    }
    return json.dumps(fields, indent=2, ensure_ascii=False)


def calls_csv(report: CallsReport) -> str:
    """Return the calls as CSV with a header, lines ending in a bare newline."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["session", "started_at", "agents", "accounts", *_ONCE, *OUTCOMES, "currency", *_MONEY])
    for call in report.calls:
        writer.writerows(_csv_lines(call))
    return text.getvalue()


def calls_text(report: CallsReport) -> str:
    """Return the calls as plain lines, exact and of any width."""
    return sheet_text(_sheet(report, exact=True))


def print_calls(report: CallsReport, console: Console) -> None:
    """Print the calls to a terminal: a table, and a histogram of what they cost."""
    print_sheet(_sheet(report, exact=False, width=console.width), console)


def _call_fields(call: Call) -> dict[str, Any]:
    return {
        "key": dict(call.sums.key),
        "started_at": _instant(call.started_at),
        "agents": list(call.agents),
        "accounts": list(call.accounts),
        "outcomes": dict(call.outcomes),
        **row_fields(call.sums),
    }


def _spread_fields(found: Spread) -> dict[str, Any]:
    values = {f"p{rank}": decimal_text(value) for rank, value in found.percentiles.items()}
    return {"calls": found.calls, "incomplete": found.incomplete, "mean": decimal_text(found.mean), **values}


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)


def _csv_lines(call: Call) -> Iterator[list[Any]]:
    fields = row_fields(call.sums)
    about = [_instant(call.started_at), ";".join(call.agents), ";".join(call.accounts)]
    once = [*(fields[name] for name in _ONCE), *(call.outcomes.get(name, 0) for name in OUTCOMES)]
    for position, currency in enumerate(sorted(call.sums.cost.keys() | call.sums.billed_cost.keys()) or [""]):
        money = [(fields[name] or {}).get(currency) for name in _MONEY]
        first = once if position == 0 else [None] * len(once)
        yield [call.session, *about, *first, currency, *money]


def _sheet(report: CallsReport, *, exact: bool, width: int = 0) -> Sheet:
    charts: list[str] = []
    if not exact:
        for currency, values in report.costs.items():
            charts += histogram_lines(values, currency, width)
    shown = f"{report.count} calls" if report.count != 1 else "1 call"
    total = [["total"], [shown], *_number_cells(report.total, exact=exact, who=([""], [""])), [""]]
    return Sheet(
        columns=_COLUMNS,
        rows=[_cells(call, exact=exact) for call in report.calls],
        total=total,
        notes=list(_notes(report, exact=exact)),
        title=period_text(report.since, report.until),
        charts=charts,
    )


def _cells(call: Call, *, exact: bool) -> list[Cell]:
    who = (_names(call.agents), _names(call.accounts))
    outcomes = [f"{count} {name}" for name, count in call.outcomes.items()]
    return [
        [name_text(call.session)],
        [_started(call.started_at)],
        *_number_cells(call.sums, exact=exact, who=who),
        [", ".join(outcomes) or NOTHING],
    ]


def _number_cells(row: Row, *, exact: bool, who: tuple[Cell, Cell]) -> list[Cell]:
    return [
        [minutes_text(row.minutes, exact=exact)],
        *who,
        cost_cell(row, exact=exact),
        per_minute_cell(row, exact=exact),
        billed_cell(row, exact=exact),
        [count_text(row.unpriced_records, exact=exact)],
        [percent_text(row.estimated_share)],
    ]


def _names(names: tuple[str, ...]) -> Cell:
    return [name_text(name) for name in names] or [NOTHING]


def _started(instant: datetime | None) -> str:
    return NOT_KNOWN if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _notes(report: CallsReport, *, exact: bool) -> Iterator[str]:
    yield from left_out_line(report.left_out, exact=exact, things="calls")
    for title, spreads in (("cost per call", report.cost), ("cost per minute", report.cost_per_minute)):
        for currency, found in spreads.items():
            yield _spread_line(title, found, [_money(value, currency, found, exact=exact) for value in _values(found)])
    if report.minutes is not None:
        texts = [minutes_text(value, exact=exact) for value in _values(report.minutes)]
        yield _spread_line("minutes per call", report.minutes, texts)
    if report.outside is not None:
        cost = ", ".join(cost_cell(report.outside, exact=exact))
        yield f"outside any call: {cost} in {records_text(report.outside.records)}"
    yield from unpriced_line(report.total.unpriced_records, report.unpriced)
    yield f"estimated share {percent_text(report.total.estimated_share)}"


def _values(found: Spread) -> list[Any]:
    return [found.mean, *(found.percentiles[rank] for rank in RANKS)]


def _money(value: Any, currency: str, found: Spread, *, exact: bool) -> str:
    return money_text(value, currency, exact=exact, partial=found.incomplete > 0)


def _spread_line(title: str, found: Spread, texts: list[str]) -> str:
    names = ["mean", *(f"p{rank}" for rank in RANKS)]
    calls = f"{found.calls} call{'' if found.calls == 1 else 's'}"
    bounds = f", {AT_LEAST.strip()} as {found.incomplete} have something without a price" if found.incomplete else ""
    return f"{title}: {', '.join(f'{name} {text}' for name, text in zip(names, texts, strict=True))} ({calls}{bounds})"
