"""
Cases of speech-to-text: what was really sent, over connections that end, drop, idle, and are doubled by adapters.

Invariant: silence counts like speech; a connection without audio has none.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

from livekit import rtc
from livekit.agents import stt as lk_stt
from livekit.plugins import openai

from livekit_costmeter.testing import Fault, ListenScript
from livekit_costmeter.testing.audio import tone
from tests.fidelity.case import Case
from tests.fidelity.parts import INSTRUCTIONS, nova, parts, patience
from tests.fidelity.replies import agent, close
from tests.fidelity.sessions import Guide

RATE = 16_000


def frame(seconds, rate=RATE):
    """Return that much speech in one frame."""
    samples = int(seconds * rate)
    return rtc.AudioFrame(tone(samples, rate), sample_rate=rate, num_channels=1, samples_per_channel=samples)


async def _short_turn(stage):
    providers = await stage.providers()
    async with stage.call(**parts(providers), agent=agent()) as call:
        await call.turn(0.6)


async def _thirteen_seconds(stage):
    providers = await stage.providers()
    async with stage.call(stt=nova(providers), agent=agent(), turn_handling={"turn_detection": "manual"}) as call:
        call.microphone.speak(10.0)
        await call.microphone.spoken()
        await stage.until(lambda: call.microphone.seconds >= 13, "thirteen seconds")


async def _handoff(stage):
    providers = await stage.providers()
    first, second = nova(providers), nova(providers, model="nova-2")
    async with stage.call(stt=first, agent=agent(), turn_handling={"turn_detection": "manual"}) as call:
        await stage.until(lambda: call.microphone.seconds >= 5, "five seconds")
        call.session.update_agent(Guide(instructions=INSTRUCTIONS, stt=second))
        await stage.until(lambda: call.microphone.seconds >= 11, "eleven seconds")
    await second.aclose()


async def _dropped(stage):
    providers = await stage.providers(deepgram=ListenScript(faults=[Fault(drop_after=5.0)]))
    options = {"turn_handling": {"turn_detection": "manual"}, "conn_options": patience()}
    async with stage.call(stt=nova(providers), agent=agent(), speed=min(4.0, stage.speed), **options) as call:
        await stage.until(lambda: call.microphone.seconds >= 12, "twelve seconds")


async def _muted(stage):
    providers = await stage.providers()
    async with stage.call(stt=nova(providers), agent=agent(), muted=True):
        await stage.until(lambda: stage.ledger.under_way > 0, "the connection")
        await asyncio.sleep(1.0)


async def _faster_than_real_time(stage):
    providers = await stage.providers()
    recogniser = stage.listen(nova(providers))
    async with recogniser.stream() as stream:
        for _ in range(20):
            stream.push_frame(frame(1.0))
        stream.end_input()
        async for event in stream:
            if event.type is lk_stt.SpeechEventType.FINAL_TRANSCRIPT:
                break
    await recogniser.aclose()


async def _fallback(stage):
    broken = await stage.providers(deepgram=ListenScript(faults=[Fault(drop_after=1.0)]))
    working = await stage.providers()
    ears = [nova(broken, model="nova-2"), nova(working)]
    adapter = lk_stt.FallbackAdapter(ears, max_retry_per_stt=0)
    options = {"turn_handling": {"turn_detection": "manual"}}
    async with stage.call(stt=adapter, agent=agent(), speed=min(4.0, stage.speed), **options) as call:
        await stage.until(lambda: call.microphone.seconds >= 12, "twelve seconds")
    await close(*ears)


async def _recorded(stage):
    providers = await stage.providers()
    recogniser = openai.STT(model="gpt-4o-mini-transcribe", client=providers.openai_client("key-stt"))
    stage.listen(recogniser)
    await recogniser.recognize(frame(1.8, 24_000))


LOST = {"audio_seconds": Decimal("0.5")}
"""Audio on its way into a connection that is broken already."""

CASES = (
    Case("S1", "a short turn", _short_turn),
    Case("S2", "thirteen seconds of listening", _thirteen_seconds),
    Case("S12", "a handoff to an agent with an ear of its own", _handoff, {"stt": ("completed", "completed")}),
    Case("S4", "the recogniser drops, and is connected again", _dropped, slack=LOST),
    Case("S6", "connected with a muted microphone", _muted),
    Case("S5", "audio pushed faster than it plays", _faster_than_real_time),
    Case(
        "S8b",
        "a recogniser falls back, and both get all audio",
        _fallback,
        {"stt": ("failed", "completed", "probe")},
        LOST,
    ),
    Case("S10", "a recording is transcribed", _recorded, {"stt": ("completed",)}),
)
