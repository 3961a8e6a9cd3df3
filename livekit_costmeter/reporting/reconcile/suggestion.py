"""
The rate card that would have agreed: YAML for `pricing.rate_cards`.

Invariant: the same findings give the same text. A price is what the provider charged over what it counted, and applies
from the first day on which it was charged.
"""

from __future__ import annotations

from collections.abc import Iterable

from livekit_costmeter.records import decimal_text
from livekit_costmeter.reporting.reconcile.diagnosis import Finding, NewRate


def rate_card(provider: str, digest: str, findings: Iterable[Finding]) -> str | None:
    """Return a rate card of the rates that findings imply; `None` where they imply none."""
    rates = [rate for finding in findings for rate in finding.rates]
    if not rates:
        return None
    unique = {(rate.model, rate.unit, rate.since): rate for rate in rates}
    rows = sorted(unique.values(), key=lambda rate: (rate.model, rate.unit))
    return "\n".join(
        [
            "# What the provider charged, by its own files. Put this file first in pricing.rate_cards, and what was",
            "# recorded is brought to these prices by `costmeter reprice --book`.",
            f"name: {_plain(provider)}-invoice-{digest}",
            "rates:",
            *(f"  - {_row(provider, rate, digest)}" for rate in rows),
            "",
        ]
    )


def _row(provider: str, rate: NewRate, digest: str) -> str:
    parts = {
        "provider": _quoted(provider),
        "model": _quoted(rate.model),
        "unit": rate.unit,
        "price": _quoted(decimal_text(rate.price)),
        "per": decimal_text(rate.per),
        "currency": rate.currency,
    }
    if rate.since is not None:
        parts["effective_from"] = f"{rate.since:%Y-%m-%d}"
    parts["source"] = _quoted(f"invoice:{digest}")
    return "{" + ", ".join(f"{name}: {value}" for name, value in parts.items()) + "}"


def _plain(text: str) -> str:
    return "".join(char if char.isalnum() and char.isascii() else "-" for char in text) or "provider"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{"".join(char for char in escaped if char.isprintable())}"'
