"""
`costmeter report` and `export`: reading a ledger.

Invariant: these only read (beside a large SQLite ledger a report keeps sums of its rows); an unpriced or estimated
share is always shown, and a ledger that is not there is an error, never a sum of nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal

import click
from click.core import ParameterSource

from livekit_costmeter import reporting
from livekit_costmeter.cli.options import (
    config_option,
    destination,
    dimensions_of,
    find_ledger,
    format_option,
    output_option,
    period_options,
    sink_option,
)
from livekit_costmeter.cli.views import (
    AUDIT,
    CALLS,
    COMPARISON,
    GROUPS,
    WASTE,
    Forms,
    Period,
    compared_periods,
    refuse_mixtures,
    view_options,
)
from livekit_costmeter.cli.views.sums import quick_report
from livekit_costmeter.config import ConfigError, load
from livekit_costmeter.records import PLATFORM, Charge, SessionAudit
from livekit_costmeter.reporting import views

_FOCUS_OPTIONS = ("focus_version", "byok", "issuer", "credit_currency")
_BY = f"any of {', '.join(reporting.DIMENSIONS)}, label:NAME"


@click.command()
@click.option(
    "--by",
    default="component,model,owner",
    show_default=True,
    metavar="NAMES",
    callback=dimensions_of,
    help=f"Group by {_BY}; separated by commas, nothing for the total alone.",
)
@click.option(
    "--audit", is_flag=True, help="Show how each quantity is known, and what LiveKit's own usage missed and why."
)
@view_options
@period_options
@format_option("text", "json", "csv")
@click.option("--strict", is_flag=True, help="Exit with 1 if anything is unpriced.")
@click.option("--rebuild", is_flag=True, help="Make the sums kept beside an SQLite ledger anew from its rows.")
@sink_option
@config_option
def report(
    by: list[str],
    audit: bool,
    calls: bool,
    compare: str | Period | None,
    waste: bool,
    top: int | None,
    since: datetime | None,
    until: datetime | None,
    form: str,
    strict: bool,
    rebuild: bool,
    sink_name: str | None,
    config_path: str | None,
) -> None:
    """Sum up what was spent."""
    refuse_mixtures(audit=audit, calls=calls, compare=compare, waste=waste)
    if audit:
        _refuse("has no meaning with --audit, which has a table of its own", "by", "strict", "top", "rebuild")
        _show_audit(config_path, sink_name, since, until, form)
        return
    ledger = _Summing(config_path, sink_name, anew=rebuild)
    if calls:
        _refuse("has no meaning with --calls, which has one row per call", "by", "rebuild")
        unpriced = _show_calls(ledger, since, until, top, form)
    elif compare:
        unpriced = _show_comparison(ledger, by, compared_periods(compare, since, until), top, form)
    elif waste:
        unpriced = _show_waste(ledger, by, (since, until), top, form)
    else:
        found = ledger.report(by, since, until)
        unpriced = found.total.unpriced_records
        _show(found if top is None else views.top(found, top), form, GROUPS)
    if strict and unpriced:
        sys.exit(1)


def _show_calls(ledger: _Summing, since: datetime | None, until: datetime | None, top: int | None, form: str) -> int:
    found = views.build_calls(ledger.charges(since, until), since, until, top=top)
    _show(found, form, CALLS)
    return found.total.unpriced_records


def _show_comparison(
    ledger: _Summing, by: list[str], periods: tuple[Period, Period], top: int | None, form: str
) -> int:
    previous, current = (ledger.report(by, *period) for period in periods)
    _show(views.compare(previous, current, top=top), form, COMPARISON)
    return previous.total.unpriced_records + current.total.unpriced_records


def _show_waste(ledger: _Summing, by: list[str], period: Period, top: int | None, form: str) -> int:
    if "outcome" in by:
        raise click.UsageError("--waste has outcomes beside each other already: leave outcome out of --by")
    found = ledger.report([*by, "outcome"], *period)
    _show(views.find_waste(found, top=top), form, WASTE)
    return found.total.unpriced_records


def _refuse(reason: str, *parameters: str) -> None:
    context = click.get_current_context()
    for name in parameters:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} {reason}")


def _show_audit(
    config_path: str | None, sink_name: str | None, since: datetime | None, until: datetime | None, form: str
) -> None:
    charges = _Charges(config_path, sink_name, since, until)
    _show(reporting.build_audit(charges, _livekit_side(config_path, since, until), since, until), form, AUDIT)


def _livekit_side(config_path: str | None, since: datetime | None, until: datetime | None) -> list[SessionAudit]:
    from livekit_costmeter.delivery.files.audit import read_audits

    directory = load(config_path).spool_directory
    try:
        return read_audits(directory, since, until)
    except OSError as error:
        raise ConfigError(f"{error.filename or directory}: {error.strerror}") from None


def _show(found: Any, form: str, forms: Forms) -> None:
    if form == "json":
        click.echo(forms.json(found))
    elif form == "csv":
        click.echo(forms.csv(found), nl=False)
    elif not sys.stdout.isatty():
        click.echo(forms.text(found), nl=False)
    else:
        from rich.console import Console

        forms.on_terminal(found, Console())


@click.command()
@period_options
@format_option(*reporting.EXPORT_FORMATS, "focus")
@output_option
@click.option(
    "--focus-version",
    type=click.Choice(reporting.FOCUS_VERSIONS),
    default=reporting.FOCUS_VERSIONS[-1],
    show_default=True,
    help="Version of the specification. FOCUS is Parquet where FILE ends in .parquet, else CSV.",
)
@click.option(
    "--byok",
    type=click.Choice(("strict", "lenient")),
    default="strict",
    show_default=True,
    help="EffectiveCost where an account's own key paid: 0, or the provider's cost as FOCUS 1.2 may be read.",
)
@click.option("--issuer", metavar="NAME", help="InvoiceIssuerName of the platform; default: the project.")
@click.option("--credit-currency", metavar="NAME", default="XXX", show_default=True, help="PricingCurrency of credits.")
@sink_option
@config_option
def export(
    since: datetime | None,
    until: datetime | None,
    form: str,
    output: str,
    focus_version: str,
    byok: Literal["strict", "lenient"],
    issuer: str | None,
    credit_currency: str,
    sink_name: str | None,
    config_path: str | None,
) -> None:
    """Write every charge of a period."""
    charges = _Charges(config_path, sink_name, since, until)
    if form == "focus":
        issuer = issuer or load(config_path).settings.project or PLATFORM
        _export_focus(charges, output, focus_version, reporting.FocusOptions(issuer, byok, credit_currency))
        return
    _refuse("has no meaning without --format focus", *_FOCUS_OPTIONS)
    binary = form in reporting.BINARY_FORMATS
    if binary and output == "-" and sys.stdout.isatty():
        raise click.UsageError(f"{form} is not for a terminal: name a file with -o")
    with _refusals_in_words(), destination(output, binary=binary) as stream:
        reporting.write_export(charges, form, stream)


def _export_focus(charges: _Charges, output: str, version: str, options: reporting.FocusOptions) -> None:
    with _refusals_in_words(), destination(output, binary=True) as stream:
        parquet = output.endswith(".parquet")
        summary = reporting.write_focus(charges, stream, version, options, parquet=parquet)
    if summary.unpriced:
        click.echo(
            f"costmeter: {summary.unpriced} of {summary.rows} rows have no price: their costs stand as 0, "
            "with x_PricingStatus unpriced",
            err=True,
        )
    if summary.unbilled:
        click.echo(
            f"costmeter: of {summary.unbilled} of {summary.rows} rows it is not known what is billed: BilledCost "
            "stands as 0, with an empty x_BilledCost",
            err=True,
        )


@contextmanager
def _refusals_in_words() -> Iterator[None]:
    try:
        yield
    except reporting.CannotExport as error:
        raise ConfigError(str(error)) from None


class _Summing:
    """One ledger, from which several periods may be read."""

    def __init__(self, config_path: str | None, sink_name: str | None, *, anew: bool) -> None:
        self._where = config_path, sink_name
        self._anew = anew

    def charges(self, since: datetime | None, until: datetime | None) -> _Charges:
        return _Charges(*self._where, since, until)

    def report(self, by: list[str], since: datetime | None, until: datetime | None) -> reporting.Report:
        charges = self.charges(since, until)
        anew, self._anew = self._anew, False
        found = quick_report(charges.ledger, by, since, until, anew=anew)
        return found or reporting.build_report(charges, by, since, until)


class _Charges:
    """The charges of a period; each iteration reads the ledger anew."""

    def __init__(
        self, config_path: str | None, sink_name: str | None, since: datetime | None, until: datetime | None
    ) -> None:
        self.ledger = find_ledger(config_path, sink_name)
        self._period = since, until
        if self.ledger.absence:
            raise ConfigError(self.ledger.absence)

    def __iter__(self) -> Iterator[Charge]:
        return self.ledger.read(*self._period)
