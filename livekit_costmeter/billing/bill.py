"""
Billing: what of a rated record its account pays, and the lines that a plan adds.

Usage lines stay as rated but for what is billed of them: nothing where the account's own key or number paid, `None`
where nobody knows whose it was; where the platform paid, the cost converted into the plan's currency (`fx=<rate>`), or
0 where another line or the fees bill the work (`billed_in=<rule>`, `included=<plan>`). Outside the plan's dates,
without an exchange rate and where work has no quantity in the measure that its rate prices, it is not known
(`unbilled=<reason>`). Rates charge what was measured, whatever became of it.

Lines come in this order: usage; for each usage line what is charged in its place, or its markup; fees; taxes.

Invariant: pure. Every line billed under a plan is in its currency. The billable seconds that a rule makes of an
operation's records add up to whole pulses of their sum; an operation that was never closed stays unrounded and says
`open=1`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from decimal import Decimal
from typing import NamedTuple

from livekit_costmeter.billing.exchange import EXACT
from livekit_costmeter.billing.lines import Entry, Flag, added, flagged, markup_entry, merged, routed, tax_entry
from livekit_costmeter.billing.plans import PassThrough, Plan
from livekit_costmeter.billing.plans.tariffs import (
    Price,
    active,
    conversion,
    period_of,
    product,
    tariff_of,
    work_of,
)
from livekit_costmeter.billing.schema import NO_PLAN
from livekit_costmeter.pricing.measures import ADDITIVE
from livekit_costmeter.records import PLATFORM, UNKNOWN, Charge, UsageRecord, round_cost

NOT_IN_FORCE = ("unbilled", "plan_not_in_force")
_NOT_MEASURED = ("unbilled", "unit")
# Their streams leave several records, each with some of the measures.
_MEASURED_APART = frozenset({"stt", "realtime"})
_PRIORITY_TIER = "priority"
_ZERO = Decimal(0)
_ONE = Decimal(1)
_NO_LABELS: Mapping[str, str] = {}


class Terms(NamedTuple):
    """What is agreed with one account; `None` is as for everybody."""

    plan: str | None = None
    priority: bool | None = None


_STANDARD = Terms()


class Billing:
    """The plans in force and who is on which.

    Args:
        plans: Their names differ.
        default: Plan of the accounts that are not listed; `None` is the first of `plans`, `none` is no plan.
        accounts: Terms by account.
        priority: Whether priority prices are for everyone.
    """

    def __init__(
        self,
        plans: Iterable[Plan],
        default: str | None = None,
        accounts: Mapping[str, Terms] | None = None,
        *,
        priority: bool = False,
    ) -> None:
        self.plans: Mapping[str, Plan] = {plan.name: plan for plan in plans}
        self.default = default if default is not None else next(iter(self.plans), NO_PLAN)
        self.accounts: Mapping[str, Terms] = dict(accounts or {})
        self.priority = priority

    def terms_of(self, account: str | None) -> tuple[Plan | None, bool]:
        """Return an account's plan, and whether its priority prices apply; `None` is an unnamed account."""
        terms = _STANDARD if account is None else self.accounts.get(account, _STANDARD)
        plan = self.plans.get(self.default if terms.plan is None else terms.plan)
        return plan, self.priority if terms.priority is None else terms.priority

    def plan_of(self, account: str | None) -> Plan | None:
        """Return an account's plan; `None` where it has none."""
        return self.terms_of(account)[0]

    def bill(self, record: UsageRecord, charges: Sequence[Charge]) -> Sequence[Charge]:
        """Apply the plan of the record's account; without one the charges stay as they are."""
        plan, priority = self.terms_of(record.account)
        return charges if plan is None else bill(record, charges, plan, priority=priority)


def bill(record: UsageRecord, charges: Sequence[Charge], plan: Plan, *, priority: bool = False) -> list[Charge]:
    """Apply a plan to a rated record.

    Args:
        record: The record that was rated.
        charges: All its lines, in order, as `pricing.rate` returns them.
        plan: The plan of the record's account.
        priority: Whether priority prices apply; they do anyway for the service tier `priority`.

    Returns:
        The usage lines with what is billed of them, then the lines that the plan adds.
    """
    if not charges:
        return []
    return _Bill(record, charges, plan, priority=priority or record.service_tier == _PRIORITY_TIER).lines()


class _Taxable(NamedTuple):
    charge: Charge
    unit_price: Decimal  # in the plan's currency
    flag: Flag | None


class _Bill:
    def __init__(self, record: UsageRecord, charges: Sequence[Charge], plan: Plan, *, priority: bool) -> None:
        at = record.started_at or record.at
        self._record = record
        self._plan = plan
        self._charges = charges
        self._total: Mapping[str, Decimal] = record.operation_total or {}
        self._period = period_of(plan, at if at.tzinfo is not None else at.replace(tzinfo=UTC))
        self._active = active(plan, self._period)
        self._tariff = tariff_of(plan, self._period, work_of(record, charges[0]), priority=priority)
        self._is_measured = self._measured()
        self._usage: list[Charge] = []
        self._added: list[Charge] = []
        self._taxable: list[_Taxable] = []

    def lines(self) -> list[Charge]:
        for charge in self._charges:
            self._route(charge)
        if self._active:
            self._close_others()
            if self._record.component == "call":
                self._charge_fees()
            if self._tariff.taxes:
                self._charge_taxes()
        return self._usage + self._added

    def _route(self, charge: Charge) -> None:
        payer = _payer(charge)
        price = self._tariff.prices.get(charge.unit)
        instead = self._tariff.replaced.get(charge.unit) if price is None else price.rule.id
        passes = self._tariff.passes
        if payer != PLATFORM:
            self._keep(charge, None if payer == UNKNOWN else _ZERO)
        elif not self._active:
            self._keep(charge, None, NOT_IN_FORCE)
        elif instead is not None and charge.quantity and not self._is_measured:
            self._keep(charge, None, ("billed_in", instead), _NOT_MEASURED)
        elif instead is not None:
            self._keep(charge, _ZERO, ("billed_in", instead))
            if price is not None:
                self._charge(price, charge.unit, charge.quantity, charge)
        elif passes is None:
            self._keep(charge, _ZERO, ("included", self._plan.name))
        else:
            self._pass(charge, passes)

    def _measured(self) -> bool:
        """Tell whether the measure that the rates price was looked at: in this work, or in another record of it."""
        record, priced = self._record, self._tariff.prices.keys() - ADDITIVE
        if not priced or record.component in _MEASURED_APART or record.outcome != "completed":
            return True
        return not priced.isdisjoint(self._total) or any(charge.unit in priced for charge in self._charges)

    def _keep(
        self,
        charge: Charge,
        billed: Decimal | None,
        *flags: Flag,
        labels: Mapping[str, str] = _NO_LABELS,
    ) -> Charge:
        source = flagged(charge.pricing_source, *flags) if flags else charge.pricing_source
        kept = routed(charge, self._plan, billed, source, labels)
        self._usage.append(kept)
        return kept

    def _pass(self, charge: Charge, passes: PassThrough) -> None:
        if not charge.cost:
            self._keep(charge, charge.cost, labels=passes.labels)
            return
        converted = conversion(self._plan, self._period, charge.currency)
        flags = () if converted.flag is None else (converted.flag,)
        if converted.rate is None:
            self._keep(charge, None, *flags, labels=passes.labels)
            return
        billed = charge.cost if converted.flag is None else round_cost(EXACT.multiply(charge.cost, converted.rate))
        kept = self._keep(charge, billed, *flags, labels=passes.labels)
        if charge.unit_price is not None:
            unit_price = product(charge.unit_price, converted.rate)
            self._taxable.append(_Taxable(kept, unit_price, converted.flag))
            if passes.markup:
                self._add(charge, markup_entry(kept, self._plan, passes, unit_price, converted.flag))

    def _close_others(self) -> None:
        """Charge what only the operation's earlier records measured, if its total is rounded."""
        if not self._total or self._record.component == "call" or _payer(self._charges[0]) != PLATFORM:
            return
        seen = {charge.unit for charge in self._charges}
        for unit, price in self._tariff.prices.items():
            if unit in self._total and unit not in seen:
                self._charge(price, unit, _ZERO, self._charges[0])

    def _charge_fees(self) -> None:
        quantities = self._record.quantities
        if self._record.outcome == "discarded" and not any(quantities.values()):
            return
        for price in self._tariff.fees:
            unit = price.rule.unit
            if price.rule.per == "call":
                quantity = _ONE if _begins(self._record) else _ZERO
            else:
                quantity = quantities.get(unit, _ZERO)
            like = next((charge for charge in self._charges if charge.unit == unit), self._charges[0])
            self._charge(price, unit, quantity, like)

    def _charge(self, price: Price, unit: str, quantity: Decimal, like: Charge) -> None:
        billable, source = self._billable(price, unit, quantity)
        if not quantity and not billable:
            return
        entry = Entry(
            kind="fee",
            source=source,
            digest=price.rule.digest,
            unit=unit,
            quantity=quantity,
            billable=billable,
            unit_price=price.unit_price,
            price_per=price.rule.price_per,
            labels=merged(like.labels, price.rule.labels),
            in_credits=price.in_credits,
        )
        self._add(like, entry)

    def _billable(self, price: Price, unit: str, quantity: Decimal) -> tuple[Decimal, str]:
        if price.rule.pulse is None and not price.rule.minimum:
            return quantity, price.source
        total = self._total.get(unit)
        if total is None:
            if self._record.operation_id is not None or self._record.operation_total is not None:
                return quantity, price.open_source
            total = quantity
        before = EXACT.subtract(total, quantity)
        return EXACT.subtract(price.billable(total), before), price.source

    def _charge_taxes(self) -> None:
        for taxed in tuple(self._taxable):
            for tax in self._tariff.taxes:
                if taxed.charge.kind in tax.on and taxed.charge.billed_cost:
                    self._add(taxed.charge, tax_entry(taxed.charge, self._plan, tax, taxed.unit_price, taxed.flag))

    def _add(self, like: Charge, entry: Entry) -> None:
        line = len(self._charges) + len(self._added)
        charge = added(like, self._plan, line, entry)
        self._added.append(charge)
        if entry.unit_price is not None and entry.kind != "tax":
            self._taxable.append(_Taxable(charge, entry.unit_price, None))


def _payer(charge: Charge) -> str:
    """Tell who paid the provider: `platform`, `unknown`, or the owner's name, whose bill it then is not."""
    if UNKNOWN in (charge.key_owner, charge.billed_by):
        return UNKNOWN
    return PLATFORM if charge.billed_by == PLATFORM else charge.key_owner


def _begins(record: UsageRecord) -> bool:
    """Tell whether a call begins with this record: at its answer, or because it is a whole call."""
    seconds = record.quantities.get("call_seconds")
    if seconds is None:
        return False
    state = record.attributes.get("state")
    if state is not None:
        return bool(state == "opened")
    total = record.operation_total
    whole = record.operation_id is None if total is None else total.get("call_seconds") == seconds
    return whole and bool(seconds)
