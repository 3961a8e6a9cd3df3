"""
Streaming speech synthesis: characters really sent to the provider, and audio received from it.

Invariant: one record per segment. Where LiveKit reports it, the count of the wire replaces LiveKit's own (plugins pad
what they send); where it never does (an interrupted stream), the record is made when the stream ends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from livekit_costmeter.metering.readers import Reading, seconds_text

_TEXT_KEYS = ("transcript", "text", "input")
"""Where websocket protocols for speech carry what is to be spoken."""

Append = Callable[[Any, Reading], None]


@dataclass(slots=True)
class _Speech:
    started_at: float
    sent: int = 0
    audio: float = 0.0


class SpeechMeter:
    """Counts every open synthesis stream of the process."""

    def __init__(self, append: Append, *, clock: Callable[[], float] = time.time) -> None:
        self._append = append
        self._clock = clock
        self._open: dict[int, _Speech] = {}

    def message_sent(self, stream: Any, message: str) -> None:
        """Count the text in one websocket message of a stream."""
        characters = text_characters(message)
        if characters:
            self._of(stream).sent += characters

    def audio_received(self, stream: Any, seconds: float) -> None:
        """Count audio that came back."""
        self._of(stream).audio += seconds

    def reported(self, stream: Any, reading: Reading) -> Reading:
        """Return LiveKit's reading of a segment with the characters that went over the wire."""
        speech = self._open.pop(id(stream), None)
        if speech is None or not speech.sent:
            return reading
        return reading._replace(quantities={**reading.quantities, "characters": str(speech.sent)})

    def ended(self, stream: Any) -> None:
        """Record what was sent and never reported."""
        speech = self._open.pop(id(stream), None)
        if speech is None or not speech.sent:
            return
        quantities = {"characters": str(speech.sent)}
        if speech.audio > 0:
            quantities["output_audio_seconds"] = seconds_text(speech.audio)
        now = self._clock()
        basis = dict.fromkeys(quantities, "observed")
        reading = Reading("tts", quantities, basis, None, now, now - speech.started_at, "interrupted")
        self._append(stream, reading)

    def _of(self, stream: Any) -> _Speech:
        return self._open.setdefault(id(stream), _Speech(self._clock()))


def text_characters(message: str) -> int:
    """Count the characters to be spoken in a provider's websocket message; 0 if it carries none."""
    if not message.startswith("{"):
        return 0
    try:
        packet = json.loads(message)
    except ValueError:
        return 0
    return next((len(packet[key]) for key in _TEXT_KEYS if isinstance(packet.get(key), str)), 0)
