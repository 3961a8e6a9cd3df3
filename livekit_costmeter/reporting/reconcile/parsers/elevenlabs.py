"""
ElevenLabs' workspace analytics, and the character stats that came before it.

Analytics: `{"columns": ["timestamp", "product_type", "credits_used"], "column_types": [...], "column_units": ["s", "",
"credits"], "rows": [[...], ...]}`; what is in a column is told by its unit (`credits`, `usd`, `min`, `characters`) or
its name (`request_count`). Character stats: `{"time": [ms, ...], "usage": {"All": [...]}}`, in credits, which is what
the request asks for unless told otherwise.

Invariant: the length of a bucket is the least step between the times there are; where there is one time only, the
bucket is a day. Credits stay credits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from livekit_costmeter.reporting.reconcile.lines import CREDITS, ExportError, ProviderLine
from livekit_costmeter.reporting.reconcile.reading import Export, Head, Node, Period, cells

_DAY = timedelta(days=1)
_MINUTE = Decimal(60)
_TIMES = ("timestamp", "time", "bucket", "date")
_PRODUCTS = {
    "tts": "tts",
    "text_to_speech": "tts",
    "stt": "stt",
    "speech_to_text": "stt",
    "speech_to_text_v2": "stt",
    "scribe": "stt",
}
_REQUESTS = ("request_count", "usage_count", "requests")
_SECONDS = {"stt": "audio_seconds", "tts": "output_audio_seconds"}
Measure = tuple[int, str, str]  # position of the column, kind, currency


class _Analytics:
    name = "elevenlabs-analytics"
    provider = "elevenlabs"

    def recognises(self, head: Head) -> bool:
        return head.document is not None and head.has("columns", "rows")

    def read(self, export: Export) -> Iterator[ProviderLine]:
        for page in export.documents():
            yield from _table(page, export)


def _table(page: Node, export: Export) -> Iterator[ProviderLine]:
    columns, units, rows = (_list(page, name) for name in ("columns", "column_units", "rows"))
    if len(units) not in (0, len(columns)) or not all(isinstance(name, str) for name in columns):
        raise page.error("column_units", f"{len(units)} units; expected one for each of {len(columns)} columns")
    if len(set(columns)) < len(columns):
        raise page.error("columns", "a column stands here twice")
    measures = _measures(columns, units or [None] * len(columns))
    if not measures:
        raise page.error(
            "columns", f"no column of credits, money, minutes, characters or requests in {cells.shown(columns)}"
        )
    nodes = [_row(page, columns, row, number) for number, row in enumerate(rows)]
    when = next((name for name in _TIMES if name in columns), None)
    starts = [node.instant(when) for node in nodes] if when else []
    step = _step(starts)
    for number, node in enumerate(nodes):
        period = (starts[number], starts[number] + step) if when else export.dates()
        yield from _lines(node, columns, measures, period)


def _list(page: Node, name: str) -> list[Any]:
    found = page.data.get(name) or []
    if not isinstance(found, list):
        raise page.error(name, f"{cells.shown(found)} is not a list")
    return found


def _row(page: Node, columns: Sequence[str], row: Any, number: int) -> Node:
    place = page.at(f"rows[{number}]")
    if not isinstance(row, list) or len(row) != len(columns):
        raise ExportError(f"{place}: expected a list of {len(columns)} cells, one for each column")
    return Node(dict(zip(columns, row, strict=True)), place)


def _measures(columns: Sequence[str], units: Sequence[Any]) -> list[Measure]:
    found: list[Measure] = []
    for position, (name, unit) in enumerate(zip(columns, units, strict=True)):
        kind = unit.lower() if isinstance(unit, str) else ""
        if kind == "credits" or name == "credits":
            found.append((position, "cost", CREDITS))
        elif name in ("fiat_units_spent", "total_cost") or kind in ("usd", "eur", "gbp", "inr"):
            found.append((position, "cost", kind.upper()))
        elif kind in ("min", "minutes") or name == "minutes_used":
            found.append((position, "minutes", ""))
        elif kind == "characters" or name == "tts_characters":
            found.append((position, "characters", ""))
        elif name in _REQUESTS:
            found.append((position, "requests", ""))
    return found


def _step(starts: Sequence[datetime]) -> timedelta:
    times = sorted(set(starts))
    return min((after - before for before, after in pairwise(times)), default=_DAY)


def _lines(node: Node, columns: Sequence[str], measures: Sequence[Measure], period: Period) -> Iterator[ProviderLine]:
    product = node.text("product_type")
    component = _PRODUCTS.get((product or "").lower().replace("-", "_").replace(" ", "_"))
    for position, kind, currency in measures:
        amount = node.number(columns[position], signed=kind == "cost")
        if not amount:
            continue
        money = kind == "cost"
        unit = _SECONDS.get(component or "", "session_seconds") if kind == "minutes" else kind
        yield ProviderLine(
            "elevenlabs",
            node.text("model"),
            component,
            None if money else unit,
            None if money else amount * _MINUTE if kind == "minutes" else amount,
            amount if money else None,
            (currency or node.currency("fiat_currency")) if money else None,
            *period,
            key=node.text("hashed_xi_api_key"),
            detail=product,
            place=node.place,
        )


class _CharacterStats:
    name = "elevenlabs-character-stats"
    provider = "elevenlabs"

    def recognises(self, head: Head) -> bool:
        return head.keys == {"time", "usage"}

    def read(self, export: Export) -> Iterator[ProviderLine]:
        for page in export.documents():
            times = _list(page, "time")
            starts = [Node({"time": time}, page.at(f"[{number}]")).instant("time") for number, time in enumerate(times)]
            usage = page.child("usage")
            for name in usage.data:
                yield from _series(usage, name, starts)


def _series(usage: Node, name: str, starts: Sequence[datetime]) -> Iterator[ProviderLine]:
    values = _list(usage, name)
    if len(values) != len(starts):
        raise usage.error(name, f"{len(values)} values; expected one for each of {len(starts)} times")
    step = _step(starts)
    label = Node({"name": name}, usage.at(name)).text("name")
    model = label if label and label.startswith(("eleven_", "scribe_")) else None
    for number, start in enumerate(starts):
        node = Node({"value": values[number]}, usage.at(f"{name}[{number}]"))
        spent = node.number("value")
        if spent:
            yield ProviderLine(
                "elevenlabs",
                model,
                None,
                None,
                None,
                spent,
                CREDITS,
                start,
                start + step,
                detail=label,
                place=node.place,
            )


PARSERS = [_Analytics(), _CharacterStats()]
