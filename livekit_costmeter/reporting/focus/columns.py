"""
The columns of a FOCUS file, Cost and Usage, by version of the specification.

Invariant: all columns of that version, so that its readers recognise it, and custom ones, which begin with `x_`.
Columns for what does not exist here (commitments, capacity reservations, regions, split allocation, invoice numbers)
are null in every row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from livekit_costmeter.reporting.export.parquet import Kind

FOCUS_VERSIONS = ("1.2", "1.3", "1.4")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: what it holds, and the first and last version that has it."""

    name: str
    kind: Kind
    since: str = FOCUS_VERSIONS[0]
    until: str = FOCUS_VERSIONS[-1]


_FOCUS = (
    Column("ProviderName", "text", until="1.3"),
    Column("PublisherName", "text", until="1.3"),
    Column("ServiceProviderName", "text", since="1.3"),
    Column("HostProviderName", "text", since="1.3"),
    Column("InvoiceIssuerName", "text"),
    Column("InvoiceId", "text"),
    Column("InvoiceDetailId", "text", since="1.4"),
    Column("BillingAccountId", "text"),
    Column("BillingAccountName", "text"),
    Column("BillingAccountType", "text"),
    Column("SubAccountId", "text"),
    Column("SubAccountName", "text"),
    Column("SubAccountType", "text"),
    Column("BillingPeriodStart", "instant"),
    Column("BillingPeriodEnd", "instant"),
    Column("ChargePeriodStart", "instant"),
    Column("ChargePeriodEnd", "instant"),
    Column("ChargeCategory", "text"),
    Column("ChargeClass", "text"),
    Column("ChargeDescription", "text"),
    Column("ChargeFrequency", "text"),
    Column("BilledCost", "decimal"),
    Column("EffectiveCost", "decimal"),
    Column("ListCost", "decimal"),
    Column("ContractedCost", "decimal"),
    Column("BillingCurrency", "text"),
    Column("ListUnitPrice", "decimal"),
    Column("ContractedUnitPrice", "decimal"),
    Column("PricingCategory", "text"),
    Column("PricingQuantity", "decimal"),
    Column("PricingUnit", "text"),
    Column("PricingCurrency", "text"),
    Column("PricingCurrencyListUnitPrice", "decimal"),
    Column("PricingCurrencyContractedUnitPrice", "decimal"),
    Column("PricingCurrencyEffectiveCost", "decimal"),
    Column("ConsumedQuantity", "decimal"),
    Column("ConsumedUnit", "text"),
    Column("ServiceName", "text"),
    Column("ServiceCategory", "text"),
    Column("ServiceSubcategory", "text"),
    Column("SkuId", "text"),
    Column("SkuMeter", "text"),
    Column("SkuPriceId", "text"),
    Column("SkuPriceDetails", "text"),
    Column("ResourceId", "text"),
    Column("ResourceName", "text"),
    Column("ResourceType", "text"),
    Column("RegionId", "text"),
    Column("RegionName", "text"),
    Column("AvailabilityZone", "text"),
    Column("CommitmentDiscountId", "text"),
    Column("CommitmentDiscountName", "text"),
    Column("CommitmentDiscountCategory", "text"),
    Column("CommitmentDiscountType", "text"),
    Column("CommitmentDiscountStatus", "text"),
    Column("CommitmentDiscountQuantity", "decimal"),
    Column("CommitmentDiscountUnit", "text"),
    Column("CommitmentProgramEligibilityDetails", "text", since="1.4"),
    Column("ContractApplied", "text", since="1.3"),
    Column("CapacityReservationId", "text"),
    Column("CapacityReservationStatus", "text"),
    Column("AllocatedMethodId", "text", since="1.3"),
    Column("AllocatedMethodDetails", "text", since="1.3"),
    Column("AllocatedResourceId", "text", since="1.3"),
    Column("AllocatedResourceName", "text", since="1.3"),
    Column("AllocatedTags", "text", since="1.3"),
    Column("Tags", "text"),
)

CUSTOM: Mapping[str, tuple[str, Kind]] = {
    "x_RecordId": ("record_id", "text"),
    "x_Line": ("line", "integer"),
    "x_Kind": ("kind", "text"),
    "x_At": ("at", "instant"),
    "x_StartedAt": ("started_at", "instant"),
    "x_Component": ("component", "text"),
    "x_Outcome": ("outcome", "text"),
    "x_Provider": ("provider", "text"),
    "x_Model": ("model", "text"),
    "x_ReportedProvider": ("reported_provider", "text"),
    "x_ReportedModel": ("reported_model", "text"),
    "x_OperationId": ("operation_id", "text"),
    "x_Unit": ("unit", "text"),
    "x_Quantity": ("quantity", "decimal"),
    "x_QuantityBasis": ("quantity_basis", "text"),
    "x_BillableQuantity": ("billable_quantity", "decimal"),
    "x_UnitPrice": ("unit_price", "decimal"),
    "x_PricePer": ("price_per", "decimal"),
    "x_ProviderEstimatedCost": ("cost", "decimal"),
    "x_ProviderEstimatedCurrency": ("currency", "text"),
    "x_PricingStatus": ("pricing_status", "text"),
    "x_PricingSource": ("pricing_source", "text"),
    "x_PriceDigest": ("price_digest", "text"),
    "x_Stale": ("stale", "boolean"),
    "x_CredentialId": ("key_id", "text"),
    "x_KeyOwner": ("key_owner", "text"),
    "x_BilledBy": ("billed_by", "text"),
    "x_BilledCost": ("billed_cost", "decimal"),
    "x_BilledCurrency": ("billed_currency", "text"),
    "x_Credits": ("credits", "decimal"),
    "x_JobId": ("job_id", "text"),
    "x_Agent": ("agent", "text"),
    "x_ConsumerId": ("participant", "text"),
    "x_SpeechId": ("speech_id", "text"),
    "x_Corrects": ("corrects", "text"),
}
"""Custom columns: which field of the charge they hold as it is, and what that is. `x_CredentialId` is a fingerprint,
never a key; it and `x_ConsumerId` are named as the working draft of version 1.5 names them. With `BillingAccountName`
(account), `SubAccountId` (project), `ResourceId` (session), `ResourceName` (room) and `Tags` (labels) they make a row
as whole as a charge is."""


@cache
def focus_columns(version: str) -> tuple[Column, ...]:
    """Return the columns of a version, in the order of the file.

    Raises:
        ValueError: The version is not one of `FOCUS_VERSIONS`.
    """
    if version not in FOCUS_VERSIONS:
        raise ValueError(f"{version!r} is not one of {', '.join(FOCUS_VERSIONS)}")
    custom = (Column(name, kind) for name, (_, kind) in CUSTOM.items())
    return (*(column for column in _FOCUS if column.since <= version <= column.until), *custom)
