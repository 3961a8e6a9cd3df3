"""
Meter, attribute and price every unit of a LiveKit agent call.

    import livekit_costmeter as costmeter

    meter = costmeter.install()

Invariant: importing this package imports neither livekit nor a catalog.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from livekit_costmeter.config import ConfigError
    from livekit_costmeter.config.compose import install
    from livekit_costmeter.metering import CostMeter
    from livekit_costmeter.records import Charge, UsageRecord

__version__ = "0.1.0"
__all__ = ["Charge", "ConfigError", "CostMeter", "UsageRecord", "install", "owner"]

_HOMES = {
    "Charge": "livekit_costmeter.records",
    "ConfigError": "livekit_costmeter.config",
    "CostMeter": "livekit_costmeter.metering",
    "UsageRecord": "livekit_costmeter.records",
    "install": "livekit_costmeter.config.compose",
}
_Component = TypeVar("_Component")


def owner(component: _Component, name: str) -> _Component:
    """Say whose key a component uses: `llm=costmeter.owner(openai.LLM(...), "acme")`. Wins over the configuration."""
    from livekit_costmeter.metering import mark_owner

    return mark_owner(component, name)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
