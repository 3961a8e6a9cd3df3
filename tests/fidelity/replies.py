"""
Cases of the chat model: replies that end, are interrupted, thrown away, fail, or are never reported.

Invariant: work is aborted when the provider has done a stated amount of it, never after a guessed time.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

from livekit.agents import Agent, function_tool
from livekit.agents import llm as lk_llm

from livekit_costmeter.testing import ChatScript, Fault, ListenScript, Reply, ToolCall
from tests.fidelity.case import Case
from tests.fidelity.parts import (
    INSTRUCTIONS,
    LONG,
    OTHER_MODEL,
    QUESTION,
    REASONER,
    SHORT,
    Ear,
    gpt,
    parts,
    patience,
    sonic,
)

PACE = 100.0
RACE = {"output_tokens": Decimal(4)}
"""Tokens that are generated in the twenty milliseconds and more until a client's leaving is noticed."""


class Clerk(Agent):
    """An agent with two tools."""

    @function_tool
    async def look_up_customer(self, number: str) -> str:
        """Look up a customer by number."""
        return f"Customer {number} has a contract for two telephone lines and an open invoice of forty euros."

    @function_tool
    async def open_hours(self, day: str) -> str:
        """Look up the opening hours of a day."""
        return f"On {day} the office is open from nine in the morning until five in the afternoon."


class Delegate(Agent):
    """An agent that answers by a model of its own, which the session does not know."""

    def __init__(self, model):
        super().__init__(instructions=INSTRUCTIONS)
        self._private = model

    async def llm_node(self, chat_ctx, *_tools_and_settings):
        """Ask the private model."""
        async with self._private.chat(chat_ctx=chat_ctx) as stream:
            async for chunk in stream:
                yield chunk


def agent():
    """Return the ordinary agent."""
    return Agent(instructions=INSTRUCTIONS)


def chat(*replies, **script):
    """Return the script of a chat model that gives these replies at a steady pace."""
    return ChatScript(**{"replies": replies or (SHORT,), "tokens_per_second": PACE, **script})


async def ask(call, question=QUESTION):
    """Ask by text, and hear the answer out."""
    await call.session.generate_reply(user_input=question)


async def _normal_reply(stage):
    providers = await stage.providers(chat=chat(Reply(SHORT, cached_tokens=20)))
    async with stage.call(**parts(providers), agent=agent()) as call:
        await call.turn()


async def _interrupted(stage):
    providers = await stage.providers(chat=chat(LONG))
    async with stage.call(llm=gpt(providers), agent=agent()) as call:
        handle = call.session.generate_reply(user_input=QUESTION)
        await stage.until_seen("output_tokens", 60)
        await handle.interrupt()


async def _interrupted_reasoner(stage):
    reply = Reply(LONG, reasoning_tokens=500)
    providers = await stage.providers(chat=chat(reply, tokens_per_second=1000.0))
    async with stage.call(llm=gpt(providers, REASONER), agent=agent()) as call:
        handle = call.session.generate_reply(user_input=QUESTION)
        await stage.until_seen("output_tokens", 60)
        await handle.interrupt()


async def _interrupted_before_first_token(stage):
    providers = await stage.providers(chat=chat(LONG, first_token_after=5.0))
    async with stage.call(llm=gpt(providers), agent=agent()) as call:
        handle = call.session.generate_reply(user_input=QUESTION)
        await stage.until_seen("input_tokens", 1)
        await handle.interrupt()


async def _closed_midway(stage):
    providers = await stage.providers(chat=chat(LONG))
    async with stage.call(llm=gpt(providers), agent=agent()) as call:
        call.session.generate_reply(user_input=QUESTION)
        await stage.until_seen("output_tokens", 60)


async def hesitate(stage, call, reached):
    """Speak, wait in the middle of the turn until something has come to pass, and speak on."""
    call.microphone.speak(0.6)
    await stage.until(reached, "the first, premature answer")
    call.microphone.speak(0.6)
    before = len(call.transcript)
    await stage.until(lambda: len(call.transcript) >= before + 2, "the answer")


def two_halves():
    """Return a recogniser's script that takes a pause for the end of an utterance, as recognisers do."""
    return ListenScript(transcripts=("Could you please tell me", "when you are open on Monday?"), silence_after=0.2)


def eager(stage, *, voice=False):
    """Return session options under which an answer is begun before the turn is known to be over."""
    return {
        "vad": Ear(silence=0.75 * stage.speed),
        "turn_handling": {
            "turn_detection": "vad",
            "endpointing": {"min_delay": 0.0, "max_delay": 0.0},
            "interruption": {"mode": "vad", "false_interruption_timeout": None},
            "preemptive_generation": {"enabled": True, "preemptive_tts": voice},
        },
    }


async def _preemptive_midway(stage):
    providers = await stage.providers(chat=chat(LONG, SHORT), deepgram=two_halves())
    async with stage.call(**parts(providers), agent=agent(), **eager(stage)) as call:
        await hesitate(stage, call, lambda: stage.seen("output_tokens", "llm") >= 40)


async def _preemptive_completed(stage):
    providers = await stage.providers(chat=chat(SHORT, tokens_per_second=1000.0), deepgram=two_halves())
    async with stage.call(**parts(providers), agent=agent(), **eager(stage)) as call:
        await hesitate(stage, call, lambda: bool(stage.ledger.select(component="llm")))


async def _errors_then_reply(stage):
    providers = await stage.providers(chat=chat(faults=[Fault(status=500)] * 2))
    async with stage.call(llm=gpt(providers), agent=agent(), conn_options=patience()) as call:
        await ask(call)


async def _dropped(stage):
    providers = await stage.providers(chat=chat(LONG, faults=[Fault(drop_after=60)]))
    async with stage.call(llm=gpt(providers), tts=sonic(providers), agent=agent(), conn_options=patience()) as call:
        await ask(call)


async def _timeouts_then_reply(stage):
    providers = await stage.providers(chat=chat(faults=[Fault(stall=True)] * 2))
    async with stage.call(llm=gpt(providers), agent=agent(), conn_options=patience(llm=0.3)) as call:
        await ask(call)


async def _tool_rounds(stage):
    calls = ToolCall("look_up_customer", '{"number": "4711"}'), ToolCall("open_hours", '{"day": "Monday"}')
    providers = await stage.providers(chat=chat(*(Reply(tool_calls=(call,)) for call in calls), SHORT))
    async with stage.call(llm=gpt(providers), agent=Clerk(instructions=INSTRUCTIONS)) as call:
        await ask(call)


async def _no_usage_chunk(stage):
    providers = await stage.providers(chat=chat(report_usage=False))
    async with stage.call(llm=gpt(providers), agent=agent()) as call:
        await ask(call)


async def _fallback(stage):
    stalled = await stage.providers(chat=chat(faults=[Fault(stall=True)]))
    working = await stage.providers(chat=chat(LONG))
    models = [gpt(stalled), gpt(working, OTHER_MODEL)]
    async with stage.call(llm=lk_llm.FallbackAdapter(models, attempt_timeout=0.4), agent=agent()) as call:
        await ask(call)
        await stage.until_idle()
    await close(*models)


async def _private_model(stage):
    providers = await stage.providers(chat=chat())
    private = gpt(providers, OTHER_MODEL)
    async with stage.call(llm=gpt(providers), agent=Delegate(private)) as call:
        await ask(call)
    await private.aclose()


async def _outside_turns(stage):
    providers = await stage.providers(chat=chat())
    model, other = gpt(providers), gpt(providers)
    context = lk_llm.ChatContext.empty()
    context.add_message(role="user", content=QUESTION)
    async with stage.call(llm=model, agent=agent(), owns_components=False) as call:
        await ask(call)
        await model.chat(chat_ctx=context).collect()
        await other.chat(chat_ctx=context).collect()
    await model.chat(chat_ctx=context).collect()
    await close(model, other)


async def close(*components):
    """Close components that no call owns."""
    await asyncio.gather(*(component.aclose() for component in components))


CASES = (
    Case("L1", "a normal reply", _normal_reply),
    Case("L2", "a reply is interrupted while it streams", _interrupted, {"llm": ("interrupted",)}, RACE),
    Case(
        "L15",
        "a reply with hidden reasoning is interrupted",
        _interrupted_reasoner,
        {"llm": ("interrupted",)},
        {"output_tokens": Decimal(40)},
        hidden=frozenset({"reasoning_tokens"}),
    ),
    Case("L3", "interrupted before the first token", _interrupted_before_first_token, {"llm": ("interrupted",)}),
    Case("L16", "the session closes while a reply streams", _closed_midway, {"llm": ("interrupted",)}, RACE),
    Case(
        "L5b",
        "a premature reply is thrown away while it streams",
        _preemptive_midway,
        {"llm": ("discarded", "completed")},
        RACE,
    ),
    Case(
        "L5c",
        "a premature reply completes and is thrown away",
        _preemptive_completed,
        {"llm": ("completed", "discarded", "completed")},
    ),
    Case("L6", "two refusals, then a reply", _errors_then_reply),
    Case("L7", "the connection drops within a reply", _dropped, {"llm": ("failed",)}, RACE),
    Case("L8", "two timeouts, then a reply", _timeouts_then_reply, {"llm": ("failed", "failed", "completed")}),
    Case("L9", "two rounds of tool calls and a reply", _tool_rounds, {"llm": ("completed",) * 3}),
    Case("L12", "the provider reports no usage", _no_usage_chunk),
    Case(
        "L10",
        "a stalled model falls back, and is probed later",
        _fallback,
        {"llm": ("failed", "completed", "probe")},
    ),
    Case("L14", "an agent answers by a model of its own", _private_model),
    Case("L11", "calls on models outside any turn", _outside_turns, {"llm": ("completed",) * 4}),
)
