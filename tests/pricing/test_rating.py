"""Charges from usage records."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, getcontext, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.records import UNIT_ORDER, UsageRecord, charge_json, round_cost

CARD = {"provider": "openai", "model": "gpt-4o-mini", "unit": "input_tokens", "price": "0.12", "per": 1000000}


def test_a_line_per_unit_in_the_order_of_the_unit_list(record, shipped):
    """Every unit of a record is one line, numbered from 0, however the record orders them."""
    charges = rate(record("llm", "openai", "gpt-4o-mini", output_tokens=5, requests=1, input_tokens=9), shipped)
    assert [(charge.line, charge.unit) for charge in charges] == [
        (0, "input_tokens"),
        (1, "output_tokens"),
        (2, "requests"),
    ]


def test_a_priced_line_explains_its_cost(record, lines, shipped):
    """Quantity, rate, unit of the rate, currency, source and digest are all on the line, and multiply to the cost."""
    line = lines(record("llm", "api.openai.com", "gpt-4o-mini", input_tokens=1234, key_owner="platform"), shipped)
    charge = line["input_tokens"]
    assert (charge.unit_price, charge.price_per, charge.currency) == (Decimal("0.15"), 1000000, "USD")
    assert charge.cost == Decimal("0.0001851")
    assert charge.pricing_source.startswith("catalog:genai-prices@")
    assert charge.pricing_source.endswith("#openai/gpt-4o-mini@base")
    assert len(charge.price_digest) == 12


def test_the_names_that_were_reported_stay_on_the_line(record, shipped):
    """A record in a plugin's own spelling is priced canonically and keeps the spelling."""
    (charge,) = rate(record("stt", "Azure STT", "unknown", audio_seconds=60), shipped)
    assert (charge.provider, charge.model) == ("azure", "stt-standard")
    assert (charge.reported_provider, charge.reported_model) == ("Azure STT", "unknown")


def test_a_record_without_quantities_has_no_lines(record, shipped):
    """Nothing measured is nothing charged."""
    assert rate(record("llm", "openai", "gpt-4o-mini"), shipped) == []


@pytest.mark.parametrize(
    ("component", "provider", "model", "unit", "reason"),
    [
        ("llm", "openai", "no-such-model", "input_tokens", "no_match"),
        ("tts", "Bland", "unknown", "characters", "unknown_model"),
        ("llm", "my-openai-gateway:8000", "gpt-4o", "input_tokens", "unknown_provider"),
        ("tts", "unknown", "unknown", "characters", "unknown_provider"),
        ("llm", "localhost:11434", "llama3.1", "input_tokens", "self_hosted"),
        ("llm", "livekit", "openai/gpt-6-luna", "input_tokens", "gateway_no_rate"),
        ("tts", "openai", "tts-1", "output_audio_seconds", "unit"),
    ],
)
def test_what_is_not_known_is_null_and_says_why(record, shipped, component, provider, model, unit, reason):
    """An unpriced line has no cost, no rate and no currency; never a zero."""
    (charge,) = rate(record(component, provider, model, key_owner="platform", **{unit: 5}), shipped)
    assert charge.pricing_source == f"unpriced:{reason}"
    assert charge.pricing_status == "unpriced"
    assert (charge.cost, charge.unit_price, charge.currency, charge.billed_cost) == (None, None, None, None)


def test_a_rate_card_comes_first_and_the_catalog_prices_the_rest(record, lines, card):
    """A card with one unit leaves the other units to the next source."""
    charges = lines(record("llm", "openai", "gpt-4o-mini", input_tokens=10, output_tokens=10), PriceBook([card(CARD)]))
    assert charges["input_tokens"].pricing_source.startswith("ratecard:acme-2026@")
    assert charges["output_tokens"].pricing_source.startswith("catalog:genai-prices@")


def test_the_first_card_listed_wins(record, lines, card):
    """Where two cards price the same unit, the earlier one does."""
    cards = [card(CARD, name="first"), card({**CARD, "price": "9"}, name="second")]
    charges = lines(record("llm", "openai", "gpt-4o-mini", input_tokens=10), PriceBook(cards))
    assert charges["input_tokens"].pricing_source.startswith("ratecard:first@")


def test_a_card_prices_what_runs_on_the_users_own_machine(record, lines, card):
    """A self-hosted model costs what the user's card says."""
    row = {"provider": "ollama", "model": "*", "unit": "input_tokens", "price": "0.01", "per": 1000000}
    charges = lines(record("llm", "localhost:11434", "llama3.1", input_tokens=1000000), PriceBook([card(row)]))
    assert charges["input_tokens"].cost == Decimal("0.01")


def test_a_price_of_zero_is_free_not_unpriced(record, lines, card):
    """Free on purpose has a cost of zero and a source."""
    book = PriceBook([card({**CARD, "price": "0"})])
    charge = lines(record("llm", "openai", "gpt-4o-mini", input_tokens=10), book)["input_tokens"]
    assert (charge.pricing_status, charge.cost) == ("free", 0)
    assert charge.pricing_source.startswith("ratecard:")


def test_a_unit_without_a_rate_takes_its_parents_and_says_so(record, lines, shipped):
    """Reasoning tokens cost what output tokens cost where nobody prices them."""
    charge = lines(record("llm", "openai", "gpt-4o-mini", reasoning_tokens=1000000), shipped)["reasoning_tokens"]
    assert charge.cost == Decimal("0.6")
    assert charge.pricing_source.endswith("?parent=output_tokens")


def test_a_tier_looks_at_the_size_of_one_request(record, card, lines):
    """Above the threshold the whole request costs the tier's price; cached tokens count towards its size."""
    book = PriceBook([card({**CARD, "tiers": [{"above": 200000, "price": "0.24"}]})])
    below = lines(record("llm", "openai", "gpt-4o-mini", input_tokens=150000, cached_input_tokens=50000), book)
    above = lines(record("llm", "openai", "gpt-4o-mini", input_tokens=150000, cached_input_tokens=50001), book)
    assert below["input_tokens"].cost == Decimal("0.018")
    assert above["input_tokens"].cost == Decimal("0.036")
    assert above["input_tokens"].pricing_source.endswith("?above=200000")


def test_two_requests_are_not_one_large_request(record, lines, shipped):
    """Tiers are applied per record: twice 60,000 tokens cost a fifth of 120,000 at once."""
    half = lines(record("llm", "anthropic", "claude-haiku-5-5", input_tokens=60000), shipped)["input_tokens"]
    whole = lines(record("llm", "anthropic", "claude-haiku-5-5", input_tokens=120000), shipped)["input_tokens"]
    assert (2 * half.cost, whole.cost) == (Decimal("0.012"), Decimal("0.06"))


def test_work_is_priced_when_it_started(record, lines, card):
    """A record that spans a price change costs the price at its start."""
    rows = [{**CARD, "effective_to": "2026-11-01"}, {**CARD, "effective_from": "2026-11-01", "price": "9"}]
    start = datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)
    charges = lines(
        record("llm", "openai", "gpt-4o-mini", input_tokens=1000000, started_at=start), PriceBook([card(*rows)])
    )
    assert charges["input_tokens"].cost == Decimal("0.12")


def test_the_zone_of_an_instant_does_not_change_the_price(record, lines, shipped):
    """The same moment told in another zone, or naively as UTC, is the same price and the same date."""
    moment = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    zones = [moment, moment.astimezone(timezone(timedelta(hours=9))), moment.replace(tzinfo=None)]
    made = [record("llm", "google", "gemini-3.8-flash", input_tokens=1000000, at=at) for at in zones]
    assert {lines(one, shipped)["input_tokens"].cost for one in made} == {Decimal("0.75")}


@pytest.mark.parametrize(("seconds", "billable"), [(2, 10), (10, 10), (12, 12), (0, 0)])
def test_groq_bills_ten_seconds_at_least(record, seconds, billable, shipped):
    """A short transcription request is billed at the minimum, a long one as measured, an empty one not at all."""
    total = {"audio_seconds": Decimal(seconds)}
    made = record("stt", "api.groq.com", "whisper-large-v3-turbo", audio_seconds=seconds, operation_total=total)
    (charge,) = rate(made, shipped)
    assert (charge.quantity, charge.billable_quantity) == (seconds, billable)
    assert charge.pricing_source.endswith("?policy=groq-whisper@2026-11-20") == (seconds == 2)


def test_a_minimum_is_applied_once_per_operation(record, shipped):
    """Increments bill what they measured; the last one bills what is missing to the operation's minimum."""
    total = {"audio_seconds": Decimal(4)}
    first = record("stt", "groq", "whisper-large-v3", audio_seconds=3, operation_id="op")
    last = record("stt", "groq", "whisper-large-v3", audio_seconds=1, operation_id="op", operation_total=total)
    charges = [*rate(first, shipped), *rate(last, shipped)]
    assert [charge.billable_quantity for charge in charges] == [3, 7]
    assert charges[0].pricing_source.endswith("?policy=groq-whisper@2026-11-20&open=1")
    assert charges[1].pricing_source.endswith("?policy=groq-whisper@2026-11-20")


def test_a_record_of_no_operation_is_a_whole_one(record, shipped):
    """What somebody feeds to `rate` by hand is rounded as an operation of its own, and nothing is open."""
    (charge,) = rate(record("stt", "groq", "whisper-large-v3", audio_seconds=3), shipped)
    assert charge.billable_quantity == 10
    assert charge.pricing_source.endswith("?policy=groq-whisper@2026-11-20")


@pytest.mark.parametrize(
    ("owner", "provider", "configured", "billed_by", "billed"),
    [
        ("platform", "openai", {}, "platform", "cost"),
        ("acme", "openai", {}, "provider", "zero"),
        ("unknown", "openai", {}, "unknown", "null"),
        ("platform", "livekit", {}, "livekit", "cost"),
        ("acme", "livekit", {}, "livekit", "zero"),
        ("unknown", "livekit", {}, "livekit", "null"),
        ("acme", "openai", {"acme": "platform"}, "platform", "cost"),
        ("acme", "openai", {"acme": "unknown"}, "unknown", "null"),
        ("platform", "openai", {"platform": "provider"}, "provider", "cost"),
    ],
)
def test_who_pays_follows_from_whose_key_it_was(record, card, owner, provider, configured, billed_by, billed):
    """The platform's keys are on the account's bill, an account's own are not, an unknown owner's are not known."""
    row = {"provider": provider, "model": "gpt-4o-mini", "unit": "input_tokens", "price": "1"}
    book = PriceBook([card(row)], billed_by=configured)
    (charge,) = rate(record("llm", provider, "gpt-4o-mini", input_tokens=3, key_owner=owner), book)
    assert charge.billed_by == billed_by
    assert charge.billed_cost == {"cost": charge.cost, "zero": 0, "null": None}[billed]
    assert charge.billed_currency == (None if billed == "null" else "USD")


def test_the_record_and_its_context_are_on_every_line(record, shipped):
    """Session, account, labels, outcome and basis go from the record to its lines."""
    made = record(
        "llm",
        "openai",
        "gpt-4o-mini",
        input_tokens=1,
        account="a",
        labels={"k": "v"},
        session_id="s",
        room="r",
        outcome="interrupted",
        basis={"input_tokens": "estimated"},
        operation_id="op",
        key_id="f00",
    )
    (charge,) = rate(made, shipped)
    assert (charge.account, charge.labels, charge.session_id, charge.room) == ("a", {"k": "v"}, "s", "r")
    assert (charge.outcome, charge.quantity_basis, charge.operation_id, charge.key_id) == (
        "interrupted",
        "estimated",
        "op",
        "f00",
    )


def test_an_unknown_service_tier_is_priced_as_standard_and_says_so(record, lines, shipped):
    """A tier with a price is used; one without is marked, never silently standard."""
    costs = {}
    for tier in (None, "default", "priority", "flex", "bogus"):
        charge = lines(record("llm", "openai", "gpt-5", input_tokens=1000000, service_tier=tier), shipped)[
            "input_tokens"
        ]
        costs[tier] = (charge.cost, charge.pricing_source.partition("?")[2])
    assert costs == {
        None: (Decimal("1.25"), ""),
        "default": (Decimal("1.25"), ""),
        "priority": (Decimal("2.5"), "tier=priority"),
        "flex": (Decimal("0.625"), "tier=flex"),
        "bogus": (Decimal("1.25"), "tier=unpriced-bogus"),
    }


def test_the_callers_decimal_context_does_not_change_a_cost(record, shipped):
    """Money is computed in a context of its own, whatever precision the thread has set."""
    made = record("stt", "groq", "whisper-large-v3", audio_seconds="123456.789123456")
    expected = rate(made, shipped)[0].cost
    with localcontext() as context:
        context.prec = 4
        assert rate(made, shipped)[0].cost == expected
        assert getcontext().prec == 4


amounts = st.decimals(min_value=0, max_value=10**9, places=9, allow_nan=False)


@given(
    quantities=st.dictionaries(st.sampled_from(list(UNIT_ORDER)), amounts, min_size=1),
    model=st.sampled_from(
        [
            ("llm", "openai", "gpt-4o-mini"),
            ("stt", "openai", "gpt-4o-transcribe"),
            ("tts", "cartesia", "sonic-3"),
            ("realtime", "openai", "gpt-realtime"),
            ("stt", "livekit", "deepgram/nova-3"),
            ("llm", "x", "y"),
        ]
    ),
)
def test_any_record_gives_lines_that_add_up(quantities, model):
    """Whatever is measured: a line per unit, cost equal to its own factors, and null exactly where it is unpriced."""
    made = UsageRecord("r", datetime(2026, 11, 20, tzinfo=UTC), *model, quantities)
    charges = rate(made, _BOOK)
    assert [charge.unit for charge in charges] == sorted(quantities, key=UNIT_ORDER.__getitem__)
    for charge in charges:
        assert charge.quantity == quantities[charge.unit]
        assert (charge.cost is None) == (charge.pricing_status == "unpriced")
        if charge.cost is not None:
            exact = charge.billable_quantity * charge.unit_price / charge.price_per
            assert abs(charge.cost - round_cost(exact)) <= Decimal("1e-11")


def test_threads_rate_alike(record, catalogs_only):
    """Many threads on one cold book give the same bytes as one thread."""
    made = [
        record("llm", "openai", "gpt-4o-mini", id=f"r{n}", input_tokens=n, at=datetime(2026, 1 + n % 11, 3, tzinfo=UTC))
        for n in range(200)
    ]
    expected = [charge_json(charge) for one in made for charge in rate(one, catalogs_only)]
    cold = PriceBook(overrides=catalogs_only.overrides)
    shuffled = random.Random(7).sample(made, len(made))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: rate(one, cold), shuffled))
        found = list(pool.map(lambda one: [charge_json(charge) for charge in rate(one, cold)], made))
    assert [line for one in found for line in one] == expected


_BOOK = PriceBook()
