"""
CostMeter: turns what the taps see into usage records, and hands them to the spool.

Invariant: nothing of ours raises into the agent or blocks its loop. Every tap ends in `_guarded`, which counts an
error and logs it once per kind; a record is on disk when the tap returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from livekit_costmeter.log import log
from livekit_costmeter.metering.attribution import KeyRing
from livekit_costmeter.metering.context import ContextRules, Scopes
from livekit_costmeter.metering.hooks import internals
from livekit_costmeter.metering.hooks.taps import Taps
from livekit_costmeter.metering.identities import Identify, Identities
from livekit_costmeter.metering.privacy import Privacy
from livekit_costmeter.metering.readers import Reading, read
from livekit_costmeter.metering.speech import SpeechMeter
from livekit_costmeter.metering.streams import StreamMeter
from livekit_costmeter.records import usage_json

if TYPE_CHECKING:
    from livekit_costmeter.metering.summary import Readback, Summary, Totals
    from livekit_costmeter.records import UsageRecord

Callback = Callable[["UsageRecord"], None]


class Delivery(Protocol):
    """Where records go: the spool, and who ships it."""

    def append(self, members: bytes, more: bytes = b"") -> str | None:
        """Append one record: the members of a JSON object, without its id and opening brace, closed by `more`.

        Return the id, or None if the disk refused it.
        """

    def serve(self) -> None:
        """Ship this spool from now on: called in the main process of a worker."""

    async def settle(self) -> None:
        """Close the segment, and in a process that ships, ship it, within a deadline."""

    def readback(self) -> Readback:
        """Return a reader of this process's own records."""


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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.taps = Taps(self)
        self._delivery = delivery
        self._identities = Identities(identify, keys)
        self._scopes = Scopes(rules, privacy)
        self._streams = StreamMeter(self._stream_used, context=internals.listening_context, clock=clock)
        self._speech = SpeechMeter(self._speech_used, clock=clock)
        self._rate = rate
        self._totals: Totals | None = None
        self._callbacks: list[Callback] = []
        self._emitting: dict[int, Any] = {}
        self._failures: dict[str, int] = {}

    def tap(self) -> None:
        """See everything that LiveKit does in this process from now on; says what this version hides."""
        self.taps.apply()
        if self.taps.missing:
            log().warning("this LiveKit version hides some usage", not_seen=", ".join(self.taps.missing))

    def attach(self, session: Any, *, account: str | None = None, labels: Mapping[str, str] | None = None) -> CostMeter:
        """Add context to one session's records from now on; it counts nothing twice and may be called again."""
        self._guarded(lambda: self._scopes.of_session(session).attach(account, labels))
        return self

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
        from livekit_costmeter.metering.summary import Totals

        if self._totals is None:
            self._totals = Totals(self._delivery.readback(), self._rate)
        return self._totals.summary(None if session is None else self._scopes.of_session(session).session_id)

    async def aclose(self) -> None:
        """Append what only memory knows, close the segment and flush; idempotent, and metering goes on after it."""
        self._guarded(self._streams.flush)
        try:
            await self._delivery.settle()
        except Exception as error:
            self._failed(error)

    def instrument(self, server: Any) -> Any:
        """Ship for this worker's main process from now on, also before `run`; returns the server."""
        self._guarded(self._delivery.serve)
        return server

    # What the taps call (internals.Observer).

    def observe(self, emitter: Any, event: Any) -> None:
        """Record one metrics object, once, whoever emits it again."""
        try:
            # Adapters emit the same object again from within this emit; the leaf, which holds the key, is first.
            if id(event) in self._emitting:
                return
            self._emitting[id(event)] = emitter
            reading = read(event)
            if reading is None:
                return
            component, worker = reading.component, internals.component_behind(emitter)
            if component == "tts":
                if internals.repeats_inner_stream():
                    return
                if (stream := internals.reporting_stream()) is not None:
                    reading = self._speech.reported(stream, reading)
            # A realtime session (whose worker is its model) transcribes without a stream of its own to count.
            elif component == "stt" and event.streamed and worker is emitter:
                reading = _without_stream_seconds(reading)
                if reading is None:
                    return
                self._streams.transcribed(emitter)
            self._record(worker, event, reading, None)
        except Exception as error:
            self._failed(error)

    def forget(self, emitter: Any, event: Any) -> None:
        """End an emit; only the first emitter of an object ends its story."""
        if self._emitting.get(id(event)) is emitter:
            del self._emitting[id(event)]

    def audio_pushed(self, stream: Any, seconds: float) -> None:
        """Count audio on its way to a provider."""
        try:
            self._streams.pushed(stream, seconds)
        except Exception as error:
            self._failed(error)

    def stream_opened(self, stream: Any) -> None:
        """Start to count a recognition stream."""
        self._guarded(lambda: self._streams.opened(stream))

    def stream_closed(self, stream: Any) -> None:
        """Append the rest of a recognition stream."""
        self._guarded(lambda: self._streams.closed(stream))

    def message_sent(self, stream: Any, message: str) -> None:
        """Count the characters that a synthesis stream sends."""
        self._guarded(lambda: self._speech.message_sent(stream, message))

    def audio_received(self, stream: Any, seconds: float) -> None:
        """Count the audio that a synthesis stream receives."""
        self._guarded(lambda: self._speech.audio_received(stream, seconds))

    def speech_ended(self, stream: Any) -> None:
        """Append what a synthesis stream sent and LiveKit never reported."""
        self._guarded(lambda: self._speech.ended(stream))

    def session_starting(self, session: Any) -> Any:
        """Build the session's scope."""
        return self._guarded(lambda: self._scopes.of_session(session))

    def server_running(self) -> None:
        """Ship from the worker's main process."""
        self._guarded(self._delivery.serve)

    async def server_stopped(self) -> None:
        """Ship what is left, within the deadline."""
        await self.aclose()

    def _speech_used(self, stream: Any, reading: Reading) -> None:
        self._record(internals.component_of(stream), None, reading, None)

    def _stream_used(self, stream: Any, reading: Reading, total: dict[str, str] | None) -> None:
        self._guarded(lambda: self._record(internals.component_of(stream), None, reading, total))

    def _record(self, component: Any, event: Any, reading: Reading, total: dict[str, str] | None) -> None:
        kind, quantities, basis, operation_id, at, duration, outcome, complete, attributes = reading
        scope, agent, speech_id = self._scopes.current()
        identity = self._identities.identity(component, event, kind)
        fields = {
            # Epoch seconds, as LiveKit gives them: making text of them costs more than the append.
            "at": at,
            "started_at": at - duration if duration > 0 else at,
            "outcome": outcome,
            "quantities": quantities,
            "basis": basis,
        }
        if operation_id is not None:
            fields["operation_id"] = operation_id
        if complete:
            total = quantities
        if total is not None:
            fields["operation_total"] = total
        if speech_id is not None:
            fields["speech_id"] = speech_id
        if agent is not None:
            fields["agent"] = agent
        if kind == "stt" and (language := internals.language_of(component)):
            attributes = {**(attributes or {}), "language": language}  # several languages at once cost more
        if attributes is not None:
            fields["attributes"] = attributes
        # The larger half of a record is the same from event to event: it is encoded once and spliced in.
        members, more = identity.members_with(scope.current(), scope.account_is_fixed), usage_json(fields)[1:]
        record_id = self._delivery.append(members, more)
        if self._callbacks:
            self._publish(record_id, members + more)

    def _publish(self, record_id: str | None, members: bytes) -> None:
        from livekit_costmeter.records import parse_usage

        record = parse_usage(b'{"id":"%b",%b' % ((record_id or "unspooled").encode(), members))
        for callback in self._callbacks:
            try:
                callback(record)
            except Exception as error:
                self._failed(error)

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:
            self._failed(error)
            return None

    def _failed(self, error: Exception) -> None:
        kind = type(error).__name__
        self._failures[kind] = self._failures.get(kind, 0) + 1
        if self._failures[kind] == 1:
            # The type and place only: a message of somebody else's exception may quote a request and its key.
            log().error("metering failed; the call goes on", error=kind, at=_place(error))


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"


def _without_stream_seconds(reading: Reading) -> Reading | None:
    # Pushed audio and connection time are counted at the stream itself; tokens only the provider knows.
    kept = {unit: amount for unit, amount in reading.quantities.items() if unit != "audio_seconds"}
    if not kept:
        return None
    return reading._replace(quantities=kept, basis={unit: reading.basis[unit] for unit in kept})
