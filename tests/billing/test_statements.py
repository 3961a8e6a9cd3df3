"""Statements: grouped, exact, and rounded as the plan says."""

from decimal import Decimal

import pytest

from livekit_costmeter.billing.statements import round_to, statement

RATES = [
    {"id": "flash", "component": "tts", "provider": "acme-tts", "unit": "characters", "price": "9", "per": 1000},
    {"id": "nova", "component": "stt", "provider": "acme-stt", "unit": "audio_seconds", "price": "1", "per": 60},
]
FEE = {"id": "minutes", "per": "minute", "price": "10"}


def credits_plan(plan, rounding):
    return plan(credits={"price": "0.005", "rounding": rounding}, prices_in="credits", rates=RATES, fees=[FEE])


@pytest.fixture
def charges(usage, billed):
    def build(terms):
        records = [
            usage("tts", "acme-tts", "flash", characters=2000),
            usage("tts", "acme-tts", "flash", characters=140),
            usage("stt", "acme-stt", "nova", audio_seconds=300),
            usage("call", "webrtc", "web", call_seconds=300),
            usage("llm", "openai", "gpt-4o-mini", input_tokens=10000, output_tokens=5833),
            usage("llm", "openai", "gpt-4o-mini", input_tokens=7, key_owner="unknown"),
        ]
        return [line for record in records for line in billed(record, terms)]

    return build


@pytest.mark.parametrize(
    ("rounding", "credits", "money"),
    [
        (None, "75.25996", "0.38"),
        ({"per": "line", "mode": "up"}, "76", "0.38"),
        ({"per": "line", "mode": "down"}, "74", "0.37"),
        ({"per": "line", "mode": "half_up"}, "75", "0.38"),
        ({"per": "invoice", "mode": "up"}, "76", "0.38"),
        ({"per": "invoice", "mode": "down"}, "75", "0.38"),
        ({"per": "invoice", "mode": "half_even", "step": "0.5"}, "75.5", "0.38"),
    ],
)
def test_credits_are_rounded_as_the_plan_says_and_the_exact_sum_stays(plan, charges, rounding, credits, money):
    """Each line or the whole; money is that of the rounded credits, to the cent, half up."""
    terms = credits_plan(plan, rounding)
    found = statement(charges(terms), terms)
    assert found.credits == Decimal("75.25996")
    assert found.money == Decimal("0.3762998")
    assert (found.rounded_credits, found.rounded_money) == (Decimal(credits), Decimal(money))
    assert found.unknown == 1


def test_lines_are_by_rule_and_by_component_where_work_is_passed_through(plan, charges):
    """Quantities are billable ones by unit; work that another line bills has no line of its own."""
    terms = credits_plan(plan, {"per": "line", "mode": "up"})
    lines = {(line.rule, line.component): line for line in statement(charges(terms), terms).lines}
    assert list(lines) == [("flash", "tts"), ("nova", "stt"), ("minutes", "call"), (None, "llm")]
    flash, llm = lines["flash", "tts"], lines[None, "llm"]
    assert (flash.quantities, flash.charges) == ({"characters": 2140}, 2)
    assert (flash.credits, flash.rounded_credits, flash.rounded_money) == (Decimal("19.26"), 20, Decimal("0.10"))
    assert llm.quantities == {"input_tokens": 10000, "output_tokens": 5833}
    assert llm.money == Decimal("0.0049998")


def test_without_credits_money_is_rounded_last(plan, charges):
    """The total is that of the exact lines, to the currency's minor unit."""
    yen = plan(currency="JPY", rates=RATES, fees=[FEE], exchange_rates=[{"from": "USD", "to": "JPY", "rate": "150"}])
    found = statement(charges(yen), yen)
    assert (found.credits, found.rounded_credits) == (None, None)
    assert (found.money, found.rounded_money) == (Decimal("75.00997"), 75)


def test_nothing_billed_is_a_statement_of_nothing(plan):
    """No charges, no lines, and a sum of 0 that is known."""
    found = statement([], plan())
    assert (found.lines, found.money, found.unknown) == ((), 0, 0)


@pytest.mark.parametrize(
    ("value", "mode", "expected"),
    [
        ("0.5", "half_up", 1),
        ("0.5", "half_even", 0),
        ("-0.5", "half_up", -1),
        ("1.01", "up", 2),
        ("-1.01", "up", -1),
        ("1.99", "down", 1),
        ("3", "up", 3),
    ],
)
def test_rounding_goes_to_whole_steps(value, mode, expected):
    """Up and down are on the number line."""
    assert round_to(Decimal(value), Decimal(1), mode) == expected
