"""Speech synthesis: what was sent is the stream's that sent it, and nobody else's."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace

import pytest
from livekit.agents import APIConnectionError, APIStatusError

from livekit_costmeter.metering.estimates import Calibration
from livekit_costmeter.metering.operations.speech import SpeechMeter, text_characters


class Stream:
    """A synthesis stream as far as its meter looks."""

    _pushed_text = "Good morning."
    _started_time = 0.0
    _livekit_costmeter = None


class Request:
    """A synthesis request as far as its meter looks."""

    _input_text = "Good morning."
    _livekit_costmeter = None


def heard(seconds):
    return SimpleNamespace(frame=SimpleNamespace(duration=seconds))


@pytest.fixture
def appended():
    return []


@pytest.fixture
def calibration():
    return Calibration()


@pytest.fixture
def speech(appended, calibration):
    return SpeechMeter(
        lambda _stream, fields: appended.append(fields),
        lambda _component: ("openai", "gpt-4o-mini-tts"),
        calibration=calibration,
        clock=lambda: 0.0,
    )


def reported(characters, **more):
    quantities = {"characters": str(characters), **more}
    return {"quantities": quantities, "basis": dict.fromkeys(quantities, "observed")}


def test_what_is_sent_after_the_end_is_another_streams(speech, appended):
    """A plugin with one connection sends for all streams from the task of the first one."""
    first = speech.begun(Stream())
    speech.message_sent(first, '{"text": "Hello"}')
    fields = reported(4)
    speech.reported(first, None, fields)
    assert fields["quantities"]["characters"] == "5"
    speech.ended(first)
    for _ in range(100):
        speech.message_sent(first, '{"text": "of somebody else"}')
    assert appended == []
    assert first.sent == 0


def test_nothing_is_kept_of_a_stream_that_ended(speech):
    """Neither the meter nor what its tasks still hold keeps a finished stream alive."""
    stream = Stream()
    operation = speech.begun(stream)
    assert speech.begun(stream) is operation
    speech.ended(operation)
    gone = weakref.ref(stream)
    del stream
    gc.collect()
    assert gone() is None


def test_an_interrupted_stream_that_sends_out_of_sight_is_estimated(speech, appended):
    """Audio came back, so its text was sent; how much of it is estimated and says so."""
    operation = speech.begun(Stream())
    speech.attempt(operation)
    speech.received(operation, heard(0.5))
    speech.attempt_failed(operation, asyncio.CancelledError())
    speech.ended(operation)
    (fields,) = appended
    assert fields["quantities"] == {"characters": "13", "output_audio_seconds": "0.5"}
    assert fields["basis"] == {"characters": "estimated", "output_audio_seconds": "observed"}
    assert fields["attributes"]["estimate"]["characters"]["ratios"] == {"characters": "1"}
    assert fields["outcome"] == "interrupted"


def test_a_reported_stream_is_not_estimated_again(speech, appended):
    """What LiveKit reported stands, also where the wire cannot be seen."""
    operation = speech.begun(Stream())
    speech.received(operation, heard(0.5))
    fields = reported(13)
    speech.reported(operation, None, fields)
    speech.ended(operation)
    assert appended == []
    assert fields == reported(13)


def test_each_attempt_that_sent_text_is_recorded(speech, appended):
    """Two attempts that broke after their text was sent cost twice; a third that is reported is the report's."""
    operation = speech.begun(Stream())
    for _ in range(2):
        speech.attempt(operation)
        speech.message_sent(operation, '{"transcript": "Hello"}')
        speech.attempt_failed(operation, APIConnectionError("broken"))
    speech.attempt(operation)
    speech.message_sent(operation, '{"transcript": "Hello"}')
    speech.reported(operation, None, reported(5))
    speech.ended(operation)
    assert [fields["outcome"] for fields in appended] == ["failed", "failed"]
    assert [fields["quantities"]["characters"] for fields in appended] == ["5", "5"]


def test_a_request_that_was_refused_costs_nothing(speech, appended):
    """An error status is an answer without work; a connection that broke had the text."""
    operation = speech.begun(Request())
    speech.attempt(operation)
    speech.attempt_failed(operation, APIStatusError("no", status_code=500))
    assert appended == []
    speech.attempt(operation)
    speech.attempt_failed(operation, APIConnectionError("broken"))
    assert appended[0]["quantities"] == {"characters": "13"}
    assert appended[0]["basis"] == {"characters": "observed"}


def test_tokens_of_a_cut_sentence_are_estimated_by_those_before_it(speech, appended, calibration):
    """A model that has reported tokens once bills them always; the estimate carries its inputs."""
    operation = speech.begun(Request())
    speech.received(operation, heard(2.0))
    speech.reported(operation, None, reported(13, input_tokens="4", output_audio_tokens="50"))
    cut = speech.begun(Request())
    speech.attempt(cut)
    speech.received(cut, heard(1.0))
    fields = reported(13)
    speech.reported(cut, None, fields)
    assert fields["quantities"]["output_audio_tokens"] == "25"
    assert fields["basis"]["input_tokens"] == "estimated"
    assert fields["attributes"]["estimate"]["output_audio_tokens"]["observed"] == {"milliseconds": 1000}


def test_only_what_is_spoken_counts_as_text():
    """Settings, pings and binary messages hold no characters."""
    assert text_characters('{"transcript": "Hello", "voice": "x"}') == 5
    assert text_characters('{"type": "flush"}') == 0
    assert text_characters("ping") == 0
    assert text_characters('{"broken') == 0
