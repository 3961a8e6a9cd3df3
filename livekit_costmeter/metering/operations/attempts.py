"""
How an attempt ended, and whether a provider may have done any work for it.

Invariant: pure. An error that says that the provider refused, or was never reached, costs nothing; a connection that
broke or was waited for in vain may have cost what was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

_UNREACHED = (
    *("connecterror", "connecttimeout", "connectorerror", "connectionrefused", "gaierror", "pooltimeout"),
    *(
        "connectordnserror",
        "connectorsslerror",
        "connectorcertificateerror",
        "connectiontimeouterror",
        "certverification",
    ),
)
_BROKEN = ("timeout", "connection", "protocolerror", "readerror", "disconnected")
_HTTP_ERRORS = range(400, 600)
_CLIENT_CLOSED = 499
_CLOSE_CODES = 1000
_DEPTH = 8


def was_refused(error: BaseException) -> bool:
    """Tell whether a provider answered with an error status, or could not be reached."""
    for cause in _causes(error):
        status = getattr(cause, "status_code", None) or getattr(cause, "status", None)
        if isinstance(status, int) and status in _HTTP_ERRORS and status != _CLIENT_CLOSED:
            return True
        if any(name in type(cause).__name__.lower() for name in _UNREACHED):
            return True
    return False


def may_have_cost(error: BaseException) -> bool:
    """Tell whether a provider may have worked on the request although nothing came back."""
    if was_refused(error):
        return False
    if any(_is_broken(getattr(cause, "status_code", None)) for cause in _causes(error)):
        return True
    names = [type(cause).__name__.lower() for cause in _causes(error)]
    return any(part in name for name in names for part in _BROKEN)


def _is_broken(status: Any) -> bool:
    # Plugins put the code by which a websocket was closed, or -1, where an HTTP status is expected.
    return isinstance(status, int) and (status < 0 or status >= _CLOSE_CODES)


def is_cancellation(error: BaseException) -> bool:
    """Tell whether the agent itself gave up; LiveKit ends on 499 (client closed request) as quietly as that."""
    if getattr(error, "status_code", None) == _CLIENT_CLOSED:
        return True
    return isinstance(error, asyncio.CancelledError | GeneratorExit)


def _causes(error: BaseException) -> Iterator[BaseException]:
    # Plugins hide causes with `from None`; they are still there. A chain may cycle, so it has an end here.
    cause: BaseException | None = error
    for _ in range(_DEPTH):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__
