"""
The calls of a simulated day: each a few turns, in which something may happen.

Invariant: a random generator decides everything that is said, and all of it is decided by the time it is said.
"""

from __future__ import annotations

from random import Random

from livekit.agents import Agent, function_tool
from livekit.agents import llm as lk_llm
from livekit.agents import tts as lk_tts

from livekit_costmeter.testing import ChatScript, Fault, ListenScript, Reply, ToolCall, VoiceScript
from tests.fidelity.parts import INSTRUCTIONS, OTHER_MODEL, gpt, nova, parts, patience, sonic
from tests.fidelity.replies import Clerk, eager, hesitate, two_halves

_SAYINGS = (
    "Good morning, how can I help you today?",
    "Your order left our warehouse in Leipzig this morning, and should be with you by Thursday.",
    "The invoice number is 4711, the amount is 86 euros and 40 cents, and it is due on the fifteenth.",
    "I have moved your appointment to half past three on Monday afternoon.",
    "Unfortunately the technician cannot come before next week, because of the storm damage up north.",
    "Please keep the receipt; you will need it if the replacement should be faulty as well.",
    "That contract cannot be cancelled before the end of March, but I can make a note of it for you.",
    "Is there anything else that you would like to know?",
    "Our branch in Görlitz is closed for renovation; the nearest one is in Bautzen, near the railway station.",
    "One moment, please, while I look that up for you.",
)
_BROKEN = (Fault(drop_after=0.0), Fault(drop_after=1.5), Fault(status=503))


class Transfer(Agent):
    """An agent who hands the caller over to somebody with other models."""

    def __init__(self, successor: Agent) -> None:
        super().__init__(instructions=INSTRUCTIONS)
        self._successor = successor

    @function_tool
    async def hand_over(self) -> Agent:
        """Hand the caller over to the billing department."""
        return self._successor


def answer(random: Random, sentences: int) -> Reply:
    """Return an answer of that many sentences, some of its prompt being cached now and then."""
    return Reply(" ".join(random.choices(_SAYINGS, k=sentences)), cached_tokens=random.choice((0, 0, 32)))


def talk(random: Random, *replies: Reply, **faults) -> dict[str, object]:
    """Return the scripts of a call with these replies first, and some others after them."""
    pace = random.choice((80.0, 150.0, 300.0))
    more = [answer(random, random.randint(1, 3)) for _ in range(4)]
    return {
        "chat": ChatScript(replies=[*replies, *more], tokens_per_second=pace, faults=faults.get("chat", ())),
        "cartesia": VoiceScript(realtime_factor=random.choice((8.0, 15.0, 30.0)), faults=faults.get("cartesia", ())),
        "deepgram": ListenScript(transcripts=random.sample(_SAYINGS, 5), faults=faults.get("deepgram", ())),
    }


async def conversation(stage, random):
    """Talk, with nothing going wrong."""
    providers = await stage.providers(**talk(random))
    async with stage.call(**parts(providers), agent=Agent(instructions=INSTRUCTIONS)) as call:
        for _ in range(random.randint(1, 3)):
            await call.turn(random.uniform(0.6, 2.0))


async def interruption(stage, random):
    """Talk over a long answer."""
    providers = await stage.providers(**talk(random, answer(random, 8)))
    async with stage.call(**parts(providers), agent=Agent(instructions=INSTRUCTIONS)) as call:
        await call.speak(random.uniform(0.6, 1.5))
        await call.barge_in(after=random.uniform(0.2, 3.0))


async def errand(stage, random):
    """Have the agent use its tools."""
    uses = (ToolCall("look_up_customer", '{"number": "4711"}'), ToolCall("open_hours", '{"day": "Monday"}'))
    providers = await stage.providers(**talk(random, Reply(tool_calls=(random.choice(uses),)), answer(random, 2)))
    async with stage.call(**parts(providers), agent=Clerk(instructions=INSTRUCTIONS)) as call:
        await call.turn()
        await call.turn()


async def handoff(stage, random):
    """Be handed over to an agent with another model and another voice."""
    providers = await stage.providers(**talk(random, Reply(tool_calls=(ToolCall("hand_over"),))))
    others = {"llm": gpt(providers, OTHER_MODEL), "tts": sonic(providers, model="sonic-2")}
    successor = Agent(instructions=INSTRUCTIONS, **others)
    async with stage.call(**parts(providers), agent=Transfer(successor)) as call:
        await call.speak()
        await stage.until(lambda: call.session.current_agent is successor, "the successor")
        await call.turn()
    for component in others.values():
        await component.aclose()


async def model_fallback(stage, random):
    """Be answered by a second model, as the first is broken; it is probed afterwards."""
    broken = await stage.providers(**talk(random, chat=[random.choice((Fault(stall=True), *_BROKEN))]))
    working = await stage.providers(**talk(random))
    models = [gpt(broken), gpt(working, OTHER_MODEL)]
    voices = {"stt": nova(working), "tts": sonic(working)}
    adapter = lk_llm.FallbackAdapter(models, attempt_timeout=0.5)
    async with stage.call(llm=adapter, **voices, agent=Agent(instructions=INSTRUCTIONS)) as call:
        await call.turn()
        await call.turn()
    for model in models:
        await model.aclose()


async def voice_fallback(stage, random):
    """Be spoken to by a second voice, as the first is broken; it is probed afterwards."""
    broken = await stage.providers(**talk(random, cartesia=[Fault(drop_after=0.0)]))
    working = await stage.providers(**talk(random))
    voices = [sonic(broken, model="sonic-2"), sonic(working)]
    adapter = lk_tts.FallbackAdapter(voices, max_retry_per_tts=0)
    rest = {"llm": gpt(working), "stt": nova(working)}
    async with stage.call(**rest, tts=adapter, agent=Agent(instructions=INSTRUCTIONS)) as call:
        await call.turn()
        await call.turn()
    for voice in voices:
        await voice.aclose()


async def hanging_up(stage, random):
    """Hang up while the agent thinks or speaks."""
    providers = await stage.providers(**talk(random, answer(random, 8)))
    async with stage.call(**parts(providers), agent=Agent(instructions=INSTRUCTIONS)) as call:
        await call.speak()
        await stage.until_seen("output_tokens", random.randint(1, 120), "llm")


async def bad_line(stage, random):
    """Have a provider's connection drop within its work."""
    faults = random.choice(
        (
            {"chat": [Fault(drop_after=random.randint(5, 60))]},
            {"deepgram": [Fault(drop_after=3.0)]},
            {"chat": [_BROKEN[2]]},
        )
    )
    providers = await stage.providers(**talk(random, answer(random, 4), **faults))
    options = {"conn_options": patience(), "agent": Agent(instructions=INSTRUCTIONS)}
    async with stage.call(**parts(providers), **options) as call:
        await call.turn()
        await call.turn()


async def second_thought(stage, random):
    """Speak on when the agent has begun to answer the first half of the question."""
    scripts = talk(random, answer(random, 3), answer(random, 2))
    providers = await stage.providers(**{**scripts, "deepgram": two_halves()})
    begun = random.randint(1, 60)
    async with stage.call(**parts(providers), agent=Agent(instructions=INSTRUCTIONS), **eager(stage)) as call:
        await hesitate(stage, call, lambda: stage.seen("output_tokens", "llm") >= begun or stage.ledger.entries)
        await call.hear_out()


_CALLS = {
    conversation: 50,
    interruption: 50,
    errand: 20,
    handoff: 20,
    model_fallback: 14,
    voice_fallback: 8,
    hanging_up: 18,
    bad_line: 10,
    second_thought: 10,
}


def draw(random: Random):
    """Draw what kind of call the next one is."""
    return random.choices(list(_CALLS), weights=list(_CALLS.values()))[0]
