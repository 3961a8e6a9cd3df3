"""OpenAI: usage and cost CSV of both years, and the pages of the API."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from livekit_costmeter.reporting.reconcile import ExportError, open_export
from livekit_costmeter.reporting.reconcile.parsers.openai_cost import item_of
from livekit_costmeter.reporting.reconcile.parsers.openai_usage import component_of

EXPORTS = Path(__file__).parent.parent / "exports"
PARTS = {
    "input_tokens": 400,
    "cached_input_tokens": 300,
    "cache_write_tokens": 100,
    "input_audio_tokens": 50,
    "cached_input_audio_tokens": 50,
    "input_image_tokens": 50,
    "cached_input_image_tokens": 50,
    "output_tokens": 450,  # text and images, in two lines
    "output_audio_tokens": 50,
    "requests": 5,
}


@pytest.mark.parametrize(
    ("model", "component"),
    [
        ("gpt-4o-mini", "llm"),
        ("gpt-4o-mini-realtime-preview", "realtime"),
        ("gpt-4o-transcribe", "stt"),
        ("gpt-4o-mini-tts", "tts"),
        ("text-embedding-3-small", None),
        (None, None),
    ],
)
def test_the_id_of_a_model_tells_what_it_does(model, component):
    """OpenAI names its models by their work; what is not voice work has no component."""
    assert component_of(model) == component


def read(path):
    return list(open_export(path)[1])


def sums(lines):
    found = {}
    for line in lines:
        found[line.unit] = found.get(line.unit, 0) + line.quantity
    return found


def test_the_published_day_adds_up_to_its_bill():
    """80992 tokens in and 274770 out at list price are the 0.569788 billed, to the last digit."""
    usage = sums(read(EXPORTS / "openai_completions_2025.csv"))
    assert usage == {"input_tokens": 80992, "output_tokens": 274770, "requests": 49}
    million = Decimal(1_000_000)
    priced = usage["input_tokens"] * Decimal("0.25") / million + usage["output_tokens"] * Decimal("2.00") / million
    billed = [line.cost for line in read(EXPORTS / "openai_cost_2025.csv")]
    assert priced == sum(billed) == Decimal("0.569788")


def test_empty_days_and_empty_exports_are_no_lines():
    """A bucket with nothing but its times says nothing, and neither does an export of such buckets."""
    assert {line.start for line in read(EXPORTS / "openai_completions_2025.csv")} == {datetime(2025, 10, 7, tzinfo=UTC)}
    assert read(EXPORTS / "openai_nothing.csv") == []


def test_audio_images_and_cache_are_disjoint_in_csv_and_pages():
    """Uncached, cached and cache writes, less their audio and image parts, add up to the input; CSV and API agree."""
    page = read(EXPORTS / "openai_usage_page.json")
    assert sums(page) == PARTS
    rows = [line for line in read(EXPORTS / "openai_completions_2026.csv") if line.model == "gpt-realtime"]
    assert sums(rows) == {unit: 2 * quantity for unit, quantity in PARTS.items()}
    assert {line.component for line in [*page, *rows]} == {"realtime"}


def test_minutes_are_added_to_their_hour_and_batches_kept_apart():
    """Buckets of minutes become an hour per model, key and tier; batched work is a tier of its own."""
    lines = read(EXPORTS / "openai_completions_2026.csv")
    assert {(line.start.minute, line.end.hour) for line in lines} == {(0, 1)}
    assert {(line.key, line.service_tier) for line in lines} == {("key_one", "default"), ("key_two", "batch")}


def test_speech_and_transcription_have_their_units():
    """Characters are speech, seconds are transcription, in CSV and in pages."""
    speech, heard = read(EXPORTS / "openai_speeches.csv"), read(EXPORTS / "openai_transcriptions.csv")
    assert [(line.component, line.unit, line.quantity) for line in (*speech, *heard)] == [
        ("tts", "characters", 1234),
        ("tts", "requests", 4),
        ("stt", "audio_seconds", Decimal("125.5")),
        ("stt", "requests", 3),
    ]
    pages = read(EXPORTS / "openai_pages.jsonl")
    assert sums(line for line in pages if line.unit != "requests") == {"characters": 45, "audio_seconds": 20}


def edit(tmp_path, **cells):
    header, row = (EXPORTS / "openai_completions_2026.csv").read_text().splitlines()[:2]
    values = dict(zip(header.split(","), row.split(","), strict=True)) | cells
    path = tmp_path / "usage.csv"
    path.write_text("\n".join([header, row, ",".join(values.values()), row]) + "\n")
    return path


@pytest.mark.parametrize(
    "cells",
    [
        {"input_uncached_tokens": "499"},
        {"input_text_tokens": "401"},
        {"output_text_tokens": "1"},
        {"output_audio_tokens": "600", "output_text_tokens": "0"},
    ],
)
def test_parts_that_do_not_add_up_are_refused_with_the_line_of_the_row(tmp_path, cells):
    """Rows are summed, but the one that is wrong is found."""
    with pytest.raises(ExportError, match=r"usage.csv:3: "):
        read(edit(tmp_path, **cells))


def test_audio_that_counts_its_cached_part_is_seen_by_the_sums(tmp_path):
    """Where the parts add up to all tokens instead of the uncached ones, the cached part is taken out of each."""
    cells = {"input_text_tokens": "800", "input_audio_tokens": "100", "input_image_tokens": "100"}
    lines = read(edit(tmp_path, **cells))
    assert sums(lines) == {unit: 3 * quantity for unit, quantity in PARTS.items()}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"input_tokens": "-1"}, "input_tokens: `-1` is negative"),
        ({"input_tokens": "NaN"}, "input_tokens: `NaN` is not a number"),
        ({"output_tokens": "1e999"}, "out of range"),
        ({"num_model_requests": "=1+1"}, "num_model_requests: `=1[+]1` is not a number"),
        ({"model": '=HYPERLINK("x")'}, "model: .* is a formula"),
        ({"model": "a\0b"}, "model: `a[?]b` has control characters"),
        ({"start_time": "28.09.2026"}, "`28.09.2026` is not a time"),
        ({"end_time": "0"}, "`0` is not a time"),
    ],
)
def test_a_hostile_cell_names_its_column_and_line(tmp_path, cells, message):
    """One bad cell among good rows is one message."""
    path = edit(tmp_path, **cells)
    path.write_text(path.read_text().replace('=HYPERLINK("x")', '"=HYPERLINK(""x"")"'))
    with pytest.raises(ExportError, match=rf"usage.csv:3: .*{message}|usage.csv:3: {message}"):
        read(path)


def test_a_cost_keeps_every_digit_and_its_own_quantity():
    """Amounts are exact; thousands of tokens become tokens; a total without a line item is money alone."""
    total, item = read(EXPORTS / "openai_cost_2026.csv")
    assert (str(total.cost), total.unit, total.model) == ("0.003835980000000000000000000000", None, None)
    assert (item.model, item.unit, item.quantity, item.key) == ("gpt-5-nano", "input_tokens", 12500, "key_one")


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("gpt-4o-2024-08-06, cached input", ("gpt-4o-2024-08-06", "cached_input_tokens")),
        ("gpt-realtime, input_audio_tokens", ("gpt-realtime", "input_audio_tokens")),
        ("gpt-realtime, cached_audio_input_tokens", ("gpt-realtime", "cached_input_audio_tokens")),
        ("gpt-5-mini, output", ("gpt-5-mini", "output_tokens")),
        ("gpt-5-mini, something new", ("gpt-5-mini", None)),
        ("whisper-1", ("whisper-1", None)),
        ("Web search tool calls", (None, None)),
        (None, (None, None)),
    ],
)
def test_a_line_item_tells_model_and_unit(item, expected):
    """What the item names is used, what is new stays unknown."""
    assert item_of(item) == expected


def test_costs_of_pages_have_their_unit():
    """A page of costs gives the same as a row of the CSV."""
    (line,) = read(EXPORTS / "openai_costs_pages.json")
    assert (line.model, line.unit, line.cost) == ("gpt-4o-mini-2024-07-18", "cached_input_tokens", Decimal("0.06"))
    assert (line.currency, line.quantity) == ("USD", None)


def test_a_kind_of_result_that_is_new_is_refused(tmp_path):
    """Embeddings are passed over because they are known; what is not known may be voice work."""
    path = tmp_path / "pages.jsonl"
    path.write_text((EXPORTS / "openai_pages.jsonl").read_text().replace("audio_transcriptions", "telepathy"))
    with pytest.raises(ExportError, match=r"pages.jsonl:2#data\[0\]\.results\[0\]\.object: .*telepathy"):
        read(path)
