"""Streaming synthesis: what was sent is the stream's that sent it, and nobody else's."""

from __future__ import annotations

import gc
from decimal import Decimal

import pytest

from livekit_costmeter.metering.readers import Reading
from livekit_costmeter.metering.speech import SpeechMeter


class Stream:
    """A synthesis stream as far as its meter looks."""

    _pushed_text = "Good morning."


@pytest.fixture
def appended():
    return []


@pytest.fixture
def speech(appended):
    return SpeechMeter(lambda _stream, reading: appended.append(reading), clock=lambda: 0.0)


def reported(characters):
    return Reading("tts", {"characters": str(characters)}, {"characters": "observed"}, None, 0.0, 0.0)


def test_what_is_sent_after_the_end_is_another_streams(speech, appended):
    """A plugin with one connection sends for all streams from the task of the first one."""
    first = Stream()
    speech.message_sent(first, '{"text": "Hello"}')
    assert speech.reported(first, reported(4)).quantities["characters"] == "5"
    speech.ended(first)
    for _ in range(100):
        speech.message_sent(first, '{"text": "of somebody else"}')
        speech.audio_received(first, 1.0)
    assert appended == []
    assert speech._open == {}


def test_a_stream_whose_end_nobody_saw_leaves_nothing_behind(speech):
    """Its id is given out again, and the next stream starts from nothing."""
    stream = Stream()
    speech.message_sent(stream, '{"text": "Hello"}')
    del stream
    gc.collect()
    assert speech._open == {}


def test_an_interrupted_stream_that_sends_out_of_sight_is_estimated(speech, appended):
    """Audio came back, so its text was sent; how much of it is estimated and says so."""
    stream = Stream()
    speech.audio_received(stream, 0.5)
    speech.ended(stream)
    (reading,) = appended
    assert reading.quantities == {"characters": "13", "output_audio_seconds": "0.5"}
    assert reading.basis == {"characters": "estimated", "output_audio_seconds": "observed"}
    assert reading.attributes["estimate"]["ratio"] == "1"
    assert reading.outcome == "interrupted"


def test_a_reported_stream_is_not_estimated_again(speech, appended):
    """What LiveKit reported stands, also where the wire cannot be seen."""
    stream = Stream()
    speech.audio_received(stream, 0.5)
    assert speech.reported(stream, reported(13)) == reported(13)
    speech.ended(stream)
    assert appended == []
    assert Decimal(reported(13).quantities["characters"]) == len(stream._pushed_text)
