"""
`costmeter report` from the sums beside a ledger, where there are some.

Invariant: nobody has to know about them. Without them, or where they do not cover what is asked for, the answer is None
and the charges are read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import click

from livekit_costmeter.cli.options import LedgerFile
from livekit_costmeter.config import ConfigError
from livekit_costmeter.reporting import Report


def quick_report(
    ledger: LedgerFile, by: Sequence[str], since: datetime | None, until: datetime | None, *, anew: bool
) -> Report | None:
    """Return the report from the sums beside the ledger, brought up to date, or None where there are none.

    Raises:
        UsageError: They are to be made anew, and this ledger cannot have any.
        ConfigError: They are to be made anew, and cannot be.
    """
    from livekit_costmeter.reporting.rollup import CannotRollUp, rolled_up_report

    arrivals = getattr(ledger.sink, "arrivals", None)
    if arrivals is None:
        if anew:
            raise click.UsageError("--rebuild has no meaning for this ledger: only beside SQLite are sums kept")
        return None
    try:
        with _progress() as progress:
            return rolled_up_report(arrivals(), by, since, until, anew=anew, progress=progress)
    except CannotRollUp as error:
        raise ConfigError(str(error)) from None


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Show on a terminal how many rows are summed up, say nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    text = "summing up new charges: {task.completed:,.0f} of {task.total:,.0f}"
    columns = (TextColumn(text), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("summing up", total=0, visible=False)
        yield lambda done, rows: bar.update(task, completed=done, total=rows, visible=True)
