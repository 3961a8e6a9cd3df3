"""
How one signal of OpenTelemetry reaches the collector, and what the collector answered.

Invariant: the outcome of an export is the collector's own answer. The SDK's exporters tell success from failure and no
more, and take a redirect or a partial success for a success; so they get a session that remembers the last answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.http import Compression

from livekit_costmeter.delivery.sinks.private_loop import plain_reason

EXPORT_THREAD = "costmeter-otlp-export"
_TALKATIVE = (
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
)


def _is_not_ours(record: logging.LogRecord) -> bool:
    # The SDK logs each failure; ours are raised and logged by the courier. The process's own exports go on talking.
    return record.threadName != EXPORT_THREAD


@dataclass(frozen=True, slots=True)
class Wire:
    """How one signal reaches the collector."""

    endpoint: str
    headers: Mapping[str, str]
    timeout: float
    gzip: bool

    def __post_init__(self) -> None:
        for name in _TALKATIVE:
            logging.getLogger(name).addFilter(_is_not_ours)

    def settings(self, session: requests.Session) -> dict[str, Any]:
        """Return the arguments of an exporter."""
        return {
            "endpoint": self.endpoint,
            "headers": dict(self.headers),
            "timeout": self.timeout,
            "compression": Compression.Gzip if self.gzip else Compression.NoCompression,
            "session": session,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """The collector's answer: `status` is missing where there was none; `rejected` counts what it did not take."""

    status: int | None = None
    text: str = ""
    rejected: int = 0


class Witness(requests.Session):
    """Remembers the last answer, or why there was none."""

    def __init__(self) -> None:
        super().__init__()
        self.last: requests.Response | None = None
        self.error = "nothing was sent"

    def request(self, *arguments: Any, **settings: Any) -> requests.Response:
        """Send a request as any session does."""
        self.last = None
        try:
            self.last = super().request(*arguments, **settings)
        except Exception as error:
            self.error = plain_reason(error)
            raise
        return self.last

    def outcome(self, success: bool, rejected: Callable[[bytes], tuple[int, str]]) -> Outcome:
        """Return what came of the last request; `rejected` reads an answer of 2xx."""
        if self.last is None:
            return Outcome(text=self.error)
        if not success or not self.last.ok:
            return Outcome(self.last.status_code, _reason(self.last))
        try:
            count, text = rejected(self.last.content)
        except DecodeError:  # an answer of 2xx that is not OTLP's has nothing to say of partial success
            count, text = 0, ""
        return Outcome(self.last.status_code, text, count)


def _reason(answer: requests.Response) -> str:
    if "protobuf" in answer.headers.get("Content-Type", ""):
        try:
            return str(Status.FromString(answer.content).message)
        except DecodeError:
            return ""
    return answer.text
