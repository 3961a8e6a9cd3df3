"""Totals under few labels, however many calls there are."""

import dataclasses
from decimal import Decimal

import pytest

from livekit_costmeter.delivery.sinks.series import LABELS, Series


@pytest.fixture
def charge(charges):
    """Give one charge."""
    return dataclasses.replace(charges(1)[0], account="acme", key_owner="platform")


def totals(series, measure):
    return {
        (sample.dimension, *sample.labels): sample.value for sample in series.samples() if sample.measure == measure
    }


def test_sums_are_exact(charge):
    """A hundred thousand tenths and one part in a billion are neither lost nor rounded."""
    series = Series((), 10)
    row = dataclasses.replace(charge, cost=Decimal("0.1"), quantity=Decimal("999999999999999.123456789"))
    series.add([dataclasses.replace(row, record_id=f"r{n}") for n in range(1_000)])
    series.add([dataclasses.replace(row, record_id="last", cost=Decimal("0.000000000001"))])
    assert totals(series, "cost") == {("USD",): Decimal("100.000000000001")}
    assert totals(series, "quantity") == {("input_tokens",): 1_001 * Decimal("999999999999999.123456789")}
    assert totals(series, "records") == {("",): 1_001}


def test_row_is_counted_once(charge):
    """A row that comes again, in the same batch or a later one, also with another cost, changes nothing."""
    series = Series(LABELS, 10)
    series.add([charge, charge])
    series.add([dataclasses.replace(charge, cost=Decimal(99))])
    assert totals(series, "records") == {("", "llm", "openai", "gpt-4o-mini", "platform", "acme"): 1}
    assert set(totals(series, "cost").values()) == {charge.cost}


def test_only_usage_has_quantities_and_corrections_below_zero_are_apart(charge):
    """A correction is no measured quantity, and takes nothing off the cost; an unknown cost is no cost of 0."""
    series = Series((), 10)
    series.add([dataclasses.replace(charge, line=1, kind="correction", cost=Decimal("-0.5"), billed_cost=None)])
    series.add([dataclasses.replace(charge, line=2, cost=None, currency=None, billed_cost=None)])
    assert totals(series, "cost") == totals(series, "billed") == {}
    assert totals(series, "cost_credit") == {("USD",): Decimal("0.5")}
    assert totals(series, "quantity") == {("input_tokens",): charge.quantity}
    assert totals(series, "records") == {}


def test_what_a_plan_charges_is_no_cost(charge):
    """Fees and taxes go on the bill and cost the platform nothing; a balance that moves is neither."""
    series = Series((), 10)
    series.add([dataclasses.replace(charge, line=0, cost=Decimal(2), billed_cost=Decimal(3), billed_currency="EUR")])
    for line, kind in enumerate(("fee", "tax", "credit", "purchase"), start=1):
        money = {"cost": Decimal(5), "billed_cost": Decimal(5), "billed_currency": "EUR"}
        series.add([dataclasses.replace(charge, line=line, kind=kind, **money)])
    assert totals(series, "cost") == {("USD",): Decimal(2)}
    assert totals(series, "billed") == {("EUR",): Decimal(13)}


def test_overflow_hides_the_last_labels_first(charge):
    """When the accounts are too many, what is new still shows its provider; when that is too much, nothing."""
    series = Series(("provider", "account"), 10)
    for number in range(50):
        series.add([dataclasses.replace(charge, record_id=f"a{number}", account=f"account-{number}")])
    series.add([dataclasses.replace(charge, record_id="d", provider="deepgram", account="new")])
    for number in range(50):
        series.add([dataclasses.replace(charge, record_id=f"p{number}", provider=f"p{number}", account="new")])
    found = totals(series, "records")
    assert len(found) == series.combinations == 10
    assert found["", "openai", "account-0"] == 1
    assert found["", "openai", "other"] == 42
    assert found["", "other", "other"] == 51
    assert sum(found.values()) == 101


def test_known_combinations_stay_known(charge):
    """An account that had a series of its own keeps it when there is no more room."""
    series = Series(("account",), 3)
    for number in range(20):
        series.add([dataclasses.replace(charge, record_id=f"r{number}", account=f"account-{number % 10}")])
    assert totals(series, "records") == {("", "account-0"): 2, ("", "account-1"): 2, ("", "other"): 16}


@pytest.mark.slow
def test_a_million_sessions_and_ten_thousand_accounts_are_few_series(charge):
    """A million distinct sessions of 10,000 accounts make no more combinations than allowed, and nothing is lost."""
    series = Series(LABELS, 1_000)
    for start in range(0, 1_000_000, 500):
        series.add(
            [
                dataclasses.replace(charge, record_id=f"r{n}", session_id=f"s{n}", account=f"account-{n % 10_000}")
                for n in range(start, start + 500)
            ]
        )
    found = totals(series, "records")
    assert len(found) == series.combinations <= 1_000
    assert sum(found.values()) == 1_000_000
    assert sum(totals(series, "quantity").values()) == 1_000_000 * charge.quantity
    assert len(series._counted._rows) == 20_000
