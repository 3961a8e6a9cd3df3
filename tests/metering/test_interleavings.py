"""Interleavings that once lost usage, counted it twice, or gave it to somebody else."""

from __future__ import annotations

import asyncio
import contextvars
import json
import weakref
from decimal import Decimal
from types import SimpleNamespace

import pytest
from livekit import rtc
from livekit.agents import APIConnectionError, APIStatusError, llm, stt, tts
from livekit.agents.metrics import RealtimeModelMetrics
from livekit.agents.types import APIConnectOptions
from livekit.agents.voice import agent_activity
from livekit.plugins import openai

from livekit_costmeter.metering.estimates import Calibration
from livekit_costmeter.metering.hooks import hosting
from livekit_costmeter.metering.operations.generations import GenerationMeter

FAST = APIConnectOptions(max_retry=2, retry_interval=0.0, timeout=1.0)


def text(content):
    return llm.ChatChunk(id="c", delta=llm.ChoiceDelta(role="assistant", content=content))


def usage(prompt, completion):
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return llm.ChatChunk(id="c", usage=llm.CompletionUsage(**counts))


class ScriptedStream(llm.LLMStream):
    async def _run(self):
        script = self._llm.scripts.pop(0)
        for step in script:
            if isinstance(step, BaseException):
                raise step
            if step is None:
                await asyncio.Event().wait()
            else:
                self._event_ch.send_nowait(step)


class ScriptedLLM(llm.LLM):
    def __init__(self, *scripts, model="gpt-4o-mini"):
        super().__init__()
        self.scripts, self._model = list(scripts), model

    model = property(lambda self: self._model)
    provider = property(lambda _self: "api.openai.com")

    def chat(self, *, chat_ctx=None, tools=None, conn_options=FAST, **_):
        if chat_ctx is None:
            chat_ctx = llm.ChatContext()
            chat_ctx.add_message(role="user", content="Hello there, how are you?")
        return ScriptedStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


async def drained(stream):
    async with stream:
        try:
            async for _ in stream:
                pass
        except Exception:
            pass


def total(records, unit):
    return sum(Decimal(record["quantities"].get(unit, 0)) for record in records)


def frame(seconds=1.0):
    samples = int(16_000 * seconds)
    return rtc.AudioFrame(bytes(samples * 2), 16_000, 1, samples)


# --- language models -------------------------------------------------------------------------------------------------


async def test_llm_usage_of_a_failed_attempt_is_not_reported_again_by_the_next(meter, delivery):
    """LiveKit's monitor keeps the last usage across attempts: an attempt 2 without usage repeats attempt 1's."""
    broken = APIConnectionError("cut")
    model = ScriptedLLM([text("a"), usage(100, 10), broken], [text("some words of an answer")])
    await drained(model.chat())
    reported = [r for r in delivery.records if r["basis"].get("input_tokens") == "reported"]
    assert [r["outcome"] for r in reported] == ["failed"]
    assert total(reported, "output_tokens") == 10


async def test_llm_closed_by_499_after_its_usage_is_counted_once(meter, delivery):
    """LiveKit ends on 499 without an error, and so reports what we have recorded as failed."""
    model = ScriptedLLM([text("a"), usage(100, 10), APIStatusError("client closed request", status_code=499)])
    await drained(model.chat())
    assert total(delivery.records, "input_tokens") == 100


async def test_llm_monitor_cancelled_before_its_stream_is_not_a_completed_answer(meter, delivery):
    """A loop that ends cancels all tasks, in any order; cut off in the middle is interrupted."""
    stream = ScriptedLLM([text("half an answer"), None]).chat()
    await asyncio.sleep(0.01)
    stream._metrics_task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    stream._task.cancel()
    await asyncio.gather(stream._task, stream._metrics_task, return_exceptions=True)
    assert [r["outcome"] for r in delivery.records] == ["interrupted"]


async def test_llm_monitor_cancelled_before_the_first_chunk_loses_nothing(meter, delivery):
    """As above, without a chunk: the prompt was asked, and is recorded."""
    stream = ScriptedLLM([None]).chat()
    await asyncio.sleep(0.01)
    stream._metrics_task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    stream._task.cancel()
    await asyncio.gather(stream._task, stream._metrics_task, return_exceptions=True)
    assert [r["outcome"] for r in delivery.records] == ["interrupted"]


def test_llm_nothing_is_kept_of_a_generation_that_ended():
    """What a monitor's context still holds does not keep the stream (and with it the whole conversation) alive."""

    class Stream:
        _livekit_costmeter = None
        _chat_ctx = SimpleNamespace(items=())

    generations = GenerationMeter(lambda *_: None, lambda _: ("openai", "m"), calibration=Calibration())
    stream = Stream()
    operation = generations.begun(stream)
    generations.ended(operation)
    gone = weakref.ref(stream)
    del stream
    assert gone() is None  # by reference count: no cycle, no garbage collector


# --- calibration -----------------------------------------------------------------------------------------------------


def test_calibration_one_weird_call_moves_no_estimate_by_much():
    """A prompt of pictures, or an answer thought about out of sight, is one sample among many."""
    calibration = Calibration()
    for _ in range(63):
        calibration.learn("openai", "m", "output", {"bytes": 400}, 100)
    calibration.learn("openai", "m", "output", {"bytes": 4}, 60_000)
    assert calibration.estimate("openai", "m", "output", {"bytes": 400}).tokens <= 200


async def test_a_prompt_with_a_picture_is_at_least_its_text(meter, delivery):
    """How many tokens a picture is nobody can tell from outside, so the estimate is a lower bound and says why."""
    chat = llm.ChatContext()
    chat.add_message(role="user", content=["What is this?", llm.ImageContent(image="https://example.com/picture.png")])
    await drained(ScriptedLLM([text("A cat")]).chat(chat_ctx=chat))
    (record,) = delivery.records
    assert record["basis"] == {"input_tokens": "lower_bound", "output_tokens": "estimated"}
    assert record["attributes"]["estimate"]["input_tokens"]["observed"]["media"] == 1


async def test_calibration_prompt_with_a_picture_teaches_nothing_of_text(meter, delivery):
    """Image tokens are not tokens per byte of text."""
    chat = llm.ChatContext()
    picture = llm.ImageContent(image="https://example.com/picture.png")
    chat.add_message(role="user", content=["What is this?", picture])
    await drained(ScriptedLLM([text("A cat, sitting"), usage(1100, 4)]).chat(chat_ctx=chat))
    await drained(ScriptedLLM([text("Hi"), APIConnectionError("cut")], [text("Hi"), usage(12, 1)]).chat())
    failed = next(r for r in delivery.records if r["outcome"] == "failed")
    assert int(failed["quantities"]["input_tokens"]) < 50


@pytest.mark.parametrize(
    "sums",
    [
        {"default": "NaN", "actual": "1", "samples": 1},
        {"default": "1", "actual": "sNaN", "samples": 1},
        {"default": "1", "actual": "Infinity", "samples": 1},
        {"default": "1", "actual": "1E+40", "samples": 1},
        {"default": "1", "actual": "-5", "samples": 1},
    ],
)
def test_calibration_numbers_in_the_file_that_are_none_mean_the_default(tmp_path, sums):
    """The invariant: a damaged file means the default, never an error (which would lose the record)."""
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"format": 1, "models": {"openai/m/output": sums}}))
    assert Calibration(path).estimate("openai", "m", "output", {"bytes": 40}).tokens == 10


def test_calibration_file_of_another_format_is_neither_read_nor_misread(tmp_path):
    """Format 2 may mean anything by its numbers."""
    path = tmp_path / "calibration.json"
    sums = {"default": "1", "actual": "7", "samples": 9}
    path.write_text(json.dumps({"format": 2, "models": {"openai/m/output": sums}}))
    assert Calibration(path).estimate("openai", "m", "output", {"bytes": 40}).tokens == 10


async def test_calibration_damaged_loses_no_record(meter, delivery, tmp_path):
    """Even an estimate that fails leaves a record behind."""
    path = tmp_path / "calibration.json"
    sums = {"default": "NaN", "actual": "1", "samples": 1}
    path.write_text(json.dumps({"format": 1, "models": {"openai/gpt-4o-mini/input": sums}}))
    meter.generations._calibration._path = path
    await drained(ScriptedLLM([text("Hi"), APIConnectionError("cut")], [text("Hi"), usage(12, 1)]).chat())
    assert [r["outcome"] for r in delivery.records] == ["failed", "completed"]


def test_calibration_of_a_reasoning_only_answer_is_measured_no_longer_than_others():
    """`is_wanted` looks at samples of the output, which an answer without output tokens never makes."""
    calibration = Calibration()
    for _ in range(100):
        calibration.learn("openai", "o3", "input", {"bytes": 400, "messages": 1}, 100)
    assert not calibration.is_wanted("openai", "o3")


# --- speech synthesis ------------------------------------------------------------------------------------------------


class ScriptedSpeech(tts.ChunkedStream):
    async def _run(self, emitter):
        emitter.initialize(
            request_id="r", sample_rate=16_000, num_channels=1, mime_type="audio/pcm", frame_size_ms=20, stream=False
        )
        for step in self._tts.scripts.pop(0):
            if isinstance(step, BaseException):
                await asyncio.sleep(0.05)
                raise step
            if step is None:
                await asyncio.Event().wait()
            emitter.push(bytes(int(step * 32_000)))
            await asyncio.sleep(0.01)


class ScriptedTTS(tts.TTS):
    def __init__(self, *scripts):
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=16_000, num_channels=1)
        self.scripts = list(scripts)

    model = property(lambda _self: "tts-1")
    provider = property(lambda _self: "api.openai.com")

    def synthesize(self, text, *, conn_options=FAST):
        return ScriptedSpeech(tts=self, input_text=text, conn_options=conn_options)


async def test_tts_audio_of_a_failed_attempt_is_not_reported_again_by_the_next(meter, delivery):
    """LiveKit's monitor sums the audio of all attempts; the failed one is recorded already."""
    await drained(ScriptedTTS([1.0, APIConnectionError("cut")], [2.0]).synthesize("Good morning."))
    first, second = delivery.records
    assert (first["outcome"], second["outcome"]) == ("failed", "completed")
    assert Decimal(second["quantities"]["output_audio_seconds"]) == 2


async def test_tts_closed_by_499_is_counted_once(meter, delivery):
    """As for language models: LiveKit ends quietly and reports the request."""
    await drained(ScriptedTTS([1.0, APIStatusError("closed", status_code=499)]).synthesize("Good morning."))
    assert total(delivery.records, "characters") == 13


async def test_tts_request_that_never_began_is_not_recorded(meter, delivery):
    """Made and closed at once: its task never ran, nothing was sent, and LiveKit reports its characters anyway."""
    stream = ScriptedTTS([1.0]).synthesize("Good morning.")
    await stream.aclose()
    assert delivery.records == []


async def test_tts_answers_without_audio_cost_nothing(meter, delivery):
    """A provider that refuses by an empty answer did no work; LiveKit tries again, and what was spoken counts."""
    await drained(ScriptedTTS([], [], [1.0]).synthesize("Good morning."))
    assert total(delivery.records, "characters") == 13


# --- speech recognition ----------------------------------------------------------------------------------------------


class Listening(stt.RecognizeStream):
    async def _run(self):
        async for _ in self._input_ch:
            pass


class ScriptedSTT(stt.STT):
    def __init__(self, *results):
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))
        self.results = list(results)

    model = property(lambda _self: "whisper-1")
    provider = property(lambda _self: "api.openai.com")

    async def _recognize_impl(self, *_, **__):
        result = self.results.pop(0)
        if isinstance(result, BaseException):
            raise result
        return stt.SpeechEvent(stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[stt.SpeechData("en", result)])

    def stream(self, **_):
        return Listening(stt=self, conn_options=APIConnectOptions())


async def test_stt_request_through_a_stream_adapter_is_counted_once(meter, delivery):
    """LiveKit's adapter inherits `recognize` and reports the same audio a second time, as its own."""
    adapter = stt.StreamAdapter(stt=ScriptedSTT("hello"), vad=SimpleNamespace())
    await adapter.recognize(frame(), conn_options=FAST)
    assert total(delivery.records, "audio_seconds") == 1


async def test_stt_request_that_fails_through_a_stream_adapter_is_counted_once(meter, delivery):
    """One attempt, one failure: the adapter's own error is the same one."""
    adapter = stt.StreamAdapter(stt=ScriptedSTT(APIConnectionError("cut")), vad=SimpleNamespace())
    with pytest.raises(APIConnectionError):
        await adapter.recognize(frame(), conn_options=APIConnectOptions(max_retry=0))
    assert total(delivery.records, "audio_seconds") == 1


async def test_stt_error_of_another_component_is_no_failed_recognition(meter, delivery):
    """An error handler's task inherits the request's mark: what fails in it later is not that request."""
    recognizer = ScriptedSTT(APIConnectionError("cut"), "hello")
    voice = ScriptedTTS([APIConnectionError("cut")])
    tasks = []

    @recognizer.once("error")
    def apologise(_event):
        tasks.append(
            asyncio.ensure_future(drained(voice.synthesize("Sorry!", conn_options=APIConnectOptions(max_retry=0))))
        )

    await recognizer.recognize(frame(), conn_options=FAST)
    await asyncio.gather(*tasks)
    assert sorted((r["component"], r["outcome"]) for r in delivery.records) == [
        ("stt", "completed"), ("stt", "failed"), ("tts", "failed"),
    ]  # fmt: skip


async def test_stt_probe_that_is_fed_before_it_runs_is_still_a_probe(meter, delivery):
    """The adapter's forwarder may push a frame before the probe's own task has run its first step."""
    recognizer = ScriptedSTT()
    stream = as_probe(meter, recognizer.stream)
    stream.push_frame(frame())
    await asyncio.sleep(0.01)
    stream.end_input()
    assert [event async for event in stream] == []
    await stream.aclose()
    assert {r["outcome"] for r in delivery.records} == {"probe"}


async def test_stt_tokens_carry_no_speech_that_led_to_the_handoff(meter, delivery):
    """A stream opened by a handoff lives in the context of a speech before it; its tokens are not of that speech."""
    recognizer = ScriptedSTT()
    before = SimpleNamespace(id="speech_before", scheduled=True, interrupted=False)
    token = agent_activity._SpeechHandleContextVar.set(before)
    stream = recognizer.stream()
    agent_activity._SpeechHandleContextVar.reset(token)
    usage = stt.RecognitionUsage(audio_duration=1.0, input_tokens=9, output_tokens=3)
    stream._event_ch.send_nowait(stt.SpeechEvent(stt.SpeechEventType.RECOGNITION_USAGE, recognition_usage=usage))
    stream.push_frame(frame())
    await asyncio.sleep(0.01)
    stream.end_input()
    assert len([event async for event in stream]) == 1
    await stream.aclose()
    assert [r.get("speech_id") for r in delivery.records] == [None] * len(delivery.records)


# --- probes, speculation ---------------------------------------------------------------------------------------------


class Handle:
    def __init__(self, *, scheduled=False, interrupted=False):
        self.id, self.scheduled, self.interrupted = "speech_1", scheduled, interrupted


def within(speech):
    context = contextvars.copy_context()
    context.run(agent_activity._SpeechHandleContextVar.set, speech)
    return context


def as_probe(meter, action):
    """Do something as an adapter's `_try_recovery` does it."""
    return hosting.probe(meter, lambda _stream: action())(None)


async def test_probe_in_a_reply_that_is_thrown_away_stays_a_probe(meter, delivery):
    """Whatever becomes of the reply, nobody asked the probe for it."""
    model = ScriptedLLM([text("Hi"), usage(12, 1)])
    stream = within(Handle(interrupted=True)).run(as_probe, meter, model.chat)
    await drained(stream)
    assert [r["outcome"] for r in delivery.records] == ["probe"]


async def test_probe_in_a_speculative_reply_leaves_no_discard_mark(meter, delivery):
    """A mark would turn the real charge of the same model and speech into discarded work."""
    handle = Handle()
    await drained(within(handle).run(as_probe, meter, ScriptedLLM([text("Hi"), usage(12, 1)]).chat))
    meter.speech_cancelled(handle)
    assert [r["outcome"] for r in delivery.records] == ["probe"]


async def test_probe_ends_with_its_task_and_not_with_what_its_listeners_start(meter, delivery):
    """A listener to `llm_availability_changed` that makes the agent speak does real work."""

    def listener():
        later = contextvars.copy_context()
        later.run(agent_activity._SpeechHandleContextVar.set, Handle(scheduled=True))
        return later.run(ScriptedLLM([text("We are back"), usage(12, 3)]).chat)

    await drained(within(Handle(scheduled=True)).run(as_probe, meter, listener))
    assert [r["outcome"] for r in delivery.records] == ["completed"]


async def test_discard_mark_has_the_session_of_the_work_it_discards(meter, delivery):
    """The mark is matched by session and speech, but whoever cancels may run in another context (or in none)."""
    session = SimpleSession()
    handle = Handle()
    context = within(handle)
    context.run(
        agent_activity._AgentActivityContextVar.set, SimpleNamespace(session=session, agent=SimpleNamespace(id="a"))
    )
    await drained(context.run(ScriptedLLM([text("Hi"), usage(12, 1)]).chat))
    handle.interrupted = True
    contextvars.Context().run(meter.speech_cancelled, handle)
    work, mark = delivery.records
    assert mark["outcome"] == "discarded"
    assert (mark.get("session_id"), mark.get("agent")) == (work["session_id"], work["agent"])


class SimpleSession:
    """A session as far as scopes look."""

    _room_io = None
    _activity = None


# --- realtime --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def realtime_model():
    models = []

    def make():
        models.append(openai.realtime.RealtimeModel(api_key="key", base_url="http://127.0.0.1:9/v1"))
        return models[-1]

    yield make
    for model in models:
        await model.aclose()


def seconds_by_model(records):
    return [(r["provider"], r["model"]) for r in records if "session_seconds" in r["quantities"]]


@pytest.mark.skipif(not hasattr(llm, "RealtimeModelFallbackAdapter"), reason="this LiveKit has no such adapter")
async def test_realtime_time_behind_a_fallback_adapter_is_counted_once(meter, delivery, realtime_model):
    """The adapter's session is no connection of its own: only the one behind it is."""
    adapter = llm.RealtimeModelFallbackAdapter([realtime_model()])
    session = adapter.session()
    await asyncio.sleep(0.01)
    await session.aclose()
    models = seconds_by_model(delivery.records)
    assert [model for provider, model in models if provider == "livekit" or "Adapter" in model] == []
    assert len(models) == 1


@pytest.mark.skipif(not hasattr(llm, "RealtimeModelFallbackAdapter"), reason="this LiveKit has no such adapter")
async def test_realtime_response_behind_a_fallback_adapter_is_counted_once(meter, delivery, realtime_model):
    """Whoever listens to the provider's messages on the adapter makes it forward them: it is still one response."""
    adapter = llm.RealtimeModelFallbackAdapter([realtime_model()])
    session = adapter.session()
    session.on("openai_server_event_received", lambda _event: None)
    inner = session._active
    inner.emit("openai_server_event_received", {"type": "response.created", "response": {"id": "resp_1"}})
    response = {"id": "resp_1", "status": "completed", "usage": {"input_tokens": 10, "output_tokens": 5}}
    inner.emit("openai_server_event_received", {"type": "response.done", "response": response})
    inner.emit("metrics_collected", realtime_metrics(request_id="resp_1", input_tokens=10, output_tokens=5))
    await asyncio.sleep(0.01)
    await session.aclose()
    assert total(delivery.records, "input_tokens") == 10


async def test_realtime_response_that_failed_is_recorded_as_failed(meter, delivery, realtime_model):
    """The provider's status says so."""
    session = realtime_model().session()
    response = {"id": "resp_1", "status": "failed", "usage": {"input_tokens": 10, "output_tokens": 5}}
    session.emit("openai_server_event_received", {"type": "response.created", "response": {"id": "resp_1"}})
    session.emit("openai_server_event_received", {"type": "response.done", "response": response})
    await asyncio.sleep(0.01)
    await session.aclose()
    assert [r["outcome"] for r in delivery.records if r.get("operation_id") == "resp_1"] == ["failed"]


async def test_realtime_session_whose_conversation_cannot_be_read_keeps_its_time(
    meter, delivery, realtime_model, monkeypatch
):
    """An open response that cannot be estimated takes neither its own record nor the session's seconds with it."""
    session = realtime_model().session()
    session.emit("openai_server_event_received", {"type": "response.created", "response": {"id": "resp_1"}})
    monkeypatch.setattr(type(session), "chat_ctx", property(lambda _: 1 / 0))
    await asyncio.sleep(0.01)
    await session.aclose()
    assert len(seconds_by_model(delivery.records)) == 1


async def test_realtime_records_carry_no_speech_that_led_to_the_handoff(meter, delivery, realtime_model):
    """A session opened by a handoff is opened in a tool's speech; its time and responses are not that speech's."""
    before = SimpleNamespace(id="speech_before", scheduled=True, interrupted=False)
    token = agent_activity._SpeechHandleContextVar.set(before)
    session = realtime_model().session()
    await asyncio.sleep(0.01)
    agent_activity._SpeechHandleContextVar.reset(token)
    await session.aclose()
    assert [r.get("speech_id") for r in delivery.records] == [None] * len(delivery.records)


def realtime_metrics(**changes):
    details = {
        "input_token_details": RealtimeModelMetrics.InputTokenDetails(
            audio_tokens=0, text_tokens=10, cached_tokens=0, image_tokens=0
        ),
        "output_token_details": RealtimeModelMetrics.OutputTokenDetails(text_tokens=5, audio_tokens=0, image_tokens=0),
    }
    values = {
        "label": "l", "request_id": "resp_1", "timestamp": 1.0, "duration": 1.0, "ttft": 0.1, "cancelled": False,
        "input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "tokens_per_second": 5.0, **details,
    }  # fmt: skip
    return RealtimeModelMetrics(**{**values, **changes})


# --- sessions --------------------------------------------------------------------------------------------------------


async def test_session_started_twice_is_audited_once(meter, delivery):
    """LiveKit ignores a second start; two audits would count its own usage twice."""
    from livekit.agents import Agent, AgentSession

    async with AgentSession() as session:
        agent = Agent(instructions="")
        await session.start(agent)
        await session.start(agent)
    assert len(delivery.audits) == 1


async def test_session_that_could_not_start_and_is_started_again_is_audited_once(meter, delivery, monkeypatch):
    """A start that fails leaves no listener of ours behind."""
    from livekit.agents import Agent, AgentSession

    async with AgentSession() as session:
        with pytest.raises(Exception, match=r".*"):
            await session.start(None)
        await session.start(Agent(instructions=""))
    assert len(delivery.audits) == 1


# --- errors of estimates, and their price ----------------------------------------------------------------------------


async def test_llm_tool_that_cannot_be_weighed_loses_no_record(meter, delivery):
    """A tool without room for weak references (a plugin's own, or a plain mapping) costs the estimate a little."""

    class Tool:
        __slots__ = ("id",)

    script = [[text("Hi"), APIConnectionError("cut")], [text("Hi"), usage(12, 1)]]
    for tool in (Tool(), {"type": "web_search"}):
        await drained(ScriptedLLM(*map(list, script)).chat(tools=[tool]))
    assert [r["outcome"] for r in delivery.records] == ["failed", "completed"] * 2


async def test_llm_prompt_is_asked_for_nothing_that_it_does_not_have(meter, delivery, monkeypatch):
    """A missing attribute of a pydantic object costs 5 us: three for each message, each turn, on the loop."""
    missed = []

    def missing(self, name):
        missed.append(name)
        raise AttributeError(name)

    chat = llm.ChatContext()
    for _ in range(100):
        chat.add_message(role="user", content="Something said.")
    monkeypatch.setattr(llm.ChatMessage, "__getattr__", missing, raising=False)
    await drained(ScriptedLLM([text("Hi"), usage(1000, 1)]).chat(chat_ctx=chat))
    assert missed == []


def _refusals():
    import ssl

    import aiohttp
    from aiohttp.client_reqrep import ConnectionKey

    key = ConnectionKey("api.example.com", 443, True, True, None, None, None)
    yield aiohttp.ClientConnectorDNSError(key, OSError(-2, "Name or service not known"))
    yield aiohttp.ClientConnectorSSLError(key, OSError(1, "handshake"))
    yield aiohttp.ClientConnectorCertificateError(key, ssl.SSLCertVerificationError("expired"))
    yield aiohttp.ConnectionTimeoutError("Connection timeout to host")


@pytest.mark.parametrize("cause", list(_refusals()), ids=lambda cause: type(cause).__name__)
def test_attempt_that_never_reached_its_provider_costs_nothing(cause):
    """No name, no handshake, no connection in time: nobody has seen a request."""
    from livekit_costmeter.metering.operations.attempts import may_have_cost, was_refused

    error = APIConnectionError("cannot connect")
    error.__cause__ = cause
    assert was_refused(error)
    assert not may_have_cost(error)


def test_realtime_cached_tokens_without_details_are_not_counted_besides_their_audio():
    """`readers.realtime_units` takes cached tokens for text first, and the rest for audio; so must the raw message."""
    from livekit_costmeter.metering.operations.realtime import usage_units

    split = usage_units({"input_tokens": 100, "input_token_details": {"audio_tokens": 90, "cached_tokens": 30}})
    assert split == {"cached_input_tokens": "10", "input_audio_tokens": "70", "cached_input_audio_tokens": "20"}


async def test_stt_stream_opened_by_update_agent_within_a_tool_belongs_to_the_new_agent(meter):
    """`session_call` hides the tool's activity, and `listening_context` then finds nobody who listens."""
    from livekit_costmeter.metering.hooks import internals

    session = SimpleSession()
    before, after = (SimpleNamespace(session=session, agent=SimpleNamespace(id=name)) for name in ("before", "after"))
    agent_activity._AgentActivityContextVar.set(before)
    tokens = internals.enter_session(meter.session_scope(session))
    session._activity = after
    context = internals.listening_context()
    internals.leave_session(tokens)
    assert context.run(meter._scopes.current)[1] == "after"
