"""OpenAI speech and transcription, simulated, with the real plugin as the client."""

from decimal import Decimal

import pytest
from livekit.agents import APIConnectionError
from livekit.plugins import openai

from livekit_costmeter.testing import Fault, ListenScript, LoopbackProviders, Script, VoiceScript
from livekit_costmeter.testing.audio import silence, tone
from livekit_costmeter.testing.vendors.tokens import count

TEXT = "Your table is booked for Saturday at eight."


@pytest.fixture
def synthesize():
    """Let the real plugin say something; returns the seconds of audio decoded and its metrics."""

    async def run(providers, **options):
        voice = openai.TTS(base_url=providers.openai_url, api_key="key-a", **options)
        metrics = []
        voice.on("metrics_collected", metrics.append)
        async with voice.synthesize(TEXT) as stream:
            seconds = sum([audio.frame.duration async for audio in stream])
        await voice.aclose()
        await providers.ledger.settled()
        return seconds, metrics

    return run


@pytest.fixture
def recognize(frames):
    """Let the real plugin transcribe 1.5 seconds of audio; returns its text."""

    async def run(providers, *, model):
        ear = openai.STT(model=model, base_url=providers.openai_url, api_key="key-a")
        event = await ear.recognize(frames(tone(16_000, 16_000) + silence(8_000)))
        await ear.aclose()
        await ear._client.close()
        await providers.ledger.settled()
        return event.alternatives[0].text

    return run


async def test_a_model_sold_by_character_is_billed_characters(synthesize):
    """`tts-1` is billed the characters of its input, and its mp3 can be decoded."""
    async with LoopbackProviders() as providers:
        seconds, (metrics,) = await synthesize(providers, model="tts-1")
    (entry,) = providers.ledger.entries
    assert entry.quantities["characters"] == len(TEXT) == metrics.characters_count
    assert seconds > 1
    assert "output_audio_tokens" not in entry.quantities


async def test_a_model_sold_by_token_reports_what_is_billed(synthesize):
    """`gpt-4o-mini-tts` reports the text and audio tokens that the ledger bills."""
    async with LoopbackProviders() as providers:
        _, (metrics,) = await synthesize(providers, model="gpt-4o-mini-tts", instructions="Speak warmly.")
    (entry,) = providers.ledger.entries
    assert entry.quantities["input_tokens"] == metrics.input_tokens == count(TEXT) + count("Speak warmly.")
    assert entry.quantities["output_audio_tokens"] == metrics.output_tokens > 0
    assert "characters" not in entry.quantities


@pytest.mark.parametrize("container", ["mp3", "wav", "pcm"])
async def test_audio_arrives_as_long_as_it_is_billed(synthesize, container):
    """What the plugin decodes is as long as the ledger says, but for the decoder's rounding to whole frames."""
    async with LoopbackProviders() as providers:
        seconds, _ = await synthesize(providers, model="tts-1", response_format=container)
    assert seconds == pytest.approx(float(providers.ledger.total(unit="output_audio_seconds")), abs=0.1)


async def test_speech_left_in_the_middle_is_billed_for_what_was_spoken(impatient):
    """A client that leaves pays the text and the audio generated so far."""
    async with LoopbackProviders(Script(speech=VoiceScript(realtime_factor=2.0))) as providers:
        voice = openai.TTS(model="gpt-4o-mini-tts", base_url=providers.openai_url, api_key="key-a")
        long_text = TEXT * 20
        async with voice.synthesize(long_text, conn_options=impatient(max_retry=0)) as stream:
            await anext(aiter(stream))
        await voice.aclose()
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert entry.outcome == "aborted"
    assert entry.quantities["input_tokens"] == count(long_text)
    assert 0 < entry.quantities["output_audio_seconds"] < len(long_text) / 15
    assert entry.quantities["output_audio_tokens"] > 0


async def test_speech_can_be_refused_and_retried(synthesize):
    """A refused request costs nothing; its retry costs once."""
    async with LoopbackProviders(Script(speech=VoiceScript(faults=[Fault(status=503)]))) as providers:
        await synthesize(providers, model="tts-1")
    assert [entry.outcome for entry in providers.ledger.entries] == ["failed", "completed"]
    assert providers.ledger.total(unit="characters") == len(TEXT)


async def test_formats_outside_the_simulation_are_refused_openly():
    """A format that is not produced from numbers is an error, not a wrong file."""
    async with LoopbackProviders() as providers:
        body = {"model": "tts-1", "input": TEXT, "response_format": "opus"}
        async with providers.http_session.post(f"{providers.openai_url}/audio/speech", json=body) as answer:
            assert answer.status == 400
    assert providers.ledger.entries == []


async def test_whisper_is_billed_seconds(recognize):
    """`whisper-1` is billed the length of the file."""
    async with LoopbackProviders(Script(transcription=ListenScript(transcripts=["At eight, please."]))) as providers:
        assert await recognize(providers, model="whisper-1") == "At eight, please."
    (entry,) = providers.ledger.entries
    assert entry.quantities == {"audio_seconds": Decimal("1.5")}


async def test_a_transcriber_sold_by_token_is_billed_tokens(recognize):
    """The newer transcribers are billed the audio heard and the text written, in tokens."""
    async with LoopbackProviders(Script(transcription=ListenScript(transcripts=["At eight, please."]))) as providers:
        await recognize(providers, model="gpt-4o-mini-transcribe")
    (entry,) = providers.ledger.entries
    assert entry.quantities == {
        "audio_seconds": Decimal("1.5"),
        "input_audio_tokens": 15,
        "output_tokens": count("At eight, please."),
    }


async def test_a_transcription_can_be_dropped(frames, impatient):
    """A connection broken before the answer has cost the audio."""
    script = Script(transcription=ListenScript(faults=[Fault(drop_after=0)]))
    async with LoopbackProviders(script) as providers:
        ear = openai.STT(model="whisper-1", base_url=providers.openai_url, api_key="key-a")
        with pytest.raises(APIConnectionError):
            await ear.recognize(frames(tone(16_000, 16_000)), conn_options=impatient(max_retry=0))
        await ear._client.close()
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities) == ("failed", {"audio_seconds": 1})
