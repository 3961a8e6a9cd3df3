"""
Charges: what usage costs, one priced line each, and their JSON, both ways.

Invariant: a charge is the interpretation of a record at one price, and never changes. What is read back equals what
was written; an unknown cost is `None` and `null`, never 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic_core import to_json

from livekit_costmeter.records.construction import quickly
from livekit_costmeter.records.vocabulary import (
    Basis,
    BilledBy,
    Component,
    InvalidRecord,
    Kind,
    Outcome,
    PricingStatus,
    json_object,
    json_value,
    parse_instant,
)


@dataclass(frozen=True, slots=True)
class Charge:
    """One priced line: one unit of one record at one rate. `cost` is `None` where the price is not known."""

    record_id: str
    line: int
    kind: Kind
    at: datetime
    started_at: datetime | None
    component: Component
    outcome: Outcome
    provider: str
    model: str
    reported_provider: str | None
    reported_model: str | None
    operation_id: str | None
    unit: str
    quantity: Decimal
    quantity_basis: Basis
    billable_quantity: Decimal
    unit_price: Decimal | None
    price_per: Decimal | None
    cost: Decimal | None
    currency: str | None
    pricing_status: PricingStatus
    pricing_source: str
    price_digest: str | None
    stale: bool
    key_id: str | None
    key_owner: str
    billed_by: BilledBy
    billed_cost: Decimal | None
    billed_currency: str | None
    credits: Decimal | None
    account: str | None
    project: str | None
    labels: Mapping[str, str]
    session_id: str | None
    job_id: str | None
    room: str | None
    agent: str | None
    participant: str | None
    speech_id: str | None
    corrects: str | None


make_charge = quickly(Charge)
"""Make a charge, as `Charge` does, where many are made."""

CHARGE_FIELDS: tuple[str, ...] = tuple(f.name for f in dataclasses.fields(Charge))
_CHARGE_DECIMALS = frozenset(
    {"quantity", "billable_quantity", "unit_price", "price_per", "cost", "billed_cost", "credits"}
)


def charge_fields(charge: Charge) -> dict[str, Any]:
    """Return the charge as JSON values in the order of `CHARGE_FIELDS`."""
    return {name: json_value(getattr(charge, name)) for name in CHARGE_FIELDS}


def charge_json(charge: Charge) -> bytes:
    """Encode a charge as one JSON line, without the newline."""
    return to_json(charge_fields(charge))


def charge_from_fields(values: Mapping[str, Any]) -> Charge:
    """Build a charge from JSON values that `charge_fields` wrote (ours, so trusted to be complete)."""
    parsed = dict(values)
    for name in _CHARGE_DECIMALS:
        if parsed[name] is not None:
            parsed[name] = Decimal(parsed[name])
    parsed["at"] = parse_instant(parsed["at"])
    if parsed["started_at"] is not None:
        parsed["started_at"] = parse_instant(parsed["started_at"])
    return make_charge(**parsed)


def parse_charge(line: bytes | str) -> Charge:
    """Read one charge from a JSON line.

    Raises:
        InvalidRecord: The line is not a whole charge.
    """
    values = json_object(line)
    if values.keys() != set(CHARGE_FIELDS):
        odd = min(values.keys() ^ set(CHARGE_FIELDS))
        raise InvalidRecord(f"{odd}: {'unknown key' if odd in values else 'missing'}")
    try:
        return charge_from_fields(values)
    except (ValueError, TypeError, InvalidOperation) as error:
        raise InvalidRecord(f"not a charge: {error}") from None
