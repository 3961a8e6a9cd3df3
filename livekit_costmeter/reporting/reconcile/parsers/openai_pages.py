"""
The pages of OpenAI's usage and costs API: one page, a list of pages, or one page per line.

A page is `{"object": "page", "data": [{"object": "bucket", "start_time": ..., "end_time": ..., "results": [...]}]}`;
a result of `organization.usage.completions` (audio_speeches, audio_transcriptions) has the columns of the usage CSV,
one of `organization.costs` has `{"amount": {"value": 0.06, "currency": "usd"}, "line_item": ..., "quantity": ...,
"quantity_unit": ..., "api_key_id": ...}`. What the request did not group by is null.

Invariant: results of other kinds (embeddings, images, vector stores, ...) are not voice work and are left out; a kind
this module does not know is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from livekit_costmeter.reporting.reconcile.lines import ProviderLine
from livekit_costmeter.reporting.reconcile.parsers.openai_cost import billed_quantity, is_batch, item_of
from livekit_costmeter.reporting.reconcile.parsers.openai_usage import component_of, tier_of, usage_parts
from livekit_costmeter.reporting.reconcile.reading import Export, Head, Node, cells

_KINDS = {"completions": None, "audio_speeches": "tts", "audio_transcriptions": "stt"}
_OTHERS = frozenset(
    (
        "embeddings",
        "moderations",
        "images",
        "vector_stores",
        "code_interpreter_sessions",
        "file_search_calls",
        "web_search_calls",
    )
)


class _Pages:
    """Usage and costs; each result tells which."""

    name = "openai-pages"
    provider = "openai"

    def recognises(self, head: Head) -> bool:
        return head.document is not None and head.document.data.get("object") == "page"

    def read(self, export: Export) -> Iterator[ProviderLine]:
        for page in export.documents():
            if page.text("object") != "page":
                raise page.error("object", "expected a page of the usage or costs API")
            for bucket in page.children("data"):
                start, end = bucket.instant("start_time"), bucket.instant("end_time")
                if start >= end:
                    raise bucket.error("end_time", "expected a time after start_time")
                for result in bucket.children("results"):
                    yield from _result(result, start, end)


def _result(result: Node, start: datetime, end: datetime) -> Iterator[ProviderLine]:
    kind = result.text("object") or ""
    if kind == "organization.costs.result":
        yield _cost(result, start, end)
        return
    usage = kind.removeprefix("organization.usage.").removesuffix(".result")
    if usage in _KINDS:
        yield from _usage(result, usage, start, end)
    elif usage not in _OTHERS:
        raise result.error("object", f"{cells.shown(kind)} is not a kind of result that is known")


def _usage(result: Node, kind: str, start: datetime, end: datetime) -> Iterator[ProviderLine]:
    model, key = result.text("model"), result.text("api_key_id")
    tier = "batch" if result.data.get("batch") is True else tier_of(None, result.text("service_tier"))
    try:
        parts = usage_parts(result.number)
    except cells.CellError as error:
        raise result.error("input_tokens", str(error)) from None
    for unit, quantity, detail in parts:
        yield ProviderLine(
            "openai",
            model,
            _KINDS[kind] or component_of(model),
            unit,
            quantity,
            None,
            None,
            start,
            end,
            key=key,
            service_tier=tier,
            detail=detail,
            place=result.place,
        )


def _cost(result: Node, start: datetime, end: datetime) -> ProviderLine:
    amount = result.child("amount")
    cost = amount.number("value", signed=True)
    if cost is None:
        raise amount.error("value", "expected the amount")
    item = result.text("line_item")
    model, unit = item_of(item)
    unit, quantity = billed_quantity(unit, result.number("quantity", signed=True), result.text("quantity_unit"))
    return ProviderLine(
        "openai",
        model,
        component_of(model),
        unit,
        quantity,
        cost,
        amount.currency("currency"),
        start,
        end,
        key=result.text("api_key_id"),
        service_tier="batch" if is_batch(item) else None,
        detail=item,
        place=result.place,
    )


PARSERS = [_Pages()]
