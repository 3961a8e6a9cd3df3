"""What the tests of the testing package share: prompts, frames, and a client that retries without waiting."""

import asyncio

import pytest
from livekit import rtc
from livekit.agents import APIConnectOptions
from livekit.agents import llm as lk_llm

RATE = 16_000


@pytest.fixture
def prompt():
    """Make a chat context with one question in it."""

    def make(text="What are your opening hours on Saturday?"):
        chat = lk_llm.ChatContext.empty()
        chat.add_message(role="user", content=text)
        return chat

    return make


@pytest.fixture
def frames():
    """Cut PCM into 20 ms frames, the last one as long as the rest is."""

    def cut(pcm):
        step = RATE // 50 * 2
        pieces = [pcm[start : start + step] for start in range(0, len(pcm), step)]
        return [rtc.AudioFrame(piece, RATE, 1, len(piece) // 2) for piece in pieces]

    return cut


@pytest.fixture
def until():
    """Wait for a condition that no event announces."""

    async def poll(condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    return poll


@pytest.fixture
def impatient():
    """Connection options that retry at once and give up on a silent server soon."""

    def make(max_retry=3, timeout=5.0):
        return APIConnectOptions(max_retry=max_retry, retry_interval=0.001, timeout=timeout)

    return make
