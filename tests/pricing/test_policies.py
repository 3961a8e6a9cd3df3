"""What providers make of what was measured: the rows, and what they do to an operation's records."""

from datetime import UTC, date, datetime
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.pricing.policies import Policy, PolicyModel, PolicyTable, find_repeated, shipped_policies
from livekit_costmeter.pricing.providers import identify
from livekit_costmeter.pricing.ratecards import RateCard, overrides_card
from livekit_costmeter.pricing.schema import RateCardFile
from livekit_costmeter.records import UsageRecord

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ROW = {"id": "ours", "provider": "acme", "component": "stt", "billed_by": "audio", "read_on": "2026-11-01"}
PRICE = {"provider": "acme", "model": "*", "unit": "audio_seconds", "price": "0.01"}


def policy(**fields):
    """Return a user's policy; what every row needs has a default."""
    return Policy.of(PolicyModel.model_validate({**ROW, **fields}), own=True)


def book(*rows, price=PRICE):
    """Return a book with one price and these rows as the user's."""
    card = RateCard.from_model(RateCardFile.model_validate({"name": "card", "rates": [price]}), "0123456789ab")
    policies = [PolicyModel.model_validate({**ROW, **row}) for row in rows]
    return PriceBook([card], catalogs=(), overrides=overrides_card([]), policies=policies)


def stream(*windows, unit="audio_seconds", closed=True, outcome="completed"):
    """Return the records of one operation; the last one carries the total unless it was killed."""
    amounts = [Decimal(str(window)) for window in windows]
    total = {unit: sum(amounts, Decimal(0))}
    return [
        UsageRecord(
            f"r{number}",
            NOON,
            "stt",
            "acme",
            "m",
            {unit: amount},
            operation_id="op",
            operation_total=total if closed and number == len(amounts) - 1 else None,
            outcome=outcome if number == len(amounts) - 1 else "completed",
        )
        for number, amount in enumerate(amounts)
    ]


def billables(records, prices):
    """Rate records of one unit and return what each bills."""
    return [charge.billable_quantity for record in records for charge in rate(record, prices)]


# The shipped rows.


def test_every_shipped_row_names_a_public_page_and_a_date():
    """A row without a source cannot ship, ids are unique, and no two rows are about the same work."""
    rows = shipped_policies()
    assert len(rows) > 15
    assert all(row.source.startswith("https://") and row.read_on >= date(2026, 11, 20) for row in rows)
    assert find_repeated(rows) is None


def test_shipped_rows_use_canonical_providers():
    """A row under a name that nothing resolves to would never apply."""
    carriers = {"plivo", "ultravox", "twilio", "telnyx"}
    for row in shipped_policies():
        identity = identify(row.component, row.provider, "x")
        assert identity.provider == row.provider
        assert identity.reason == "name" or row.provider in carriers


@pytest.mark.parametrize(
    ("component", "provider", "model", "row"),
    [
        ("stt", "deepgram", "nova-3", "deepgram-stt"),
        ("stt", "livekit", "deepgram/nova-3", "livekit-inference-stt"),
        ("stt", "groq", "whisper-large-v3-turbo", "groq-whisper"),
        ("call", "twilio", "us-local-inbound", "twilio-voice"),
        ("llm", "groq", "llama-3.3-70b", None),
        ("stt", "elevenlabs", "scribe_v2", None),
    ],
)
def test_a_row_applies_to_its_provider_component_and_model(component, provider, model, row):
    """A provider without a row has no policy: nothing is assumed by analogy."""
    found = PolicyTable().find(provider, [model], component)
    assert (found and found.row.id) == row


@pytest.mark.parametrize(
    ("provider", "seconds", "expected"),
    [("Amazon Transcribe", "4.2", 15), ("Amazon Transcribe", "15.1", 16), ("fishaudio", "4.2", 5)],
)
def test_shipped_amounts_reach_the_charge(record, shipped, provider, seconds, expected):
    """A request is billed in its provider's steps and not below its minimum, and says by which row."""
    total = {"audio_seconds": Decimal(seconds)}
    price = {**PRICE, "provider": provider}
    made = record("stt", provider, "unknown", audio_seconds=seconds, operation_total=total)
    (charge,) = rate(made, book(price=price))
    assert (charge.quantity, charge.billable_quantity) == (Decimal(seconds), expected)
    assert charge.cost == Decimal("0.01") * expected
    assert "?policy=" in charge.pricing_source
    assert charge.pricing_source.endswith("@2026-11-20")


def test_a_call_is_rounded_up_to_its_carriers_minute(record, lines, shipped):
    """Seventy seconds of a Twilio leg are two minutes; the quantity stays what was measured."""
    made = record("call", "twilio", "us-local-inbound", call_seconds=70, operation_total={"call_seconds": Decimal(70)})
    charge = lines(made, shipped)["call_seconds"]
    assert (charge.quantity, charge.billable_quantity, charge.cost) == (70, 120, Decimal("0.017"))
    assert charge.pricing_source.endswith("policy=twilio-voice@2026-11-20")


# Which measure is billed.


def test_connection_time_is_billed_where_the_row_says_so(record, lines, shipped):
    """The audio line is free, names the billed one and the row; the billed line has the seconds connected."""
    charges = lines(record("stt", "AssemblyAI", "universal-3-5-pro", audio_seconds=1, connection_seconds=60), shipped)
    assert charges["connection_seconds"].billable_quantity == 60
    assert (charges["audio_seconds"].cost, charges["audio_seconds"].pricing_status) == (0, "free")
    assert charges["audio_seconds"].pricing_source.endswith(
        "?billed_in=connection_seconds&policy=assemblyai-streaming@2026-11-20"
    )


def test_a_gateway_rate_for_audio_is_a_rate_for_its_connection(record, lines, shipped):
    """A price that a catalog has per second of audio is applied to the seconds that are billed, and says so once."""
    charges = lines(record("stt", "livekit", "deepgram/nova-3", audio_seconds=1, connection_seconds=60), shipped)
    flags = charges["connection_seconds"].pricing_source.partition("?")[2].split("&")
    assert "billed_as=audio_seconds" in flags
    assert flags.count("policy=livekit-inference-stt@2026-11-20") == 1
    assert charges["connection_seconds"].cost > 0
    assert charges["audio_seconds"].cost == 0


def test_the_user_can_turn_the_measure_round(record, lines):
    """A user's row wins over the shipped one for the same work, also over the unit of a rate card."""
    row = {"id": "dg", "provider": "Deepgram", "billed_by": "connection"}
    price = {**PRICE, "provider": "deepgram"}
    made = record("stt", "deepgram", "nova-3", audio_seconds=10, connection_seconds=30)
    before, after = lines(made, book(price=price)), lines(made, book(row, price=price))
    assert (before["audio_seconds"].cost, before["connection_seconds"].cost) == (Decimal("0.1"), 0)
    assert (after["audio_seconds"].cost, after["connection_seconds"].cost) == (0, Decimal("0.3"))
    assert "policy=dg@2026-11-01" in after["audio_seconds"].pricing_source
    assert "policy=dg@2026-11-01" in after["connection_seconds"].pricing_source


def test_audio_can_be_billed_where_the_shipped_row_says_connection(record, lines):
    """It works both ways, from the shipped prices too."""
    rows = [PolicyModel.model_validate({**ROW, "provider": "assemblyai"})]
    made = record("stt", "AssemblyAI", "universal-3-5-pro", audio_seconds=3600, connection_seconds=7200)
    charges = lines(made, PriceBook(policies=rows))
    assert (charges["audio_seconds"].cost, charges["connection_seconds"].cost) == (Decimal("0.45"), 0)


def test_a_users_row_turns_tokens_into_seconds(record, lines):
    """A contract by the second for a token-billed model is a row, and its windows are billed."""
    rows = [PolicyModel.model_validate({**ROW, "provider": "openai", "model": "gpt-4o-*"})]
    made = record("stt", "openai", "gpt-4o-transcribe", audio_seconds=60, connection_seconds=60)
    charges = lines(made, PriceBook(policies=rows))
    assert charges["audio_seconds"].cost == Decimal("0.006")
    assert charges["connection_seconds"].cost == 0


def test_a_card_decides_against_a_shipped_row(record, lines):
    """A contract's unit is what the contract bills: the shipped row is about the list price."""
    price = {**PRICE, "provider": "assemblyai"}
    made = record("stt", "assemblyai", "universal-2", audio_seconds=10, connection_seconds=30)
    charges = lines(made, book(price=price))
    assert (charges["audio_seconds"].cost, charges["connection_seconds"].cost) == (Decimal("0.1"), 0)


# Amounts, per operation.


@pytest.mark.parametrize(
    ("fields", "total", "expected"),
    [
        ({}, "4.2", "4.2"),
        ({"minimum": 10}, "4.2", 10),
        ({"minimum": 10}, "14.2", "14.2"),
        ({"increment": 6}, "6", 6),
        ({"increment": 6}, "6.000001", 12),
        ({"increment": 6, "rounding": "none"}, "7", 7),
        ({"increment": 1, "rounding": "nearest"}, "4.499999999", 4),
        ({"increment": 1, "rounding": "nearest"}, "4.5", 5),
        ({"increment": 1, "minimum": 15}, "3", 15),
        ({"increment": 1, "per_stream_overhead": "0.5"}, "4.4", 5),
        ({"increment": 1, "per_stream_overhead": "0.5"}, "4.6", 6),
        ({"per_stream_overhead": "0.5"}, "4.4", "4.9"),
        ({"increment": "0.1"}, "0.3", "0.3"),
        ({"minimum": 10, "increment": 60, "per_stream_overhead": 1}, "0", 0),
    ],
)
def test_a_total_becomes_what_the_row_says(fields, total, expected):
    """Overhead first, then the step, and never below the minimum; nothing measured is nothing billed."""
    assert policy(**fields).billable("audio_seconds", Decimal(total), "completed") == Decimal(str(expected))


def test_the_last_record_bills_what_is_missing():
    """Earlier records bill what they measured; the closing one brings the sum to the policy of the total."""
    charges = [charge for one in stream(4, 4, "1.5") for charge in rate(one, book({"increment": 1, "minimum": 15}))]
    assert [charge.billable_quantity for charge in charges] == [4, 4, 7]
    assert sum(charge.cost for charge in charges) == Decimal("0.15")
    assert [charge.quantity for charge in charges] == [4, 4, Decimal("1.5")]


def test_a_killed_operation_stays_unrounded_and_is_marked():
    """Without a closing record nothing is rounded, and each line says that its operation is open."""
    charges = [charge for one in stream(4, "3.7", closed=False) for charge in rate(one, book({"increment": 60}))]
    assert [charge.billable_quantity for charge in charges] == [4, Decimal("3.7")]
    assert {charge.pricing_source.partition("?")[2] for charge in charges} == {"policy=ours@2026-11-01&open=1"}


def test_a_row_without_amounts_marks_nothing():
    """What is billed as measured needs no closing record and carries no flag."""
    charges = [charge for one in stream(4, "3.7", closed=False) for charge in rate(one, book({}))]
    assert {charge.pricing_source.partition("?")[2] for charge in charges} == {""}


def test_a_total_that_is_exact_already_is_not_marked():
    """Only a line that the policy changed carries its name."""
    charges = [charge for one in stream(4, 2) for charge in rate(one, book({"increment": 6}))]
    assert [charge.billable_quantity for charge in charges] == [4, 2]
    assert charges[-1].pricing_source.partition("?")[2] == ""


def test_silence_at_the_end_does_not_lose_the_rounding(record, lines):
    """A closing record that measured only connection time still bills what its operation's audio rounds up to."""
    total = {"audio_seconds": Decimal("4.5"), "connection_seconds": Decimal(9)}
    last = record("stt", "acme", "m", connection_seconds=1, operation_total=total)
    charges = lines(last, book({"increment": 1}))
    assert (charges["audio_seconds"].quantity, charges["audio_seconds"].billable_quantity) == (0, Decimal("0.5"))
    assert [charge.line for charge in charges.values()] == [0, 1]
    assert charges["connection_seconds"].cost == 0


def test_amounts_count_one_unit_of_tokens(record, lines):
    """A minimum of input tokens leaves the output tokens alone."""
    row = {"component": "llm", "billed_by": "tokens", "unit": "input_tokens", "minimum": 100}
    total = {"input_tokens": Decimal(7), "output_tokens": Decimal(7)}
    made = record("llm", "acme", "m", input_tokens=7, output_tokens=7, operation_total=total)
    charges = lines(made, book(row, price={**PRICE, "unit": "input_tokens"}))
    assert (charges["input_tokens"].billable_quantity, charges["output_tokens"].billable_quantity) == (100, 7)


def test_the_callers_decimal_context_does_not_round_a_quantity():
    """A thread with a precision of four bills the same seconds."""
    records = stream("123456.789123456", "0.000000001")
    with localcontext() as context:
        context.prec = 4
        found = billables(records, book({"increment": 1}))
    assert sum(found, Decimal(0)) == 123457


seconds = st.decimals(min_value=0, max_value=10**6, places=9)
amounts = st.decimals(min_value=0, max_value=3600, places=9)


@given(
    windows=st.lists(seconds, min_size=1, max_size=8),
    minimum=amounts,
    increment=st.none() | st.decimals(min_value=Decimal("0.000000001"), max_value=3600, places=9),
    rounding=st.sampled_from(["up", "nearest", "none"]),
    overhead=amounts,
    outcome=st.sampled_from(["completed", "interrupted", "discarded", "failed", "probe"]),
)
def test_an_operation_costs_the_policy_of_its_total_however_it_was_split(
    windows, minimum, increment, rounding, overhead, outcome
):
    """The sum over the records is policy(total) exactly, and a line that differs from its quantity says why."""
    row = {"minimum": minimum, "increment": increment, "per_stream_overhead": overhead, "failed": "free"}
    row["rounding"] = rounding if increment is not None else None
    records, prices = stream(*windows, outcome=outcome), book(row)
    charges = [charge for one in records for charge in rate(one, prices)]
    total = sum(windows, Decimal(0))
    with localcontext() as context:
        context.prec = 60
        billed = sum((charge.billable_quantity for charge in charges), Decimal(0))
    assert billed == policy(**row).billable("audio_seconds", total, outcome)
    for charge in charges:
        assert charge.billable_quantity == charge.quantity or "policy=ours@2026-11-01" in charge.pricing_source


# Outcomes.


def test_a_failed_operation_is_free_where_failures_are(record, lines, shipped):
    """Cartesia does not charge errors: the characters stay on the line, and cost nothing."""
    made = record("tts", "Cartesia", "sonic-3", characters=74, outcome="failed", basis={"characters": "estimated"})
    charge = lines(made, shipped)["characters"]
    assert (charge.quantity, charge.billable_quantity, charge.cost) == (74, 0, 0)
    assert (charge.pricing_status, charge.currency) == ("free", "USD")
    assert charge.pricing_source.endswith("policy=cartesia-tts@2026-11-20")


@pytest.mark.parametrize("outcome", ["interrupted", "discarded", "failed", "probe"])
def test_each_outcome_has_its_own_switch(outcome):
    """What a row calls free is free, everything else is billed."""
    records = stream(10, outcome=outcome)
    assert billables(records, book({outcome: "free"})) == [0]
    assert billables(records, book({outcome: "billed"})) == [10]
    assert billables(records, book({})) == [10]
    assert billables(stream(10), book({outcome: "free"})) == [10]


def test_an_operation_that_fails_in_the_end_takes_its_windows_back():
    """Windows were billed while it ran; the closing record brings the operation to nothing."""
    assert billables(stream(4, 4, 1, outcome="failed"), book({"failed": "free", "increment": 60})) == [4, 4, -8]


def test_a_failed_record_without_a_price_stays_unpriced(record, lines):
    """That failures are free does not make up a price or a currency."""
    made = record("stt", "acme", "m", characters=5, outcome="failed")
    charge = lines(made, book({"failed": "free"}))["characters"]
    assert (charge.cost, charge.pricing_source) == (None, "unpriced:unit")


# Which row, and rows that cannot be.


def test_the_most_specific_row_wins_and_the_users_before_all():
    """An exact model before a glob, a longer glob before a shorter one, any row of the user's before the shipped."""
    rows = [{"id": "any"}, {"id": "glob", "model": "fast-*"}, {"id": "exact", "model": "Fast-1"}]
    shipped = [PolicyModel.model_validate({**ROW, "id": "shipped", "model": "fast-1"})]
    table = PolicyTable([PolicyModel.model_validate({**ROW, **row}) for row in rows[:2]], shipped)
    assert [table.find("acme", [name], "stt").row.id for name in ("slow", "fast-1")] == ["any", "glob"]
    table = PolicyTable([PolicyModel.model_validate({**ROW, **row}) for row in rows], shipped)
    assert table.find("acme", ["FAST-1"], "stt").row.id == "exact"
    assert table.find("acme", ["fast-1"], "tts") is None


def test_a_users_row_replaces_the_shipped_rows_that_it_covers():
    """Replaced by id, or by what it is about; rows about other models stay in force."""
    own = PolicyModel.model_validate({**ROW, "id": "mine", "provider": "openai", "model": "gpt-4o*"})
    ids = {policy.row.id for policy in PolicyTable([own]).in_force}
    assert {"mine", "openai-realtime-whisper"} <= ids
    assert "openai-transcribe" not in ids
    again = PolicyModel.model_validate({**ROW, "id": "deepgram-stt", "provider": "deepgram", "model": "nova-3"})
    assert [policy.own for policy in PolicyTable([again]).in_force if policy.row.id == "deepgram-stt"] == [True]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"incremnt": 1}, "Extra inputs"),
        ({"billed_by": "bytes"}, "Input should be 'audio'"),
        ({"increment": 0}, "greater than 0"),
        ({"minimum": -1}, "greater than or equal to 0"),
        ({"minimum": True}, "decimal"),
        ({"minimum": "0.0000000001"}, "decimal places"),
        ({"rounding": "down"}, "'up', 'nearest' or 'none'"),
        ({"rounding": "up"}, "rounding up needs an increment"),
        ({"unit": "characters"}, "characters is not what `billed_by: audio` counts"),
        ({"billed_by": "tokens", "minimum": 5}, "amounts of tokens need a unit"),
        ({"failed": "maybe"}, "'billed' or 'free'"),
        ({"component": "video"}, "Input should be 'stt'"),
        ({"id": "a b"}, "pattern"),
    ],
)
def test_a_row_that_cannot_be_is_refused(fields, message):
    """The mistake is named."""
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        PolicyModel.model_validate({**ROW, **fields})


def test_two_rows_about_the_same_work_are_found():
    """The same provider in two spellings, or the same id twice."""
    rows = [{**ROW, "provider": "Azure STT"}, {**ROW, "id": "two"}, {**ROW, "id": "three", "provider": "azure"}]
    assert find_repeated([PolicyModel.model_validate(row) for row in rows]) == (0, 2)
    assert find_repeated([PolicyModel.model_validate(row) for row in rows[:2]]) is None
    assert find_repeated([PolicyModel.model_validate({**row, "id": "x"}) for row in rows[:2]]) == (0, 1)
