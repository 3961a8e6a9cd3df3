"""
A plan, ready for billing, and the source that each of its lines names.

Invariant: immutable, and the same file gives the same plan. A source string is `plan:<name>@<digest of the
file>#<rule id>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from livekit_costmeter.billing.exchange import ExchangeRate, ExchangeRates
from livekit_costmeter.billing.plans.rules import (
    ANY,
    Credits,
    PassThrough,
    Rule,
    Tax,
    credits_of,
    edge,
    fee_rule,
    pass_through_of,
    rate_rule,
    tax_of,
    telephony_rule,
    within,
)
from livekit_costmeter.billing.schema import ExchangeRateModel, PassThroughModel, PlanModel


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a platform charges an account.

    Attributes:
        currency: ISO 4217; every billed line is in it.
        billed_by: Who sends the bill.
        digest: Identifies the file's content in every source string.
        pass_through: What is billed at cost, by component or `*`.
        exchange: The rates of the plan, then those of the configuration.
        turns: The instants at which anything of this changes, in order.
    """

    name: str
    description: str
    currency: str
    billed_by: Literal["platform", "livekit"]
    digest: str
    start: datetime | None
    end: datetime | None
    credits: Credits | None
    pass_through: Mapping[str, PassThrough]
    rates: tuple[Rule, ...]
    telephony: tuple[Rule, ...]
    fees: tuple[Rule, ...]
    taxes: tuple[Tax, ...]
    exchange: ExchangeRates
    turns: tuple[datetime, ...] = field(init=False)

    def __post_init__(self) -> None:
        dates = [(self.start, self.end), *((rule.start, rule.end) for rule in self.rules)]
        dates += [(tax.start, tax.end) for tax in self.taxes]
        turns = {edge for span in dates for edge in span if edge is not None} | self.exchange.starts()
        object.__setattr__(self, "turns", tuple(sorted(turns)))

    @classmethod
    def from_model(cls, model: PlanModel, digest: str, exchange: ExchangeRates | None = None) -> Plan:
        """Build a plan from its validated row; `exchange` is asked for what the plan has no rate for."""
        entries = (PassThroughModel(component="*"),) if model.pass_through is None else model.pass_through
        return cls(
            name=model.name,
            description=model.description,
            currency=model.currency,
            billed_by=model.billed_by,
            digest=digest,
            start=edge(model.effective_from),
            end=edge(model.effective_to),
            credits=None if model.credits is None else credits_of(model.credits),
            pass_through=MappingProxyType({entry.component: pass_through_of(entry) for entry in entries}),
            rates=tuple(rate_rule(row, model.currency_of(row)) for row in model.rates),
            telephony=tuple(telephony_rule(row, model.currency_of(row)) for row in model.telephony),
            fees=tuple(fee_rule(row, model.currency_of(row)) for row in model.fees),
            taxes=tuple(tax_of(row) for row in model.taxes),
            exchange=ExchangeRates(exchange_rows(model.exchange_rates), exchange),
        )

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule: rates, telephony, fees."""
        return (*self.rates, *self.telephony, *self.fees)

    def source_of(self, rule_id: str) -> str:
        """Return the source that a rule's lines name, without flags."""
        return f"plan:{self.name}@{self.digest}#{rule_id}"

    def active(self, at: datetime) -> bool:
        """Tell whether the plan is in force at an aware instant."""
        return within(self.start, self.end, at)

    def passes(self, component: str) -> PassThrough | None:
        """Return how a component is passed through, or `None` where the fees include it."""
        return self.pass_through.get(component) or self.pass_through.get(ANY)


def exchange_rows(rows: Sequence[ExchangeRateModel]) -> list[ExchangeRate]:
    """Return the exchange rates that rows of a file state."""
    return [ExchangeRate.of(row.from_currency, row.to_currency, row.rate, row.effective_from) for row in rows]
