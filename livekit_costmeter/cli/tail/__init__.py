"""
`costmeter tail`: a running worker, live: charges as they are rated in the spool, and what others ship into the ledger.

Invariant: it only reads, and it ends with a total of what was shown when it is told to stop (SIGINT, SIGTERM), with
exit code 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime

import click

from livekit_costmeter import reporting
from livekit_costmeter.cli.options import (
    Instant,
    LedgerFile,
    NoLedger,
    config_option,
    dimensions_of,
    find_ledger,
    format_option,
    sink_option,
)
from livekit_costmeter.config import load
from livekit_costmeter.records import Charge
from livekit_costmeter.reporting import following


@click.command()
@click.option("--since", type=Instant(), help="Begin with the charges from this instant on; default: now.")
@click.option("--session", "sessions", multiple=True, metavar="ID", help="Only this session. May be repeated.")
@click.option(
    "--by",
    default="session",
    show_default=True,
    metavar="NAMES",
    callback=dimensions_of,
    help="Keep the running totals by these dimensions (see `costmeter report --help`); nothing for one total.",
)
@format_option("text", "jsonl")
@sink_option
@config_option
def tail(
    since: datetime | None,
    sessions: tuple[str, ...],
    by: list[str],
    form: str,
    sink_name: str | None,
    config_path: str | None,
) -> None:
    """Follow operations as they are priced, until interrupted."""
    from livekit_costmeter.cli.watch import stop_signals

    seen = following.Operations(by)
    line, total = following.operation_line, following.total_line
    if form == "jsonl":
        line, total = following.operation_json, following.total_json
    with stop_signals() as told:
        for operation in _operations(seen, sessions, _looks(config_path, sink_name, since, told), told):
            click.echo(line(operation))
        click.echo(total(seen))


def _looks(
    config_path: str | None, sink_name: str | None, since: datetime | None, told: Callable[[], bool]
) -> Iterator[Iterator[Charge]]:
    from livekit_costmeter.delivery.live import RatedCharges

    def wait(seconds: float) -> bool:
        time.sleep(0 if told() else seconds)
        return told()

    ledger = _ledger(config_path, sink_name)
    rated = RatedCharges(load(config_path).spool_directory, history=since is not None)
    if ledger is not None and ledger.file.absence:
        click.echo(f"costmeter: {ledger.file.absence}; waiting", err=True)
    try:
        yield from reporting.follow(ledger, since, rated=rated.look, wait=wait)
    finally:
        rated.close()


def _operations(
    seen: following.Operations,
    sessions: tuple[str, ...],
    looks: Iterator[Iterator[Charge]],
    told: Callable[[], bool],
) -> Iterator[following.Operation]:
    """Yield operations until the end: of a look that began before it was asked for, no more; else of the last one."""
    for look in looks:
        is_last = told()
        wanted = (charge for charge in look if charge.session_id in sessions) if sessions else look
        for operation in seen.of(wanted):
            yield operation
            if told() and not is_last:
                return


def _ledger(config_path: str | None, sink_name: str | None) -> _PatientLedger | None:
    try:
        return _PatientLedger(find_ledger(config_path, sink_name))
    except NoLedger as reason:
        if sink_name is not None:
            raise
        click.echo(f"costmeter: {reason}: showing only what is priced from this spool", err=True)
        return None


class _PatientLedger:
    """A ledger that may be out of reach for a while: that is said once, and the next look tries again."""

    def __init__(self, file: LedgerFile) -> None:
        self.file = file
        self._trouble = ""

    def read(self, since: datetime | None, until: datetime | None) -> Iterator[Charge]:
        from livekit_costmeter.delivery.sinks import RetryableError

        try:
            yield from self.file.read(since, until)
            self._trouble = ""
        except RetryableError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                click.echo(f"costmeter: {error}; trying again", err=True)
