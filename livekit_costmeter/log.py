"""
Our log lines: structlog over the standard-library logger `livekit.costmeter`.

Invariant: the worker's own logging set-up stays in charge, and structlog is imported only when the first line is
logged, because its import alone is most of our start-up budget. On an event loop that import would hold up the call, so
there it is left to a thread, which then logs the line as well.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
from collections.abc import Callable, MutableMapping
from functools import cache, partial
from typing import Any

LOGGER_NAME = "livekit.costmeter"


def log() -> Any:
    """Return the bound logger: `log().warning("segment adopted", segment=name)`."""
    return _FromThread() if _would_block() else _logger()


def place_of(error: Exception) -> str:
    """Return where an error was raised, as `function:line`; its message may quote what no log line may hold."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"


def _would_block() -> bool:
    module = sys.modules.get("structlog")
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        return False
    # Who has not imported asyncio has no loop, and need not pay for it.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _FromThread:
    """The same logger, for as long as structlog is not there: each line is logged from a thread of its own."""

    def __getattr__(self, method: str) -> Callable[..., None]:
        return partial(self._start, method)

    def _start(self, method: str, event: str, **fields: Any) -> None:
        if method == "exception":
            method, fields = "error", {"exc_info": sys.exc_info(), **fields}
        context = contextvars.copy_context()
        line = partial(context.run, lambda: getattr(_logger(), method)(event, **fields))
        threading.Thread(target=line, name="costmeter-log", daemon=True).start()


@cache
def _logger() -> Any:
    import structlog

    return structlog.wrap_logger(
        logging.getLogger(LOGGER_NAME),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    # Plain text in the message: `extra=` is invisible under the standard formatter and clashes with its own names.
    message = str(event.pop("event"))
    trace = event.pop("exception", "")
    pairs = " ".join(f"{key}={value}" for key, value in event.items())
    return "\n".join(filter(None, [f"{message}  {pairs}".rstrip(), trace]))
