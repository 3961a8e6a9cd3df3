"""The microphone, the loudspeaker and the captions of a call without a room."""

import asyncio
from decimal import Decimal

import pytest
from livekit import rtc

from livekit_costmeter.testing import Captions, Loudspeaker, Microphone
from livekit_costmeter.testing.audio import is_speech

RATE = 24_000


def speech(seconds):
    """Make a frame of that length."""
    samples = round(seconds * RATE)
    return rtc.AudioFrame(bytes(samples * 2), RATE, 1, samples)


@pytest.fixture
def finished():
    """Collect what a loudspeaker reports at the end of a segment."""

    def listen(loudspeaker):
        events = []
        loudspeaker.on("playback_finished", events.append)
        return events

    return listen


async def test_a_microphone_never_pauses():
    """Frames of 20 ms follow each other; speech takes the place of silence for as long as it lasts."""
    microphone = Microphone(speed=1000.0)
    heard = [is_speech(bytes((await anext(microphone)).data)) for _ in range(2)]
    microphone.speak(0.06)
    heard += [is_speech(bytes((await anext(microphone)).data)) for _ in range(5)]
    await microphone.spoken()
    assert heard == [False, False, True, True, True, False, False]
    assert microphone.seconds == Decimal("0.14")


async def test_a_loudspeaker_plays_to_the_end(finished):
    """A flushed segment is reported as played out, in full."""
    loudspeaker = Loudspeaker(speed=100.0)
    events = finished(loudspeaker)
    await loudspeaker.capture_frame(speech(0.4))
    await loudspeaker.capture_frame(speech(0.6))
    loudspeaker.flush()
    await loudspeaker.wait_for_playout()
    assert [(event.playback_position, event.interrupted) for event in events] == [(pytest.approx(1.0), False)]
    assert loudspeaker.seconds == pytest.approx(1.0)
    assert loudspeaker.position == 0.0


async def test_a_cleared_loudspeaker_stops_where_it_is(finished):
    """Clearing reports what was heard until then, as interrupted."""
    loudspeaker = Loudspeaker(speed=1.0)
    events = finished(loudspeaker)
    await loudspeaker.capture_frame(speech(60.0))
    loudspeaker.flush()
    loudspeaker.clear_buffer()
    await loudspeaker.wait_for_playout()
    (event,) = events
    assert event.interrupted
    assert event.playback_position < 60.0


async def test_a_segment_cleared_before_its_flush_ends_once(finished):
    """Frames that arrive after clearing are not heard, and the segment ends with its flush."""
    loudspeaker = Loudspeaker(speed=1000.0)
    events = finished(loudspeaker)
    await loudspeaker.capture_frame(speech(1.0))
    loudspeaker.clear_buffer()
    heard = loudspeaker.position
    await loudspeaker.capture_frame(speech(1.0))
    loudspeaker.flush()
    assert [(event.playback_position, event.interrupted) for event in events] == [(heard, True)]


async def test_a_paused_loudspeaker_stands_still(finished):
    """Nothing plays while paused; after resuming, the rest does."""
    loudspeaker = Loudspeaker(speed=50.0)
    events = finished(loudspeaker)
    await loudspeaker.capture_frame(speech(1.0))
    loudspeaker.flush()
    loudspeaker.pause()
    before = loudspeaker.position
    await asyncio.sleep(0.05)
    assert loudspeaker.position == before
    assert events == []
    loudspeaker.resume()
    await loudspeaker.wait_for_playout()
    assert [event.interrupted for event in events] == [False]


async def test_clearing_silence_is_nothing(finished):
    """Clearing when nothing plays reports nothing."""
    loudspeaker = Loudspeaker()
    events = finished(loudspeaker)
    loudspeaker.clear_buffer()
    loudspeaker.flush()
    assert events == []


async def test_captions_are_kept_by_segment():
    """Text is joined until its segment ends; an empty segment leaves nothing."""
    captions = Captions()
    for text in ("Good ", "morning."):
        await captions.capture_text(text)
    captions.flush()
    captions.flush()
    assert captions.segments == ["Good morning."]
