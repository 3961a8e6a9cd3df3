"""Calls of real sessions: in a room with a phone, in a room with a person, in none, and what their users type."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from decimal import Decimal

import pytest
from livekit.agents import Agent, AgentSession, llm
from livekit.agents.utils import http_context
from livekit.agents.voice import events
from livekit.agents.voice.room_io import RoomOptions
from livekit.plugins import openai

from livekit_costmeter.metering import ContextRules, CostMeter, KeyRing, Privacy, TelephonyRule
from livekit_costmeter.pricing.providers import identify
from livekit_costmeter.testing import LoopbackProviders
from tests.metering.lobby import SIP, STANDARD, Lobby

SILENT = RoomOptions(audio_output=False, text_output=False)


def summary_of(records):
    return [(record["model"], record["attributes"]["leg"], record["attributes"]["state"]) for record in records]


async def closed(session):
    """Wait until LiveKit has closed a session of itself."""
    over = asyncio.Event()
    session.once("close", lambda _event: over.set())
    async with asyncio.timeout(10):
        await over.wait()


async def test_a_phone_call_in_a_room_ends_as_the_caller_hangs_up(meter, delivery):
    """LiveKit links the caller and closes the session when he leaves; the leg is ended by then, once."""
    lobby = Lobby()
    session = AgentSession()
    await session.start(Agent(instructions=""), room=lobby.room, room_options=SILENT)
    lobby.calls(**{"sip.callStatus": "ringing"})
    lobby.turns("caller", "active")
    over = asyncio.create_task(closed(session))
    await asyncio.sleep(0.05)
    lobby.leaves("caller")
    await over
    assert summary_of(delivery.calls) == [("inbound", "primary", "opened"), ("inbound", "primary", "ended")]
    assert Decimal(delivery.calls[-1]["operation_total"]["call_seconds"]) >= Decimal("0.05")
    assert {record["participant"] for record in delivery.calls} == {"caller"}
    assert len(delivery.audits) == 1
    assert meter._failures == {}


async def test_a_transfer_goes_on_after_the_first_caller(meter, delivery):
    """The session stays, the first leg ends with its caller and the second with the session."""
    lobby = Lobby()
    options = RoomOptions(audio_output=False, text_output=False, close_on_disconnect=False)
    async with AgentSession() as session:
        await session.start(Agent(instructions=""), room=lobby.room, room_options=options)
        lobby.calls()
        lobby.dials("colleague")
        lobby.turns("colleague", "active")
        lobby.leaves("caller")
    assert sorted(summary_of(delivery.calls)) == [
        ("inbound", "primary", "ended"),
        ("inbound", "primary", "opened"),
        ("outbound", "transfer", "ended"),
        ("outbound", "transfer", "opened"),
    ]


async def test_who_is_in_the_room_before_the_session_is_found_while_it_starts(meter, delivery):
    """The first greeting may take its time: by then the call is open, and known for one that is heard."""
    lobby = Lobby()
    lobby.joins("ann", kind=STANDARD)

    class Slow(Agent):
        async def on_enter(self):
            await asyncio.sleep(0.05)
            self.seen = summary_of(delivery.calls)

    async with AgentSession() as session:
        agent = Slow(instructions="")
        await session.start(agent, room=lobby.room, room_options=SILENT)
        await asyncio.sleep(0.1)
    assert agent.seen == [("web", "primary", "opened")]
    assert summary_of(delivery.calls)[-1] == ("web", "primary", "ended")


@pytest.mark.parametrize("is_connected", [True, False])
@pytest.mark.parametrize("kind", [SIP, STANDARD])
async def test_the_first_record_of_a_call_knows_its_account(make_meter, delivery, monkeypatch, kind, is_connected):
    """Who was there first is known as the session knows him: what is charged per call is charged to his account."""
    make_meter(rules=ContextRules(account_path="participant.attributes.tenant"))
    lobby = Lobby()
    monkeypatch.setattr(type(lobby.room), "isconnected", lambda _room: is_connected)
    monkeypatch.setattr(type(lobby.room.local_participant), "set_attributes", _nothing)
    if is_connected:
        lobby.finds("ann", kind=kind, tenant="acme")
    async with AgentSession() as session:
        await session.start(Agent(instructions=""), room=lobby.room, room_options=SILENT)
        if not is_connected:
            is_connected = True
            lobby.finds("ann", kind=kind, tenant="acme")
            lobby.connects()
        await asyncio.sleep(0.01)
    first = delivery.calls[0]
    assert (first["attributes"]["state"], first.get("account"), first.get("participant")) == ("opened", "acme", "ann")


async def _nothing(*_args, **_kwargs):
    return None


async def test_a_room_that_is_only_written_in_is_a_chat(meter, delivery):
    """Without audio either way nobody talks, whoever is in the room."""
    lobby = Lobby()
    lobby.joins("ann", kind=STANDARD)
    async with AgentSession() as session:
        options = RoomOptions(audio_input=False, audio_output=False, text_output=False)
        await session.start(Agent(instructions=""), room=lobby.room, room_options=options)
    assert {record["model"] for record in delivery.calls} == {"chat"}


async def test_a_session_that_starts_twice_is_one_call_and_that_starts_anew_another(meter, delivery):
    """LiveKit ignores a second start; after a close a session can be started again."""
    session = AgentSession()
    for _ in range(2):
        await session.start(Agent(instructions=""))
    await session.aclose()
    await session.start(Agent(instructions=""))
    await session.aclose()
    assert summary_of(delivery.calls) == [("chat", "primary", "opened"), ("chat", "primary", "ended")] * 2
    assert len({record["operation_id"] for record in delivery.calls}) == 2


async def test_a_session_that_cannot_start_is_no_call(meter, delivery):
    """It is one when it is tried again and starts."""
    session = AgentSession()
    with pytest.raises(Exception, match=r".*"):
        await session.start(None)
    await asyncio.sleep(0)
    assert delivery.calls == []
    await session.start(Agent(instructions=""))
    await session.aclose()
    assert summary_of(delivery.calls) == [("chat", "primary", "opened"), ("chat", "primary", "ended")]


class Unready(AgentSession):
    """A session whose agent never gets ready: it fails, or waits."""

    def __init__(self, waits):
        super().__init__()
        self._waits = waits

    async def _update_activity(self, *_args, **_kwargs):
        await asyncio.sleep(self._waits)
        raise ConnectionError("the model is away")


@pytest.mark.parametrize("waits", [0.01, 60])
async def test_a_session_that_fails_in_a_room_leaves_the_call_to_the_next(meter, delivery, waits):
    """LiveKit says nothing when a start fails or is cancelled: the leg ends there, and another session goes on."""
    lobby = Lobby()
    lobby.calls()
    start = Unready(waits).start(Agent(instructions=""), room=lobby.room, room_options=SILENT)
    with pytest.raises((ConnectionError, TimeoutError)):
        await asyncio.wait_for(start, 0.1)
    assert summary_of(delivery.calls) == [("inbound", "primary", "opened"), ("inbound", "primary", "ended")]
    async with AgentSession() as session:
        await session.start(Agent(instructions=""), room=lobby.room, room_options=SILENT)
    assert summary_of(delivery.calls)[2:] == [("inbound", "primary", "ended")]
    assert len({record["session_id"] for record in delivery.calls}) == 2
    assert meter._failures == {}


async def test_a_session_that_has_started_all_the_same_is_a_call(meter, delivery):
    """What fails at the very end of a start, as the run that it captures may, leaves a session that talks."""

    class Overjoyed(AgentSession):
        def _update_agent_state(self, state, *args, **kwargs):
            super()._update_agent_state(state, *args, **kwargs)
            if state == "listening":
                raise ConnectionError

    async with Overjoyed() as session:
        with pytest.raises(ConnectionError):
            await session.start(Agent(instructions=""))
    assert summary_of(delivery.calls) == [("chat", "primary", "opened"), ("chat", "primary", "ended")]


async def test_a_start_that_is_tried_again_at_once_is_one_call(meter, delivery):
    """What was scheduled for the start that failed is off."""
    lobby = Lobby()
    lobby.calls()
    async with AgentSession() as session:
        with pytest.raises(TypeError):
            await session.start(Agent(instructions=""), room=lobby.room, room_options=SILENT, no_such_option=True)
        await session.start(Agent(instructions=""), room=lobby.room, room_options=SILENT)
    assert summary_of(delivery.calls) == [("inbound", "primary", "opened"), ("inbound", "primary", "ended")]


@pytest.mark.parametrize("taps", ["streams", "listeners"])
async def test_nothing_is_kept_of_calls_that_are_over(make_meter, make_listening, monkeypatch, taps):
    """Sessions, their rooms and who was in them are freed."""
    # The test runner keeps what is logged, and with a traceback all that it leads to.
    monkeypatch.setattr(logging.getLogger("livekit.agents"), "disabled", True)
    meter = make_meter() if taps == "streams" else make_listening()
    gone = []
    for number in range(6):
        lobby, session = Lobby(), AgentSession()
        meter.attach(session, account="acme")
        if number % 2:
            lobby.calls()
            await session.start(Agent(instructions=""), room=lobby.room, room_options=SILENT)
        else:
            await session.start(Agent(instructions=""))
        gone += map(weakref.ref, (session, lobby.room, *lobby.room.remote_participants.values()))
        await session.aclose()
    del lobby, session
    await asyncio.sleep(0.05)
    gc.collect()
    assert [thing() for thing in gone if thing() is not None] == []


async def test_a_call_is_appended_while_it_lasts(meter, delivery, monkeypatch):
    """A kill loses no more than a window; the increments add up to the total."""
    monkeypatch.setattr("livekit_costmeter.metering.operations.windows.WINDOW", 0.05)
    async with AgentSession() as session:
        await session.start(Agent(instructions=""))
        while len(delivery.calls) < 4:
            await asyncio.sleep(0.01)
        await meter.aclose()
    states = [state for _, _, state in summary_of(delivery.calls)]
    assert states == ["opened", *["connected"] * (len(states) - 2), "ended"]
    total = sum(Decimal(record["quantities"]["call_seconds"]) for record in delivery.calls)
    assert total == Decimal(delivery.calls[-1]["operation_total"]["call_seconds"])


async def test_messages_of_the_user_are_counted_once_each(meter, delivery):
    """However they come in: `run`, `generate_reply`, a chat message; what only instructs the agent is free."""
    async with LoopbackProviders() as providers, http_context.open():
        model = openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key="key")
        async with AgentSession(llm=model) as session:
            meter.attach(session, account="acme")
            await session.start(Agent(instructions="Be brief."))
            await session.run(user_input="Hello.")
            await session.generate_reply(user_input="And good evening.")
            await session.generate_reply(user_input=llm.ChatMessage(role="user", content=["Good night."]))
            await session.generate_reply(instructions="Say hello.")
            await session.generate_reply(user_input="This was said aloud.", input_modality="audio")
            speech = session.generate_reply(instructions="Say good bye.", user_input="Bye.")
            await speech
        with pytest.raises(RuntimeError):
            session.generate_reply(user_input="Is anybody there?")
        await model.aclose()
    messages = [record for record in delivery.calls if "messages" in record["quantities"]]
    assert [(r["model"], r["account"], r["agent"], r["quantities"]) for r in messages] == [
        ("chat", "acme", "default_agent", {"messages": "1"})
    ] * 4
    assert messages[-1]["speech_id"] == speech.id
    (operation,) = {record["operation_id"] for record in delivery.calls}
    assert operation.startswith("call_")
    assert "operation_total" not in messages[0]


@pytest.mark.skipif(not hasattr(events, "UserTurnExceededEvent"), reason="this LiveKit lets callers go on")
async def test_a_caller_who_is_cut_short_has_typed_nothing(meter, delivery):
    """LiveKit's default hands on as text what somebody says who does not stop speaking."""
    async with LoopbackProviders() as providers, http_context.open():
        model = openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key="key")
        async with AgentSession(llm=model) as session:
            await session.start(Agent(instructions="Be brief."))
            activity = session._activity
            exceeded = events.UserTurnExceededEvent(
                transcript="and then", accumulated_transcript="and then", accumulated_word_count=2, duration=60.0
            )
            activity.on_user_turn_exceeded(exceeded)
            await activity._user_turn_exceeded_atask
        await model.aclose()
    assert delivery.records
    assert not any("messages" in record["quantities"] for record in delivery.calls)


@pytest.fixture
def make_listening(delivery):
    def make():
        meter = CostMeter(
            delivery=delivery,
            identify=identify,
            keys=KeyRing((), secret=lambda: b"secret", environ={}),
            rules=ContextRules(),
            privacy=Privacy("masked", secret=lambda: b"secret"),
            rate=lambda _record: [],
            telephony=[TelephonyRule("platform", "exotel")],
        )
        meter.listen()
        return meter

    return make


@pytest.mark.parametrize("is_started", [True, False])
async def test_listeners_follow_the_call_of_an_attached_session(make_listening, delivery, is_started):
    """Without a patch an attached session is a call all the same, attached before its start or later."""
    meter = make_listening()
    lobby = Lobby()
    lobby.calls()
    async with AgentSession() as session:
        if not is_started:
            meter.attach(session, account="acme")
        await session.start(Agent(instructions=""), room=lobby.room, room_options=SILENT)
        meter.attach(session, account="acme")
    assert summary_of(delivery.calls) == [("inbound", "primary", "opened"), ("inbound", "primary", "ended")]
    assert {(r["provider"], r["key_owner"], r["account"]) for r in delivery.calls} == {("exotel", "platform", "acme")}
    assert meter._failures == {}


async def test_a_session_that_is_attached_as_it_closes_is_no_second_call(make_listening, delivery):
    """A listener may say of a call how it ended; nothing is counted from then on."""
    meter, lobby = make_listening(), Lobby()
    lobby.calls()
    async with AgentSession() as session:
        session.on("close", lambda event: meter.attach(session, labels={"reason": event.reason.value}))
        meter.attach(session)
        await session.start(Agent(instructions=""), room=lobby.room, room_options=SILENT)
        meter.attach(session)
    lobby.turns("caller", "automation")
    await meter.aclose()
    assert summary_of(delivery.calls) == [("inbound", "primary", "opened"), ("inbound", "primary", "ended")]


async def test_what_is_written_in_a_room_is_a_message(meter, delivery):
    """LiveKit's chat reaches the session as a text stream; each is one message."""

    class Stream:
        info = None

        async def read_all(self):
            return "Hello"

    async with LoopbackProviders() as providers, http_context.open():
        model = openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key="key")
        lobby = Lobby()
        options = RoomOptions(audio_input=False, audio_output=False, text_output=False)
        async with AgentSession(llm=model) as session:
            await session.start(Agent(instructions="Be brief."), room=lobby.room, room_options=options)
            lobby.joins("ann", kind=STANDARD)
            await asyncio.sleep(0.01)
            lobby.room._text_stream_handlers["lk.chat"](Stream(), "ann")
            async with asyncio.timeout(10):
                while not any("messages" in record["quantities"] for record in delivery.calls):
                    await asyncio.sleep(0.01)
            await session.generate_reply()
        await model.aclose()
    (message,) = [record for record in delivery.calls if "messages" in record["quantities"]]
    assert (message["model"], message["quantities"]) == ("chat", {"messages": "1"})
    assert message["operation_id"] == delivery.calls[0]["operation_id"]
