"""
The price catalogs: packages that know what providers publish, behind one small interface.

Invariant: a catalog answers with rates, never with a sum, and answers `None` rather than with the price of something
similar. Only the catalogs that are named get imported, on first use; their data is the bundled one, never fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import entry_points
from typing import Protocol, cast, runtime_checkable

from livekit_costmeter.pricing.rates import RateSet

ENTRY_POINTS = "livekit_costmeter.catalogs"


@runtime_checkable
class Catalog(Protocol):
    """A source of published prices. Instances are shared between threads and must not change after construction."""

    @property
    def name(self) -> str:
        """The package's name, as written in `pricing.catalogs`."""

    @property
    def version(self) -> str:
        """The package's version; with the row's digest it makes a price auditable."""

    def prefers(self, component: str, provider: str) -> bool:
        """Tell whether this catalog should be asked before the others."""

    def lookup(
        self,
        provider: str,
        model: str,
        *,
        component: str,
        at: datetime,
        service_tier: str | None,
        options: Mapping[str, str],
    ) -> RateSet | None:
        """Return the rates of a model at an aware instant, or `None` where the catalog does not have that very model.

        Args:
            provider: Canonical provider id; `livekit` asks for the gateway's own price.
            model: Canonical model, in the plugin's case.
            component: `stt`, `llm`, `tts`, `realtime`, ...
            at: When the work was done.
            service_tier: As the provider reported it (`priority`, `flex`), or `None`.
            options: What else sets a price: `language`, `voice_class`, `livekit_plan`.
        """

    def models(self) -> list[tuple[str, str]]:
        """Return every (provider, model id) there is, for search."""


def catalog_names() -> list[str]:
    """Return the names that `pricing.catalogs` may list."""
    return sorted(point.name for point in entry_points(group=ENTRY_POINTS))


def load_catalog(name: str) -> Catalog:
    """Import a catalog by its entry point name.

    Raises:
        ValueError: No catalog has this name; the message lists those there are.
    """
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return cast("Catalog", point.load()())
    raise ValueError(f"no price catalog named {name!r} (there are: {', '.join(catalog_names())})")
