"""
The cost CSV of OpenAI's dashboard.

Columns of 2025-10: `start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id,
organization_id,organization_name`; those of 2026-09 have `quantity,quantity_unit` and `api_key_id` too. A line item is
`<model>, <what>`, such as `gpt-5-nano, input_tokens`, or the name of a tool. Costs are whole days.

Invariant: an amount is passed on to its last digit. A day's costs need not agree with that day's usage: the two
exports are closed at different times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from livekit_costmeter.reporting.reconcile.lines import ProviderLine
from livekit_costmeter.reporting.reconcile.parsers.openai_usage import component_of
from livekit_costmeter.reporting.reconcile.reading import Export, Group, Head, grouped

_UNITS = {
    "input": "input_tokens",
    "cached input": "cached_input_tokens",
    "cache write input": "cache_write_tokens",
    "cache write": "cache_write_tokens",
    "output": "output_tokens",
    "text input": "input_tokens",
    "cached text input": "cached_input_tokens",
    "text output": "output_tokens",
    "audio input": "input_audio_tokens",
    "cached audio input": "cached_input_audio_tokens",
    "audio output": "output_audio_tokens",
    "image input": "input_image_tokens",
    "cached image input": "cached_input_image_tokens",
    "characters": "characters",
    "seconds": "audio_seconds",
    "audio seconds": "audio_seconds",
}
_TOKENS, _SECONDS = "_tokens", "audio_seconds"
_QUANTITIES = {
    "tokens": (_TOKENS, Decimal(1)),
    "1000_tokens": (_TOKENS, Decimal(1000)),
    "characters": ("characters", Decimal(1)),
    "duration_seconds": (_SECONDS, Decimal(1)),
    "duration_minutes": (_SECONDS, Decimal(60)),
    "duration_hours": (_SECONDS, Decimal(3600)),
}
_NUMBERS = {"amount_value": True, "quantity": True}
_BATCH = re.compile(r"\bbatch\b")


def item_of(line_item: str | None) -> tuple[str | None, str | None]:
    """
    Split a line item into model and unit.

    Returns:
        The model, `None` for a tool; the unit, `None` where the item does not name one that is known.
    """
    model, comma, what = (line_item or "").rpartition(",")
    if not comma:
        plain = what.strip()
        return (plain if plain and " " not in plain else None), None
    return model.strip() or None, _unit(what)


def _unit(what: str) -> str | None:
    words = set(what.lower().replace("_", " ").replace("-", " ").split()) - {"tokens", "token", "batch"}
    # The order of the words changes from export to export: `cached input`, `input cached`.
    return next((unit for name, unit in _UNITS.items() if set(name.split()) == words), None)


def billed_quantity(
    unit: str | None, quantity: Decimal | None, quantity_unit: str | None
) -> tuple[str | None, Decimal | None]:
    """Bring the billed quantity of a line item into a unit of the ledger; unknown ones give `None`."""
    kind, factor = _QUANTITIES.get(quantity_unit or "", (None, Decimal(1)))
    if quantity is None or kind is None:
        return unit, None
    if kind == _TOKENS:
        return unit, quantity * factor if unit and unit.endswith(_TOKENS) else None
    return kind, quantity * factor


def is_batch(line_item: str | None) -> bool:
    """Tell whether a line item is batched work."""
    return _BATCH.search((line_item or "").lower()) is not None


class _CostCsv:
    """Both headers."""

    name = "openai-cost-csv"
    provider = "openai"

    def recognises(self, head: Head) -> bool:
        return {"start_time", "end_time", "amount_value", "amount_currency"} <= set(head.columns)

    def read(self, export: Export) -> Iterator[ProviderLine]:
        with export.table() as table:
            table.require(("start_time", "end_time", "amount_value", "amount_currency"))
            texts = ("amount_currency", "line_item", "api_key_id", "quantity_unit")
            for group in grouped(table, ("start_time", "end_time"), texts, _NUMBERS):
                yield from _lines(group)


def _lines(group: Group) -> Iterator[ProviderLine]:
    cost = group.total("amount_value")
    if cost is None:  # a day without costs
        return
    item = group.text("line_item")
    model, unit = item_of(item)
    unit, quantity = billed_quantity(unit, group.total("quantity"), group.text("quantity_unit"))
    yield ProviderLine(
        "openai",
        model,
        component_of(model),
        unit,
        quantity,
        cost,
        group.currency("amount_currency"),
        *group.period,
        key=group.text("api_key_id"),
        service_tier="batch" if is_batch(item) else None,
        detail=item,
        place=group.place,
    )


PARSERS = [_CostCsv()]
