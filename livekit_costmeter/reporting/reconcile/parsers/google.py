"""
Google Cloud's billing export from BigQuery, as JSON lines (or a list) or flattened CSV.

A row has `service.description, sku.description, usage_start_time, usage_end_time, cost, currency, usage.amount,
usage.unit, credits[].amount, cost_type, invoice.month`; in CSV the dots are dots or underscores, and credits are one
column `credits` with their JSON, or `credits_amount`.

Invariant: the cost of a row is net, cost plus its credits (which are negative). The export has SKUs, not models: the
model is `None` and the SKU stands in `detail`; a unit is told only where service and SKU leave no doubt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from livekit_costmeter.reporting.reconcile.lines import ProviderLine
from livekit_costmeter.reporting.reconcile.reading import Export, Head, Node

_NEEDED = ("service_description", "sku_description", "usage_start_time", "usage_end_time", "cost", "currency")
_SERVICES = (
    ("speech-to-text", "stt"),
    ("speech to text", "stt"),
    ("text-to-speech", "tts"),
    ("text to speech", "tts"),
    ("vertex ai", "llm"),
    ("gemini", "llm"),
    ("generative language", "llm"),
)
_NOTHING = Decimal(0)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        plain = name.strip().replace(".", "_")
        if isinstance(value, dict):
            flat |= {f"{plain}_{inner}": item for inner, item in value.items()}
        else:
            flat[plain] = value
    return flat


class _Billing:
    """Both shapes; names are flattened."""

    name = "google-billing"
    provider = "google"

    def recognises(self, head: Head) -> bool:
        there = _flat(head.document.data) if head.document else _flat(dict.fromkeys(head.columns))
        return set(_NEEDED) <= set(there)

    def read(self, export: Export) -> Iterator[ProviderLine]:
        for node in _rows(export):
            line = _line(node)
            if line is not None:
                yield line


def _rows(export: Export) -> Iterator[Node]:
    with export.table_or_none() as table:
        if table is not None:
            for line, row in table.rows(lambda name: name.replace(".", "_"), _NEEDED):
                yield Node(row, f"{export.path}:{line}")
            return
    for node in export.documents():
        yield Node(_flat(node.data), node.place)


def _line(node: Node) -> ProviderLine | None:
    cost = node.number("cost", signed=True)
    if cost is None:
        raise node.error("cost", "expected the cost")
    start, end = node.instant("usage_start_time"), node.instant("usage_end_time")
    if start >= end:
        raise node.error("usage_end_time", "expected a time after usage_start_time")
    net = cost + _credits(node)
    service, sku = (node.text("service_description") or "").lower(), node.text("sku_description")
    component = next((component for name, component in _SERVICES if name in service), None)
    unit = _unit(component, (node.text("usage_unit") or "").lower(), (sku or "").lower())
    quantity = node.number("usage_amount", signed=True) if unit else None
    if not net and not quantity:
        return None
    kind = node.text("cost_type")
    return ProviderLine(
        "google",
        None,
        component,
        unit if quantity else None,
        quantity or None,
        net,
        node.currency("currency"),
        start,
        end,
        detail=sku if kind in (None, "regular") else f"{kind}: {sku}",
        place=node.place,
    )


def _credits(node: Node) -> Decimal:
    given = node.data.get("credits")
    if isinstance(given, str) and given.strip():
        try:
            given = json.loads(given, parse_float=Decimal, parse_int=Decimal)
        except (ValueError, RecursionError, ArithmeticError):
            raise node.error("credits", "not JSON; expected a list of credits") from None
    items = Node({"credits": given or None}, node.place).children("credits")
    total = sum((item.number("amount", signed=True) or _NOTHING for item in items), _NOTHING)
    return total + (node.number("credits_amount", signed=True) or _NOTHING)


def _unit(component: str | None, usage_unit: str, sku: str) -> str | None:
    if component == "stt":
        return "audio_seconds" if usage_unit in ("seconds", "second") else None
    if usage_unit != "count":
        return None
    if component == "tts":
        return "characters" if "character" in sku or "voice" in sku else None
    if component != "llm" or "character" in sku or ("input" in sku) == ("output" in sku):
        return None
    kind = "audio_" if "audio" in sku else "image_" if "image" in sku or "video" in sku else ""
    if "output" in sku:
        return None if kind == "image_" else f"output_{kind}tokens"
    return f"{'cached_' if 'cach' in sku else ''}input_{kind}tokens"


PARSERS = [_Billing()]
