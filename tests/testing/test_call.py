"""A whole call without a room: real plugins, real audio, loopback providers."""

import pytest
from livekit.agents import Agent, function_tool
from livekit.plugins import cartesia, deepgram, openai

from livekit_costmeter.testing import (
    CallDriver,
    ChatScript,
    ListenScript,
    LoopbackProviders,
    Reply,
    Script,
    Spoken,
    ToolCall,
    VoiceScript,
)

STORY = "It began a long time ago. There were ships from every country, and they carried spices and cloth. " * 4


@pytest.fixture
def calling():
    """Make a call with the real plugins, against the providers given."""

    def make(providers, **options):
        return CallDriver(
            stt=deepgram.STT(base_url=providers.deepgram_url, api_key="key-stt"),
            llm=openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key="key-llm"),
            tts=cartesia.TTS(base_url=providers.cartesia_url, api_key="key-tts"),
            **{"speed": 10.0, **options},
        )

    return make


async def test_a_call_of_three_turns_with_a_barge_in(calling):
    """The caller asks, asks for a story, and talks over it; every part of the work is in the ledger."""
    script = Script(
        chat=ChatScript(replies=["Good morning.", STORY, "All right, I will stop."], tokens_per_second=None),
        deepgram=ListenScript(transcripts=["Hello.", "Tell me a story.", "Stop, please."]),
        cartesia=VoiceScript(realtime_factor=2.0),
    )
    async with LoopbackProviders(script) as providers:
        async with calling(providers) as call:
            assert await call.turn() == Spoken("assistant", "Good morning.", interrupted=False)
            await call.speak()
            answer = await call.barge_in(after=0.5)
        await providers.ledger.settled()
    ledger = providers.ledger
    assert answer == Spoken("assistant", "All right, I will stop.", interrupted=False)
    assert [spoken.text for spoken in call.transcript if spoken.role == "user"] == list(script.deepgram.transcripts)
    assert [spoken.interrupted for spoken in call.transcript if spoken.role == "assistant"] == [False, True, False]
    assert [entry.outcome for entry in ledger.select(component="tts")] == ["completed", "aborted", "completed"]
    assert len(ledger.select(component="llm", key="key-llm")) == 3
    heard = ledger.total(component="stt", unit="audio_seconds", key="key-stt")
    assert call.microphone.seconds - 1 < heard < call.microphone.seconds + 3


async def test_an_agent_can_use_its_tools(calling):
    """A scripted tool call runs the agent's function, and both requests are on the bill."""
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
    async with LoopbackProviders(Script(chat=ChatScript(replies=replies))) as providers:
        async with calling(providers, agent=Host(instructions="You take bookings.")) as call:
            answer = await call.turn()
        await providers.ledger.settled()
    assert asked == ["Friday"]
    assert answer.text == "Your table is booked."
    first, second = providers.ledger.select(component="llm")
    assert second.quantities["input_tokens"] > first.quantities["input_tokens"]


async def test_a_call_in_which_nothing_is_understood_times_out(calling):
    """Without a transcript there is no turn, and waiting for one ends with an error."""
    async with LoopbackProviders(Script(deepgram=ListenScript(transcripts=[""]))) as providers:
        async with calling(providers, timeout=0.5) as call:
            with pytest.raises(TimeoutError):
                await call.turn()
        await providers.ledger.settled()
    assert providers.ledger.select(component="llm") == []


async def test_captions_and_loudspeaker_agree_with_the_transcript(calling):
    """What the agent says is heard and captioned."""
    async with LoopbackProviders() as providers:
        async with calling(providers) as call:
            answer = await call.turn()
        await providers.ledger.settled()
    assert call.captions.segments == [answer.text]
    billed = providers.ledger.total(component="tts", unit="output_audio_seconds")
    assert call.loudspeaker.seconds == pytest.approx(float(billed), abs=0.05)


async def test_components_can_outlive_a_call():
    """Components that the driver does not own serve a second call."""
    async with LoopbackProviders() as providers:
        session = providers.http_session
        parts = {
            "stt": deepgram.STT(base_url=providers.deepgram_url, api_key="k", http_session=session),
            "llm": openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key="k"),
            "tts": cartesia.TTS(base_url=providers.cartesia_url, api_key="k", http_session=session),
        }
        for _ in range(2):
            async with CallDriver(**parts, speed=10.0, owns_components=False) as call:
                assert await call.turn()
        for part in parts.values():
            await part.aclose()
        await providers.ledger.settled()
    assert len(providers.ledger.select(component="llm", outcome="completed")) == 2
