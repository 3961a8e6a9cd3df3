"""Metering without patches: what public events say, of the sessions that are attached."""

from __future__ import annotations

from decimal import Decimal

import pytest
from livekit.agents import Agent, llm
from livekit.plugins import cartesia, deepgram, openai

from livekit_costmeter.metering import ContextRules, CostMeter, KeyRing, Privacy
from livekit_costmeter.pricing.providers import identify
from livekit_costmeter.testing import CallDriver, LoopbackProviders


@pytest.fixture
def listening(delivery):
    meter = CostMeter(
        delivery=delivery,
        identify=identify,
        keys=KeyRing((), secret=lambda: b"secret", environ={}),
        rules=ContextRules(),
        privacy=Privacy("masked", secret=lambda: b"secret"),
        rate=lambda _record: [],
    )
    meter.listen()
    return meter


def parts(providers):
    return {
        "stt": deepgram.STT(base_url=providers.deepgram_url, api_key="key-stt"),
        "llm": openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key="key-llm"),
        "tts": cartesia.TTS(base_url=providers.cartesia_url, api_key="key-tts"),
    }


async def test_an_attached_session_is_metered_without_a_patch(listening, delivery):
    """LiveKit's classes are as they were, and each component of the session yields its records, once."""
    assert "emit" not in llm.LLM.__dict__
    async with LoopbackProviders() as providers, CallDriver(**parts(providers)) as call:
        listening.attach(call.session, account="acme")
        listening.attach(call.session, labels={"campaign": "q4"})
        await call.turn()
        await call.aclose()
        await providers.ledger.settled()
        tokens = providers.ledger.total(component="llm", unit="input_tokens")
    records = delivery.records
    assert {record["component"] for record in records} == {"stt", "llm", "tts"}
    assert {(record["account"], record["labels"]["campaign"]) for record in records} == {("acme", "q4")}
    assert len({record["session_id"] for record in records}) == 1
    assert sum(Decimal(r["quantities"].get("input_tokens", 0)) for r in records if r["component"] == "llm") == tokens


async def test_a_handoff_brings_its_own_components(listening, delivery):
    """After a handoff the new agent's model is listened to as well."""
    async with LoopbackProviders() as providers, CallDriver(**parts(providers)) as call:
        listening.attach(call.session)
        await call.turn()
        own = openai.LLM(model="gpt-4.1-mini", base_url=providers.openai_url, api_key="key-own")
        call.session.update_agent(Agent(instructions="Another.", llm=own))
        await call.turn()
        await own.aclose()
    assert {record["model"] for record in delivery.records if record["component"] == "llm"} == {
        "gpt-4o-mini",
        "gpt-4.1-mini",
    }


async def test_a_session_that_is_not_attached_is_not_seen(listening, delivery):
    """Without a patch nobody tells of other sessions."""
    async with LoopbackProviders() as providers, CallDriver(**parts(providers)) as call:
        await call.turn()
    assert delivery.bodies == []
