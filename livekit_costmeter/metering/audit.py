"""
The audit of a session: what LiveKit's own usage says of it, beside what was recorded, said in one line when it closes.

Invariant: no prices and no catalogs; LiveKit's figures are read by feature, so that a release which lacks one simply
has no such unit. `livekit_usage` belongs on the loop, because LiveKit's collector is not locked; all else may run in a
thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Protocol

from livekit_costmeter.log import log
from livekit_costmeter.metering.readers import seconds_text
from livekit_costmeter.records import (
    LIVEKIT_KEY,
    UNKNOWN,
    Finding,
    LiveKitUsage,
    Manner,
    Recorded,
    UsageRecord,
    Work,
    compare,
    decimal_text,
    livekit_fields,
)

_MODALITIES = ("text", "audio", "image")
_REALTIME_INPUT = ("input_text_tokens", "input_audio_tokens", "input_image_tokens")
_REALTIME_OUTPUT = ("output_text_tokens", "output_audio_tokens")
_METERED = frozenset({"llm", "realtime", "stt", "tts"})
_BESIDE = frozenset({"requests", "connection_seconds"})
"""Units that say that somebody worked, not how much."""


class Audited(Protocol):
    """Where the records of this process are added up: `Totals`."""

    def audited(self, session_id: str) -> tuple[Recorded, tuple[LiveKitUsage, ...] | None]:
        """Return what was recorded of a session, and LiveKit's side if its audit record was read back."""


class Auditor:
    """Says what LiveKit missed, once per session, and whose usage stays incomplete, once per model."""

    def __init__(self, records: Audited) -> None:
        self._records = records
        self._warned: set[Work] = set()

    def close(self, session_id: str) -> tuple[Finding, ...]:
        """Compare a session that has ended, after its audit record was appended; for a thread, and never raises."""
        try:
            recorded, livekit = self._records.audited(session_id)
            if livekit is None:
                return ()
            findings = compare(recorded, livekit)
            log().info("session audited", session=session_id, **close_line(findings))
            self._warn(incomplete(recorded, livekit))
        except Exception as error:
            log().warning("a session could not be audited", session=session_id, error=type(error).__name__)
            return ()
        return findings

    def _warn(self, works: Iterable[Work]) -> None:
        for work in works:
            if work not in self._warned:
                self._warned.add(work)
                log().warning("incomplete usage: a component worked and never said how much", **work._asdict())


def audit_fields(rows: Iterable[LiveKitUsage]) -> dict[str, Any]:
    """Return what is special in the record that a meter appends when a session ends."""
    return {
        "component": "call",
        "provider": "livekit",
        "model": "agents",
        "quantities": {},
        "attributes": {LIVEKIT_KEY: livekit_fields(rows)},
    }


def add_record(recorded: Recorded, record: UsageRecord) -> None:
    """Take the quantities of one usage record into what was recorded."""
    work = Work(record.component, record.provider, record.model)
    names = Work(record.component, record.reported_provider or record.provider, record.reported_model or record.model)
    for unit, quantity in record.quantities.items():
        manner = Manner(record.outcome, record.basis.get(unit, "reported"), record.session_id is None)
        recorded.add(work, names, unit, quantity, manner)


def incomplete(recorded: Recorded, livekit: Iterable[LiveKitUsage]) -> list[Work]:
    """Name whoever finished work of which nobody knows how much it was: it is only estimated, or nothing at all."""
    known: dict[Work, bool] = {}
    for work, units in recorded.amounts.items():
        # Who was only connected did no work; who only made requests did.
        manners = [manner for unit in units.keys() - {"connection_seconds"} for manner in units[unit]]
        if work.component in _METERED and any(manner.outcome == "completed" for manner in manners):
            known[work] = any(_is_known(unit, manner) for unit in units for manner in units[unit])
    for row in livekit:
        work = recorded.work_of(row)
        if work not in recorded.amounts:
            known[work] = known.get(work, False) or bool(row.units)
    return sorted(work for work, is_known in known.items() if not is_known)


def _is_known(unit: str, manner: Manner) -> bool:
    return unit not in _BESIDE and manner.outcome != "discarded" and manner.basis in ("reported", "observed")


def close_line(findings: Collection[Finding]) -> dict[str, str]:
    """Return the keys and values of the log line about a session, beside its id.

    `livekit_missed`, `livekit_excess` (counted too much) and `not_recorded` (counted by LiveKit alone) are there where
    there is something to say, such as `tts cartesia sonic-3: 219 of 338 characters (interrupted)`; `agreed` counts the
    figures without a difference.
    """
    line: dict[str, str] = {}
    agreed = 0
    for finding in findings:
        difference = finding.difference
        if difference is None:
            continue
        if not finding.reasons:
            agreed += 1
            continue
        key = "not_recorded" if finding.ours is None else "livekit_missed" if difference > 0 else "livekit_excess"
        line[key] = "; ".join(filter(None, (line.get(key), _difference_text(finding, abs(difference)))))
    return {"agreed": str(agreed), **line}


def _difference_text(finding: Finding, amount: Decimal) -> str:
    whole = decimal_text(finding.ours if finding.ours is not None else amount)
    codes = ", ".join(reason.code for reason in finding.reasons)
    return f"{' '.join(finding.work)}: {decimal_text(amount)} of {whole} {finding.unit} ({codes})"


def livekit_usage(session: Any) -> tuple[LiveKitUsage, ...]:
    """Return what `session.usage` says, in disjoint units; nothing where this LiveKit has no such thing.

    A model that LiveKit lists with all counts at 0 has no units: it was at work, and nothing was counted.
    """
    entries = getattr(getattr(session, "usage", None), "model_usage", None) or ()
    return tuple(row for entry in entries for row in _rows(entry))


def _rows(entry: Any) -> Iterator[LiveKitUsage]:
    reader = _READERS.get(getattr(entry, "type", ""))
    if reader is None:
        return
    # Plugins report the host of their address with the credentials that stand before it.
    provider = (getattr(entry, "provider", "") or UNKNOWN).rpartition("@")[2] or UNKNOWN
    model = getattr(entry, "model", "") or UNKNOWN
    for component, units in reader(entry):
        yield LiveKitUsage(component, provider, model, {unit: amount for unit, amount in units.items() if amount > 0})


_Rows = Iterator[tuple[str, dict[str, Decimal]]]


def _count(entry: Any, name: str) -> Decimal:
    return Decimal(getattr(entry, name, 0) or 0)


def _seconds(entry: Any, name: str) -> Decimal:
    return Decimal(seconds_text(getattr(entry, name, 0.0) or 0.0))


def _llm(entry: Any) -> _Rows:
    split_input = sum((_count(entry, name) for name in _REALTIME_INPUT), Decimal(0))
    split_output = sum((_count(entry, name) for name in _REALTIME_OUTPUT), Decimal(0))
    fresh, spoken = _count(entry, "input_tokens") - split_input, _count(entry, "output_tokens") - split_output
    cached = _count(entry, "input_cached_tokens") - sum((_cached(entry, name) for name in _MODALITIES), Decimal(0))
    is_split = bool(split_input or split_output or getattr(entry, "session_duration", 0))
    only_split = is_split and fresh <= 0 and spoken <= 0
    if is_split:
        yield "realtime", _realtime_units(entry, cached if only_split else Decimal(0))
    if only_split:
        return
    # LiveKit keeps both kinds of model in one row; what has no modality is a language model's.
    written, reasoning = _count(entry, "input_cache_creation_tokens"), _count(entry, "output_reasoning_tokens")
    yield (
        "llm",
        {
            "input_tokens": fresh - cached - written,
            "cached_input_tokens": cached,
            "cache_write_tokens": written,
            "output_tokens": spoken - reasoning,
            "reasoning_tokens": reasoning,
        },
    )


def _cached(entry: Any, modality: str) -> Decimal:
    return _count(entry, f"input_cached_{modality}_tokens")


def _realtime_units(entry: Any, cached_somewhere: Decimal) -> dict[str, Decimal]:
    text, audio, image = (_count(entry, f"input_{modality}_tokens") for modality in _MODALITIES)
    cached_text, cached_audio, cached_image = (_cached(entry, modality) for modality in _MODALITIES)
    # Cached tokens of which the modality is not known are taken for text first, as in what is recorded.
    more_text = min(cached_somewhere, text - cached_text)
    cached_text, cached_audio = cached_text + more_text, cached_audio + cached_somewhere - more_text
    return {
        "input_tokens": text - cached_text,
        "cached_input_tokens": cached_text,
        "input_audio_tokens": audio - cached_audio,
        "cached_input_audio_tokens": cached_audio,
        "input_image_tokens": image - cached_image,
        "cached_input_image_tokens": cached_image,
        "output_tokens": _count(entry, "output_text_tokens"),
        "output_audio_tokens": _count(entry, "output_audio_tokens"),
        "session_seconds": _seconds(entry, "session_duration"),
    }


def _tts(entry: Any) -> _Rows:
    yield (
        "tts",
        {
            "characters": _count(entry, "characters_count"),
            "output_audio_seconds": _seconds(entry, "audio_duration"),
            "input_tokens": _count(entry, "input_tokens"),
            "output_audio_tokens": _count(entry, "output_tokens"),
        },
    )


def _stt(entry: Any) -> _Rows:
    whole, audio = _count(entry, "input_tokens"), _count(entry, "input_audio_tokens")
    yield (
        "stt",
        {
            "audio_seconds": _seconds(entry, "audio_duration"),
            # What a transcription model reads is audio; where the split is known, the rest is its text prompt.
            "input_audio_tokens": audio or whole,
            "input_tokens": whole - audio if audio else Decimal(0),
            "output_tokens": _count(entry, "output_tokens"),
        },
    )


def _requests(component: str) -> Callable[[Any], _Rows]:
    def reader(entry: Any) -> _Rows:
        yield component, {"requests": _count(entry, "total_requests")}

    return reader


_READERS: Mapping[str, Callable[[Any], _Rows]] = {
    "llm_usage": _llm,
    "tts_usage": _tts,
    "stt_usage": _stt,
    "interruption_usage": _requests("interruption"),
    "eot_usage": _requests("turn_detection"),
}
