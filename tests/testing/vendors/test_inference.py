"""LiveKit Inference, simulated, with LiveKit's own clients."""

import asyncio

import pytest
from livekit.agents import APIError, APIStatusError, inference, stt

from livekit_costmeter.testing import (
    CallDriver,
    ChatScript,
    Fault,
    ListenScript,
    LoopbackProviders,
    Reply,
    Script,
    VoiceScript,
    key_label,
)
from livekit_costmeter.testing.audio import silence, tone
from livekit_costmeter.testing.vendors.tokens import count

TEXT = "Your table is booked for Saturday at eight."
SECRET = "a secret that signs tokens and is never sent"
RATE = 16_000


@pytest.fixture
def gateway():
    """Return what points a client at the providers given."""

    def point(providers, key="key-a"):
        return {"base_url": providers.inference_url, "api_key": key, "api_secret": SECRET}

    return point


@pytest.fixture
def ask(prompt, gateway):
    """Ask a model one question; returns its text and usage."""

    async def run(providers, *, key="key-a", conn_options=None):
        model = inference.LLM("openai/gpt-4o-mini", **gateway(providers, key))
        more = {} if conn_options is None else {"conn_options": conn_options}
        text, usage = "", None
        async with model.chat(chat_ctx=prompt(), **more) as stream:
            async for chunk in stream:
                text += (chunk.delta.content or "") if chunk.delta else ""
                usage = chunk.usage or usage
        await model.aclose()
        await providers.ledger.settled()
        return text, usage

    return run


@pytest.fixture
def listen(frames, gateway):
    """Let a recogniser hear a second of speech and a half of silence, until its transcript; returns its events."""

    async def run(providers, *, until=stt.SpeechEventType.END_OF_SPEECH, conn_options=None):
        ear = inference.STT("deepgram/nova-3", **gateway(providers), http_session=providers.http_session)
        heard = []
        more = {} if conn_options is None else {"conn_options": conn_options}
        stream = ear.stream(**more)
        try:
            for frame in frames(tone(RATE, RATE) + silence(RATE // 2)):
                stream.push_frame(frame)
            async for event in stream:
                heard.append(event)
                if event.type is until:
                    break
        finally:
            await stream.aclose()
            await ear.aclose()
            await providers.ledger.settled()
        return heard

    return run


@pytest.fixture
def synthesize(gateway):
    """Let a voice say texts one after the other; returns the seconds of audio and the metrics of each."""

    async def run(providers, *texts, conn_options=None):
        voice = inference.TTS("cartesia/sonic-3", **gateway(providers), http_session=providers.http_session)
        metrics, seconds = [], []
        voice.on("metrics_collected", metrics.append)
        more = {} if conn_options is None else {"conn_options": conn_options}
        try:
            for text in texts:
                async with voice.stream(**more) as stream:
                    stream.push_text(text)
                    stream.end_input()
                    seconds.append(sum([audio.frame.duration async for audio in stream]))
        finally:
            await voice.aclose()
            await providers.ledger.settled()
        return seconds, metrics

    return run


async def test_a_model_of_another_maker_is_billed_by_the_gateway(ask):
    """The gateway names the model with its maker, reports what it bills, and is the provider."""
    script = Script(inference_llm=ChatScript(replies=[Reply("Yes.", cached_tokens=4)]))
    async with LoopbackProviders(script) as providers:
        text, usage = await ask(providers)
    (entry,) = providers.ledger.entries
    assert (entry.provider, entry.model, entry.outcome) == ("livekit", "openai/gpt-4o-mini", "completed")
    assert usage.completion_tokens == count(text) == entry.quantities["output_tokens"]
    assert usage.prompt_tokens == entry.quantities["input_tokens"] + 4
    assert (usage.prompt_cached_tokens, entry.quantities["cached_input_tokens"]) == (4, 4)


async def test_use_is_filed_under_the_key_that_issued_the_token(ask):
    """Each request carries a new token; its issuer is the account, and the ledger knows neither key nor secret."""
    async with LoopbackProviders() as providers:
        for key in ("key-a", "key-a", "key-b"):
            await ask(providers, key=key)
    ledger = providers.ledger
    assert [len(ledger.select(key=key)) for key in ("key-a", "key-b")] == [2, 1]
    assert ledger.entries[0].key == key_label("key-a")
    assert not [word for word in ("key-a", "key-b", SECRET) if word in repr(ledger.entries)]


async def test_a_refused_chat_costs_nothing(ask, impatient):
    """A refusal is retried, and only its retry is billed."""
    async with LoopbackProviders(Script(inference_llm=ChatScript(faults=[Fault(status=503)]))) as providers:
        _, usage = await ask(providers, conn_options=impatient())
    assert [entry.outcome for entry in providers.ledger.entries] == ["failed", "completed"]
    assert providers.ledger.total(unit="input_tokens") == usage.prompt_tokens


async def test_only_tokens_of_livekit_are_let_in():
    """A request with a plain key, or a token without an issuer, is refused and has no entry."""
    async with LoopbackProviders() as providers:
        for token in ("sk-plain", "e30.e30.signature", "e30.bm8=.signature", "e30.W10.signature"):
            for path in ("stt", "tts"):
                url = f"{providers.inference_url}/{path}?model=any"
                async with providers.http_session.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
                    assert answer.status == 401
    assert providers.ledger.entries == []


async def test_a_recogniser_is_billed_the_audio_it_received(listen):
    """An utterance is transcribed with its times, and audio and connection are in the ledger."""
    async with LoopbackProviders(Script(inference_stt=ListenScript(transcripts=["At eight, please."]))) as providers:
        heard = await listen(providers)
    (entry,) = providers.ledger.entries
    (final,) = [event.alternatives[0] for event in heard if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT]
    (usage,) = [event.recognition_usage for event in heard if event.recognition_usage]
    kinds = [event.type.value for event in heard[:2]]
    assert kinds == ["start_of_speech", "interim_transcript"]
    assert (final.text, len(final.words)) == ("At eight, please.", 3)
    assert final.end_time - final.start_time == pytest.approx(1.0)
    assert (entry.provider, entry.component, entry.model) == ("livekit", "stt", "deepgram/nova-3")
    # Older versions hang up without a goodbye.
    assert entry.outcome in ("completed", "aborted")
    assert entry.quantities["audio_seconds"] == 1.5
    assert 1 < usage.audio_duration < float(entry.quantities["audio_seconds"]) + 0.001
    assert entry.quantities["connection_seconds"] > 0


async def test_a_refused_recogniser_connects_again(listen, impatient):
    """A refused connection costs nothing; the next one is billed."""
    async with LoopbackProviders(Script(inference_stt=ListenScript(faults=[Fault(status=503)]))) as providers:
        await listen(providers, conn_options=impatient())
    refused, accepted = providers.ledger.entries
    assert (refused.outcome, dict(refused.quantities)) == ("failed", {})
    assert accepted.quantities["audio_seconds"] == 1.5


async def test_a_dropped_recogniser_is_billed_what_it_had_received(listen, impatient):
    """The vendor breaks the connection after half a second of audio, and bills that half second."""
    async with LoopbackProviders(Script(inference_stt=ListenScript(faults=[Fault(drop_after=0.5)]))) as providers:
        with pytest.raises(APIError):
            await listen(providers, conn_options=impatient(max_retry=0))
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities["audio_seconds"]) == ("failed", 0.5)


async def test_a_silent_recogniser_bills_all_the_same(frames, gateway, until):
    """A connection that stalls says nothing and counts what it receives; closing it is no error."""
    async with LoopbackProviders(Script(inference_stt=ListenScript(faults=[Fault(stall=True)]))) as providers:
        ear = inference.STT("deepgram/nova-3", **gateway(providers), http_session=providers.http_session)
        async with ear.stream() as stream:
            for frame in frames(tone(RATE, RATE)):
                stream.push_frame(frame)
            await until(lambda: providers.ledger.under_way == 1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(aiter(stream)), 0.3)
        await ear.aclose()
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert entry.quantities["audio_seconds"] == 1


async def test_a_voice_is_billed_characters_per_text(synthesize):
    """Two texts over one connection are two operations; the client adds a space to each sentence, and pays for it."""
    async with LoopbackProviders() as providers:
        seconds, metrics = await synthesize(providers, TEXT, "Goodbye.")
    entries = providers.ledger.entries
    assert [(entry.model, entry.outcome) for entry in entries] == [("cartesia/sonic-3", "completed")] * 2
    assert [entry.quantities["characters"] for entry in entries] == [len(TEXT) + 1, len("Goodbye.") + 1]
    assert [each.characters_count for each in metrics] == [len(TEXT), len("Goodbye.")]
    billed = [float(entry.quantities["output_audio_seconds"]) for entry in entries]
    assert seconds == [pytest.approx(each, abs=0.01) for each in billed]


async def test_a_voice_left_in_the_middle_is_billed_for_what_was_spoken(gateway):
    """A client that leaves pays the characters received and the audio generated so far, and gets no metrics."""
    metrics = []
    async with LoopbackProviders(Script(inference_tts=VoiceScript(realtime_factor=2.0))) as providers:
        voice = inference.TTS("cartesia/sonic-3", **gateway(providers), http_session=providers.http_session)
        voice.on("metrics_collected", metrics.append)
        async with voice.stream() as stream:
            stream.push_text(TEXT * 20)
            stream.flush()
            await anext(aiter(stream))
        await voice.aclose()
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert (entry.outcome, metrics) == ("aborted", [])
    assert entry.quantities["characters"] > len(TEXT)
    assert 0 < entry.quantities["output_audio_seconds"] < len(TEXT) * 20 / 15


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(drop_after=0)], ids=["refused", "dropped"])
async def test_a_voice_that_fails_is_asked_again(synthesize, impatient, fault):
    """The client says the text again on another connection; a refusal has cost nothing, a break what was received."""
    async with LoopbackProviders(Script(inference_tts=VoiceScript(faults=[fault]))) as providers:
        await synthesize(providers, TEXT, conn_options=impatient())
    failed, completed = providers.ledger.entries
    assert (failed.outcome, completed.outcome) == ("failed", "completed")
    assert dict(failed.quantities) == ({} if fault.status else {"characters": len(TEXT) + 1})


async def test_an_unanswered_voice_has_cost_its_text(synthesize, impatient):
    """A text that is taken and never spoken is billed its characters."""
    async with LoopbackProviders(Script(inference_tts=VoiceScript(faults=[Fault(stall=True)]))) as providers:
        with pytest.raises(APIError):
            await synthesize(providers, TEXT, conn_options=impatient(max_retry=0, timeout=0.2))
    (entry,) = providers.ledger.entries
    assert (entry.outcome, dict(entry.quantities)) == ("aborted", {"characters": len(TEXT) + 1})


async def test_a_text_of_nothing_is_done_at_once(gateway):
    """A flush without a text is answered, and is no operation."""
    async with LoopbackProviders() as providers:
        key = inference._utils.create_access_token("key-a", SECRET)
        url = f"{providers.inference_url}/tts?model=cartesia/sonic-3"
        headers = {"Authorization": f"Bearer {key}"}
        async with providers.http_session.ws_connect(url, headers=headers) as socket:
            for message in ({"type": "session.create", "sample_rate": "24000"}, {"type": "session.flush"}):
                await socket.send_json(message)
            assert [(await socket.receive_json(timeout=5))["type"] for _ in range(2)] == ["session.created", "done"]
    assert providers.ledger.entries == []


async def test_a_call_on_one_gateway_key(gateway):
    """A call can hear, think and speak through the gateway; all of it is on one key's bill."""
    async with LoopbackProviders() as providers:
        access = gateway(providers)
        ear, voice = inference.STT("deepgram/nova-3", **access), inference.TTS("cartesia/sonic-3", **access)
        model = inference.LLM("openai/gpt-4o-mini", **access)
        async with CallDriver(stt=ear, llm=model, tts=voice, speed=10.0) as call:
            answer = await call.turn()
        await providers.ledger.settled()
    ledger = providers.ledger
    assert answer.text == Script().inference_llm.replies[0]
    assert {entry.component for entry in ledger.select(key="key-a")} == {"stt", "llm", "tts"}
    assert {entry.provider for entry in ledger.entries} == {"livekit"}
    heard = ledger.total(component="stt", unit="audio_seconds")
    assert call.microphone.seconds - 1 < heard < call.microphone.seconds + 3


async def test_a_recogniser_can_be_refused_for_good(listen, impatient):
    """A client that does not try again learns the status."""
    async with LoopbackProviders(Script(inference_stt=ListenScript(faults=[Fault(status=429)]))) as providers:
        with pytest.raises(APIStatusError) as refused:
            await listen(providers, conn_options=impatient(max_retry=0))
    assert refused.value.status_code == 429
