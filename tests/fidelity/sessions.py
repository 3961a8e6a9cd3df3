"""
Cases of sessions: detectors with models of their own, shared models, tasks, handoffs, models changed under way.

Invariant: a piece of work counts once, whoever looked at it and however many sessions did.
"""

from __future__ import annotations

import asyncio

from livekit.agents import Agent, AgentTask
from livekit.agents.voice.amd import AMD

from livekit_costmeter.testing import ChatScript, Reply, ToolCall
from tests.fidelity.case import Case
from tests.fidelity.parts import INSTRUCTIONS, OTHER_MODEL, QUESTION, SHORT, Ear, gpt, nova, parts, sonic
from tests.fidelity.replies import agent, ask, chat, close

_VERDICT = Reply(tool_calls=(ToolCall("save_prediction", '{"label": "human"}'),))
_NO_CHANGE = Reply(tool_calls=(ToolCall("record_keyterms", '{"pending": [], "confirm": [], "remove": []}'),))


class Guide(Agent):
    """An agent with components of its own."""


class Survey(AgentTask[str]):
    """A task that asks one question, and is done."""

    def __init__(self):
        super().__init__(instructions="Ask the caller one question.")

    async def on_enter(self):
        """Ask, and end the task with the answer."""
        await self.session.generate_reply(instructions="Ask the caller whether they were content with the service.")
        self.complete("content")


class Surveyor(Agent):
    """An agent that runs a task before it answers."""

    async def on_enter(self):
        """Run the task, and answer."""
        await Survey()
        self.session.generate_reply(user_input=QUESTION)


async def _voicemail(stage):
    providers = await stage.providers(chat=chat())
    detecting = await stage.providers(chat=chat(_VERDICT, SHORT))
    classifier = gpt(detecting, OTHER_MODEL)
    handling = {
        "turn_detection": "vad",
        "endpointing": {"min_delay": 0.0, "max_delay": 0.0},
        "interruption": {"mode": "vad"},
        "preemptive_generation": {"enabled": False},
    }
    quick = {"human_speech_threshold": 0.05, "human_silence_threshold": 0.05, "machine_silence_threshold": 0.1}
    async with stage.call(**parts(providers), agent=agent(), vad=Ear(), turn_handling=handling) as call:
        detector = AMD(
            call.session, llm=classifier, stt=None, detection_options=quick, suppress_compatibility_warning=True
        )
        async with detector:
            call.microphone.speak(2.0)
            await detector.execute()
        await stage.until(lambda: len(call.transcript) >= 2, "the answer")
        await call.hear_out()
    await classifier.aclose()


async def _keyterms(stage, model, detecting):
    options = {"keyterm_detection": {"enabled": True, "llm": detecting}}
    providers = stage.main
    voices = {"stt": nova(providers), "tts": sonic(providers)}
    async with stage.call(llm=model, **voices, agent=agent(), stt_context_options=options) as call:
        await call.turn()
        await stage.until(lambda: len(stage.ledger.select(component="llm")) == 2, "the detector's pass")


async def _keyterms_own(stage):
    stage.main = await stage.providers(chat=chat())
    detecting = gpt(await stage.providers(chat=chat(_NO_CHANGE)), OTHER_MODEL)
    await _keyterms(stage, gpt(stage.main), detecting)
    await detecting.aclose()


async def _keyterms_shared(stage):
    def answer(request):
        return _NO_CHANGE if request.body.get("tools") else SHORT

    stage.main = await stage.providers(chat=ChatScript(replies=answer, tokens_per_second=200.0))
    model = gpt(stage.main)
    await _keyterms(stage, model, model)


async def _two_sessions(stage):
    providers = await stage.providers(chat=chat())
    shared = gpt(providers)
    one = stage.call(llm=shared, agent=agent(), owns_components=False)
    two = stage.call(llm=shared, agent=agent(), owns_components=False)
    async with one as first, two as second:
        await asyncio.gather(ask(first), ask(second))
    await shared.aclose()


async def _task(stage):
    providers = await stage.providers(chat=chat())
    voices = {"llm": gpt(providers), "tts": sonic(providers)}
    async with stage.call(**voices, agent=Surveyor(instructions=INSTRUCTIONS)) as call:
        await stage.until(lambda: len(stage.ledger.select(component="tts")) == 2, "the two answers")
        await call.hear_out()


async def _changed_models(stage):
    providers = await stage.providers(chat=chat())
    changed = {"llm": gpt(providers, OTHER_MODEL), "tts": sonic(providers, model="sonic-2")}
    model = gpt(providers)
    async with stage.call(llm=model, tts=sonic(providers), agent=agent()) as call:
        await ask(call)
        call.session.update_agent(Guide(instructions=INSTRUCTIONS, **changed))
        await call.session._update_activity_atask
        await ask(call)
        changed["tts"].update_options(model="sonic-turbo")
        await ask(call)
    await close(*changed.values())


CASES = (
    Case("AMD", "a voicemail detector asks a model of its own", _voicemail),
    Case("K1", "a keyterm detector asks a model of its own", _keyterms_own),
    Case("K2", "a keyterm detector asks the session's model", _keyterms_shared, {"llm": ("completed",) * 2}),
    Case("X1", "two sessions share a model", _two_sessions, {"llm": ("completed",) * 2}),
    Case("X2", "a task within a session", _task, {"llm": ("completed",) * 2, "tts": ("completed",) * 2}),
    Case(
        "L17/X3",
        "a handoff to other models, and options changed",
        _changed_models,
        {"llm": ("completed",) * 3, "tts": ("completed",) * 3},
    ),
)
