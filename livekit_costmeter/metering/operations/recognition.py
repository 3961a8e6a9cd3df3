"""
Speech-to-text: seconds of audio really sent, and seconds connected, of streams and of single requests.

Invariant: plugins' own figures of a stream are not used, as some add idle time. A request that succeeded is LiveKit's
to report; one that failed or was cancelled after its audio was sent is recorded here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from livekit_costmeter.metering.hooks import internals
from livekit_costmeter.metering.operations.attempts import is_cancellation, was_refused
from livekit_costmeter.metering.operations.windows import Append, Window, Windows
from livekit_costmeter.metering.readers import Fields, seconds_text

UNREPORTED = {"tokens": "unreported"}
"""Marks the last increment of a stream without one token: where tokens are what is billed, its price is unknown."""


@dataclass(frozen=True, slots=True)
class Request:
    """Audio on its way in one request."""

    seconds: float
    started_at: float


class RecognitionMeter:
    """Counts every recognition stream and request of the process."""

    def __init__(
        self, append: Append, *, clock: Callable[[], float] = time.time, windows: Windows | None = None
    ) -> None:
        self._append = append
        self._clock = clock
        self._windows = windows or Windows(
            append,
            prefix="stt",
            time_unit="connection_seconds",
            context=internals.listening_context,
            last_words=_last_words,
            clock=clock,
        )
        self.opened = self._windows.opened
        self.pushed = self._windows.pushed
        self.closed = self._windows.closed
        self.flush = self._windows.flush

    def transcribed(self, component: Any) -> None:
        """Note that a provider said what it bills: tokens, with a transcript of one of the component's streams."""
        for stream, window in self._windows.open_windows():
            if internals.component_of(stream) is component:
                window.has_tokens = True

    def request(self, buffer: Any) -> Request:
        """Return how much audio a request sends."""
        frames = buffer if isinstance(buffer, list) else [buffer]
        return Request(sum(frame.duration for frame in frames), self._clock())

    def request_failed(self, request: Request, component: Any, event: Any) -> None:
        """Record an attempt that failed after its audio was sent."""
        error = getattr(event, "error", None)
        if error is not None and not was_refused(error):
            self._record(request, component, "failed")

    def request_left(self, request: Request, component: Any, error: BaseException) -> None:
        """Record a request that the agent gave up; one that failed has said so already."""
        if is_cancellation(error):
            self._record(request, component, "interrupted")

    def _record(self, request: Request, component: Any, outcome: str) -> None:
        quantities = {"audio_seconds": seconds_text(request.seconds)}
        fields: Fields = {
            "at": self._clock(),
            "started_at": request.started_at,
            "outcome": outcome,
            "quantities": quantities,
            "basis": {"audio_seconds": "observed"},
            "operation_total": quantities,
        }
        self._append(component, fields)


def _last_words(stream: Any, window: Window) -> dict[str, Any] | None:
    silent = not window.has_tokens and window.sums["audio_seconds"] and not internals.tokens_under_way(stream)
    return UNREPORTED if silent else None
