"""Language models: every attempt that cost something, once, as well as it can be known."""

from __future__ import annotations

import asyncio
import gc
import weakref
from decimal import Decimal
from types import SimpleNamespace

import pytest
from livekit.agents import APIConnectionError, APIStatusError, APITimeoutError, llm
from livekit.agents.types import APIConnectOptions

from livekit_costmeter.metering.estimates import Calibration
from livekit_costmeter.metering.operations.generations import GenerationMeter

RETRIES = APIConnectOptions(max_retry=2, retry_interval=0.0, timeout=1.0)
FOREVER = object()
"""A step of a script that never ends."""


def text(content):
    return llm.ChatChunk(id="chat_1", delta=llm.ChoiceDelta(role="assistant", content=content))


def usage(prompt, completion, **more):
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return llm.ChatChunk(id="chat_1", usage=llm.CompletionUsage(**counts, **more))


class ScriptedStream(llm.LLMStream):
    """Plays one script for each attempt: chunks, and exceptions that it raises."""

    async def _run(self):
        for step in self._llm.scripts.pop(0):
            if isinstance(step, Exception):
                raise step
            if step is FOREVER:
                await asyncio.Event().wait()
            self._event_ch.send_nowait(step)


class ScriptedLLM(llm.LLM):
    """A language model without a provider."""

    provider = property(lambda _self: "api.openai.com")
    model = property(lambda self: self._model)

    def __init__(self, *scripts, model="gpt-4o-mini"):
        super().__init__()
        self.scripts = list(scripts)
        self._model = model

    def chat(self, *, chat_ctx=None, tools=None, conn_options=RETRIES, **_):
        chat_ctx = chat_ctx or llm.ChatContext()
        if not chat_ctx.items:
            chat_ctx.add_message(role="user", content="Hello there, how are you?")
        return ScriptedStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


async def drain(stream):
    """Read a stream to its end, and close it, as a session does."""
    async with stream:
        try:
            return [chunk async for chunk in stream]
        except Exception as error:
            return error


async def cut(stream, chunks):
    """Read some chunks of a stream, and close it in the middle."""
    async with stream:
        for _ in range(chunks):
            await anext(stream)
        await asyncio.sleep(0)


def outcomes(records):
    return [record["outcome"] for record in records]


def total(records, unit):
    return sum(Decimal(record["quantities"].get(unit, 0)) for record in records)


async def test_an_answer_that_is_reported_is_recorded_once(meter, delivery):
    """LiveKit's report is the record; what the stream saw of it adds nothing."""
    await drain(ScriptedLLM([text("Fine, "), text("thanks."), usage(12, 4)]).chat())
    (record,) = delivery.records
    assert record["quantities"] == {"input_tokens": "12", "output_tokens": "4"}
    assert set(record["basis"].values()) == {"reported"}
    assert record["outcome"] == "completed"
    assert record["operation_total"] == record["quantities"]


async def test_an_answer_without_usage_is_estimated_and_says_so(meter, delivery):
    """Some providers never say; then the record carries how its numbers came to be."""
    await drain(ScriptedLLM([text("Fine, thanks.")]).chat())
    (record,) = delivery.records
    assert record["basis"] == {"input_tokens": "estimated", "output_tokens": "estimated"}
    assert record["attributes"]["estimate"]["output_tokens"]["observed"] == {"bytes": 13}
    assert record["outcome"] == "completed"
    assert record["operation_id"] == "chat_1"


async def test_an_answer_that_is_cut_off_is_interrupted(meter, delivery):
    """What was asked and what was heard is estimated: the provider's usage comes last, and did not come."""
    await cut(ScriptedLLM([text("Well, let me see"), FOREVER]).chat(), chunks=1)
    (record,) = delivery.records
    assert record["outcome"] == "interrupted"
    assert record["attributes"]["estimate"]["output_tokens"]["observed"] == {"bytes": 16}


async def test_an_answer_that_is_cut_off_before_its_first_chunk_was_asked(meter, delivery):
    """The prompt was sent, and is what it costs at least."""
    await cut(ScriptedLLM([FOREVER]).chat(), chunks=0)
    (record,) = delivery.records
    assert (record["outcome"], set(record["quantities"])) == ("interrupted", {"input_tokens"})


async def test_an_answer_that_is_cut_off_after_its_usage_is_reported(meter, delivery):
    """Nothing is estimated where the provider said it."""
    await cut(ScriptedLLM([text("Done."), usage(12, 4), FOREVER]).chat(), chunks=2)
    (record,) = delivery.records
    assert record["quantities"] == {"input_tokens": "12", "output_tokens": "4"}
    assert (record["outcome"], set(record["basis"].values())) == ("interrupted", {"reported"})


async def test_a_stream_that_is_closed_before_it_began_cost_nothing(meter, delivery):
    """Its task never ran: no request was made."""
    stream = ScriptedLLM([text("Fine.")]).chat()
    await stream.aclose()
    assert delivery.records == []


async def test_a_stream_that_nobody_reads_is_recorded_all_the_same(meter, delivery):
    """The provider answers whether anybody listens or not."""
    stream = ScriptedLLM([text("Fine."), usage(12, 1)]).chat()
    await stream._task
    await stream._metrics_task
    assert [record["quantities"] for record in delivery.records] == [{"input_tokens": "12", "output_tokens": "1"}]
    await stream.aclose()


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ([APIStatusError("busy", status_code=503)], ["completed"]),
        ([APIConnectionError("cut")], ["failed", "completed"]),
        ([APITimeoutError("slow")], ["failed", "completed"]),
        ([text("Well, "), APIStatusError("busy", status_code=503)], ["failed", "completed"]),
        ([text("Well, "), usage(12, 1), APIConnectionError("cut")], ["failed", "completed"]),
    ],
    ids=["refused", "cut", "timeout", "refused after text", "cut after usage"],
)
async def test_an_attempt_that_may_have_cost_is_recorded_besides_the_one_that_worked(meter, delivery, first, expected):
    """LiveKit reports the last attempt alone."""
    await drain(ScriptedLLM(first, [text("Fine."), usage(12, 1)]).chat())
    assert outcomes(delivery.records) == expected
    assert delivery.records[-1]["quantities"] == {"input_tokens": "12", "output_tokens": "1"}


async def test_usage_of_an_attempt_that_failed_is_taken_as_reported(meter, delivery):
    """It came before the connection broke; LiveKit drops it."""
    await drain(ScriptedLLM([text("a"), usage(900, 7), APIConnectionError("cut")], [text("b"), usage(12, 1)]).chat())
    failed = delivery.records[0]
    assert failed["quantities"] == {"input_tokens": "900", "output_tokens": "7"}
    assert set(failed["basis"].values()) == {"reported"}


async def test_every_attempt_that_failed_is_one_record(meter, delivery):
    """Three attempts, three prompts; and the error is LiveKit's own, as without us."""
    error = await drain(ScriptedLLM(*[[APIConnectionError("cut")] for _ in range(3)]).chat())
    assert isinstance(error, APIConnectionError)
    assert outcomes(delivery.records) == ["failed"] * 3


async def test_giving_up_between_two_attempts_adds_nothing(meter, delivery):
    """The attempt before has failed and said so; the one after was never made."""
    options = APIConnectOptions(max_retry=2, retry_interval=60.0, timeout=1.0)
    stream = ScriptedLLM([APIConnectionError("cut")], [text("never")]).chat(conn_options=options)
    while not delivery.records:
        await asyncio.sleep(0)
    await stream.aclose()
    assert outcomes(delivery.records) == ["failed"]


async def test_an_error_of_the_plugin_itself_cost_what_had_come(meter, delivery):
    """A mistake before the request is none of the provider's work; one in the middle of the answer is paid for."""
    await drain(ScriptedLLM([ValueError("ours")]).chat())
    assert delivery.records == []
    await drain(ScriptedLLM([text("Well, "), ValueError("ours")]).chat())
    assert outcomes(delivery.records) == ["failed"]


async def test_texts_of_errors_are_in_no_record(meter, delivery, caplog):
    """An exception may quote a request with its key."""
    await drain(ScriptedLLM(*[[text("a"), APIConnectionError("Bearer sk-very-secret")] for _ in range(3)]).chat())
    assert len(delivery.records) == 3
    assert b"secret" not in b"".join(delivery.bodies)
    assert "secret" not in "".join(line.getMessage() for line in caplog.records if "costmeter" in line.name)


@pytest.mark.parametrize("is_cut", [False, True])
async def test_an_adapter_adds_nothing_to_the_models_behind_it(meter, delivery, is_cut):
    """The model that failed and the one that answered each have their record; the adapter asked nobody."""
    broken = ScriptedLLM(*[[APIConnectionError("cut")] for _ in range(3)], model="gpt-4o")
    answer = [text("Fine."), FOREVER if is_cut else usage(12, 1)]
    adapter = llm.FallbackAdapter([broken, ScriptedLLM(answer)], attempt_timeout=1.0)
    stream = adapter.chat(chat_ctx=_a_question())
    if is_cut:
        await cut(stream, chunks=1)
    else:
        await drain(stream)
    await asyncio.gather(*(status.recovering_task for status in adapter._status if status.recovering_task))
    answered = [record for record in delivery.records if record["model"] == "gpt-4o-mini"]
    assert outcomes(answered) == ["interrupted" if is_cut else "completed"]
    assert sorted(outcomes(record for record in delivery.records if record["model"] == "gpt-4o")) == ["failed", "probe"]
    await adapter.aclose()


async def test_an_adapter_within_an_adapter_counts_once(meter, delivery):
    """However deep, the usage is that of the model that holds the key."""
    inner = llm.FallbackAdapter([ScriptedLLM([text("Fine."), usage(12, 1)])])
    await drain(llm.FallbackAdapter([inner]).chat(chat_ctx=_a_question()))
    assert total(delivery.records, "input_tokens") == 12
    assert [record["provider"] for record in delivery.records] == ["openai"]


async def test_two_streams_at_once_are_two_operations(meter, delivery):
    """Their chunks interleave; their counts do not."""
    model = ScriptedLLM(
        [text("aaaa"), usage(10, 1)], [text("bb"), APIConnectionError("cut")], [text("b"), usage(20, 2)]
    )
    await asyncio.gather(drain(model.chat()), drain(model.chat()))
    assert sorted(outcomes(delivery.records)) == ["completed", "completed", "failed"]
    failed = next(record for record in delivery.records if record["outcome"] == "failed")
    assert failed["attributes"]["estimate"]["output_tokens"]["observed"] == {"bytes": 2}


@pytest.mark.parametrize(("model", "basis"), [("o3-mini", "lower_bound"), ("gpt-4o-mini", "estimated")])
async def test_what_a_reasoning_model_thought_is_never_guessed(meter, delivery, model, basis):
    """An answer that is cut off may have been thought about for long: its estimate is a lower bound."""
    await cut(ScriptedLLM([text("Well, let me see"), FOREVER], model=model).chat(), chunks=1)
    assert delivery.records[0]["basis"]["output_tokens"] == basis


@pytest.mark.skipif(
    "reasoning_tokens" not in llm.CompletionUsage.model_fields, reason="this LiveKit tells no reasoning tokens"
)
async def test_a_model_that_was_seen_to_reason_is_known_from_then_on(meter, delivery):
    """Whatever it is called."""
    first = [text("Fine."), usage(12, 9, reasoning_tokens=8)]
    model = ScriptedLLM(first, [text("Well, "), FOREVER], model="a-model")
    await drain(model.chat())
    await cut(model.chat(), chunks=1)
    assert delivery.records[0]["quantities"]["reasoning_tokens"] == "8"
    assert delivery.records[1]["basis"]["output_tokens"] == "lower_bound"


async def test_the_service_tier_of_an_answer_is_kept(meter, delivery):
    """It says which price list holds, for what is reported and for what LiveKit drops."""
    flex = usage(12, 1, service_tier="flex")
    await drain(ScriptedLLM([text("a"), flex, APIConnectionError("cut")], [text("b"), flex]).chat())
    assert [record.get("service_tier") for record in delivery.records] == ["flex", "flex"]


async def test_reported_calls_teach_what_later_estimates_take(meter, delivery):
    """An answer of twice the usual tokens per byte makes the next estimate twice as large."""
    answer = "x" * 400
    model = ScriptedLLM([text(answer), usage(11, 200)], [text(answer), FOREVER])
    await drain(model.chat())
    await cut(model.chat(), chunks=1)
    assert delivery.records[0]["attributes"]["observed"]["output"] == {"bytes": 400}
    assert delivery.records[1]["quantities"]["output_tokens"] == "200"
    assert delivery.records[1]["attributes"]["estimate"]["output_tokens"]["samples"] == 1


async def test_the_stream_is_as_livekit_left_it(meter):
    """What is shadowed while it works is gone after it."""
    stream = ScriptedLLM([text("Fine."), usage(12, 1)]).chat()
    await drain(stream)
    assert "_run" not in vars(stream)
    assert "send_nowait" not in vars(stream._event_ch)
    assert stream._livekit_costmeter is None


async def test_no_stream_outlives_its_work(meter, delivery):
    """A finished stream holds a whole conversation; the collector may have it."""
    model = ScriptedLLM([text("Fine."), usage(12, 1)], [text("Well, "), FOREVER])
    first, second = model.chat(), model.chat()
    await drain(first)
    await cut(second, chunks=1)
    gone = [weakref.ref(first), weakref.ref(second)]
    del first, second
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


async def test_an_error_of_ours_leaves_the_answer_as_it_is(meter, delivery, monkeypatch):
    """The agent hears everything, and the report is recorded, whatever breaks in counting."""
    for name in ("attempt", "received", "ended"):
        monkeypatch.setattr(meter.generations, name, lambda *_: 1 / 0)
    chunks = await drain(ScriptedLLM([text("Fine."), usage(12, 1)]).chat())
    assert len(chunks) == 2
    assert total(delivery.records, "output_tokens") == 1


@pytest.mark.parametrize("content", ["plain", "Grüße", "日本語"])
def test_text_is_counted_in_bytes(content):
    """Tokens follow bytes better than characters, across scripts."""
    appended = []
    generations = GenerationMeter(
        lambda _component, fields: appended.append(fields),
        lambda _component: ("openai", "gpt-4o-mini"),
        calibration=Calibration(),
        clock=lambda: 5.0,
    )
    stream = SimpleNamespace(_livekit_costmeter=None, _chat_ctx=SimpleNamespace(items=()))
    generation = generations.begun(stream)
    generations.attempt(generation)
    call = llm.FunctionToolCall(name="look_up", arguments="{}", call_id="c")
    generations.received(generation, text(content))
    generations.received(generation, llm.ChatChunk(id="chat_1", delta=llm.ChoiceDelta(tool_calls=[call])))
    generations.ended(generation)
    assert appended[0]["attributes"]["estimate"]["output_tokens"]["observed"] == {"bytes": len(content.encode()) + 9}
    assert (appended[0]["at"], appended[0]["started_at"]) == (5.0, 5.0)


def _a_question():
    chat = llm.ChatContext()
    chat.add_message(role="user", content="Hello there, how are you?")
    return chat
