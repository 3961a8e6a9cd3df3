"""
What a plan charges for one kind of work in one period: decided once, then looked up for every record.

Invariant: pure. Between two turns of a plan nothing in a tariff changes, so the answer is remembered for the period.
Prices are in the plan's currency; one that cannot be converted is not known, and its source says so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from livekit_costmeter.billing.exchange import EXACT
from livekit_costmeter.billing.plans.plan import Plan
from livekit_costmeter.billing.plans.rules import PassThrough, Rule, Tax
from livekit_costmeter.billing.schema import CREDITS
from livekit_costmeter.pricing.measures import ADDITIVE
from livekit_costmeter.pricing.rates import measure_of, with_flags
from livekit_costmeter.records import PARENT_UNIT, UNIT_ORDER, Charge, UsageRecord, decimal_text

NO_EXCHANGE_RATE = ("unbilled", "no_exchange_rate")
"""The flag of a line that is not billed because its currency has no rate at that time."""

# As many places as every store of charges keeps of a unit price.
_PLACES = Decimal("1e-18")
_ALWAYS = datetime.min.replace(tzinfo=UTC)


class Work(NamedTuple):
    """All that selects a rule besides the time: canonical provider, and every name of the model, in lower case.

    `number_type` and `leg` are those of calls.
    """

    component: str
    provider: str
    models: tuple[str, ...]
    number_type: str | None = None
    leg: str = "primary"


class Price(NamedTuple):
    """A rule in one period.

    Attributes:
        unit_price: In the plan's currency; `None` without an exchange rate.
        in_credits: The same in credits, where the rule is priced in them.
        source: Source string of its lines.
        open_source: The same for an operation that was never closed.
    """

    rule: Rule
    unit_price: Decimal | None
    in_credits: Decimal | None
    source: str
    open_source: str

    def billable(self, total: Decimal) -> Decimal:
        """Return what is billed for a whole operation: nothing for nothing, else whole pulses, and the minimum."""
        if not total:
            return total
        pulse = self.rule.pulse
        if pulse is not None:
            whole, rest = EXACT.divmod(total, pulse)
            total = EXACT.multiply(EXACT.add(whole, 1) if rest else whole, pulse)
        return max(total, self.rule.minimum)


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a plan charges for one kind of work in one period.

    Attributes:
        prices: What replaces the provider's cost, by unit.
        replaced: Units whose cost is included in another unit's price, with that rule's id.
        fees: The platform's own charges.
        passes: How what has no price is billed; `None` where the fees include it.
        taxes: What goes on top.
    """

    prices: Mapping[str, Price]
    replaced: Mapping[str, str]
    fees: tuple[Price, ...]
    passes: PassThrough | None
    taxes: tuple[Tax, ...]


class Converted(NamedTuple):
    """How money of one currency becomes money of the plan's in one period; `rate` is `None` where it cannot."""

    rate: Decimal | None
    flag: tuple[str, str] | None


def work_of(record: UsageRecord, charge: Charge) -> Work:
    """Return what selects the rules for a record; `charge` is any of its usage lines."""
    names = (charge.model, record.model, record.reported_model)
    if record.component != "call":
        return _remembered_work(record.component, charge.provider, names)
    number_type, leg = (record.attributes.get(name) for name in ("number_type", "leg"))
    return _remembered_work("call", charge.provider, names, _text(number_type), _text(leg) or "primary")


def period_of(plan: Plan, at: datetime) -> int:
    """Return the number of the period that an aware instant is in; nothing of the plan changes within one."""
    return bisect_right(plan.turns, at)


def active(plan: Plan, period: int) -> bool:
    """Tell whether the plan is in force in a period."""
    return plan.active(_start(plan, period))


@lru_cache(maxsize=8192)
def tariff_of(plan: Plan, period: int, work: Work, *, priority: bool) -> Tariff:
    """Return what the plan charges for this work in a period."""
    at = _start(plan, period)
    rules = _calls(plan, work, at) if work.component == "call" else _rates(plan, work, at)
    prices = {unit: _price(plan, rule, at, unit, priority=priority) for unit, rule in rules.items()}
    return Tariff(
        prices=prices,
        replaced={} if work.component == "call" else _replaced(rules),
        fees=tuple(_price(plan, rule, at, rule.unit, priority=priority) for rule in _fees(plan, work, at)),
        passes=plan.passes(work.component),
        taxes=tuple(tax for tax in plan.taxes if tax.active(at)),
    )


@lru_cache(maxsize=1024)
def conversion(plan: Plan, period: int, currency: str | None) -> Converted:
    """Return how an amount in a currency is billed in a period."""
    if currency == plan.currency:
        return Converted(Decimal(1), None)
    rate = None if currency is None else plan.exchange.rate(currency, plan.currency, _start(plan, period))
    return Converted(None, NO_EXCHANGE_RATE) if rate is None else Converted(rate.rate, ("fx", rate.tag))


def product(*factors: Decimal) -> Decimal:
    """Return a unit price: the product, rounded half-even to the places that stores keep."""
    result = Decimal(1)
    for factor in factors:
        result = EXACT.multiply(result, factor)
    exact = result.normalize(EXACT)
    return exact.quantize(_PLACES, context=EXACT).normalize(EXACT) if _finer(exact) else exact


def _finer(value: Decimal) -> bool:
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent < -18  # noqa: PLR2004 - the places above


def _start(plan: Plan, period: int) -> datetime:
    return plan.turns[period - 1] if period else _ALWAYS


def _price(plan: Plan, rule: Rule, at: datetime, unit: str, *, priority: bool) -> Price:
    flags: list[tuple[str, str]] = [] if unit == rule.unit else [("parent", rule.unit)]
    flags += [] if rule.pulse is None else [("pulse", decimal_text(rule.pulse))]
    flags += [("minimum", decimal_text(rule.minimum))] if rule.minimum else []
    price = rule.price
    if priority and rule.priority_price is not None:
        price = rule.priority_price
        flags.append(("priority", "1"))
    in_credits, unit_price = None, None
    if rule.currency == CREDITS:
        in_credits, unit_price = price, product(price, plan.credits.price) if plan.credits else None
    else:
        converted = conversion(plan, period_of(plan, at), rule.currency)
        unit_price = None if converted.rate is None else product(price, converted.rate)
        flags += [] if converted.flag is None else [converted.flag]
    source = with_flags(plan.source_of(rule.id), *flags)
    return Price(rule, unit_price, in_credits, source, with_flags(source, ("open", "1")))


def _rates(plan: Plan, work: Work, at: datetime) -> dict[str, Rule]:
    about = [
        rule
        for rule in plan.rates
        if rule.component == work.component and rule.active(at) and rule.matches(work.provider, work.models)
    ]
    about.sort(key=lambda rule: rule.rank, reverse=True)
    own: dict[str, Rule] = {}
    for rule in _of_the_best(about):
        own.setdefault(rule.unit, rule)
    found = {unit: _inherited(own, unit) for unit in UNIT_ORDER}
    return {unit: rule for unit, rule in found.items() if rule is not None}


def _of_the_best(rules: Sequence[Rule]) -> list[Rule]:
    """Drop what prices the work in another measure than its most specific rules do: it would be billed twice."""
    of_work = [rule for rule in rules if rule.unit not in ADDITIVE]
    best = {measure_of(rule.unit) for rule in of_work if rule.rank == of_work[0].rank}
    return [rule for rule in rules if rule.unit in ADDITIVE or measure_of(rule.unit) in best]


def _inherited(own: Mapping[str, Rule], unit: str) -> Rule | None:
    name: str | None = unit
    while name is not None and name not in own:
        name = PARENT_UNIT.get(name)
    return None if name is None else own[name]


def _replaced(rules: Mapping[str, Rule]) -> dict[str, str]:
    measures = {measure_of(unit): rule.id for unit, rule in rules.items() if unit not in ADDITIVE}
    if not measures:
        return {}
    instead = next(iter(measures.values()))
    return {unit: instead for unit in UNIT_ORDER if unit not in ADDITIVE and measure_of(unit) not in measures}


def _calls(plan: Plan, work: Work, at: datetime) -> dict[str, Rule]:
    about = (rule for rule in _on_channel(plan.telephony, work, at) if rule.number_type in (None, work.number_type))
    best = max(about, key=lambda rule: rule.rank, default=None)
    return {} if best is None else {best.unit: best}


def _fees(plan: Plan, work: Work, at: datetime) -> list[Rule]:
    if work.component != "call":
        return []
    return [rule for rule in _on_channel(plan.fees, work, at) if rule.legs == "all" or work.leg != "transfer"]


def _on_channel(rules: Iterable[Rule], work: Work, at: datetime) -> list[Rule]:
    return [
        rule
        for rule in rules
        if rule.active(at)
        and rule.matches(work.provider, ("",))
        and (rule.channels is None or rule.channels.intersection(work.models))
    ]


@lru_cache(maxsize=8192)
def _remembered_work(
    component: str,
    provider: str,
    names: tuple[str | None, ...],
    number_type: str | None = None,
    leg: str = "primary",
) -> Work:
    models = dict.fromkeys(name.lower() for name in names if name)
    return Work(component, provider.lower(), tuple(models), number_type, leg)


def _text(value: object) -> str | None:
    return value.lower() if isinstance(value, str) else None
