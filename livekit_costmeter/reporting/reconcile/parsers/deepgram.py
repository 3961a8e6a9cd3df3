"""
Deepgram's usage breakdown, billing breakdown and requests, as its API returns them.

Usage: `{"start", "end", "resolution": {...}, "results": [{"hours", "total_hours", "agent_hours", "tokens_in",
"tokens_out", "tts_characters", "requests", "grouping": {"start", "end", "accessor", "endpoint", "models": [...],
"method", "tags", "deployment"}}]}`. Billing: results of `{"dollars", "grouping": {..., "line_item":
"streaming::nova-3"}}`. Requests: `{"page", "limit", "requests": [{"request_id", "created", "api_key_id", "path",
"code", "response": {"details": {"usd", "duration", "models"}}}]}`.

Dates of a grouping are whole days, both inclusive; `accessor` is the id of the API key. `total_hours` counts every
channel and is what is billed, `hours` what was sent. Hours are binary fractions in the file, so seconds are rounded to
the microsecond.

Invariant: several models in one row are not split by guess: the model is `None` and `detail` lists them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

from livekit_costmeter.reporting.reconcile.lines import ProviderLine
from livekit_costmeter.reporting.reconcile.reading import Export, Head, Node, Period, cells

_HOUR = Decimal(3600)
_MICRO = Decimal("0.000001")
_MOMENT = timedelta(microseconds=1)
_ENDPOINTS = {"listen": "stt", "speak": "tts", "agent": "realtime", "read": "llm"}
_HEARING = ("nova", "flux", "whisper", "enhanced", "base")


def _period(grouping: Node, whole: Node) -> Period:
    said = grouping if grouping.data.get("start") else whole
    start, end = said.instant("start"), said.instant("end")
    if cells.is_date(str(said.data["end"])):
        # The last day of a grouping is meant with it; the end of a whole answer is not.
        end += timedelta(days=1 if said is grouping else 0)
    if start >= end:
        raise said.error("end", "expected a time after start")
    return start, end


def _models(node: Node) -> tuple[str | None, str | None]:
    models = node.texts("models")
    return (models[0], None) if len(models) == 1 else (None, ", ".join(models) or None)


def _component_of_model(model: str | None) -> str | None:
    lowered = (model or "").lower()
    if lowered.startswith("aura"):
        return "tts"
    return "stt" if lowered.startswith(_HEARING) else None


class _Usage:
    name = "deepgram-usage"
    provider = "deepgram"

    def recognises(self, head: Head) -> bool:
        return head.document is not None and head.has("results", "resolution", "start", "end") and not _is_billing(head)

    def read(self, export: Export) -> Iterator[ProviderLine]:
        for page in export.documents():
            for result in page.children("results"):
                yield from _usage(result, page)


def _usage(result: Node, page: Node) -> Iterator[ProviderLine]:
    grouping = result.child("grouping")
    start, end = _period(grouping, page)
    model, several = _models(grouping)
    endpoint = grouping.text("endpoint")
    component = _ENDPOINTS.get(endpoint or "")
    for unit, kind, quantity in _quantities(result, component):
        if quantity:
            yield ProviderLine(
                "deepgram",
                model,
                kind,
                unit,
                quantity,
                None,
                None,
                start,
                end,
                key=grouping.text("accessor"),
                detail=several or endpoint,
                place=result.place,
            )


def _quantities(result: Node, component: str | None) -> list[tuple[str, str | None, Decimal | None]]:
    hours = result.number("total_hours")
    return [
        ("audio_seconds", component or "stt", _seconds(result.number("hours") if hours is None else hours)),
        ("connection_seconds", "realtime", _seconds(result.number("agent_hours"))),
        ("input_tokens", component or "llm", result.number("tokens_in")),
        ("output_tokens", component or "llm", result.number("tokens_out")),
        ("characters", "tts", result.number("tts_characters")),
        ("requests", component, result.number("requests")),
    ]


def _seconds(hours: Decimal | None) -> Decimal | None:
    return None if hours is None else (hours * _HOUR).quantize(_MICRO)


class _Billing:
    name = "deepgram-billing"
    provider = "deepgram"

    def recognises(self, head: Head) -> bool:
        return head.document is not None and head.has("results", "start", "end") and _is_billing(head)

    def read(self, export: Export) -> Iterator[ProviderLine]:
        for page in export.documents():
            for result in page.children("results"):
                cost = result.number("dollars", signed=True)
                if cost is None:
                    raise result.error("dollars", "expected the amount")
                grouping = result.child("grouping")
                item = grouping.text("line_item")
                model = (item or "").partition("::")[2] or None
                start, end = _period(grouping, page)
                yield ProviderLine(
                    "deepgram",
                    model,
                    _component_of_model(model),
                    None,
                    None,
                    cost,
                    "USD",
                    start,
                    end,
                    key=grouping.text("accessor"),
                    detail=item,
                    place=result.place,
                )


def _is_billing(head: Head) -> bool:
    results = head.document.data.get("results") if head.document else None
    if not isinstance(results, list) or not results:
        return "resolution" not in head.keys
    return isinstance(results[0], dict) and "dollars" in results[0]


class _Requests:
    name = "deepgram-requests"
    provider = "deepgram"

    def recognises(self, head: Head) -> bool:
        return head.document is not None and head.has("page", "limit", "requests")

    def read(self, export: Export) -> Iterator[ProviderLine]:
        for page in export.documents():
            for request in page.children("requests"):
                yield _request(request)


def _request(request: Node) -> ProviderLine:
    response = request.child("response")
    details = response.child("details")
    model, several = _models(details)
    endpoint = (request.text("path") or "").rstrip("/").rpartition("/")[2].partition("?")[0]
    duration, cost = details.number("duration"), details.number("usd")
    start = request.instant("created")
    end = response.instant("completed") if response.data.get("completed") else start
    return ProviderLine(
        "deepgram",
        model,
        _ENDPOINTS.get(endpoint),
        "requests" if duration is None else "audio_seconds",
        Decimal(1) if duration is None else duration,
        cost,
        None if cost is None else "USD",
        start,
        max(end, start + _MOMENT),
        key=request.text("api_key_id"),
        request_id=request.text("request_id"),
        detail=several or request.text("path"),
        place=request.place,
    )


PARSERS = [_Usage(), _Billing(), _Requests()]
