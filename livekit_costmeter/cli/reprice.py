"""
`costmeter reprice`: what a past period costs at the prices of now, and the booking of the difference.

Invariant: what is shown is computed from the ledger and what waits in the spool; nothing that is booked is changed, and
corrections are booked only with `--book`.

JSON: `{since, until, records, changed, corrections, rows: [...], total: {...}}`; a row is `{component, provider, model,
unit, rule, status, records, old_cost, new_cost, difference, old_billed_cost, new_billed_cost, billed_difference,
old_pricing_source, new_pricing_source}`, money by currency, the total its money alone, with taxes. `status` is
`changed`, `newly_priced`, or `kept` for what has no price now. CSV: one line per row and currency.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from livekit_costmeter.cli.options import (
    LedgerFile,
    config_option,
    find_ledger,
    format_option,
    period_options,
    sink_option,
)
from livekit_costmeter.config import Config, ConfigError, load
from livekit_costmeter.records import Charge, decimal_text, format_instant

if TYPE_CHECKING:
    from livekit_costmeter.billing.differences import Difference, Differences, Group
    from livekit_costmeter.billing.reprice import Repriced, Repricer

_MONEY = ("old_cost", "new_cost", "difference", "old_billed_cost", "new_billed_cost", "billed_difference")
_STATUS = {"changed": "changed", "newly_priced": "newly priced", "kept": "no price now, kept"}


@click.command()
@period_options
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Only this provider; may be repeated.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only this model, or glob; may be repeated.")
@click.option("--component", "components", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--account", "accounts", multiple=True, metavar="NAME", help="Only this account; may be repeated.")
@click.option("--book", "booking", is_flag=True, help="Book the difference, after showing it.")
@click.option("--yes", is_flag=True, help="Book without asking.")
@format_option("text", "json", "csv")
@sink_option
@config_option
def reprice(
    since: datetime | None,
    until: datetime | None,
    providers: tuple[str, ...],
    models: tuple[str, ...],
    components: tuple[str, ...],
    accounts: tuple[str, ...],
    booking: bool,
    yes: bool,
    form: str,
    sink_name: str | None,
    config_path: str | None,
) -> None:
    """Apply the prices of now to a past period.

    Shows what changes. With --book also books it, as corrections that go to every sink; what is booked stays as it is.
    To be run with a new rate card, or after an update of the catalogs. Running it again books nothing twice.
    """
    config = load(config_path)
    wanted = {"provider": providers, "model": models, "component": components, "account": accounts}
    ledger = find_ledger(config_path, sink_name)
    if ledger.absence:
        raise ConfigError(ledger.absence)
    job = _Repricing(config, *_prices(config), ledger, since, until, wanted)
    with _progress() as count:
        found = job.differences(count)
    _SHOW[form](found, since, until)
    if not booking:
        return
    if found.changed and not yes and _is_terminal():
        click.confirm(f"Book {_texts(found.corrections, 'correction')}?", abort=True, err=True)
    with _progress() as count:
        booked = job.book(count)
    if not booked.charges:
        click.echo("costmeter: there is nothing to book", err=True)
        return
    rows = _texts(booked.charges, "correction")
    click.echo(f"booked {rows} of {_texts(booked.records, 'record')}; they are delivered by whoever ships", err=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


@dataclass(frozen=True, slots=True)
class _Repricing:
    """One period of one ledger, at the prices of one configuration, which are read once."""

    config: Config
    rate: Any
    billing: Any
    ledger: LedgerFile
    since: datetime | None
    until: datetime | None
    wanted: Mapping[str, tuple[str, ...]]

    def differences(self, count: Callable[[int], None]) -> Differences:
        """Sum up what changes."""
        from livekit_costmeter.billing.differences import Differences

        found = Differences()
        for record in self._records(count):
            found.add(record)
        return found

    def book(self, count: Callable[[int], None]) -> Any:
        """Book what changes, looking at it anew; whoever else books here comes before or after."""
        from livekit_costmeter.delivery.files.booking import book, booking_turn

        directory = self.config.spool_directory
        with booking_turn(directory):
            corrections = (row for record in self._records(count) for row in record.corrections)
            return book(corrections, directory, [sink.name for sink in self.config.sinks], reason="reprice")

    def _records(self, count: Callable[[int], None]) -> Iterator[Repriced]:
        repricer = self._repricer()
        charges: Any = self.ledger.read(self.since, self.until)
        with closing(charges):
            for number, record in enumerate(repricer.reprice(filter(self._matches, charges)), 1):
                count(number)
                yield record

    def _repricer(self) -> Repricer:
        from livekit_costmeter.billing.corrections import Corrections
        from livekit_costmeter.billing.reprice import Repricer
        from livekit_costmeter.delivery.files.booking import waiting

        booked = Corrections()
        booked.add(waiting(self.config.spool_directory), under_way=True)
        booked.add(self.ledger.read(self.since, self.until))
        return Repricer(self.rate, self.billing, booked)

    def _matches(self, charge: Charge) -> bool:
        values = {name: getattr(charge, name) or "" for name in self.wanted}
        return all(
            not patterns or any(_is_like(values[name], pattern, glob=name == "model") for pattern in patterns)
            for name, patterns in self.wanted.items()
        )


def _prices(config: Config) -> tuple[Any, Any]:
    from livekit_costmeter.config.plans import build_billing
    from livekit_costmeter.config.prices import build_book
    from livekit_costmeter.pricing import rate

    book = build_book(config)
    book.catalogs  # noqa: B018 - one that cannot be loaded is said here, and is not a missing price
    return lambda record: rate(record, book), build_billing(config)


def _is_like(value: str, pattern: str, *, glob: bool) -> bool:
    return value == pattern or (glob and fnmatchcase(value, pattern))


def _show_json(found: Differences, since: datetime | None, until: datetime | None) -> None:
    document = {
        "since": since and format_instant(since),
        "until": until and format_instant(until),
        "records": found.records,
        "changed": found.changed,
        "corrections": found.corrections,
        "rows": [{**_named(group, sums), **_money(sums)} for group, sums in found.ordered()],
        "total": _money(found.total),
    }
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _named(group: Group, sums: Difference) -> dict[str, Any]:
    names = group._asdict()
    sources = {"old_pricing_source": names.pop("old_source"), "new_pricing_source": names.pop("new_source")}
    return {**names, "records": sums.records, **sources}


def _money(sums: Difference) -> dict[str, dict[str, str]]:
    values = (sums.old_cost, sums.new_cost, sums.cost, sums.old_billed, sums.new_billed, sums.billed)
    return {
        name: {currency: decimal_text(amount) for currency, amount in sorted(money.items())}
        for name, money in zip(_MONEY, values, strict=True)
    }


def _show_csv(found: Differences, _since: datetime | None, _until: datetime | None) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    sources = ("old_pricing_source", "new_pricing_source")
    writer.writerow(
        [*("component", "provider", "model", "unit", "rule", "status", "records"), *sources, "currency", *_MONEY]
    )
    for group, sums in found.ordered():
        money = _money(sums)
        currencies = sorted({currency for amounts in money.values() for currency in amounts}) or [""]
        named = [*_named(group, sums).values()]
        writer.writerows(
            [*named, currency, *(amounts.get(currency) for amounts in money.values())] for currency in currencies
        )
    click.echo(text.getvalue(), nl=False)


def _show_text(found: Differences, since: datetime | None, until: datetime | None) -> None:
    from livekit_costmeter.reporting.wording import period_text

    title = period_text(since, until)
    lines = [*([title] if title else []), *_table(found)]
    for what, before, change in (
        ("cost", found.total.old_cost, found.total.cost),
        ("billed", found.total.old_billed, found.total.billed),
    ):
        lines += [
            f"{what}: {_amount(before.get(currency), currency)} {_signed(amount)} {currency}".rstrip()
            for currency, amount in change.items()
            if amount
        ]
    lines.append(f"{_texts(found.changed, 'record')} of {found.records} to be corrected")
    if kept := sum(sums.records for group, sums in found.groups.items() if group.status == "kept"):
        lines.append(f"{_texts(kept, 'line')} of which no source has a price now, kept as booked")
    click.echo("\n".join(lines))


def _table(found: Differences) -> list[str]:
    from livekit_costmeter.reporting.wording import aligned_lines, name_text

    titles = ("model", "unit", "records", "old", "new", "difference", "billed", "old price", "new price", "")
    cells = [list(titles)]
    for group, sums in found.ordered():
        model = f"{name_text(group.provider)}/{name_text(group.model)}"
        sources = [name_text(group.old_source), name_text(group.new_source)]
        money = [_sums(sums.old_cost), _sums(sums.new_cost), _sums(sums.cost, signed=True)]
        billed = _sums(sums.billed, signed=True)
        status = _STATUS[group.status]
        cells.append([model, name_text(group.unit), str(sums.records), *money, billed, *sources, status])
    numbers = [title in ("records", "old", "new", "difference", "billed") for title in titles]
    return aligned_lines(cells, numbers) if len(cells) > 1 else []


def _sums(sums: Mapping[str, Decimal], *, signed: bool = False) -> str:
    shown = (f"{_signed(sum_) if signed else decimal_text(sum_)} {name}".rstrip() for name, sum_ in sums.items())
    return ", ".join(shown) or "-"


def _signed(amount: Decimal) -> str:
    return f"+{decimal_text(amount)}" if amount > 0 else decimal_text(amount)


def _amount(amount: Decimal | None, currency: str) -> str:
    return f"{decimal_text(amount or Decimal(0))} {currency}".rstrip()


def _texts(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


_SHOW: Mapping[str, Callable[[Any, datetime | None, datetime | None], None]] = {
    "text": _show_text,
    "json": _show_json,
    "csv": _show_csv,
}


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Count records on a terminal, say nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} records looked at"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("repricing", total=None)
        yield lambda count: bar.update(task, completed=count)
