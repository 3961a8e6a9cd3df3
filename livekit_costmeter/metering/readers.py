"""
From LiveKit's metrics objects to the fields of a record: disjoint units, each with how it is known.

Invariant: a reader is pure, never raises on a field that an older LiveKit lacks, and returns None where the object
holds no usage (connection timings, voice activity, latencies, a reply whose provider said nothing).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Fields = dict[str, Any]
"""What only this record has: `at`, `started_at` (epoch seconds, as LiveKit gives them: making text of them costs more
than the append), `outcome`, `quantities` (decimal strings per unit), `basis`, and where known `operation_id`,
`operation_total`, `attributes`, `service_tier`."""


def seconds_text(seconds: float) -> str:
    """Write a duration measured as float: to the microsecond, plainly."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def token_units(usage: Any) -> dict[str, str]:
    """Split what a language model used into units; `usage` is LiveKit's metrics object or a stream's own usage."""
    cached = usage.prompt_cached_tokens
    written = getattr(usage, "cache_creation_tokens", 0)
    reasoning = getattr(usage, "reasoning_tokens", 0)
    quantities: dict[str, str] = {}
    if (fresh := usage.prompt_tokens - cached - written) > 0:
        quantities["input_tokens"] = str(fresh)
    if cached:
        quantities["cached_input_tokens"] = str(cached)
    if written:
        quantities["cache_write_tokens"] = str(written)
    if (spoken := usage.completion_tokens - reasoning) > 0:
        quantities["output_tokens"] = str(spoken)
    if reasoning:
        quantities["reasoning_tokens"] = str(reasoning)
    return quantities


def read_llm(event: Any) -> Fields | None:
    """Read `LLMMetrics`."""
    quantities = token_units(event)
    if not quantities:
        return None
    at, duration = event.timestamp, event.duration
    fields = {
        "at": at,
        "started_at": at - duration if duration > 0 else at,
        "outcome": "interrupted" if event.cancelled else "completed",
        "quantities": quantities,
        "basis": dict.fromkeys(quantities, "reported"),
        "operation_total": quantities,
    }
    if event.request_id:
        fields["operation_id"] = event.request_id
    return fields


def read_decision(event: Any) -> Fields:
    """Read `DecisionMetrics`."""
    counts = {"input_tokens": event.input_tokens, "output_tokens": event.output_tokens}
    quantities = {unit: str(count) for unit, count in counts.items() if count}
    return _whole(event, quantities, dict.fromkeys(quantities, "reported")) if quantities else silent(event)


def silent(event: Any) -> Fields:
    """Read a call of which nothing is known but that it was made: one request, which has no price."""
    return _whole(event, {"requests": "1"}, {"requests": "observed"})


def read_tts(event: Any) -> Fields | None:
    """Read `TTSMetrics`: speech models that bill tokens take text in and put audio out."""
    quantities: dict[str, str] = {}
    basis: dict[str, str] = {}
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
    return _whole(event, quantities, basis) if quantities else None


def read_stt(event: Any) -> Fields | None:
    """Read `STTMetrics`: what a transcription model reads is audio; the rest of its input is its text prompt."""
    quantities: dict[str, str] = {}
    basis: dict[str, str] = {}
    total = getattr(event, "input_tokens", 0) or 0
    audio = getattr(event, "input_audio_tokens", 0) or 0
    split = (
        (("input_audio_tokens", audio), ("input_tokens", total - audio)) if audio else (("input_audio_tokens", total),)
    )
    for unit, count in (*split, ("output_tokens", getattr(event, "output_tokens", 0) or 0)):
        if count > 0:
            quantities[unit], basis[unit] = str(count), "reported"
    if event.audio_duration > 0:
        quantities["audio_seconds"], basis["audio_seconds"] = seconds_text(event.audio_duration), "observed"
    return _whole(event, quantities, basis, is_whole=not event.streamed) if quantities else None


def read_realtime(event: Any) -> Fields | None:
    """Read `RealtimeModelMetrics`, whose `timestamp` is the creation of the response, not its end."""
    units = realtime_units(event)
    quantities = {unit: str(count) for unit, count in units.items() if count > 0}
    basis = dict.fromkeys(quantities, "reported")
    session_seconds = getattr(event, "session_duration", 0.0) or 0.0
    if session_seconds > 0:
        quantities["session_seconds"], basis["session_seconds"] = seconds_text(session_seconds), "observed"
    if not quantities:
        return None
    fields = _whole(event, quantities, basis, is_whole=not session_seconds)
    fields["started_at"], fields["at"] = event.timestamp, event.timestamp + event.duration
    return fields


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


def read_requests(event: Any) -> Fields | None:
    """Read what counts requests: interruption and turn detection."""
    if not event.num_requests:
        return None
    return _whole(event, {"requests": str(event.num_requests)}, {"requests": "observed"})


def _whole(event: Any, quantities: dict[str, str], basis: Mapping[str, str], *, is_whole: bool = True) -> Fields:
    at, duration = event.timestamp, getattr(event, "duration", 0.0)
    fields: Fields = {
        "at": at,
        "started_at": at - duration if duration > 0 else at,
        "outcome": "interrupted" if getattr(event, "cancelled", False) else "completed",
        "quantities": quantities,
        "basis": basis,
    }
    if request_id := getattr(event, "request_id", None):
        fields["operation_id"] = request_id
    if is_whole:
        fields["operation_total"] = quantities
    return fields
