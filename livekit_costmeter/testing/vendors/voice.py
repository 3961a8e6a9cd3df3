"""
A simulated voice: text to paced PCM.

Invariant: how long a text sounds follows from its length and the script's speaking rate alone, and each piece of
audio is counted before it is sent, because a vendor has generated what a leaving client no longer takes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from livekit_costmeter.records import Unit
from livekit_costmeter.testing.audio import tone
from livekit_costmeter.testing.ledger import Operation
from livekit_costmeter.testing.script import Fault, VoiceScript
from livekit_costmeter.testing.vendors.service import Pace, meet, pcm_seconds


class Voice:
    """Speaks the texts of one operation, one after the other, as one stretch of audio."""

    def __init__(self, script: VoiceScript, operation: Operation, fault: Fault, *, sample_rate: int) -> None:
        self._script = script
        self._operation = operation
        self._fault = fault
        self._rate = sample_rate
        self._pace = Pace(first_after=script.first_audio_after, per_second=script.realtime_factor)
        self._samples = 0

    @property
    def seconds(self) -> float:
        """How much audio was generated so far."""
        return self._samples / self._rate

    def samples_of(self, text: str) -> int:
        """Return how many samples a text sounds for; the spaces around it are silent and take no time."""
        return round(len(text.strip()) / self._script.characters_per_second * self._rate)

    async def speak(self, text: str, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Generate the audio of a text, chunk by chunk.

        Raises:
            Dropped: The script breaks the connection here.
        """
        left = self.samples_of(text)
        chunk = round(self._script.chunk_seconds * self._rate)
        while left > 0:
            samples = min(left, chunk)
            await self._pace.reach(self.seconds)
            await meet(self._fault, self.seconds)
            pcm = tone(samples, self._rate, start=self._samples)
            self._samples += samples
            left -= samples
            self._operation.add(Unit.OUTPUT_AUDIO_SECONDS, pcm_seconds(len(pcm), self._rate))
            await send(pcm)
