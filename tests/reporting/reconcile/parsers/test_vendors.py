"""The other providers, one small export each."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from livekit_costmeter.reporting.reconcile import CREDITS, ExportError, open_export

EXPORTS = Path(__file__).parent.parent / "exports"
WINDOW = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)


def read(file, **options):
    return list(open_export(EXPORTS / file, **options)[1])


def brief(lines):
    return [(line.model, line.component, line.unit, line.quantity, line.cost) for line in lines]


def test_deepgram_usage_counts_hours_in_seconds_and_days_as_inclusive():
    """Billed hours are seconds to the microsecond; the last day of a grouping is part of it."""
    lines = read("deepgram_usage.json")
    assert brief(lines[:3]) == [
        ("Nova-2", "stt", "audio_seconds", Decimal("5838262.485"), None),
        ("Nova-2", "realtime", "connection_seconds", Decimal("148808.318"), None),
        ("Nova-2", "tts", "characters", 9158866, None),
    ]
    assert (lines[0].start, lines[0].end) == (datetime(2025, 1, 16, tzinfo=UTC), datetime(2025, 1, 17, tzinfo=UTC))
    assert lines[0].key == "0123456789ab"


def test_deepgram_rows_of_several_models_are_not_split():
    """Which model had how much is not in the file, so no model is named."""
    line = read("deepgram_usage.json")[-2]
    assert (line.model, line.detail, line.quantity) == (None, "Nova-2, Nova-3", 9000)


def test_deepgram_billing_takes_the_model_from_the_line_item():
    """`streaming::nova-3` is Nova 3, and Aura is speech."""
    assert brief(read("deepgram_billing.json")) == [
        ("nova-3", "stt", None, None, Decimal("0.25")),
        ("aura-2", "tts", None, None, Decimal("0.03")),
    ]


def test_deepgram_requests_are_joined_by_their_id():
    """One line per request, with seconds and cost where the details have them."""
    heard, refused = read("deepgram_requests.json")
    assert (heard.request_id, heard.quantity, heard.cost) == ("req-one", Decimal("20.15"), Decimal("0.0015"))
    assert (refused.request_id, refused.unit, refused.quantity, refused.cost) == ("req-two", "requests", 1, None)


def test_anthropic_amounts_are_cents():
    """`"123.45"` is one dollar and 23.45 cents."""
    tokens, search = read("anthropic_cost.json")
    assert (tokens.cost, tokens.currency, tokens.unit) == (Decimal("1.2345"), "USD", "input_tokens")
    assert (search.cost, search.model, search.unit) == (Decimal("0.1"), None, None)


def test_anthropic_usage_keeps_cache_writes_of_both_lifetimes_apart():
    """Their prices differ; batch is the tier."""
    lines = read("anthropic_usage.json")
    writes = [(line.quantity, line.detail) for line in lines if line.unit == "cache_write_tokens"]
    assert writes == [
        (1000, "cache_creation.ephemeral_1h_input_tokens"),
        (500, "cache_creation.ephemeral_5m_input_tokens"),
    ]
    assert {line.service_tier for line in lines} == {"batch"}
    assert sum(line.quantity for line in lines) == 1500 + 1000 + 500 + 200 + 500


def test_elevenlabs_credits_stay_credits_and_minutes_become_seconds():
    """The unit of a column tells what is in it; a day is the step between the times."""
    lines = read("elevenlabs_analytics.json")
    assert [(line.cost, line.currency) for line in lines if line.cost] == [
        (Decimal("125.5"), CREDITS),
        (Decimal("4.5"), CREDITS),
        (10, CREDITS),
    ]
    assert (lines[1].unit, lines[1].quantity, lines[1].component) == ("audio_seconds", 450, "stt")
    assert {(line.end - line.start).days for line in lines} == {1}


def test_elevenlabs_character_stats_are_credits_by_day():
    """The deprecated series has times in milliseconds; zeros say nothing."""
    (line,) = read("elevenlabs_character_stats.json")
    assert (line.model, line.cost, line.currency) == ("eleven_turbo_v2_5", 100, CREDITS)
    assert line.start == datetime(2026, 8, 30, tzinfo=UTC)


def test_cartesia_has_credits_without_a_model_and_cents_of_agents():
    """Credits are not turned into characters; cents are dollars."""
    (credit,), (agent,) = read("cartesia_credits.json"), read("cartesia_agents.json")
    assert (credit.cost, credit.currency, credit.model, credit.unit) == (123, CREDITS, None, None)
    assert (agent.cost, agent.currency, agent.quantity) == (Decimal("1.5"), "USD", 1500)


def test_twilio_categories_that_contain_each_other_count_once():
    """Leaves, and what the outer categories have beyond them, add up to the total price."""
    lines = read("twilio_usage.json")
    assert sum(line.cost for line in lines) == Decimal("2.5")
    assert sum(line.quantity for line in lines if line.unit == "call_seconds") == 100 * 60
    assert "calls-inbound" not in {line.detail for line in lines}
    assert lines[0].end == datetime(2026, 6, 1, tzinfo=UTC)


def test_twilio_categories_may_come_in_any_order(tmp_path):
    """An outer category after its parts gives the same lines."""
    import json

    page = json.loads((EXPORTS / "twilio_usage.json").read_text())
    page["usage_records"].reverse()
    path = tmp_path / "records.json"
    path.write_text(json.dumps(page))
    found = {(line.detail, line.cost, line.quantity) for line in open_export(path)[1]}
    assert found == {(line.detail, line.cost, line.quantity) for line in read("twilio_usage.json")}


def test_twilio_calls_turn_the_sign_and_wait_for_their_price():
    """A price is taken from the balance; one that is not there yet is unknown, not 0."""
    priced, unrated = read("twilio_calls.json")
    assert (priced.request_id, priced.quantity, priced.cost) == ("CA1", 65, Decimal("0.017"))
    assert (unrated.cost, unrated.currency, unrated.quantity) == (None, None, 65)
    (row,) = read("twilio_calls.csv")
    assert (row.start, row.cost, row.quantity) == (priced.start, priced.cost, priced.quantity)


def test_google_costs_are_net_of_credits():
    """Cost plus its negative credits, from rows of JSON and of CSV."""
    heard, thought = read("google_billing.jsonl")
    assert (heard.component, heard.unit, heard.quantity, heard.cost) == ("stt", "audio_seconds", 3600, Decimal("0.8"))
    assert (thought.component, thought.unit, thought.model) == ("llm", "input_tokens", None)
    (spoken,) = read("google_billing.csv")
    assert (spoken.unit, spoken.quantity, spoken.cost) == ("characters", 1000, Decimal("0.00001"))


def test_voicegateway_files_need_a_provider_and_a_window():
    """Neither is in the file, so neither is guessed."""
    with pytest.raises(ExportError, match=r"does not say whose it is; give --provider"):
        read("voicegateway_openai.csv", window=WINDOW)
    with pytest.raises(ExportError, match="the file has no dates"):
        read("voicegateway_openai.csv", provider="openai")
    lines = read("voicegateway_openai.csv", provider="openai", window=WINDOW)
    assert brief(lines[:4]) == [
        ("gpt-4o-mini", "llm", "input_tokens", 1_000_000, None),
        ("gpt-4o-mini", "llm", "output_tokens", 500_000, None),
        ("gpt-4o-mini", "llm", "requests", 500, None),
        ("gpt-4o-mini", "llm", None, None, Decimal("0.225")),
    ]
    assert {(line.start, line.end) for line in lines} == {WINDOW}


def test_voicegateway_sisters_of_speech_are_read_too():
    """Seconds are recognition, characters are speech; the list of objects is the same as the CSV."""
    heard = read("voicegateway_deepgram.csv", provider="deepgram", window=WINDOW)
    spoken = read("voicegateway_cartesia.json", provider="cartesia", window=WINDOW)
    assert (heard[0].component, heard[0].unit, heard[0].quantity) == ("stt", "audio_seconds", 3000)
    assert (spoken[0].component, spoken[0].unit, spoken[0].quantity) == ("tts", "characters", 2_500_000)
    assert [(line.cost, line.currency) for line in spoken if line.cost] == [(30, "USD"), (250_000, CREDITS)]
