"""Estimates: synthetic calls are whole and add up, recorded calls come out as they were, and the next ones as said."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livekit_costmeter.billing.bill import bill
from livekit_costmeter.billing.estimates import ledger as ledger_module
from livekit_costmeter.billing.estimates.comparison import spread_of
from livekit_costmeter.billing.estimates.estimator import Estimator
from livekit_costmeter.billing.estimates.ledger import LedgerReader
from livekit_costmeter.billing.estimates.profiles import CallProfile, Supplier, call_leg, call_records
from livekit_costmeter.billing.estimates.quotes import rank
from livekit_costmeter.billing.estimates.schemes import at_cost, by_plan
from livekit_costmeter.billing.plans import Plan
from livekit_costmeter.billing.schema import PlanModel
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink
from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.pricing.ratecards import RateCard
from livekit_costmeter.pricing.schema import RateCardFile
from livekit_costmeter.records import UsageRecord

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
PRICES = [
    ("openai", "small", "input_tokens", "0.15", 1000000),
    ("openai", "small", "output_tokens", "0.6", 1000000),
    ("openai", "medium", "input_tokens", "0.25", 1000000),
    ("openai", "medium", "output_tokens", "1", 1000000),
    ("anthropic", "large", "input_tokens", "3", 1000000),
    ("anthropic", "large", "output_tokens", "15", 1000000),
    ("deepgram", "nova-3", "audio_seconds", "0.0048", 60),
    ("elevenlabs", "flash", "characters", "0.05", 1000),
    ("cartesia", "sonic", "characters", "0.03", 1000),
    ("sarvam", "bulbul", "characters", "4", 1000),
    ("twilio", "inbound", "call_seconds", "0.0085", 60),
    ("webrtc", "web", "call_seconds", "0", 1),
]
STT = Supplier("stt", "deepgram", "nova-3")
SMALL = Supplier("llm", "openai", "small")
MEDIUM = Supplier("llm", "openai", "medium")
LARGE = Supplier("llm", "anthropic", "large")
FLASH = Supplier("tts", "elevenlabs", "flash")
SONIC = Supplier("tts", "cartesia", "sonic")
WEB = call_leg("web", None)
PLAN = {
    "name": "p",
    "currency": "USD",
    "pass_through": [{"component": "*", "markup": "0.1"}],
    "fees": [
        {"id": "minute", "per": "minute", "price": "0.05", "pulse_seconds": 60},
        {"id": "call", "per": "call", "price": "0.01"},
    ],
    "taxes": [{"id": "vat", "rate": "0.2"}],
}
PROFILE = CallProfile(Decimal(300), Decimal("0.5"), 10, 800, 60, 2125)


@pytest.fixture(scope="module")
def book():
    """Return a price book of a few models in USD, one in INR."""
    rows = [
        {"provider": provider, "model": model, "unit": unit, "price": price, "per": per}
        | ({"currency": "INR"} if provider == "sarvam" else {})
        for provider, model, unit, price, per in PRICES
    ]
    card = RateCard.from_model(RateCardFile.model_validate({"name": "card", "rates": rows}), "0" * 12)
    return PriceBook([card], catalogs=[])


def plan_of(**changes):
    """Return the plan, fields of it replaced."""
    return Plan.from_model(PlanModel.model_validate({**PLAN, **changes}), "0" * 12)


def quotes_of(book, *schemes, profile=PROFILE, **choices):
    """Return the quotes of one described call."""
    estimator = Estimator(partial(rate, book=book), schemes, choices, keep_charges=True)
    for suppliers in choices.values():
        for choice, supplier in enumerate(suppliers):
            for record in call_records(profile, [supplier], NOON):
                estimator.add("call", record, choice)
    return estimator.quotes(profile.seconds)


def sum_of(charges, field="billed_cost"):
    """Add up a field."""
    return sum((getattr(charge, field) for charge in charges), Decimal(0))


lengths = st.decimals("0.001", "100000", places=3)
ratios = st.decimals(0, 1, places=2)


@given(
    seconds=lengths, ratio=ratios, turns=st.integers(1, 50), characters=st.integers(0, 100000), tokens=st.integers(0, 9)
)
@settings(max_examples=60, deadline=None)
def test_the_parts_of_a_described_call_add_up(seconds, ratio, turns, characters, tokens):
    """Characters, spoken seconds and tokens of all records together are those of the call, whatever the turns."""
    profile = CallProfile(seconds, ratio, turns, tokens, tokens, characters)
    sums = {}
    for record in call_records(profile, [STT, SMALL, FLASH, WEB], NOON):
        assert record.operation_id is None
        for unit, amount in record.quantities.items():
            key = record.component, unit
            sums[key] = sums.get(key, Decimal(0)) + amount
    assert sums["call", "call_seconds"] == sums["stt", "audio_seconds"] == seconds
    assert sums.get(("tts", "characters"), 0) == characters
    assert sums.get(("llm", "output_tokens"), 0) == tokens * turns
    if characters >= turns:
        assert sums.get(("tts", "output_audio_seconds"), 0) == profile.spoken_seconds


def test_a_chat_is_messages_and_text():
    """Each turn of a chat is a message of the user."""
    profile = replace(PROFILE, channel="chat", turns=3)
    records = list(call_records(profile, [SMALL, call_leg("chat", None)], NOON))
    assert [record.quantities for record in records if "messages" in record.quantities] == [{"messages": 1}] * 3
    assert {record.provider for record in records} == {"openai", "webrtc"}


def test_a_realtime_model_hears_everything_again_in_each_turn():
    """The audio of earlier turns is cached input of the later ones, up to what a conversation keeps."""
    profile = replace(PROFILE, seconds=Decimal(3600), turns=60)
    session, *turns = call_records(profile, [Supplier("realtime", "openai", "gpt-realtime")], NOON)
    assert session.quantities == {"session_seconds": 3600}
    assert turns[0].quantities["input_audio_tokens"] == 300
    assert turns[0].quantities["output_audio_tokens"] == 600
    assert "cached_input_audio_tokens" not in turns[0].quantities
    assert turns[1].quantities["cached_input_audio_tokens"] == 900
    assert turns[-1].quantities["cached_input_audio_tokens"] == 28672


@given(seconds=lengths, turns=st.integers(1, 20), markup=st.decimals(0, 2, places=3), tax=st.decimals(0, 1, places=3))
@settings(max_examples=40, deadline=None)
def test_an_estimate_is_the_bill_of_the_same_usage(book, seconds, turns, markup, tax):
    """Under any such plan the quote is the sum of what `bill` makes of the records, to the last digit."""
    plan = plan_of(pass_through=[{"component": "*", "markup": str(markup)}], taxes=[{"id": "t", "rate": str(tax)}])
    profile = replace(PROFILE, seconds=seconds, turns=turns)
    suppliers = [STT, SMALL, FLASH, WEB]
    [quote] = quotes_of(book, by_plan(plan, NOON), profile=profile, **{s.component: [s] for s in suppliers})
    charges = [
        line for record in call_records(profile, suppliers, NOON) for line in bill(record, rate(record, book), plan)
    ]
    assert quote.total.amounts["billed"]["USD"] == sum_of(charges)
    assert quote.paid == ("USD", sum_of(charges))
    assert sum(part.amounts["billed"].get("USD", 0) for part in quote.parts) == sum_of(charges)


def test_what_an_account_pays_is_its_bill_and_its_own_providers(book):
    """With an own key the plan bills nothing for the model, and the provider does: both count when comparing."""
    own = [replace(SMALL, owner="acme"), replace(LARGE, owner="acme")]
    quotes = rank(quotes_of(book, by_plan(plan_of(), NOON), llm=own, call=[WEB])).quotes
    assert [quote.suppliers[0].name for quote in quotes] == ["openai/small", "anthropic/large"]
    assert quotes[0].total.amounts["billed"] == quotes[1].total.amounts["billed"]
    for quote in quotes:
        assert quote.paid == ("USD", sum_of([c for c in quote.charges if c.kind == "usage"], "cost") + Decimal("0.312"))


def test_an_unpriced_model_is_compared_last_and_never_cheapest(book):
    """Its known part is a lower bound; over the budget it does not fit, under it nobody knows."""
    unknown = Supplier("llm", "openai", "nobody-knows")
    ranking = rank(quotes_of(book, at_cost(), llm=[unknown, LARGE], tts=[FLASH]), Decimal(1))
    assert [quote.suppliers[0].name for quote in ranking.quotes] == ["anthropic/large", "openai/nobody-knows"]
    assert ranking.cheapest == (0,)
    assert not ranking.quotes[1].knows("paid")
    assert ranking.quotes[1].total.missing["cost"] == {
        "openai/nobody-knows input_tokens: no_match": None,
        "openai/nobody-knows output_tokens: no_match": None,
    }
    assert ranking.quotes[1].fits("paid", Decimal(1)) is None
    assert ranking.quotes[1].fits("paid", Decimal("0.0001")) is False
    assert rank(quotes_of(book, at_cost(), llm=[unknown])).cheapest == ()


def test_equal_prices_are_equally_cheap(book):
    """Of two quotes at the same price neither is named alone."""
    ranking = rank(quotes_of(book, at_cost(), at_cost(), llm=[SMALL]))
    assert ranking.cheapest == (0, 1)


def test_currencies_are_not_compared_without_a_rate(book):
    """Each currency has its cheapest; with the plan's exchange rate there is one."""
    rupees = Supplier("tts", "sarvam", "bulbul")
    ranking = rank(quotes_of(book, at_cost(), tts=[rupees, FLASH, SONIC]))
    assert {quote.suppliers[0].name for quote in (ranking.quotes[i] for i in ranking.cheapest)} == {
        "sarvam/bulbul",
        "cartesia/sonic",
    }
    mixed = rank(quotes_of(book, at_cost(), tts=[rupees], llm=[SMALL]))
    assert (mixed.cheapest, mixed.quotes[0].paid) == ((), None)
    plan = by_plan(plan_of(exchange_rates=[{"from": "INR", "to": "USD", "rate": "0.012"}]), NOON)
    assert rank(quotes_of(book, plan, tts=[rupees, FLASH, SONIC])).quotes[0].suppliers[0].name == "cartesia/sonic"


def test_nobody_knowing_who_pays_leaves_the_providers_cost(book):
    """Where every owner is unknown, quotes are compared by what providers charge."""
    ranking = rank(quotes_of(book, at_cost(), llm=[replace(LARGE, owner=None), replace(SMALL, owner=None)]))
    assert ranking.measure == "cost"
    assert ranking.quotes[0].suppliers[0].name == "openai/small"


def test_fees_telephony_and_taxes_are_parts_of_their_own(book):
    """A call's carrier, the platform's fees and the tax are told apart, and add up."""
    plan = plan_of(telephony=[{"id": "line", "provider": "twilio", "price": "0.02", "pulse_seconds": 60}])
    [quote] = quotes_of(book, by_plan(plan, NOON), call=[call_leg("inbound", "twilio")])
    amounts = {part.name: part.amounts["billed"]["USD"] for part in quote.parts}
    assert amounts == {"telephony": Decimal("0.1"), "platform": Decimal("0.26"), "tax": Decimal("0.072")}
    assert round(quote.shares["paid"]["tax"], 6) == Decimal("0.166667")


class Simulation:
    """Calls of varied length with several models, as a worker records them: increments of time, whole requests."""

    def __init__(self, seed, step=60):
        self._random = random.Random(seed)
        self._step = step
        self._call = 0

    def calls(self, count):
        for _ in range(count):
            self._call += 1
            yield list(self._records(NOON + timedelta(seconds=self._call)))

    def _records(self, start):
        draw = self._random
        seconds = int(draw.gammavariate(6, 20)) + 1  # two minutes on average, one call in a hundred over four
        llm = SMALL if draw.random() < 0.6 else MEDIUM
        tts = FLASH if draw.random() < 0.7 else SONIC
        carrier = call_leg("inbound", "twilio") if draw.random() < 0.8 else WEB
        yield from self._stream(STT, start, seconds, "audio_seconds")
        yield from self._stream(carrier, start, seconds, "call_seconds")
        for turn in range(max(seconds // 40, 1)):
            tokens = {"input_tokens": min(300 + 150 * turn, 900), "output_tokens": int(draw.gammavariate(9, 7)) + 1}
            yield self._record(llm, start, tokens, f"llm-{turn}")
            yield self._record(tts, start, {"characters": tokens["output_tokens"] * 4}, f"tts-{turn}")

    def _stream(self, supplier, start, seconds, unit):
        left = seconds
        while left:
            amount = min(left, self._step)
            left -= amount
            total = None if left else {unit: Decimal(seconds)}
            name = f"{supplier.component}-{left}"
            yield replace(
                self._record(supplier, start + timedelta(seconds=seconds - left), {unit: amount}, name),
                operation_id=f"{supplier.component}-{self._call}",
                operation_total=total,
                attributes={"leg": "primary", "state": "connected" if left else "ended"},
            )

    def _record(self, supplier, at, quantities, name):
        return UsageRecord(
            id=f"{self._call}-{name}",
            at=at,
            component=supplier.component,
            provider=supplier.provider,
            model=supplier.model,
            quantities={unit: Decimal(amount) for unit, amount in quantities.items()},
            operation_id=f"{self._call}-{name}",
            operation_total={unit: Decimal(amount) for unit, amount in quantities.items()},
            key_owner=supplier.owner,
            session_id=f"ses-{self._call}",
        )


PULSED = {"id": "minute", "per": "minute", "price": "0.05", "pulse_seconds": 60}


def charges_of(calls, book, plan):
    """Rate and bill calls, in the order of a ledger."""
    lines = [line for call in calls for record in call for line in bill(record, rate(record, book), plan)]
    return sorted(lines, key=lambda line: (line.at, line.record_id, line.line))


def learned(charges, book, plan, choices=None, owners=None):
    """Return the quotes and what was learned from charges."""
    estimator = Estimator(partial(rate, book=book), [by_plan(plan, NOON)], choices or {})
    recorded = LedgerReader(estimator, NOON, choices or {}, owners or {}).read(charges)
    return estimator.quotes(recorded.seconds), recorded


@pytest.mark.parametrize("kept", [20_000, 3])
def test_recorded_calls_come_out_as_they_were(book, monkeypatch, kept):
    """Rated anew at the same prices, a ledger's calls cost what they did, pulses and all; few open operations do."""
    monkeypatch.setattr(ledger_module, "_OPEN_OPERATIONS", kept)
    plan = plan_of(fees=[PULSED])
    # Each call by itself, so that its windows are near one another as in a quiet ledger.
    charges = [line for call in Simulation(7, step=5).calls(25) for line in charges_of([call], book, plan)]
    [quote], recorded = learned(charges, book, plan)
    assert (recorded.calls, recorded.without_session) == (25, 0)
    assert recorded.seconds == sum_of(
        [line for line in charges if line.unit == "call_seconds" and line.kind == "usage"], "quantity"
    )
    assert abs(quote.total.amounts["billed"]["USD"] - sum_of(charges)) < Decimal("1e-8")
    assert quote.knows("paid")


def test_a_transfer_is_no_longer_call_and_no_second_fee(book):
    """Legs overlap: the first is the primary one, which alone pays a fee for primary legs."""
    plan = plan_of(fees=[PULSED], pass_through=[], taxes=[])
    legs = [
        UsageRecord(
            id=name,
            at=NOON + timedelta(seconds=late),
            component="call",
            provider="twilio",
            model="inbound",
            quantities={"call_seconds": Decimal(seconds)},
            operation_id=name,
            operation_total={"call_seconds": Decimal(seconds)},
            session_id="ses",
            key_owner="platform",
            attributes={"leg": leg},
        )
        for name, leg, late, seconds in (("a", "primary", 0, 100), ("b", "transfer", 40, 50))
    ]
    [quote], recorded = learned(charges_of([legs], book, plan), book, plan)
    assert recorded.seconds == 100
    assert quote.total.amounts["billed"] == {"USD": Decimal("0.1")}


def test_models_and_owners_replace_those_of_recorded_calls(book):
    """The same words from another voice on the account's key: its price, not on the bill."""
    plan = plan_of(fees=[PULSED])
    charges = charges_of(Simulation(3).calls(10), book, plan)
    choices = {"tts": [replace(SONIC, owner="acme"), replace(FLASH, owner=None)]}
    quotes, recorded = learned(charges, book, plan, choices)
    characters = sum(amount for usage, amount in recorded.quantities.items() if usage[3] == "characters")
    voice = next(part for part in quotes[0].parts if part.name == "tts")
    assert voice.amounts["own"] == {"USD": characters * Decimal("0.00003")}
    assert voice.amounts["billed"] == {"USD": 0}
    assert next(part for part in quotes[1].parts if part.name == "tts").amounts["cost"]["USD"] == characters * Decimal(
        "0.00005"
    )


def test_work_without_a_session_is_counted_and_left_out(book):
    """It belongs to no call."""
    [call] = Simulation(3).calls(1)
    stray = replace(call[-1], id="stray", session_id=None)
    plan = plan_of()
    [quote], recorded = learned(charges_of([call, [stray]], book, plan), book, plan)
    assert (recorded.calls, recorded.without_session) == (1, 1)
    assert (
        quote.total.amounts["billed"]
        == learned(charges_of([call], book, plan), book, plan)[0][0].total.amounts["billed"]
    )


def test_half_of_the_calls_cost_up_to_the_median(book):
    """Nearest ranks of single calls, in what the account pays."""
    plan = plan_of(fees=[{"id": "call", "per": "call", "price": "1"}], taxes=[])
    calls = [
        UsageRecord(
            id=str(number),
            at=NOON,
            component="llm",
            provider="openai",
            model="small",
            quantities={"output_tokens": Decimal(1000000 * number)},
            session_id=str(number),
            key_owner="platform",
        )
        for number in range(1, 11)
    ]
    [quote], _ = learned(charges_of([calls], book, plan), book, plan)
    spread = quote.spreads["cost"]
    assert (spread.mean, spread.p50, spread.p90) == (Decimal("3.3"), Decimal(3), Decimal("5.4"))
    assert spread.margin is None, "ten calls are too few to say"


def test_the_margin_holds_nineteen_times_of_twenty():
    """Of 400 pairs of 100 random calls, about 380 have means within the margin that the first of them states."""
    draw = random.Random(5)
    held = 0
    for _ in range(400):
        one, other = (
            spread_of([{"USD": Decimal(draw.gammavariate(2, 1))} for _ in range(100)], lambda *amount: amount)
            for _ in range(2)
        )
        held += abs(one.mean - other.mean) <= one.margin
    assert 366 <= held <= 394


def test_transcripts_in_tokens_are_heard_as_seconds_by_another_model(book):
    """Where windows of audio and tokens come in records apart, another model is billed the windows, and only those."""
    window = {"audio_seconds": Decimal(60), "connection_seconds": Decimal(60)}
    tokens = {"input_audio_tokens": Decimal(600), "output_tokens": Decimal(50)}
    records = [
        UsageRecord(
            id=str(number),
            at=NOON,
            component="stt",
            provider="openai",
            model="gpt-4o-transcribe",
            quantities=quantities,
            operation_id="stream",
            session_id="ses",
            key_owner="platform",
        )
        for number, quantities in enumerate((window, tokens, window))
    ]
    plan = plan_of(fees=[], pass_through=[{"component": "*"}], taxes=[])
    [quote], _ = learned(charges_of([records], book, plan), book, plan, {"stt": [STT]})
    assert quote.knows("paid")
    assert quote.paid == ("USD", Decimal("0.0096"))


@pytest.mark.slow
def test_ten_thousand_calls_predict_the_next_thousand_within_five_percent(book, tmp_path):
    """From a SQLite ledger: the total and each part of the next 1,000 calls, billed and at the providers."""
    plan = plan_of(fees=[PULSED], pass_through=[{"component": "*"}], taxes=[])
    simulation = Simulation(2026, step=300)
    sink = SqliteSink(SqliteSink.Options(path=tmp_path / "ledger.db"))
    sink.open()
    for _ in range(20):
        sink.write(charges_of(simulation.calls(500), book, plan))
    sink.close()
    [quote], recorded = learned(sink.read(), book, plan)
    assert recorded.calls == 10_000
    after = charges_of(simulation.calls(1000), book, plan)
    [truth], _ = learned(after, book, plan)
    for said, found in ((quote.total, truth.total), *zip(quote.parts, truth.parts, strict=True)):
        for measure in ("cost", "billed"):
            if not found.amounts[measure]:
                continue
            predicted = quote.per_month(said.amounts[measure], 1000)["USD"]
            actual = found.amounts[measure]["USD"]
            assert abs(predicted - actual) <= actual * Decimal("0.05"), (found.name, measure, predicted, actual)
    billed = sum_of(after)
    assert abs(quote.per_month(quote.total.amounts["billed"], 1000)["USD"] - billed) <= billed * Decimal("0.05")
