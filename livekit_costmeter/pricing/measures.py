"""
Which of a record's units the model is billed in, and at which rate each of them is.

One piece of work is often measured in several ways: seconds of audio and tokens, characters and seconds of speech. A
provider bills one of them: the one that its billing policy names, else the first that a source prices. The others stay
in the record's lines, free and with the name of the unit they are billed in, so that no quantity disappears and none is
billed twice.

A stream's measures may even come in records of their own: windows of audio and connection, tokens with each transcript.
A window alone is then explained by the measure that is billed in the operation's other records.

Invariant: a unit is priced by a rate of its own, else by its parent's, else it says why it is not priced. Nothing is
free because a price is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from livekit_costmeter.pricing.book import Offers
from livekit_costmeter.pricing.policies import TIMES, Policy
from livekit_costmeter.pricing.rates import TOKENS, Rate, RateSet, measure_of, with_flags
from livekit_costmeter.records import PARENT_UNIT, UNIT_ORDER

UNPRICED_REASONS: Mapping[str, str] = {
    "no_match": "no source has a price for this model",
    "unknown_model": "the plugin does not say which model it used",
    "unknown_provider": "the host or name of the provider is not known",
    "self_hosted": "the model ran on the user's own machine",
    "unit": "the model has a price, but not in a unit that was measured",
    "gateway_no_rate": "the inference gateway publishes no price for this model",
    "error": "a source of prices failed; the log has the reason",
}
"""Every reason that `unpriced:<reason>` can have."""

# Paid on top of the work itself, whatever that is measured in.
ADDITIVE = frozenset({"requests", "messages", "call_seconds"})
_PER_CALL = "call_seconds"
# Where a source prices several measures of the same work and no policy names one, the first of these is on the bill.
_ORDER = (TOKENS, "connection_seconds", "audio_seconds", "characters", "output_audio_seconds", "session_seconds")

# What a record of one measure alone is billed in, where its own measure has no price.
_EXPLAINED_BY: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("stt", "connection_seconds"): (TOKENS, "audio_seconds"),
    ("stt", TOKENS): ("connection_seconds", "audio_seconds"),
    ("realtime", "session_seconds"): (TOKENS,),
}
# Their transcripts report tokens, in records apart from the stream's windows.
_TOKENS_BY_TRANSCRIPT = frozenset({"openai", "azure"})


@dataclass(frozen=True, slots=True)
class _Bill:
    """The measures that are billed, and the unit that the free ones point to."""

    measures: tuple[str, ...]
    unit: str


@dataclass(frozen=True, slots=True)
class Step:
    """How one unit of a record becomes a line."""

    unit: str
    status: Literal["rated", "billed_elsewhere", "unpriced"]
    source: str
    rate: Rate | None = None


def plan(
    offers: Offers, component: str, units: Sequence[str], used: frozenset[str], *, without_tokens: bool = False
) -> tuple[Step, ...]:
    """Decide for every unit of a record how it is billed.

    Args:
        offers: What the sources say about the model.
        component: `stt`, `llm`, ...
        units: The record's units, in the order of their lines.
        used: Those of them that are not zero.
        without_tokens: The operation ended and its provider reported no token: what is billed in tokens is unknown.
    """
    bill = _bill(offers, component, units, used)
    if without_tokens and bill is not None and bill.measures == (TOKENS,):
        return tuple(Step(unit, "unpriced", "unpriced:unit") for unit in units)
    layers = _layers(offers, bill.measures if bill else ())
    return tuple(
        _step(unit, bill, layers, offers.policy) or Step(unit, "unpriced", "unpriced:" + _reason(offers))
        for unit in units
    )


def _step(unit: str, bill: _Bill | None, layers: Sequence[tuple[RateSet, ...]], policy: Policy | None) -> Step | None:
    if bill is None or unit in ADDITIVE or measure_of(unit) in bill.measures:
        step = _rated(unit, layers)
        if step is not None or bill is None or unit not in ADDITIVE or unit == _PER_CALL:
            return step
    by_policy = policy is not None and {unit, policy.measure} <= TIMES and policy.measure in bill.measures
    return _elsewhere(unit, bill.unit, layers, policy if by_policy else None)


def _bill(offers: Offers, component: str, units: Sequence[str], used: frozenset[str]) -> _Bill | None:
    # Of a stream's two times, one may be 0 in one window and not in the next: both are there in each.
    in_time = not TIMES.isdisjoint(used)
    present = {measure_of(unit) for unit in units if unit in used or (in_time and unit in TIMES)} - ADDITIVE
    candidates = present or {measure_of(unit) for unit in units} - ADDITIVE
    named = () if offers.policy is None else (offers.policy.measure,)
    window = component == "stt" and "connection_seconds" in units and not any(measure_of(u) == TOKENS for u in units)
    by_transcript = window and offers.identity.provider in _TOKENS_BY_TRANSCRIPT and not TIMES.intersection(named)
    for rates in offers.sets:
        if by_transcript and _only_tokens(rates):
            return _bill_of(rates, units, TOKENS)
        priced = [measure for measure in (*named, *_ORDER) if measure in candidates and _prices(rates, measure)]
        # A realtime session can cost by the minute and by the token at once; no other work does.
        if component == "realtime" and not named and {TOKENS, "session_seconds"} <= set(priced):
            return _bill_of(rates, units, TOKENS, "session_seconds")
        if priced:
            return _bill_of(rates, units, priced[0])
    return _explained(offers, component, units, candidates)


def _explained(offers: Offers, component: str, units: Sequence[str], candidates: set[str]) -> _Bill | None:
    others = [set(_EXPLAINED_BY.get((component, measure), ())) for measure in candidates]
    shared = set.intersection(*others) if others else set()
    for rates in offers.sets:
        for measure in _ORDER:
            if measure in shared and _prices(rates, measure):
                return _bill_of(rates, units, measure)
    return None


def _bill_of(rates: RateSet, units: Sequence[str], *measures: str) -> _Bill:
    # The record's own unit where it has one, else the first that the source prices.
    names = (*units, *sorted(rates.rates, key=UNIT_ORDER.__getitem__))
    return _Bill(measures, next(unit for unit in names if measure_of(unit) == measures[0]))


def _only_tokens(rates: RateSet) -> bool:
    seconds = [rate for unit, rate in rates.rates.items() if unit in ("audio_seconds", "connection_seconds")]
    return _prices(rates, TOKENS) and all(("estimated", "1") in rate.flags for rate in seconds)


def _prices(rates: RateSet, measure: str) -> bool:
    return rates.free is not None or any(measure_of(unit) == measure for unit in rates.rates)


def _layers(offers: Offers, measures: Iterable[str]) -> list[tuple[RateSet, ...]]:
    # Cards and overrides complete the first catalog unit by unit. Catalogs are not mixed within one parent chain: a
    # second one's cached rate does not belong to the first one's input rate.
    catalogs = [
        rates for rates in offers.catalogs if not measures or any(_prices(rates, measure) for measure in measures)
    ]
    return [(*offers.files, *catalogs[:1]), *((rates,) for rates in catalogs[1:])]


def _rated(unit: str, layers: Sequence[tuple[RateSet, ...]]) -> Step | None:
    for layer in layers:
        name: str | None = unit
        while name is not None:
            rate = next(
                (s.rates[name] for s in layer if name in s.rates and (name == unit or unit not in s.blocked)), None
            )
            if rate is not None:
                flags = () if name == unit else (("parent", name),)
                return Step(unit, "rated", rate.printed_source(*flags), rate)
            name = PARENT_UNIT.get(name)
    free = next((s.free for layer in layers for s in layer if s.free is not None), None)
    return None if free is None else Step(unit, "rated", free.printed_source(), free)


def _elsewhere(unit: str, billed: str, layers: Sequence[tuple[RateSet, ...]], policy: Policy | None) -> Step:
    step = _rated(billed, layers)
    rate = step.rate if step is not None else None
    source = rate.source if rate is not None else "unpriced:unit"
    named = () if policy is None else (("policy", policy.tag),)
    return Step(unit, "billed_elsewhere", with_flags(source, ("billed_in", billed), *named), rate)


def _reason(offers: Offers) -> str:
    return "unit" if any(rates.rates or rates.free for rates in offers.sets) else offers.reason
