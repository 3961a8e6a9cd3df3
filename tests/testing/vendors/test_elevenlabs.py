"""ElevenLabs' voices, simulated, with the real plugin as the client."""

import pytest
from livekit.agents import APIError
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT
from livekit.plugins import deepgram, elevenlabs, openai

from livekit_costmeter.testing import CallDriver, ChatScript, Fault, LoopbackProviders, Script, VoiceScript
from livekit_costmeter.testing.ledger import key_label

MODEL = "eleven_flash_v2_5"
TEXT = "Your table is booked for Saturday at eight."
PADDED = len(" " + TEXT + " ")
PARAMS = {"model_id": MODEL, "output_format": "pcm_24000", "sync_alignment": "true"}
HEADERS = {"xi-api-key": "key-a"}
SLOW = VoiceScript(realtime_factor=2.0)


def voice_of(providers, *, key="key-a", **options):
    """Make the real plugin against the simulator."""
    session = providers.http_session
    return elevenlabs.TTS(model=MODEL, base_url=providers.elevenlabs_url, api_key=key, http_session=session, **options)


def open_socket(providers, **params):
    """Open a socket of contexts without the plugin."""
    url = f"{providers.elevenlabs_url}/text-to-speech/voice/multi-stream-input"
    return providers.http_session.ws_connect(url, params={**PARAMS, **params}, headers=HEADERS)


async def until_final(socket, context):
    """Read the socket until a context is final; returns all messages."""
    messages = []
    while not messages or not (messages[-1].get("isFinal") and messages[-1]["contextId"] == context):
        messages.append(await socket.receive_json())
    return messages


@pytest.fixture
def say():
    """Let the real plugin say something over its socket; returns the frames it got."""

    async def run(providers, *texts, conn_options=None, **options):
        voice = voice_of(providers, **options)
        more = {} if conn_options is None else {"conn_options": conn_options}
        frames = []
        try:
            for text in texts:
                async with voice.stream(**more) as stream:
                    stream.push_text(text)
                    stream.end_input()
                    frames += [audio.frame async for audio in stream]
        finally:
            await voice.aclose()
            await providers.ledger.settled()
        return frames

    return run


def seconds_of(frames):
    """Add up the audio of frames."""
    return sum(frame.duration for frame in frames)


@pytest.mark.parametrize("encoding", ["mp3_22050_32", "pcm_24000"])
async def test_characters_are_billed_as_sent(say, encoding):
    """The plugin opens a context with a space and appends one to each sentence: both are on the bill."""
    async with LoopbackProviders() as providers:
        frames = await say(providers, TEXT, encoding=encoding)
    (entry,) = providers.ledger.entries
    assert entry.quantities["characters"] == PADDED
    assert seconds_of(frames) == pytest.approx(float(entry.quantities["output_audio_seconds"]), abs=0.1)
    assert (entry.provider, entry.component, entry.model) == ("elevenlabs", "tts", MODEL)
    assert entry.outcome == "completed"


async def test_each_context_is_an_operation(say):
    """Two texts over one socket are two entries."""
    async with LoopbackProviders() as providers:
        await say(providers, TEXT, TEXT)
    assert [entry.quantities["characters"] for entry in providers.ledger.entries] == [PADDED] * 2


async def test_the_plugin_reports_fewer_characters_than_are_billed():
    """The plugin's metrics count the text without the spaces that it adds."""
    metrics = []
    async with LoopbackProviders() as providers:
        voice = voice_of(providers)
        voice.on("metrics_collected", metrics.append)
        async with voice.stream() as stream:
            stream.push_text(TEXT)
            stream.end_input()
            _ = [audio async for audio in stream]
        await voice.aclose()
        await providers.ledger.settled()
    assert [metric.characters_count for metric in metrics] == [len(TEXT)]
    assert providers.ledger.total(unit="characters") == PADDED


async def test_words_are_timed_within_the_audio(say):
    """The alignment of two sentences reaches the plugin as timed words that are the text and span the audio."""
    text = f"{TEXT} {TEXT}"
    async with LoopbackProviders() as providers:
        frames = await say(providers, text)
    words = [word for frame in frames for word in frame.userdata.get(USERDATA_TIMED_TRANSCRIPT, ())]
    assert "".join(words).split() == text.split()
    starts = [word.start_time for word in words]
    assert starts == sorted(starts)
    assert words[-1].end_time == pytest.approx(seconds_of(frames), abs=0.2)


async def test_a_context_closed_early_is_left_by_the_client(until):
    """A client that leaves before the end of its text pays what it sent, and the audio of it, which is not stopped."""
    async with LoopbackProviders(Script(elevenlabs=SLOW)) as providers:
        voice = voice_of(providers)
        async with voice.stream() as stream:
            stream.push_text(TEXT + " And then")
            await anext(aiter(stream))
        await until(lambda: providers.ledger.entries)
        await voice.aclose()
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities["characters"]) == ("aborted", PADDED)
    assert float(entry.quantities["output_audio_seconds"]) == pytest.approx(len(TEXT) / 15, abs=0.001)


async def test_a_stream_left_after_its_text_has_ended_is_spoken_to_the_end():
    """All was sent and its context closed before the client left, so the vendor never learns of the interruption."""
    async with LoopbackProviders(Script(elevenlabs=VoiceScript(realtime_factor=5.0))) as providers:
        voice = voice_of(providers)
        async with voice.stream() as stream:
            stream.push_text(TEXT)
            stream.end_input()
            heard = (await anext(aiter(stream))).frame.duration
        await providers.ledger.settled()
        await voice.aclose()
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities["characters"]) == ("completed", PADDED)
    assert heard < entry.quantities["output_audio_seconds"]


async def test_a_client_that_vanishes_is_billed_its_text_and_the_audio_generated():
    """When the socket closes, what is not spoken yet stays unspoken; the characters are billed all the same."""
    async with LoopbackProviders(Script(elevenlabs=SLOW)) as providers:
        voice = voice_of(providers)
        async with voice.stream() as stream:
            stream.push_text(TEXT * 10)
            stream.end_input()
            await anext(aiter(stream))
        await voice.aclose()
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert entry.outcome == "aborted"
    assert entry.quantities["characters"] >= len(TEXT * 10)
    assert 0 < entry.quantities["output_audio_seconds"] < len(TEXT * 10) / 15


async def test_contexts_share_a_socket_and_stay_apart():
    """Two interleaved contexts are spoken, timed and billed apart; an empty text keeps a context and costs nothing."""
    async with LoopbackProviders() as providers, open_socket(providers) as socket:
        await socket.send_json({"context_id": "first", "text": "One two "})
        await socket.send_json({"context_id": "second", "text": "Three "})
        await socket.send_json({"context_id": "first", "text": ""})
        for context in ("first", "second"):
            await socket.send_json({"context_id": context, "flush": True})
            await socket.send_json({"context_id": context, "close_context": True})
        messages = await until_final(socket, "first")
        if not any(m["contextId"] == "second" and m.get("isFinal") for m in messages):
            messages += await until_final(socket, "second")
        await providers.ledger.settled()
    characters = {entry.operation_id: entry.quantities["characters"] for entry in providers.ledger.entries}
    assert characters == {"first": 8, "second": 6}
    timed = {m["contextId"]: "".join(m["normalizedAlignment"]["chars"]) for m in messages if m.get("alignment")}
    assert timed == {"first": "One two ", "second": "Three "}
    assert {entry.outcome for entry in providers.ledger.entries} == {"completed"}


async def test_a_close_of_nothing_is_ignored():
    """Closing a context that was never opened, or is final, is no operation."""
    async with LoopbackProviders() as providers, open_socket(providers) as socket:
        for _ in range(2):
            await socket.send_json({"context_id": "first", "close_context": True})
        await socket.send_json({"context_id": "second", "text": "Hi ", "flush": True})
        await socket.send_json({"context_id": "second", "close_context": True})
        await until_final(socket, "second")
        await providers.ledger.settled()
    assert [entry.operation_id for entry in providers.ledger.entries] == ["second"]


async def test_a_refused_context_costs_nothing_and_is_retried(say, impatient):
    """An error for a context is an entry without quantities; the retry is billed once."""
    async with LoopbackProviders(Script(elevenlabs=VoiceScript(faults=[Fault(status=500)]))) as providers:
        await say(providers, TEXT, conn_options=impatient())
    refused, spoken = providers.ledger.entries
    assert (refused.outcome, refused.quantities) == ("failed", {})
    assert spoken.quantities["characters"] == PADDED


async def test_a_socket_that_breaks_after_audio_has_cost_its_text(say, impatient):
    """A socket that the vendor breaks has cost the characters received and the audio sent."""
    async with LoopbackProviders(Script(elevenlabs=VoiceScript(faults=[Fault(drop_after=0.5)]))) as providers:
        with pytest.raises(APIError):
            await say(providers, TEXT, conn_options=impatient(max_retry=0))
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities["characters"]) == ("failed", PADDED)
    assert float(entry.quantities["output_audio_seconds"]) == pytest.approx(0.5)


async def test_a_stalled_context_has_cost_its_text(say, impatient):
    """A context that gets no audio is billed its characters when the client gives up."""
    async with LoopbackProviders(Script(elevenlabs=VoiceScript(faults=[Fault(stall=True)]))) as providers:
        with pytest.raises(APIError):
            await say(providers, TEXT, conn_options=impatient(max_retry=0, timeout=0.3))
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities) == ("aborted", {"characters": PADDED})


async def synthesize(providers, **options):
    """Let the real plugin say something without a socket; returns the seconds of audio it got."""
    voice = voice_of(providers)
    try:
        async with voice.synthesize(TEXT, **options) as stream:
            return sum([audio.frame.duration async for audio in stream])
    finally:
        await voice.aclose()
        await providers.ledger.settled()


async def test_the_stream_endpoint_is_billed_the_text_alone():
    """Unstreamed synthesis is billed the characters of its text, without added spaces."""
    async with LoopbackProviders() as providers:
        seconds = await synthesize(providers)
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities["characters"]) == ("completed", len(TEXT))
    assert seconds == pytest.approx(float(entry.quantities["output_audio_seconds"]), abs=0.1)


async def test_the_stream_endpoint_can_refuse_and_break(impatient):
    """A refused request costs nothing, one that breaks has cost its text, and the retry is billed as well."""
    script = Script(elevenlabs=VoiceScript(faults=[Fault(status=503), Fault(drop_after=0.0)]))
    async with LoopbackProviders(script) as providers:
        await synthesize(providers, conn_options=impatient())
    assert [entry.outcome for entry in providers.ledger.entries] == ["failed", "failed", "completed"]
    assert [entry.quantities.get("characters", 0) for entry in providers.ledger.entries] == [0, len(TEXT), len(TEXT)]


async def test_keys_are_billed_apart_and_kept_secret(say):
    """Two keys have two bills, and the ledger knows both only by their labels."""
    async with LoopbackProviders() as providers:
        await say(providers, TEXT, key="key-a")
        await say(providers, TEXT * 2, key="key-b")
    assert [entry.key for entry in providers.ledger.entries] == [key_label("key-a"), key_label("key-b")]
    assert providers.ledger.total(unit="characters", key="key-a") == PADDED
    assert not [key for key in ("key-a", "key-b") if key in repr(providers.ledger.entries)]


async def test_requests_outside_the_simulation_are_refused_openly():
    """A socket without a key, and a format that is not made from numbers, get an error and no entry."""
    async with LoopbackProviders() as providers:
        url = f"{providers.elevenlabs_url}/text-to-speech/voice"
        async with providers.http_session.get(f"{url}/multi-stream-input", params=PARAMS) as keyless:
            assert keyless.status == 401
        params, body = {"output_format": "opus_48000_32"}, {"text": TEXT, "model_id": MODEL}
        async with providers.http_session.post(f"{url}/stream", params=params, json=body, headers=HEADERS) as opus:
            assert opus.status == 400
    assert providers.ledger.entries == []


async def test_a_call_can_speak_with_it():
    """An agent's answer in a whole call is heard and billed."""
    script = Script(chat=ChatScript(replies=["Good morning. How can I help you?"]))
    async with LoopbackProviders(script) as providers:
        parts = {
            "stt": deepgram.STT(base_url=providers.deepgram_url, api_key="key-stt"),
            "llm": openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key="key-llm"),
            "tts": elevenlabs.TTS(model=MODEL, base_url=providers.elevenlabs_url, api_key="key-tts"),
        }
        async with CallDriver(**parts, speed=10.0) as call:
            answer = await call.turn()
        await providers.ledger.settled()
    (entry,) = providers.ledger.select(component="tts", key="key-tts")
    assert (entry.outcome, answer.text) == ("completed", "Good morning. How can I help you?")
    assert call.loudspeaker.seconds == pytest.approx(float(entry.quantities["output_audio_seconds"]), abs=0.1)
