"""
Log lines about a lasting trouble, at most one a minute for each.

Invariant: a trouble is never silent for longer than the interval, never a flood, and reporting it never raises.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from livekit_costmeter.log import log


class Notices:
    """Says each thing at once and then at most once per `every` seconds, with how often it was held back."""

    def __init__(self, *, every: float = 60.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._monotonic = monotonic
        self._said: dict[str, tuple[float, int]] = {}

    def warning(self, event: str, *, about: str = "", **fields: Any) -> None:
        """Log a warning unless the same event about the same thing was logged within the interval."""
        key = f"{event} {about}"
        now = self._monotonic()
        at, held = self._said.get(key, (-self._every, 0))
        if now - at < self._every and key in self._said:
            self._said[key] = (at, held + 1)
            return
        self._said[key] = (now, 0)
        if held:
            fields["repeated"] = held
        with suppress(Exception):  # a broken log handler must not cost a record
            log().warning(event, **fields)

    def forget(self, about: str) -> None:
        """Drop what was remembered about one thing, because it is gone."""
        for key in list(self._said):  # copied at once, since other threads add to it
            if key.endswith(f" {about}"):
                self._said.pop(key, None)
