"""
Taps on what work belongs to: sessions and what users type in them, speeches, workers, realtime sessions, recovery.

Invariant: LiveKit's own function runs with the same arguments, once, and its exceptions pass.
"""

from __future__ import annotations

import asyncio
from typing import Any

from livekit_costmeter.metering.hooks import internals, marks
from livekit_costmeter.metering.hooks.marks import guard
from livekit_costmeter.metering.hooks.observer import Observer


def realtime_start(observer: Observer, original: Any) -> Any:
    """See a realtime session open, and close."""

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if not internals.forwards(self):
            guard(observer, _follow_close, observer, self)

    return init


def _follow_close(observer: Observer, session: Any) -> None:
    closing = _Closing(observer, session)
    observer.realtime.opened(session)
    session.aclose = closing


class _Closing:
    """Stands for a session's `aclose` until it is called first; then nothing of ours refers to the session."""

    def __init__(self, observer: Observer, session: Any) -> None:
        self._observer = observer
        self._session = session
        self._close = session.aclose
        self._before = vars(session).get("aclose")

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        own = vars(self._session)
        if own.get("aclose") is self:  # else somebody has put his own in front since
            del own["aclose"]
            if self._before is not None:
                own["aclose"] = self._before
        try:
            return await self._close(*args, **kwargs)
        finally:
            guard(self._observer, self._observer.realtime.closed, self._session)


def session_start(observer: Observer, original: Any) -> Any:
    """Give every task that a session starts the session's scope."""

    async def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        tokens = internals.enter_session(observer.session_starting(self))
        # Its room is known when the start first waits, and who is in the room may leave before the start is over.
        look = asyncio.get_running_loop().call_soon(observer.session_started, self)
        try:
            result = await original(self, *args, **kwargs)
        except BaseException:
            look.cancel()
            observer.session_failed(self)
            raise
        finally:
            internals.leave_session(tokens)
        observer.session_started(self)
        return result

    return start


def session_call(observer: Observer, original: Any) -> Any:
    """Give every task that a call on a session starts the session's scope, whoever calls."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        tokens = internals.enter_session(observer.session_scope(self))
        try:
            return original(self, *args, **kwargs)
        finally:
            internals.leave_session(tokens)

    return call


def session_text(observer: Observer, original: Any) -> Any:
    """See what a user typed, once the session has accepted it; `run` comes by here too."""

    def generate_reply(self: Any, *args: Any, **kwargs: Any) -> Any:
        speech = original(self, *args, **kwargs)
        if kwargs.get("input_modality", "text") == "text":
            guard(observer, observer.user_input, self, kwargs.get("user_input"), speech)
        return speech

    return generate_reply


def server_run(observer: Observer, original: Any) -> Any:
    """See a worker start and stop."""

    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer.server_running()
        try:
            return await original(self, *args, **kwargs)
        finally:
            await observer.server_stopped()

    return run


def speech_cancel(observer: Observer, original: Any) -> Any:
    """See a speech cancelled, which may be one that was never chosen."""

    def cancel(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer.speech_cancelled(self)
        return original(self, *args, **kwargs)

    return cancel


def probe(_observer: Observer, original: Any) -> Any:
    """Mark what a fallback adapter starts to find out whether a provider has recovered."""

    def try_recovery(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = marks.probing.set((internals.current_speech(),))
        try:
            return original(self, *args, **kwargs)
        finally:
            marks.probing.reset(token)

    return try_recovery
