"""
Calls: how long each leg was connected, and what its user typed.

A record has the component `call`, the carrier of the leg as its provider (`webrtc` where there is none, `unknown` where
nothing says), its channel as its model (`inbound`, `outbound`, `web`, `chat`), and the owner of the number as the owner
of its key. Units: `call_seconds`, from the answer to the hang-up, hold included and ringing not; `messages`, one record
each, which reach the session over the room and no carrier.

A leg is one operation. Its first record, at the answer, has no seconds and the state `opened`; increments follow, at
most five seconds apart (`connected`), and the last one has the operation's total (`ended`). A leg that nobody answered
is one record without seconds, outcome `failed`. Attributes: `leg` (`primary`, `transfer`), `state`, `number_type`,
`trunk`, and on the first and last record `ring_seconds`, `hold_seconds` (the last) and `sip`.

Invariant: a leg is opened once and its increments add up to its total; nothing here raises into the agent.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from livekit_costmeter.metering.context import Scope
from livekit_costmeter.metering.hooks import internals
from livekit_costmeter.metering.identities import Identify, Identity
from livekit_costmeter.metering.operations.legs import (
    WEBRTC,
    Leg,
    Line,
    TelephonyRule,
    sip_attributes,
    sip_line,
    web_line,
)
from livekit_costmeter.metering.operations.rooms import RoomCall, SoloCall
from livekit_costmeter.metering.operations.windows import Windows
from livekit_costmeter.metering.privacy import Privacy
from livekit_costmeter.metering.readers import Fields

_UNIT = "call_seconds"


def _after_next(action: Callable[[], Any]) -> None:
    # Who hears of an event before us is not settled, and wakes up a task of his own.
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.call_soon, action)


class CallMeter:
    """Follows the calls of every session of the process."""

    def __init__(
        self,
        deliver: Callable[[bytes, Fields], None],
        guarded: Callable[[Callable[[], Any]], Any],
        identify: Identify,
        *,
        privacy: Privacy,
        rules: Iterable[TelephonyRule] = (),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        soon: Callable[[Callable[[], Any]], Any] = _after_next,
    ) -> None:
        self._deliver = deliver
        self.guarded = guarded
        self.soon = soon
        self._identify = identify
        self._privacy = privacy
        self._rules = tuple(rules)
        self._clock = clock
        self._monotonic = monotonic
        self._windows = Windows(
            self._counted,
            prefix="call",
            time_unit=_UNIT,
            # A leg knows whose it is; a copy of the task's context would only keep a forgotten session alive.
            context=contextvars.Context,
            ends_aloud=True,
            clock=clock,
            monotonic=monotonic,
        )
        self.flush = self._windows.flush
        self._calls: WeakKeyDictionary[Any, RoomCall | SoloCall] = WeakKeyDictionary()
        self._rooms: WeakKeyDictionary[Any, RoomCall] = WeakKeyDictionary()

    def look(self, session: Any, scope: Scope) -> None:
        """Follow a session's call as soon as it has a room, or has started without one; may be called again."""
        room = internals.room_of(session)
        if session in self._calls or (room is None and not internals.has_started(session)):
            return
        session.once("close", lambda *_: self.guarded(lambda: self._closed(session, scope)))
        if room is None:
            self._calls[session] = SoloCall(self, scope)
            return
        call = self._rooms.get(room)
        if call is None or call.is_past():
            call = self._rooms[room] = RoomCall(self, room)
        self._calls[session] = call
        call.follow(scope)

    def gave_up(self, session: Any, scope: Scope) -> None:
        """Leave the call of a session whose start failed, unless it runs: LiveKit closes only what has started."""
        if internals.has_started(session):
            self.look(session, scope)
        else:
            self._closed(session, scope)

    def _closed(self, session: Any, scope: Scope) -> None:
        if (call := self._calls.pop(session, None)) is not None:
            call.leave(scope)

    def typed(self, session: Any, scope: Scope, text: Any, speech: Any) -> None:
        """Record a text message of the user; what answers none of them, or was spoken, is free."""
        is_message = bool(text) if isinstance(text, str) else getattr(text, "role", None) == "user"
        if not is_message or internals.was_spoken(session, text):
            return
        call, now = self._calls.get(session), self._clock()
        leg = None if call is None else call.leg
        line = web_line(session) if leg is None or leg.line is None else leg.line
        fields = self._fields(now, now, {"messages": "1"})
        fields["attributes"] = {"leg": "primary", "state": "connected"}
        known = {
            "operation_id": leg and leg.operation_id,
            "agent": getattr(internals.agent_of(session), "id", None),
            "speech_id": getattr(speech, "id", None),
        }
        fields |= {name: value for name, value in known.items() if value}
        # Carriers do not see it, whatever else the call goes over.
        identity = self._identity(replace(line, provider=WEBRTC))
        self._deliver(identity.members_with(scope.current(), scope.account_is_fixed), fields)

    # What calls tell of their legs (rooms.Desk).

    def seen(self, scope: Scope, participant: Any = None) -> Leg:
        """Return a leg that has just appeared."""
        name = None if participant is None else self._privacy.text(participant.identity)
        return Leg(scope, self._monotonic(), self._clock(), name)

    def looked_at(self, leg: Leg, participant: Any) -> None:
        """Take over what a participant's attributes say now; the line is settled with the answer."""
        leg.sip = sip_attributes(participant, self._privacy)
        if leg.operation_id is None:
            leg.line = sip_line(participant, self._rules, self._canonical)

    def held(self, leg: Leg, is_held: bool) -> None:
        """See an answered leg wait, or talk."""
        if leg.operation_id is not None:
            leg.hold(is_held, self._monotonic())

    def answered(self, leg: Leg, *, is_resumed: bool) -> None:
        """Start to count a leg; one that is resumed was opened before."""
        if leg.sip is not None:
            leg.rang = self._monotonic() - leg.since
        leg.operation_id = self._windows.opened(leg)
        if not is_resumed:
            now = self._clock()
            fields = self._fields(now, now, {_UNIT: "0"})
            fields |= {"operation_id": leg.operation_id, "attributes": leg.attributes("opened")}
            self._append(leg, fields)

    def paused(self, leg: Leg, is_paused: bool) -> None:
        """Stop to count a leg for a while."""
        self._windows.paused(leg, is_paused)

    def ended(self, leg: Leg) -> None:
        """Record what is left of a leg; of one that was never answered, that it was tried."""
        if leg.operation_id is not None:
            leg.hold(False, self._monotonic())
            self._windows.closed(leg)
            return
        leg.rang = self._monotonic() - leg.since
        fields = self._fields(self._clock(), leg.seen_at, {_UNIT: "0"})
        fields |= {"outcome": "failed", "operation_total": {_UNIT: "0"}, "attributes": leg.attributes("ended")}
        self._append(leg, fields)

    def _counted(self, leg: Leg, fields: Fields) -> None:
        fields["attributes"] = leg.attributes("ended" if "operation_total" in fields else "connected")
        self._append(leg, fields)

    def _append(self, leg: Leg, fields: Fields) -> None:
        if leg.identity is None and leg.line is not None:
            leg.identity = self._identity(leg.line)
        if (identity := leg.identity) is not None:
            # One leg that cannot be written is no reason to lose sight of another.
            self.guarded(
                lambda: self._deliver(identity.members_with(leg.context(), leg.scope.account_is_fixed), fields)
            )

    def _identity(self, line: Line) -> Identity:
        fields = {
            "component": "call",
            "provider": line.provider,
            "model": line.channel,
            "reported_provider": line.provider,
            "reported_model": line.channel,
            "key_owner": line.owner,
        }
        return Identity(fields, line.account)

    def _canonical(self, provider: str, channel: str) -> str:
        return str(self._identify("call", provider, channel).provider)

    @staticmethod
    def _fields(at: float, started_at: float, quantities: dict[str, str]) -> Fields:
        return {
            "at": at,
            "started_at": started_at,
            "outcome": "completed",
            "quantities": quantities,
            "basis": dict.fromkeys(quantities, "observed"),
        }
