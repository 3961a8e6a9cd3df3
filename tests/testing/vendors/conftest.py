"""What the tests of the realtime simulation share: the plugin, one session of it, and a bare socket."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from livekit import rtc
from livekit.plugins import openai

from livekit_costmeter.testing.audio import silence, tone

RATE = 24_000


@pytest.fixture
def realtime(impatient):
    """Make the plugin's model."""

    def make(providers, **options):
        more = {"http_session": providers.http_session, "conn_options": impatient(), **options}
        return openai.realtime.RealtimeModel(base_url=providers.realtime_url, api_key="key-a", **more)

    return make


@pytest.fixture
def session(realtime):
    """Open one session of the plugin; collects its metrics and the events of the server."""

    @asynccontextmanager
    async def open_session(providers, **options):
        opened = realtime(providers, **options).session()
        seen = SimpleNamespace(session=opened, metrics=[], events=[], generations=asyncio.Queue())
        opened.on("metrics_collected", seen.metrics.append)
        opened.on("openai_server_event_received", seen.events.append)
        opened.on("generation_created", seen.generations.put_nowait)
        try:
            yield seen
        finally:
            await opened.aclose()
            await providers.ledger.settled()

    return open_session


@pytest.fixture
def hear_out():
    """Collect what a generation says: its text and the seconds of its audio."""

    async def run(generation):
        text, seconds = "", 0.0
        async for message in generation.message_stream:
            async for piece in message.text_stream:
                text += piece
            async for frame in message.audio_stream:
                seconds += frame.duration
        return text, seconds

    return run


@pytest.fixture
def speak():
    """Push speech of a length, and the silence that ends it."""

    def run(session, seconds):
        pcm = tone(round(seconds * RATE), RATE) + silence(RATE)
        session.push_audio(rtc.AudioFrame(pcm, RATE, 1, len(pcm) // 2))

    return run


@pytest.fixture
def reported():
    """Turn what the plugin reported of a response into the units of the ledger."""

    def run(metrics):
        read, written = metrics.input_token_details, metrics.output_token_details
        cached = read.cached_tokens_details
        quantities = {
            "input_tokens": read.text_tokens - cached.text_tokens,
            "cached_input_tokens": cached.text_tokens,
            "input_audio_tokens": read.audio_tokens - cached.audio_tokens,
            "cached_input_audio_tokens": cached.audio_tokens,
            "output_tokens": written.text_tokens,
            "output_audio_tokens": written.audio_tokens,
        }
        return {unit: quantity for unit, quantity in quantities.items() if quantity}

    return run


@pytest.fixture
def socket():
    """Open a bare socket to a realtime session."""

    @asynccontextmanager
    async def connect(providers):
        where = {"url": providers.realtime_url, "params": {"model": "gpt-realtime"}}
        async with providers.http_session.ws_connect(**where, headers={"Authorization": "Bearer key-a"}) as opened:
            assert (await opened.receive_json(timeout=5))["type"] == "session.created"
            yield opened

    return connect


@pytest.fixture
def received():
    """Wait for the next event of a type."""

    async def run(socket, type):
        while (event := await socket.receive_json(timeout=5))["type"] != type:
            pass
        return event

    return run
