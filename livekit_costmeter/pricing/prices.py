"""
Reading the price book: what a model costs and who says so, which models there are, and what to worry about.

Invariant: read only, and by the same look-ups as rating, so that what is shown is what is billed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from livekit_costmeter.pricing.book import Offers, PriceBook, Query
from livekit_costmeter.pricing.rates import Rate, measure_of
from livekit_costmeter.records import UNIT_ORDER, UNKNOWN

_COMPONENTS = ("llm", "stt", "tts", "realtime", "call")
_DISPUTED = Decimal("0.01")
_Problem = tuple[Literal["unpriced", "stale", "disputed"], str, tuple[Rate, ...]]


@dataclass(frozen=True, slots=True)
class ShownRate:
    """One rate that a source has for a model; `used` tells whether no source before it has one for the unit."""

    component: str
    provider: str
    model: str
    rate: Rate
    used: bool


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model name or pattern that a source knows."""

    source: str
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a model's price that a person should look at, with the rates it is about."""

    problem: Literal["unpriced", "stale", "disputed"]
    component: str
    provider: str
    model: str
    detail: str
    rates: tuple[Rate, ...] = ()


def show(
    book: PriceBook,
    provider: str,
    model: str,
    *,
    component: str | None = None,
    at: datetime | None = None,
    owner: str = UNKNOWN,
    service_tier: str | None = None,
) -> list[ShownRate]:
    """Return every rate of a model at an instant (now by default), in order of precedence.

    `provider` and `model` may be spelled as a plugin reports them; without a component all are tried.
    """
    instant = at or datetime.now(UTC)
    shown: dict[tuple[str, Rate], ShownRate] = {}
    for name in (component,) if component else _COMPONENTS:
        offers = book.offers(Query(name, provider, model, service_tier=service_tier, owner=owner), instant)
        for entry in _shown(offers, name):
            # A rate that does not depend on the component is shown once, under the first.
            shown.setdefault((entry.rate.source, entry.rate), entry)
    return list(shown.values())


def search(book: PriceBook, text: str) -> list[FoundModel]:
    """Return the models whose `provider/model` contains every word of the text, without regard to case."""
    words = text.lower().split()
    known = [
        *(FoundModel(f"ratecard:{card.name}", *row[:2]) for card in book.rate_cards for row in card.rates()),
        *(FoundModel("override", *row[:2]) for row in book.overrides.rates()),
        *(FoundModel(catalog.name, *names) for catalog in book.catalogs for names in catalog.models()),
    ]
    return [m for m in dict.fromkeys(known) if all(word in f"{m.provider}/{m.model}".lower() for word in words)]


def check(
    book: PriceBook, models: Iterable[tuple[str, str, str]], *, at: datetime | None = None, owner: str = UNKNOWN
) -> list[Finding]:
    """Return what is wrong with the prices of (component, provider, model) triples.

    Findings are `unpriced` (no source has a rate), `stale` (a rate in use was not confirmed lately) and `disputed` (two
    catalogs differ by more than one percent on a unit that neither a rate card nor an override settles).
    """
    instant = at or datetime.now(UTC)
    findings: list[Finding] = []
    for component, provider, model in models:
        offers = book.offers(Query(component, provider, model, owner=owner), instant)
        name, model_name = offers.identity.provider, offers.identity.model
        findings.extend(
            Finding(problem, component, name, model_name, detail, rates)
            for problem, detail, rates in (*_unpriced(offers), *_stale(offers), *_disputed(offers))
        )
    return findings


def _shown(offers: Offers, component: str) -> list[ShownRate]:
    identity = offers.identity
    used = {id(rate) for rate in _used(offers)}
    return [
        ShownRate(component, identity.provider, identity.model, rate, id(rate) in used)
        for rates in offers.sets
        for _, rate in sorted(rates.rates.items(), key=lambda item: UNIT_ORDER[item[0]])
    ]


def _used(offers: Offers) -> list[Rate]:
    # As in rating: files complete each other and the first catalog that has the measure; catalogs are not mixed.
    used: dict[str, Rate] = {}
    for rates in offers.files:
        used = {**rates.rates, **used}
    measures: set[str] = set()
    for rates in offers.catalogs:
        fresh = {unit: rate for unit, rate in rates.rates.items() if measure_of(unit) not in measures}
        measures.update(measure_of(unit) for unit in fresh)
        used = {**fresh, **used}
    return list(used.values())


def _unpriced(offers: Offers) -> list[_Problem]:
    if any(rates.rates or rates.free for rates in offers.sets):
        return []
    return [("unpriced", offers.reason, ())]


def _stale(offers: Offers) -> list[_Problem]:
    stale = tuple(rate for rate in _used(offers) if rate.stale)
    return [("stale", stale[0].printed_source(), stale)] if stale else []


def _disputed(offers: Offers) -> list[_Problem]:
    settled = {unit for rates in offers.files for unit in rates.rates}
    found: list[_Problem] = []
    for unit in sorted(
        {unit for rates in offers.catalogs for unit in rates.rates} - settled, key=UNIT_ORDER.__getitem__
    ):
        own = (rates.rates[unit] for rates in offers.catalogs if unit in rates.rates)
        rates = tuple(rate for rate in own if not any(key == "parent" for key, _ in rate.flags))
        if len(rates) > 1 and _differ(rates):
            found.append(("disputed", unit, rates))
    return found


def _differ(rates: Sequence[Rate]) -> bool:
    prices = [rate.cost(Decimal(1), rate.unit_price) for rate in rates if rate.currency == rates[0].currency]
    return max(prices) - min(prices) > _DISPUTED * max(prices)
