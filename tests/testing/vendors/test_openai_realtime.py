"""OpenAI realtime, simulated, with a session of the real plugin as the client."""

import math

import pytest
from livekit.agents import llm as lk_llm
from openai.types.realtime import AudioTranscription

from livekit_costmeter.testing import Fault, LoopbackProviders, RealtimeScript, Script
from livekit_costmeter.testing.vendors.tokens import count

GREETING = "Good morning, how can I help you?"
STORY = "It began a long time ago, with ships from every country. " * 8


def scripted(**options):
    return Script(realtime=RealtimeScript(**options))


async def test_a_reply_reports_what_is_billed(session, hear_out, reported):
    """A reply that was asked for arrives as text and audio, and its usage is the ledger's."""
    async with LoopbackProviders(scripted(replies=[GREETING])) as providers, session(providers) as seen:
        text, seconds = await hear_out(await seen.session.generate_reply(instructions="Greet the caller."))
    (entry,) = providers.ledger.entries
    assert (text, entry.component, entry.model, entry.outcome) == (GREETING, "realtime", "gpt-realtime", "completed")
    assert seconds == pytest.approx(len(GREETING) / 15, abs=0.001)
    assert entry.quantities["output_tokens"] == count(GREETING)
    assert entry.quantities["output_audio_tokens"] == math.ceil(len(GREETING) * 20 / 15)
    assert entry.quantities == reported(seen.metrics[-1])
    assert providers.ledger.select(key="key-a") == [entry]


async def test_an_utterance_is_answered_and_transcribed(session, hear_out, speak, reported):
    """The server hears where an utterance ends; its audio is an input of the answer, its transcript a bill apart."""
    async with LoopbackProviders(scripted(transcripts=["Are you open?"])) as providers, session(providers) as seen:
        speak(seen.session, 1.0)
        await hear_out(await seen.generations.get())
    heard, answered = providers.ledger.entries
    # LiveKit before 1.8.9 does not report what a transcription cost.
    transcriptions = [each for each in seen.metrics if each.type == "stt_metrics"]
    assert (heard.component, heard.model) == ("stt", "gpt-4o-mini-transcribe")
    assert heard.quantities["input_audio_tokens"] == 10
    assert heard.quantities["output_tokens"] == count("Are you open?")
    assert {(each.input_audio_tokens, each.output_tokens) for each in transcriptions} <= {(10, count("Are you open?"))}
    assert answered.quantities["input_audio_tokens"] == 10
    assert answered.quantities == reported(seen.metrics[-1])


async def test_an_interrupted_reply_is_billed_for_what_was_spoken(session, hear_out, reported):
    """A reply that the client interrupts reports, and costs, what was generated until then."""
    script = scripted(replies=[STORY], realtime_factor=2.0)
    async with LoopbackProviders(script) as providers, session(providers) as seen:
        generation = await seen.session.generate_reply()
        message = await anext(aiter(generation.message_stream))
        await anext(aiter(message.audio_stream))
        seen.session.interrupt()
        await hear_out(generation)
    (entry,) = providers.ledger.entries
    done = next(event for event in seen.events if event["type"] == "response.done")
    assert (entry.outcome, done["response"]["status"], seen.metrics[-1].cancelled) == ("aborted", "cancelled", True)
    assert 0 < entry.quantities["output_audio_tokens"] < len(STORY) / 15 * 20
    assert entry.quantities == reported(seen.metrics[-1])


async def test_the_caller_interrupts_by_speaking(session, hear_out, speak):
    """The server stops its reply when it hears the caller, and answers what was said."""
    script = scripted(replies=[STORY, "All right."], realtime_factor=2.0)
    async with LoopbackProviders(script) as providers, session(providers) as seen:
        story = await seen.session.generate_reply()
        speak(seen.session, 0.5)
        await seen.generations.get()
        text, _ = await hear_out(await seen.generations.get())
        await hear_out(story)
    assert text == "All right."
    assert [entry.outcome for entry in providers.ledger.select(component="realtime")] == ["aborted", "completed"]


async def test_a_reply_taken_back_before_it_was_created_is_billed(session, until):
    """The answer comes after all, cancelled, and has cost what was read for it."""
    async with LoopbackProviders(scripted(created_after=0.2)) as providers, session(providers) as seen:
        seen.session.generate_reply(instructions="Greet the caller.").cancel()
        await until(lambda: any(event["type"] == "response.done" for event in seen.events))
    (entry,) = providers.ledger.entries
    done = next(event for event in seen.events if event["type"] == "response.done")
    assert (entry.outcome, set(entry.quantities)) == ("aborted", {"input_tokens"})
    assert done["response"]["usage"]["input_tokens"] == entry.quantities["input_tokens"]
    # Newer plugins throw such an answer away, and do not report it.
    reported_by_older = {metrics.input_tokens for metrics in seen.metrics if metrics.input_tokens}
    assert reported_by_older <= {entry.quantities["input_tokens"]}


async def test_a_session_closed_in_the_middle_is_billed_unreported(session):
    """A client that hangs up pays what was generated, and no event tells it so."""
    script = scripted(replies=[STORY], realtime_factor=2.0)
    async with LoopbackProviders(script) as providers, session(providers) as seen:
        generation = await seen.session.generate_reply()
        message = await anext(aiter(generation.message_stream))
        await anext(aiter(message.audio_stream))
    (entry,) = providers.ledger.entries
    assert entry.outcome == "aborted"
    assert 0 < entry.quantities["output_audio_tokens"] < len(STORY) / 15 * 20
    assert [metrics for metrics in seen.metrics if metrics.input_tokens] == []


async def test_a_dropped_connection_is_billed_up_to_the_break(session, until, hear_out):
    """The vendor breaks the connection after a second of audio; the client connects again and goes on."""
    script = scripted(replies=[STORY, "Yes."], faults=[Fault(drop_after=1.0)])
    async with LoopbackProviders(script) as providers, session(providers) as seen:
        await hear_out(await seen.session.generate_reply())
        await until(lambda: sum(event["type"] == "session.created" for event in seen.events) == 2)
        text, _ = await hear_out(await seen.session.generate_reply())
    dropped, completed = providers.ledger.entries
    assert (dropped.outcome, dropped.quantities["output_audio_tokens"]) == ("failed", 20)
    assert (completed.outcome, text) == ("completed", "Yes.")


async def test_a_refused_response_costs_nothing(session, until, hear_out):
    """The vendor fails a response without work; the next one gets the reply."""
    script = scripted(replies=["First.", "Second."], faults=[Fault(status=503)])
    async with LoopbackProviders(script) as providers, session(providers) as seen:
        errors = []
        seen.session.on("error", errors.append)
        await hear_out(await seen.session.generate_reply())
        await until(lambda: errors)
        text, _ = await hear_out(await seen.session.generate_reply())
    assert text == "First."
    assert [(entry.outcome, bool(entry.quantities)) for entry in providers.ledger.entries] == [
        ("failed", False),
        ("completed", True),
    ]


async def test_a_stalled_response_has_cost_what_it_read(session, until):
    """A response that never comes is billed its input when the client hangs up."""
    async with LoopbackProviders(scripted(faults=[Fault(stall=True)])) as providers:
        async with session(providers) as seen:
            pending = seen.session.generate_reply()
            await until(lambda: providers.ledger.under_way == 1)
        # Older plugins leave the reply pending.
        assert not pending.done() or isinstance(pending.exception(), lk_llm.RealtimeError)
    (entry,) = providers.ledger.entries
    assert (entry.outcome, set(entry.quantities)) == ("aborted", {"input_tokens"})


async def test_usage_can_be_withheld(session, hear_out, speak):
    """A server that reports no usage bills all the same, transcripts included."""
    async with LoopbackProviders(scripted(report_usage=False)) as providers, session(providers) as seen:
        speak(seen.session, 1.0)
        await hear_out(await seen.generations.get())
    assert {entry.component for entry in providers.ledger.entries if entry.quantities} == {"stt", "realtime"}
    assert [metrics for metrics in seen.metrics if metrics.total_tokens] == []


@pytest.mark.parametrize("refuser", ["client", "server"])
async def test_transcription_is_optional(session, refuser, hear_out, speak):
    """Nothing is transcribed, and nothing billed for it, if either side does not want to."""
    wanted = {"input_audio_transcription": None} if refuser == "client" else {}
    script = scripted(transcribe=refuser == "client")
    async with LoopbackProviders(script) as providers, session(providers, **wanted) as seen:
        speak(seen.session, 1.0)
        await hear_out(await seen.generations.get())
    assert [entry.component for entry in providers.ledger.entries] == ["realtime"]


async def test_whisper_transcribes_by_the_second(session, hear_out, speak):
    """`whisper-1` is billed, and reported, as seconds of audio."""
    whisper = AudioTranscription(model="whisper-1")
    async with LoopbackProviders() as providers, session(providers, input_audio_transcription=whisper) as seen:
        speak(seen.session, 1.0)
        await hear_out(await seen.generations.get())
    (entry,) = providers.ledger.select(component="stt", model="whisper-1")
    assert entry.quantities == {"audio_seconds": 1}
    assert {each.audio_duration for each in seen.metrics if each.type == "stt_metrics"} <= {1.0}


async def test_a_model_can_write_instead_of_speaking(session, hear_out, reported):
    """With text as its only modality a reply costs no audio tokens."""
    async with LoopbackProviders() as providers, session(providers, modalities=["text"]) as seen:
        text, seconds = await hear_out(await seen.session.generate_reply())
    (entry,) = providers.ledger.entries
    assert (text, seconds) == (Script().realtime.replies[0], 0.0)
    assert set(entry.quantities) == {"input_tokens", "output_tokens"}
    assert entry.quantities == reported(seen.metrics[-1])


async def test_a_session_can_be_billed_by_its_length(session, hear_out):
    """`bill="session"` adds an operation that ends with the connection."""
    async with LoopbackProviders(scripted(bill="session")) as providers, session(providers) as seen:
        await hear_out(await seen.session.generate_reply())
    spoken, connected = providers.ledger.entries
    assert "session_seconds" not in spoken.quantities
    assert (connected.component, set(connected.quantities)) == ("realtime", {"session_seconds"})
    assert connected.quantities["session_seconds"] > 0
