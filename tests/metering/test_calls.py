"""Real LiveKit sessions with real plugins, against the providers' own ledgers."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.agents import llm as lk_llm
from livekit.agents import tts as lk_tts
from livekit.agents.utils import http_context
from livekit.agents.voice import agent_activity
from livekit.plugins import cartesia, deepgram, openai

from livekit_costmeter import owner
from livekit_costmeter.metering import KeyRule, fingerprint
from livekit_costmeter.testing import CallDriver, ChatScript, Fault, LoopbackProviders, Reply, Script
from livekit_costmeter.testing.audio import tone

SECRET = b"a secret of the tests"


class Listener(Agent):
    """An agent that keeps the id it is given."""


def components(providers, *, llm_key="key-llm", stt_key="key-stt", tts_key="key-tts"):
    return {
        "llm": openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key=llm_key),
        "stt": deepgram.STT(base_url=providers.deepgram_url, api_key=stt_key),
        "tts": cartesia.TTS(base_url=providers.cartesia_url, api_key=tts_key),
    }


def total(records, component, unit):
    return sum(
        (Decimal(record["quantities"].get(unit, 0)) for record in records if record["component"] == component),
        Decimal(0),
    )


async def test_a_normal_turn_is_what_the_providers_saw(meter, delivery):
    """Tokens equal the provider's ledger exactly; characters and audio seconds are within one percent."""
    async with LoopbackProviders() as providers:
        async with CallDriver(**components(providers)) as call:
            await call.turn()
            await call.turn()
        ledger = providers.ledger
    records = delivery.records
    for unit in ("input_tokens", "output_tokens"):
        assert total(records, "llm", unit) == ledger.total(component="llm", unit=unit) > 0
    characters = ledger.total(component="tts", unit="characters")
    assert abs(total(records, "tts", "characters") - characters) <= characters / 100
    seconds = ledger.total(component="stt", unit="audio_seconds")
    assert abs(total(records, "stt", "audio_seconds") - seconds) <= seconds / 100
    assert meter._failures == {}


async def test_an_interrupted_reply_keeps_the_characters_that_were_sent(meter, delivery):
    """LiveKit never reports a barge-in's speech; what went over the wire is recorded as interrupted."""
    long_reply = "This is a sentence that the agent says while somebody is listening to it patiently. " * 8
    script = Script(chat=ChatScript(replies=[Reply(long_reply), Reply("I am sorry, please go on.")]))
    async with LoopbackProviders(script=script) as providers:
        async with CallDriver(**components(providers)) as call:
            await call.speak()
            await call.barge_in(after=0.5)
            reported = sum(
                usage.characters_count for usage in call.session.usage.model_usage if usage.type == "tts_usage"
            )
        sent = providers.ledger.total(component="tts", unit="characters")
    recorded = total(delivery.records, "tts", "characters")
    assert abs(recorded - sent) <= sent / 100
    assert reported < sent


async def test_every_record_knows_its_session_account_labels_and_agent(meter, delivery):
    """Context reaches the tasks of speech-to-text as well, and what comes after the attach."""
    async with LoopbackProviders() as providers, CallDriver(**components(providers)) as call:
        meter.attach(call.session, account="acme", labels={"campaign": "q4"})
        await call.turn()
    records = delivery.records
    assert {record["component"] for record in records} == {"llm", "stt", "tts"}
    assert {record["account"] for record in records} == {"acme"}
    assert {record["labels"]["campaign"] for record in records} == {"q4"}
    assert len({record["session_id"] for record in records}) == 1
    assert all(record["speech_id"] for record in records if record["component"] == "llm")


async def test_two_keys_in_one_call_have_two_owners(make_meter, delivery):
    """Each unit is attributed to the owner of the key that paid for it."""
    rules = (KeyRule("acme", fingerprint=fingerprint(SECRET, "key-llm"), account="acme-account"),)
    make_meter(keys=rules, environ={"DEEPGRAM_API_KEY": "key-stt"})
    async with LoopbackProviders() as providers:
        parts = components(providers)
        owner(parts["tts"], "voice-team")
        async with CallDriver(**parts) as call:
            await call.turn()
    owners = {(record["component"], record["key_owner"], record.get("account")) for record in delivery.records}
    assert owners == {("llm", "acme", "acme-account"), ("stt", "platform", None), ("tts", "voice-team", None)}


async def test_a_fallback_is_paid_by_the_owner_of_the_provider_that_did_the_work(make_meter, delivery):
    """The adapter's record names the leaf: its key, once, whoever emits the metrics again."""
    rules = tuple(KeyRule(name, fingerprint=fingerprint(SECRET, f"key-{name}")) for name in ("first", "second"))
    make_meter(keys=rules)
    script = Script(chat=ChatScript(faults=[Fault(status=500)] * 6))
    async with LoopbackProviders(script=script) as broken, LoopbackProviders() as working, http_context.open():
        models = [
            openai.LLM(model="gpt-4o-mini", base_url=broken.openai_url, api_key="key-first", max_retries=0),
            openai.LLM(model="gpt-4o-mini", base_url=working.openai_url, api_key="key-second", max_retries=0),
        ]
        adapter = lk_llm.FallbackAdapter(models, max_retry_per_llm=0)
        context = lk_llm.ChatContext.empty()
        context.add_message(role="user", content="Hello there.")
        async with adapter.chat(chat_ctx=context) as stream:
            assert [chunk async for chunk in stream]
        served = working.ledger.total(component="llm", unit="output_tokens")
        await adapter.aclose()
        for model in models:
            await model.aclose()
    working_records = [record for record in delivery.records if record["key_owner"] == "second"]
    assert len(working_records) == 1
    assert Decimal(working_records[0]["quantities"]["output_tokens"]) == served


async def test_a_speech_fallback_counts_the_leaf_once(make_meter, delivery):
    """Adapters over text-to-speech add no characters of their own."""
    make_meter(keys=(KeyRule("second", fingerprint=fingerprint(SECRET, "key-second")),))
    async with LoopbackProviders() as providers, http_context.open():
        leaf = cartesia.TTS(base_url=providers.cartesia_url, api_key="key-second")
        adapter = lk_tts.FallbackAdapter([leaf])
        async with adapter.stream() as stream:
            stream.push_text("Good morning, how can I help you today?")
            stream.end_input()
            async for _ in stream:
                pass
        await adapter.aclose()
        await leaf.aclose()
        sent = providers.ledger.total(component="tts", unit="characters")
    assert total(delivery.records, "tts", "characters") == sent
    assert {record["key_owner"] for record in delivery.records} == {"second"}


async def test_components_outside_any_session_are_metered(meter, delivery):
    """A call on a bare model is recorded without a session."""
    async with LoopbackProviders() as providers, http_context.open():
        model = openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key="key")
        context = lk_llm.ChatContext.empty()
        context.add_message(role="user", content="Hello there.")
        await model.chat(chat_ctx=context).collect()
        await model.aclose()
    (record,) = delivery.records
    assert "session_id" not in record
    assert record["quantities"]["output_tokens"]


async def test_sessions_that_share_a_model_are_told_apart(meter, delivery):
    """Two sessions on one language model: each operation once, on the session whose task did it."""
    async with LoopbackProviders() as providers, http_context.open():
        shared = openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key="key")
        async with AgentSession(llm=shared) as first, AgentSession(llm=shared) as second:
            meter.attach(first, account="first")
            meter.attach(second, account="second")
            await first.start(Agent(instructions="Be brief."))
            await second.start(Agent(instructions="Be brief."))
            await asyncio.gather(first.run(user_input="Hello."), second.run(user_input="Good evening."))
        await shared.aclose()
    assert sorted(record["account"] for record in delivery.records) == ["first", "second"]
    assert {record["agent"] for record in delivery.records} == {"default_agent"}


async def test_speech_recognition_appends_while_the_call_goes_on(meter, delivery, monkeypatch):
    """What only memory knows is appended within its window, and increments add up to the operation's total."""
    monkeypatch.setattr("livekit_costmeter.metering.operations.windows.WINDOW", 0.2)
    async with LoopbackProviders() as providers, CallDriver(**components(providers)) as call:
        await call.turn()
        before_close = len([record for record in delivery.records if record["component"] == "stt"])
    increments = [record for record in delivery.records if record["component"] == "stt"]
    assert before_close >= 2
    assert len({record["operation_id"] for record in increments}) == 1
    assert [("operation_total" in record) for record in increments] == [False] * (len(increments) - 1) + [True]
    for unit, amount in increments[-1]["operation_total"].items():
        assert sum(Decimal(record["quantities"].get(unit, 0)) for record in increments) == Decimal(amount)


@pytest.mark.parametrize("model", ["gpt-4o-mini-transcribe", "whisper-1"])
async def test_batch_transcription_reports_its_own_unit(meter, delivery, model):
    """Token-billed transcription yields audio tokens if the plugin passes them on, and always its seconds."""
    async with LoopbackProviders() as providers, http_context.open():
        recognizer = openai.STT(model=model, base_url=providers.openai_url, api_key="key")
        frame = rtc.AudioFrame(tone(36_000, 24_000), sample_rate=24_000, num_channels=1, samples_per_channel=36_000)
        await recognizer.recognize(frame)
        await recognizer._client.close()  # the plugin leaves its client open
        seconds = providers.ledger.total(component="stt", unit="audio_seconds")
    (record,) = delivery.records
    assert Decimal(record["quantities"]["audio_seconds"]) == Decimal("1.5")
    assert seconds in (Decimal(0), Decimal("1.5"))


async def test_a_session_within_another_ones_tool_is_its_own(meter, delivery):
    """Tasks of the inner session inherit the outer one's activity; their usage is the inner one's all the same."""
    async with LoopbackProviders() as providers, CallDriver(**components(providers)) as outer:
        meter.attach(outer.session, account="outer")

        async def tool():
            agent_activity._AgentActivityContextVar.set(outer.session._activity)
            inner = CallDriver(**components(providers))
            async with inner:
                meter.attach(inner.session, account="inner")
                await inner.turn()

        await asyncio.create_task(tool())
        accounts = {(record["component"], record["account"]) for record in delivery.records}
    assert accounts == {("llm", "inner"), ("tts", "inner"), ("stt", "inner")}


async def test_after_a_handoff_the_new_agent_is_the_one_that_listens(meter, delivery):
    """A tool's handoff opens the next stream in a task of the agent and speech before it; it belongs to neither."""
    async with LoopbackProviders() as providers:
        parts = components(providers)
        second = Listener(instructions="Be brief.", id="second", stt=components(providers)["stt"])
        async with CallDriver(**parts, agent=Listener(instructions="Be brief.", id="first")) as call:
            handle = call.session.say("Let me hand you over.")
            activity = call.session._activity

            async def tool():
                agent_activity._AgentActivityContextVar.set(activity)
                agent_activity._SpeechHandleContextVar.set(handle)
                call.session.update_agent(second)

            await handle
            await asyncio.create_task(tool())
            await call.session._update_activity_atask
            call.microphone.speak(0.5)
            await call.microphone.spoken()
    last = [record for record in delivery.records if record["component"] == "stt"][-1]
    assert last["agent"] == "second"
    assert "speech_id" not in last


async def test_the_language_of_speech_recognition_is_kept(meter, delivery):
    """A recogniser set to several languages costs more, so the record says which it was set to."""
    async with LoopbackProviders() as providers:
        parts = components(providers)
        parts["stt"] = deepgram.STT(base_url=providers.deepgram_url, api_key="key-stt", language="multi")
        async with CallDriver(**parts) as call:
            await call.turn()
    recognized = [record for record in delivery.records if record["component"] == "stt"]
    assert {record["attributes"]["language"] for record in recognized} == {"multi"}
    assert all("language" not in r.get("attributes", {}) for r in delivery.records if r["component"] == "llm")
