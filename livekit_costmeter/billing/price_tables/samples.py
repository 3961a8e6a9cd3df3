"""
What an account pays for a model: found by billing a sample of its work, as live usage is billed.

A sample is 1,000 tokens of input and of output, a minute of audio, or 1,000 characters, on the platform's key and
before taxes. A model is sold in the first of these that has a price.

Invariant: what is shown is what is billed; where the plan bills by a row of its own, that row's price is shown, free of
what its pulse or minimum makes of the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal, Inexact
from urllib.parse import unquote

from livekit_costmeter.billing.bill import bill
from livekit_costmeter.billing.plans import Plan, Rule
from livekit_costmeter.billing.plans.tariffs import Converted, conversion, period_of
from livekit_costmeter.billing.price_tables.table import Price, PricesIn
from livekit_costmeter.billing.schema import CREDITS
from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.pricing.rates import measure_of, with_flags
from livekit_costmeter.records import PLATFORM, Charge, Component, UsageRecord, round_cost

SOLD_BY: Mapping[Component, tuple[tuple[str, ...], ...]] = {
    "stt": (("audio_seconds",), ("connection_seconds",)),
    "tts": (("characters",), ("output_audio_seconds",)),
    "llm": (("input_tokens", "output_tokens"),),
}
"""By which units a component's models may be sold."""

_AMOUNTS = {"messages": 1, "requests": 1}
_THOUSAND, _MINUTE = 1000, 60
_ZERO = Decimal(0)
_BILLED_IN = "billed_in"


@dataclass(frozen=True, slots=True)
class Till:
    """Tells prices as an account of a plan pays them at an instant, in credits or in money.

    `priority` puts prices with priority in the place of the usual ones.
    """

    plan: Plan
    book: PriceBook
    at: datetime
    prices_in: PricesIn
    priority: bool = False

    def of_rule(self, rule: Rule) -> Price:
        """Return the price that a row of the plan sets for as much of its unit as is shown."""
        converted = None if rule.currency == CREDITS else conversion(self.plan, self._period, rule.currency)
        flag = None if converted is None else converted.flag
        source = with_flags(self.plan.source_of(rule.id), *(() if flag is None else (flag,)))
        usual = self._asked(rule, rule.price, converted)
        if rule.priority_price is None:
            return Price(usual, None, source)
        fast = self._asked(rule, rule.priority_price, converted)
        return Price(fast, None, source) if self.priority else Price(usual, fast, source)

    def of_model(self, component: Component, provider: str, model: str) -> dict[str, Price] | None:
        """Return the price of each unit that a model is sold by, or `None` if it has no price."""
        for units in SOLD_BY[component]:
            record = _sample(component, provider, model, units, self.at)
            charges = rate(record, self.book)
            # A unit that points to another one is free because the model is sold by that.
            if any(_flag(charge, _BILLED_IN) for charge in charges):
                continue
            lines = bill(record, charges, self.plan, priority=self.priority)
            sold = [self._of_lines([line for line in lines if line.unit == unit]) for unit in units]
            found = [one for one in sold if one is not None]
            if len(found) == len(units):
                return dict(found)
        return None

    def rule_of(self, price: Price) -> Rule | None:
        """Return the row of `rates` that sets a price; `None` where none does."""
        base, _, rule_id = price.source.partition("?")[0].rpartition("#")
        return self._rule(rule_id) if base.startswith("plan:") else None

    def _of_lines(self, lines: Sequence[Charge]) -> tuple[str, Price] | None:
        """Return the price of a unit of the sample, for the rule's unit where that is another measure."""
        usage = next(line for line in lines if line.kind == "usage")
        by_rule = self._rule(_flag(usage, _BILLED_IN))
        if by_rule is not None:
            same = measure_of(by_rule.unit) == measure_of(usage.unit)
            return usage.unit if same else by_rule.unit, self.of_rule(by_rule)
        if usage.cost is None:
            return None
        parts = [line for line in lines if line.kind in ("usage", "fee")]
        amounts = [line.billed_cost if self.prices_in == "money" else line.credits for line in parts]
        if None in amounts:  # there is no exchange rate, which the source says
            return usage.unit, Price(None, None, usage.pricing_source)
        billed = sum((amount for amount in amounts if amount is not None), _ZERO)
        # A provider may bill more than was measured; the price is for what it bills.
        share = divided(usage.quantity, usage.billable_quantity) if usage.billable_quantity else Decimal(1)
        return usage.unit, Price(billed * share, None, usage.pricing_source)

    def _rule(self, rule_id: str | None) -> Rule | None:
        return next((rule for rule in self.plan.rates if rule.id == rule_id and rule.active(self.at)), None)

    def _asked(self, rule: Rule, price: Decimal, converted: Converted | None) -> Decimal | None:
        sold, owned = divided(price * amount_sold(rule.unit), rule.price_per), self.plan.credits
        if converted is None:
            return sold if self.prices_in == "credits" or owned is None else sold * owned.price
        if converted.rate is None:
            return None
        money = sold * converted.rate
        return money if self.prices_in == "money" or owned is None else divided(money, owned.price)

    @property
    def _period(self) -> int:
        return period_of(self.plan, self.at)


def amount_sold(unit: str) -> Decimal:
    """Return how much of a unit a price is shown for: 1,000 tokens or characters, a minute, one of anything else."""
    return Decimal(_MINUTE if unit.endswith("_seconds") else _AMOUNTS.get(unit, _THOUSAND))


def divided(amount: Decimal, by: Decimal) -> Decimal:
    """Divide exactly, or to 12 places where there is no end to the digits."""
    context = Context(prec=60)
    result = context.divide(amount, by)
    return round_cost(result) if context.flags[Inexact] else result


def _sample(component: Component, provider: str, model: str, units: Sequence[str], at: datetime) -> UsageRecord:
    quantities = {unit: amount_sold(unit) for unit in units}
    return UsageRecord(
        id="sample",
        at=at,
        component=component,
        provider=provider,
        model=model,
        quantities=quantities,
        operation_total=quantities,
        key_owner=PLATFORM,
    )


def _flag(charge: Charge, name: str) -> str | None:
    _, _, flags = charge.pricing_source.partition("?")
    found = (flag.partition("=") for flag in flags.split("&"))
    return next((unquote(value) for key, _, value in found if key == name), None)
