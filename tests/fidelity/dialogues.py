"""
Cases of speech-to-speech models: responses that end, are interrupted, never begin, or outlive their session.

Invariant: a response counts what it read when it was asked for, and what it said until it was stopped.
"""

from __future__ import annotations

from decimal import Decimal

from livekit_costmeter.testing import RealtimeScript
from tests.fidelity.case import Case
from tests.fidelity.parts import INSTRUCTIONS, LONG, QUESTION, SHORT, realtime
from tests.fidelity.replies import agent
from tests.fidelity.sessions import Guide

_RACE = {"output_audio_tokens": Decimal(8), "output_tokens": Decimal(8)}
"""Four tenths of a second of speech, at ten times the speed of listening: what is on its way when a session closes."""


def speaking(*replies, **script):
    """Return the script of a model that speaks a little faster than a compressed call listens."""
    return RealtimeScript(**{"replies": replies or (SHORT,), "realtime_factor": 10.0, **script})


async def _normal_response(stage):
    providers = await stage.providers(realtime=speaking())
    async with stage.call(llm=realtime(providers), agent=agent()) as call:
        await call.turn()
        await call.turn()


async def _interrupted(stage):
    providers = await stage.providers(realtime=speaking(LONG))
    async with stage.call(llm=realtime(providers), agent=agent()) as call:
        await call.speak()
        await call.hear(1.0)
        await call.session.interrupt()
        await stage.until_idle()


async def _never_begun(stage):
    providers = await stage.providers(realtime=speaking(LONG, created_after=5.0))
    async with stage.call(llm=realtime(providers), agent=agent()) as call:
        handle = call.session.generate_reply(instructions="Greet the caller by name and ask how you can help.")
        await stage.until_seen("input_tokens", 1, "realtime")
        await handle.interrupt()
        await stage.until_idle()


async def _closed_midway(stage):
    providers = await stage.providers(realtime=speaking(LONG))
    async with stage.call(llm=realtime(providers), agent=agent()) as call:
        await call.speak()
        await stage.until_seen("output_audio_tokens", 120, "realtime")


async def _connection_closed(stage):
    providers = await stage.providers(realtime=speaking(LONG))
    model = realtime(providers)
    session = stage.listen(model.session())
    await session.update_instructions(INSTRUCTIONS)
    answer = session.generate_reply(instructions=QUESTION)
    await stage.until_seen("output_audio_tokens", 120, "realtime")
    await session.aclose()
    await answer
    await model.aclose()


async def _handoff(stage):
    providers = await stage.providers(realtime=speaking())
    async with stage.call(llm=realtime(providers), agent=agent()) as call:
        await call.turn()
        call.session.update_agent(Guide(instructions=INSTRUCTIONS))
        await call.session._update_activity_atask
        await call.turn()
        await call.turn()


CASES = (
    Case("R1", "two spoken turns", _normal_response, {"realtime": ("completed",) * 2}),
    Case("R2", "a spoken answer is interrupted", _interrupted, {"realtime": ("interrupted",)}),
    Case("R3", "a spoken answer is cancelled before it begins", _never_begun, {"realtime": ("interrupted",)}),
    Case("R4", "the session closes within a spoken answer", _closed_midway, {"realtime": ("interrupted",)}, _RACE),
    Case(
        "R4b",
        "a connection closes within a spoken answer",
        _connection_closed,
        {"realtime": ("interrupted",)},
        _RACE,
        # What a response read follows from the whole conversation, which is the provider's.
        hidden=frozenset({"input_tokens"}),
    ),
    Case("R5", "a handoff within one realtime session", _handoff, {"realtime": ("completed",) * 3}),
)
