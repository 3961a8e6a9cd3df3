"""Calls: ring, answer, hold, transfer and hang-up, through LiveKit's own events."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from livekit.agents import llm

from livekit_costmeter.metering import TelephonyRule
from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.records import parse_usage, usage_json
from tests.metering.lobby import AGENT, INBOUND, STANDARD, Lobby


def seconds(records):
    return sum(Decimal(record["quantities"].get("call_seconds", "0")) for record in records)


async def test_a_call_is_followed_from_the_ring_through_hold_and_transfer_to_the_hangup(exchange, lobby, make_session):
    """Ringing is not counted, hold is; a transfer is a leg of its own, and each leg ends with its total."""
    session = exchange.starts(make_session(lobby.room))
    lobby.calls(**{"sip.callStatus": "ringing"})
    exchange.passes(3)
    lobby.turns("caller", "active")
    lobby.publishes("caller")
    exchange.ticks(10)
    lobby.mutes("caller")
    exchange.ticks(5)
    lobby.unmutes("caller")
    lobby.dials("colleague")
    exchange.ticks(2)
    lobby.turns("colleague", "active")
    exchange.ticks(6)
    lobby.leaves("caller")
    exchange.ticks(4)
    lobby.turns("colleague", "hangup")
    exchange.passes(30)
    session.close()
    legs = [list(group) for _, group in itertools.groupby(
        sorted(exchange.written, key=lambda r: r["operation_id"]), lambda r: r["operation_id"]
    )]  # fmt: skip
    primary, transfer = sorted(legs, key=lambda leg: leg[0]["attributes"]["leg"])
    assert (seconds(primary), seconds(transfer)) == (23, 10)
    assert [leg[-1]["operation_total"]["call_seconds"] for leg in (primary, transfer)] == ["23", "10"]
    assert [leg[0]["attributes"]["state"] for leg in (primary, transfer)] == ["opened", "opened"]
    assert {r["attributes"]["state"] for leg in (primary, transfer) for r in leg[1:-1]} == {"connected"}
    last = primary[-1]["attributes"]
    assert (last["state"], last["ring_seconds"], last["hold_seconds"]) == ("ended", "3", "5")
    assert transfer[-1]["attributes"]["sip"]["callStatus"] == "hangup"
    assert {(r["model"], r["participant"]) for r in exchange.written} == {
        ("inbound", "caller"),
        ("outbound", "colleague"),
    }
    assert exchange.errors == []


async def test_a_hangup_while_it_rings_is_a_failed_call_without_seconds(exchange, lobby, make_session):
    """Missed calls can be counted: one record each, nothing in it to bill, and the next try is the primary leg."""
    session = exchange.starts(make_session(lobby.room))
    lobby.dials("busy")
    exchange.passes(20)
    lobby.leaves("busy")
    lobby.dials("callee")
    exchange.passes(5)
    lobby.turns("callee", "active")
    exchange.passes(1)
    session.close()
    missed, *answered = exchange.written
    assert (missed["outcome"], missed["quantities"], missed["operation_total"]) == (
        "failed",
        {"call_seconds": "0"},
        {"call_seconds": "0"},
    )
    assert (missed["attributes"]["state"], missed["attributes"]["ring_seconds"]) == ("ended", "20")
    assert "hold_seconds" not in missed["attributes"]
    assert [(r["attributes"]["leg"], r["outcome"]) for r in answered] == [("primary", "completed")] * 2
    assert answered[-1]["operation_total"] == {"call_seconds": "1"}


@pytest.mark.parametrize("end", ["close", "leave", "hangup", "lost"])
@pytest.mark.parametrize("status", ["ringing", "active", "automation", ""])
async def test_whatever_ends_a_call_ends_it_once(exchange, lobby, make_session, end, status):
    """Hang-up, leaving, a lost room and the end of the session may all come: the first one ends the leg."""
    session = exchange.starts(make_session(lobby.room))
    lobby.calls(**{"sip.callStatus": status})
    exchange.passes(2)
    caller = lobby.room.remote_participants["caller"]

    def hangup():
        if "caller" in lobby.room.remote_participants:
            lobby.turns("caller", "hangup")
        lobby.room.emit("participant_attributes_changed", {"sip.callStatus": "hangup"}, caller)

    ends = {
        "hangup": hangup,
        "lost": lobby.is_lost,
        "leave": lambda: lobby.leaves("caller"),
        "close": session.close,
    }
    for name in (end, *(name for name in ends if name != end)):
        ends[name]()
        lobby.room.emit("participant_connected", caller)
        exchange.passes(7)
    ended = [record for record in exchange.written if record["attributes"]["state"] == "ended"]
    assert len(ended) == 1
    assert ended[0]["operation_total"] == {"call_seconds": "0" if status == "ringing" else "2"}
    assert ended[0]["outcome"] == ("failed" if status == "ringing" else "completed")
    assert exchange.errors == []


async def test_a_leg_that_is_seen_late_is_counted_from_then_on(exchange, lobby, make_session):
    """Who is on the line before the session starts is found; of a call that is over already there is nothing to say."""
    lobby.calls()
    lobby.calls("gone", **{"sip.callStatus": "hangup"})
    exchange.passes(50)
    session = exchange.starts(make_session(lobby.room))
    exchange.passes(5)
    session.close()
    assert exchange.states() == [("primary", "opened", "0"), ("primary", "ended", "5")]


async def test_the_linked_participant_is_the_primary_leg(exchange, lobby, make_session):
    """Somebody else may be answered first."""
    session = exchange.starts(make_session(lobby.room))
    lobby.calls("caller", **{"sip.callStatus": "ringing"})
    lobby.calls("other", **{"sip.callStatus": "ringing"})
    session._room_io.linked_participant = lobby.room.remote_participants["other"]
    lobby.turns("caller", "active")
    lobby.turns("other", "active")
    session.close()
    parts = {record["participant"]: record["attributes"]["leg"] for record in exchange.written}
    assert parts == {"caller": "transfer", "other": "primary"}


async def test_a_status_hold_is_hold(exchange, lobby, make_session):
    """Should LiveKit come to write it, a call on hold goes on."""
    session = exchange.starts(make_session(lobby.room))
    lobby.calls()
    lobby.turns("caller", "hold")
    exchange.passes(4)
    lobby.turns("caller", "active")
    exchange.passes(1)
    lobby.turns("caller", "a word of tomorrow")
    session.close()
    last = exchange.written[-1]
    assert (last["operation_total"]["call_seconds"], last["attributes"]["hold_seconds"]) == ("5", "4")


async def test_a_hangup_is_final(exchange, lobby, make_session):
    """A status that comes late calls nobody back."""
    session = exchange.starts(make_session(lobby.room))
    lobby.calls()
    lobby.turns("caller", "hangup")
    lobby.turns("caller", "active")
    exchange.passes(9)
    session.close()
    assert exchange.states() == [("primary", "opened", "0"), ("primary", "ended", "0")]


async def test_who_is_connected_anew_goes_on_with_the_call(exchange, lobby, make_session):
    """After a reconnect LiveKit lets everybody leave and join again: no second answer, no time twice."""
    session = exchange.starts(make_session(lobby.room))
    lobby.calls()
    exchange.passes(10)
    lobby.leaves("caller")
    lobby.calls()
    exchange.passes(5)
    session.close()
    states = [(part, state) for part, state, _ in exchange.states()]
    assert states == [("primary", "opened"), ("primary", "ended"), ("primary", "ended")]
    assert seconds(exchange.written) == 15


async def test_people_in_the_room_are_one_web_call(exchange, lobby, make_session):
    """From the first who comes to the last who goes, without the gap between; agents and their avatars are nobody."""
    session = exchange.starts(make_session(lobby.room))
    lobby.joins("recorder", kind=AGENT)
    lobby.joins("avatar", kind=STANDARD, attributes={"lk.publish_on_behalf": "agent"})
    exchange.passes(100)
    lobby.joins("ann", kind=STANDARD)
    exchange.passes(10)
    lobby.joins("bob", kind=STANDARD)
    lobby.leaves("ann")
    exchange.passes(10)
    lobby.leaves("bob")
    exchange.ticks(60)
    lobby.joins("bob", kind=STANDARD, sid="PA_bob_again")
    exchange.passes(5)
    session.close()
    assert seconds(exchange.written) == 25
    assert exchange.written[-1]["operation_total"] == {"call_seconds": "25"}
    assert [record["attributes"]["state"] for record in exchange.written] == ["opened", "connected", "ended"]
    assert {(r["provider"], r["model"], r["key_owner"]) for r in exchange.written} == {("webrtc", "web", "platform")}
    assert "sip" not in exchange.written[-1]["attributes"]


async def test_who_listens_to_a_phone_call_is_no_leg(exchange, lobby, make_session):
    """A supervisor in the browser adds nothing, also when the phone has hung up."""
    session = exchange.starts(make_session(lobby.room))
    lobby.calls()
    lobby.joins("supervisor", kind=STANDARD)
    exchange.passes(3)
    lobby.leaves("caller")
    exchange.passes(60)
    session.close()
    assert {record["model"] for record in exchange.written} == {"inbound"}
    assert seconds(exchange.written) == 3


@pytest.mark.parametrize(("hears", "channel"), [(True, "web"), (False, "chat")])
async def test_a_session_without_a_room_is_one_call(exchange, make_session, hears, channel):
    """It is opened when the start is over; without audio either way it is a chat."""
    session = make_session(hears=hears)
    exchange.look(session)
    assert exchange.written == []
    exchange.starts(session)
    exchange.ticks(10)
    session.close()
    session.close()
    states = [state for _, state, _ in exchange.states()]
    assert states == ["opened", "connected", "connected", "ended"]
    assert {(record["provider"], record["model"]) for record in exchange.written} == {("webrtc", channel)}
    assert {record["session_id"] for record in exchange.written} == {exchange.scopes.of_session(session).session_id}


async def test_web_and_chat_are_free_and_a_phone_call_without_a_price_is_not(exchange, lobby, make_session):
    """Nobody bills a web call; what a carrier takes is unknown until somebody says it."""
    web = exchange.starts(make_session())
    exchange.types(web, "Hello")
    phone = exchange.starts(make_session(lobby.room))
    lobby.calls()
    exchange.types(phone, "Hello")
    exchange.passes(61)
    for session in (web, phone):
        session.close()
    book = PriceBook()
    found = set()
    for record in exchange.written:
        line = parse_usage(usage_json(record))
        found |= {(charge.provider, charge.unit, charge.pricing_status) for charge in rate(line, book)}
    assert found == {
        ("webrtc", "call_seconds", "free"),
        ("webrtc", "messages", "free"),
        ("unknown", "call_seconds", "unpriced"),
    }


async def test_text_messages_are_counted_on_their_call(make_exchange, lobby, make_session):
    """One record each, in the operation of the call and on its owner; what is no message of the user is none."""
    exchange = make_exchange([TelephonyRule("acme", "vobiz", account="acme-account")])
    session = exchange.starts(make_session(lobby.room))
    exchange.types(session, "Before the call")
    lobby.calls()
    exchange.types(session, "Hello")
    exchange.types(session, llm.ChatMessage(role="user", content=["Hello"]))
    said = llm.ChatMessage(role="user", content=["Hello"], transcript_confidence=0.9)
    for nothing in ("", None, object(), said, llm.ChatMessage(role="developer", content=["Hello"])):
        exchange.types(session, nothing)
    session.close()
    first, *messages = [record for record in exchange.written if "messages" in record["quantities"]]
    assert [record["quantities"] for record in messages] == [{"messages": "1"}] * 2
    assert {(r["provider"], r["model"], r["key_owner"], r["account"]) for r in messages} == {
        ("webrtc", "inbound", "acme", "acme-account")
    }
    assert {r["operation_id"] for r in messages} == {
        r["operation_id"] for r in exchange.written if "call_seconds" in r["quantities"]
    }
    assert {(r["agent"], r["speech_id"]) for r in messages} == {("reception", "speech_1")}
    assert (first["model"], "operation_id" in first) == ("web", False)


async def test_two_sessions_in_one_room_share_its_legs(exchange, lobby, make_session):
    """A call is counted once, for the session that was there first; the next one goes on where that one ends."""
    first, second = make_session(lobby.room), make_session(lobby.room)
    exchange.starts(first)
    exchange.starts(second)
    lobby.calls()
    exchange.passes(10)
    first.close()
    exchange.passes(5)
    second.close()
    by_session = {
        session: [r for r in exchange.written if r["session_id"] == exchange.scopes.of_session(session).session_id]
        for session in (first, second)
    }
    assert [seconds(records) for records in by_session.values()] == [10, 5]
    states = [record["attributes"]["state"] for record in exchange.written]
    assert states == ["opened", "ended", "ended"]
    assert {record["attributes"]["leg"] for record in exchange.written} == {"primary"}


async def test_the_context_of_a_call_is_that_of_its_session_now(make_exchange, lobby, make_session):
    """Account and labels that are attached during a call are on what follows, over the account of the number."""
    exchange = make_exchange([TelephonyRule("platform", account="of the number")], account="top level")
    session = exchange.starts(make_session(lobby.room))
    lobby.calls()
    exchange.ticks(4)
    exchange.scopes.of_session(session).attach("acme", {"campaign": "q4"})
    exchange.passes(1)
    session.close()
    assert [record["account"] for record in exchange.written] == ["of the number", "of the number", "acme"]
    assert exchange.written[-1]["labels"] == {"campaign": "q4"}


async def test_nothing_of_a_call_outlives_its_session(exchange, lobby, make_session):
    """A room has none of our listeners after the session, and a session that nobody closes is not kept alive."""
    before = {event: len(handlers) for event, handlers in lobby.room._events.items()}
    session = exchange.starts(make_session(lobby.room))
    lobby.calls()
    session.close()
    assert {event: len(handlers) for event, handlers in lobby.room._events.items() if handlers} == before
    lost = weakref.ref(exchange.starts(make_session()))
    gc.collect()
    assert lost() is None
    written = len(exchange.written)
    exchange.ticks(40)
    assert len(exchange.written) == written


async def test_a_participant_that_cannot_be_read_disturbs_nobody(exchange, lobby, make_session):
    """An error of ours stays ours: LiveKit's event goes on to its other listeners."""
    heard = []
    exchange.starts(make_session(lobby.room))
    lobby.room.on("participant_connected", heard.append)
    lobby.room._remote_participants["broken"] = object()
    lobby.calls()
    assert len(heard) == 1
    assert exchange.errors


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("join", "join ringing", "answer", "hold", "resume", "hangup", "leave")),
        st.sampled_from("abc"),
        st.integers(0, 9),
    ),
    max_size=30,
)


class Oracle:
    """What a phone company would count: seconds between answer and hang-up of each caller's lines."""

    def __init__(self):
        self.talking, self.ringing, self.over = {}, set(), set()
        self.seconds, self.answers, self.missed = {}, set(), 0

    def step(self, act, name, present, now):
        sid = present.get(name)
        if act == "join" and sid not in self.over:
            self.talking[sid] = now
            self.answers.add(sid)
        elif act == "join ringing":
            self.ringing.add(sid)
        elif act == "answer" and sid in self.ringing:
            self.ringing.discard(sid)
            self.talking[sid] = now
            self.answers.add(sid)
        elif act in ("hangup", "leave"):
            self.end(sid, now)
            self.over.add(sid)

    def end(self, sid, now):
        if sid in self.talking:
            self.seconds[sid] = self.seconds.get(sid, 0) + now - self.talking.pop(sid)
        elif sid in self.ringing:
            self.ringing.discard(sid)
            self.missed += 1


ACTS = {
    "join": lambda lobby, name, sid: lobby.joins(name, sid=sid, attributes={**INBOUND, "sip.callID": sid}),
    "join ringing": lambda lobby, name, sid: lobby.joins(
        name, sid=sid, attributes={**INBOUND, "sip.callID": sid, "sip.callStatus": "ringing"}
    ),
    "answer": lambda lobby, name, _sid: lobby.turns(name, "active"),
    "hold": lambda lobby, name, _sid: lobby.turns(name, "hold"),
    "resume": lambda lobby, name, _sid: lobby.turns(name, "active"),
    "hangup": lambda lobby, name, _sid: lobby.turns(name, "hangup"),
    "leave": lambda lobby, name, _sid: lobby.leaves(name),
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_every_order_of_events_counts_what_was_talked(make_exchange, make_session, steps):
    """Whoever rings, answers, waits, leaves and calls again, in any order, each with every event twice."""

    async def run():
        lobby, exchange, oracle = Lobby(), make_exchange(), Oracle()
        session = exchange.starts(make_session(lobby.room))
        numbers, present = itertools.count(), {}
        for act, name, pause in steps:
            if act.startswith("join") and name not in present:
                present[name] = f"PA_{next(numbers)}"
                is_possible = True
            else:
                is_possible = act in ("answer", "hangup", "leave") and name in present
                is_possible |= act in ("hold", "resume") and present.get(name) in oracle.talking
            if is_possible:
                ACTS[act](lobby, name, present[name])
                oracle.step(act, name, present, exchange.now)
            if act == "leave":
                present.pop(name, None)
            for event in ("participant_connected", "participant_attributes_changed", "track_muted"):
                lobby.room.emit(event, *list(lobby.room.remote_participants.values())[:1])
            exchange.ticks(pause)
        for sid in (*oracle.talking, *oracle.ringing):
            oracle.end(sid, exchange.now)
        session.close()
        return exchange, oracle

    exchange, oracle = asyncio.run(run())
    assert exchange.errors == []
    failed = [record for record in exchange.written if record["outcome"] == "failed"]
    answered = [record for record in exchange.written if record["outcome"] == "completed"]
    totals = [Decimal(r["operation_total"]["call_seconds"]) for r in answered if "operation_total" in r]
    assert sorted(totals) == sorted(map(Decimal, map(str, oracle.seconds.values())))
    assert seconds(answered) == sum(totals)
    assert len(failed) == oracle.missed
    opened = [record["operation_id"] for record in answered if record["attributes"]["state"] == "opened"]
    ended = [record["operation_id"] for record in answered if record["attributes"]["state"] == "ended"]
    assert sorted(opened) == sorted(set(opened)) == sorted(ended)
    assert len({r["participant"] for r in answered if r["attributes"]["leg"] == "primary"}) <= 1


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, lost=st.sets(st.integers(0, 29)))
def test_events_that_get_lost_cost_time_and_nothing_else(make_exchange, make_session, steps, lost):
    """The room changes and nobody says so: what is seen later is counted from then, and every leg that opens ends."""

    async def run():
        lobby, exchange = Lobby(), make_exchange()
        session = exchange.starts(make_session(lobby.room))
        emit, numbers = lobby.room.emit, itertools.count()
        for number, (act, name, pause) in enumerate(steps):
            is_here = name in lobby.room.remote_participants
            lobby.room.emit = (lambda *_: None) if number in lost else emit
            if act.startswith("join") != is_here:
                ACTS[act](lobby, name, f"PA_{next(numbers)}")
            exchange.ticks(pause)
        session.close()
        return exchange

    exchange = asyncio.run(run())
    assert exchange.errors == []
    answered = [record for record in exchange.written if record["outcome"] == "completed"]
    states = {}
    for record in answered:
        states.setdefault(record["operation_id"], []).append(record)
    for records in states.values():
        assert [r["attributes"]["state"] for r in (records[0], records[-1])] == ["opened", "ended"]
        assert Decimal(records[-1]["operation_total"]["call_seconds"]) == seconds(records)
    assert seconds(answered) <= 3 * sum(pause for _, _, pause in steps)
