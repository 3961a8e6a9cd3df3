"""
Normal calls on the models of the cases, from which a meter learns how many tokens a text has.

Invariant: nothing is interrupted here and every token is reported; questions and answers are not those of the cases.
"""

from __future__ import annotations

import asyncio

from livekit.agents import Agent, inference
from livekit.agents import llm as lk_llm

from livekit_costmeter.testing import ChatScript, RealtimeScript
from tests.fidelity.parts import (
    INSTRUCTIONS,
    MODEL,
    OTHER_MODEL,
    REASONER,
    RESPONDER,
    claude,
    gateway,
    gpt,
    realtime,
    voice_of_openai,
)
from tests.fidelity.stage import staged

_QUESTIONS = (
    "Hello, my name is Anna. I would like to know whether my invoice for March has been paid already.",
    "Can you send a technician to my house on Thursday? The line has been noisy since the storm last week.",
    "I am moving to another city in June and want to keep my telephone number, is that possible?",
    "What does the larger contract cost, and how long would I be bound to it after the first year?",
    "Somebody called me from a withheld number and asked for my password. Was that one of your people?",
)
_ANSWERS = (
    "Good morning, Anna. Your invoice for March was paid on the second of April, so nothing is open at the moment.",
    "I am sorry to hear that. A technician can be with you on Thursday between ten and twelve. Does that suit you?",
    "Yes, you can keep your number if you move within the same area code. Otherwise we will give you a new one.",
    "The larger contract costs forty euros a month. After the first year you may leave it at the end of any month.",
    "No, we never ask for a password on the telephone. Please change it, and tell us if it should happen again.",
)
_MANNER = INSTRUCTIONS  # an agent says the same of itself in every call


async def practise(rounds: int = 2) -> None:
    """Hold a short conversation `rounds` times with each model, and have each answer said."""
    async with staged() as stage:
        said = ChatScript(replies=_ANSWERS * rounds * 4, tokens_per_second=None)
        providers = await stage.providers(chat=said, anthropic=said, inference_llm=said)
        models = [gpt(providers, name) for name in (MODEL, OTHER_MODEL, REASONER, RESPONDER)]
        models += [claude(providers), inference.LLM("openai/gpt-4o-mini", **gateway(providers))]
        for model in models * rounds:
            await _converse(model)
        voice = voice_of_openai(providers)
        for answer in _ANSWERS:
            await voice.synthesize(answer).collect()
        await asyncio.gather(voice.aclose(), *(model.aclose() for model in models))
    await _speak_to_realtime()


async def _speak_to_realtime() -> None:
    async with staged() as stage:
        providers = await stage.providers(realtime=RealtimeScript(replies=_ANSWERS))
        async with stage.call(llm=realtime(providers), agent=Agent(instructions=_MANNER)) as call:
            for _ in _ANSWERS:
                await call.turn()


async def _converse(model) -> None:
    context = lk_llm.ChatContext.empty()
    context.add_message(role="system", content=_MANNER)
    for question in _QUESTIONS:
        context.add_message(role="user", content=question)
        answer = await model.chat(chat_ctx=context).collect()
        context.add_message(role="assistant", content=answer.text)
