"""
`costmeter report`, `export` and `tail`: reading a ledger.

Invariant: these only read; an unpriced or estimated share is always shown, and a ledger that is not there is an error,
never a sum of nothing.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import click
from click.core import ParameterSource

from livekit_costmeter import reporting
from livekit_costmeter.cli.options import (
    Instant,
    config_option,
    find_ledger,
    format_option,
    period_options,
    sink_option,
)
from livekit_costmeter.config import ConfigError, load
from livekit_costmeter.records import Charge, SessionAudit

_BY = f"any of {', '.join(reporting.DIMENSIONS)}, label:NAME"


def _dimensions(_ctx: click.Context, _param: click.Parameter, value: str) -> list[str]:
    names = [name.strip() for name in value.split(",") if name.strip()]
    try:
        for name in names:
            reporting.dimension(name)
    except reporting.UnknownDimension as error:
        raise click.BadParameter(str(error)) from None
    return names


@click.command()
@click.option(
    "--by",
    default="component,model,owner",
    show_default=True,
    metavar="NAMES",
    callback=_dimensions,
    help=f"Group by {_BY}; separated by commas, nothing for the total alone.",
)
@click.option(
    "--audit", is_flag=True, help="Show how each quantity is known, and what LiveKit's own usage missed and why."
)
@period_options
@format_option("text", "json", "csv")
@click.option("--strict", is_flag=True, help="Exit with 1 if anything is unpriced.")
@sink_option
@config_option
def report(
    by: list[str],
    audit: bool,
    since: datetime | None,
    until: datetime | None,
    form: str,
    strict: bool,
    sink_name: str | None,
    config_path: str | None,
) -> None:
    """Sum up what was spent."""
    if audit:
        _refuse_with_audit(by="--by", strict="--strict")
        _show_audit(config_path, sink_name, since, until, form)
        return
    found = reporting.build_report(_Charges(config_path, sink_name, since, until), by, since, until)
    if form == "json":
        click.echo(reporting.report_json(found))
    elif form == "csv":
        click.echo(reporting.report_csv(found), nl=False)
    else:
        _print(found, reporting.report_text, reporting.print_report)
    if strict and found.total.unpriced_records:
        sys.exit(1)


def _refuse_with_audit(**options: str) -> None:
    context = click.get_current_context()
    for name, option in options.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} has no meaning with --audit, which has a table of its own")


def _show_audit(
    config_path: str | None, sink_name: str | None, since: datetime | None, until: datetime | None, form: str
) -> None:
    charges = _Charges(config_path, sink_name, since, until)
    audit = reporting.build_audit(charges, _livekit_side(config_path, since, until), since, until)
    if form == "json":
        click.echo(reporting.audit_json(audit))
    elif form == "csv":
        click.echo(reporting.audit_csv(audit), nl=False)
    else:
        _print(audit, reporting.audit_text, reporting.print_audit)


def _livekit_side(config_path: str | None, since: datetime | None, until: datetime | None) -> list[SessionAudit]:
    from livekit_costmeter.delivery.files.audit import read_audits

    directory = load(config_path).spool_directory
    try:
        return read_audits(directory, since, until)
    except OSError as error:
        raise ConfigError(f"{error.filename or directory}: {error.strerror}") from None


def _print(found: Any, as_text: Callable[[Any], str], on_terminal: Callable[[Any, Any], None]) -> None:
    if not sys.stdout.isatty():
        click.echo(as_text(found), nl=False)
        return
    from rich.console import Console

    on_terminal(found, Console())


@click.command()
@period_options
@format_option("jsonl", "json", "csv")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    default="-",
    help="Write here instead of stdout; replaced only when everything is written.",
)
@sink_option
@config_option
def export(
    since: datetime | None,
    until: datetime | None,
    form: str,
    output: str,
    sink_name: str | None,
    config_path: str | None,
) -> None:
    """Write every charge of a period."""
    charges = _Charges(config_path, sink_name, since, until)
    with _destination(output) as stream:
        reporting.write_export(charges, form, stream)


@contextmanager
def _destination(output: str) -> Iterator[TextIO]:
    if output == "-":
        yield sys.stdout
        return
    path = Path(output).resolve()
    if path.exists() and not path.is_file():  # a device or a pipe is written to, never replaced
        with path.open("w", encoding="utf-8") as stream:
            yield stream
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("x", encoding="utf-8") as stream:
            yield stream
        if path.exists():
            draft.chmod(path.stat().st_mode)
        os.replace(draft, path)  # noqa: PTH105 - what it does has a name of its own
    except FileNotFoundError as error:
        raise ConfigError(f"{output}: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)


@click.command()
@click.option("--since", type=Instant(), help="Begin with the charges from this instant on; default: now.")
@sink_option
@config_option
def tail(since: datetime | None, sink_name: str | None, config_path: str | None) -> None:
    """Follow charges as they are booked, until interrupted."""
    ledger = find_ledger(config_path, sink_name)
    try:
        if ledger.absence:
            click.echo(f"costmeter: {ledger.absence}; waiting", err=True)
        for charge in reporting.follow(ledger, since):
            click.echo(reporting.charge_line(charge))
    except KeyboardInterrupt:
        return


class _Charges:
    """The charges of a period; each iteration reads the ledger anew."""

    def __init__(
        self, config_path: str | None, sink_name: str | None, since: datetime | None, until: datetime | None
    ) -> None:
        self._ledger = find_ledger(config_path, sink_name)
        self._period = since, until
        if self._ledger.absence:
            raise ConfigError(self._ledger.absence)

    def __iter__(self) -> Iterator[Charge]:
        return self._ledger.read(*self._period)
