"""
The package as a LiveKit plugin, so that workers list it and preload it for their jobs.

Invariant: registered once per process, on the main thread only, because LiveKit refuses any other.
"""

from __future__ import annotations

import threading

from livekit_costmeter.metering.hooks.internals import find

_PACKAGE = "livekit_costmeter"


def register_plugin(version: str) -> bool:
    """Register the package; tell whether that was done now."""
    from livekit.agents import Plugin

    if threading.current_thread() is not threading.main_thread():
        return False
    if any(known.package == _PACKAGE for known in Plugin.registered_plugins):
        return False
    kind = type("CostMeterPlugin", (Plugin,), {})
    Plugin.register_plugin(kind(_PACKAGE, version, _PACKAGE))
    return True


def livekit_version() -> str:
    """Return the version of livekit-agents."""
    return str(find("livekit.agents.version", "__version__") or "unknown")
