"""
What FOCUS calls things: services, SKUs, units, and who provides and who invoices.

Invariant: a name depends on what it names alone, so that the same service, SKU or SKU price has the same id in every
file. A SKU is provider, model and unit (`openai/gpt-4o-mini/cached_input_tokens`) or the rule of a plan
(`plan/acme-2026/platform-fee`); a SKU price is a SKU and how many units its price is for, so it has one pricing unit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache

from livekit_costmeter.records import Charge

_PLAN = "plan:"
_AI = "AI and Machine Learning"
SERVICES: Mapping[str, tuple[str, str, str]] = {
    "stt": ("Speech to Text", _AI, "Natural Language Processing"),
    "llm": ("Language Model", _AI, "Generative AI"),
    "tts": ("Text to Speech", _AI, "Generative AI"),
    "realtime": ("Realtime Model", _AI, "Generative AI"),
    "turn_detection": ("Turn Detection", _AI, "Natural Language Processing"),
    "interruption": ("Interruption Detection", _AI, "Natural Language Processing"),
    "call": ("Calls", "Networking", "Other (Networking)"),
}
"""Component to service name, category and subcategory."""
_TIMES: Mapping[int, str] = {1: "Seconds", 60: "Minutes", 3600: "Hours"}


def of_plan(charge: Charge) -> bool:
    """Tell whether a line is what a plan adds, or corrects that."""
    return charge.pricing_source.startswith(_PLAN)


def service_provider(charge: Charge, issuer: str) -> str:
    """Name who sells the work: the provider of the usage, or who has the plan that the line is of."""
    if not of_plan(charge):
        return charge.provider
    return "livekit" if charge.billed_by == "livekit" else issuer


def invoice_issuer(charge: Charge, issuer: str) -> str:
    """Name who sends the bill; the provider where an account's own key paid."""
    if charge.billed_by == "provider":
        return charge.provider
    return issuer if charge.billed_by == "platform" else charge.billed_by


def sku(charge: Charge) -> str | None:
    """Return the id of what is sold; taxes and credits sell nothing."""
    if charge.kind in ("tax", "credit"):
        return None
    if of_plan(charge):
        return _plan_sku(charge.pricing_source)
    return f"{charge.provider}/{charge.model}/{charge.unit}"


@lru_cache(maxsize=4096)
def _plan_sku(source: str) -> str:
    name, _, rule = source.partition("?")[0].removeprefix(_PLAN).partition("#")
    return f"plan/{name.partition('@')[0]}/{rule}"


@lru_cache(maxsize=4096)
def sku_details(component: str, provider: str, model: str) -> str:
    """Return what a SKU price is of, as `SkuPriceDetails` has it."""
    return json.dumps({"x_Component": component, "x_Provider": provider, "x_Model": model}, ensure_ascii=False)


@lru_cache(maxsize=1024)
def meter(unit: str) -> str:
    """Return a unit in words: `Cached input tokens`."""
    return unit.replace("_", " ").capitalize()


@lru_cache(maxsize=1024)
def unit_name(unit: str, per: int = 1) -> str:
    """Return a unit as the specification writes units: `Tokens`, `1000 Characters`, `Minutes`."""
    base = unit.rpartition("_")[2].capitalize()
    if base == "Seconds" and per in _TIMES:
        return _TIMES[per]
    return base if per == 1 else f"{per} {base}"
