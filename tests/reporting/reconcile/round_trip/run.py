"""One run: a month with faults, both sides read as the command reads them, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from random import Random

from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.pricing.policies import PolicyTable
from livekit_costmeter.pricing.ratecards import RateCard, overrides_card
from livekit_costmeter.pricing.schema import RateCardFile
from livekit_costmeter.records import Charge
from livekit_costmeter.reporting.reconcile import (
    LedgerSide,
    ProviderSide,
    Question,
    Reconciliation,
    Thresholds,
    open_export,
    reconcile,
)
from tests.reporting.reconcile.round_trip.exports import exact, usage_records, write
from tests.reporting.reconcile.round_trip.facts import END, MODELS, START, Facts, happen
from tests.reporting.reconcile.round_trip.faults import FAULTS

INTERRUPTED = 0.03
"""The part of generations that is natural to be interrupted."""


@cache
def prices() -> PriceBook:
    """Return the prices that the ledger knows; no policy rounds anything."""
    rows = [
        {"provider": vendor, "model": model, "unit": unit, "price": str(exact(price)), "per": 1000000}
        for vendor, models in MODELS.items()
        for model, (_, units) in models.items()
        for unit, price in units.items()
    ]
    card = RateCard.from_model(RateCardFile.model_validate({"name": "card", "rates": rows}), "0123456789ab")
    book = PriceBook([card], overrides=overrides_card([]), catalogs=[])
    book.__dict__["policies"] = PolicyTable(shipped=[])
    return book


def stated(facts: Facts, folder: Path, rng: Random, *, costs_alone: bool = False) -> ProviderSide:
    """Write the exports and read them."""
    usage, costs = write(facts, folder, rng)
    theirs = ProviderSide(facts.vendor, Question(facts.vendor, START, END).window)
    for path in (*([] if costs_alone else usage), *costs):
        theirs.add(open_export(path)[1], of_costs=path in costs)
    return theirs


def charges_of(facts: Facts) -> list[Charge]:
    """Return the ledger of the month."""
    return [charge for record in usage_records(facts) for charge in rate(record, prices())]


def compare(vendor: str, charges: Iterable[Charge], theirs: ProviderSide, by: str = "model") -> Reconciliation:
    """Put a ledger and a provider's files beside each other."""
    ours = LedgerSide(vendor)
    ours.add(charges)
    ours.close()
    return reconcile(Question(vendor, START, END, by), ours, theirs, Thresholds({}))


def run(seed: int, vendor: str, faults: tuple[str, ...], folder: Path, *, costs_alone: bool = False) -> Reconciliation:
    """Let a month happen with these faults."""
    rng = Random(seed)
    facts = happen(rng, vendor, interrupted=INTERRUPTED)
    for name in faults:
        FAULTS[name][0](rng, facts)
    return compare(vendor, charges_of(facts), stated(facts, folder, rng, costs_alone=costs_alone))
