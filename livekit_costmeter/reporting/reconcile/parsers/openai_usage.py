"""
The usage CSV of OpenAI's dashboard: completions, audio speeches, audio transcriptions.

Columns since 2025-10::

    (
        start_time,
        end_time,
        start_time_iso,
        end_time_iso,
        project_id,
        num_model_requests,
        user_id,
        api_key_id,
        model,
        batch,
    )
    (
        service_tier,
        input_tokens,
        output_tokens,
        input_cached_tokens,
        input_uncached_tokens,
        input_text_tokens,
    )
    (
        output_text_tokens,
        input_cached_text_tokens,
        input_audio_tokens,
        input_cached_audio_tokens,
        output_audio_tokens,
    )
    input_image_tokens, input_cached_image_tokens, output_image_tokens

and since 2026 `input_cache_write_tokens` too; speeches have `characters`, transcriptions `seconds`. Times are Unix
seconds, counts are written `59200.0`, a bucket without usage is a row with nothing but its times, and an export
without any usage has the four columns of times alone. Reasoning is part of the output and not told apart.

Invariant: the units of a row are disjoint and add up to what the row says in total: input = uncached + cached + cache
writes, each less its audio and image parts, which are lines of their own. A row whose parts do not add up is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

from livekit_costmeter.reporting.reconcile.lines import ProviderLine
from livekit_costmeter.reporting.reconcile.reading import Export, Group, Head, grouped
from livekit_costmeter.reporting.reconcile.reading.cells import CellError

Said = Callable[[str], Decimal | None]
Part = tuple[str, Decimal, str | None]

_TIMES = ("start_time", "end_time", "start_time_iso", "end_time_iso")
_TEXTS = ("model", "api_key_id", "batch", "service_tier")
_COUNTS = ("input_tokens", "characters", "seconds")
_NAMES: tuple[tuple[str, str | None], ...] = (
    ("realtime", "realtime"),
    ("transcribe", "stt"),
    ("whisper", "stt"),
    ("tts", "tts"),
    ("embedding", None),
    ("moderation", None),
    ("image", None),
    ("dall-e", None),
)
_INPUTS = (
    "input_tokens",
    "input_cached_tokens",
    "input_cache_write_tokens",
    "input_audio_tokens",
    "input_cached_audio_tokens",
    "input_image_tokens",
    "input_cached_image_tokens",
)
_OUTPUTS = ("output_tokens", "output_text_tokens", "output_audio_tokens", "output_image_tokens")
_SPLITS = ("input_uncached_tokens", "input_text_tokens")
_NUMBERS = dict.fromkeys((*_INPUTS, *_SPLITS, *_OUTPUTS, "characters", "seconds", "num_model_requests"), False)
_NOTHING = Decimal(0)


def component_of(model: str | None) -> str | None:
    """Tell what a model of OpenAI does from its id, by OpenAI's own naming."""
    if model is None:
        return None
    return next((component for word, component in _NAMES if word in model.lower()), "llm")


def tier_of(batch: str | None, tier: str | None) -> str | None:
    """Return the service tier; batched work is a tier of its own."""
    return "batch" if (batch or "").lower() == "true" else tier


def usage_parts(said: Said) -> list[Part]:
    """
    Split what one row or result says into disjoint units, without those that are 0.

    Raises:
        CellError: Its parts do not add up.
    """
    parts: list[Part] = []
    if said("input_tokens") is not None or said("output_tokens") is not None:
        parts = [*_input_parts(said), *_output_parts(said)]
    parts.append(("characters", said("characters") or _NOTHING, None))
    parts.append(("audio_seconds", said("seconds") or _NOTHING, None))
    parts.append(("requests", said("num_model_requests") or _NOTHING, None))
    return [part for part in parts if part[1]]


def _input_parts(said: Said) -> list[Part]:
    total, cached, written, audio, cached_audio, image, cached_image = (said(name) or _NOTHING for name in _INPUTS)
    uncached = said("input_uncached_tokens")
    if uncached is not None and uncached + cached + written != total:
        raise CellError(f"input_tokens {total} is not {uncached} uncached + {cached} cached + {written} cache writes")
    if _parts_include_cached(said, total - cached - written, cached + written):
        audio, image = audio - cached_audio, image - cached_image
    parts: list[Part] = [
        ("input_tokens", total - cached - written - audio - image, None),
        ("cached_input_tokens", cached - cached_audio - cached_image, None),
        ("cache_write_tokens", written, None),
        ("input_audio_tokens", audio, None),
        ("cached_input_audio_tokens", cached_audio, None),
        ("input_image_tokens", image, None),
        ("cached_input_image_tokens", cached_image, None),
    ]
    return _checked(parts, "input")


def _parts_include_cached(said: Said, uncached: Decimal, cached: Decimal) -> bool:
    """
    Tell whether the audio and image columns count cached tokens too.

    The documentation says that they do not; exports from before the column `input_uncached_tokens` had them counted.
    The text column tells, because the parts add up to the uncached tokens in the one case, and to all in the other.
    """
    text = said("input_text_tokens")
    other = (said("input_audio_tokens") or _NOTHING) + (said("input_image_tokens") or _NOTHING)
    if text is None or (not text and not other) or text + other == uncached:
        return False
    if text + other == uncached + cached:
        return True
    raise CellError(
        f"{text} text + {other} audio and image input tokens are neither the {uncached} uncached nor the "
        f"{uncached + cached} of all"
    )


def _output_parts(said: Said) -> list[Part]:
    total, text, audio, image = (said(name) or _NOTHING for name in _OUTPUTS)
    if text and text + audio + image != total:
        raise CellError(f"output_tokens {total} is not {text} text + {audio} audio + {image} image")
    parts: list[Part] = [
        ("output_tokens", total - audio - image, None),
        ("output_audio_tokens", audio, None),
        ("output_tokens", image, "output_image_tokens"),
    ]
    return _checked(parts, "output")


def _checked(parts: list[Part], side: str) -> list[Part]:
    for unit, quantity, _ in parts:
        if quantity < 0:
            raise CellError(f"the parts of the {side} are more than the whole: {unit} would be {quantity}")
    return parts


class _UsageCsv:
    """All three kinds of usage; the columns tell which."""

    name = "openai-usage-csv"
    provider = "openai"

    def recognises(self, head: Head) -> bool:
        if head.columns == _TIMES:
            return True
        counted = any(column in head.columns for column in _COUNTS)
        return counted and {"start_time", "end_time", "num_model_requests"} <= set(head.columns)

    def read(self, export: Export) -> Iterator[ProviderLine]:
        with export.table() as table:
            table.require(("start_time", "end_time"))
            if table.columns != _TIMES:
                table.require(("num_model_requests",))
            for group in grouped(table, ("start_time", "end_time"), _TEXTS, _NUMBERS):
                yield from _lines(group)


def _lines(group: Group, *, alone: bool = False) -> Iterator[ProviderLine]:
    try:
        parts = usage_parts(group.total)
    except CellError as error:
        if alone:
            raise group.error(str(error)) from None
        # One row is wrong, or the rows count in different ways; each of them can tell.
        for row in group.split():
            yield from _lines(row, alone=True)
        return
    if not parts:
        return
    model, (start, end) = group.text("model"), group.period
    component = _component(group, model)
    tier, key = tier_of(group.text("batch"), group.text("service_tier")), group.text("api_key_id")
    for unit, quantity, detail in parts:
        yield ProviderLine(
            "openai", model, component, unit, quantity, None, None, start, end, key, None, tier, detail, group.place
        )


def _component(group: Group, model: str | None) -> str | None:
    if group.total("characters") is not None:
        return "tts"
    return "stt" if group.total("seconds") is not None else component_of(model)


PARSERS = [_UsageCsv()]
