"""
The kinds of `costmeter report` besides groups and sums: `--calls`, `--compare`, `--waste`, and `--top` for all.

Invariant: one kind at a time. Which one and how it is printed is decided here; where the charges are from is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from livekit_costmeter import reporting
from livekit_costmeter.cli.options import Instant
from livekit_costmeter.reporting import views

Period = tuple[datetime | None, datetime | None]
_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Forms:
    """How a finding is printed: as JSON, as CSV, as plain text, on a terminal."""

    json: Callable[[Any], str]
    csv: Callable[[Any], str]
    text: Callable[[Any], str]
    on_terminal: Callable[[Any, Any], None]


GROUPS = Forms(reporting.report_json, reporting.report_csv, reporting.report_text, reporting.print_report)
AUDIT = Forms(reporting.audit_json, reporting.audit_csv, reporting.audit_text, reporting.print_audit)
CALLS = Forms(views.calls_json, views.calls_csv, views.calls_text, views.print_calls)
COMPARISON = Forms(views.comparison_json, views.comparison_csv, views.comparison_text, views.print_comparison)
WASTE = Forms(views.waste_json, views.waste_csv, views.waste_text, views.print_waste)


class OtherPeriod(click.ParamType["str | Period"]):
    """`previous`, or two instants as `SINCE..UNTIL`."""

    name = "period"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | Period:
        """Read the option's text."""
        if not isinstance(value, str) or value == "previous":
            return value  # type: ignore[no-any-return]
        first, dots, last = value.partition("..")
        if not dots:
            self.fail(f"{value!r} is neither previous nor SINCE..UNTIL (such as 2026-10-01..2026-11-01)", param, ctx)
        instant = Instant()
        since, until = (instant.convert(text, param, ctx) for text in (first, last))
        if since >= until:
            self.fail(f"{value!r}: the second instant must be later than the first", param, ctx)
        return since, until


def view_options(command: _Command) -> _Command:
    """Add `--calls --compare --waste --top`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option("--calls", is_flag=True, help="One row per call, and percentiles of cost and length over all calls."),
    click.option(
        "--compare",
        type=OtherPeriod(),
        metavar="previous|SINCE..UNTIL",
        help="Beside another period; previous is the one of the same length before --since.",
    ),
    click.option(
        "--waste", is_flag=True, help="What interruptions, speculation and retries cost per group, and their share."
    ),
    click.option(
        "--top",
        type=click.IntRange(min=0),
        metavar="N",
        help="Only the N most expensive rows (of a comparison, those that moved most).",
    ),
)


def refuse_mixtures(**kinds: Any) -> None:
    """Refuse two kinds of report at once.

    Raises:
        UsageError: More than one is asked for.
    """
    asked = [f"--{name}" for name, value in kinds.items() if value]
    if len(asked) > 1:
        raise click.UsageError(f"{' and '.join(asked)} are reports of their own: ask for one at a time")


def compared_periods(compare: str | Period, since: datetime | None, until: datetime | None) -> tuple[Period, Period]:
    """Return the period that is compared with, and the one that is reported, which ends now where nothing else is said.

    Raises:
        UsageError: `previous` has no meaning, because the period has no beginning.
    """
    if isinstance(compare, tuple):
        return compare, (since, until)
    if since is None:
        raise click.UsageError("--compare previous needs --since: there is nothing before the beginning")
    end = until or datetime.now(UTC)
    if since >= end:
        raise click.UsageError("--compare previous needs a period that has begun")
    return views.period_before(since, end), (since, end)
