"""Cartesia's voices, simulated, with the real plugin as the client."""

import pytest
from livekit.agents import APIError
from livekit.plugins import cartesia

from livekit_costmeter.testing import Fault, LoopbackProviders, Script, VoiceScript

TEXT = "Your table is booked for Saturday at eight."
HEADERS = {"X-API-Key": "key-a"}
SLOW = VoiceScript(realtime_factor=2.0)


def packet(context, transcript, **more):
    """Make a message of text for a context."""
    output = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000}
    return {"context_id": context, "transcript": transcript, "model_id": "sonic-3", "output_format": output, **more}


async def until(socket, kind):
    """Read the socket until a message of that type; returns all messages."""
    messages = []
    while not messages or messages[-1]["type"] != kind:
        messages.append(await socket.receive_json())
    return messages


@pytest.fixture
def say():
    """Let the real plugin say something; returns the seconds of audio it got."""

    async def run(providers, *texts, conn_options=None):
        voice = cartesia.TTS(base_url=providers.cartesia_url, api_key="key-a", http_session=providers.http_session)
        more = {} if conn_options is None else {"conn_options": conn_options}
        seconds = 0.0
        try:
            for text in texts:
                async with voice.stream(**more) as stream:
                    stream.push_text(text)
                    stream.end_input()
                    seconds += sum([audio.frame.duration async for audio in stream])
        finally:
            await voice.aclose()
            await providers.ledger.settled()
        return seconds

    return run


async def test_characters_are_billed_as_sent(say):
    """The plugin appends a space to the sentence and sends a last one: both are on the bill."""
    async with LoopbackProviders() as providers:
        seconds = await say(providers, TEXT)
    (entry,) = providers.ledger.entries
    assert entry.quantities["characters"] == len(TEXT + " " + " ")
    assert seconds == pytest.approx(float(entry.quantities["output_audio_seconds"]), abs=0.01)
    assert (entry.provider, entry.component, entry.model, entry.outcome) == ("cartesia", "tts", "sonic-3", "completed")


async def test_each_context_is_an_operation(say):
    """Two texts over one pooled socket are two entries."""
    async with LoopbackProviders() as providers:
        await say(providers, TEXT, TEXT)
    assert [entry.quantities["characters"] for entry in providers.ledger.entries] == [len(TEXT) + 2] * 2


async def test_an_interrupted_context_is_billed_its_text_and_the_audio_generated():
    """A client that leaves pays all the characters it sent and the audio generated until then."""
    async with LoopbackProviders(Script(cartesia=SLOW)) as providers:
        voice = cartesia.TTS(base_url=providers.cartesia_url, api_key="key-a", http_session=providers.http_session)
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


async def test_a_refused_context_costs_nothing_and_is_retried(say, impatient):
    """An error for a context is an entry without quantities; the retry is billed once."""
    async with LoopbackProviders(Script(cartesia=VoiceScript(faults=[Fault(status=500)]))) as providers:
        await say(providers, TEXT, conn_options=impatient())
    refused, spoken = providers.ledger.entries
    assert (refused.outcome, refused.quantities) == ("failed", {})
    assert spoken.quantities["characters"] == len(TEXT) + 2


async def test_a_socket_that_breaks_after_audio_has_cost_its_text(say, impatient):
    """A socket that the vendor breaks has cost the characters received and the audio sent."""
    async with LoopbackProviders(Script(cartesia=VoiceScript(faults=[Fault(drop_after=0.5)]))) as providers:
        with pytest.raises(APIError):
            await say(providers, TEXT, conn_options=impatient(max_retry=0))
    (entry,) = providers.ledger.entries
    assert entry.outcome == "failed"
    assert entry.quantities["characters"] == len(TEXT) + 2
    assert float(entry.quantities["output_audio_seconds"]) == pytest.approx(0.5)


async def test_a_stalled_context_has_cost_its_text(say, impatient):
    """A context that gets no audio is billed its characters when the client gives up."""
    async with LoopbackProviders(Script(cartesia=VoiceScript(faults=[Fault(stall=True)]))) as providers:
        with pytest.raises(APIError):
            await say(providers, TEXT, conn_options=impatient(max_retry=0, timeout=0.3))
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities) == ("aborted", {"characters": len(TEXT) + 2})


async def test_contexts_share_a_socket_and_stay_apart():
    """Two interleaved contexts are spoken, timed and billed apart; `flush` is acknowledged."""
    async with LoopbackProviders() as providers:
        async with providers.http_session.ws_connect(
            f"{providers.cartesia_url}/tts/websocket", headers=HEADERS
        ) as socket:
            await socket.send_json(packet("first", "One two ", **{"continue": True, "add_timestamps": True}))
            await socket.send_json(packet("second", "Three", flush=True))
            await socket.send_json(packet("first", " "))
            messages = await until(socket, "done") + await until(socket, "done")
        await providers.ledger.settled()
    characters = {entry.operation_id: entry.quantities["characters"] for entry in providers.ledger.entries}
    assert characters == {"first": 9, "second": 5}
    (timed,) = [message for message in messages if message["type"] == "timestamps"]
    assert (timed["context_id"], timed["word_timestamps"]["words"]) == ("first", ["One", "two"])
    assert [m["context_id"] for m in messages if m["type"] == "flush_done"] == ["second"]


async def test_a_socket_needs_a_key():
    """A handshake without a key is refused."""
    async with LoopbackProviders() as providers:
        answer = await providers.http_session.get(f"{providers.cartesia_url}/tts/websocket")
        answer.release()
        assert answer.status == 401


async def test_a_cancelled_context_stops():
    """`cancel` ends a context; the socket goes on with the next."""
    async with LoopbackProviders(Script(cartesia=SLOW)) as providers:
        async with providers.http_session.ws_connect(
            f"{providers.cartesia_url}/tts/websocket", headers=HEADERS
        ) as socket:
            await socket.send_json(packet("first", TEXT * 10))
            await until(socket, "chunk")
            await socket.send_json({"context_id": "first", "cancel": True})
            await socket.send_json(packet("second", "Hi"))
            done = (await until(socket, "done"))[-1]
        await providers.ledger.settled()
    assert done["context_id"] == "second"
    assert [entry.outcome for entry in providers.ledger.entries] == ["aborted", "completed"]


async def test_the_bytes_endpoint_is_billed_the_same_way():
    """Unstreamed synthesis is billed the characters of its text, without added spaces."""
    async with LoopbackProviders() as providers:
        voice = cartesia.TTS(base_url=providers.cartesia_url, api_key="key-a", http_session=providers.http_session)
        async with voice.synthesize(TEXT) as stream:
            seconds = sum([audio.frame.duration async for audio in stream])
        await voice.aclose()
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert entry.quantities["characters"] == len(TEXT)
    assert seconds == pytest.approx(float(entry.quantities["output_audio_seconds"]), abs=0.01)
