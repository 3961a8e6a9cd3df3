"""
Bringing the ledger to the invoice: correction charges, one per model, unit and day that differ.

A correction has no session and no account; it is the provider's bill that is met here, so that reports by model and by
day show what was invoiced, and what accounts are billed stays as it is (`billed_cost` 0).

- `record_id` is `reconcile-` and a digest of the invoice, of what the row is about, of its amount and of what was
  booked before: the same booking is the same row, however often and by however many it is made.
- `cost` is the invoice less the ledger with all its corrections, so that a later, more complete file books the rest.
- `pricing_source` and `corrects` are `invoice:<digest of the files>`; quantities are 0, for nothing more was measured.
- Where the invoice has one amount for all units of a model, the row is about the unit that costs us most. Where its
  periods are longer than a day, the row is of the first of them.

Invariant: after booking, ledger and invoice have the same cost for each model and day, exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from livekit_costmeter.records import CHARGE_FIELDS, PLATFORM, Charge, decimal_text, make_charge, round_cost
from livekit_costmeter.reporting.reconcile.matching import Match, Sides, UnitMatch
from livekit_costmeter.reporting.reconcile.matching.recorded import BOOKED
from livekit_costmeter.reporting.reconcile.matching.slots import (
    DAY,
    EXACT,
    ZERO,
    Span,
    instant_of,
    of_spans,
    total,
    within,
)

_LONG = DAY + 2
_COMPONENTS = {"audio_seconds": "stt", "characters": "tts", "call_seconds": "call", "output_audio_seconds": "tts"}
_EMPTY: Mapping[str, Any] = {
    **dict.fromkeys(CHARGE_FIELDS),
    "line": 0,
    "kind": "correction",
    "outcome": "completed",
    "quantity": ZERO,
    "quantity_basis": "reported",
    "billable_quantity": ZERO,
    "pricing_status": "priced",
    "stale": False,
    "key_owner": PLATFORM,
    "billed_by": "platform",
    "billed_cost": ZERO,
    "labels": {},
}


@dataclass(frozen=True, slots=True)
class Invoice:
    """What is booked: whose files, and their digest."""

    provider: str
    digest: str


def corrections(sides: Sides, window: Span, invoice: Invoice) -> Iterator[Charge]:
    """Yield the charges that make the ledger equal to the invoice; none where it states no money."""
    if sides.currency is None:
        return
    for match in sides.matches:
        for period in _periods(match, window):
            yield from _of_period(match, period, sides.currency, invoice)


def _periods(match: Match, window: Span) -> list[Span]:
    stated = [match.cost, *(unit.cost for unit in match.units.values() if unit.cost)]
    if any(length > _LONG for spans in stated for _, length in spans):
        return [window]
    first, count = window
    starts = [first, *range(first - first % DAY + DAY, first + count, DAY)]
    return [(start, min(DAY - start % DAY, first + count - start)) for start in starts]


def _of_period(match: Match, period: Span, currency: str, invoice: Invoice) -> Iterator[Charge]:
    if not match.cost:
        for unit in match.units.values():
            theirs = of_spans(unit.cost or {}, period)
            yield from _charge(match, unit.unit, period, theirs, [unit], currency, invoice)
        return
    units = list(match.units.values())
    theirs = total(of_spans(spans, period) for spans in (match.cost, *(unit.cost or {} for unit in units)))
    yield from _charge(match, _main_unit(units, currency), period, theirs, units, currency, invoice)


def _main_unit(units: list[UnitMatch], currency: str) -> str:
    costs = [
        (total(unit.ours.cost.get(currency, {}).values()) if unit.ours else ZERO, bool(unit.theirs), unit.unit)
        for unit in units
    ]
    return max(costs)[2] if costs else "requests"


def _charge(
    match: Match, unit: str, period: Span, theirs: Decimal, units: list[UnitMatch], currency: str, invoice: Invoice
) -> Iterator[Charge]:
    recorded = [each.ours for each in units if each.ours is not None]
    ours = total(within(each.cost.get(currency, {}), period) for each in recorded)
    booked = total(within(each.booked.get(currency, {}), period) for each in recorded)
    difference = round_cost(EXACT.subtract(theirs, ours))
    if not difference:
        return
    about = {
        "at": instant_of(period[0]),
        "component": match.ledger_component or match.component or _COMPONENTS.get(unit, "llm"),
        "provider": invoice.provider,
        "model": match.ledger_model or match.model,
        "unit": unit,
        "currency": currency,
        "cost": difference,
        "pricing_source": f"invoice:{invoice.digest}",
    }
    content = json.dumps([*map(str, about.values()), decimal_text(booked)])
    record_id = BOOKED + blake2b(content.encode(), digest_size=16).hexdigest()
    corrects = about["pricing_source"]
    yield make_charge(
        **{**_EMPTY, **about, "record_id": record_id, "billed_currency": currency, "corrects": corrects},
    )
