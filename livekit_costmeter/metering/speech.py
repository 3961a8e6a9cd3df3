"""
Streaming speech synthesis: characters really sent to the provider, and audio received from it.

Invariant: one record per segment. Where LiveKit reports it, the count of the wire replaces LiveKit's own (plugins pad
what they send); where it never does (an interrupted stream), the record is made when the stream ends. What is sent
after the end of a stream is not the stream's: plugins that keep one connection send for all streams from one task.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet, ref

from livekit_costmeter.metering.hooks.internals import pushed_text
from livekit_costmeter.metering.readers import Reading, seconds_text

_TEXT_KEYS = ("transcript", "text", "input")
"""Where websocket protocols for speech carry what is to be spoken."""

_ESTIMATE = {"estimate": {"observed": "characters given to the stream", "ratio": "1", "samples": 0}}
"""All that the stream was given counts as sent: an upper bound, since the interruption may have come before the end."""

Append = Callable[[Any, Reading], None]


@dataclass(slots=True)
class _Speech:
    stream: ref[Any]
    started_at: float
    sent: int = 0
    audio: float = 0.0
    reported: bool = False


class SpeechMeter:
    """Counts every open synthesis stream of the process."""

    def __init__(self, append: Append, *, clock: Callable[[], float] = time.time) -> None:
        self._append = append
        self._clock = clock
        self._open: dict[int, _Speech] = {}
        self._ended: WeakSet[Any] = WeakSet()

    def message_sent(self, stream: Any, message: str) -> None:
        """Count the text in one websocket message of a stream."""
        characters = text_characters(message)
        if characters and (speech := self._of(stream)) is not None:
            speech.sent += characters

    def audio_received(self, stream: Any, seconds: float) -> None:
        """Count audio that came back."""
        if (speech := self._of(stream)) is not None:
            speech.audio += seconds

    def reported(self, stream: Any, reading: Reading) -> Reading:
        """Return LiveKit's reading of a segment with the characters that went over the wire."""
        speech = self._open.get(id(stream))
        if speech is None:
            return reading
        sent, speech.sent, speech.audio, speech.reported = speech.sent, 0, 0.0, True
        return reading._replace(quantities={**reading.quantities, "characters": str(sent)}) if sent else reading

    def ended(self, stream: Any) -> None:
        """Record what was sent and never reported."""
        speech = self._open.pop(id(stream), None)
        self._ended.add(stream)
        if speech is None or not (speech.sent or (speech.audio > 0 and not speech.reported)):
            return
        quantities = {"characters": str(speech.sent or len(pushed_text(stream)))}
        if speech.audio > 0:
            quantities["output_audio_seconds"] = seconds_text(speech.audio)
        now = self._clock()
        basis = dict.fromkeys(quantities, "observed")
        if not speech.sent:
            # It was sent in a way that is not seen here; audio came back, so it was sent.
            basis["characters"] = "estimated"
        attributes = None if speech.sent else _ESTIMATE
        reading = Reading(
            "tts", quantities, basis, None, now, now - speech.started_at, "interrupted", attributes=attributes
        )
        self._append(stream, reading)

    def _of(self, stream: Any) -> _Speech | None:
        key = id(stream)
        speech = self._open.get(key)
        if speech is None and stream not in self._ended:
            # An id is given out again, also that of a stream whose end nobody saw.
            speech = self._open[key] = _Speech(ref(stream, lambda _: self._open.pop(key, None)), self._clock())
        return speech


def text_characters(message: str) -> int:
    """Count the characters to be spoken in a provider's websocket message; 0 if it carries none."""
    if not message.startswith("{"):
        return 0
    try:
        packet = json.loads(message)
    except ValueError:
        return 0
    return next((len(packet[key]) for key in _TEXT_KEYS if isinstance(packet.get(key), str)), 0)
