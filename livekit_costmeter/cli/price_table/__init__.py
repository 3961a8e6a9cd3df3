"""
`costmeter prices table`: what an account pays, from a plan or from a JSON price feed.

Invariant: a price is the one that would be billed; a model without a price is said on stderr and exits with 1.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from livekit_costmeter.cli.options import Instant, config_option, destination, format_option, output_option
from livekit_costmeter.config import ConfigError

if TYPE_CHECKING:  # loaded when a table is made
    from livekit_costmeter.billing.price_tables import Denomination, PricesIn, PriceTable, Till


class _Price(click.ParamType[Decimal]):
    """The price of one credit."""

    name = "price"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read the option's text."""
        try:
            price = value if isinstance(value, Decimal) else Decimal(value)
        except InvalidOperation:
            price = Decimal(0)
        if not (price.is_finite() and price > 0):
            self.fail(f"{value!r} is not a price above 0", param, ctx)
        return price


@click.command()
@click.option(
    "--plan", "plan_path", metavar="FILE#NAME", help="A plan file, or a configured plan; default: the configured one."
)
@click.option("--model", "models", multiple=True, metavar="PROVIDER/MODEL", help="Show this model; repeatable.")
@click.option("--feed", metavar="FILE", help="Show the prices of a JSON feed instead (- is stdin).")
@click.option(
    "--credit-price",
    type=_Price(),
    default="0.005",
    show_default=True,
    metavar="USD",
    help="What a feed's credits cost, where no --plan says it.",
)
@click.option(
    "--in", "prices_in", type=click.Choice(["credits", "money"]), help="Default: credits where there are any."
)
@click.option("--priority", is_flag=True, help="Show prices with priority in the place of the usual ones.")
@click.option("--at", type=Instant(), help="At this instant; default: now.")
@format_option("text", "json", "csv", "html", "plan")
@output_option
@config_option
def table(
    plan_path: str | None,
    models: Sequence[str],
    feed: str | None,
    credit_price: Decimal,
    prices_in: str | None,
    priority: bool,
    at: datetime | None,
    form: str,
    output: str,
    config_path: str | None,
) -> None:
    """Show what accounts pay: fees, calls, models, in credits or money.

    Lists the plan's own prices and those of the models that it passes on: the models asked for, else, for each
    component of which the plan names no model, a list of common ones. Prices with priority stand beside. Taxes are not
    included. A feed can also be written as a plan file: --feed FILE --format plan.
    """
    from livekit_costmeter.cli.price_table.origins import paid_in, till_of

    _refuse_what_has_no_meaning(feed=feed, plan=plan_path, form=form)
    unpriced: list[str] = []
    if feed is not None:
        paid = paid_in(plan_path, credit_price, config_path)
        if form == "plan":
            _write_plan(feed, paid, output)
            return
        found = _of_feed(feed, paid, prices_in, priority=priority)
    else:
        till = till_of(plan_path, prices_in, at or datetime.now(UTC), config_path, priority=priority)
        found, unpriced = _of_plan(till, models)
    _show(found.document(), form, output)
    for model in unpriced:
        click.echo(f"costmeter: no price for {model}; find models with: costmeter prices search WORD", err=True)
    if unpriced:
        sys.exit(1)


def _refuse_what_has_no_meaning(*, feed: str | None, plan: str | None, form: str) -> None:
    refused = {} if feed is None else dict.fromkeys(("models", "at"), "with --feed")
    if form == "plan":
        if feed is None:
            raise click.UsageError("--format plan makes a plan of a feed: give --feed FILE")
        refused |= dict.fromkeys(("prices_in", "priority"), "with --format plan")
    if feed is None or plan is not None:
        refused["credit_price"] = "without --feed" if feed is None else "with --plan, which says it"
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name in refused:
            raise click.UsageError(f"{parameter.opts[0]} has no meaning {refused[parameter.name]}")


def _write_plan(source: str, paid: Denomination, output: str) -> None:
    from livekit_costmeter.billing.price_tables import InvalidFeed, feed_plan
    from livekit_costmeter.cli.price_table.origins import feed_at

    name, feed = feed_at(source)
    try:
        plan = feed_plan(feed, Path(name).stem, paid)
    except InvalidFeed as error:
        raise ConfigError(f"{name}: {error}") from None
    with destination(output) as stream:
        click.echo(plan, file=stream, nl=False)


def _of_feed(source: str, paid: Denomination, prices_in: str | None, *, priority: bool) -> PriceTable:
    from livekit_costmeter.billing.price_tables import feed_table
    from livekit_costmeter.cli.price_table.origins import feed_at

    name, feed = feed_at(source)
    form: PricesIn = "money" if prices_in == "money" else "credits"
    return feed_table(feed, Path(name).name, form, paid, priority=priority)


def _of_plan(till: Till, models: Sequence[str]) -> tuple[PriceTable, list[str]]:
    from livekit_costmeter.billing.price_tables import components_of, plan_table

    for model in models:
        provider, slash, name = model.partition("/")
        if not (provider and slash and name):
            raise click.UsageError(f"{model!r} is not PROVIDER/MODEL, such as openai/gpt-4o-mini")
    return plan_table(till, models), [model for model in models if not components_of(till, model)]


def _show(document: Mapping[str, Any], form: str, output: str) -> None:
    from livekit_costmeter.reporting import price_tables

    if form == "text" and output == "-" and sys.stdout.isatty():
        from rich.console import Console

        price_tables.print_price_table(document, Console())
        return
    written = {
        "text": price_tables.price_table_text,
        "json": price_tables.price_table_json,
        "csv": price_tables.price_table_csv,
        "html": price_tables.price_table_html,
    }[form](document)
    with destination(output) as stream:
        click.echo(written.removesuffix("\n"), file=stream)
