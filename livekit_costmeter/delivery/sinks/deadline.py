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
    outcome: Future[T] = Future()
    threading.Thread(target=_run, args=(work, outcome), name="costmeter-deadline", daemon=True).start()
    return outcome.result(max(0.0, seconds))


def _run(work: Callable[[], T], outcome: Future[T]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:
        outcome.set_exception(error)
