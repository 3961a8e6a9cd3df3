"""
Taps on what components emit: metrics, errors, a provider's own messages.

Invariant: LiveKit's own `emit` is called with the same arguments, once, and its exceptions pass; one metrics object is
one usage, however many adapters emit it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from livekit_costmeter.metering.hooks import internals, marks
from livekit_costmeter.metering.hooks.marks import guard
from livekit_costmeter.metering.hooks.observer import Observer

_METERED = frozenset({internals.METRICS_EVENT, internals.USAGE_EVENT})


def emit(observer: Observer, original: Any) -> Any:
    """See a component's metrics before its listeners do; and failed requests to recognise."""
    metered = _metered(observer, original, observer.usage)

    def emit(self: Any, event: Any, *args: Any) -> Any:
        if event in _METERED and args:
            return metered(self, event, *args)
        if event == internals.ERROR_EVENT and args and (request := marks.requesting.get()) is not None:
            guard(observer, observer.recognition.request_failed, request, self, args[0])
        return original(self, event, *args)

    return emit


def emit_of_session(observer: Observer, original: Any) -> Any:
    """See what a realtime session emits: metrics, and where there are any, its provider's own messages."""
    metered = _metered(observer, original, observer.usage_of_session)

    def emit(self: Any, event: Any, *args: Any) -> Any:
        if event in _METERED and args:
            return metered(self, event, *args)
        if event == internals.RAW_EVENT and args:
            guard(observer, observer.realtime.message, self, args[0])
        return original(self, event, *args)

    return emit


def _metered(observer: Observer, original: Any, usage: Callable[[Any, Any], None]) -> Any:
    emitting = observer.emitting

    def emit(self: Any, event: Any, metrics: Any, *args: Any) -> Any:
        key = id(metrics)
        # Adapters emit the same object again from within this emit; the leaf, which holds the key, is first.
        if key in emitting:
            return original(self, event, metrics, *args)
        emitting.add(key)
        try:
            usage(self, metrics)
            return original(self, event, metrics, *args)
        finally:
            emitting.discard(key)

    return emit
