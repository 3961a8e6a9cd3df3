"""The file format of rate cards and overrides."""

from decimal import Decimal

import pytest
from pydantic import ValidationError

from livekit_costmeter.pricing.schema import OverrideModel, RateCardFile
from livekit_costmeter.records import UNIT_ORDER

ROW = {"provider": "deepgram", "model": "nova-3*", "unit": "audio_seconds", "price": "0.0048", "per": 60}


def read(*rows, **top):
    """Validate a card of these rows."""
    return RateCardFile.model_validate({"name": "acme", "rates": list(rows), **top})


def mistake(*rows, **top):
    """Return the first error that a card of these rows gives."""
    with pytest.raises(ValidationError) as caught:
        read(*rows, **top)
    return caught.value.errors()[0]


def test_prices_are_read_as_exact_decimals():
    """A quoted price, a whole number and a plain decimal number are all read as they are written."""
    prices = [read({**ROW, "price": price}).rates[0].price for price in ("0.0048", 0.0048, 2)]
    assert prices == [Decimal("0.0048"), Decimal("0.0048"), Decimal(2)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("price", "-0.1"),
        ("price", "NaN"),
        ("price", True),
        ("price", "free"),
        ("per", 0),
        ("per", "-60"),
        ("unit", "minutes"),
        ("currency", "usd"),
        ("effective_from", "2026-02-30"),
        ("provider", ""),
        ("tiers", [{"above": 0, "price": "1"}]),
        ("colour", "red"),
    ],
)
def test_a_wrong_value_is_refused_at_its_place(field, value):
    """The error names row and key, so that the reader of the file can point at the line."""
    assert mistake({**ROW, field: value})["loc"][:3] == ("rates", 0, field)


def test_an_unknown_unit_comes_with_the_allowed_ones():
    """The message of an unknown unit lists every unit."""
    message = mistake({**ROW, "unit": "minutes"})["msg"]
    assert all(unit in message for unit in UNIT_ORDER)


def test_a_period_must_have_a_length():
    """A row that ends before or when it begins is refused."""
    error = mistake({**ROW, "effective_from": "2026-06-01", "effective_to": "2026-06-01"})
    assert "effective_to must be later" in error["msg"]


def test_tiers_must_rise():
    """Two tiers with the same or falling thresholds are refused."""
    tiers = [{"above": 200, "price": "2"}, {"above": 100, "price": "1"}]
    assert "tiers must rise" in mistake({**ROW, "tiers": tiers})["msg"]


def test_rows_that_overlap_are_refused_by_position():
    """Two rows for the same pattern, unit and owner at the same time are an error that names both."""
    message = mistake({**ROW, "effective_to": "2026-07-01"}, {**ROW, "effective_from": "2026-06-30"})["msg"]
    assert "rates[0]" in message
    assert "rates[1]" in message


@pytest.mark.parametrize(
    "second",
    [
        {**ROW, "effective_from": "2026-07-01"},
        {**ROW, "key_owner": "acme"},
        {**ROW, "model": "nova-3"},
        {**ROW, "unit": "connection_seconds"},
    ],
)
def test_rows_that_differ_in_what_they_price_do_not_overlap(second):
    """The end of a period is exclusive, and another owner, pattern or unit is another price."""
    assert len(read({**ROW, "effective_to": "2026-07-01"}, second).rates) == 2


@pytest.mark.parametrize("name", ["", "a b", "a#b", "a@b", "a?b", "../x"])
def test_a_name_that_would_break_a_source_string_is_refused(name):
    """A card's name is part of every source string, so it has no delimiters in it."""
    assert mistake(ROW, name=name)["loc"] == ("name",)


def test_a_card_without_rates_is_refused():
    """An empty card is a mistake, not a card."""
    assert mistake()["loc"] == ("rates",)


@pytest.mark.parametrize("missing", ["id", "source", "read"])
def test_an_override_says_where_and_when_it_was_read(missing):
    """An override without its id, published page or date of reading is refused."""
    row = {**ROW, "id": "deepgram-nova-3", "source": "https://deepgram.com/pricing", "read": "2026-11-20"}
    del row[missing]
    with pytest.raises(ValidationError) as caught:
        OverrideModel.model_validate(row)
    assert caught.value.errors()[0]["loc"] == (missing,)
