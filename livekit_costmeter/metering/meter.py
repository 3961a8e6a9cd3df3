"""
CostMeter: turns what the taps see into usage records, and hands them to the spool.

Invariant: nothing of ours raises into the agent or blocks its loop: an error of ours is counted and logged once per
kind. A record is on disk when the tap returns.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary, WeakSet

from livekit_costmeter.log import log, place_of
from livekit_costmeter.metering.attribution import KeyRing
from livekit_costmeter.metering.context import ContextRules, Scope, Scopes
from livekit_costmeter.metering.estimates import Calibration
from livekit_costmeter.metering.events import Events
from livekit_costmeter.metering.hooks import internals
from livekit_costmeter.metering.hooks.marks import probing
from livekit_costmeter.metering.hooks.taps import Taps
from livekit_costmeter.metering.identities import Identify, Identities
from livekit_costmeter.metering.listeners import Listeners
from livekit_costmeter.metering.operations.calls import CallMeter
from livekit_costmeter.metering.operations.generations import GenerationMeter
from livekit_costmeter.metering.operations.realtime import RealtimeMeter
from livekit_costmeter.metering.operations.recognition import RecognitionMeter
from livekit_costmeter.metering.operations.speech import SpeechMeter
from livekit_costmeter.metering.privacy import Privacy
from livekit_costmeter.metering.readers import Fields
from livekit_costmeter.records import usage_json

if TYPE_CHECKING:
    from livekit_costmeter.metering.audit import Auditor
    from livekit_costmeter.metering.operations.legs import TelephonyRule
    from livekit_costmeter.metering.summary import Delivery, Summary, Totals
    from livekit_costmeter.records import UsageRecord

Callback = Callable[["UsageRecord"], None]


class CostMeter:
    """The meter of one process. `livekit_costmeter.install` makes it; there is never a second one."""

    def __init__(
        self,
        *,
        delivery: Delivery,
        identify: Identify,
        keys: KeyRing,
        rules: ContextRules,
        privacy: Privacy,
        rate: Callable[[UsageRecord], Any],
        telephony: Iterable[TelephonyRule] = (),
        calibration: Calibration | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._delivery = delivery
        self._identities = Identities(identify, keys)
        self._scopes = Scopes(rules, privacy)
        learned = calibration or Calibration()
        self.generations = GenerationMeter(*self._outlets("llm"), calibration=learned, clock=clock)
        self.speech = SpeechMeter(*self._outlets("tts"), calibration=learned, clock=clock)
        self.realtime = RealtimeMeter(
            *self._outlets("realtime"), self.usage_of_session, calibration=learned, clock=clock
        )
        self.recognition = RecognitionMeter(*self._outlets("stt"), calibration=learned, clock=clock)
        self.calls = CallMeter(self._deliver, self._guarded, identify, privacy=privacy, rules=telephony, clock=clock)
        self.emitting: set[int] = set()
        self._events = Events(self._append, self.generations, self.speech, self.recognition, self.realtime)
        self.taps = Taps(self)
        self._rate = rate
        self._clock = clock
        self._listeners: Listeners | None = None
        self._totals: Totals | None = None
        self._auditor: Auditor | None = None
        self._callbacks: list[Callback] = []
        self._speculative: WeakKeyDictionary[Any, list[tuple[Scope, Any, Any, str, str]]] = WeakKeyDictionary()
        self._audited: WeakSet[Any] = WeakSet()
        self._failures: dict[str, int] = {}

    def tap(self) -> None:
        """See everything that LiveKit does in this process from now on; says what this version hides."""
        self.taps.apply()
        if self.taps.missing:
            log().warning("this LiveKit version hides some usage", not_seen=", ".join(self.taps.missing))

    def listen(self) -> None:
        """Patch nothing: meter the sessions that are attached, as far as public events say."""
        self._listeners = Listeners(self.usage, self.usage_of_session, self.session_started)
        self._events.counts_streams = False

    def attach(self, session: Any, *, account: str | None = None, labels: Mapping[str, str] | None = None) -> CostMeter:
        """Add context to one session's records from now on; it counts nothing twice and may be called again."""
        self._guarded(lambda: self._attach(session, account, labels))
        return self

    def _attach(self, session: Any, account: str | None, labels: Mapping[str, str] | None) -> None:
        scope = self._scopes.of_session(session)
        scope.attach(account, labels)
        if self._listeners is not None:
            self._listeners.follow(session, scope)

    def on(self, event: Literal["usage_collected"], callback: Callback) -> Callback:
        """Call back with every `UsageRecord` as it happens, in the process where it happens.

        Raises:
            ValueError: There is no other event than `usage_collected`.
        """
        if event != internals.USAGE_EVENT:
            raise ValueError(f"unknown event {event!r} (allowed: {internals.USAGE_EVENT})")
        self._callbacks.append(callback)
        return callback

    def summary(self, session: Any = None) -> Summary:
        """Return running totals by component, model and owner; of the whole process without a session."""
        return self._summed().summary(None if session is None else self._scopes.of_session(session).session_id)

    async def aclose(self) -> None:
        """Append what only memory knows, close the segment and flush; idempotent, and metering goes on after it."""
        self._guarded(self.recognition.flush)
        self._guarded(self.realtime.flush)
        self._guarded(self.calls.flush)
        try:
            await self._delivery.settle()
        except Exception as error:
            self.failed(error)

    def instrument(self, server: Any) -> Any:
        """Ship for this worker's main process from now on, also before `run`; returns the server."""
        self._guarded(self._delivery.serve)
        return server

    # What the taps call (hooks.observer.Observer).

    def usage(self, emitter: Any, event: Any) -> None:
        """Record one metrics object."""
        try:
            self._events.read(emitter, event)
        except Exception as error:
            self.failed(error)

    def usage_of_session(self, session: Any, event: Any) -> None:
        """Record one metrics object of a realtime or duplex session."""
        self._guarded(lambda: self._events.read_of_session(session, event))

    def session_starting(self, session: Any) -> Any:
        """Build the session's scope, and audit the session when it closes."""

        def begin() -> Any:
            scope, now = self._scopes.of_session(session), self._clock()
            if session not in self._audited:  # LiveKit ignores a second start, and one that failed may be tried again
                self._audited.add(session)
                session.once("close", lambda *_: self._guarded(lambda: self._audit(session, scope, now)))
            return scope

        return self._guarded(begin)

    def session_started(self, session: Any) -> None:
        """Follow the session's call, if it has a room or has started without one."""
        self._guarded(lambda: self.calls.look(session, self._scopes.of_session(session)))

    def session_failed(self, session: Any) -> None:
        """Leave the call of a session that could not start."""
        self._guarded(lambda: self.calls.gave_up(session, self._scopes.of_session(session)))

    def user_input(self, session: Any, text: Any, speech: Any) -> None:
        """Record a text message of the user."""
        self.calls.typed(session, self._scopes.of_session(session), text, speech)

    def session_scope(self, session: Any) -> Any:
        """Find the session's scope."""
        return self._guarded(lambda: self._scopes.of_session(session))

    def speech_cancelled(self, speech: Any) -> None:
        """Say of work that is recorded already that nobody will hear it."""
        self._guarded(lambda: self._discard(speech))

    def server_running(self) -> None:
        """Ship from the worker's main process."""
        self._guarded(self._delivery.serve)

    async def server_stopped(self) -> None:
        """Ship what is left, within the deadline."""
        await self.aclose()

    def failed(self, error: Exception) -> None:
        """Count an error of ours, and log the first of its kind."""
        kind = type(error).__name__
        self._failures[kind] = self._failures.get(kind, 0) + 1
        if self._failures[kind] == 1:
            # The type and place only: a message of somebody else's exception may quote a request and its key.
            log().error("metering failed; the call goes on", error=kind, at=place_of(error))

    def _outlets(self, kind: str) -> tuple[Callable[[Any, Fields], None], Callable[[Any], tuple[str, str]]]:
        def append(stream: Any, fields: Fields) -> None:
            try:
                self._append(internals.component_of(stream), kind, fields, None)
            except Exception as error:
                self.failed(error)

        def names(component: Any) -> tuple[str, str]:
            identity = self._identities.identity(component, None, kind)
            return identity.provider, identity.model

        return append, names

    def _append(self, component: Any, kind: str, fields: Fields, event: Any) -> None:
        scope, agent, speech = self._scopes.current()
        if agent is not None:
            fields["agent"] = agent
        if speech is not None:
            fields["speech_id"] = speech.id
        if (probe := probing.get()) is not None and speech in (None, probe[0]):
            fields["outcome"] = "probe"
        elif speech is not None and internals.is_speculative(speech):
            self._speculate(speech, scope, agent, component, kind, fields)
        self._write(scope, component, kind, fields, event)

    def _write(self, scope: Scope, component: Any, kind: str, fields: Fields, event: Any) -> None:
        if kind == "stt" and (language := internals.language_of(component)):
            fields["attributes"] = {**fields.get("attributes", {}), "language": language}  # several at once cost more
        identity = self._identities.identity(component, event, kind)
        # The larger half of a record is the same from event to event: it is encoded once and spliced in.
        self._deliver(identity.members_with(scope.current(), scope.account_is_fixed), fields)

    def _deliver(self, members: bytes, fields: Fields) -> None:
        more = usage_json(fields)[1:]
        record_id = self._delivery.append(members, more)
        if self._callbacks:
            self._publish(record_id, members + more)

    def _speculate(self, speech: Any, scope: Scope, agent: Any, component: Any, kind: str, fields: Fields) -> None:
        if internals.is_thrown_away(speech):
            fields["outcome"] = "discarded"
        elif fields["quantities"]:
            unit = next(iter(fields["quantities"]))
            self._speculative.setdefault(speech, []).append((scope, agent, component, kind, unit))

    def _discard(self, speech: Any) -> None:
        if not internals.is_speculative(speech):
            return
        for scope, agent, component, kind, unit in self._speculative.pop(speech, ()):
            now = self._clock()
            fields: Fields = {
                "at": now,
                "started_at": now,
                "outcome": "discarded",
                "quantities": {unit: "0"},
                "basis": {unit: "observed"},
                "speech_id": speech.id,
            }
            if agent is not None:
                fields["agent"] = agent
            self._write(scope, component, kind, fields, None)

    def _summed(self) -> Totals:
        from livekit_costmeter.metering.summary import Totals

        if self._totals is None:
            self._totals = Totals(self._delivery.readback(), self._rate)
        return self._totals

    def _audit(self, session: Any, scope: Scope, started_at: float) -> None:
        from livekit_costmeter.metering.audit import Auditor, audit_fields, livekit_usage

        self._audited.discard(session)
        fields = {**audit_fields(livekit_usage(session)), **scope.current()}
        self._delivery.append(usage_json({**fields, "at": self._clock(), "started_at": started_at})[1:])
        if self._auditor is None:
            self._auditor = Auditor(self._summed())
        # Reading back takes its time, and this is the agent's loop.
        threading.Thread(
            target=self._auditor.close, args=(scope.session_id,), name="costmeter-audit", daemon=True
        ).start()

    def _publish(self, record_id: str | None, members: bytes) -> None:
        from livekit_costmeter.records import parse_usage

        record = parse_usage(b'{"id":"%b",%b' % ((record_id or "unspooled").encode(), members))
        for callback in self._callbacks:
            try:
                callback(record)
            except Exception as error:
                self.failed(error)

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:
            self.failed(error)
            return None
