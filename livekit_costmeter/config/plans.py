"""
From a `Config` to billing: plan files, exchange rates, and which account is on which plan.

Invariant: a mistake in a plan is reported in the plan's own file, one in who has it in the configuration. Nothing of
billing is imported without a `billing` section.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from livekit_costmeter.config import Config
from livekit_costmeter.config.document import ConfigError, Document, read_document

if TYPE_CHECKING:
    from livekit_costmeter.billing.bill import Billing
    from livekit_costmeter.billing.exchange import ExchangeRates
    from livekit_costmeter.billing.plans import Plan
    from livekit_costmeter.billing.schema import PlanModel
    from livekit_costmeter.config.document import Location


def read_plan(reference: str | os.PathLike[str], exchange: ExchangeRates | None = None) -> Plan:
    """Read one plan.

    Args:
        reference: `FILE` for its first plan, or `FILE#NAME`.
        exchange: Rates that the plan need not state itself.

    Raises:
        ConfigError: The first mistake in the file, or it has no plan of that name.
    """
    from livekit_costmeter.billing.plans import Plan
    from livekit_costmeter.billing.plans.mistakes import find_mistake

    text = os.fspath(reference)
    file, _, name = text.rpartition("#") if "#" in text else (text, "", "")
    document = read_document(Path(file))
    location, model = _choose(document, _plans(document), name)
    mistake = find_mistake(model, exchange)
    if mistake is not None:
        raise document.error((*location, *mistake.location), mistake.message)
    return Plan.from_model(model, document.digest, exchange)


def _plans(document: Document) -> list[tuple[Location, PlanModel]]:
    from livekit_costmeter.billing.schema import PlanFileModel, PlanModel

    if not isinstance(document.data, dict):
        raise document.error((), "expected a mapping of keys: one plan, or `plans` with a list of them")
    if "plans" not in document.data:
        return [((), document.validate(PlanModel))]
    plans = document.validate(PlanFileModel).plans
    names: list[str] = []
    for number, plan in enumerate(plans):
        if plan.name in names:
            raise document.error(("plans", number, "name"), f"a second plan named {plan.name}")
        names.append(plan.name)
    return [(("plans", number), plan) for number, plan in enumerate(plans)]


def _choose(document: Document, plans: list[tuple[Location, PlanModel]], name: str) -> tuple[Location, PlanModel]:
    for location, model in plans:
        if name in ("", model.name):
            return location, model
    known = ", ".join(model.name for _, model in plans)
    raise ConfigError(f"{document.path}: no plan named {name!r} (it has: {known})")


def exchange_rates(config: Config) -> ExchangeRates:
    """Return the exchange rates of the configuration.

    Raises:
        ConfigError: The first mistake.
    """
    from livekit_costmeter.billing.exchange import ExchangeRates
    from livekit_costmeter.billing.plans import exchange_rows
    from livekit_costmeter.billing.plans.mistakes import repeated_rates
    from livekit_costmeter.billing.schema import ExchangeRateModel

    billing, document = config.settings.billing, config.document
    if billing is None or document is None:
        return ExchangeRates()
    rows = [
        document.validate(ExchangeRateModel, row, ("billing", "exchange_rates", number))
        for number, row in enumerate(billing.exchange_rates)
    ]
    for mistake in repeated_rates(rows):
        raise document.error(("billing", *mistake.location), mistake.message)
    return ExchangeRates(exchange_rows(rows))


def build_billing(config: Config) -> Billing | None:
    """Return the configured plans and who is on which; `None` without a `billing` section.

    Raises:
        ConfigError: The first mistake.
    """
    settings = config.settings.billing
    if settings is None:
        return None
    from livekit_costmeter.billing.bill import Billing, Terms

    exchange = exchange_rates(config)
    plans: dict[str, Plan] = {}
    for number, reference in enumerate(settings.plans):
        plan = read_plan(config.directory / reference, exchange)
        if plan.name in plans:
            raise config.error(("billing", "plans", number), f"a second plan named {plan.name}")
        plans[plan.name] = plan
    _check_name(config, ("billing", "default"), settings.default, plans)
    for account, terms in settings.accounts.items():
        _check_name(config, ("billing", "accounts", account), terms.plan, plans)
    accounts = {account: Terms(terms.plan, terms.priority) for account, terms in settings.accounts.items()}
    return Billing(plans.values(), settings.default, accounts, priority=settings.priority)


def check_billing(config: Config) -> None:
    """Refuse plans that cannot be used, and accounts on plans that are not there."""
    build_billing(config)


def _check_name(config: Config, location: Location, name: str | None, plans: dict[str, Plan]) -> None:
    from livekit_costmeter.billing.schema import NO_PLAN

    if name is not None and name != NO_PLAN and name not in plans:
        raise config.error(location, f"no plan named {name!r} (allowed: {', '.join((*plans, NO_PLAN))})")
