"""
Usage records: what was measured, and their JSON, both ways.

Invariant: a usage record is a fact and never changes. What is read back equals what was written; a bad line raises
`InvalidRecord`, which names the key and what is allowed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, cast, get_args

from livekit_costmeter.records.construction import quickly
from livekit_costmeter.records.vocabulary import (
    UNIT_ORDER,
    UNKNOWN,
    Basis,
    Component,
    InvalidRecord,
    Outcome,
    json_object,
    json_value,
    parse_instant,
    round_quantity,
)

_ZERO, _LIMIT = Decimal(0), Decimal("1e15")
_REQUIRED = ("component", "provider", "model", "quantities", "at")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "component": get_args(Component),
    "outcome": get_args(Outcome),
    "basis": get_args(Basis),
}


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


_make_usage = quickly(UsageRecord)

USAGE_FIELDS: tuple[str, ...] = tuple(f.name for f in dataclasses.fields(UsageRecord))
_ALLOWED = frozenset(USAGE_FIELDS)


def usage_fields(record: UsageRecord) -> dict[str, Any]:
    """Return the record as JSON values: decimals as strings, instants as ISO 8601."""
    values = {name: json_value(getattr(record, name)) for name in USAGE_FIELDS}
    return {name: value for name, value in values.items() if value is not None}


def parse_usage(line: bytes | str) -> UsageRecord:
    """Read one usage record from a JSON line; without an `id` it gets the line's digest.

    Raises:
        InvalidRecord: Names the offending key and what is allowed.
    """
    values = json_object(line)
    if None in values.values():
        values = {key: value for key, value in values.items() if value is not None}
    _check_keys(values)
    if not values.get("id"):
        raw = line.encode() if isinstance(line, str) else line
        values["id"] = "sha256-" + hashlib.sha256(raw.strip()).hexdigest()[:32]
    # The shipper reads every record here. Most values are text, so only the others are looked at one by one.
    for key, value in values.items():
        if key in _USAGE_PARSERS:
            values[key] = _USAGE_PARSERS[key](key, value)
        elif value.__class__ is not str:
            _text(key, value)
    return _make_usage(**values)


def _check_keys(values: Mapping[str, Any]) -> None:
    for key in _REQUIRED:
        if values.get(key) in (None, ""):
            raise InvalidRecord(f"{key}: missing (required: {', '.join(_REQUIRED)})")
    if not _ALLOWED.issuperset(values):
        raise InvalidRecord(f"{min(values.keys() - _ALLOWED)}: unknown key (allowed: {', '.join(USAGE_FIELDS)})")


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


def _quantity(key: str, unit: str, value: Any) -> Decimal:
    if unit not in UNIT_ORDER:
        raise InvalidRecord(f"{key}.{unit}: unknown unit (allowed: {', '.join(UNIT_ORDER)})")
    if value.__class__ is not str and (isinstance(value, bool) or not isinstance(value, str | int | float)):
        raise InvalidRecord(f"{key}.{unit}: expected a decimal string")
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise InvalidRecord(f"{key}.{unit}: {str(value)[:60]!r} is not a decimal") from None
    if not amount.is_finite() or not _ZERO <= amount <= _LIMIT:
        raise InvalidRecord(f"{key}.{unit}: {str(value)[:60]} is outside 0 to {_LIMIT:f}")
    return round_quantity(amount)


def _quantities(key: str, value: Any) -> dict[str, Decimal]:
    if not isinstance(value, dict):
        raise InvalidRecord(f"{key}: expected an object of unit to decimal string")
    return {unit: _quantity(key, unit, amount) for unit, amount in value.items()}


def _basis(key: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidRecord(f"{key}: expected an object of unit to basis")
    for unit, basis in value.items():
        if basis not in _CHOICES["basis"]:
            _choice("basis", f"{key}.{unit}", basis)
    return value


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
