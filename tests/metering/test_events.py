"""What LiveKit reports: one record per object, whoever emits it and however often."""

from __future__ import annotations

import asyncio
import itertools
import threading
from types import SimpleNamespace

import pytest
from livekit.agents import llm, stt, tts
from livekit.agents.metrics import EOUMetrics, LLMMetrics, RealtimeModelMetrics, STTMetrics, TTSMetrics, VADMetrics
from livekit.agents.types import APIConnectOptions

from livekit_costmeter.metering.hooks import marks


class Model(llm.LLM):
    provider = property(lambda _self: "api.openai.com")
    model = property(lambda _self: "gpt-4o-mini")

    def chat(self, **_):
        raise NotImplementedError


class Voice(tts.TTS):
    provider = property(lambda _self: "api.openai.com")
    model = property(lambda _self: "tts-1")

    def __init__(self):
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=16_000, num_channels=1)

    def synthesize(self, _text, **_):
        raise NotImplementedError


class Spoken(tts.ChunkedStream):
    async def _run(self, output_emitter):
        output_emitter.initialize(request_id="r", sample_rate=16_000, num_channels=1, mime_type="audio/pcm")
        output_emitter.push(bytes(32_000))


class Ear(stt.STT):
    provider = property(lambda _self: "api.openai.com")
    model = property(lambda _self: "gpt-4o-transcribe")

    def __init__(self):
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))

    async def _recognize_impl(self, *_, **__):
        raise NotImplementedError


def llm_metrics(**changes):
    values = {
        "label": "l", "request_id": "r", "timestamp": 100.5, "duration": 2.0, "ttft": 0.1, "cancelled": False,
        "completion_tokens": 30, "prompt_tokens": 100, "prompt_cached_tokens": 0, "total_tokens": 130,
        "tokens_per_second": 15.0,
    }  # fmt: skip
    return LLMMetrics(**{**values, **changes})


def tts_metrics(**changes):
    values = {
        "label": "l", "request_id": "r", "timestamp": 1.0, "ttfb": 0.1, "duration": 1.0, "audio_duration": 1.0,
        "cancelled": False, "characters_count": 5, "streamed": False,
    }  # fmt: skip
    return TTSMetrics(**{**values, **changes})


def stt_metrics(**changes):
    values = {
        "label": "l",
        "request_id": "r",
        "timestamp": 1.0,
        "duration": 0.0,
        "audio_duration": 2.5,
        "streamed": True,
    }
    return STTMetrics(**{**values, **changes})


def quantities(delivery):
    return [record["quantities"] for record in delivery.records]


def test_a_model_that_said_no_usage_made_a_request(meter, delivery):
    """Nothing is known but that it was called; it is said, without a number of tokens."""
    Model().emit("metrics_collected", llm_metrics(completion_tokens=0, prompt_tokens=0, total_tokens=0))
    assert quantities(delivery) == [{"requests": "1"}]
    assert delivery.records[0]["basis"] == {"requests": "observed"}


@pytest.mark.parametrize(
    "event",
    [
        EOUMetrics(
            timestamp=1.0, end_of_utterance_delay=0.1, transcription_delay=0.1, on_user_turn_completed_delay=0.1
        ),
        VADMetrics(label="l", timestamp=1.0, idle_time=1.0, inference_duration_total=0.1, inference_count=3),
        tts_metrics(characters_count=0, audio_duration=0.0),
        stt_metrics(audio_duration=0.0),
        SimpleNamespace(type="something new"),
        object(),
        None,
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_holds_no_usage_is_no_record(meter, delivery, caplog, event):
    """Delays, voice activity, connection timings, and what LiveKit may yet invent."""
    for component in (Model(), Voice(), Ear()):
        component.emit("metrics_collected", event)
    assert delivery.records == []
    assert "metering failed" not in caplog.text


def test_audio_that_a_stream_reports_is_counted_by_its_window_alone(meter, delivery):
    """Plugins add idle time or count twice; the window saw what was pushed."""
    Ear().emit("metrics_collected", stt_metrics())
    assert delivery.records == []


def test_tokens_that_a_stream_reports_are_recorded_without_its_audio(meter, delivery):
    """They are what is billed, and nobody else knows them."""
    Ear().emit("metrics_collected", stt_metrics(input_tokens=90, output_tokens=8))
    assert quantities(delivery) == [{"input_audio_tokens": "90", "output_tokens": "8"}]
    assert delivery.records[0]["basis"] == {"input_audio_tokens": "reported", "output_tokens": "reported"}
    assert "operation_total" not in delivery.records[0]


def test_audio_of_a_request_is_recorded(meter, delivery):
    """A request has no window."""
    Ear().emit("metrics_collected", stt_metrics(streamed=False))
    assert quantities(delivery) == [{"audio_seconds": "2.5"}]


def test_what_the_stream_below_has_reported_is_not_reported_again(meter, delivery):
    """A chunked synthesis that wraps a stream says the same words once more."""

    async def outer():
        marks.reporting.set(marks.REPEATED)
        Voice().emit("metrics_collected", tts_metrics())

    asyncio.run(outer())
    assert delivery.records == []


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_adapters_around_adapters_add_nothing(meter, delivery, depth):
    """Each emits the object of the one below, from within its emit: the model that holds the key is first."""
    chain = [Voice() for _ in range(depth + 1)]
    for inner, outer in itertools.pairwise(chain):
        inner.on("metrics_collected", lambda event, outer=outer: outer.emit("metrics_collected", event))
    heard = []
    chain[-1].on("metrics_collected", heard.append)
    chain[0].emit("metrics_collected", tts_metrics())
    assert len(heard) == 1
    assert len(delivery.records) == 1
    assert meter.emitting == set()


def test_one_object_on_two_roads_to_the_same_adapter_is_counted_once(meter, delivery):
    """A diamond: two forwarders, one usage."""
    model, left, right = Model(), Model(), Model()
    model.on("metrics_collected", lambda event: left.emit("metrics_collected", event))
    model.on("metrics_collected", lambda event: right.emit("metrics_collected", event))
    left.on("metrics_collected", lambda event: right.emit("metrics_collected", event))
    model.emit("metrics_collected", llm_metrics())
    assert len(delivery.records) == 1


def test_a_listener_that_asks_again_is_another_usage(meter, delivery):
    """Work that is done while another's metrics are emitted is not that other work."""
    model, second = Model(), Model()
    model.once("metrics_collected", lambda _event: second.emit("metrics_collected", llm_metrics(request_id="r2")))
    model.emit("metrics_collected", llm_metrics())
    assert [record["operation_id"] for record in delivery.records] == ["r", "r2"]


def test_threads_that_emit_at_once_are_counted_each(meter, delivery):
    """Jobs in threads share the process, its components and this meter."""
    model = Model()

    def emit(name):
        for number in range(100):
            model.emit("metrics_collected", llm_metrics(request_id=f"{name}-{number}"))

    threads = [threading.Thread(target=emit, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(delivery.records) == len({record["operation_id"] for record in delivery.records}) == 400
    assert meter.emitting == set()


class Session:
    """A realtime session as far as its events are read."""

    def __init__(self):
        self._realtime_model = SimpleNamespace(model="gpt-realtime", provider="api.openai.com", label="l")


async def test_a_listener_that_raises_makes_no_second_record(meter, delivery):
    """LiveKit's monitor dies of it, after the report: the request is recorded, and has not failed."""
    voice = Voice()

    @lambda listener: voice.on("metrics_collected", listener)
    def broken(_event):
        raise TypeError("the agent's own")

    stream = Spoken(tts=voice, input_text="Good morning.", conn_options=APIConnectOptions())
    assert [event.frame.duration async for event in stream]
    with pytest.raises(TypeError, match="the agent's own"):
        await stream.aclose()
    assert broken is not None
    assert [record["outcome"] for record in delivery.records] == ["completed"]
    assert quantities(delivery) == [{"characters": "13", "output_audio_seconds": "1"}]


def realtime_metrics(**changes):
    values = {
        "label": "l", "request_id": "resp_1", "timestamp": 10.0, "duration": 2.0, "ttft": 0.1, "cancelled": False,
        "input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "tokens_per_second": 5.0,
        "input_token_details": RealtimeModelMetrics.InputTokenDetails(),
        "output_token_details": RealtimeModelMetrics.OutputTokenDetails(),
    }  # fmt: skip
    return RealtimeModelMetrics(**{**values, **changes})


@pytest.mark.parametrize(
    ("event", "component", "units"),
    [
        (realtime_metrics(), "realtime", {"input_tokens": "10", "output_tokens": "5"}),
        (stt_metrics(input_tokens=9), "stt", {"input_audio_tokens": "9", "audio_seconds": "2.5"}),
        (llm_metrics(), "llm", {"input_tokens": "100", "output_tokens": "30"}),
        (llm_metrics(completion_tokens=0, prompt_tokens=0), "llm", {"requests": "1"}),
    ],
    ids=["response", "transcription", "thought", "silent thought"],
)
def test_work_of_a_realtime_session_is_its_models(meter, delivery, event, component, units):
    """The session holds no key and no name; what it did for hearing or thinking is recorded as that."""
    meter.usage_of_session(Session(), event)
    assert quantities(delivery) == [units]
    record = delivery.records[0]
    assert (record["component"], record["provider"]) == (component, "openai")


def test_a_response_lasts_from_its_creation(meter, delivery):
    """LiveKit stamps realtime metrics with the beginning, all others with the end."""
    meter.usage_of_session(Session(), realtime_metrics())
    Model().emit("metrics_collected", llm_metrics())
    starts = [(record["started_at"], record["at"]) for record in delivery.records]
    assert starts == [(10.0, 12.0), (98.5, 100.5)]
