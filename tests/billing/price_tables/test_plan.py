"""The price table of a plan: its own rows, the models it passes on, and what is billed at these prices."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livekit_costmeter.billing.bill import bill
from livekit_costmeter.billing.plans import Plan
from livekit_costmeter.billing.price_tables import COMMON, Till, components_of, plan_table
from livekit_costmeter.billing.schema import PlanModel
from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.pricing.ratecards import RateCard
from livekit_costmeter.pricing.schema import RateCardFile
from livekit_costmeter.records import UsageRecord

AT = datetime(2026, 11, 20, tzinfo=UTC)
CARD = {
    "name": "card",
    "rates": [
        {"provider": "openai", "model": "gpt-4o-mini", "unit": "input_tokens", "price": "0.15", "per": 1000000},
        {"provider": "openai", "model": "gpt-4o-mini", "unit": "output_tokens", "price": "0.6", "per": 1000000},
        {"provider": "deepgram", "model": "nova-3", "unit": "audio_seconds", "price": "0.0048", "per": 60},
        {"provider": "acme", "model": "ears", "unit": "connection_seconds", "price": "0.36", "per": 3600},
        {"provider": "cartesia", "model": "sonic-3", "unit": "characters", "price": "0.05", "per": 1000},
    ],
}
NOTHING = RateCard("nothing", [])
BOOK = PriceBook(
    [RateCard.from_model(RateCardFile.model_validate(CARD), "0123456789ab")], overrides=NOTHING, catalogs=[]
)
CREDITS = {"prices_in": "credits", "credits": {"name": "credits", "price": "0.005"}}
FLASH = {"id": "flash", "component": "tts", "provider": "elevenlabs", "model": "*flash*", "unit": "characters"}


def plan_of(**more):
    fields = {"name": "acme", "currency": "USD", **more}
    return Plan.from_model(PlanModel.model_validate(fields), "feedfacecafe")


def document_of(plan, *models, prices_in="money", priority=False, at=AT, book=BOOK):
    return plan_table(Till(plan, book, at, prices_in, priority), models).document()


def section_of(key, plan, *models, **options):
    found = [section for section in document_of(plan, *models, **options)["sections"] if section["key"] == key]
    return found[0]["rows"] if found else []


def prices_of(rows):
    return {row["model"]: [price["value"] for price in row["prices"]] for row in rows}


def test_the_plans_own_rates_are_shown_as_they_stand():
    """Per 1,000 characters, per minute; the source is the row."""
    plan = plan_of(**CREDITS, rates=[{**FLASH, "price": "9", "per": 1000, "priority_price": "12"}])
    (row,) = section_of("tts", plan, prices_in="credits")
    assert (row["vendor"], row["item"], row["unit"]) == ("ElevenLabs", "*flash*", "1K Characters")
    (price,) = row["prices"]
    assert (price["value"], price["priority_value"]) == ("9", "12")
    assert price["pricing_source"] == "plan:acme@feedfacecafe#flash"


def test_the_same_in_money_is_credits_by_their_price():
    """9 credits at $0.005 are $0.045."""
    plan = plan_of(**CREDITS, rates=[{**FLASH, "price": "9", "per": 1000, "priority_price": "12"}])
    (price,) = section_of("tts", plan)[0]["prices"]
    assert (price["value"], price["shown"], price["priority_shown"]) == ("0.045", "$0.045", "$0.06")


def test_with_priority_its_prices_take_the_place():
    """A row without one keeps the usual price."""
    rows = [{**FLASH, "price": "9", "priority_price": "12"}, {**FLASH, "id": "b", "model": "v3", "price": "7"}]
    document = document_of(plan_of(rates=rows), priority=True)
    shown = [row["prices"][0] for row in document["sections"][-1]["rows"]]
    assert sorted((price["value"], price["priority_value"]) for price in shown) == [("12000", None), ("7000", None)]
    assert "prices with priority" in document["notes"]


def test_fees_tell_their_terms():
    """Per minute, message and call; channels, steps and minimum beside."""
    fees = [
        {"id": "minute", "per": "minute", "channels": ["web", "inbound"], "price": "1.5", "pulse_seconds": 60},
        {"id": "message", "per": "message", "channels": ["chat"], "price": "0.1"},
        {"id": "call", "per": "call", "price": "2", "legs": "all"},
        {"id": "late", "per": "call", "price": "5", "effective_from": "2027-01-01"},
    ]
    rows = section_of("orchestration", plan_of(fees=fees))
    assert [(row["item"], row["unit"], row["prices"][0]["value"], row["terms"]) for row in rows] == [
        ("minute", "Minutes", "1.5", "inbound, web; in steps of 60 s"),
        ("message", "Messages", "0.1", "chat"),
        ("call", "Calls", "2", "transfers too"),
    ]


def test_telephony_has_a_section_of_its_own():
    """By vendor, with direction and kind of number."""
    rows = [
        {"id": "in", "provider": "vobiz", "direction": "inbound", "price": "0.5", "minimum_seconds": 30},
        {
            "id": "out",
            "provider": "*",
            "direction": "outbound",
            "number_type": "local",
            "price": "0.01",
            "per_seconds": 1,
        },
    ]
    shown = section_of("telephony", plan_of(telephony=rows))
    assert [(row["vendor"], row["item"], row["terms"], row["prices"][0]["value"]) for row in shown] == [
        ("every vendor", "local numbers", "outbound", "0.6"),
        ("vobiz", "every number", "inbound; at least 30 s", "0.5"),
    ]


def test_models_that_are_asked_for_are_priced_by_the_book():
    """Each by what it is sold as, at cost, with the source that rating names."""
    document = document_of(plan_of(), "openai/gpt-4o-mini", "deepgram/nova-3", "acme/ears", "cartesia/sonic-3")
    found = {section["key"]: prices_of(section["rows"]) for section in document["sections"]}
    assert found == {
        "llm": {"gpt-4o-mini": ["0.00015", "0.0006"]},
        "stt": {"nova-3": ["0.0048"], "ears": ["0.006"]},
        "tts": {"sonic-3": ["0.05"]},
    }
    row = document["sections"][0]["rows"][0]
    assert row["terms"] == "at cost"
    assert row["prices"][0]["pricing_source"].startswith("ratecard:card@0123456789ab#openai/gpt-4o-mini@")


def test_a_markup_is_in_the_price_and_said():
    """Cost plus a fifth, in money and in credits."""
    plan = plan_of(**CREDITS, pass_through=[{"component": "llm", "markup": "0.2"}])
    (row,) = section_of("llm", plan, "openai/gpt-4o-mini")
    assert ([price["value"] for price in row["prices"]], row["terms"]) == (["0.00018", "0.00072"], "cost plus 20 %")
    (row,) = section_of("llm", plan, "openai/gpt-4o-mini", prices_in="credits")
    assert [price["value"] for price in row["prices"]] == ["0.036", "0.144"]


def test_what_the_fees_include_costs_nothing_and_says_so():
    """A component that is not passed on is free, and no list of common models stands for it."""
    plan = plan_of(pass_through=[{"component": "llm"}])
    (row,) = section_of("stt", plan, "deepgram/nova-3")
    assert ([price["value"] for price in row["prices"]], row["terms"]) == (["0"], "included in the fees")
    document = document_of(plan)
    assert [section["key"] for section in document["sections"]] == ["llm"]
    assert document["notes"] == ["stt is included in the fees", "tts is included in the fees"]


def test_costs_in_another_currency_are_converted_and_say_at_which_rate():
    """The plan's own dated rate; before its first date the price is not known."""
    rates = [{"from": "USD", "to": "INR", "rate": "83.10", "effective_from": "2026-01-01"}]
    plan = plan_of(currency="INR", exchange_rates=rates, rates=[{**FLASH, "price": "0.01", "currency": "USD"}])
    rows = [*section_of("stt", plan, "deepgram/nova-3"), *section_of("tts", plan)]
    assert [row["prices"][0]["value"] for row in rows] == ["0.39888", "831"]
    assert all("fx=USD-INR:83.1@2026-01-01" in row["prices"][0]["pricing_source"] for row in rows)
    early = datetime(2025, 1, 1, tzinfo=UTC)
    rows = [*section_of("stt", plan, "deepgram/nova-3", at=early), *section_of("tts", plan, at=early)]
    assert [(row["prices"][0]["value"], row["prices"][0]["shown"]) for row in rows] == [(None, ""), (None, "")]
    assert all("unbilled=no_exchange_rate" in row["prices"][0]["pricing_source"] for row in rows)
    note = "where a price is empty, there is no exchange rate to INR"
    assert note in document_of(plan, at=early)["notes"]
    assert note not in document_of(plan)["notes"]


def test_a_model_that_a_row_of_the_plan_bills_shows_that_row():
    """The plan's price whatever the provider asks, also for a model that no catalog knows."""
    plan = plan_of(rates=[{**FLASH, "price": "9", "per": 1000}])
    rows = section_of("tts", plan, "elevenlabs/eleven_flash_v9")
    assert prices_of(rows) == {"*flash*": ["9"], "eleven_flash_v9": ["9"]}
    assert {row["prices"][0]["pricing_source"] for row in rows} == {"plan:acme@feedfacecafe#flash"}


def test_a_model_that_is_billed_in_another_measure_is_shown_in_that():
    """A price of a minute of speech does not stand for 1,000 characters, and the terms of its row stand beside."""
    row = {"id": "s", "component": "tts", "provider": "cartesia", "unit": "output_audio_seconds", "price": "0.06"}
    plan = plan_of(rates=[{**row, "per": 60, "pulse_seconds": 6}])
    rows = section_of("tts", plan, "cartesia/sonic-3")
    assert [(row["item"], row["unit"], row["prices"][0]["value"], row["terms"]) for row in rows] == [
        ("every model", "Minutes of output audio", "0.06", "in steps of 6 s"),
        ("sonic-3", "Minutes of output audio", "0.06", "in steps of 6 s"),
    ]


def test_a_minimum_does_not_make_the_price_dearer():
    """The price is that of a minute; that two are billed at least stands beside."""
    row = {"id": "m", "component": "stt", "provider": "deepgram", "model": "nova-3", "unit": "audio_seconds"}
    plan = plan_of(rates=[{**row, "price": "0.5", "per": 60, "minimum_seconds": 120}])
    (shown,) = section_of("stt", plan, "deepgram/nova-3")
    assert (shown["prices"][0]["value"], shown["terms"]) == ("0.5", "at least 120 s")


def test_a_side_that_no_row_names_is_passed_on():
    """The plan prices what the model is told, the provider what it says."""
    row = {"id": "in", "component": "llm", "provider": "openai", "model": "gpt-4o-mini", "unit": "input_tokens"}
    (shown,) = section_of("llm", plan_of(rates=[{**row, "price": "0.001"}]))
    assert [price["value"] for price in shown["prices"]] == ["1", "0.0006"]


def test_a_pattern_leaves_empty_what_it_does_not_price():
    """What every model of a pattern costs is not known."""
    row = {"id": "in", "component": "llm", "provider": "openai", "model": "gpt-*", "unit": "input_tokens"}
    (shown,) = section_of("llm", plan_of(rates=[{**row, "price": "0.001"}]))
    assert [price["value"] for price in shown["prices"]] == ["1", None]


def test_work_without_a_section_is_not_left_out():
    """Cached tokens and realtime sessions are other work, in units of their own."""
    base = {"provider": "openai", "model": "*", "price": "0.01"}
    rows = [
        {**base, "id": "cached", "component": "llm", "unit": "cached_input_tokens"},
        {**base, "id": "session", "component": "realtime", "unit": "session_seconds"},
    ]
    shown = section_of("other", plan_of(rates=rows))
    assert sorted((row["unit"], row["prices"][0]["value"]) for row in shown) == [
        ("1K Cached Input Tokens", "10"),
        ("Minutes of session", "0.6"),
    ]


def test_without_names_common_models_are_shown_where_the_plan_names_none():
    """Those of the list that the book has; a component that the plan prices itself needs no list."""
    document = document_of(plan_of(rates=[{**FLASH, "price": "9"}]))
    found = {section["key"]: list(prices_of(section["rows"])) for section in document["sections"]}
    assert found == {"llm": ["gpt-4o-mini"], "stt": ["nova-3"], "tts": ["*flash*"]}


def test_every_common_model_has_a_price_in_the_shipped_book():
    """The list that stands for everybody has no gaps."""
    till = Till(plan_of(), PriceBook(), AT, "money")
    assert {model: component for component, models in COMMON.items() for model in models} == {
        model: component
        for component, models in COMMON.items()
        for model in models
        if components_of(till, model) == [component]
    }


def test_a_model_without_a_price_has_no_component():
    """Nothing is guessed."""
    assert components_of(Till(plan_of(), BOOK, AT, "money"), "openai/unheard-of") == []


def test_taxes_are_left_out_and_said():
    """Prices are before taxes."""
    document = document_of(plan_of(taxes=[{"id": "gst", "rate": "0.18"}]), "deepgram/nova-3")
    assert document["sections"][0]["rows"][0]["prices"][0]["value"] == "0.0048"
    assert document["notes"] == ["without gst, 18 % on fee and usage"]


def test_credits_are_named_as_the_plan_names_them():
    """The heading, the note and the price of one."""
    plan = plan_of(prices_in="credits", credits={"name": "coins", "price": "0.25"}, fees=[])
    document = document_of(plan, "openai/gpt-4o-mini", prices_in="credits")
    assert document["credits"] == {"name": "coins", "price": "0.25"}
    assert document["sections"][0]["columns"]["input"] == "Coins per 1K input tokens"
    assert document["notes"] == ["coins at $0.25 each"]


amounts = st.decimals(min_value=0, max_value=1000, places=6)


@settings(deadline=None)
@given(
    price=amounts,
    per=st.sampled_from([1, 60, 1000, 1000000]),
    unit_price=amounts,
    markup=amounts,
    priority=st.booleans(),
)
@pytest.mark.parametrize("owned", [True, False])
def test_what_is_shown_is_what_is_billed(owned, price, per, unit_price, markup, priority):
    """A thousand characters cost what the table says, by a row of the plan or passed on, in money and in credits."""
    card = {"provider": "cartesia", "model": "sonic", "unit": "characters", "price": unit_price, "per": per}
    book = PriceBook(
        [RateCard.from_model(RateCardFile.model_validate({"name": "c", "rates": [card]}), "d")],
        overrides=NOTHING,
        catalogs=[],
    )
    row = {"id": "row", "component": "tts", "provider": "cartesia", "unit": "characters", "price": price, "per": per}
    own = {"rates": [{**row, "priority_price": price / 2}]} if owned else {}
    plan = plan_of(**CREDITS, pass_through=[{"component": "*", "markup": markup}], **own)
    record = UsageRecord("r", AT, "tts", "cartesia", "sonic", {"characters": Decimal(1000)}, key_owner="platform")
    lines = bill(record, rate(record, book), plan, priority=priority)
    for prices_in, billed in (("money", "billed_cost"), ("credits", "credits")):
        rows = section_of("tts", plan, "cartesia/sonic", prices_in=prices_in, priority=priority, book=book)
        shown = Decimal(prices_of(rows)["sonic"][0])
        assert abs(shown - sum(getattr(line, billed) for line in lines)) <= Decimal("1e-9")
