"""
One row of a FOCUS file per charge.

Invariant: nothing is lost and nothing is hidden: every field of the charge stands in the row, and a price or an owner
that is not known is said in words (`ChargeDescription`) and in columns (see `amounts`).

Kinds: usage and the fees of a plan are `Usage`, taxes `Tax`, credits `Credit`, purchases `Purchase`. A correction is
`Usage`, and of what a plan added (fees, taxes) `Adjustment`. It has `ChargeClass` `Correction`, stands in the period of
what it corrects (`x_Corrects`), for a ledger does not say when it was booked, adds to it and replaces nothing.

Periods: the charge period is that of the work in whole seconds, from `started_at`, or `at`, to the end of the second of
`at`; the exact instants are `x_StartedAt` and `x_At`. The billing period is the calendar month of `at`, UTC.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any

from livekit_costmeter.records import PLATFORM, Charge, decimal_text
from livekit_costmeter.reporting.focus import naming
from livekit_costmeter.reporting.focus.amounts import NO_CURRENCY, Amounts, Byok, amounts
from livekit_costmeter.reporting.focus.columns import CUSTOM

UNASSIGNED = "unassigned"
"""The billing account of work that is nobody's in particular."""
_CATEGORIES: Mapping[str, str] = {"tax": "Tax", "credit": "Credit", "purchase": "Purchase"}
_ONCE = frozenset({"credit", "purchase"})
_CUSTOM_NAMES = tuple(CUSTOM)
_custom_values = attrgetter(*(name for name, _ in CUSTOM.values()))
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class FocusOptions:
    """What the specification leaves to the writer.

    `issuer` is the platform's name on its invoices. `byok` says what `EffectiveCost` is where an account's own key paid
    (see `amounts`). `credit_currency` is what `PricingCurrency` calls credits: the specification lets a virtual
    currency have any name, but tools such as focus-data-toolkit accept codes of ISO 4217 alone.
    """

    issuer: str = PLATFORM
    byok: Byok = "strict"
    credit_currency: str = NO_CURRENCY


def focus_row(charge: Charge, options: FocusOptions) -> dict[str, Any]:
    """Return a charge as FOCUS columns of any version, without those that are always null.

    Values are text, `Decimal`, instants in UTC, and `None` for null.
    """
    money = amounts(charge, options.byok, options.credit_currency)
    return {
        **_parties(charge, options.issuer),
        **_periods(charge),
        **_nature(charge, money),
        **_money(money),
        **_price(charge, money),
        **_subject(charge),
        **dict(zip(_CUSTOM_NAMES, _custom_values(charge), strict=True)),
    }


def _parties(charge: Charge, issuer: str) -> dict[str, Any]:
    maker = naming.service_provider(charge, issuer)
    biller = naming.invoice_issuer(charge, issuer)
    return {
        # In 1.2 the provider is who sells, and what another than the provider invoices is not billed here; what the
        # platform sells on its own keys is published by the vendor. Since 1.3 the service provider is the vendor.
        "ProviderName": maker if charge.billed_by == "unknown" else biller,
        "PublisherName": maker,
        "ServiceProviderName": maker,
        "HostProviderName": charge.provider,
        "InvoiceIssuerName": biller,
        "BillingAccountId": charge.account or UNASSIGNED,
        "BillingAccountName": charge.account,
        "BillingAccountType": "Account",
        "SubAccountId": charge.project,
        "SubAccountName": charge.project,
        "SubAccountType": "Project" if charge.project else None,
    }


def _periods(charge: Charge) -> dict[str, Any]:
    last = charge.at.astimezone(UTC).replace(microsecond=0)
    first = last if charge.started_at is None else min(last, charge.started_at.astimezone(UTC).replace(microsecond=0))
    start, end = _month(last.year, last.month)
    return {
        "BillingPeriodStart": start,
        "BillingPeriodEnd": end,
        "ChargePeriodStart": first,
        "ChargePeriodEnd": last + _SECOND,
    }


@lru_cache(maxsize=64)
def _month(year: int, month: int) -> tuple[datetime, datetime]:
    return datetime(year, month, 1, tzinfo=UTC), datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def _nature(charge: Charge, money: Amounts) -> dict[str, Any]:
    category = _category(charge)
    consumed = category == "Usage" and money.price is not None
    return {
        "ChargeCategory": category,
        "ChargeClass": "Correction" if charge.kind == "correction" else None,
        "ChargeDescription": _description(charge),
        "ChargeFrequency": "One-Time" if charge.kind in _ONCE else "Usage-Based",
        "ConsumedQuantity": charge.quantity if consumed else None,
        "ConsumedUnit": naming.unit_name(charge.unit) if consumed else None,
    }


def _category(charge: Charge) -> str:
    if charge.kind == "correction" and naming.of_plan(charge):
        return "Adjustment"
    return _CATEGORIES.get(charge.kind, "Usage")


def _description(charge: Charge) -> str:
    words = f"{decimal_text(charge.quantity)} {charge.unit.replace('_', ' ')} of {charge.model} by {charge.provider}"
    if charge.kind != "usage":
        words = f"{charge.kind.capitalize()}: {words}"
    if charge.pricing_status == "unpriced":
        words += "; cost not known"
    if charge.billed_cost is None:
        words += "; who is billed is not known" if charge.billed_by == "unknown" else "; billed amount not known"
    return words


def _money(money: Amounts) -> dict[str, Any]:
    return {
        "BilledCost": money.billed,
        "EffectiveCost": money.effective,
        "ListCost": money.listed,
        "ContractedCost": money.listed,
        "BillingCurrency": money.currency,
        "PricingCurrency": money.pricing_currency,
        "PricingCurrencyEffectiveCost": money.pricing_currency_effective,
    }


def _price(charge: Charge, money: Amounts) -> dict[str, Any]:
    price, sku = money.price, naming.sku(charge)
    known = price is not None
    return {
        "ListUnitPrice": price.unit_price if price else None,
        "ContractedUnitPrice": price.unit_price if price else None,
        "PricingCategory": "Standard" if known else None,
        "PricingQuantity": price.quantity if price else None,
        "PricingUnit": naming.unit_name(charge.unit, price.per) if price else None,
        "PricingCurrencyListUnitPrice": price.pricing_currency_unit_price if price else None,
        "PricingCurrencyContractedUnitPrice": price.pricing_currency_unit_price if price else None,
        "SkuId": sku,
        "SkuMeter": naming.meter(charge.unit) if sku else None,
        "SkuPriceId": f"{sku}/per-{price.per}" if price else None,
        "SkuPriceDetails": naming.sku_details(charge.component, charge.provider, charge.model) if known else None,
    }


def _subject(charge: Charge) -> dict[str, Any]:
    name, category, subcategory = naming.SERVICES[charge.component]
    session = charge.session_id
    return {
        "ServiceName": name,
        "ServiceCategory": category,
        "ServiceSubcategory": subcategory,
        "ResourceId": session,
        "ResourceName": charge.room if session else None,
        "ResourceType": "Agent Session" if session else None,
        "Tags": json.dumps(dict(charge.labels), ensure_ascii=False) if charge.labels else None,
    }
