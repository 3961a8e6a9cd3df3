"""
The same troubles with other vendors: Anthropic, OpenAI's Responses, ElevenLabs, AssemblyAI, LiveKit's own gateway.

Invariant: each case is one of another module with only the vendor changed, so that the way a plugin sends and reports
is what differs.
"""

from __future__ import annotations

from decimal import Decimal

from livekit.agents import inference
from livekit.plugins import assemblyai, elevenlabs, openai

from livekit_costmeter.testing import Reply
from tests.fidelity.case import Case
from tests.fidelity.parts import LONG, QUESTION, RESPONDER, SHORT, claude, gateway, gpt, nova, sonic
from tests.fidelity.replies import RACE, agent, chat
from tests.fidelity.voices import slow


async def _cached_prompt(stage):
    replies = (Reply(SHORT, cache_write_tokens=60), Reply(SHORT, cached_tokens=60))
    providers = await stage.providers(anthropic=chat(*replies))
    async with stage.call(llm=claude(providers), agent=agent()) as call:
        await call.session.generate_reply(user_input=QUESTION)
        await call.session.generate_reply(user_input=QUESTION)


async def _interrupted_claude(stage):
    providers = await stage.providers(anthropic=chat(LONG))
    async with stage.call(llm=claude(providers), agent=agent()) as call:
        handle = call.session.generate_reply(user_input=QUESTION)
        await stage.until_seen("output_tokens", 60)
        await handle.interrupt()


async def _interrupted_response(stage):
    providers = await stage.providers(responses=chat(LONG))
    model = openai.responses.LLM(model=RESPONDER, client=providers.openai_client("key-llm"), use_websocket=False)
    async with stage.call(llm=model, agent=agent()) as call:
        handle = call.session.generate_reply(user_input=QUESTION)
        await stage.until_seen("output_tokens", 60)
        await handle.interrupt()


async def _interrupted_elevenlabs(stage):
    providers = await stage.providers(elevenlabs=slow(stage))
    voice = elevenlabs.TTS(base_url=providers.elevenlabs_url, api_key="key-tts")
    async with stage.call(tts=voice, agent=agent()) as call:
        call.session.say(LONG)
        await call.hear(1.0)
        await call.session.interrupt()


async def _assemblyai(stage):
    providers = await stage.providers()
    ear = assemblyai.STT(base_url=providers.assemblyai_url, api_key="key-stt")
    async with stage.call(stt=ear, llm=gpt(providers), tts=sonic(providers), agent=agent()) as call:
        await call.turn()


async def _gateway_turn(stage):
    providers = await stage.providers(inference_llm=chat())
    access = gateway(providers)
    components = {
        "stt": inference.STT("deepgram/nova-3", **access),
        "llm": inference.LLM("openai/gpt-4o-mini", **access),
        "tts": inference.TTS("cartesia/sonic-3", **access),
    }
    async with stage.call(**components, agent=agent()) as call:
        await call.turn()


async def _gateway_interrupted(stage):
    providers = await stage.providers(inference_llm=chat(LONG), inference_tts=slow(stage))
    access = gateway(providers)
    components = {
        "stt": nova(providers),
        "llm": inference.LLM("openai/gpt-4o-mini", **access),
        "tts": inference.TTS("cartesia/sonic-3", **access),
    }
    async with stage.call(**components, agent=agent()) as call:
        await call.speak()
        await stage.until_seen("output_tokens", 60, "llm")
        await call.hear(0.5)
        await call.session.interrupt()


async def _gateway_chunk(stage):
    providers = await stage.providers()
    voice = stage.listen(inference.TTS("cartesia/sonic-3", **gateway(providers)))
    await voice.synthesize(SHORT).collect()
    await voice.aclose()


CASES = (
    Case(
        "V1",
        "Anthropic writes to and reads from its cache",
        _cached_prompt,
        {"llm": ("completed",) * 2},
        # LiveKit's plugin adds the count at the start of a message to the one at its end, which includes it.
        slack={"output_tokens": Decimal(2)},
    ),
    Case("V2", "Anthropic is interrupted while it streams", _interrupted_claude, {"llm": ("interrupted",)}, RACE),
    Case("V3", "a response of OpenAI is interrupted", _interrupted_response, {"llm": ("interrupted",)}, RACE),
    Case("V4", "ElevenLabs is interrupted while it speaks", _interrupted_elevenlabs, {"tts": ("interrupted",)}),
    Case("V5", "AssemblyAI listens to a turn", _assemblyai, slack={"connection_seconds": Decimal("0.2")}),
    Case("V6", "a turn through LiveKit's gateway", _gateway_turn),
    Case(
        "V7",
        "a voice of LiveKit's gateway is interrupted",
        _gateway_interrupted,
        {"llm": ("interrupted",), "tts": ("interrupted",)},
        RACE,
    ),
    Case("V8", "a single request made out of a stream of the gateway", _gateway_chunk, {"tts": ("completed",)}),
)
