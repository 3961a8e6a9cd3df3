"""
Anthropic's usage report of messages and its cost report, as its admin API returns them.

Both are pages `{"data": [{"starting_at", "ending_at", "results": [...]}], "has_more", "next_page"}`. A usage result
has `uncached_input_tokens`, `cache_creation: {ephemeral_1h_input_tokens, ephemeral_5m_input_tokens}`,
`cache_read_input_tokens`, `output_tokens`, `model`, `api_key_id`, `service_tier`; a cost result `{"amount":
"123.78912", "currency": "USD", "cost_type", "token_type", "model", "description", "service_tier"}`.

Invariant: `amount` is in cents, whatever it looks like: `"123.45"` is 1.2345 USD. Work of the priority tier is never
in the cost report. The two lifetimes of cache writes have prices of their own and stay two lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from livekit_costmeter.reporting.reconcile.lines import ExportError, ProviderLine
from livekit_costmeter.reporting.reconcile.reading import Export, Head, Node

_CENTS = Decimal("0.01")
_UNITS = {
    "uncached_input_tokens": "input_tokens",
    "cache_read_input_tokens": "cached_input_tokens",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_tokens",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_tokens",
    "output_tokens": "output_tokens",
}


class _Reports:
    """Usage and costs; each result tells which."""

    name = "anthropic-reports"
    provider = "anthropic"

    def recognises(self, head: Head) -> bool:
        if head.document is None or not head.has("data", "has_more"):
            return False
        data = head.document.data["data"]
        return isinstance(data, list) and bool(data) and isinstance(data[0], dict) and "starting_at" in data[0]

    def read(self, export: Export) -> Iterator[ProviderLine]:
        for page in export.documents():
            if "data" not in page.data:
                raise page.error("data", "expected the buckets of a usage or cost report")
            for bucket in page.children("data"):
                start, end = bucket.instant("starting_at"), bucket.instant("ending_at")
                if start >= end:
                    raise bucket.error("ending_at", "expected a time after starting_at")
                for result in bucket.children("results"):
                    if "amount" in result.data:
                        yield _cost(result, start, end)
                    else:
                        yield from _usage(result, start, end)


def _usage(result: Node, start: datetime, end: datetime) -> Iterator[ProviderLine]:
    if not {"uncached_input_tokens", "output_tokens"} & set(result.data):
        raise _unknown(result)
    created = result.child("cache_creation")
    for name, unit in _UNITS.items():
        group, dot, leaf = name.partition(".")
        quantity = created.number(leaf) if dot else result.number(group)
        if quantity:
            yield ProviderLine(
                "anthropic",
                result.text("model"),
                "llm",
                unit,
                quantity,
                None,
                None,
                start,
                end,
                key=result.text("api_key_id"),
                service_tier=result.text("service_tier"),
                detail=name,
                place=result.place,
            )


def _cost(result: Node, start: datetime, end: datetime) -> ProviderLine:
    cents = result.number("amount", signed=True)
    if cents is None:
        raise result.error("amount", "expected the amount in cents")
    model = result.text("model")
    return ProviderLine(
        "anthropic",
        model,
        "llm" if model else None,
        _UNITS.get(result.text("token_type") or ""),
        None,
        cents * _CENTS,
        result.currency("currency"),
        start,
        end,
        service_tier=result.text("service_tier"),
        detail=result.text("description") or result.text("cost_type"),
        place=result.place,
    )


def _unknown(result: Node) -> ExportError:
    return ExportError(
        f"{result.place}: neither usage of messages nor a cost; expected uncached_input_tokens or amount"
    )


PARSERS = [_Reports()]
