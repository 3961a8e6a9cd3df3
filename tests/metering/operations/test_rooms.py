"""Who is on the line, as rooms and sessions come and go."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from decimal import Decimal

import pytest

from tests.metering.lobby import CONNECTOR, INBOUND, SIP, STANDARD


def told(records):
    return [(r["participant"], r["attributes"]["leg"], r["attributes"]["state"]) for r in records]


@pytest.mark.parametrize(("kind", "channel"), [(SIP, "inbound"), (STANDARD, "web")])
async def test_who_was_in_the_room_before_the_agent_is_found_as_it_connects(
    exchange, lobby, make_session, kind, channel
):
    """LiveKit announces nobody who is there already; it says that it has connected, mostly after the start began."""
    session = exchange.starts(make_session(lobby.room))
    lobby.finds("caller", kind=kind, **(INBOUND if kind == SIP else {}))
    lobby.connects()
    exchange.passes(7)
    lobby.leaves("caller")
    session.close()
    assert {record["model"] for record in exchange.written} == {channel}
    assert exchange.written[-1]["operation_total"] == {"call_seconds": "7"}


async def test_a_room_that_is_connected_again_goes_on(exchange, lobby, make_session):
    """It was lost for good, until it was connected anew."""
    session = exchange.starts(make_session(lobby.room))
    lobby.calls()
    exchange.passes(5)
    lobby.is_lost()
    exchange.passes(50)
    lobby.connects()
    exchange.passes(2)
    session.close()
    assert [(state, seconds) for _, state, seconds in exchange.states()] == [
        ("opened", "0"),
        ("ended", "5"),
        ("ended", "2"),
    ]


async def test_the_next_call_in_a_room_is_a_call_of_its_own(exchange, lobby, make_session):
    """Where the caller before has gone with his session, the next one is opened, and no transfer."""
    for caller in ("ann", "bob"):
        session = exchange.starts(make_session(lobby.room))
        lobby.calls(caller)
        exchange.passes(3)
        lobby.leaves(caller)
        session.close()
        exchange.passes(60)
    assert told(exchange.written) == [
        ("ann", "primary", "opened"),
        ("ann", "primary", "ended"),
        ("bob", "primary", "opened"),
        ("bob", "primary", "ended"),
    ]


async def test_the_next_visitor_of_a_room_is_a_call_of_his_own(exchange, lobby, make_session):
    """In the browser too, and also after a phone call."""
    for caller, kind in (("phone", SIP), ("ann", STANDARD), ("bob", STANDARD)):
        session = exchange.starts(make_session(lobby.room))
        lobby.joins(caller, kind=kind, attributes=INBOUND if kind == SIP else {})
        exchange.passes(3)
        lobby.leaves(caller)
        session.close()
    ended = [record for record in exchange.written if "operation_total" in record]
    opened = [record for record in exchange.written if record["attributes"]["state"] == "opened"]
    assert [r["model"] for r in opened] == [r["model"] for r in ended] == ["inbound", "web", "web"]
    assert [r["operation_total"]["call_seconds"] for r in ended] == ["3", "3", "3"]


@pytest.mark.parametrize("kind", [SIP, STANDARD])
async def test_a_session_that_is_replaced_in_mid_call_goes_on_with_it(exchange, lobby, make_session, kind):
    """Who is still in the room is on the same call: it was opened once."""
    for _ in range(2):
        session = exchange.starts(make_session(lobby.room))
        if "caller" not in lobby.room.remote_participants:
            lobby.joins("caller", kind=kind, attributes=INBOUND if kind == SIP else {})
        exchange.passes(3)
        session.close()
    assert [(part, state) for part, state, _ in exchange.states()] == [
        ("primary", "opened"),
        ("primary", "ended"),
        ("primary", "ended"),
    ]


async def test_a_caller_who_calls_again_is_no_transfer(exchange, lobby, make_session):
    """Joining again under his name he is the one whom the session talks to: a second call of the primary leg."""
    session = exchange.starts(make_session(lobby.room))
    for call in ("SCL_1", "SCL_2"):
        lobby.joins("caller", sid=f"PA_{call}", attributes={**INBOUND, "sip.callID": call})
        lobby.dials(f"colleague-{call}", **{"sip.callStatus": "active"})
        exchange.passes(3)
        lobby.leaves("caller")
        lobby.leaves(f"colleague-{call}")
    session.close()
    assert [entry for entry in told(exchange.written) if entry[2] == "opened"] == [
        ("caller", "primary", "opened"),
        ("colleague-SCL_1", "transfer", "opened"),
        ("caller", "primary", "opened"),
        ("colleague-SCL_2", "transfer", "opened"),
    ]


async def test_one_phone_call_that_joins_twice_is_opened_once(exchange, lobby, make_session):
    """LiveKit's SIP service may come back as a new participant, with the call it already had."""
    session = exchange.starts(make_session(lobby.room))
    for sid in ("PA_1", "PA_2"):
        lobby.joins("caller", sid=sid, attributes=INBOUND)
        exchange.passes(3)
        lobby.leaves("caller")
    session.close()
    assert [(part, state) for part, state, _ in exchange.states()] == [
        ("primary", "opened"),
        ("primary", "ended"),
        ("primary", "ended"),
    ]


async def test_a_participant_who_turns_out_to_be_a_phone_is_one(exchange, lobby, make_session):
    """And back: each kind is counted as what it is while it is that."""
    session = exchange.starts(make_session(lobby.room))
    lobby.joins("who", kind=STANDARD)
    exchange.passes(2)
    lobby.room.remote_participants["who"]._info.kind = SIP
    lobby.turns("who", "active")
    exchange.passes(3)
    lobby.room.remote_participants["who"]._info.kind = STANDARD
    lobby.turns("who", "active")
    exchange.passes(4)
    session.close()
    totals = {r["model"]: r["operation_total"] for r in exchange.written if "operation_total" in r}
    assert totals == {"web": {"call_seconds": "6"}, "outbound": {"call_seconds": "3"}}


async def test_whoever_mutes_his_own_microphone_stays_connected(exchange, lobby, make_session):
    """In a browser that is no hold; nothing of it is said."""
    session = exchange.starts(make_session(lobby.room))
    lobby.joins("ann", kind=STANDARD)
    lobby.publishes("ann")
    lobby.mutes("ann")
    exchange.passes(5)
    session.close()
    assert exchange.written[-1]["operation_total"] == {"call_seconds": "5"}
    assert "hold_seconds" not in exchange.written[-1]["attributes"]


async def test_who_comes_through_a_connector_is_on_the_line_of_nobody_known(exchange, lobby, make_session):
    """LiveKit's agents talk to them as to anybody; what WhatsApp or Twilio takes for it is not known, so not free."""
    session = exchange.starts(make_session(lobby.room))
    lobby.joins("whatsapp", kind=CONNECTOR)
    exchange.passes(5)
    session.close()
    last = exchange.written[-1]
    assert (last["provider"], last["model"], last["key_owner"]) == ("unknown", "web", "unknown")
    assert last["operation_total"] == {"call_seconds": "5"}


async def test_a_session_whose_start_failed_leaves_the_call_to_the_next(exchange, lobby, make_session):
    """LiveKit closes no session that has not started: its leg ends with the failure, and the next one goes on."""
    failed, session = make_session(lobby.room), make_session(lobby.room)
    lobby.calls()
    exchange.look(failed)
    exchange.passes(3)
    exchange.gives_up(failed)
    exchange.starts(session)
    exchange.passes(5)
    session.close()
    exchange.passes(50)
    ids = [exchange.scopes.of_session(one).session_id for one in (failed, session)]
    assert [(r["session_id"], r["quantities"]["call_seconds"]) for r in exchange.written] == [
        (ids[0], "0"),
        (ids[0], "3"),
        (ids[1], "5"),
    ]


async def test_a_session_that_is_closing_is_followed_no_more(exchange, lobby, make_session):
    """Its room is still known while its listeners hear that it has closed."""
    session = exchange.starts(make_session(lobby.room))
    lobby.calls()
    session.on("close", lambda _event: exchange.look(session))
    session.close()
    exchange.passes(50)
    exchange.look(session)
    assert [state for _, state, _ in exchange.states()] == ["opened", "ended"]
    assert not any(lobby.room._events.values())


async def test_a_leg_that_cannot_be_written_costs_no_other_leg(exchange, lobby, make_session):
    """Each leg is opened and ended by itself."""
    session = exchange.starts(make_session(lobby.room))
    write, failing = exchange.meter._deliver, {"caller"}

    def deliver(members, fields):
        if any(b'"participant":"%b"' % name.encode() in members for name in failing):
            raise OSError("the disk is full")
        write(members, fields)

    exchange.meter._deliver = deliver
    lobby.finds("caller", kind=SIP, **INBOUND)
    lobby.finds("colleague", kind=SIP, **{**INBOUND, "sip.callID": "SCL_9"})
    lobby.connects()
    exchange.passes(3)
    session.close()
    assert told(exchange.written) == [("colleague", "transfer", "opened"), ("colleague", "transfer", "ended")]
    assert exchange.errors


async def test_a_timer_keeps_no_forgotten_session(exchange, make_session):
    """The task in which a call began knows its session; what ticks until it ends does not."""
    talking = contextvars.ContextVar("talking")

    async def begin():
        session = make_session()
        talking.set(session)
        exchange.starts(session)
        return weakref.ref(session)

    lost = await asyncio.create_task(begin())
    await asyncio.sleep(0)  # until the loop has let go of the task
    gc.collect()
    assert lost() is None
    assert Decimal(exchange.written[0]["quantities"]["call_seconds"]) == 0
