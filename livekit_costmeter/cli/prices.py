"""
`costmeter prices`: what things cost, who says so, and what cannot be priced.

Invariant: by the same look-ups as rating, so what is shown is what is billed.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, get_args

import click

from livekit_costmeter.cli.options import Instant, config_option, find_ledger, format_option, sink_option
from livekit_costmeter.cli.price_table import table
from livekit_costmeter.config import load
from livekit_costmeter.records import Component, decimal_text

_COMPONENTS = click.Choice(get_args(Component))
Row = Mapping[str, Any]


@click.group()
def prices() -> None:
    """Look up prices, and find what has none."""


prices.add_command(table)


@prices.command()
@click.argument("model")
@click.option("--component", type=_COMPONENTS, help="Only as this component.")
@click.option("--at", type=Instant(), help="At this instant; default: now.")
@click.option("--owner", default="unknown", help="For this owner's keys.")
@format_option("text", "json", "csv")
@config_option
def show(
    model: str, component: str | None, at: datetime | None, owner: str, form: str, config_path: str | None
) -> None:
    """Show every rate of PROVIDER/MODEL, in order of precedence."""
    from livekit_costmeter.pricing import prices as book_of_prices

    provider, name = _split(model)
    shown = book_of_prices.show(_book(config_path), provider, name, component=component, at=at, owner=owner)
    rows = [
        {
            "used": "yes" if entry.used else "",
            "component": entry.component,
            "unit": entry.rate.unit,
            "price": decimal_text(entry.rate.unit_price),
            "per": decimal_text(entry.rate.price_per),
            "currency": entry.rate.currency,
            "source": entry.rate.source,
        }
        for entry in shown
    ]
    _print(rows, form, f"no price for {model}; find models with: costmeter prices search WORD")
    if not rows:
        sys.exit(1)


@prices.command()
@click.argument("words", nargs=-1, required=True)
@format_option("text", "json", "csv")
@config_option
def search(words: Sequence[str], form: str, config_path: str | None) -> None:
    """List the models whose provider/model holds every word."""
    from livekit_costmeter.pricing import prices as book_of_prices

    found = book_of_prices.search(_book(config_path), " ".join(words))
    rows = [{"model": f"{entry.provider}/{entry.model}", "source": entry.source} for entry in found]
    _print(rows, form, "nothing found")


@prices.command()
@click.argument("models", nargs=-1)
@click.option("--component", type=_COMPONENTS, default="llm", show_default=True, help="What MODELS are.")
@format_option("text", "json", "csv")
@sink_option
@config_option
def check(models: Sequence[str], component: str, form: str, sink_name: str | None, config_path: str | None) -> None:
    """Check that what you use has a good price.

    Looks at MODELS (provider/model), at those that the rate cards name, and at those seen in the ledger. Exits with 1
    if one is unpriced, stale, or disputed between catalogs.
    """
    from livekit_costmeter.pricing import prices as book_of_prices

    book = _book(config_path)
    named = [(component, *_split(model)) for model in models]
    if not models:
        named = [*_in_rate_cards(book), *_in_ledger(config_path, sink_name)]
    findings = book_of_prices.check(book, dict.fromkeys(named))
    rows = [
        {
            "problem": finding.problem,
            "component": finding.component,
            "model": f"{finding.provider}/{finding.model}",
            "detail": finding.detail,
        }
        for finding in findings
    ]
    _print(rows, form, f"{len(dict.fromkeys(named))} models checked, nothing to say")
    if rows:
        sys.exit(1)


@prices.command()
@click.option("--installed", "installed_only", is_flag=True, help="Only models of the plugins that are installed here.")
@click.option("--unpriced", is_flag=True, help="Only models without a price.")
@format_option("text", "json", "csv")
@config_option
def coverage(installed_only: bool, unpriced: bool, form: str, config_path: str | None) -> None:
    """Say which models of LiveKit's plugins can be priced.

    One line for each model that a plugin declares: in what unit it is priced and from which source, or why not.
    """
    from livekit_costmeter.pricing.coverage import coverage as cover

    found = [row for row in cover(_book(config_path)) if row.installed or not installed_only]
    rows = [
        {
            "group": row.group,
            "plugin": row.plugin,
            "installed": "yes" if row.installed else "",
            "component": row.component,
            "model": row.model,
            "provider": row.provider,
            "priced": "yes" if row.priced else "",
            "unit": row.unit,
            "source": row.source or f"unpriced:{row.reason}",
        }
        for row in found
        if not (unpriced and row.priced)
    ]
    _print(rows, form, "no models")
    for name, chosen in (
        ("direct and gateway models", [row for row in found if row.group in ("direct", "gateway")]),
        ("models of installed plugins", [row for row in found if row.installed]),
    ):
        click.echo(f"{sum(row.priced for row in chosen)} of {len(chosen)} {name} priced", err=True)


@prices.command()
@format_option("text", "json", "csv")
@config_option
def policies(form: str, config_path: str | None) -> None:
    """List the billing policies in force, with their sources.

    A policy says what a provider puts on its bill for what was measured: which measure, in which steps, and whether
    failed work counts. Rows set by `config` are yours. A provider without a row bills as measured.
    """
    listed = _book(config_path).policies.in_force
    if form == "text":
        _print([_policy_in_words(policy) for policy in listed], form, "no policies")
        return
    _print([_policy_in_full(policy) for policy in listed], form, "no policies")


def _policy_in_full(policy: Any) -> Row:
    # As it stands in the file: amounts in plain notation, what is not said as null.
    fields = {
        name: decimal_text(value) if isinstance(value, Decimal) else value
        for name, value in policy.row.model_dump(exclude={"read_on"}).items()
    }
    read_on = policy.row.read_on and policy.row.read_on.isoformat()
    known = {"provider": policy.provider, "unit": policy.unit, "rounding": policy.rounding, "read_on": read_on}
    return {"set_by": _set_by(policy), **fields, **known}


def _set_by(policy: Any) -> str:
    return "config" if policy.own else "costmeter"


def _policy_in_words(policy: Any) -> Row:
    row = policy.row
    words = (
        row.minimum and f"at least {decimal_text(row.minimum)}",
        policy.rounding != "none" and f"steps of {decimal_text(row.increment)} ({policy.rounding})",
        row.per_stream_overhead and f"plus {decimal_text(row.per_stream_overhead)} per stream",
        policy.free and f"free if {', '.join(sorted(policy.free))}",
    )
    return {
        "set by": _set_by(policy),
        "id": row.id,
        "component": row.component,
        "model": f"{policy.provider}/{row.model or '*'}",
        "billed by": row.billed_by,
        "rule": "; ".join(word for word in words if word),
        "read on": str(row.read_on or ""),
        "source": row.source,
    }


def _book(config_path: str | None) -> Any:
    from livekit_costmeter.config.prices import build_book

    return build_book(load(config_path))


def _split(model: str) -> tuple[str, str]:
    provider, slash, name = model.partition("/")
    if not slash or not provider or not name:
        raise click.UsageError(f"{model!r} is not PROVIDER/MODEL, such as openai/gpt-4o-mini")
    return provider, name


def _in_rate_cards(book: Any) -> Iterator[tuple[str, str, str]]:
    for card in book.rate_cards:
        for provider, model, rate in card.rates():
            if not set("*?[") & set(model):
                yield _component_of(rate.unit), provider, model


def _component_of(unit: str) -> str:
    return {
        "characters": "tts",
        "audio_seconds": "stt",
        "connection_seconds": "stt",
        "session_seconds": "realtime",
    }.get(unit, "llm")


def _in_ledger(config_path: str | None, sink_name: str | None) -> Iterable[tuple[str, str, str]]:
    ledger = find_ledger(config_path, sink_name)
    if ledger.absence:
        click.echo(f"costmeter: {ledger.absence}", err=True)
        return []
    return sorted(
        {
            (charge.component, charge.reported_provider or charge.provider, charge.reported_model or charge.model)
            for charge in ledger.read()
        }
    )


def _print(rows: Sequence[Row], form: str, nothing: str) -> None:
    if not rows:
        click.echo(f"costmeter: {nothing}", err=True)
    if form == "json":
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    elif form == "csv" and rows:
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    elif rows:
        _table(rows)


def _table(rows: Sequence[Row]) -> None:
    # On a narrow terminal a line wraps as a whole: columns cut to fit would hide what the row is about.
    widths = {name: max(len(name), *(len(str(row[name] or "")) for row in rows)) for name in rows[0]}
    for number, row in enumerate(({name: name for name in rows[0]}, *rows)):
        line = "  ".join(f"{row[name] or '':<{width}}" for name, width in widths.items()).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)
