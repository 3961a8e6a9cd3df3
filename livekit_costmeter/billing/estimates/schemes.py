"""
How estimated calls are billed: at cost, by one plan, or by the plan of each account.

Invariant: by the functions that bill live usage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from livekit_costmeter.billing.bill import Billing, bill
from livekit_costmeter.billing.plans import Plan
from livekit_costmeter.records import Charge, UsageRecord

Bill = Callable[[UsageRecord, Sequence[Charge]], Sequence[Charge]]
Convert = Callable[[str, Decimal], "tuple[str, Decimal] | None"]


def _unchanged(currency: str, amount: Decimal) -> tuple[str, Decimal]:
    return currency, amount


@dataclass(frozen=True, slots=True)
class Scheme:
    """How calls are billed.

    `plan` is the one that all calls have; `None` is no plan, or one for each account. `fees` are the ids of the plan's
    own fees. `convert` turns an amount into the currency of the bill, or returns `None` where there is no rate.
    """

    plan: Plan | None
    bill: Bill
    fees: frozenset[str] = frozenset()
    convert: Convert = _unchanged


def at_cost() -> Scheme:
    """Return the scheme without a plan: what the platform's keys cost is passed on."""
    return Scheme(None, _as_rated)


def by_plan(plan: Plan, at: datetime, *, priority: bool = False) -> Scheme:
    """Return the scheme of one plan, with its exchange rates at an instant."""

    def bill_by_plan(record: UsageRecord, charges: Sequence[Charge]) -> Sequence[Charge]:
        return bill(record, charges, plan, priority=priority)

    return Scheme(plan, bill_by_plan, _fees([plan]), _conversion(plan, at))


def by_account(billing: Billing, at: datetime, *, priority: bool = False) -> Scheme:
    """Return the scheme that bills each record by the plan of its account; `priority` is for all of them."""

    def bill_by_account(record: UsageRecord, charges: Sequence[Charge]) -> Sequence[Charge]:
        plan = billing.plan_of(record.account)
        return charges if plan is None else bill(record, charges, plan, priority=True)

    plans = list(billing.plans.values())
    convert = _conversion(plans[0], at) if len({plan.currency for plan in plans}) == 1 else _unchanged
    return Scheme(None, bill_by_account if priority else billing.bill, _fees(plans), convert)


def _fees(plans: Iterable[Plan]) -> frozenset[str]:
    return frozenset(rule.id for plan in plans for rule in plan.fees)


def _conversion(plan: Plan, at: datetime) -> Convert:
    def convert(currency: str, amount: Decimal) -> tuple[str, Decimal] | None:
        rate = plan.exchange.rate(currency, plan.currency, at)
        return None if rate is None else (plan.currency, amount * rate.rate)

    return convert


def _as_rated(_record: UsageRecord, charges: Sequence[Charge]) -> Sequence[Charge]:
    return charges
