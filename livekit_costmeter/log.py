"""
Our log lines: structlog over the standard-library logger `livekit.costmeter`.

Invariant: the worker's own logging set-up stays in charge, and structlog is imported only when the first line is
logged, because its import alone is most of our start-up budget.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from functools import cache
from typing import Any

LOGGER_NAME = "livekit.costmeter"


@cache
def log() -> Any:
    """Return the bound logger: `log().warning("segment adopted", segment=name)`."""
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
