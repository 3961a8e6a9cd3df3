"""AssemblyAI's streaming recognition, simulated, with the real plugin as the client."""

import asyncio
from decimal import Decimal

import aiohttp
import pytest
from livekit.agents.stt import SpeechEventType
from livekit.plugins import assemblyai, cartesia, openai

from livekit_costmeter.testing import CallDriver, Fault, ListenScript, LoopbackProviders, Script
from livekit_costmeter.testing.audio import silence, tone
from livekit_costmeter.testing.ledger import key_label

RATE = 16_000
MODEL = "universal-3-6-pro"
LIVE = {"speech_model": MODEL, "encoding": "pcm_s16le", "sample_rate": str(RATE)}
HEADERS = {"Authorization": "key-a"}
UTTERANCE = tone(RATE, RATE) + silence(RATE // 2)
TWO_WORDS = Script(assemblyai=ListenScript(transcripts=["Two, please."]))


def ear_of(providers, *, key="key-a", **options):
    """Make the real plugin against the simulator."""
    session, options = providers.http_session, {"model": MODEL, **options}
    return assemblyai.STT(base_url=providers.assemblyai_url, api_key=key, http_session=session, **options)


def open_socket(providers, **params):
    """Open a session without the plugin."""
    url = f"{providers.assemblyai_url}/v3/ws"
    return providers.http_session.ws_connect(url, params={**LIVE, **params}, headers=HEADERS)


@pytest.fixture
def hear(frames):
    """Push PCM through the real plugin and hang up; returns its events."""

    async def run(providers, pcm, **options):
        stream = ear_of(providers, **options).stream()
        for frame in frames(pcm):
            stream.push_frame(frame)
        stream.end_input()
        events = [event async for event in stream]
        await stream.aclose()
        await providers.ledger.settled()
        return events

    return run


def told(events):
    """Name the events that carry no usage, with their text."""
    return [
        (event.type.value, *(alternative.text for alternative in event.alternatives))
        for event in events
        if event.type != SpeechEventType.RECOGNITION_USAGE
    ]


async def test_the_session_and_the_audio_are_billed_apart(hear):
    """What the plugin reports is the audio; what is billed is how long the session was open."""
    moments = iter([100.0, 100.0, 107.5, 107.5])
    async with LoopbackProviders(monotonic=lambda: next(moments)) as providers:
        events = await hear(providers, UTTERANCE)
    (entry,) = providers.ledger.entries
    assert entry.quantities == {"audio_seconds": Decimal("1.5"), "connection_seconds": Decimal("7.5")}
    assert (entry.provider, entry.component, entry.model) == ("assemblyai", "stt", MODEL)
    assert entry.outcome == "completed"
    (usage,) = [event.recognition_usage for event in events if event.recognition_usage]
    assert usage.audio_duration == pytest.approx(1.5)


async def test_a_session_without_audio_is_billed_its_time():
    """A socket that is held open and hears nothing costs."""
    moments = iter([100.0, 100.0, 160.0])
    async with LoopbackProviders(monotonic=lambda: next(moments)) as providers:
        async with open_socket(providers) as socket:
            begin = await socket.receive_json()
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert begin["type"] == "Begin"
    assert entry.quantities == {"connection_seconds": 60}


async def test_the_termination_says_what_is_billed():
    """Both durations of the last message are the ledger's."""
    moments = iter([100.0, 100.0, 107.5, 107.5])
    async with LoopbackProviders(monotonic=lambda: next(moments)) as providers:
        async with open_socket(providers) as socket:
            await socket.send_bytes(silence(RATE * 2))
            await socket.send_json({"type": "Terminate"})
            termination = [message.json() async for message in socket][-1]
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert (termination["type"], entry.outcome) == ("Termination", "completed")
    assert termination["audio_duration_seconds"] == entry.quantities["audio_seconds"] == 2
    assert termination["session_duration_seconds"] == entry.quantities["connection_seconds"] == Decimal("7.5")


async def test_a_turn_under_way_is_told_before_the_end():
    """Turns are numbered, and the one that termination cuts short is still told."""
    script = Script(assemblyai=ListenScript(transcripts=["One.", "Two."]))
    async with LoopbackProviders(script) as providers, open_socket(providers) as socket:
        for piece in (tone(RATE, RATE), silence(RATE), tone(RATE, RATE)):
            await socket.send_bytes(piece)
        await socket.send_json({"type": "Terminate"})
        messages = [message.json() async for message in socket]
    ends = [(message["turn_order"], message["transcript"]) for message in messages if message.get("end_of_turn")]
    assert ends == [(0, "One."), (1, "Two.")]
    assert messages[-1]["type"] == "Termination"


async def test_universal_3_tells_a_turn_as_it_grows(hear):
    """Speech is announced, then come an interim transcript and the formatted turn."""
    async with LoopbackProviders(TWO_WORDS) as providers:
        events = await hear(providers, UTTERANCE)
    assert told(events) == [
        ("start_of_speech",),
        ("interim_transcript", "Two,"),
        ("interim_transcript", "Two, please."),
        ("preflight_transcript", "Two, please."),
        ("final_transcript", "Two, please."),
        ("end_of_speech",),
    ]


@pytest.mark.parametrize(("formats", "final"), [(False, "two please"), (True, "Two, please.")])
async def test_universal_streaming_formats_a_turn_when_asked(hear, formats, final):
    """The older models announce no speech, and end a turn unformatted, then formatted if asked."""
    async with LoopbackProviders(TWO_WORDS) as providers:
        events = await hear(providers, UTTERANCE, model="universal-streaming-english", format_turns=formats)
    names = [event.type for event in events]
    assert SpeechEventType.START_OF_SPEECH not in names
    assert [event.alternatives[0].text for event in events if event.type == SpeechEventType.FINAL_TRANSCRIPT] == [final]


async def test_words_are_timed_in_the_audio(hear):
    """A word lies where the audio has it."""
    async with LoopbackProviders(TWO_WORDS) as providers:
        events = await hear(providers, silence(RATE) + UTTERANCE)
    (final,) = [event for event in events if event.type == SpeechEventType.FINAL_TRANSCRIPT]
    words = final.alternatives[0].words
    assert words == ["Two,", "please."]
    times = [time for word in words for time in (word.start_time, word.end_time)]
    assert times == pytest.approx([1.0, 1.5, 1.5, 2.0], abs=0.001)


async def test_utterances_take_their_transcripts_in_order(hear):
    """Two utterances take two transcripts, a third repeats the last."""
    async with LoopbackProviders(Script(assemblyai=ListenScript(transcripts=["One.", "Two."]))) as providers:
        events = await hear(providers, UTTERANCE * 3)
    finals = [e.alternatives[0].text for e in events if e.type == SpeechEventType.FINAL_TRANSCRIPT]
    assert finals == ["One.", "Two.", "Two."]


async def test_commands_are_obeyed_and_cost_nothing():
    """`ForceEndpoint` ends the turn; a new configuration and `KeepAlive` are silent."""
    async with LoopbackProviders(TWO_WORDS) as providers:
        async with open_socket(providers) as socket:
            await socket.send_bytes(tone(RATE, RATE))
            for kind in ("UpdateConfiguration", "KeepAlive", "ForceEndpoint"):
                await socket.send_json({"type": kind})
            messages = [await socket.receive_json() for _ in range(3)]
        await providers.ledger.settled()
    assert [message["type"] for message in messages] == ["Begin", "SpeechStarted", "Turn"]
    assert (messages[2]["end_of_turn"], messages[2]["transcript"]) == (True, "Two, please.")
    assert providers.ledger.total(unit="audio_seconds") == 1


async def test_a_client_that_vanishes_is_billed_its_session():
    """A socket cut without a goodbye is an aborted entry with its audio and its time."""
    async with LoopbackProviders() as providers:
        socket = await open_socket(providers)
        await socket.send_bytes(tone(RATE, RATE))
        await socket.receive_json()
        await socket.receive_json()
        socket._response.connection.transport.abort()
        await providers.ledger.settled()
        await socket.close()
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities["audio_seconds"]) == ("aborted", 1)
    assert entry.quantities["connection_seconds"] > 0


async def test_a_dropped_session_is_resumed_in_a_new_one(frames, impatient):
    """The plugin reconnects after a drop, and both sessions are on the bill; what was sent in between is lost."""
    script = Script(assemblyai=ListenScript(faults=[Fault(drop_after=0.5)]))
    async with LoopbackProviders(script) as providers:
        ear, noticed = ear_of(providers), asyncio.Event()
        ear.on("error", lambda _: noticed.set())
        stream = ear.stream(conn_options=impatient())
        for frame in frames(tone(RATE // 2, RATE)):
            stream.push_frame(frame)
        # Older plugins give up when they write to a socket that has just gone.
        await asyncio.wait_for(noticed.wait(), 10)
        for frame in frames(UTTERANCE):
            stream.push_frame(frame)
        stream.end_input()
        _ = [event async for event in stream]
        await stream.aclose()
        await providers.ledger.settled()
    dropped, resumed = providers.ledger.entries
    assert (dropped.outcome, dropped.quantities["audio_seconds"]) == ("failed", Decimal("0.5"))
    assert resumed.outcome == "completed"
    assert resumed.quantities["audio_seconds"] > 1


async def test_a_refused_session_costs_nothing(impatient):
    """A handshake answered with an error status is an entry without quantities; the plugin lets the error through."""
    async with LoopbackProviders(Script(assemblyai=ListenScript(faults=[Fault(status=402)]))) as providers:
        stream = ear_of(providers).stream(conn_options=impatient(max_retry=0))
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await anext(stream)
        await stream.aclose()
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities) == ("failed", {})


async def test_a_stalled_session_is_billed_in_silence(frames):
    """A session in which nothing is heard back costs its audio and its time."""
    async with LoopbackProviders(Script(assemblyai=ListenScript(faults=[Fault(stall=True)]))) as providers:
        async with open_socket(providers) as socket:
            await socket.send_bytes(UTTERANCE)
            with pytest.raises(TimeoutError):
                await socket.receive(timeout=0.1)
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert entry.quantities["audio_seconds"] == Decimal("1.5")
    assert entry.quantities["connection_seconds"] > 0


async def test_keys_are_billed_apart_and_kept_secret(hear):
    """A key that comes without a scheme has its own bill, and the ledger knows it only by its label."""
    async with LoopbackProviders() as providers:
        await hear(providers, UTTERANCE, key="key-a")
        await hear(providers, UTTERANCE * 2, key="key-b")
    assert [entry.key for entry in providers.ledger.entries] == [key_label("key-a"), key_label("key-b")]
    assert providers.ledger.total(unit="audio_seconds", key="key-b") == 3
    assert not [key for key in ("key-a", "key-b") if key in repr(providers.ledger.entries)]


async def test_requests_outside_the_simulation_are_refused_openly():
    """A session without a key, with a scheme alone, or in another encoding gets an error and no entry."""
    async with LoopbackProviders() as providers:
        url = f"{providers.assemblyai_url}/v3/ws"
        for headers in ({}, {"Authorization": "Bearer"}):
            async with providers.http_session.get(url, params=LIVE, headers=headers) as keyless:
                assert keyless.status == 401
        params = {**LIVE, "encoding": "pcm_mulaw"}
        async with providers.http_session.get(url, params=params, headers=HEADERS) as mulaw:
            assert mulaw.status == 400
    assert providers.ledger.entries == []


async def test_a_call_can_listen_with_it():
    """A caller's words reach the agent of a whole call, and the call's session is billed."""
    async with LoopbackProviders(Script(assemblyai=ListenScript(transcripts=["Hello.", "Thank you."]))) as providers:
        parts = {
            "stt": assemblyai.STT(base_url=providers.assemblyai_url, api_key="key-stt", model=MODEL),
            "llm": openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key="key-llm"),
            "tts": cartesia.TTS(base_url=providers.cartesia_url, api_key="key-tts"),
        }
        async with CallDriver(**parts, speed=10.0) as call:
            await call.turn()
            await call.turn()
        await providers.ledger.settled()
    assert [spoken.text for spoken in call.transcript if spoken.role == "user"] == ["Hello.", "Thank you."]
    (entry,) = providers.ledger.select(component="stt", key="key-stt")
    assert call.microphone.seconds - 1 < entry.quantities["audio_seconds"] < call.microphone.seconds + 3
    assert entry.quantities["connection_seconds"] > 0
