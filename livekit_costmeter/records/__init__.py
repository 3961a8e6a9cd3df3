"""
The vocabulary of the whole package: units, usage records, charges, and their JSON.

Invariant: this package imports nothing of ours, so that everything else may import it; what an agent does not need
when it starts is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from livekit_costmeter.records.vocabulary import (
    PARENT_UNIT,
    PLATFORM,
    UNIT_ORDER,
    UNKNOWN,
    Basis,
    BilledBy,
    Component,
    InvalidRecord,
    Kind,
    Outcome,
    Owner,
    PricingStatus,
    Unit,
    decimal_text,
    format_instant,
    parse_instant,
    parse_size,
    round_cost,
    round_quantity,
    usage_json,
)

if TYPE_CHECKING:
    from livekit_costmeter.records.audit import (
        LIVEKIT_KEY,
        REASONS,
        Finding,
        LiveKitUsage,
        Manner,
        Reason,
        Recorded,
        SessionAudit,
        Work,
        compare,
        is_audit,
        livekit_fields,
        parse_livekit,
    )
    from livekit_costmeter.records.charges import (
        CHARGE_FIELDS,
        Charge,
        charge_fields,
        charge_from_fields,
        charge_json,
        make_charge,
        parse_charge,
    )
    from livekit_costmeter.records.usage import USAGE_FIELDS, UsageRecord, parse_usage, usage_fields

__all__ = [
    "CHARGE_FIELDS",
    "LIVEKIT_KEY",
    "PARENT_UNIT",
    "PLATFORM",
    "REASONS",
    "UNIT_ORDER",
    "UNKNOWN",
    "USAGE_FIELDS",
    "Basis",
    "BilledBy",
    "Charge",
    "Component",
    "Finding",
    "InvalidRecord",
    "Kind",
    "LiveKitUsage",
    "Manner",
    "Outcome",
    "Owner",
    "PricingStatus",
    "Reason",
    "Recorded",
    "SessionAudit",
    "Unit",
    "UsageRecord",
    "Work",
    "charge_fields",
    "charge_from_fields",
    "charge_json",
    "compare",
    "decimal_text",
    "format_instant",
    "is_audit",
    "livekit_fields",
    "make_charge",
    "parse_charge",
    "parse_instant",
    "parse_livekit",
    "parse_size",
    "parse_usage",
    "round_cost",
    "round_quantity",
    "usage_fields",
    "usage_json",
]

_HOMES = {
    "audit": (
        "LIVEKIT_KEY",
        "REASONS",
        "Finding",
        "LiveKitUsage",
        "Manner",
        "Reason",
        "Recorded",
        "SessionAudit",
        "Work",
        "compare",
        "is_audit",
        "livekit_fields",
        "parse_livekit",
    ),
    "charges": (
        "CHARGE_FIELDS",
        "Charge",
        "charge_fields",
        "charge_from_fields",
        "charge_json",
        "make_charge",
        "parse_charge",
    ),
    "usage": ("USAGE_FIELDS", "UsageRecord", "parse_usage", "usage_fields"),
}
_HOME_OF = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
