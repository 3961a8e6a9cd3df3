"""
Metering without patches (`taps: listeners`): public listeners on the components of the sessions that are attached.

Invariant: nothing of LiveKit is changed, and what no event says is not known: interrupted work, the last seconds of
speech recognition, components outside an attached session, what users type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

from livekit_costmeter.metering.hooks import internals

Usage = Callable[[Any, Any], None]
"""(emitter, metrics object)."""


class Listeners:
    """Listens to every component of the sessions it follows, each once."""

    def __init__(self, usage: Usage, usage_of_session: Usage, follow_call: Callable[[Any], None]) -> None:
        self._usage = usage
        self._usage_of_session = usage_of_session
        self._follow_call = follow_call
        self._heard: WeakSet[Any] = WeakSet()

    def follow(self, session: Any, scope: Any) -> None:
        """Listen to what a session uses now, and to what it uses after a handoff; may be called again."""
        if session not in self._heard:
            self._heard.add(session)
            for event in ("conversation_item_added", "agent_state_changed"):
                session.on(event, lambda _event: self._listen(session, scope))
        self._listen(session, scope)

    def _listen(self, session: Any, scope: Any) -> None:
        self._follow_call(session)
        for component, usage in self._components(session):
            if component not in self._heard:
                self._heard.add(component)
                component.on(internals.METRICS_EVENT, self._listener(component, usage, scope))

    def _components(self, session: Any) -> Iterator[tuple[Any, Usage]]:
        agent = internals.agent_of(session)
        for holder in (session, agent):
            for name in ("stt", "llm", "tts"):
                component = getattr(holder, name, None)
                if hasattr(component, "on"):
                    yield component, self._usage
        realtime = internals.realtime_session_of(agent)
        if realtime is not None:
            yield realtime, self._usage_of_session

    @staticmethod
    def _listener(component: Any, usage: Usage, scope: Any) -> Callable[[Any], None]:
        def listener(event: Any) -> None:
            # Recognition and realtime tasks know nothing of their session.
            tokens = internals.enter_session(scope)
            try:
                usage(component, event)
            finally:
                internals.leave_session(tokens)

        return listener
