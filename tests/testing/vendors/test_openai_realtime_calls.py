"""A simulated realtime model in a whole call."""

import pytest
from livekit.agents import Agent, function_tool

from livekit_costmeter.testing import CallDriver, LoopbackProviders, RealtimeScript, Reply, Script, ToolCall

GREETING = "Good morning, how can I help you?"
STORY = "It began a long time ago, with ships from every country. " * 8


def scripted(**options):
    return Script(realtime=RealtimeScript(**options))


async def test_a_call_of_two_turns_with_a_barge_in(realtime, reported):
    """In a call the caller talks over the answer; what each response cost is what the plugin reported."""
    script = scripted(replies=[STORY, "All right."], transcripts=["Tell me a story.", "Stop."], realtime_factor=2.0)
    metrics = []
    async with LoopbackProviders(script) as providers:
        async with CallDriver(llm=realtime(providers), speed=4.0) as call:
            call.session.on("metrics_collected", lambda event: metrics.append(event.metrics))
            await call.speak()
            answer = await call.barge_in(after=0.5)
        await providers.ledger.settled()
    assert answer.text == "All right."
    assert [(said.role, said.interrupted) for said in call.transcript] == [
        ("user", False),
        ("assistant", True),
        ("user", False),
        ("assistant", False),
    ]
    responses = providers.ledger.select(component="realtime")
    assert [entry.outcome for entry in responses] == ["aborted", "completed"]
    used = [each for each in metrics if each.type == "realtime_model_metrics" and each.total_tokens]
    assert [entry.quantities for entry in responses] == [reported(each) for each in used]


async def test_a_model_in_a_call_can_use_its_tools(realtime):
    """A scripted tool call runs the agent's function, and both responses are on the bill."""
    asked = []

    class Host(Agent):
        @function_tool
        async def book_table(self, day: str) -> str:
            """Book a table.

            Args:
                day: The day of the week.
            """
            asked.append(day)
            return "booked"

    replies = [Reply(tool_calls=(ToolCall("book_table", '{"day": "Friday"}'),)), "Your table is booked."]
    async with LoopbackProviders(scripted(replies=replies)) as providers:
        async with CallDriver(llm=realtime(providers), agent=Host(instructions="You take bookings.")) as call:
            answer = await call.turn()
        await providers.ledger.settled()
    assert asked == ["Friday"]
    assert answer.text == "Your table is booked."
    first, second = providers.ledger.select(component="realtime")
    assert set(first.quantities) == {"input_tokens", "input_audio_tokens", "output_tokens"}
    assert second.quantities["input_tokens"] > first.quantities["input_tokens"]


async def test_an_agent_in_a_call_can_speak_first(realtime):
    """A reply that the agent asks for needs no caller, and is heard and billed like any other."""
    async with LoopbackProviders(scripted(replies=[GREETING])) as providers:
        async with CallDriver(llm=realtime(providers), speed=10.0) as call:
            await call.session.generate_reply(instructions="Greet the caller.")
            await call.hear_out()
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert [said.text for said in call.transcript] == call.captions.segments == [GREETING]
    assert call.loudspeaker.seconds == pytest.approx(len(GREETING) / 15, abs=0.05)
    assert entry.outcome == "completed"


async def test_a_call_that_ends_in_the_middle_is_billed_for_what_was_spoken(realtime):
    """Hanging up while the agent speaks ends the response, and what was generated is on the bill."""
    async with LoopbackProviders(scripted(replies=[STORY], realtime_factor=2.0)) as providers:
        async with CallDriver(llm=realtime(providers)) as call:
            await call.speak()
            await call.hear(0.2)
        await providers.ledger.settled()
    (entry,) = providers.ledger.select(component="realtime")
    assert entry.outcome == "aborted"
    assert 0 < entry.quantities["output_audio_tokens"] < len(STORY) / 15 * 20
