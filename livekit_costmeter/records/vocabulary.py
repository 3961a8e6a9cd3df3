"""
The vocabulary itself: units, owners, choices, and how money, quantities and instants are rounded and written.

Invariant: cheap to import, because the agent's process needs it before it has metered anything. Money and quantities
are `Decimal`; no float touches them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from typing import Any, Literal

from pydantic_core import from_json, to_json


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
_SIZES = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
_MONEY = Context(prec=60, rounding=ROUND_HALF_EVEN)
_COST_STEP = Decimal("1e-12")
_QUANTITY_STEP = Decimal("1e-9")


class InvalidRecord(ValueError):
    """A line that is not a usage record or charge; the message names the key and what is allowed."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds the key that paid. `key_id` is a keyed fingerprint, never the key."""

    name: str = UNKNOWN
    key_id: str | None = None
    account: str | None = None


def round_cost(value: Decimal) -> Decimal:
    """Round money half-even to 12 places."""
    return value.quantize(_COST_STEP, context=_MONEY)


def round_quantity(value: Decimal) -> Decimal:
    """Round a quantity half-even to 9 places."""
    return value.quantize(_QUANTITY_STEP, context=_MONEY)


def parse_size(value: object) -> int:
    """Read a size in bytes: a number, or text such as `512MiB` or `1GB`.

    Raises:
        ValueError: It is neither.
    """
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", str(value))
    if match is None or match.group(2).upper() not in _SIZES:
        raise ValueError("expected a size such as 512MiB or 1GiB")
    return int(match.group(1)) * _SIZES[match.group(2).upper()]


def decimal_text(value: Decimal) -> str:
    """Write a decimal plainly: no exponent, no trailing zeros."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def parse_instant(text: str) -> datetime:
    """Read an ISO 8601 instant; one without an offset is UTC.

    Raises:
        ValueError: The text is not an instant.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is UTC:
        return instant
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def format_instant(instant: datetime) -> str:
    """Write an instant as `2026-11-20T18:11:24.123456Z`."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


usage_json = to_json
"""Encode the fields of a usage record as one JSON line, without the newline (an alias: this runs on the event loop)."""


def json_value(value: Any) -> Any:
    """Return a field's value as JSON has it: decimals and instants as text."""
    if value is None or value.__class__ is str:  # most fields by far
        return value
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    return value


def json_object(line: bytes | str) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        InvalidRecord: It is not JSON, or not an object.
    """
    try:
        values = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRecord(f"not JSON: {error}") from None
    if not isinstance(values, dict):
        raise InvalidRecord("not a JSON object")
    return values
