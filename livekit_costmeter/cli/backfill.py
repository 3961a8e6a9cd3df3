"""
`costmeter backfill`: copy a ledger from one sink to another.

Invariant: it only adds; a copy that was interrupted goes on where it stopped when the same command is run again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from livekit_costmeter.cli.options import config_option, find_ledger
from livekit_costmeter.config import Config, ConfigError, load

_SHOWN = 5


@click.command()
@click.option("--from", "source_name", metavar="NAME", required=True, help="The sink to read; it must be readable.")
@click.option("--to", "target_name", metavar="NAME", required=True, help="The sink to write to.")
@config_option
def backfill(source_name: str, target_name: str, config_path: str | None) -> None:
    """Copy every charge of one sink into another.

    Such as a ledger into a database that was added later. Rows that are there stay as they are, so it may be repeated,
    and run while charges are shipped. Exits with 1 if the target refused records.
    """
    from livekit_costmeter.delivery.backfill import Backfill
    from livekit_costmeter.delivery.sinks import SinkError

    if source_name == target_name:
        raise click.BadParameter("a sink cannot be copied into itself", param_hint="--to")
    config = load(config_path)
    ledger = find_ledger(config_path, source_name)
    target = _target(config, target_name)
    if ledger.absence:
        raise ConfigError(ledger.absence)
    path = config.spool_directory / f"backfill-{source_name}-{target_name}.json"
    with _progress() as report:
        job = Backfill(ledger, target, path, progress=report)
        try:
            job.run()
        except SinkError as error:
            raise SinkError(
                f"{error}; {job.copied.rows} rows are copied, the same command goes on from there"
            ) from None
        finally:
            target.close()
    _tell(job.copied, source_name, target_name)


def _target(config: Config, name: str) -> Any:
    from livekit_costmeter.config.compose import build_sinks

    sinks = build_sinks(config)
    if name not in sinks:
        raise ConfigError(f"{config.origin}: no sink named {name!r} (there are: {', '.join(sinks)})")
    return sinks[name]


def _tell(copied: Any, source: str, target: str) -> None:
    before = f" ({copied.skipped} of them before)" if copied.skipped else ""
    click.echo(f"copied {copied.rows} rows from {source} to {target}{before}", err=True)
    for record, reason in list(copied.rejected.items())[:_SHOWN]:
        click.echo(f"costmeter: {target} refused {record}: {reason}", err=True)
    if refused := copied.refused + len(copied.rejected):
        click.echo(f"costmeter: {refused} records were refused; they stay in {source}", err=True)
        sys.exit(1)


@contextmanager
def _progress() -> Iterator[Callable[[int], None] | None]:
    """Count rows on a terminal, say nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows copied"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("copying", total=None)
        yield lambda rows: bar.update(task, completed=rows)
