"""
A sink around a sink whose configuration holds secrets: client libraries quote addresses, passwords and all.

Invariant: what leaves here, returned or raised, has been through `conceal`, and the original error is not behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, Sink, SinkError
from livekit_costmeter.records import Charge


class DiscreetSink:
    """Do what the inner sink does; say what it says without its secrets."""

    def __init__(self, make: Callable[[], Any], conceal: Callable[[str], str]) -> None:
        self._conceal = conceal
        self._inner: Sink = self._quietly(make)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def open(self) -> None:
        """Open the inner sink."""
        self._quietly(self._inner.open)

    def write(self, charges: Sequence[Charge]) -> None:
        """Write to the inner sink; reasons of rejected records are concealed too."""
        self._quietly(self._inner.write, charges)

    def check(self) -> str:
        """Return the inner sink's line."""
        return self._conceal(self._quietly(self._inner.check))

    def close(self) -> None:
        """Close the inner sink."""
        self._quietly(self._inner.close)

    def read(self, since: datetime | None, until: datetime | None) -> Iterator[Charge]:
        """Stream what the inner sink reads; only called where it is `readable`."""
        inner: Any = self._inner
        rows = self._quietly(inner.read, since, until)
        while (row := self._quietly(next, rows, None)) is not None:
            yield row

    def _quietly(self, action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except Exception as error:
            failure = self._discreet(error)
        # Raised outside the handler, so that the original is not its context: reporters of errors print that too.
        raise failure

    def _discreet(self, error: Exception) -> SinkError:
        if isinstance(error, RejectedRecords):
            return RejectedRecords({record: self._conceal(reason) for record, reason in error.rejected.items()})
        text = self._conceal(str(error))
        if isinstance(error, SinkError):
            return RetryableError(text) if isinstance(error, RetryableError) else SinkError(text)
        return SinkError(f"{type(error).__name__}: {text}")
