"""
From LiveKit's metrics objects to readings: disjoint units, each with how it is known.

Invariant: a reader is pure, never raises on a field that an older LiveKit lacks, and returns None where the object
holds no usage (connection timings, voice activity, latencies).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Reading(NamedTuple):
    """What one metrics object says was used; quantities are decimal strings per unit."""

    component: str
    quantities: dict[str, str]
    basis: dict[str, str]
    operation_id: str | None
    at: float
    duration: float
    outcome: str = "completed"
    complete: bool = True
    """The operation ends here, so its total is `quantities`."""
    attributes: Mapping[str, Any] | None = None


def read(event: Any) -> Reading | None:
    """Read one metrics object, whatever its type."""
    reader = _READERS.get(getattr(event, "type", ""))
    return None if reader is None else reader(event)


def seconds_text(seconds: float) -> str:
    """Write a duration measured as float: to the microsecond, plainly."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _llm(event: Any) -> Reading:
    cached = event.prompt_cached_tokens or 0
    written = getattr(event, "cache_creation_tokens", 0) or 0
    reasoning = getattr(event, "reasoning_tokens", 0) or 0
    quantities: dict[str, str] = {}
    if (fresh := event.prompt_tokens - cached - written) > 0:
        quantities["input_tokens"] = str(fresh)
    if cached:
        quantities["cached_input_tokens"] = str(cached)
    if written:
        quantities["cache_write_tokens"] = str(written)
    if (spoken := event.completion_tokens - reasoning) > 0:
        quantities["output_tokens"] = str(spoken)
    if reasoning:
        quantities["reasoning_tokens"] = str(reasoning)
    outcome = "interrupted" if event.cancelled else "completed"
    if not quantities:
        return _silent(event, outcome)
    basis = dict.fromkeys(quantities, "reported")
    return Reading("llm", quantities, basis, event.request_id or None, event.timestamp, event.duration, outcome)


def _decision(event: Any) -> Reading:
    counts = {"input_tokens": event.input_tokens, "output_tokens": event.output_tokens}
    quantities = {unit: str(count) for unit, count in counts.items() if count}
    if not quantities:
        return _silent(event, "completed")
    basis = dict.fromkeys(quantities, "reported")
    return Reading("llm", quantities, basis, event.request_id or None, event.timestamp, event.duration)


def _silent(event: Any, outcome: str) -> Reading:
    # The provider worked and said nothing: one request is all that is known, and it has no price.
    operation_id = event.request_id or None
    return Reading("llm", {"requests": "1"}, _REQUEST_OBSERVED, operation_id, event.timestamp, event.duration, outcome)


def _tts(event: Any) -> Reading | None:
    quantities: dict[str, str] = {}
    basis: dict[str, str] = {}
    # Speech models that bill tokens take text in and put audio out.
    for unit, count in (
        ("input_tokens", getattr(event, "input_tokens", 0)),
        ("output_audio_tokens", getattr(event, "output_tokens", 0)),
    ):
        if count:
            quantities[unit], basis[unit] = str(count), "reported"
    if event.characters_count:
        quantities["characters"], basis["characters"] = str(event.characters_count), "observed"
    if event.audio_duration > 0:
        quantities["output_audio_seconds"] = seconds_text(event.audio_duration)
        basis["output_audio_seconds"] = "observed"
    if not quantities:
        return None
    outcome = "interrupted" if event.cancelled else "completed"
    return Reading("tts", quantities, basis, event.request_id or None, event.timestamp, event.duration, outcome)


def _stt(event: Any) -> Reading | None:
    quantities: dict[str, str] = {}
    basis: dict[str, str] = {}
    total = getattr(event, "input_tokens", 0) or 0
    audio = getattr(event, "input_audio_tokens", 0) or 0
    # What a transcription model reads is audio; where the split is reported, the rest is its text prompt.
    split = (
        (("input_audio_tokens", audio), ("input_tokens", total - audio)) if audio else (("input_audio_tokens", total),)
    )
    for unit, count in (*split, ("output_tokens", getattr(event, "output_tokens", 0) or 0)):
        if count > 0:
            quantities[unit], basis[unit] = str(count), "reported"
    if event.audio_duration > 0:
        quantities["audio_seconds"], basis["audio_seconds"] = seconds_text(event.audio_duration), "observed"
    if not quantities:
        return None
    return Reading(
        "stt",
        quantities,
        basis,
        event.request_id or None,
        event.timestamp,
        event.duration,
        complete=not event.streamed,
    )


def _realtime(event: Any) -> Reading | None:
    units = realtime_units(event)
    quantities = {unit: str(count) for unit, count in units.items() if count > 0}
    basis = dict.fromkeys(quantities, "reported")
    session_seconds = getattr(event, "session_duration", 0.0) or 0.0
    if session_seconds > 0:
        quantities["session_seconds"], basis["session_seconds"] = seconds_text(session_seconds), "observed"
    if not quantities:
        return None
    outcome = "interrupted" if event.cancelled else "completed"
    # `timestamp` is the creation of the response here, not its end.
    at = event.timestamp + event.duration
    complete = not session_seconds
    return Reading("realtime", quantities, basis, event.request_id or None, at, event.duration, outcome, complete)


def realtime_units(event: Any) -> dict[str, int]:
    """Split a response's tokens into disjoint units; cached tokens without details are taken for text first."""
    inputs, outputs = event.input_token_details, event.output_token_details
    image = getattr(inputs, "image_tokens", 0) or 0
    text = event.input_tokens - inputs.audio_tokens - image
    details = inputs.cached_tokens_details
    if details is not None:
        cached = (details.text_tokens, details.audio_tokens, getattr(details, "image_tokens", 0) or 0)
    else:
        cached_text = min(inputs.cached_tokens, text)
        cached = (cached_text, min(inputs.cached_tokens - cached_text, inputs.audio_tokens), 0)
    return {
        "input_tokens": text - cached[0],
        "cached_input_tokens": cached[0],
        "input_audio_tokens": inputs.audio_tokens - cached[1],
        "cached_input_audio_tokens": cached[1],
        "input_image_tokens": image - cached[2],
        "cached_input_image_tokens": cached[2],
        "output_tokens": event.output_tokens - outputs.audio_tokens,
        "output_audio_tokens": outputs.audio_tokens,
    }


def _requests(component: str) -> Callable[[Any], Reading | None]:
    def reader(event: Any) -> Reading | None:
        if not event.num_requests:
            return None
        quantities = {"requests": str(event.num_requests)}
        return Reading(component, quantities, _REQUEST_OBSERVED, None, event.timestamp, 0.0)

    return reader


_REQUEST_OBSERVED = {"requests": "observed"}
_READERS: Mapping[str, Callable[[Any], Reading | None]] = {
    "llm_metrics": _llm,
    "decision_metrics": _decision,
    "tts_metrics": _tts,
    "stt_metrics": _stt,
    "realtime_model_metrics": _realtime,
    "interruption_metrics": _requests("interruption"),
    "eot_inference_metrics": _requests("turn_detection"),
}
