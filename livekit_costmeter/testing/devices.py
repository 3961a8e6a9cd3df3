"""
What stands in for a caller's phone: a microphone, a loudspeaker and captions, as `AgentSession` takes them.

Invariant: the microphone delivers 20 ms frames without a gap for as long as it is on, silence included, as a phone
does; the loudspeaker plays by the clock of the event loop and needs no task. `speed` compresses time: at 4.0 a second
of audio takes a quarter of a second.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from decimal import Decimal

from livekit import rtc
from livekit.agents.voice import io

from livekit_costmeter.testing.audio import silence, tone

_FRAMES_PER_SECOND = 50


class Microphone(io.AudioInput):
    """Gives the session what the caller says (tones) and silence in between."""

    def __init__(self, *, sample_rate: int = 16_000, speed: float = 1.0) -> None:
        super().__init__(label="CallDriver microphone")
        self._rate = sample_rate
        self._frame_samples = sample_rate // _FRAMES_PER_SECOND
        self._period = 1 / _FRAMES_PER_SECOND / speed
        self._due: float | None = None
        self._speech_left = 0
        self._delivered = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def seconds(self) -> Decimal:
        """How much audio the session has taken."""
        return Decimal(self._delivered) / self._rate

    def speak(self, seconds: float) -> None:
        """Say something of that length, from the next frame on."""
        self._speech_left += max(1, round(seconds * _FRAMES_PER_SECOND))
        self._quiet.clear()

    async def spoken(self) -> None:
        """Wait until everything said was delivered."""
        await self._quiet.wait()

    async def __anext__(self) -> rtc.AudioFrame:
        """Return the next frame when it is due."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() if self._due is None else self._due + self._period
        await asyncio.sleep(max(0.0, self._due - loop.time()))
        samples = self._frame_samples
        data = tone(samples, self._rate, start=self._delivered) if self._speech_left else silence(samples)
        self._delivered += samples
        self._count_down()
        return rtc.AudioFrame(data=data, sample_rate=self._rate, num_channels=1, samples_per_channel=samples)

    def _count_down(self) -> None:
        self._speech_left = max(0, self._speech_left - 1)
        if not self._speech_left:
            self._quiet.set()


@dataclass(slots=True)
class _Segment:
    """One stretch of agent speech on the loudspeaker; positions are seconds of audio."""

    captured: float = 0.0
    played: float = 0.0
    at: float = 0.0
    flushed: bool = False
    cleared: bool = False


class Loudspeaker(io.AudioOutput):
    """Plays what the agent says, and stops at once when it is interrupted."""

    def __init__(self, *, speed: float = 1.0) -> None:
        super().__init__(label="CallDriver loudspeaker", capabilities=io.AudioOutputCapabilities(pause=True))
        self._speed = speed
        self._segment: _Segment | None = None
        self._paused = False
        self._end: asyncio.TimerHandle | None = None
        self._heard = 0.0

    @property
    def position(self) -> float:
        """Seconds played of what is playing now; 0 when nothing is."""
        if self._segment is None:
            return 0.0
        self._advance(self._segment)
        return self._segment.played

    @property
    def seconds(self) -> float:
        """Seconds of agent speech that the caller has heard."""
        return self._heard + self.position

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Take audio to play; it may come faster than it plays."""
        await super().capture_frame(frame)
        if self._segment is None:
            self._segment = _Segment(at=self._now())
            self.on_playback_started(created_at=time.time())
        self._advance(self._segment)
        if not self._segment.cleared:
            self._segment.captured += frame.duration

    def flush(self) -> None:
        """Mark the end of the segment; it finishes when it has been played."""
        super().flush()
        if self._segment is not None:
            self._segment.flushed = True
            self._plan_end(self._segment)

    def clear_buffer(self) -> None:
        """Stop playing and drop the rest of the segment."""
        if self._segment is None:
            return
        self._advance(self._segment)
        self._segment.captured = self._segment.played
        self._segment.cleared = True
        if self._segment.flushed:
            self._finish(self._segment)

    def pause(self) -> None:
        """Hold the playback where it is."""
        super().pause()
        if self._segment is not None:
            self._advance(self._segment)
        self._paused = True
        self._cancel_end()

    def resume(self) -> None:
        """Go on playing."""
        super().resume()
        if self._segment is not None:
            self._segment.at = self._now()
        self._paused = False
        if self._segment is not None and self._segment.flushed:
            self._plan_end(self._segment)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _advance(self, segment: _Segment) -> None:
        now = self._now()
        if not self._paused:
            segment.played = min(segment.captured, segment.played + (now - segment.at) * self._speed)
        segment.at = now

    def _plan_end(self, segment: _Segment) -> None:
        self._cancel_end()
        self._advance(segment)
        if segment.cleared:
            self._finish(segment)
        elif not self._paused:
            remaining = (segment.captured - segment.played) / self._speed
            self._end = asyncio.get_running_loop().call_later(remaining, self._finish, segment)

    def _cancel_end(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None

    def _finish(self, segment: _Segment) -> None:
        self._cancel_end()
        played = segment.played if segment.cleared else segment.captured
        self._segment = None
        self._heard += played
        self.on_playback_finished(playback_position=played, interrupted=segment.cleared)


class Captions(io.TextOutput):
    """Collects what the agent says as text, one entry per segment."""

    def __init__(self) -> None:
        super().__init__(label="CallDriver captions", next_in_chain=None)
        self.segments: list[str] = []
        self._text = ""

    async def capture_text(self, text: str) -> None:
        """Take a piece of text."""
        self._text += text

    def flush(self) -> None:
        """End the segment."""
        if self._text:
            self.segments.append(self._text)
        self._text = ""
