"""
The vocabulary itself: units, owners, usage records, charges, and how money and quantities round.

Invariant: a usage record is a fact and never changes; a charge is its interpretation at one price, and never
changes either. Money and quantities are `Decimal`; no float touches them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from typing import Any, Literal


class Unit(StrEnum):
    """What a quantity counts. Disjoint: a cached token is not also an input token. The order is the order of lines."""

    INPUT_TOKENS = "input_tokens"
    CACHED_INPUT_TOKENS = "cached_input_tokens"
    CACHE_WRITE_TOKENS = "cache_write_tokens"
    INPUT_AUDIO_TOKENS = "input_audio_tokens"
    CACHED_INPUT_AUDIO_TOKENS = "cached_input_audio_tokens"
    INPUT_IMAGE_TOKENS = "input_image_tokens"
    CACHED_INPUT_IMAGE_TOKENS = "cached_input_image_tokens"
    OUTPUT_TOKENS = "output_tokens"
    REASONING_TOKENS = "reasoning_tokens"
    OUTPUT_AUDIO_TOKENS = "output_audio_tokens"
    CHARACTERS = "characters"
    AUDIO_SECONDS = "audio_seconds"
    OUTPUT_AUDIO_SECONDS = "output_audio_seconds"
    CONNECTION_SECONDS = "connection_seconds"
    SESSION_SECONDS = "session_seconds"
    REQUESTS = "requests"
    MESSAGES = "messages"
    CALL_SECONDS = "call_seconds"


Component = Literal["stt", "llm", "tts", "realtime", "turn_detection", "interruption", "call"]
Outcome = Literal["completed", "interrupted", "discarded", "failed", "probe"]
Basis = Literal["reported", "observed", "estimated", "lower_bound"]
Kind = Literal["usage", "fee", "tax", "purchase", "credit", "correction"]
PricingStatus = Literal["priced", "free", "unpriced"]
BilledBy = Literal["provider", "platform", "livekit", "unknown"]

UNIT_ORDER: Mapping[str, int] = {unit.value: position for position, unit in enumerate(Unit)}
PARENT_UNIT: Mapping[str, str] = {
    "cached_input_tokens": "input_tokens",
    "cache_write_tokens": "input_tokens",
    "input_audio_tokens": "input_tokens",
    "cached_input_audio_tokens": "input_audio_tokens",
    "input_image_tokens": "input_tokens",
    "cached_input_image_tokens": "input_image_tokens",
    "reasoning_tokens": "output_tokens",
    "output_audio_tokens": "output_tokens",
}
"""Whose rate a unit takes when it has none of its own."""

UNKNOWN = "unknown"
PLATFORM = "platform"
_MONEY = Context(prec=60, rounding=ROUND_HALF_EVEN)
_COST_STEP = Decimal("1e-12")
_QUANTITY_STEP = Decimal("1e-9")


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds the key that paid. `key_id` is a keyed fingerprint, never the key."""

    name: str = UNKNOWN
    key_id: str | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One provider operation, or an increment of it, as measured."""

    id: str
    at: datetime
    component: Component
    provider: str
    model: str
    quantities: Mapping[str, Decimal]
    started_at: datetime | None = None
    reported_provider: str | None = None
    reported_model: str | None = None
    operation_id: str | None = None
    operation_total: Mapping[str, Decimal] | None = None
    outcome: Outcome = "completed"
    basis: Mapping[str, Basis] = field(default_factory=dict)
    key_id: str | None = None
    key_owner: str = UNKNOWN
    account: str | None = None
    project: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    session_id: str | None = None
    job_id: str | None = None
    room: str | None = None
    agent: str | None = None
    participant: str | None = None
    speech_id: str | None = None
    service_tier: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


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


USAGE_FIELDS: tuple[str, ...] = tuple(f.name for f in dataclasses.fields(UsageRecord))
CHARGE_FIELDS: tuple[str, ...] = tuple(f.name for f in dataclasses.fields(Charge))


def round_cost(value: Decimal) -> Decimal:
    """Round money half-even to 12 places."""
    return value.quantize(_COST_STEP, context=_MONEY)


def round_quantity(value: Decimal) -> Decimal:
    """Round a quantity half-even to 9 places."""
    return value.quantize(_QUANTITY_STEP, context=_MONEY)
