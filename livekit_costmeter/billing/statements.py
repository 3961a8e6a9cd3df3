"""
Statements: what an account is billed under one plan, by what it is billed for, exact and as the plan rounds it.

Amounts are summed exactly and rounded last: credits as the plan says, each line or the whole; money to the currency's
minor unit, half up. Where credits are rounded, money is that of the rounded credits.

Invariant: one currency. A charge in another one is refused, never converted here; what is not known is counted, never
taken for 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

from livekit_costmeter.billing.exchange import EXACT, minor_unit
from livekit_costmeter.billing.plans import Plan, Rounding
from livekit_costmeter.records import Charge, Kind

_ZERO = Decimal(0)
_MODES = {"up": "ROUND_CEILING", "down": "ROUND_FLOOR", "half_up": ROUND_HALF_UP, "half_even": ROUND_HALF_EVEN}


class MixedCurrencies(ValueError):
    """Charges that are billed in a currency which is not the plan's."""


@dataclass(frozen=True, slots=True)
class StatementLine:
    """What is billed by one rule, or passed through of one component.

    Attributes:
        rule: The rule's id; `None` is work passed through at cost.
        quantities: Billable quantities by unit.
        money: Exact, in the statement's currency.
        credits: Exact; `None` where the plan has none.
        rounded_credits: As the plan rounds lines; `None` where the plan has no credits.
    """

    kind: Kind
    rule: str | None
    component: str
    quantities: Mapping[str, Decimal]
    money: Decimal
    rounded_money: Decimal
    credits: Decimal | None
    rounded_credits: Decimal | None
    charges: int


@dataclass(frozen=True, slots=True)
class Statement:
    """What an account is billed under one plan.

    Attributes:
        money: Exact sum of the lines.
        rounded_money: As it is paid.
        credits: Exact sum of the lines; `None` where the plan has none.
        rounded_credits: As the plan rounds lines or the whole.
        unknown: How many usage lines nobody knows the bill of: no owner, no price or no exchange rate.
    """

    plan: str
    currency: str
    lines: tuple[StatementLine, ...]
    money: Decimal
    rounded_money: Decimal
    credits: Decimal | None
    rounded_credits: Decimal | None
    unknown: int


@dataclass(slots=True)
class _Sum:
    kind: Kind
    rule: str | None
    component: str
    quantities: dict[str, Decimal] = field(default_factory=dict)
    money: Decimal = _ZERO
    credits: Decimal = _ZERO
    charges: int = 0

    def add(self, charge: Charge, money: Decimal) -> None:
        before = self.quantities.get(charge.unit, _ZERO)
        self.quantities[charge.unit] = EXACT.add(before, charge.billable_quantity)
        self.money = EXACT.add(self.money, money)
        self.credits = EXACT.add(self.credits, charge.credits or _ZERO)
        self.charges += 1


def statement(charges: Iterable[Charge], plan: Plan) -> Statement:
    """Return what these charges bill under a plan, by rule, and by component where work is passed through.

    Args:
        charges: Of one account, of any period, in any order; read once.
        plan: The plan under which they were billed.

    Raises:
        MixedCurrencies: One of them is billed in another currency.
    """
    sums: dict[tuple[str, str | None, str], _Sum] = {}
    unknown = 0
    for charge in charges:
        money = charge.billed_cost
        if money is None:
            unknown += 1
            continue
        if charge.billed_currency != plan.currency:
            raise MixedCurrencies(f"a charge in {charge.billed_currency} on a statement in {plan.currency}")
        if money or charge.pricing_source.startswith("plan:"):
            rule, component = rule_of(charge), charge.component
            sums.setdefault((charge.kind, rule, component), _Sum(charge.kind, rule, component)).add(charge, money)
    lines = tuple(_line(one, plan) for one in sums.values())
    return _total(lines, plan, unknown)


def rule_of(charge: Charge) -> str | None:
    """Return the id of the plan's rule that made a charge; `None` where no plan did."""
    if not charge.pricing_source.startswith("plan:"):
        return None
    return charge.pricing_source.partition("?")[0].rpartition("#")[2]


def round_to(value: Decimal, step: Decimal, mode: str) -> Decimal:
    """Round to whole steps: `up` and `down` on the number line, `half_up` away from zero, `half_even`."""
    steps = EXACT.divide(value, step).quantize(Decimal(1), rounding=_MODES[mode], context=EXACT)
    return EXACT.multiply(steps, step)


def _line(one: _Sum, plan: Plan) -> StatementLine:
    exact = None if plan.credits is None else one.credits
    rounded = exact if exact is None else _rounded(exact, plan, "line")
    money = _money(one.money, rounded, plan)
    quantities = dict(one.quantities)
    return StatementLine(one.kind, one.rule, one.component, quantities, one.money, money, exact, rounded, one.charges)


def _total(lines: tuple[StatementLine, ...], plan: Plan, unknown: int) -> Statement:
    money, exact, rounded = _ZERO, _ZERO, _ZERO
    for line in lines:
        money = EXACT.add(money, line.money)
        exact = EXACT.add(exact, line.credits or _ZERO)
        rounded = EXACT.add(rounded, line.rounded_credits or _ZERO)
    if plan.credits is None:
        return Statement(plan.name, plan.currency, lines, money, _money(money, None, plan), None, None, unknown)
    whole = _rounded(rounded, plan, "invoice")
    return Statement(plan.name, plan.currency, lines, money, _money(money, whole, plan), exact, whole, unknown)


def _rounded(credits: Decimal, plan: Plan, per: str) -> Decimal:
    rounding = _rounding(plan)
    return credits if rounding is None or rounding.per != per else round_to(credits, rounding.step, rounding.mode)


def _money(exact: Decimal, rounded_credits: Decimal | None, plan: Plan) -> Decimal:
    if rounded_credits is not None and plan.credits is not None and _rounding(plan) is not None:
        exact = EXACT.multiply(rounded_credits, plan.credits.price)
    return round_to(exact, minor_unit(plan.currency), "half_up")


def _rounding(plan: Plan) -> Rounding | None:
    return None if plan.credits is None else plan.credits.rounding
