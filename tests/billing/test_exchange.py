"""Currencies and the dated table between them."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from livekit_costmeter.billing.exchange import CURRENCIES, ExchangeRate, ExchangeRates, minor_unit

OLD = ExchangeRate.of("USD", "INR", Decimal(80), date(2026, 1, 1))
NEW = ExchangeRate.of("USD", "INR", Decimal("83.10"), date(2026, 6, 1))
ALWAYS = ExchangeRate.of("USD", "INR", Decimal(75), None)


def at(month, year=2026):
    return datetime(year, month, 1, tzinfo=UTC)


@pytest.mark.parametrize(("instant", "rate"), [(at(12, 2025), None), (at(1), OLD), (at(5), OLD), (at(6), NEW)])
def test_the_latest_rate_that_has_begun_is_in_force(instant, rate):
    """Midnight UTC of its date is the new rate's; before the first one there is none."""
    assert ExchangeRates([OLD, NEW]).rate("USD", "INR", instant) == rate
    assert ExchangeRates([NEW, OLD]).rate("USD", "INR", instant) == rate


def test_rates_are_not_inverted_and_a_currency_is_worth_one_of_itself():
    """Only what stands in the table is known."""
    table = ExchangeRates([OLD])
    assert table.rate("INR", "USD", at(2)) is None
    assert not table.knows("INR", "USD")
    assert table.rate("EUR", "EUR", at(2)).rate == 1


def test_another_table_is_asked_where_this_one_has_no_answer():
    """The plan's rates win, at every instant that they know."""
    table = ExchangeRates([NEW], ExchangeRates([ALWAYS]))
    assert [table.rate("USD", "INR", at(month)) for month in (5, 7)] == [ALWAYS, NEW]
    assert table.starts() == {at(6)}


def test_a_rate_names_itself():
    """Pair, rate and date, as sources carry them."""
    assert (NEW.tag, ALWAYS.tag) == ("USD-INR:83.1@2026-06-01", "USD-INR:75@base")


def test_minor_units_follow_the_currency():
    """Yen have none, dinars have thousandths, and three capitals alone are no currency."""
    assert [minor_unit(code) for code in ("USD", "JPY", "KWD")] == [Decimal("0.01"), 1, Decimal("0.001")]
    assert {"USD", "INR", "JPY"} <= CURRENCIES
    assert not {"ABC", "BTC", "XXX"} & CURRENCIES
