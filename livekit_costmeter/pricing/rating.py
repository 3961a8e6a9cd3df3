"""
Rating: a usage record becomes one charge line per unit.

Invariant: pure. The same record and book give the same lines; each line's cost is billable quantity x price, rounded
once, and is `None`, never zero, where the price is not known. The billable quantities of an operation's records add up
to what its provider's policy makes of the total; one that was never closed stays as measured and says `open=1`. A
record of no operation is a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from livekit_costmeter.pricing.book import Offers, PriceBook, Query
from livekit_costmeter.pricing.measures import Step, plan
from livekit_costmeter.pricing.policies import Policy
from livekit_costmeter.pricing.rates import with_flags
from livekit_costmeter.records import (
    PLATFORM,
    UNIT_ORDER,
    UNKNOWN,
    BilledBy,
    Charge,
    PricingStatus,
    UsageRecord,
    decimal_text,
    make_charge,
    round_cost,
)

_ZERO = Decimal(0)
_ONE = Decimal(1)


class _Priced(NamedTuple):
    """The half of a charge that comes from the price."""

    status: PricingStatus
    source: str
    billable: Decimal
    unit_price: Decimal | None = None
    price_per: Decimal | None = None
    cost: Decimal | None = None
    currency: str | None = None
    digest: str | None = None
    stale: bool = False


# What the size of a request is made of, for tiers by context length.
_INPUT_SIDE = tuple(unit for unit in UNIT_ORDER if unit.endswith("_tokens") and ("input" in unit or "cache" in unit))


def rate(record: UsageRecord, book: PriceBook) -> list[Charge]:
    """Price a usage record.

    Returns:
        One charge per unit of the record, in the order of the unit list, `line` from 0, and one for a unit of which
        only the operation's earlier records measured anything, if its total is rounded. A record without quantities
        has no lines.
    """
    at = _aware(record.started_at or record.at)
    offers = book.offers(Query.of(record), at)
    units = tuple(sorted(_units(record, offers.policy), key=UNIT_ORDER.__getitem__))
    used = frozenset(unit for unit, amount in record.quantities.items() if amount)
    without_tokens = bool(record.attributes) and record.attributes.get("tokens") == "unreported"
    steps = _remembered_plan(_ByIdentity(offers), record.component, units, used, without_tokens)
    billed_by = _billed_by(record.key_owner, offers.identity.provider, book.billed_by)
    return [_charge(record, line, step, offers, billed_by) for line, step in enumerate(steps)]


def _units(record: UsageRecord, policy: Policy | None) -> set[str]:
    units = set(record.quantities)
    if units and policy is not None and policy.unit is not None and policy.unit not in units:
        total = (record.operation_total or {}).get(policy.unit, _ZERO)
        if policy.billable(policy.unit, total, record.outcome) != total:
            units.add(policy.unit)
    return units


class _ByIdentity:
    """Hash an answer by the object, which lives as long as the key does: its content is not hashable."""

    __slots__ = ("offers",)

    def __init__(self, offers: Offers) -> None:
        self.offers = offers

    def __hash__(self) -> int:
        return id(self.offers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and other.offers is self.offers


@lru_cache(maxsize=8192)
def _remembered_plan(
    key: _ByIdentity, component: str, units: tuple[str, ...], used: frozenset[str], without_tokens: bool
) -> tuple[Step, ...]:
    return plan(key.offers, component, units, used, without_tokens=without_tokens)


def _charge(record: UsageRecord, line: int, step: Step, offers: Offers, billed_by: BilledBy) -> Charge:
    identity = offers.identity
    quantity = record.quantities.get(step.unit, _ZERO)
    priced = _price(record, step, quantity, offers.policy)
    billed_cost = billed_at_cost(priced.cost, record.key_owner, billed_by)
    return make_charge(
        record_id=record.id,
        line=line,
        kind="usage",
        at=record.at,
        started_at=record.started_at,
        component=record.component,
        outcome=record.outcome,
        provider=identity.provider,
        model=identity.model,
        reported_provider=_reported(record.reported_provider, record.provider, identity.provider),
        reported_model=_reported(record.reported_model, record.model, identity.model),
        operation_id=record.operation_id,
        unit=step.unit,
        quantity=quantity,
        quantity_basis=record.basis.get(step.unit, "reported"),
        billable_quantity=priced.billable,
        unit_price=priced.unit_price,
        price_per=priced.price_per,
        cost=priced.cost,
        currency=priced.currency,
        pricing_status=priced.status,
        pricing_source=priced.source,
        price_digest=priced.digest,
        stale=priced.stale,
        key_id=record.key_id,
        key_owner=record.key_owner,
        billed_by=billed_by,
        billed_cost=billed_cost,
        billed_currency=None if billed_cost is None else priced.currency,
        credits=None,
        account=record.account,
        project=record.project,
        # In one order everywhere: not every store keeps the order it was given.
        labels=dict(sorted(record.labels.items())) if len(record.labels) > 1 else record.labels,
        session_id=record.session_id,
        job_id=record.job_id,
        room=record.room,
        agent=record.agent,
        participant=record.participant,
        speech_id=record.speech_id,
        corrects=None,
    )


def _price(record: UsageRecord, step: Step, quantity: Decimal, policy: Policy | None) -> _Priced:
    rate = step.rate
    if rate is None:
        return _Priced("unpriced", step.source, quantity)
    if step.status == "billed_elsewhere":
        return _Priced("free", step.source, _ZERO, _ZERO, _ONE, _ZERO, rate.currency, rate.digest)
    billable, source = (quantity, step.source) if policy is None else _billable(record, step, quantity, policy)
    unit_price, tier = rate.price_at(_size(record, step.unit)) if rate.tiers else (rate.unit_price, None)
    if tier is not None:
        source = with_flags(source, ("above", decimal_text(tier.above)))
    cost = round_cost(rate.cost(billable, unit_price))
    forgiven = policy is not None and record.outcome in policy.free and not billable
    status: PricingStatus = "priced" if unit_price and not forgiven else "free"
    return _Priced(status, source, billable, unit_price, rate.price_per, cost, rate.currency, rate.digest, rate.stale)


def _billable(record: UsageRecord, step: Step, quantity: Decimal, policy: Policy) -> tuple[Decimal, str]:
    free = record.outcome in policy.free
    if not free and not policy.counts(step.unit):
        return quantity, step.source
    total = (record.operation_total or {}).get(step.unit)
    whole = record.operation_id is None and record.operation_total is None
    if total is None and not free and not whole:
        # Not the operation's last record, or one that never had a last record: the policy cannot be applied.
        return quantity, with_flags(step.source, ("policy", policy.tag), ("open", "1"))
    billable = policy.closing(step.unit, quantity, quantity if total is None else total, record.outcome)
    if billable == quantity:
        return quantity, step.source
    return billable, with_flags(step.source, ("policy", policy.tag))


def _size(record: UsageRecord, unit: str) -> Decimal:
    amounts = {**record.quantities, **(record.operation_total or {})}
    if not unit.endswith("_tokens"):
        return amounts[unit]
    return sum((amounts.get(name, _ZERO) for name in _INPUT_SIDE), _ZERO)


def _billed_by(owner: str, provider: str, configured: Mapping[str, BilledBy]) -> BilledBy:
    if owner in configured:
        return configured[owner]
    if provider == "livekit":
        return "livekit"
    if owner == UNKNOWN:
        return "unknown"
    return "platform" if owner == PLATFORM else "provider"


def billed_at_cost(cost: Decimal | None, owner: str, billed_by: BilledBy) -> Decimal | None:
    """Return what an account is billed where there is no plan: the cost of the platform's keys, 0 for its own."""
    if owner == UNKNOWN or billed_by == "unknown":
        return None
    return cost if owner == PLATFORM or billed_by == "platform" else _ZERO


def _reported(reported: str | None, given: str, canonical: str) -> str | None:
    return given if reported is None and given != canonical else reported


def _aware(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
