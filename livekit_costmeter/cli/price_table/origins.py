"""
What a price table is made of: a plan from a file or from the configuration, or a feed.

Invariant: nothing is written; what cannot be used is one `ConfigError` or usage error.
"""

from __future__ import annotations

import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import click

from livekit_costmeter.billing.plans import Plan
from livekit_costmeter.billing.price_tables import Denomination, Feed, InvalidFeed, PricesIn, Till, read_feed
from livekit_costmeter.config import Config, ConfigError, load
from livekit_costmeter.config.plans import build_billing, exchange_rates, read_plan
from livekit_costmeter.config.prices import build_book

_FEED_CREDITS = "credits"
_FEED_CURRENCY = "USD"


def feed_at(source: str) -> tuple[str, Feed]:
    """Return the name and the content of a feed; `-` is standard input.

    Raises:
        ConfigError: It is no feed.
    """
    name = "standard input" if source == "-" else source
    raw = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    try:
        return name, read_feed(raw)
    except InvalidFeed as error:
        raise ConfigError(f"{name}: {error}") from None


def paid_in(plan_path: str | None, credit_price: Decimal, config_path: str | None) -> Denomination:
    """Return what the prices of a feed are in: the credits of a plan, or credits at this price in USD."""
    if plan_path is None:
        return Denomination(_FEED_CURRENCY, _FEED_CREDITS, credit_price)
    plan = _plan(plan_path, load(config_path))
    if plan.credits is None:
        raise click.UsageError(f"--feed: its prices are in credits, and the plan {plan.name} has none")
    return Denomination.of(plan)


def till_of(
    plan_path: str | None, prices_in: str | None, at: datetime, config_path: str | None, *, priority: bool
) -> Till:
    """Return what tells the prices of a plan: by default in its credits, if it has any.

    Raises:
        ConfigError: The plan cannot be used, or is not in force then.
    """
    config = load(config_path)
    plan = _plan(plan_path, config)
    if prices_in == "credits" and plan.credits is None:
        raise click.UsageError(f"--in credits: the plan {plan.name} has no credits")
    if not plan.active(at):
        raise ConfigError(f"the plan {plan.name} is not in force at {at:%Y-%m-%d}")
    form: PricesIn = "money" if prices_in == "money" or plan.credits is None else "credits"
    return Till(plan, build_book(config), at, form, priority)


def _plan(plan_path: str | None, config: Config) -> Plan:
    if plan_path is not None and Path(plan_path.rpartition("#")[0] or plan_path).exists():
        return read_plan(plan_path, exchange_rates(config))
    billing = build_billing(config)
    configured = {} if billing is None else billing.plans
    if plan_path is not None:
        return configured.get(plan_path) or read_plan(plan_path)
    plan = None if billing is None else billing.plan_of(None)
    if plan is None:
        raise click.UsageError(
            f"give --plan FILE#NAME or --feed FILE, or set billing.plans (configuration: {config.origin})"
        )
    return plan
