"""
The price table of a plan: its own rates, call prices and fees, and the models that it passes on.

The plan's own rows are always shown. Which models beside them: those that are asked for; without any, for each
component that the plan passes on without naming a model of it, those of `COMMON` that have a price.

Invariant: each row says who sets its price, and under which terms; what the fees include is said, not left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from livekit_costmeter.billing.plans import ANY, Rule
from livekit_costmeter.billing.plans.tariffs import NO_EXCHANGE_RATE
from livekit_costmeter.billing.price_tables.samples import SOLD_BY, Till
from livekit_costmeter.billing.price_tables.table import (
    SECTIONS,
    Denomination,
    Price,
    PriceRow,
    PriceTable,
    SectionKey,
    in_reading_order,
    vendor_name,
)
from livekit_costmeter.pricing.providers import identify
from livekit_costmeter.records import Component, decimal_text

COMMON: Mapping[Component, tuple[str, ...]] = {
    "llm": (
        "anthropic/claude-haiku-4-5",
        "anthropic/claude-sonnet-4-5",
        "google/gemini-2.5-flash",
        "google/gemini-2.5-pro",
        "groq/llama-3.3-70b-versatile",
        "openai/gpt-4.1",
        "openai/gpt-4.1-mini",
        "openai/gpt-4o",
        "openai/gpt-4o-mini",
        "openai/gpt-5",
        "openai/gpt-5-mini",
    ),
    "stt": (
        "cartesia/ink-whisper",
        "deepgram/flux-general-en",
        "deepgram/nova-2",
        "deepgram/nova-3",
        "elevenlabs/scribe_v2_realtime",
    ),
    "tts": (
        "cartesia/sonic-3",
        "deepgram/aura-2",
        "elevenlabs/eleven_flash_v2_5",
        "elevenlabs/eleven_multilingual_v2",
        "elevenlabs/eleven_turbo_v2_5",
        "openai/tts-1",
        "rime/mistv2",
    ),
}
"""The models shown where nobody names one."""

_SIDES = {"input_tokens": "input", "output_tokens": "output"}
_UNITS = {
    "characters": "1K Characters",
    "audio_seconds": "Minutes",
    "call_seconds": "Minutes",
    "messages": "Messages",
    "requests": "Requests",
}
_PER = {"minute": "Minutes", "message": "Messages", "call": "Calls"}
_Names = tuple[str, str]


def plan_table(till: Till, models: Sequence[str] = ()) -> PriceTable:
    """Return the prices of the till's plan, with these models (`provider/model`) or those that the module describes."""
    plan = till.plan
    rows: dict[SectionKey, list[PriceRow]] = {key: [] for key in SECTIONS}
    for key, row in (*_fees(till), *_telephony(till), *_rates(till), *_models(till, models)):
        known = {(each.vendor, each.item.lower(), each.unit) for each in rows[key]}
        if (row.vendor, row.item.lower(), row.unit) not in known or key == "telephony":
            rows[key].append(row)
    ordered = {key: tuple(found) if key == "orchestration" else in_reading_order(found) for key, found in rows.items()}
    notes = (*_notes(till), *_unknown(till, ordered))
    return PriceTable(plan.name, till.prices_in, Denomination.of(plan), ordered, till.at, notes)


def components_of(till: Till, model: str) -> list[Component]:
    """Return what `provider/model` has a price as: speech where it is sold as such, else `llm`; empty if nowhere."""
    found = [component for component in SOLD_BY if till.of_model(component, *_split(model)) is not None]
    return [component for component in found if component != "llm"] or found


def _active(till: Till, rules: Iterable[Rule]) -> list[Rule]:
    return [rule for rule in rules if rule.active(till.at)]


def _fees(till: Till) -> Iterator[tuple[SectionKey, PriceRow]]:
    for rule in _active(till, till.plan.fees):
        prices = {"unit": till.of_rule(rule)}
        yield (
            "orchestration",
            PriceRow(till.plan.name, rule.id, rule.id, _PER[rule.per or "call"], prices, _terms(rule)),
        )


def _telephony(till: Till) -> Iterator[tuple[SectionKey, PriceRow]]:
    for rule in _active(till, till.plan.telephony):
        vendor, _ = _names(rule.provider, ANY)
        kind = f"{rule.number_type} numbers" if rule.number_type else "every number"
        yield "telephony", PriceRow(vendor, kind, rule.id, "Minutes", {"unit": till.of_rule(rule)}, _terms(rule))


def _rates(till: Till) -> Iterator[tuple[SectionKey, PriceRow]]:
    models: dict[_Names, dict[str, Rule]] = {}
    for rule in _active(till, till.plan.rates):
        if rule.component == "llm" and rule.unit in _SIDES:
            models.setdefault((rule.provider, rule.model), {})[rule.unit] = rule
            continue
        vendor, item = _names(rule.provider, rule.model)
        row = PriceRow(vendor, item, rule.model, _unit_name(rule.unit), {"unit": till.of_rule(rule)}, _terms(rule))
        yield _section(rule.component), row
    for (provider, model), rules in models.items():
        # A side that no row names is passed on, which can be said of one model only, not of a pattern.
        billed = {} if _is_pattern(provider + model) else till.of_model("llm", provider, model) or {}
        prices = {**billed, **{unit: till.of_rule(rule) for unit, rule in rules.items()}}
        yield "llm", _model_row(*_names(provider, model), model, prices)


def _models(till: Till, models: Sequence[str]) -> Iterator[tuple[SectionKey, PriceRow]]:
    named = {rule.component for rule in _active(till, till.plan.rates)}
    common = {c: names for c, names in COMMON.items() if c not in named and till.plan.passes(c) is not None}
    wanted = [(component, model) for model in models for component in components_of(till, model)]
    for component, name in wanted if models else ((c, name) for c, names in common.items() for name in names):
        provider, model = _split(name)
        prices = till.of_model(component, provider, model)
        if prices is None:
            continue
        vendor, item = vendor_name(identify(component, provider, model).provider), model
        terms = _passed_terms(till, component, prices)
        if component == "llm":
            yield "llm", _model_row(vendor, item, model, prices, terms)
        else:
            for unit, price in prices.items():
                yield _section(component), PriceRow(vendor, item, model, _unit_name(unit), {"unit": price}, terms)


def _model_row(vendor: str, item: str, model: str, prices: Mapping[str, Price], terms: str = "") -> PriceRow:
    sides = {side: prices.get(unit, Price(None)) for unit, side in _SIDES.items()}
    return PriceRow(vendor, item, model, "1K Tokens", sides, terms)


def _passed_terms(till: Till, component: Component, prices: Mapping[str, Price]) -> str:
    rules = [till.rule_of(price) for price in prices.values()]
    if all(rules):
        return "; ".join(dict.fromkeys(terms for rule in rules if rule is not None and (terms := _terms(rule))))
    passed = till.plan.passes(component)
    if passed is None:
        return "included in the fees"
    return f"cost plus {decimal_text(passed.markup * 100)} %" if passed.markup else "at cost"


def _terms(rule: Rule) -> str:
    words = (
        ", ".join(sorted(rule.channels)) if rule.channels else "",
        "transfers too" if rule.section == "fees" and rule.legs == "all" else "",
        f"in steps of {decimal_text(rule.pulse)} s" if rule.pulse else "",
        f"at least {decimal_text(rule.minimum)} s" if rule.minimum else "",
    )
    return "; ".join(word for word in words if word)


def _notes(till: Till) -> Iterator[str]:
    plan = till.plan
    if paid := Denomination.of(plan).note():
        yield paid
    if till.priority:
        yield "prices with priority"
    for component in COMMON:
        if plan.passes(component) is None and not any(rule.component == component for rule in plan.rates):
            yield f"{component} is included in the fees"
    for tax in plan.taxes:
        if tax.active(till.at):
            yield f"without {tax.id}, {decimal_text(tax.rate * 100)} % on {' and '.join(sorted(tax.on))}"


def _unknown(till: Till, rows: Mapping[SectionKey, Sequence[PriceRow]]) -> Iterator[str]:
    prices = (price for found in rows.values() for row in found for price in row.prices.values())
    if any(price.value is None and "=".join(NO_EXCHANGE_RATE) in price.source for price in prices):
        yield f"where a price is empty, there is no exchange rate to {till.plan.currency}"


def _section(component: str) -> SectionKey:
    known: Mapping[str, SectionKey] = {"llm": "other", "stt": "stt", "tts": "tts"}
    return known.get(component, "other")


def _names(provider: str, model: str) -> _Names:
    return "every vendor" if provider == ANY else vendor_name(provider), "every model" if model == ANY else model


def _is_pattern(name: str) -> bool:
    return bool(set("*?[") & set(name))


def _split(model: str) -> _Names:
    provider, _, name = model.partition("/")
    return provider, name


def _unit_name(unit: str) -> str:
    if unit in _UNITS:
        return _UNITS[unit]
    words = unit.replace("_", " ").title()
    return f"Minutes of {words.removesuffix(' Seconds').lower()}" if unit.endswith("_seconds") else f"1K {words}"
