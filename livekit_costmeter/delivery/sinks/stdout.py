"""
A sink that prints one line per charge, for trying things out and for log collectors.

Invariant: within one process a row is printed once. A stream cannot be asked what it has, so a row may come again
after a crash; whoever collects the lines tells them apart by `record_id` and `line`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, TextIO

from pydantic import BaseModel, ConfigDict

from livekit_costmeter.delivery.sinks import RetryableError
from livekit_costmeter.records import Charge, charge_fields

_SHOWN = (
    "at",
    "component",
    "provider",
    "model",
    "unit",
    "billable_quantity",
    "cost",
    "currency",
    "pricing_status",
    "account",
    "record_id",
    "line",
)
_REMEMBERED = 50_000


class StdoutSink:
    """Print charges through structlog."""

    class Options(BaseModel):
        """`text` prints the main fields as key=value, `json` every field."""

        model_config = ConfigDict(extra="forbid")
        format: Literal["text", "json"] = "text"

    def __init__(self, options: Options | None = None, *, stream: TextIO | None = None) -> None:
        self._options = options or self.Options()
        self._stream = stream
        self._print: Callable[..., Any] | None = None
        self._seen: dict[tuple[str, int], None] = {}

    def open(self) -> None:
        """Build the logger."""
        import structlog

        renderer = (
            structlog.processors.JSONRenderer()
            if self._options.format == "json"
            else structlog.processors.KeyValueRenderer(key_order=["event", *_SHOWN])
        )
        printer = structlog.PrintLogger(self._stream or sys.stdout)
        self._print = structlog.wrap_logger(printer, processors=[renderer]).info

    def write(self, charges: Sequence[Charge]) -> None:
        """Print the rows that this process has not printed yet."""
        if self._print is None:
            self.open()
        try:
            for charge in charges:
                self._print_once(charge)
            (self._stream or sys.stdout).flush()
        except OSError as error:
            raise RetryableError(f"stdout: {error.strerror or error}") from None

    def _print_once(self, charge: Charge) -> None:
        key = (charge.record_id, charge.line)
        if key in self._seen or self._print is None:
            return
        fields = charge_fields(charge)
        shown = fields if self._options.format == "json" else {name: fields[name] for name in _SHOWN}
        self._print("charge", **shown)
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def check(self) -> str:
        """Say where it prints."""
        return f"prints {self._options.format} lines to stdout"

    def close(self) -> None:
        """Let go of the logger; the stream is not ours."""
        self._print = None
