"""
`costmeter ship`: deliver what waits in the spool, also what dead processes left behind; with `--watch`, until stopped.

Invariant: one shipper per spool directory; a second one says so and leaves, or waits for its turn. What the operator
asks for (let go of a sink, put dead letters back) is written into the spool first, for whoever ships there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from livekit_costmeter.cli.options import config_option
from livekit_costmeter.config import Config, load

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
@click.option("--watch", is_flag=True, help="Ship until stopped (SIGTERM, SIGINT), in turn with other shippers.")
@click.option(
    "--deadline",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="With --watch: seconds for a last pass when stopped.",
)
@click.option(
    "--forget-sink",
    "forgotten",
    metavar="NAME",
    multiple=True,
    help="Let go of all that this sink is owed by now; it is not delivered there. May be repeated.",
)
@click.option("--retry-dead", is_flag=True, help="Put the records in dead/ back, each once, for their sinks.")
def ship(
    config_path: str | None, wait: float, watch: bool, deadline: float, forgotten: tuple[str, ...], retry_dead: bool
) -> None:
    """Price and deliver everything that waits in the spool.

    Exits with 1 if a sink could not take its share (what it is owed stays in the spool), or if records were refused,
    damaged or missing. With --watch it exits with 0 when it is stopped.
    """
    from livekit_costmeter.config.compose import build_shipper
    from livekit_costmeter.config.prices import check_prices

    config = load(config_path)
    check_prices(config)
    if watch:
        from livekit_costmeter.cli.watch import watch_spool

        shipper = build_shipper(config)
        _ask(config, forgotten, retry_dead=retry_dead)
        watch_spool(config, shipper, deadline=deadline)
        return
    with _progress() as report:
        shipper = build_shipper(config, progress=report)
        _ask(config, forgotten, retry_dead=retry_dead)
        shipment = shipper.ship_once(wait=wait)
    if shipment.busy:
        asked = "; it heeds what was asked for" if forgotten or retry_dead else ""
        click.echo(f"costmeter: another process ships {config.spool_directory}{asked}", err=True)
        return
    _tell(shipment)
    if shipment.still_owed or any(getattr(shipment, trouble) for trouble in _TROUBLES):
        sys.exit(1)


def _ask(config: Config, forgotten: Sequence[str], *, retry_dead: bool) -> None:
    """Write what the operator asks for into the spool."""
    from livekit_costmeter.delivery.files.dead import ask_for_retry

    for sink in forgotten:
        _let_go(config, sink)
    if retry_dead and not ask_for_retry(config.spool_directory):
        click.echo("costmeter: there are no dead letters", err=True)


def _let_go(config: Config, sink: str) -> None:
    from livekit_costmeter.delivery.backlog import owing, pending_by_sink
    from livekit_costmeter.delivery.files.forgotten import let_go

    directory = config.spool_directory
    configured = [entry.name for entry in config.sinks]
    # A segment that is still written to goes on to owe a configured sink what is to come.
    segments = owing(directory, sink, configured, living=sink not in configured)
    if not segments:
        click.echo(f"costmeter: nothing is owed to {sink}", err=True)
        return
    owed = pending_by_sink(directory, configured).get(sink)
    let_go(directory, sink, segments)
    click.echo(f"costmeter: let go of {sink}, which was owed {owed.records if owed else 0} records", err=True)


def _tell(shipment: Any) -> None:
    taken = ", ".join(f"{name} {rows}" for name, rows in shipment.sinks.items())
    click.echo(f"shipped {shipment.records} records, {shipment.charges} charges (rows taken: {taken})", err=True)
    if shipment.put_back:
        click.echo(f"costmeter: {shipment.put_back} dead letters put back", err=True)
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
