"""
What a tap tells those further in: context variables that say what the running task is about.

Invariant: set by a tap in a task of its own, or put back by it; nothing but taps sets them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from livekit_costmeter.metering.hooks.observer import Observer

REPEATED = object()
"""Stands for an operation that the one below it has reported already."""

sending: ContextVar[Any] = ContextVar("livekit_costmeter_sending", default=None)
"""The synthesis operation whose text the current task sends."""
reporting: ContextVar[Any] = ContextVar("livekit_costmeter_reporting", default=None)
"""The operation whose metrics the current task reports, None, or `REPEATED`."""
probing: ContextVar[tuple[Any] | None] = ContextVar("livekit_costmeter_probing", default=None)
"""Set where the current task only asks if a provider has recovered: the speech in which it does, or None.

A speech that its listeners start is real work, though it inherits this."""
requesting: ContextVar[Any] = ContextVar("livekit_costmeter_requesting", default=None)
"""The audio that the current task asks a provider to recognise at once."""


def guard(observer: Observer, action: Callable[..., Any], *args: Any) -> Any:
    """Call back into the meter; an exception of ours goes no further."""
    try:
        return action(*args)
    except Exception as error:
        observer.failed(error)
        return None
