"""
Usage records and charges as JSON, both ways.

Invariant: what is read back equals what was written; a bad line raises `InvalidRecord`, which names the key and what
is allowed. Decimals are plain strings, instants ISO 8601 in UTC.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, cast, get_args

from pydantic_core import from_json, to_json

from livekit_costmeter.records.types import (
    CHARGE_FIELDS,
    UNIT_ORDER,
    USAGE_FIELDS,
    Basis,
    BilledBy,
    Charge,
    Component,
    Kind,
    Outcome,
    PricingStatus,
    UsageRecord,
    round_quantity,
)


class InvalidRecord(ValueError):
    """A line that is not a usage record or charge; the message names the key and what is allowed."""


_LIMIT = Decimal("1e15")
_CHARGE_DECIMALS = frozenset(
    {"quantity", "billable_quantity", "unit_price", "price_per", "cost", "billed_cost", "credits"}
)
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "component": get_args(Component),
    "outcome": get_args(Outcome),
    "basis": get_args(Basis),
    "kind": get_args(Kind),
    "pricing_status": get_args(PricingStatus),
    "billed_by": get_args(BilledBy),
}
_REQUIRED = ("component", "provider", "model", "quantities", "at")


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
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def format_instant(instant: datetime) -> str:
    """Write an instant as `2026-11-20T18:11:24.123456Z`."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def usage_json(fields: Mapping[str, Any]) -> bytes:
    """Encode the fields of a usage record as one JSON line, without the newline."""
    return to_json(fields)


def usage_fields(record: UsageRecord) -> dict[str, Any]:
    """Return the record as JSON values: decimals as strings, instants as ISO 8601."""
    values = {name: _json_value(getattr(record, name)) for name in USAGE_FIELDS}
    return {name: value for name, value in values.items() if value is not None}


def parse_usage(line: bytes | str) -> UsageRecord:
    """Read one usage record from a JSON line; without an `id` it gets the line's digest.

    Raises:
        InvalidRecord: Names the offending key and what is allowed.
    """
    values = _object(line)
    for key in _REQUIRED:
        if values.get(key) in (None, ""):
            raise InvalidRecord(f"{key}: missing (required: {', '.join(_REQUIRED)})")
    unknown = values.keys() - set(USAGE_FIELDS)
    if unknown:
        raise InvalidRecord(f"{min(unknown)}: unknown key (allowed: {', '.join(USAGE_FIELDS)})")
    if not values.get("id"):
        raw = line.encode() if isinstance(line, str) else line
        values["id"] = "sha256-" + hashlib.sha256(raw.strip()).hexdigest()[:32]
    parsed = {key: _USAGE_PARSERS.get(key, _text)(key, value) for key, value in values.items() if value is not None}
    return UsageRecord(**parsed)


def charge_fields(charge: Charge) -> dict[str, Any]:
    """Return the charge as JSON values in the order of `CHARGE_FIELDS`."""
    return {name: _json_value(getattr(charge, name)) for name in CHARGE_FIELDS}


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
    return Charge(**parsed)


def parse_charge(line: bytes | str) -> Charge:
    """Read one charge from a JSON line.

    Raises:
        InvalidRecord: The line is not a whole charge.
    """
    values = _object(line)
    if values.keys() != set(CHARGE_FIELDS):
        odd = min(values.keys() ^ set(CHARGE_FIELDS))
        raise InvalidRecord(f"{odd}: {'unknown key' if odd in values else 'missing'}")
    try:
        return charge_from_fields(values)
    except (ValueError, TypeError, InvalidOperation) as error:
        raise InvalidRecord(f"not a charge: {error}") from None


def _json_value(value: Any) -> Any:
    if value is None or value.__class__ is str:  # most fields by far
        return value
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    return value


def _object(line: bytes | str) -> dict[str, Any]:
    try:
        values = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRecord(f"not JSON: {error}") from None
    if not isinstance(values, dict):
        raise InvalidRecord("not a JSON object")
    return values


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRecord(f"{key}: expected text, got {json.dumps(value, default=str)[:60]}")
    return value


def _instant(key: str, value: Any) -> datetime:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        return parse_instant(_text(key, value))
    except (ValueError, OverflowError, OSError):
        raise InvalidRecord(f"{key}: expected an ISO 8601 instant or epoch seconds, got {str(value)[:60]!r}") from None


def _choice(name: str, key: str, value: Any) -> str:
    if value not in _CHOICES[name]:
        raise InvalidRecord(f"{key}: {str(value)[:60]!r} is not one of {', '.join(_CHOICES[name])}")
    return cast("str", value)


def _quantity(key: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidRecord(f"{key}: expected a decimal string")
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise InvalidRecord(f"{key}: {str(value)[:60]!r} is not a decimal") from None
    if not amount.is_finite() or amount < 0 or amount > _LIMIT:
        raise InvalidRecord(f"{key}: {str(value)[:60]} is outside 0 to {_LIMIT:f}")
    return round_quantity(amount)


def _quantities(key: str, value: Any) -> dict[str, Decimal]:
    if not isinstance(value, dict):
        raise InvalidRecord(f"{key}: expected an object of unit to decimal string")
    for unit in value:
        if unit not in UNIT_ORDER:
            raise InvalidRecord(f"{key}.{unit}: unknown unit (allowed: {', '.join(UNIT_ORDER)})")
    return {unit: _quantity(f"{key}.{unit}", amount) for unit, amount in value.items()}


def _basis(key: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidRecord(f"{key}: expected an object of unit to basis")
    return {unit: _choice("basis", f"{key}.{unit}", basis) for unit, basis in value.items()}


def _labels(key: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidRecord(f"{key}: expected an object of text to text")
    return {name: _text(f"{key}.{name}", item) for name, item in value.items()}


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRecord(f"{key}: expected an object")
    return value


_USAGE_PARSERS: Mapping[str, Any] = {
    "at": _instant,
    "started_at": _instant,
    "component": partial(_choice, "component"),
    "outcome": partial(_choice, "outcome"),
    "quantities": _quantities,
    "operation_total": _quantities,
    "basis": _basis,
    "labels": _labels,
    "attributes": _mapping,
}
