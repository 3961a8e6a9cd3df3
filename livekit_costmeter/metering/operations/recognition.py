"""
Speech-to-text: seconds of audio really sent, and seconds connected, of streams and of single requests.

Invariant: plugins' own figures of a stream are not used, as some add idle time. A request that succeeded is LiveKit's
to report; one that failed or was cancelled after its audio was sent is recorded here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from livekit_costmeter.metering.estimates import Calibration
from livekit_costmeter.metering.hooks import internals
from livekit_costmeter.metering.operations.attempts import is_cancellation, was_refused
from livekit_costmeter.metering.operations.generations import Identity
from livekit_costmeter.metering.operations.windows import Append, Window, Windows
from livekit_costmeter.metering.readers import Fields, seconds_text

UNREPORTED = {"tokens": "unreported"}
"""Marks the last increment of a stream without one token: where tokens are what is billed, its price is unknown."""


_BILLS_TOKENS = re.compile(r"gpt-4o.*transcribe")
"""Models that are billed in tokens of which LiveKit's request reports none."""


@dataclass(slots=True)
class Request:
    """Audio on its way in one request, and LiveKit's own reading of it, which comes just before the transcript."""

    component: Any
    seconds: float
    started_at: float
    is_over: bool = False
    reading: tuple[Any, Fields] | None = None


class RecognitionMeter:
    """Counts every recognition stream and request of the process."""

    def __init__(
        self,
        append: Append,
        identity: Identity,
        *,
        calibration: Calibration,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._append = append
        self._identity = identity
        self._calibration = calibration
        self._clock = clock
        self._windows = Windows(
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

    def request(self, component: Any, buffer: Any) -> Request:
        """Return how much audio a request sends."""
        frames = buffer if isinstance(buffer, list) else [buffer]
        return Request(component, sum(frame.duration for frame in frames), self._clock())

    def request_failed(self, request: Request, component: Any, event: Any) -> None:
        """Record an attempt that failed after its audio was sent."""
        error = getattr(event, "error", None)
        if request.is_over or request.component is not component:
            return  # of another one, in a task that was started from within the request
        if error is not None and not was_refused(error):
            self._record(request, component, "failed")

    def request_left(self, request: Request, component: Any, error: BaseException) -> None:
        """Record a request that the agent gave up; one that failed has said so already."""
        request.is_over = True
        if request.reading is not None:
            self._append(*request.reading)
        elif is_cancellation(error):
            self._record(request, component, "interrupted")

    def request_done(self, request: Request, transcript: Any) -> None:
        """Record what LiveKit reported of a request, with the tokens that it leaves out."""
        request.is_over = True
        if request.reading is None:
            return
        component, fields = request.reading
        provider, model = self._identity(component)
        if _BILLS_TOKENS.search(model) and not any(unit.endswith("_tokens") for unit in fields["quantities"]):
            text = "".join(alternative.text for alternative in transcript.alternatives)
            seen = {
                "input_audio_tokens": ("heard", {"heard_milliseconds": round(request.seconds * 1000)}),
                "output_tokens": ("output", {"bytes": len(text.encode())}),
            }
            estimates = {
                unit: self._calibration.estimate(provider, model, side, observed)
                for unit, (side, observed) in seen.items()
            }
            fields["quantities"] |= {unit: str(estimate.tokens) for unit, estimate in estimates.items()}
            fields["basis"] |= dict.fromkeys(estimates, "estimated")
            fields["attributes"] = {"estimate": {unit: estimate.inputs for unit, estimate in estimates.items()}}
        self._append(component, fields)

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
