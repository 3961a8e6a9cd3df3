"""
Patching LiveKit's classes, and putting them back.

Invariant: `apply` and `remove` are exact inverses; where a class or function is missing, that tap is off and `missing`
names what can no longer be seen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from livekit_costmeter.metering.hooks import emitting, hosting, streaming
from livekit_costmeter.metering.hooks.internals import TAPS, find
from livekit_costmeter.metering.hooks.observer import Observer

_TAPS_BY_NAME: dict[str, Callable[[Observer, Any], Any]] = {
    name: tap for module in (emitting, streaming, hosting) for name, tap in vars(module).items() if callable(tap)
}


class Taps:
    """The patches of one process; `apply` and `remove` are exact inverses."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._originals: list[tuple[type, str, Any]] = []
        self.missing: list[str] = []

    def apply(self) -> None:
        """Patch every class that this LiveKit version has."""
        for module, name, attribute, tap, what in TAPS:
            owner = find(module, name)
            if owner is not None and hasattr(owner, attribute):
                self._patch(owner, attribute, _TAPS_BY_NAME[tap])
            elif what is not None and what not in self.missing:
                self.missing.append(what)

    def remove(self) -> None:
        """Put LiveKit's own functions back."""
        for owner, name, original in reversed(self._originals):
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        self._originals.clear()

    def _patch(self, owner: type, name: str, tap: Callable[[Observer, Any], Any]) -> None:
        original = getattr(owner, name)
        self._originals.append((owner, name, owner.__dict__.get(name)))
        setattr(owner, name, functools.wraps(original)(tap(self._observer, original)))


def unseen() -> list[str]:
    """Name what this LiveKit version hides from us; patches nothing."""
    found = ((what, find(module, name), attribute) for module, name, attribute, _, what in TAPS)
    return [what for what, owner, attribute in found if what is not None and not hasattr(owner, attribute)]
