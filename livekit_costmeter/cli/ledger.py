"""
`costmeter report`, `export` and `tail`: reading a ledger.

Invariant: these only read; an unpriced or estimated share is always shown.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from livekit_costmeter import reporting
from livekit_costmeter.cli.options import (
    Instant,
    config_option,
    format_option,
    open_ledger,
    period_options,
    sink_option,
)
from livekit_costmeter.config import ConfigError
from livekit_costmeter.records import Charge

_BY = f"any of {', '.join(reporting.DIMENSIONS)}, label:NAME"


@click.command()
@click.option("--by", default="component,model,owner", show_default=True, help=f"Group by {_BY}.")
@period_options
@format_option("text", "json", "csv")
@click.option("--strict", is_flag=True, help="Exit with 1 if anything is unpriced.")
@sink_option
@config_option
def report(
    by: str,
    since: datetime | None,
    until: datetime | None,
    form: str,
    strict: bool,
    sink_name: str | None,
    config_path: str | None,
) -> None:
    """Sum up what was spent."""
    names = [name.strip() for name in by.split(",") if name.strip()]
    try:
        found = reporting.build_report(_charges(config_path, sink_name, since, until), names, since, until)
    except reporting.UnknownDimension as error:
        raise click.UsageError(f"--by: {error}") from None
    if form == "json":
        click.echo(reporting.report_json(found))
    elif form == "csv":
        click.echo(reporting.report_csv(found), nl=False)
    else:
        _print(found)
    if strict and found.total.unpriced_records:
        sys.exit(1)


def _print(found: Any) -> None:
    if not sys.stdout.isatty():
        click.echo(reporting.report_text(found), nl=False)
        return
    from rich.console import Console

    reporting.print_report(found, Console())


@click.command()
@period_options
@format_option("jsonl", "json", "csv")
@click.option("-o", "--output", type=click.File("w", encoding="utf-8", atomic=True), default="-", help="File to write.")
@sink_option
@config_option
def export(
    since: datetime | None,
    until: datetime | None,
    form: str,
    output: Any,
    sink_name: str | None,
    config_path: str | None,
) -> None:
    """Write every charge of a period."""
    reporting.write_export(_charges(config_path, sink_name, since, until), form, output)


@click.command()
@click.option("--since", type=Instant(), help="Begin with the charges from this instant on; default: now.")
@sink_option
@config_option
def tail(since: datetime | None, sink_name: str | None, config_path: str | None) -> None:
    """Follow charges as they are booked, until interrupted."""
    ledger = open_ledger(config_path, sink_name)
    ledger.open()
    try:
        for charge in reporting.follow(ledger, since):
            click.echo(reporting.charge_line(charge))
    except KeyboardInterrupt:
        return
    finally:
        ledger.close()


def _charges(
    config_path: str | None, sink_name: str | None, since: datetime | None, until: datetime | None
) -> Iterator[Charge]:
    if since is not None and until is not None and since >= until:
        raise ConfigError(f"--until ({until:%Y-%m-%dT%H:%MZ}) must be later than --since ({since:%Y-%m-%dT%H:%MZ})")
    ledger = open_ledger(config_path, sink_name)
    ledger.open()
    try:
        yield from ledger.read(since, until)
    finally:
        ledger.close()
