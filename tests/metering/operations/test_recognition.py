"""Audio on its way to speech-to-text: every stream counted, each for the session that opened it."""

from __future__ import annotations

import gc
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as some
from livekit import rtc
from livekit.agents import stt
from livekit.agents.metrics import STTMetrics
from livekit.agents.types import APIConnectOptions
from livekit.plugins import openai

from livekit_costmeter.metering.operations.recognition import UNREPORTED
from livekit_costmeter.metering.operations.windows import Windows


class Stream(stt.RecognizeStream):
    """Takes all the audio and recognises nothing."""

    async def _run(self):
        async for _ in self._input_ch:
            pass


class Recognizer(stt.STT):
    """Speech-to-text without a provider."""

    def __init__(self):
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))

    async def _recognize_impl(self, *_, **__):
        raise NotImplementedError

    def stream(self, **_):
        return Stream(stt=self, conn_options=APIConnectOptions())


def a_second():
    return rtc.AudioFrame(bytes(32_000), 16_000, 1, 16_000)


def seconds(records):
    return sum(Decimal(record["quantities"].get("audio_seconds", 0)) for record in records)


async def test_a_stream_that_never_ran_takes_nothing_from_the_next_one(meter, delivery):
    """Closed before its task has begun it leaves nothing behind, also where the next stream gets its id."""
    recognizer = Recognizer()
    for _ in range(20):
        unborn = recognizer.stream()
        unborn.push_frame(a_second())
        await unborn.aclose()
        del unborn
        gc.collect()
        stream = recognizer.stream()
        stream.push_frame(a_second())
        stream.end_input()
        assert [event async for event in stream] == []
        await stream.aclose()
    assert seconds(delivery.records) == 20
    del stream
    gc.collect()
    assert meter.recognition._windows._open == {}


@pytest.mark.parametrize("tokens", [0, 7])
async def test_a_stream_says_at_its_end_that_no_tokens_were_reported(meter, delivery, tokens):
    """Whether its provider bills in tokens only the prices know; that there were none only the meter does."""
    recognizer = Recognizer()
    stream = recognizer.stream()
    stream.push_frame(a_second())
    recognizer.emit("metrics_collected", transcription(streamed=True, input_tokens=tokens, audio_duration=1.0))
    stream.end_input()
    assert [event async for event in stream] == []
    await stream.aclose()
    last = delivery.records[-1]
    assert last["operation_total"]["audio_seconds"] == "1"
    assert last.get("attributes") == (None if tokens else UNREPORTED)


async def test_tokens_that_come_with_the_last_event_are_reported(meter, delivery):
    """The stream's task ends before LiveKit looks at what it sent last; the end is not marked as silent for that."""

    class Last(Stream):
        async def _run(self):
            await super()._run()
            usage = stt.RecognitionUsage(audio_duration=1.0, input_tokens=9, output_tokens=3)
            event = stt.SpeechEvent(stt.SpeechEventType.RECOGNITION_USAGE, recognition_usage=usage)
            self._event_ch.send_nowait(event)

    stream = Last(stt=Recognizer(), conn_options=APIConnectOptions())
    stream.push_frame(a_second())
    stream.end_input()
    assert len([event async for event in stream]) == 1
    await stream.aclose()
    end, tokens = delivery.records
    assert end["operation_total"]["audio_seconds"] == "1"
    assert "attributes" not in end
    assert tokens["quantities"] == {"input_audio_tokens": "9", "output_tokens": "3"}


async def test_seconds_that_a_realtime_session_transcribed_are_kept(meter, delivery):
    """A realtime session has no stream that counts its audio, so what it reports is all there is."""
    model = openai.realtime.RealtimeModel(api_key="key", base_url="http://127.0.0.1:9/v1")
    session = model.session()
    session.emit("metrics_collected", transcription(streamed=True, audio_duration=12.5))
    await session.aclose()
    assert seconds(record for record in delivery.records if record["component"] == "stt") == Decimal("12.5")


@given(some.lists(some.floats(0, 10, allow_subnormal=False), max_size=20))
def test_increments_add_up_to_the_total_exactly(amounts):
    """However the floats fall, what is written of each window sums to what is written at the end."""
    written, now = [], [0.0]
    meter = Windows(
        lambda _stream, fields: written.append((fields["quantities"], fields.get("operation_total"))),
        prefix="stt",
        time_unit="connection_seconds",
        monotonic=lambda: now[0],
    )
    stream = type("Stream", (), {})()
    meter.opened(stream)
    for amount in amounts:
        now[0] += amount / 3
        meter.pushed(stream, amount)
        meter.flush()
    now[0] += 1
    meter.closed(stream)
    total = written[-1][1]
    for unit in ("audio_seconds", "connection_seconds"):
        summed = sum(Decimal(quantities.get(unit, 0)) for quantities, _ in written)
        assert summed == Decimal(total.get(unit, 0))


def transcription(**changes):
    return STTMetrics(
        **{"request_id": "r", "timestamp": time.time(), "duration": 0.0, "label": "x", "audio_duration": 0.0, **changes}
    )
