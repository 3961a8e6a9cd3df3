"""
What the provider charges: identities, catalogs, rate cards, overrides, billing policies and rating.

Invariant: pure after load. Rating does no I/O, is safe in any thread, and never raises for a missing price: an
unpriced unit is a line with cost `None` and a reason.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livekit_costmeter.pricing.book import PriceBook
    from livekit_costmeter.pricing.rating import rate

__all__ = ["PriceBook", "rate"]

_HOMES = {"PriceBook": "book", "rate": "rating"}


def __getattr__(name: str) -> Any:
    # An agent that only needs `providers` must not pay for schemas and catalogs when it starts.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
