"""
The catalog `genai-prices`: tokens of language and realtime models, session-billed voices, some transcription.

Invariant: our lines add up to the package's own `calc_price` for the same usage; what it would price silently as
standard (a service tier it does not know) carries a flag. Its ten-second minimum for Groq is a billing policy here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from importlib.metadata import version
from typing import Any

from livekit_costmeter.pricing.catalogs.rows import (
    STANDARD_TIERS,
    Chosen,
    Row,
    blocked_units,
    cached_as_text,
    choose,
    clip,
    find_row,
    refused,
    row_digest,
    row_flags,
    starts,
)
from livekit_costmeter.pricing.rates import Rate, RateSet

NAME = "genai-prices"

# Our unit for each price of the package, and how many of our units one price buys.
_UNITS: Mapping[str, tuple[str, int]] = {
    "input_mtok": ("input_tokens", 1_000_000),
    "cache_read_mtok": ("cached_input_tokens", 1_000_000),
    "cache_write_mtok": ("cache_write_tokens", 1_000_000),
    "input_audio_mtok": ("input_audio_tokens", 1_000_000),
    "cache_audio_read_mtok": ("cached_input_audio_tokens", 1_000_000),
    "input_image_mtok": ("input_image_tokens", 1_000_000),
    "cache_image_read_mtok": ("cached_input_image_tokens", 1_000_000),
    "output_mtok": ("output_tokens", 1_000_000),
    "output_reasoning_mtok": ("reasoning_tokens", 1_000_000),
    "output_audio_mtok": ("output_audio_tokens", 1_000_000),
    "input_mchars": ("characters", 1_000_000),
    "audio_hours": ("audio_seconds", 3600),
    "input_audio_hours": ("audio_seconds", 3600),
    "output_audio_hours": ("output_audio_seconds", 3600),
    "input_text_messages_kcount": ("messages", 1000),
    "requests_kcount": ("requests", 1000),
}
# A bare Bedrock id is billed in its region; the package names regional and global rows only.
_ROWS: Mapping[tuple[str, str], str] = {("aws", "amazon.nova-2-lite-v1:0"): "us.amazon.nova-2-lite-v1:0"}
_STALE_AFTER = timedelta(days=60)


class GenaiPrices:
    """Prices of the `genai-prices` package, from its bundled data."""

    name = NAME

    def __init__(self, loaded_at: datetime | None = None) -> None:
        self._loaded_at = loaded_at or datetime.now(UTC)

    @cached_property
    def version(self) -> str:
        """The installed package's version."""
        return version(NAME)

    def prefers(self, component: str, provider: str) -> bool:
        """Prefer this catalog for tokens and sessions, and where it alone knows a billing rule."""
        return component in ("llm", "realtime") or (component == "stt" and provider in ("groq", "mistral"))

    def lookup(
        self,
        provider: str,
        model: str,
        *,
        component: str,
        at: datetime,
        service_tier: str | None,
        options: Mapping[str, str],  # noqa: ARG002  # the interface's; no price here depends on them
    ) -> RateSet | None:
        """Return the rates of a model, or `None`; see `Catalog.lookup`."""
        match = find_row(self._providers, provider, _ROWS.get((provider, model.lower()), model))
        if match is None or refused(provider, model, match[1].id):
            return None
        holder, found = match
        chosen = choose(found.prices, at)
        prices, tier = self._with_tier(found, chosen, at, service_tier, own=holder == provider)
        source = f"catalog:{NAME}@{self.version}#{holder}/{found.id}@{chosen.effective}"
        flags = (*row_flags(provider, model, holder, found.id), *tier)
        row = Row(source, row_digest(source, prices.items()), flags, stale=at >= self._expiry)
        since, until = clip(chosen, self._expiry, at)
        rates = _rates(row, prices, component)
        blocked = blocked_units(model)
        return RateSet({unit: rate for unit, rate in rates.items() if unit not in blocked}, since, until, blocked)

    def models(self) -> list[tuple[str, str]]:
        """Return every (provider, model id) of the package."""
        return [(provider.id, model.id) for provider in self._providers.values() for model in provider.models]

    @staticmethod
    def _with_tier(
        found: Any, chosen: Chosen, at: datetime, service_tier: str | None, *, own: bool
    ) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]]:
        tier = (service_tier or "").lower()
        if tier in STANDARD_TIERS:
            return _priced(chosen.prices), ()
        known = {variant.when.get("service_tier") for variant in found.price_variants or ()}
        if tier not in known or not own:
            return _priced(chosen.prices), (("tier", f"unpriced-{tier}"),)
        return _priced(found.get_prices(at, {"service_tier": tier})), (("tier", tier),)

    @cached_property
    def _providers(self) -> dict[str, Any]:
        # The bundled data, never the process-wide snapshot that an updater may have replaced.
        from genai_prices.data import providers

        return {provider.id: provider for provider in providers}

    @cached_property
    def _expiry(self) -> datetime:
        # Rows carry no date of their own; the newest change in the data is the least age that it can have.
        rows = [model for provider in self._providers.values() for model in provider.models]
        changes = [begin for row in rows for begin in starts(row.prices) if begin <= self._loaded_at]
        return max(changes) + _STALE_AFTER


def _priced(prices: Any) -> dict[str, Any]:
    return {name: value for name, value in prices.__dict__.items() if value is not None}


def _rates(row: Row, prices: Mapping[str, Any], component: str) -> dict[str, Rate]:
    rates: dict[str, Rate] = {}
    for name, (unit, per) in _UNITS.items():
        value = prices.get(name)
        if value is None:
            continue
        # Hours without a direction are the session's where there is one to bill.
        target = "session_seconds" if name == "audio_hours" and component == "realtime" else unit
        rates[target] = row.rate(target, value, per)
    return {**rates, **cached_as_text(row, rates, prices.get("cache_read_mtok"))}
