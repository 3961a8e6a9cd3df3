"""
Realtime sessions: time connected, and the responses that LiveKit's plugin drops or leaves open.

OpenAI's protocol (and those who speak it) is seen as the provider's own messages: `response.created`, deltas,
`response.done` with its usage.

Invariant: a response is recorded once. LiveKit's own metrics of it come right after `response.done`, in the same turn
of the loop; where they do not, the provider's usage is recorded as it was. Of a response that is open when the session
closes, what was heard is known and what was asked is at least what the response before it was asked.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

from livekit_costmeter.metering.estimates import Calibration, text_of_prompt
from livekit_costmeter.metering.hooks import internals
from livekit_costmeter.metering.operations.generations import Append, Identity
from livekit_costmeter.metering.operations.windows import Windows
from livekit_costmeter.metering.readers import Fields

_BYTES_PER_SECOND = 48_000
"""16-bit samples at 24 kHz."""
_TRANSCRIPT = "conversation.item.input_audio_transcription.completed"
_OUTCOMES = {"cancelled": "interrupted", "failed": "failed"}
"""What becomes of a response that LiveKit drops, by the provider's status."""


@dataclass(slots=True)
class _Response:
    started_at: float
    bytes: int = 0
    audio: float = 0.0


@dataclass(slots=True)
class _Session:
    context: contextvars.Context
    responses: dict[str, _Response] = field(default_factory=dict)
    awaiting: dict[str, tuple[Fields, _Response | None]] = field(default_factory=dict)
    """Responses that are done, until LiveKit has reported them, or has not."""
    asked: dict[str, int] = field(default_factory=dict)
    transcripts: set[str] = field(default_factory=set)
    """Transcripts of what the caller said, until LiveKit has reported them, or has not."""


class RealtimeMeter:
    """Follows every realtime session of the process."""

    def __init__(
        self,
        append: Append,
        identity: Identity,
        transcribed: Callable[[Any, Any], None],
        *,
        calibration: Calibration,
        clock: Callable[[], float] = time.time,
        windows: Windows | None = None,
    ) -> None:
        self._append = append
        self._identity = identity
        self._transcribed = transcribed
        self._calibration = calibration
        self._clock = clock
        self._sessions: WeakKeyDictionary[Any, _Session] = WeakKeyDictionary()
        self._windows = windows or Windows(
            append, prefix="rt", time_unit="session_seconds", context=internals.listening_context, clock=clock
        )
        self.flush = self._windows.flush

    def opened(self, session: Any) -> None:
        """Start to count a session."""
        self._sessions[session] = _Session(internals.listening_context())
        self._windows.opened(session)

    def reported(self, session: Any, fields: Fields) -> None:
        """See LiveKit's own reading of a response, or of the session's time."""
        if "session_seconds" in fields["quantities"]:
            self._windows.dropped(session)
        known = self._sessions.get(session)
        if known is None:
            return
        operation = fields.get("operation_id", "")
        _, response = known.awaiting.pop(operation, (None, None))
        self._learn(session, response, fields)
        self._remember(known, fields["quantities"])

    def _learn(self, session: Any, response: _Response | None, fields: Fields) -> None:
        provider, model = self._identity(internals.component_of(session))
        if response is None or not self._calibration.is_wanted(provider, model):
            return
        observed = _heard(response)
        for unit, (side, features) in observed.items():
            self._calibration.learn(provider, model, side, features, int(fields["quantities"].get(unit, 0)))
        if observed:
            fields["attributes"] = {"observed": dict(observed.values())}

    def message(self, session: Any, message: Any) -> None:
        """See a message of the provider before LiveKit's plugin handles it."""
        known = self._sessions.get(session)
        if known is None or not isinstance(message, Mapping):
            return
        kind = message.get("type", "")
        if kind == "response.created":
            known.responses[message["response"]["id"]] = _Response(self._clock())
        elif kind.endswith(".delta"):
            self._delta(known, kind, message)
        elif kind == "response.done":
            self._done(session, known, message["response"])
        elif kind == _TRANSCRIPT and message.get("usage"):
            known.transcripts.add(message["event_id"])
            metrics = transcript_metrics(session, message, self._clock())
            asyncio.get_running_loop().call_soon(self._unless_heard, session, known, metrics)

    def heard(self, session: Any, event: Any) -> None:
        """See LiveKit's own reading of a transcript; releases up to 1.8.0 have none."""
        if (known := self._sessions.get(session)) is not None:
            known.transcripts.discard(event.request_id)

    def _unless_heard(self, session: Any, known: _Session, metrics: Any) -> None:
        if metrics.request_id in known.transcripts:
            self._transcribed(session, metrics)

    def closed(self, session: Any) -> None:
        """Record what is open, and the rest of the session's time."""
        known = self._sessions.pop(session, None)
        try:
            if known is not None:
                for operation, response in known.responses.items():
                    known.context.run(self._append, session, self._open_response(session, known, operation, response))
        finally:
            self._windows.closed(session)

    @staticmethod
    def _delta(known: _Session, kind: str, message: Mapping[str, Any]) -> None:
        response = known.responses.get(message.get("response_id", ""))
        delta = message.get("delta")
        if response is None or not isinstance(delta, str):
            return
        if kind.endswith("audio.delta"):
            response.audio += len(delta) * 3 / 4 / _BYTES_PER_SECOND
        else:
            response.bytes += len(delta.encode())

    def _done(self, session: Any, known: _Session, response: Mapping[str, Any]) -> None:
        operation = response.get("id") or ""
        begun = known.responses.pop(operation, None)
        quantities = usage_units(response.get("usage") or {})
        if not quantities:
            return
        now = self._clock()
        fields: Fields = {
            "at": now,
            "started_at": now if begun is None else begun.started_at,
            "outcome": _OUTCOMES.get(response.get("status", ""), "completed"),
            "quantities": quantities,
            "basis": dict.fromkeys(quantities, "reported"),
            "operation_id": operation,
            "operation_total": quantities,
        }
        known.awaiting[operation] = fields, begun
        asyncio.get_running_loop().call_soon(self._unless_reported, session, known, operation)

    def _unless_reported(self, session: Any, known: _Session, operation: str) -> None:
        fields, _ = known.awaiting.pop(operation, (None, None))
        if fields is not None:
            self._remember(known, fields["quantities"])
            known.context.run(self._append, session, fields)

    @staticmethod
    def _remember(known: _Session, quantities: Mapping[str, str]) -> None:
        asked = {unit: int(text) for unit, text in quantities.items() if "input" in unit}
        if asked:
            known.asked = asked

    def _open_response(self, session: Any, known: _Session, operation: str, response: _Response) -> Fields:
        provider, model = self._identity(internals.component_of(session))
        estimates: dict[str, Any] = {}
        quantities = {unit: str(count) for unit, count in known.asked.items()}
        for unit, count in known.asked.items():
            estimates[unit] = {"observed": {"asked_before": count}, "ratios": {"asked_before": "1"}, "samples": 1}
        seen = {}
        if not known.asked:
            seen["input_tokens"] = ("input", text_of_prompt(*internals.prompt_of_session(session)))
        # What was spoken until now may be asked as well, but how much of it was sent is not known here.
        basis = dict.fromkeys({**known.asked, **seen}, "lower_bound")
        seen |= _heard(response)
        for unit, (side, observed) in seen.items():
            estimate = self._calibration.estimate(provider, model, side, observed)
            quantities[unit], estimates[unit] = str(estimate.tokens), estimate.inputs
            basis.setdefault(unit, "estimated")
        return {
            "at": self._clock(),
            "started_at": response.started_at,
            "outcome": "interrupted",
            "quantities": quantities,
            "basis": basis,
            "operation_id": operation,
            "operation_total": quantities,
            "attributes": {"estimate": estimates},
        }


def transcript_metrics(session: Any, message: Mapping[str, Any], now: float) -> Any:
    """Return what newer releases of LiveKit make of a transcript's usage: tokens, or seconds."""
    usage = message["usage"]
    metadata = SimpleNamespace(
        model_name=internals.transcriber_of(session), model_provider=internals.model_behind(session).provider
    )
    return SimpleNamespace(
        type="stt_metrics",
        request_id=message["event_id"],
        timestamp=now,
        duration=0.0,
        label="",
        streamed=True,
        audio_duration=usage.get("seconds") or 0.0,
        input_tokens=usage.get("input_tokens") or 0,
        input_audio_tokens=(usage.get("input_token_details") or {}).get("audio_tokens") or 0,
        output_tokens=usage.get("output_tokens") or 0,
        metadata=metadata,
    )


def _heard(response: _Response) -> dict[str, tuple[str, dict[str, int]]]:
    seen = {}
    if response.bytes:
        seen["output_tokens"] = ("output", {"bytes": response.bytes})
    if response.audio:
        seen["output_audio_tokens"] = ("audio", {"milliseconds": round(response.audio * 1000)})
    return seen


def usage_units(usage: Mapping[str, Any]) -> dict[str, str]:
    """Split the usage of a `response.done` into units."""
    inputs = usage.get("input_token_details") or {}
    outputs = usage.get("output_token_details") or {}
    cached = inputs.get("cached_tokens_details") or {}
    audio, image = inputs.get("audio_tokens") or 0, inputs.get("image_tokens") or 0
    text = (usage.get("input_tokens") or 0) - audio - image
    spoken = outputs.get("audio_tokens") or 0
    if not cached and (some := inputs.get("cached_tokens") or 0):  # without details: of text first
        cached = {"text_tokens": min(some, text), "audio_tokens": min(some - min(some, text), audio)}
    cached_text = cached.get("text_tokens", 0)
    units = {
        "input_tokens": text - cached_text,
        "cached_input_tokens": cached_text,
        "input_audio_tokens": audio - cached.get("audio_tokens", 0),
        "cached_input_audio_tokens": cached.get("audio_tokens", 0),
        "input_image_tokens": image - cached.get("image_tokens", 0),
        "cached_input_image_tokens": cached.get("image_tokens", 0),
        "output_tokens": (usage.get("output_tokens") or 0) - spoken,
        "output_audio_tokens": spoken,
    }
    return {unit: str(count) for unit, count in units.items() if count > 0}
