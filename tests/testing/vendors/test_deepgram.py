"""Deepgram's recognition, simulated, with the real plugins as clients."""

import asyncio
import json
from decimal import Decimal

import pytest
from aiohttp import WSServerHandshakeError
from livekit.agents import APIStatusError
from livekit.agents.stt import SpeechEventType
from livekit.plugins import deepgram

from livekit_costmeter.testing import Fault, ListenScript, LoopbackProviders, Script
from livekit_costmeter.testing.audio import silence, tone

RATE = 16_000
LIVE = {"model": "nova-3", "encoding": "linear16", "sample_rate": str(RATE), "channels": "1"}
HEADERS = {"Authorization": "Token key-a"}
UTTERANCE = tone(RATE, RATE) + silence(RATE // 2)


def events_until_end(stream, utterances=1):
    """Collect events until that many utterances have ended; the nova plugin closes its side seconds later."""

    async def collect():
        events, ended = [], 0
        async for event in stream:
            events.append(event)
            ended += event.type == SpeechEventType.END_OF_SPEECH
            if ended == utterances:
                return events
        return events

    return collect()


@pytest.fixture
def hear(frames):
    """Push PCM through the real nova plugin; returns its transcript events."""

    async def run(providers, pcm, *, utterances=1, key="key-a"):
        ear = deepgram.STT(base_url=providers.deepgram_url, api_key=key, http_session=providers.http_session)
        stream = ear.stream()
        for frame in frames(pcm):
            stream.push_frame(frame)
        stream.end_input()
        events = await events_until_end(stream, utterances)
        await stream.aclose()
        await providers.ledger.settled()
        return events

    return run


async def test_seconds_equal_the_audio_pushed(hear):
    """Audio is billed to the sample, also where it does not fill the plugin's last 50 ms piece."""
    pcm = UTTERANCE + silence(777)
    async with LoopbackProviders() as providers:
        await hear(providers, pcm)
    (entry,) = providers.ledger.entries
    assert entry.quantities["audio_seconds"] == Decimal(len(pcm) // 2) / RATE
    assert (entry.provider, entry.component, entry.model) == ("deepgram", "stt", "nova-3")


async def test_an_utterance_is_told_as_it_grows(hear):
    """Speech gives a start, an interim and a final transcript, and its end."""
    async with LoopbackProviders(Script(deepgram=ListenScript(transcripts=["Table for two, please."]))) as providers:
        events = await hear(providers, UTTERANCE)
    told = [(event.type.value, event.alternatives[0].text) for event in events if event.alternatives]
    assert told == [("interim_transcript", "Table for"), ("final_transcript", "Table for two, please.")]
    assert [event.type.value for event in events if not event.alternatives and event.recognition_usage is None] == [
        "start_of_speech",
        "end_of_speech",
    ]


async def test_utterances_take_their_transcripts_in_order(hear):
    """Two utterances take two transcripts; a third repeats the last."""
    async with LoopbackProviders(Script(deepgram=ListenScript(transcripts=["One.", "Two."]))) as providers:
        events = await hear(providers, UTTERANCE * 3, utterances=3)
    finals = [e.alternatives[0].text for e in events if e.type == SpeechEventType.FINAL_TRANSCRIPT]
    assert finals == ["One.", "Two.", "Two."]


async def test_connection_seconds_are_the_sockets(hear):
    """The connection is billed apart from the audio, from opening to close."""
    moments = iter([100.0, 107.5])
    async with LoopbackProviders(monotonic=lambda: next(moments)) as providers:
        await hear(providers, UTTERANCE)
    assert providers.ledger.total(unit="connection_seconds") == Decimal("7.5")


async def test_a_dropped_connection_is_resumed_on_a_new_one(frames, impatient):
    """The plugin reconnects after a drop, and both connections are on the bill."""
    script = Script(deepgram=ListenScript(faults=[Fault(drop_after=0.5)]))
    async with LoopbackProviders(script) as providers:
        ear = deepgram.STT(base_url=providers.deepgram_url, api_key="key-a", http_session=providers.http_session)
        stream = ear.stream(conn_options=impatient())
        noticed = asyncio.Event()
        ear.on("error", lambda _: noticed.set())
        first, second = tone(RATE, RATE), UTTERANCE
        for frame in frames(first[: len(first) // 2]):
            stream.push_frame(frame)
        # Older plugins give up when they write to a socket that has just gone.
        await asyncio.wait_for(noticed.wait(), 10)
        for frame in frames(second):
            stream.push_frame(frame)
        await events_until_end(stream)
        await stream.aclose()
        await providers.ledger.settled()
    dropped, resumed = providers.ledger.entries
    assert (dropped.outcome, dropped.quantities["audio_seconds"]) == ("failed", Decimal("0.5"))
    assert resumed.quantities["audio_seconds"] > 1


async def test_a_refused_connection_costs_nothing(impatient):
    """A handshake answered with an error status is an entry without quantities."""
    async with LoopbackProviders(Script(deepgram=ListenScript(faults=[Fault(status=402)]))) as providers:
        ear = deepgram.STT(base_url=providers.deepgram_url, api_key="key-a", http_session=providers.http_session)
        stream = ear.stream(conn_options=impatient(max_retry=0))
        # Older plugins let aiohttp's own error through.
        with pytest.raises((APIStatusError, WSServerHandshakeError)):
            await anext(stream)
        await stream.aclose()
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities) == ("failed", {})


async def test_control_messages_are_answered_and_cost_nothing():
    """`KeepAlive` is silent, `Finalize` ends the utterance, `CloseStream` is answered with the metadata."""
    async with LoopbackProviders(Script(deepgram=ListenScript(transcripts=["Hello."]))) as providers:
        session = providers.http_session
        async with session.ws_connect(providers.deepgram_url, params=LIVE, headers=HEADERS) as socket:
            await socket.send_json({"type": "KeepAlive"})
            await socket.send_bytes(tone(RATE, RATE))
            started = await socket.receive_json()
            await socket.send_json({"type": "Finalize"})
            final = await socket.receive_json()
            await socket.send_json({"type": "CloseStream"})
            metadata = await socket.receive_json()
        await providers.ledger.settled()
    assert started["type"] == "SpeechStarted"
    assert (final["from_finalize"], final["channel"]["alternatives"][0]["transcript"]) == (True, "Hello.")
    assert (metadata["type"], metadata["duration"]) == ("Metadata", 1.0)
    assert providers.ledger.total(unit="audio_seconds") == 1


async def test_a_client_that_vanishes_is_billed_what_it_sent():
    """A socket cut without a goodbye is an aborted entry with its audio."""
    async with LoopbackProviders() as providers:
        session = providers.http_session
        socket = await session.ws_connect(providers.deepgram_url, params=LIVE, headers=HEADERS)
        await socket.send_bytes(tone(RATE, RATE))
        await socket.receive_json()
        socket._response.connection.transport.abort()
        await providers.ledger.settled()
        await socket.close()
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities["audio_seconds"]) == ("aborted", 1)


async def test_channels_share_the_seconds():
    """Two channels of audio take as long as one."""
    async with LoopbackProviders() as providers:
        params = {**LIVE, "channels": "2"}
        async with providers.http_session.ws_connect(providers.deepgram_url, params=params, headers=HEADERS) as socket:
            await socket.send_bytes(silence(RATE))
        await providers.ledger.settled()
    assert providers.ledger.total(unit="audio_seconds") == Decimal("0.5")


async def test_flux_tells_turns(frames):
    """The flux plugin gets its turn events, and its audio is billed alike."""
    async with LoopbackProviders(Script(deepgram=ListenScript(transcripts=["Is it open?"]))) as providers:
        ear = deepgram.STTv2(base_url=providers.deepgram_flux_url, api_key="key-a", http_session=providers.http_session)
        stream = ear.stream()
        for frame in frames(UTTERANCE):
            stream.push_frame(frame)
        events = await events_until_end(stream)
        await stream.aclose()
        await providers.ledger.settled()
    finals = [e.alternatives[0].text for e in events if e.type == SpeechEventType.FINAL_TRANSCRIPT]
    assert finals == ["Is it open?"]
    (entry,) = providers.ledger.entries
    assert entry.model.startswith("flux")
    assert 1 < entry.quantities["audio_seconds"] <= Decimal("1.5")


async def test_a_recorded_file_is_billed_its_length(frames):
    """Recognition of a file is billed by the seconds in it."""
    async with LoopbackProviders(Script(deepgram=ListenScript(transcripts=["Yes."]))) as providers:
        ear = deepgram.STT(base_url=providers.deepgram_url, api_key="key-a", http_session=providers.http_session)
        event = await ear.recognize(frames(UTTERANCE))
        await providers.ledger.settled()
    assert event.alternatives[0].text == "Yes."
    assert providers.ledger.total(unit="audio_seconds") == Decimal("1.5")


async def test_encodings_outside_the_simulation_are_refused_openly():
    """An encoding whose seconds cannot be counted is an error, not a wrong bill."""
    async with LoopbackProviders() as providers:
        params = {**LIVE, "encoding": "opus"}
        async with providers.http_session.get(providers.deepgram_url, params=params, headers=HEADERS) as answer:
            assert answer.status == 400
            assert "linear16" in json.dumps(await answer.json())
    assert providers.ledger.entries == []
