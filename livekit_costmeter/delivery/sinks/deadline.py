"""
A hard limit on how long a client library may keep a sink waiting.

Invariant: `within` comes back in time, whatever the library, the network, the resolver or a network drive do. What
hangs is left behind in its daemon thread, which keeps no process alive and gives up by its own time limits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own and return its result.

    Raises:
        TimeoutError: It took longer than `seconds`; what it does later is nobody's business.
        Exception: What the work raised.
    """
    return in_thread(work).result(max(0.0, seconds))


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Begin `work` in a daemon thread of its own; also while the interpreter ends, when no executor takes anything."""
    outcome: Future[T] = Future()
    threading.Thread(target=_run, args=(work, outcome), name="costmeter-deadline", daemon=True).start()
    return outcome


def _run(work: Callable[[], T], outcome: Future[T]) -> None:
    if not outcome.set_running_or_notify_cancel():
        return
    try:
        outcome.set_result(work())
    except BaseException as error:
        outcome.set_exception(error)
