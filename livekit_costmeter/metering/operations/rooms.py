"""
Where the legs of a call come from: the participants of a room, or a session that has none.

The SIP participant that a session is linked to (else the first) is the primary leg, every other one a transfer; one
that is handed over to another number outside the room (SIP REFER) leaves, and its leg ends. As long as no phone has
been in the room, the people in it are one leg together, from the first who comes to the last who goes; who comes back
goes on with it. Under the identity of the primary leg, whoever calls again is primary again.

Invariant: an event only says that something may have changed; what is so is read off the room as it is then. So events
may come twice, late, in any order or not at all. Sessions that share a room share its legs: they belong to the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from weakref import ref

from livekit_costmeter.metering.context import Scope
from livekit_costmeter.metering.hooks import internals
from livekit_costmeter.metering.operations.legs import (
    CONNECTOR_KIND,
    SIP_KIND,
    Leg,
    is_held,
    kind_of,
    status_of,
    web_line,
)

_CHANGES = ("participant_attributes_changed", "track_published", "track_unpublished", "track_muted", "track_unmuted")
_CONNECTED = 1
_PEOPLE = ""
"""Stands for an identity, which no participant is without."""


class Desk(Protocol):
    """What makes records of legs: `CallMeter`."""

    def guarded(self, action: Callable[[], Any]) -> Any:
        """Do it; an exception of ours goes no further."""

    def soon(self, action: Callable[[], Any]) -> Any:
        """Do it when LiveKit has done what it has begun to do."""

    def seen(self, scope: Scope, participant: Any = None) -> Leg:
        """Return a leg that has just appeared."""

    def looked_at(self, leg: Leg, participant: Any) -> None:
        """Take over what a participant's attributes say now."""

    def held(self, leg: Leg, is_held: bool) -> None:
        """See an answered leg wait, or talk."""

    def answered(self, leg: Leg, *, is_resumed: bool) -> None:
        """Start to count a leg; one that is resumed was opened before."""

    def paused(self, leg: Leg, is_paused: bool) -> None:
        """Stop to count a leg for a while."""

    def ended(self, leg: Leg) -> None:
        """Record what is left of a leg; of one that was never answered, that it was tried."""


class SoloCall:
    """The call of a session without a room: a console, a test, a service that hands texts on."""

    def __init__(self, desk: Desk, scope: Scope) -> None:
        self._desk = desk
        self.leg = desk.seen(scope)
        self.leg.line = web_line(scope.session)
        desk.answered(self.leg, is_resumed=False)

    def leave(self, _scope: Scope) -> None:
        """End the call."""
        self._desk.ended(self.leg)


class RoomCall:
    """The legs of one room, for as long as a session talks in it."""

    def __init__(self, desk: Desk, room: Any) -> None:
        self._desk = desk
        self._room = ref(room)
        self._scopes: list[Scope] = []
        self._phones: dict[str, Leg] = {}
        self._people: Leg | None = None
        self._opened: set[str] = set()
        self._hung_up: set[str] = set()
        self._callers: set[str] = set()
        self._primary: str | None = None
        self._has_phones = self._is_over = False
        self._handlers: dict[str, Callable[..., Any]] = dict.fromkeys(_CHANGES, self._changed)
        # Of who is there already LiveKit says nothing but that it has connected.
        self._handlers |= {"connection_state_changed": self._connection_changed, "participant_connected": self._joined}
        self._handlers |= {"participant_disconnected": self._left, "disconnected": self._disconnected}

    @property
    def leg(self) -> Leg | None:
        """The primary leg, if it is open."""
        if self._primary == _PEOPLE:
            return self._people
        return next((leg for leg in self._phones.values() if leg.part == "primary" and leg.operation_id), None)

    def is_past(self) -> bool:
        """Tell whether nobody of this call is left: no session, and none of those who were on the line."""
        room = self._room()
        here = () if room is None else map(_key, list(room.remote_participants.values()))
        return not self._scopes and self._callers.isdisjoint(here)

    def follow(self, scope: Scope) -> None:
        """Count the room's legs for a session; they are another one's while that one is there."""
        self._scopes.append(scope)
        room = self._room()
        if room is not None and len(self._scopes) == 1:
            for event, handler in self._handlers.items():
                room.on(event, handler)
        self._joined()

    def leave(self, scope: Scope) -> None:
        """End the legs of a session; where another one is in the room, it goes on with them."""
        is_first = self._scopes[0] is scope
        self._scopes.remove(scope)
        if is_first:
            self._end_all()
            self._look()
        room = self._room()
        if room is not None and not self._scopes:
            for event, handler in self._handlers.items():
                room.off(event, handler)

    def _changed(self, *_: Any) -> None:
        self._desk.guarded(self._look)

    def _connection_changed(self, state: int) -> None:
        self._is_over = self._is_over and state != _CONNECTED
        self._joined()

    def _joined(self, *_: Any) -> None:
        # A session links its participant only then: whose account it is, and which leg is the primary one.
        self._desk.guarded(lambda: self._desk.soon(self._changed))

    def _left(self, participant: Any) -> None:
        self._desk.guarded(lambda: self._see_off(participant))

    def _disconnected(self, *_: Any) -> None:
        self._is_over = True
        self._desk.guarded(self._end_all)

    def _see_off(self, participant: Any) -> None:
        key = _key(participant)
        if key in self._phones:
            self._see(key, participant)  # its last words may have come with its leaving
        self._look()

    def _look(self) -> None:
        room = self._room()
        if room is None or self._is_over or not self._scopes:
            return
        here: dict[str | None, list[Any]] = {"sip": [], "web": [], None: []}
        for participant in list(room.remote_participants.values()):
            here[kind_of(participant)].append(participant)
        phones = {_key(participant): participant for participant in here["sip"]}
        self._callers |= phones.keys()
        for key in self._phones.keys() - phones.keys():
            self._desk.ended(self._phones.pop(key))
        for key, participant in phones.items():
            self._see(key, participant)
        self._see_people(here["web"])

    def _see(self, key: str, participant: Any) -> None:
        self._has_phones = True
        status = status_of(participant)
        if status == "ended":
            self._hung_up.add(key)
        elif key not in self._hung_up and key not in self._phones:
            self._phones[key] = self._desk.seen(self._scopes[0], participant)
        leg = self._phones.get(key)
        if leg is None:
            return
        self._desk.looked_at(leg, participant)
        if leg.operation_id is None:
            leg.part = "primary" if self._is_primary(key, participant) else "transfer"
        if status == "answered" and leg.operation_id is None:
            self._answer(leg, participant.identity, _call_of(participant))
        if status == "ended":
            self._desk.ended(self._phones.pop(key))
        else:
            self._desk.held(leg, is_held(participant))

    def _is_primary(self, key: str, participant: Any) -> bool:
        if self._primary is not None:
            return bool(self._primary == participant.identity)
        linked = internals.linked_participant(self._scopes[0].session)
        if linked is not None and linked.kind == SIP_KIND:
            return bool(linked.identity == participant.identity)
        return next(iter(self._phones)) == key

    def _see_people(self, people: list[Any]) -> None:
        if self._people is not None:
            self._desk.paused(self._people, not people)
        elif people and not self._has_phones:
            self._people = self._desk.seen(self._scopes[0])
            is_carried = any(participant.kind == CONNECTOR_KIND for participant in people)
            self._people.line = web_line(self._scopes[0].session, is_carried=is_carried)
            self._answer(self._people, _PEOPLE, _PEOPLE)
        if self._people is not None:
            self._callers.update(map(_key, people))

    def _answer(self, leg: Leg, identity: str, call: str) -> None:
        if leg.part == "primary":
            self._primary = identity
        self._desk.answered(leg, is_resumed=call in self._opened)
        self._opened.add(call)

    def _end_all(self) -> None:
        legs = [*self._phones.values(), *filter(None, [self._people])]
        self._phones.clear()
        self._people = None
        for leg in legs:
            self._desk.ended(leg)


def _key(participant: Any) -> str:
    return str(participant.sid or participant.identity)


def _call_of(participant: Any) -> str:
    """Name a phone call, which may join the room more than once."""
    call = participant.attributes.get("sip.callID")
    return f"{participant.identity} {call}" if call else _key(participant)
