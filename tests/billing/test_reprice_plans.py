"""Repricing what is billed under a plan."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from livekit_costmeter.billing.bill import Billing
from livekit_costmeter.billing.corrections import Corrections
from livekit_costmeter.billing.plans import Plan
from livekit_costmeter.billing.reprice import Repricer
from livekit_costmeter.billing.schema import PlanModel
from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.pricing.policies import PolicyModel
from livekit_costmeter.pricing.ratecards import RateCard, overrides_card
from livekit_costmeter.pricing.schema import RateCardFile
from livekit_costmeter.records import UsageRecord

NOON = datetime(2026, 10, 20, 12, tzinfo=UTC)
RUPEES = {"exchange_rates": [{"from": "USD", "to": "INR", "rate": "80"}]}
MARKED_UP = {
    "name": "acme",
    "currency": "INR",
    **RUPEES,
    "pass_through": [{"component": "llm", "markup": "0.25"}],
    "taxes": [{"id": "gst", "rate": "0.18"}],
}


def book(price, model="m", unit="input_tokens", per=1000, policies=()):
    """Return a price book of one price."""
    row = {"provider": "openai", "model": model, "unit": unit, "price": price, "per": per}
    card = RateCard.from_model(RateCardFile.model_validate({"name": "card", "rates": [row]}), "0123456789ab")
    return PriceBook([card], catalogs=[], overrides=overrides_card([]), policies=policies)


def billing(**plan):
    """Return billing by one plan for everybody."""
    return Billing([Plan.from_model(PlanModel.model_validate(plan), "ba9876543210")])


@pytest.fixture
def usage():
    """Return 1000 tokens on the platform's key."""
    quantities = {"input_tokens": Decimal(1000)}
    return UsageRecord("r1", NOON, "llm", "openai", "m", quantities, key_owner="platform", account="acme")


def billed(record, prices, plans):
    """Return the lines of a record with those of its plan."""
    return list(plans.bill(record, rate(record, prices)))


def corrections(ledger, prices, plans):
    """Return what repricing books."""
    booked = Corrections()
    booked.add(ledger)
    repriced = Repricer(lambda record: rate(record, prices), plans, booked).reprice(ledger)
    return [row for record in repriced for row in record.corrections]


def bill_of(ledger):
    """Add up what is billed, by plan's rule and currency."""
    found = defaultdict(Decimal)
    for charge in ledger:
        if charge.billed_cost:
            source = charge.pricing_source.partition("?")[0]
            rule = source.partition("#")[2] if source.startswith("plan:") else "at cost"
            found[rule, charge.billed_currency] += charge.billed_cost
    return dict(found)


def test_cost_markup_and_tax_come_to_the_new_price(usage):
    """What the account pays is what it would have paid, line by line, and the provider's cost has no plan in it."""
    plans = billing(**MARKED_UP)
    ledger = billed(usage, book("0.10"), plans)
    rows = corrections(ledger, book("0.12"), plans)
    assert bill_of([*ledger, *rows]) == bill_of(billed(usage, book("0.12"), plans))
    assert bill_of(rows) == {
        ("at cost", "INR"): Decimal("1.6"),
        ("markup-llm", "INR"): Decimal("0.4"),
        ("gst", "INR"): Decimal("0.36"),
    }
    assert sum(row.cost for row in rows) == Decimal("0.02")
    assert len({row.record_id for row in rows}) == 1
    assert len({row.line for row in rows}) == len(rows)
    assert corrections([*ledger, *rows], book("0.12"), plans) == []


def test_what_had_no_price_gets_its_markup_and_tax_too(usage):
    """Lines that could not be made then are booked as corrections of nothing."""
    plans = billing(**MARKED_UP)
    ledger = billed(usage, book("1", "other"), plans)
    rows = corrections(ledger, book("0.12"), plans)
    assert bill_of([*ledger, *rows]) == bill_of(billed(usage, book("0.12"), plans))
    assert [("was=unpriced" in row.pricing_source) for row in rows] == [True, False, False, False]
    again = corrections([*ledger, *rows], book("0.10"), plans)
    assert bill_of([*ledger, *rows, *again]) == bill_of(billed(usage, book("0.10"), plans))


def test_the_markup_is_on_what_the_operation_was_billed():
    """A piece that closed an operation of 7 s, billed as 15, is marked up for the 10 s that fell on it."""
    policy = {"id": "p", "provider": "openai", "component": "stt", "billed_by": "audio", "minimum": 15}
    last = UsageRecord("r1", NOON, "stt", "openai", "m", {"audio_seconds": Decimal(2)}, key_owner="platform")
    last = replace(last, operation_id="x", operation_total={"audio_seconds": Decimal(7)})
    plans = billing(name="p", currency="USD", pass_through=[{"component": "stt", "markup": "0.5"}])
    then, now = (
        book(price, unit="audio_seconds", per=1, policies=[PolicyModel.model_validate(policy)]) for price in ("1", "2")
    )
    rows = corrections(billed(last, then, plans), now, plans)
    assert bill_of(rows) == {("at cost", "USD"): 10, ("markup-stt", "USD"): 5}


def test_credits_follow(usage):
    """A plan with a virtual currency takes the difference in it, to the last place."""
    plans = billing(name="p", currency="USD", credits={"name": "credits", "price": "0.005"})
    ledger = billed(usage, book("0.10"), plans)
    (row,) = corrections(ledger, book("0.12"), plans)
    assert (row.credits, row.billed_cost) == (4, Decimal("0.02"))


@pytest.mark.parametrize(
    "plan",
    [
        {"rates": [{"id": "flat", "component": "llm", "unit": "input_tokens", "price": "9", "per": 1000}]},
        {"pass_through": [{"component": "tts"}]},
    ],
)
def test_work_that_is_not_billed_by_its_cost_is_billed_as_before(usage, plan):
    """The provider's cost is corrected, what the account pays is the plan's price, or in the fees."""
    plans = billing(name="p", currency="USD", **plan)
    ledger = billed(usage, book("0.10"), plans)
    (row,) = corrections(ledger, book("0.12"), plans)
    assert (row.cost, row.billed_cost) == (Decimal("0.02"), 0)


@pytest.mark.parametrize(("then", "now"), [("0.10", "0.10"), ("0.10", "0.12")])
def test_a_plan_that_bills_otherwise_now_does_not_change_the_bill(usage, then, now):
    """What was passed on stays billed, where the plan of now would bill a price of its own that nobody books."""
    flat = {"id": "flat", "component": "llm", "unit": "input_tokens", "price": "9", "per": 1000}
    before, after = billing(name="p", currency="USD"), billing(name="p", currency="USD", rates=[flat])
    for first, second in ((before, after), (after, before)):
        ledger = billed(usage, book(then), first)
        assert bill_of(corrections(ledger, book(now), second)) == {}


def test_an_exchange_rate_that_was_missing_makes_the_bill_known(usage):
    """The cost is as it was, the billed cost is no longer unknown."""
    late = {"from": "USD", "to": "INR", "rate": "80", "effective_from": "2026-11-01"}
    plan = {"name": "p", "currency": "INR"}
    ledger = billed(usage, book("0.10"), billing(**plan, exchange_rates=[late]))
    assert (ledger[0].cost, ledger[0].billed_cost) == (Decimal("0.1"), None)
    plans = billing(**plan, **RUPEES)
    (row,) = corrections(ledger, book("0.10"), plans)
    assert (row.cost, row.billed_cost, row.billed_currency) == (0, 8, "INR")
    assert row.pricing_source.endswith("&was=unbilled&reprice=1")
    assert corrections([*ledger, row], book("0.10"), plans) == []


AT_COST = {"name": "p", "currency": "USD"}
FIFTH = {**AT_COST, "pass_through": [{"component": "llm", "markup": "0.2"}]}


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (FIFTH, {**FIFTH, "name": "q"}),
        (FIFTH, {**AT_COST, "pass_through": [{"component": "llm", "markup": "0.5"}]}),
        (FIFTH, AT_COST),
        (AT_COST, FIFTH),
        (AT_COST, {**AT_COST, "currency": "INR", **RUPEES}),
        ({**AT_COST, "currency": "INR", **RUPEES}, None),
        (FIFTH, None),
    ],
)
@pytest.mark.parametrize("price", ["0.10", "0.12"])
def test_who_is_on_another_plan_now_keeps_the_bill(usage, then, now, price):
    """Another plan, currency or markup is for what comes; the provider's cost alone is corrected."""
    ledger = billed(usage, book("0.10"), billing(**then))
    rows = corrections(ledger, book(price), None if now is None else billing(**now))
    assert bill_of(rows) == {}
    assert sum(row.cost for row in rows) == Decimal(price) - Decimal("0.10")


def test_what_turns_out_to_be_free_is_taken_off_the_bill_with_its_markup(usage):
    """A price of 0 leaves nothing to mark up, or to tax."""
    plans = billing(**MARKED_UP)
    ledger = billed(usage, book("0.10"), plans)
    rows = corrections(ledger, book("0"), plans)
    assert not any(bill_of([*ledger, *rows]).values())
    assert corrections([*ledger, *rows], book("0"), plans) == []
    again = corrections([*ledger, *rows], book("0.12"), plans)
    assert bill_of([*ledger, *rows, *again]) == bill_of(billed(usage, book("0.12"), plans))
