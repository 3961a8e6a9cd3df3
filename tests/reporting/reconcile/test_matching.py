"""Both sides beside each other: names, units, requests and periods."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from livekit_costmeter.pricing import rate
from livekit_costmeter.records import UsageRecord
from livekit_costmeter.reporting.reconcile import (
    LedgerSide,
    ProviderLine,
    ProviderSide,
    Question,
    Thresholds,
    reconcile,
)
from livekit_costmeter.reporting.reconcile.matching.names import shared_names
from tests.reporting.reconcile.round_trip.run import prices

START = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def line(provider, model, component, unit, quantity, cost=None, **changes):
    """Return a statement about the first day."""
    money = {} if cost is None else {"cost": Decimal(cost), "currency": changes.pop("currency", "USD")}
    said = {"cost": None, "currency": None, "start": START, "end": START + DAY, **money, **changes}
    amount = None if quantity is None else Decimal(quantity)
    return ProviderLine(provider, model, component, unit, amount, **said)


def record(provider, component, model, quantities, **changes):
    """Return usage at nine o'clock of the first day."""
    amounts = {unit: Decimal(amount) for unit, amount in quantities.items()}
    fields = {"id": f"{model}{quantities}{changes}", "at": START + timedelta(hours=9), "key_owner": "platform"}
    return UsageRecord(component=component, provider=provider, model=model, quantities=amounts, **{**fields, **changes})


def compare(provider, records, lines, costs=(), **changes):
    """Put both sides beside each other."""
    question = Question(provider, START, START + 3 * DAY, **changes)
    theirs = ProviderSide(provider, question.window)
    theirs.add(lines)
    theirs.add(costs, of_costs=True)
    ours = LedgerSide(provider, request_ids=theirs.request_ids)
    ours.add(charge for each in records for charge in rate(each, prices()))
    ours.close()
    return reconcile(question, ours, theirs, Thresholds({}))


def units_of(found):
    """Return model and unit to both quantities, and the state."""
    return {
        (row.model, row.unit): (row.our_units, row.their_units, row.state) for row in found.rows if row.level == "unit"
    }


@pytest.mark.parametrize(
    ("ours", "theirs", "aliases", "shared"),
    [
        (["gpt-4o-mini"], ["gpt-4o-mini-2024-07-18"], {}, [("gpt-4o-mini", "gpt-4o-mini")]),
        (["gpt-4o-mini-2024-07-18"], ["gpt-4o-mini"], {}, [("gpt-4o-mini", "gpt-4o-mini")]),
        (["m-2024-07-18"], ["m-2024-07-18"], {}, [("m-2024-07-18", "m-2024-07-18")]),
        (["claude-haiku-4-5"], ["claude-haiku-4-5-20251001"], {}, [("claude-haiku-4-5", "claude-haiku-4-5")]),
        (["nova-3"], ["Nova-3-General"], {}, [("nova-3", "nova-3")]),
        (["mine"], ["theirs"], {"Theirs": "mine"}, [("mine", "mine")]),
        (["m-2024-07-18"], ["m-2025-01-01"], {}, [("m-2024-07-18", "m-2025-01-01")]),
    ],
)
def test_two_names_are_one_model_only_where_one_side_alone_tells_them_apart(ours, theirs, aliases, shared):
    """Dated snapshots, case and the user's aliases."""
    first, second = shared_names(ours, theirs, aliases)
    assert list(zip(first.values(), second.values(), strict=True)) == shared


def test_a_snapshot_that_both_sides_have_stays_a_model_of_its_own():
    """Beside the bare name, on both sides."""
    names = ["m", "m-2024-07-18"]
    first, second = shared_names(names, names, {})
    assert first == second == {"m": "m", "m-2024-07-18": "m-2024-07-18"}


def test_reasoning_is_output_for_a_provider_that_does_not_tell_it_apart():
    """Our two units are one of theirs."""
    ours = record("openai", "llm", "gpt-4.1", {"output_tokens": "60", "reasoning_tokens": "40"})
    found = compare("openai", [ours], [line("openai", "gpt-4.1", "llm", "output_tokens", "100")])
    assert units_of(found) == {("gpt-4.1", "output_tokens"): (100, 100, "agrees")}


def test_quantities_of_a_cost_file_are_not_added_to_those_of_the_usage_file():
    """They are the same usage again; without a usage file they are all there is."""
    ours = record("openai", "llm", "gpt-4.1", {"input_tokens": "100"})
    usage = line("openai", "gpt-4.1", "llm", "input_tokens", "100")
    cost = line("openai", "gpt-4.1", "llm", "input_tokens", "100", "0.0002")
    for lines in ([usage], []):
        found = compare("openai", [ours], lines, [cost])
        assert units_of(found) == {("gpt-4.1", "input_tokens"): (100, 100, "agrees")}
        assert found.total.cost_difference == 0


def test_requests_one_by_one_are_joined_by_their_ids():
    """How many are in the ledger is said, and which are not."""
    ids = ["aaa", "bbb", "ccc"]
    when = START + timedelta(hours=9)
    lines = [
        line(
            "deepgram",
            "nova-3",
            "stt",
            "audio_seconds",
            "10",
            start=when,
            end=when + timedelta(seconds=9),
            request_id=i,
        )
        for i in ids
    ]
    records = [record("deepgram", "stt", "nova-3", {"audio_seconds": "10"}, operation_id=i) for i in ids[:2]]
    found = compare("deepgram", records, lines)
    assert "by request id, 2 of 3 requests of the provider are in the ledger; not ccc" in found.notes
    assert [finding.code for finding in found.findings] == ["missed_usage"]


def test_a_summary_beside_single_requests_counts_once():
    """The requests say the same usage again."""
    when = START + timedelta(hours=9)
    request = line(
        "deepgram", "nova-3", "stt", "audio_seconds", "10", start=when, end=when + timedelta(seconds=9), request_id="a"
    )
    summary = line("deepgram", "nova-3", "stt", "audio_seconds", "10")
    found = compare("deepgram", [record("deepgram", "stt", "nova-3", {"audio_seconds": "10"})], [request, summary])
    assert units_of(found) == {("nova-3", "audio_seconds"): (10, 10, "agrees")}


def test_a_file_that_names_no_model_is_about_all_of_them():
    """All our models of that kind are one row."""
    records = [
        record("deepgram", "stt", "nova-3", {"audio_seconds": "10"}),
        record("deepgram", "stt", "nova-2", {"audio_seconds": "5"}),
    ]
    found = compare("deepgram", records, [line("deepgram", None, "stt", "audio_seconds", "15")])
    assert units_of(found) == {("all models", "audio_seconds"): (15, 15, "agrees")}


def test_credits_are_no_money_and_are_said():
    """They are not compared with dollars, and the row has them as a note."""
    ours = record("elevenlabs", "tts", "eleven_flash_v2_5", {"characters": "100"}, basis={"characters": "observed"})
    lines = [
        line("elevenlabs", "eleven_flash_v2_5", "tts", "characters", "100"),
        line("elevenlabs", "eleven_flash_v2_5", "tts", None, None, "50", currency="credits"),
    ]
    found = compare("elevenlabs", [ours], lines)
    row = found.rows[0]
    assert (row.state, row.their_cost, row.cost_percent) == ("agrees", None, None)
    assert row.notes == ("the provider states 50 credits",)
    assert "amounts in credits are not compared" in found.notes


def test_one_sided_models_have_no_percentage_and_are_not_in_the_total():
    """Each is marked with the side that is missing."""
    ours = record("openai", "llm", "gpt-4.1", {"input_tokens": "100"})
    found = compare("openai", [ours], [line("openai", "gpt-4o-mini", "llm", "input_tokens", "7")])
    states = {row.model: (row.state, row.unit_percent) for row in found.rows if row.level == "model"}
    assert states == {"gpt-4.1": ("no_provider_data", None), "gpt-4o-mini": ("no_meter_data", None)}
    assert (found.left_out, found.total.our_units, found.over) == (2, None, True)


def test_lines_outside_of_the_period_are_left_out_and_counted():
    """A file may have more days than are asked for."""
    inside, outside = (
        line("openai", "gpt-4.1", "llm", "input_tokens", "100", start=s, end=s + DAY)
        for s in (
            START,
            START + 9 * DAY,
        )
    )
    found = compare("openai", [record("openai", "llm", "gpt-4.1", {"input_tokens": "100"})], [inside, outside])
    assert units_of(found) == {("gpt-4.1", "input_tokens"): (100, 100, "agrees")}
    assert any("1 lines of the provider are outside" in note for note in found.notes)


def test_a_stream_whose_seconds_have_another_name_is_compared_all_the_same():
    """We bill the connection, the provider states audio: it is the same second."""
    ours = record("deepgram", "stt", "nova-3", {"connection_seconds": "12"})
    found = compare("deepgram", [ours], [line("deepgram", "nova-3", "stt", "audio_seconds", "12")])
    assert units_of(found) == {("nova-3", "connection_seconds"): (12, 12, "agrees")}
