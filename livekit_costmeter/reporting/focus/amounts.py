"""
What a charge costs, in the terms of FOCUS.

Invariant: the four costs are never null, as the specification demands, and never an invention: what a cost would need
and is not known is 0 here and null in its custom column (`x_ProviderEstimatedCost`, `x_BilledCost`), with
`x_PricingStatus` `unpriced` or `x_BilledBy` `unknown` beside it. `ListUnitPrice` x `PricingQuantity` is `ListCost` to
12 places; where that cannot be had, the row has no unit price, hence no `SkuPriceId` and no quantities.

- `BilledCost` is what the platform puts on the bill; 0 where the provider sends it, because a file must not bill what
  its writer does not invoice.
- `ListCost` and `ContractedCost` are what the provider charges by the rate that was found, of which there is only one.
- `EffectiveCost` equals `BilledCost`; read leniently (as in 1.2) it is the provider's cost where an account's own key
  paid.
- `BillingCurrency` is that of the bill. Where nothing is billed it is that of the cost, where nothing is known either
  it is XXX, the code of ISO 4217 for no currency. A cost in another currency takes the rate that the plan used.
- `PricingCurrency` is that of the rate; of a line that takes credits it is the credits, priced accordingly.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Literal
from urllib.parse import unquote

from livekit_costmeter.records import Charge, round_cost

Byok = Literal["strict", "lenient"]
NO_CURRENCY = "XXX"
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_ZERO = Decimal(0)
_ONE = Decimal(1)
_STEP = Decimal("1e-18")
_TOLERANCE = Decimal("1e-12")


@dataclass(frozen=True, slots=True)
class Price:
    """The unit price of a row: `unit_price` in the billing currency for one of `quantity`, which is in `per` units."""

    unit_price: Decimal
    pricing_currency_unit_price: Decimal
    quantity: Decimal
    per: int


@dataclass(frozen=True, slots=True)
class Amounts:
    """The money of a row. `price` is `None` where there is none that explains the cost."""

    billed: Decimal
    effective: Decimal
    listed: Decimal
    currency: str
    pricing_currency: str
    pricing_currency_effective: Decimal
    price: Price | None


def amounts(charge: Charge, byok: Byok, credit_currency: str) -> Amounts:
    """Return the money of a charge's row."""
    billed = charge.billed_cost if charge.billed_cost is not None and charge.billed_by != "provider" else _ZERO
    currency, rate = _billing_currency(charge, billed)
    listed = None if charge.cost is None or rate is None else _converted(charge.cost, rate)
    price = _price(charge, listed, rate)
    if listed is None or charge.kind == "credit":
        listed = billed
    of_account = byok == "lenient" and charge.billed_by == "provider" and charge.kind not in ("tax", "credit")
    effective = listed if of_account else billed
    if charge.credits and billed:
        each = _EXACT.divide(charge.credits, billed)
        return Amounts(billed, effective, listed, currency, credit_currency, charge.credits, _priced_in(price, each))
    if rate is None or charge.currency is None:
        return Amounts(billed, effective, listed, currency, currency, effective, price)
    in_pricing_currency = charge.cost if effective == listed and charge.cost is not None else _back(effective, rate)
    return Amounts(billed, effective, listed, currency, charge.currency, in_pricing_currency, price)


def _billing_currency(charge: Charge, billed: Decimal) -> tuple[str, Decimal | None]:
    """Return the currency of the row, and what one of the cost's currency is in it, if that is known."""
    if charge.currency is None or charge.billed_currency in (None, charge.currency):
        return charge.billed_currency or charge.currency or NO_CURRENCY, _ONE
    assert charge.billed_currency is not None
    rate = _exchange_rate(charge.pricing_source, f"{charge.currency}-{charge.billed_currency}")
    if rate is None and not billed:
        return charge.currency, _ONE
    return charge.billed_currency, rate


def _exchange_rate(source: str, pair: str) -> Decimal | None:
    for flag in source.partition("?")[2].split("&"):
        if flag.startswith("fx="):
            found, _, rest = unquote(flag[3:]).partition(":")
            if found == pair:
                return Decimal(rest.partition("@")[0])
    return None


def _price(charge: Charge, listed: Decimal | None, rate: Decimal | None) -> Price | None:
    given, per = charge.unit_price, charge.price_per
    if given is None or per is None or listed is None or rate is None or charge.kind in ("tax", "credit"):
        return None
    if given < 0 or per <= 0 or per != per.to_integral_value():
        return None
    unit_price = given if rate == _ONE else _EXACT.multiply(given, rate).quantize(_STEP, context=_EXACT)
    quantity = _quotient(charge.billable_quantity, per)
    if abs(_EXACT.subtract(_EXACT.multiply(unit_price, quantity), listed)) > _TOLERANCE:
        return None
    return Price(unit_price, given, quantity, int(per))


def _priced_in(price: Price | None, each: Decimal) -> Price | None:
    if price is None:
        return None
    in_credits = _EXACT.multiply(price.unit_price, each).quantize(_STEP, context=_EXACT)
    return Price(price.unit_price, in_credits, price.quantity, price.per)


def _quotient(amount: Decimal, divisor: Decimal) -> Decimal:
    if divisor == _ONE:
        return amount
    return _EXACT.divide(amount, divisor).quantize(_STEP, context=_EXACT)


def _converted(cost: Decimal, rate: Decimal) -> Decimal:
    return cost if rate == _ONE else round_cost(_EXACT.multiply(cost, rate))


def _back(amount: Decimal, rate: Decimal) -> Decimal:
    return amount if rate == _ONE else round_cost(_EXACT.divide(amount, rate))
