"""
Taps on what work belongs to: sessions, speeches, workers, realtime sessions, and recovery requests of adapters.

Invariant: LiveKit's own function runs with the same arguments, once, and its exceptions pass.
"""

from __future__ import annotations

from typing import Any

from livekit_costmeter.metering.hooks import internals, marks
from livekit_costmeter.metering.hooks.marks import guard
from livekit_costmeter.metering.hooks.observer import Observer


def realtime_start(observer: Observer, original: Any) -> Any:
    """See a realtime session open, and close."""

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        guard(observer, _follow_close, observer, self)

    return init


def _follow_close(observer: Observer, session: Any) -> None:
    close = session.aclose
    observer.realtime.opened(session)

    async def aclose() -> None:
        session.__dict__.pop("aclose", None)
        try:
            await close()
        finally:
            guard(observer, observer.realtime.closed, session)

    session.aclose = aclose


def session_start(observer: Observer, original: Any) -> Any:
    """Give every task that a session starts the session's scope."""

    async def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        tokens = internals.enter_session(observer.session_starting(self))
        try:
            return await original(self, *args, **kwargs)
        finally:
            internals.leave_session(tokens)

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
        token = marks.probing.set(True)
        try:
            return original(self, *args, **kwargs)
        finally:
            marks.probing.reset(token)

    return try_recovery
