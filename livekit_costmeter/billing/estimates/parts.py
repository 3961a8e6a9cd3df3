"""
Sums over the charges of estimated calls, by the part of the call that they pay for.

Invariant: exact, by currency. What has no price is noted with its reason and never taken as 0. Three amounts are kept
apart: `cost` is what the providers charge, `billed` what the plan puts on the account's bill, and `own` what providers
charge to the account directly, on its own keys and numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal

from livekit_costmeter.records import PLATFORM, UNKNOWN, Charge

TELEPHONY, FEES, TAXES = "telephony", "platform", "tax"
PARTS = ("stt", "llm", "realtime", "tts", "turn_detection", "interruption", TELEPHONY, FEES, TAXES)
"""The parts of a call, in the order in which they are shown; `platform` are the plan's own fees."""

MEASURES = ("cost", "billed", "own")
EXACT = Context(prec=100)
_ZERO = Decimal(0)
Sums = Mapping[str, Decimal]


@dataclass(slots=True)
class Part:
    """What one part of the calls comes to; an amount that is not known in full names its unknowns.

    `missing` goes from a measure to what it lacks: texts such as `twilio/inbound call_seconds: no_match`. `left_out`
    says that the carrier is not known, so that its price is no part of this. `sources` are those of the prices.
    """

    name: str
    amounts: dict[str, dict[str, Decimal]] = field(default_factory=lambda: {measure: {} for measure in MEASURES})
    credits: Decimal | None = None
    missing: dict[str, dict[str, None]] = field(default_factory=dict)
    sources: dict[str, None] = field(default_factory=dict)
    left_out: bool = False

    def knows(self, *measures: str) -> bool:
        """Tell whether these measures lack nothing."""
        return not any(self.missing.get(measure) for measure in measures)

    @property
    def paid(self) -> Sums:
        """Return what the account pays in all: its bill, and its own providers."""
        return added(self.amounts["billed"], self.amounts["own"])

    def is_nothing(self) -> bool:
        """Tell whether there is neither an amount nor an unknown here."""
        sums = (amount for sums in self.amounts.values() for amount in sums.values())
        return not any(sums) and not any(self.missing.values())

    def merge(self, other: Part) -> None:
        """Take in another part's sums."""
        for measure, sums in other.amounts.items():
            for currency, amount in sums.items():
                _add(self.amounts[measure], currency, amount)
        if other.credits is not None:
            self.credits = EXACT.add(self.credits or _ZERO, other.credits)
        for measure, texts in other.missing.items():
            self.missing.setdefault(measure, {}).update(texts)
        self.sources.update(other.sources)
        self.left_out = self.left_out or other.left_out

    def add(self, charge: Charge) -> dict[str, Decimal]:
        """Count one line and return what it adds to each measure."""
        if charge.kind == "usage" and _carrier_unknown(charge):
            self.left_out = True
            return {}
        if charge.cost != 0 or not _billed_elsewhere(charge):
            self.sources[charge.pricing_source] = None
        amounts = self._amounts(charge)
        for measure, amount in amounts.items():
            currency = charge.billed_currency if measure == "billed" else charge.currency
            if currency is not None:  # nothing, in no currency, adds nothing
                _add(self.amounts[measure], currency, amount)
        if charge.credits is not None:
            self.credits = EXACT.add(self.credits or _ZERO, charge.credits)
        return amounts

    def _amounts(self, charge: Charge) -> dict[str, Decimal]:
        known: dict[str, Decimal | None] = {"billed": charge.billed_cost}
        if charge.kind == "usage":
            known["cost"] = charge.cost
            if charge.key_owner not in (PLATFORM, UNKNOWN) and charge.billed_by != "platform":
                known["own"] = charge.cost
        for measure, amount in known.items():
            if amount is None:
                self.missing.setdefault(measure, {})[_reason(charge)] = None
        return {measure: amount for measure, amount in known.items() if amount is not None}


def part_of(charge: Charge, fees: frozenset[str]) -> str:
    """Return the part that a line belongs to; `fees` are the ids of the plan's fees."""
    if charge.kind == "tax":
        return TAXES
    if charge.kind == "fee" and charge.pricing_source.partition("?")[0].rpartition("#")[2] in fees:
        return FEES
    return TELEPHONY if charge.component == "call" else charge.component


def added(*all_sums: Sums) -> dict[str, Decimal]:
    """Add sums by currency."""
    total: dict[str, Decimal] = {}
    for sums in all_sums:
        for currency, amount in sums.items():
            _add(total, currency, amount)
    return total


def total_of(parts: Iterable[Part], name: str = "total") -> Part:
    """Return all parts in one."""
    total = Part(name)
    for part in parts:
        total.merge(part)
    return total


def _billed_elsewhere(charge: Charge) -> bool:
    return charge.kind == "usage" and "billed_in=" in charge.pricing_source


def _carrier_unknown(charge: Charge) -> bool:
    return charge.component == "call" and charge.provider == UNKNOWN and charge.key_owner != PLATFORM


def _reason(charge: Charge) -> str:
    what = f"{charge.provider}/{charge.model} {charge.unit}"
    if charge.cost is None:
        return f"{what}: {charge.pricing_source.partition('?')[0].removeprefix('unpriced:')}"
    if charge.key_owner == UNKNOWN:
        return f"{charge.provider}/{charge.model}: owner unknown"
    flags = charge.pricing_source.partition("?")[2].split("&")
    return f"{what}: {next((flag for flag in flags if flag.startswith('unbilled=')), 'not billed')}"


def _add(sums: dict[str, Decimal], currency: str, amount: Decimal) -> None:
    sums[currency] = EXACT.add(sums.get(currency, _ZERO), amount)
