"""Duplex sessions, which newer releases of LiveKit have: whose time it is, and that it is counted once."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal

import pytest
from livekit.agents import llm
from livekit.agents.metrics import RealtimeModelMetrics

if not hasattr(llm, "DuplexSession"):
    pytest.skip("this LiveKit has no duplex sessions", allow_module_level=True)


class Duplex(llm.DuplexSession):
    audio_stream = None
    tools = llm.ToolContext.empty()

    def push_audio(self, frame): ...
    async def _update_instructions(self, instructions): ...
    async def _append_items(self, items): ...
    async def _update_tools(self, tools): ...
    def _update_options(self, **_): ...


class DuplexModel(llm.DuplexModel):
    model = property(lambda _self: "gpt-live")
    provider = property(lambda _self: "openai")

    def __init__(self):
        super().__init__(capabilities=llm.DuplexCapabilities(user_transcription=True, auto_tool_reply_generation=True))
        self._api_key = "a key"

    def session(self):
        session = Duplex(self)

        async def silence():
            await asyncio.Event().wait()
            yield

        session.audio_stream = silence()
        return session

    async def aclose(self): ...


async def test_duplex_time_that_is_reported_is_not_counted_as_well(meter, delivery):
    """GPT-Live says how long its session was (what it bills); the adapter's own window would double it."""
    session = llm.DuplexRealtimeAdapter(DuplexModel()).session()
    details = {
        "input_token_details": RealtimeModelMetrics.InputTokenDetails(),
        "output_token_details": RealtimeModelMetrics.OutputTokenDetails(),
    }
    session._duplex.emit(
        "metrics_collected",
        RealtimeModelMetrics(label="l", request_id="", timestamp=time.time(), session_duration=7.5, **details),
    )
    await asyncio.sleep(0.02)
    await session.aclose()
    assert sum(Decimal(record["quantities"]["session_seconds"]) for record in delivery.records) == Decimal("7.5")


async def test_duplex_time_has_the_key_of_its_model(meter, delivery):
    """The adapter holds no key: the model behind it does."""
    session = llm.DuplexRealtimeAdapter(DuplexModel()).session()
    await asyncio.sleep(0.02)
    await session.aclose()
    (record,) = delivery.records
    assert "key_id" in record
