"""
Reports without reading every charge: sums that are kept beside a ledger, made by whoever reports, when they report.

Nobody counts anything when charges are written. A report first brings the sums up to date with the rows that came
since the last one, then takes its numbers from them. What they do not cover (labels, sessions, rooms and jobs, instants
within a day, ledgers without an order of arrival, which are all but SQLite) is read as a stream, as ever.

Invariant: the numbers are those of `build_report`, in everything; where that cannot be had, there are none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from livekit_costmeter.reporting.report import Report
from livekit_costmeter.reporting.rollup.answering import can_answer, report_from
from livekit_costmeter.reporting.rollup.arrivals import Arrivals
from livekit_costmeter.reporting.rollup.contributions import CannotRollUp
from livekit_costmeter.reporting.rollup.file import RollupFile
from livekit_costmeter.reporting.rollup.following import ROWS_AT_ONCE, Progress, bring_up_to_date
from livekit_costmeter.reporting.rollup.traits import COVERED

__all__ = ["COVERED", "Arrivals", "CannotRollUp", "rolled_up_report", "rollup_path"]

_LEAST_ROWS = 20_000
_DAMAGES = frozenset({"SQLITE_NOTADB", "SQLITE_CORRUPT"})


def rollup_path(ledger: Path) -> Path:
    """Return the file of a ledger's rollup."""
    return ledger.with_name(f"{ledger.name}.rollup")


def rolled_up_report(
    arrivals: Arrivals,
    by: Sequence[str],
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    anew: bool = False,
    least_rows: int = _LEAST_ROWS,
    rows_at_once: int = ROWS_AT_ONCE,
    progress: Progress | None = None,
) -> Report | None:
    """Return the report, after the rollup was brought up to date (from the first row on, if `anew`).

    None where the charges have to be read instead: the rollup does not cover what is asked for, the ledger has fewer
    than `least_rows` rows (reading them takes no time, and no file is made), some of its rows cannot be summed up in
    advance, or there is no place where the rollup may be written.

    Raises:
        CannotRollUp: It is to be made `anew`, and cannot be made.
    """
    answerable = can_answer(by, since, until)
    if not anew and (not answerable or arrivals.position() < least_rows):
        return None
    try:
        with _opened(rollup_path(arrivals.path), arrivals.path.stat().st_mode) as file:
            bring_up_to_date(file, arrivals, anew=anew, rows_at_once=rows_at_once, progress=progress)
            return report_from(file, by, since, until) if answerable else None
    except (CannotRollUp, OSError, sqlite3.Error) as error:
        if anew:
            raise CannotRollUp(f"{rollup_path(arrivals.path)}: {error}") from None
        return None


def _opened(path: Path, mode: int) -> RollupFile:
    """Open the file; one that is damaged is thrown away, for it can be made again."""
    file = RollupFile(path, mode=mode)
    try:
        file.is_laid_out()
    except sqlite3.DatabaseError as error:
        file.close()
        if getattr(error, "sqlite_errorname", "") not in _DAMAGES:
            raise
        path.with_name(f"{path.name}-journal").unlink(missing_ok=True)  # first: it must not be played into another
        path.unlink()
        return RollupFile(path, mode=mode)
    except BaseException:
        file.close()
        raise
    return file
