"""
Speech synthesis: characters really sent to the provider, and audio received from it, per attempt.

Invariant: one record per segment or attempt. Where LiveKit reports it, the count of the wire replaces LiveKit's own
(plugins pad what they send); where it never does (interrupted, failed), the record is made when the attempt or the
stream ends. What is sent after the end of a stream is not the stream's: plugins that keep one connection send for all
streams from one task.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from livekit_costmeter.metering.estimates import Calibration
from livekit_costmeter.metering.hooks import internals
from livekit_costmeter.metering.operations.attempts import is_cancellation, may_have_cost
from livekit_costmeter.metering.operations.generations import OPERATION, Append, Identity
from livekit_costmeter.metering.readers import Fields, seconds_text

_TEXT_KEYS = ("transcript", "text", "input")
"""Where websocket protocols for speech carry what is to be spoken."""


class Speech:
    """One synthesis stream: what its current attempt sent and received since LiveKit last reported."""

    __slots__ = (
        *("audio", "has_failed", "has_reported", "is_cancelled", "is_open", "sent", "started_at"),
        "stream",
    )

    def __init__(self, stream: Any, now: float) -> None:
        self.stream: Any = stream
        self.has_reported = self.has_failed = False
        self.reset(now)

    def reset(self, now: float) -> None:
        """Start from nothing: a new attempt, or one that is recorded."""
        self.started_at = now
        self.sent = 0
        self.audio = 0.0
        self.is_cancelled = self.is_open = False


class SpeechMeter:
    """Follows every synthesis stream of the process; keeps nothing of one that has ended."""

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

    def begun(self, stream: Any) -> Speech:
        """Return the speech of a stream; it lives on the stream."""
        known: Speech | None = getattr(stream, OPERATION, None)
        if known is None:
            known = Speech(stream, self._clock())
            setattr(stream, OPERATION, known)
        return known

    def attempt(self, speech: Speech) -> None:
        """Start to count an attempt; an earlier one of which LiveKit found too little has failed."""
        if speech.audio:
            self._record(speech, "failed")
            speech.has_failed = True
        # One that ended quietly and without audio was refused: providers answer so, and plugins keep it to themselves.
        speech.reset(self._clock())
        speech.is_open = True

    def message_sent(self, speech: Speech, message: str) -> None:
        """Count the text in one websocket message."""
        if speech.stream is not None:
            speech.sent += text_characters(message)

    def received(self, speech: Speech, audio: Any) -> None:
        """Count audio that came back."""
        speech.audio += audio.frame.duration

    def attempt_failed(self, speech: Speech, error: BaseException) -> None:
        """Record an attempt that failed after text was sent."""
        if is_cancellation(error):
            speech.is_cancelled = speech.is_open
            return
        if speech.audio or ((speech.sent or self._was_given(speech)) and may_have_cost(error)):
            self._record(speech, "failed")
            speech.has_failed = True
        speech.reset(self._clock())

    def reported(self, speech: Speech, component: Any, fields: Fields) -> bool:
        """Put the characters that went over the wire into LiveKit's own reading, and end the segment.

        Return False where nothing was ever asked.
        """
        if not internals.task_has_begun(speech.stream):
            return False
        quantities = fields["quantities"]
        if speech.sent and _is_own(speech.sent, int(quantities.get("characters", 0))):
            quantities["characters"] = str(speech.sent)
            fields["basis"]["characters"] = "observed"
        if speech.has_failed and speech.audio:  # LiveKit sums the audio of all attempts
            quantities["output_audio_seconds"] = seconds_text(speech.audio)
        if speech.is_cancelled:
            fields["outcome"] = "interrupted"
        self._complete_tokens(speech, component, fields)
        speech.has_reported = True
        speech.reset(self._clock())
        return True

    def ended(self, speech: Speech) -> None:
        """Record what was sent and never reported, and let go of the stream."""
        stream = speech.stream
        try:
            is_cut = speech.is_cancelled and (speech.sent or (not speech.has_reported and self._was_given(speech)))
            if is_cut or (speech.audio and (speech.sent or not speech.has_reported)):
                self._record(speech, "interrupted" if speech.is_cancelled else "completed")
        finally:
            speech.reset(self._clock())
            speech.stream = None
            setattr(stream, OPERATION, None)

    @staticmethod
    def _was_given(speech: Speech) -> bool:
        # A request that carries the whole text has sent it; of a stream it is known once its plugin says so.
        return internals.is_request(speech.stream) or internals.speech_has_begun(speech.stream)

    def _record(self, speech: Speech, outcome: str) -> None:
        stream, now = speech.stream, self._clock()
        given = internals.text_given(stream)
        sent = min(speech.sent, len(given)) if not _is_own(speech.sent, len(given)) else speech.sent
        quantities = {"characters": str(sent or len(given))}
        basis = {"characters": "observed"}
        fields: Fields = {
            "at": now,
            "started_at": speech.started_at,
            "outcome": outcome,
            "quantities": quantities,
            "basis": basis,
            "operation_total": quantities,
        }
        if not speech.sent and not internals.is_request(stream):
            # It was sent in a way that is not seen here. All that the stream was given counts as sent: an upper
            # bound, since the interruption may have come before the end.
            basis["characters"] = "estimated"
            inputs = {"observed": {"characters": len(given)}, "ratios": {"characters": "1"}, "samples": 0}
            fields["attributes"] = {"estimate": {"characters": inputs}}
        if speech.audio > 0:
            quantities["output_audio_seconds"] = seconds_text(speech.audio)
            basis["output_audio_seconds"] = "observed"
        self._complete_tokens(speech, internals.component_of(stream), fields)
        if quantities["characters"] != "0":
            self._append(internals.component_of(stream), fields)

    def _complete_tokens(self, speech: Speech, component: Any, fields: Fields) -> None:
        """Learn from tokens that were reported, and estimate them where this model is known to bill them."""
        provider, model = self._identity(component)
        seen = {
            "input_tokens": ("input", {"bytes": len(internals.text_given(speech.stream).encode())}),
            "output_audio_tokens": ("audio", {"milliseconds": round(speech.audio * 1000)}),
        }
        attributes: dict[str, dict[str, Any]] = {"observed": {}, "estimate": {}}
        for unit, (side, observed) in seen.items():
            if (reported := fields["quantities"].get(unit)) is not None:
                self._calibration.learn(provider, model, side, observed, int(reported))
                attributes["observed"][side] = observed
            elif self._calibration.knows(provider, model, side):
                estimate = self._calibration.estimate(provider, model, side, observed)
                fields["quantities"][unit], fields["basis"][unit] = str(estimate.tokens), "estimated"
                attributes["estimate"][unit] = estimate.inputs
        attributes["estimate"] |= fields.get("attributes", {}).get("estimate", {})
        if known := {name: value for name, value in attributes.items() if value}:
            fields["attributes"] = known


def _is_own(sent: int, given: int) -> bool:
    # A plugin pads what it sends. Much more than was given is another stream's, that shares the connection.
    return sent <= given * 1.25 + 16


def text_characters(message: str) -> int:
    """Count the characters to be spoken in a provider's websocket message; 0 if it carries none."""
    if not message.startswith("{"):
        return 0
    try:
        packet = json.loads(message)
    except ValueError:
        return 0
    return next((len(packet[key]) for key in _TEXT_KEYS if isinstance(packet.get(key), str)), 0)
