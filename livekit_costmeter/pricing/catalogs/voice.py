"""
The catalog `voice-prices`: audio seconds, characters, agent minutes, the inference gateway and telephony.

Invariant: our lines add up to the package's own `calc_price` for the same usage in the unit the vendor bills. The
gateway (`livekit`) is priced from the gateway's own rows by plan, never from the vendor's. A row's age is judged at the
time of the work, so that the same record is always rated the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
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
)
from livekit_costmeter.pricing.rates import Rate, RateSet, midnight

NAME = "voice-prices"

_UNITS: Mapping[str, tuple[str, int]] = {
    "input_mtok": ("input_tokens", 1_000_000),
    "cache_read_mtok": ("cached_input_tokens", 1_000_000),
    "cache_write_mtok": ("cache_write_tokens", 1_000_000),
    "input_audio_mtok": ("input_audio_tokens", 1_000_000),
    "cache_audio_read_mtok": ("cached_input_audio_tokens", 1_000_000),
    "output_mtok": ("output_tokens", 1_000_000),
    "output_audio_mtok": ("output_audio_tokens", 1_000_000),
    "input_kchars": ("characters", 1000),
    "input_audio_kseconds": ("audio_seconds", 1000),
    "output_audio_kseconds": ("output_audio_seconds", 1000),
    "agent_kminutes": ("session_seconds", 60_000),
    "telephony_kminutes": ("call_seconds", 60_000),
    "requests_kcount": ("requests", 1000),
}
_VOICED = frozenset({"characters", "output_audio_seconds"})
_STREAMING: Mapping[tuple[str, str], str] = {
    ("assemblyai", "universal-3-5-pro"): "universal-3-5-pro-streaming",
    ("google", "chirp3"): "tts-chirp3-hd",
}
_MULTILINGUAL: Mapping[tuple[str, str], str] = {
    ("deepgram", "nova-3"): "nova-3-multilingual",
    ("deepgram", "nova-3-general"): "nova-3-multilingual",
    ("livekit", "deepgram/nova-3"): "deepgram/nova-3-multi",
    ("livekit", "deepgram/flux-general"): "deepgram/flux-general-multi",
}
_SCALE_PLANS = frozenset({"scale", "enterprise"})


class VoicePrices:
    """Prices of the `voice-prices` package, from its bundled data."""

    name = NAME

    @cached_property
    def version(self) -> str:
        """The installed package's version."""
        return version(NAME)

    def prefers(self, component: str, provider: str) -> bool:
        """Prefer this catalog for speech, for calls, and for everything the gateway does."""
        return component in ("stt", "tts", "call") or provider == "livekit"

    def lookup(
        self,
        provider: str,
        model: str,
        *,
        component: str,  # noqa: ARG002  # the interface's; rows here have one meaning
        at: datetime,
        service_tier: str | None,
        options: Mapping[str, str],
    ) -> RateSet | None:
        """Return the rates of a model, or `None`; see `Catalog.lookup`."""
        plan = options.get("livekit_plan", "ship") if provider == "livekit" else ""
        seller = "livekit-scale" if plan in _SCALE_PLANS else provider
        match = find_row(self._providers, seller, _row_name(provider, model, options))
        if match is None or refused(provider, model, match[1].id):
            return None
        holder, found = match
        flags = [*row_flags("" if plan else provider, model, "" if plan else holder, found.id)]
        if plan:
            flags.append(("plan", plan))
        tier = (service_tier or "").lower()
        if tier not in STANDARD_TIERS:
            flags.append(("tier", f"unpriced-{tier}"))
        row, chosen = _dated_row(f"catalog:{NAME}@{self.version}#{holder}", self._providers[holder], found, at, flags)
        rates = _rates(row, found, chosen.prices, options)
        blocked = blocked_units(model)
        free = row.rate("", Decimal(0), 1) if found.free and not rates else None
        kept = {unit: rate for unit, rate in rates.items() if unit not in blocked}
        return RateSet(kept, chosen.since, chosen.until, blocked, free)

    def models(self) -> list[tuple[str, str]]:
        """Return every (provider, model id) of the package."""
        return [(provider.id, model.id) for provider in self._providers.values() for model in provider.models]

    @cached_property
    def _providers(self) -> dict[str, Any]:
        # The bundled data, never the process-wide snapshot that an updater may have replaced.
        from voice_prices.data import providers

        return {provider.id: provider for provider in providers}


def _row_name(provider: str, model: str, options: Mapping[str, str]) -> str:
    key = (provider, model.lower())
    if options.get("language", "").lower() in ("multi", "multilingual") and key in _MULTILINGUAL:
        return _MULTILINGUAL[key]
    return _STREAMING.get(key, model)


def _dated_row(prefix: str, holder: Any, found: Any, at: datetime, flags: list[tuple[str, str]]) -> tuple[Row, Chosen]:
    # In UTC: the package compares dates in the zone of the instant it is given.
    chosen = choose(found.prices, at.astimezone(UTC))
    source = f"{prefix}/{found.id}@{chosen.effective}"
    digest = row_digest(source, ((name, getattr(chosen.prices, name)) for name in _UNITS))
    verified = found.provenance.last_verified if found.provenance is not None else None
    if verified is None:
        return Row(source, digest, tuple(flags), stale=False), chosen
    # Stale from the first day on which the package would no longer call it verified.
    expiry = midnight(verified) + timedelta(days=holder.staleness_threshold_days + 1)
    row = Row(source, digest, (*flags, ("checked", verified.isoformat())), stale=at >= expiry)
    since, until = clip(chosen, expiry, at)
    return row, replace(chosen, since=since, until=until)


def _rates(row: Row, found: Any, prices: Any, options: Mapping[str, str]) -> dict[str, Rate]:
    estimated = set(found.provenance.estimated_fields or ()) if found.provenance is not None else set()
    kind, factor = _voice_class(prices.voice_multipliers, options)
    rates: dict[str, Rate] = {}
    for name, (unit, per) in _UNITS.items():
        value = getattr(prices, name)
        if value is None:
            continue
        flags = [("estimated", "1")] if name in estimated else []
        voiced = unit in _VOICED and kind is not None
        rates[unit] = row.rate(
            unit,
            value,
            per,
            *flags,
            *((("voice_class", kind or ""),) if voiced else ()),
            factor=factor if voiced else None,
        )
    return {**rates, **cached_as_text(row, rates, prices.cache_read_mtok)}


def _voice_class(
    multipliers: Mapping[str, Decimal] | None, options: Mapping[str, str]
) -> tuple[str | None, Decimal | None]:
    if multipliers is None:
        return None, None
    asked = options.get("voice_class", "default")
    kind = asked if asked in multipliers else "default"
    return kind, Decimal(multipliers[kind])
