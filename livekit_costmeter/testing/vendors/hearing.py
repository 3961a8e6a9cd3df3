"""
How a simulated recogniser follows a conversation: it hears PCM, and says when an utterance starts, grows and ends.

Invariant: turns follow from the audio alone (its loudness and length), never from wall-clock time, so that a run
gives the same turns at any pace.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from livekit_costmeter.testing.audio import is_speech
from livekit_costmeter.testing.script import ListenScript
from livekit_costmeter.testing.vendors.service import Cues, pcm_seconds


@dataclass(frozen=True, slots=True)
class Heard:
    """Something to tell the client: an utterance started, has an interim transcript, or is final.

    `start` and `end` are seconds of audio since the connection opened.
    """

    event: Literal["started", "interim", "final"]
    text: str
    start: float
    end: float

    def words(self) -> list[dict[str, object]]:
        """Return the words with times spread evenly over the utterance, as recognisers report them."""
        words = self.text.split()
        step = (self.end - self.start) / max(1, len(words))
        return [
            {
                "word": word.strip(".,?!").lower(),
                "punctuated_word": word,
                "start": round(self.start + position * step, 3),
                "end": round(self.start + (position + 1) * step, 3),
                "confidence": 0.99,
            }
            for position, word in enumerate(words)
        ]


class Ear:
    """Hears one connection's audio and cuts it into utterances."""

    def __init__(self, script: ListenScript, transcripts: Cues[str], *, sample_rate: int, channels: int = 1) -> None:
        self._script = script
        self._transcripts = transcripts
        self._format = (sample_rate, channels)
        self.seconds = Decimal(0)
        self._started_at: Decimal | None = None
        self._spoken_until = Decimal(0)
        self._text = ""
        self._interim_sent = False

    def hear(self, pcm: bytes) -> list[Heard]:
        """Take a piece of audio and return what there is to tell about it."""
        rate, channels = self._format
        begins = self.seconds
        self.seconds += pcm_seconds(len(pcm), rate, channels=channels)
        if is_speech(pcm):
            return self._speech(begins)
        if self._started_at is not None and float(self.seconds - self._spoken_until) >= self._script.silence_after:
            return self.finish()
        return []

    def finish(self) -> list[Heard]:
        """End the utterance now, if there is one."""
        if self._started_at is None:
            return []
        final = self._heard("final", self._text)
        self._started_at = None
        return [final]

    def _speech(self, begins: Decimal) -> list[Heard]:
        self._spoken_until = self.seconds
        if self._started_at is None:
            self._started_at, self._interim_sent = begins, False
            self._text = self._transcripts.next()
            return [self._heard("started", "")]
        if not self._interim_sent and float(self.seconds - self._started_at) >= self._script.interim_after:
            self._interim_sent = True
            words = self._text.split()
            return [self._heard("interim", " ".join(words[: (len(words) + 1) // 2]))]
        return []

    def _heard(self, event: Literal["started", "interim", "final"], text: str) -> Heard:
        assert self._started_at is not None
        return Heard(event, text, float(self._started_at), float(self._spoken_until))
