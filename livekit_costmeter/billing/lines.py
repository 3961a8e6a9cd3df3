"""
The lines of a bill: a usage line with what is billed of it, and lines that a plan adds to it.

Invariant: who did the work, when, for whom and on whose key is copied, never decided here. `cost` of an added line is
billable quantity x unit price / price per, rounded once; all its money is in the plan's currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from livekit_costmeter.billing.exchange import EXACT
from livekit_costmeter.billing.plans import Credits, PassThrough, Plan, Tax
from livekit_costmeter.billing.plans.tariffs import product
from livekit_costmeter.pricing.rates import with_flags
from livekit_costmeter.records import (
    CHARGE_FIELDS,
    Charge,
    Kind,
    PricingStatus,
    decimal_text,
    make_charge,
    round_cost,
)

_ONE = Decimal(1)
_values = attrgetter(*CHARGE_FIELDS)
_POSITION = {name: position for position, name in enumerate(CHARGE_FIELDS)}


Flag = tuple[str, str]
flagged = lru_cache(maxsize=8192)(with_flags)
"""Append flags to a source, as `with_flags`: the same few come again and again."""


class Entry(NamedTuple):
    """What makes an added line.

    Attributes:
        unit_price: In the plan's currency; `None` is not known.
        in_credits: The same in credits, where that is what the plan states.
    """

    kind: Kind
    source: str
    digest: str
    unit: str
    quantity: Decimal
    billable: Decimal
    unit_price: Decimal | None
    price_per: Decimal
    labels: Mapping[str, str]
    in_credits: Decimal | None = None


def changed(charge: Charge, **values: Any) -> Charge:
    """Return a copy of a charge with other values in some fields."""
    copied = list(_values(charge))
    for name, value in values.items():
        copied[_POSITION[name]] = value
    return make_charge(*copied)


def routed(charge: Charge, plan: Plan, billed: Decimal | None, source: str, labels: Mapping[str, str]) -> Charge:
    """Return a usage line with what is billed of it; the line itself where that is what it says already."""
    as_it_is = plan.credits is None and not labels and source is charge.pricing_source
    if as_it_is and (billed, plan.currency) == (charge.billed_cost, charge.billed_currency):
        return charge
    return changed(
        charge,
        pricing_source=source,
        billed_cost=billed,
        billed_currency=None if billed is None else plan.currency,
        credits=_credits(billed, plan.credits),
        labels=merged(charge.labels, labels),
    )


def added(like: Charge, plan: Plan, line: int, entry: Entry) -> Charge:
    """Return the line that a plan adds, for the work of another one."""
    cost = None if entry.unit_price is None else amount(entry.billable, entry.unit_price, entry.price_per)
    known = cost is not None
    return changed(
        like,
        line=line,
        kind=entry.kind,
        unit=entry.unit,
        quantity=entry.quantity,
        billable_quantity=entry.billable,
        unit_price=entry.unit_price,
        price_per=entry.price_per if known else None,
        cost=cost,
        currency=plan.currency if known else None,
        pricing_status=_status(entry.unit_price),
        pricing_source=entry.source,
        price_digest=entry.digest,
        stale=False,
        billed_by=plan.billed_by,
        billed_cost=cost,
        billed_currency=plan.currency if known else None,
        credits=_credits(cost, plan.credits)
        if entry.in_credits is None
        else amount(entry.billable, entry.in_credits, entry.price_per),
        labels=entry.labels,
        corrects=None,
    )


def markup_entry(charge: Charge, plan: Plan, passes: PassThrough, unit_price: Decimal, fx: Flag | None) -> Entry:
    """Return the markup on a line that is passed through; `unit_price` is in the plan's currency, `fx` says how."""
    flags = (("markup", decimal_text(passes.markup)), *(() if fx is None else (fx,)))
    source = flagged(plan.source_of(f"markup-{charge.component}"), *flags)
    return _mirror(charge, "fee", source, passes.digest, product(unit_price, passes.markup), charge.labels)


def tax_entry(charge: Charge, plan: Plan, tax: Tax, unit_price: Decimal, fx: Flag | None) -> Entry:
    """Return a tax on a line; `unit_price` is the line's in the plan's currency, `fx` says how it came there."""
    source = flagged(plan.source_of(tax.id), *(() if fx is None else (fx,)))
    labels = merged(charge.labels, tax.labels)
    return _mirror(charge, "tax", source, tax.digest, product(unit_price, tax.rate), labels)


def _mirror(
    charge: Charge, kind: Kind, source: str, digest: str, unit_price: Decimal, labels: Mapping[str, str]
) -> Entry:
    return Entry(
        kind=kind,
        source=source,
        digest=digest,
        unit=charge.unit,
        quantity=charge.quantity,
        billable=charge.billable_quantity,
        unit_price=unit_price,
        price_per=charge.price_per or _ONE,
        labels=labels,
    )


def amount(billable: Decimal, unit_price: Decimal, price_per: Decimal) -> Decimal:
    """Return what a quantity costs, rounded once."""
    return round_cost(EXACT.divide(EXACT.multiply(billable, unit_price), price_per))


def merged(labels: Mapping[str, str], more: Mapping[str, str]) -> Mapping[str, str]:
    """Return labels with others put over them, in order of their names."""
    return dict(sorted({**labels, **more}.items())) if more else labels


def _credits(money: Decimal | None, credits: Credits | None) -> Decimal | None:
    if money is None or credits is None:
        return None
    return round_cost(EXACT.divide(money, credits.price))


def _status(unit_price: Decimal | None) -> PricingStatus:
    if unit_price is None:
        return "unpriced"
    return "priced" if unit_price else "free"
