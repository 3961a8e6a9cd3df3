"""
`costmeter ship`: deliver what waits in the spool, also what dead processes left behind.

Invariant: one shipper per spool directory; a second one says so and leaves.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from livekit_costmeter.cli.options import config_option
from livekit_costmeter.config import load

_TROUBLES = {
    "rejected": "records set aside in dead/",
    "corrupt": "damaged lines",
    "gaps": "missing records",
    "stalled": "segments that could not be worked on",
}


@click.command()
@config_option
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Seconds to wait for another shipper to finish.",
)
def ship(config_path: str | None, wait: float) -> None:
    """Price and deliver everything that waits in the spool.

    Exits with 1 if a sink could not take its share (what it is owed stays in the spool), or if records were refused,
    damaged or missing.
    """
    from livekit_costmeter.config.compose import build_shipper
    from livekit_costmeter.config.prices import check_prices

    config = load(config_path)
    check_prices(config)
    with _progress() as report:
        shipment = build_shipper(config, progress=report).ship_once(wait=wait)
    if shipment.busy:
        click.echo(f"costmeter: another process ships {config.spool_directory}", err=True)
        return
    _tell(shipment)
    if shipment.still_owed or any(getattr(shipment, trouble) for trouble in _TROUBLES):
        sys.exit(1)


def _tell(shipment: Any) -> None:
    taken = ", ".join(f"{name} {rows}" for name, rows in shipment.sinks.items())
    click.echo(f"shipped {shipment.records} records, {shipment.charges} charges (rows taken: {taken})", err=True)
    for name, what in (*_TROUBLES.items(), ("torn", "torn last lines of killed processes (acknowledged to nobody)")):
        if count := getattr(shipment, name):
            click.echo(f"costmeter: {count} {what}", err=True)
    for sink, reason in shipment.still_owed.items():
        click.echo(f"costmeter: {sink} is still owed: {reason}", err=True)


class _progress:  # noqa: N801 - reads as a statement
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Any:
        if not sys.stderr.isatty():
            return None
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("shipping", total=None)
        self._bar.start()
        return self._update

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _update(self, shipped: int, pending: int) -> None:
        self._bar.update(self._task, completed=shipped, total=shipped + pending)
