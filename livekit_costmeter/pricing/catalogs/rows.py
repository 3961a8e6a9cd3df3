"""
What both shipped catalogs share: which dated price applies, how a row is named, and which matches are refused.

Invariant: the price chosen is the one the package itself would choose at that instant (the last whose condition
holds, else the first); a match that is known to be another product is refused, so that the next source is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from livekit_costmeter.pricing.rates import BASE, Rate, RateTier, digest_of, midnight, period


@dataclass(frozen=True, slots=True)
class Chosen:
    """The price that applies: its object, the name of its date, and the period in which it stays the one."""

    prices: Any
    effective: str
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Row:
    """A price row as our rates name it.

    Attributes:
        source: The whole source string without flags.
        digest: Of the source and every price of the row.
        flags: What explains the row (`ref`, `checked`, `tier`).
        stale: Nobody confirmed the price recently enough.
    """

    source: str
    digest: str
    flags: tuple[tuple[str, str], ...]
    stale: bool

    def rate(self, unit: str, value: Any, per: int, *flags: tuple[str, str], factor: Decimal | None = None) -> Rate:
        """Return one rate of this row; `value` is the catalog's decimal or tiered price for `per` units."""
        base, steps = (value.base, value.tiers) if hasattr(value, "tiers") else (value, [])
        scale = Decimal(1) if factor is None else factor
        return Rate(
            unit=unit,
            unit_price=base * scale,
            price_per=Decimal(per),
            currency="USD",
            source=self.source,
            digest=self.digest,
            stale=self.stale,
            flags=(*self.flags, *flags, *((("stale", "1"),) if self.stale else ())),
            tiers=tuple(RateTier(Decimal(step.start), step.price * scale) for step in steps),
        )


def choose(prices: Any, at: datetime) -> Chosen:
    """Pick the dated price that applies at `at` (UTC), and say until when it does."""
    if not isinstance(prices, Sequence):
        return Chosen(prices, BASE, None, None)
    picked = prices[0]
    for dated in reversed(prices):
        if dated.constraint is None or dated.constraint.active(at):
            picked = dated
            break
    since, until = _validity([dated.constraint for dated in prices if dated.constraint is not None], at)
    return Chosen(picked.prices, _effective(picked.constraint), since, until)


def clip(chosen: Chosen, expiry: datetime, at: datetime) -> tuple[datetime | None, datetime | None]:
    """Return the price's period, cut at the instant from which it counts as stale."""
    if at >= expiry:
        return max(chosen.since or expiry, expiry), chosen.until
    return chosen.since, min(chosen.until or expiry, expiry)


def starts(prices: Any) -> list[datetime]:
    """Return the instants at which a row's dated prices begin."""
    if not isinstance(prices, Sequence):
        return []
    return [begin for dated in prices if (begin := _start(dated.constraint)) is not None]


def find_row(providers: Mapping[str, Any], provider: str, model: str) -> tuple[str, Any] | None:
    """Find a model's row by exact provider id: the id of the provider that holds the row, and the row.

    A provider that resells others' models (Azure, Bedrock) may answer with the original vendor's row.
    """
    owner = providers.get(provider)
    found = owner.find_model(model.lower(), all_providers=list(providers.values())) if owner is not None else None
    if owner is None or found is None:
        return None
    holders = (provider, *(owner.fallback_model_providers or ()))
    holder = next(name for name in holders if any(found is row for row in providers[name].models))
    return holder, found


def row_flags(provider: str, requested: str, holder: str, matched: str) -> tuple[tuple[str, str], ...]:
    """Keep what was asked for where the row that answered has another name or another holder."""
    ref = () if requested.lower() == matched.lower() else (("ref", requested),)
    return ref if provider == holder else (*ref, ("for", provider))


def row_digest(source: str, prices: Iterable[tuple[str, Any]]) -> str:
    """Return the digest of a row: its source and every price by the catalog's own name, tiers included."""
    texts = {
        name: [str(value.base), *[(tier.start, str(tier.price)) for tier in value.tiers]]
        if hasattr(value, "tiers")
        else str(value)
        for name, value in prices
        if value is not None
    }
    return digest_of({"source": source, "prices": texts})


def _validity(constraints: Sequence[Any], at: datetime) -> tuple[datetime | None, datetime | None]:
    begins = [_start(constraint) for constraint in constraints]
    if any(begin is None for begin in begins):
        # A time-of-day price: nothing may be remembered.
        return at, at
    return period((begin for begin in begins if begin is not None), at)


def _start(constraint: Any) -> datetime | None:
    if constraint is None:
        return None
    day = getattr(constraint, "start_date", None)
    return midnight(day) if day is not None else getattr(constraint, "start_timestamp", None)


def _effective(constraint: Any) -> str:
    if constraint is None:
        return BASE
    for name, text in _EFFECTIVE_TEXT.items():
        value = getattr(constraint, name, None)
        if value is not None:
            return text(value)
    return f"{constraint.start_time:%H:%M}-{constraint.end_time:%H:%M}Z"


_EFFECTIVE_TEXT: Mapping[str, Callable[[Any], str]] = {
    "start_date": lambda day: day.isoformat(),
    "start_timestamp": lambda instant: instant.strftime("%Y-%m-%dT%H:%MZ"),
}

# What a name must share with the row it matched: a speech model never has the price of its text sibling.
_KINDS: tuple[str, ...] = ("tts", "transcribe", "whisper")
_REFUSED: frozenset[tuple[str, str, str]] = frozenset(
    {
        # The catalogs' patterns are wider than the vendors' price lists.
        ("cartesia", "ink-whisper", "ink-2"),
        ("deepgram", "nova-3-medical", "nova-3"),
        ("openai", "gpt-4o-2024-05-13", "gpt-4o"),
    }
)
STANDARD_TIERS = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand"})
_AUDIO_PREVIEW = re.compile(r"gpt-4o(-mini)?-audio-preview")
AUDIO_UNITS = frozenset({"input_audio_tokens", "cached_input_audio_tokens", "output_audio_tokens"})


def cached_as_text(row: Row, rates: Mapping[str, Rate], value: Any) -> dict[str, Rate]:
    """Return rates for cached audio and images where only cached text has one: both packages bill them as that."""
    units = ("cached_input_audio_tokens", "cached_input_image_tokens")
    flag = ("parent", "cached_input_tokens")
    return {} if value is None else {u: row.rate(u, value, 1_000_000, flag) for u in units if u not in rates}


def refused(provider: str, requested: str, matched: str) -> bool:
    """Tell whether a catalog matched a name to another product's row."""
    name, row = requested.lower(), matched.lower()
    if (provider, name, row) in _REFUSED:
        return True
    return any(kind in name and kind not in row for kind in _KINDS)


def blocked_units(requested: str) -> frozenset[str]:
    """Return the units that a matched row must not price at its text rate."""
    return AUDIO_UNITS if _AUDIO_PREVIEW.search(requested.lower()) else frozenset()
