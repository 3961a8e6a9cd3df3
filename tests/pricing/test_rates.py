"""Rates, periods and source strings."""

from datetime import UTC, date, datetime
from decimal import Decimal

from livekit_costmeter.pricing.rates import Rate, RateTier, digest_of, midnight, period, with_flags


def test_a_tier_applies_strictly_above_its_size():
    """At the threshold the base price still holds; of several tiers the highest that is exceeded counts."""
    tiers = (RateTier(Decimal(10), Decimal(2)), RateTier(Decimal(20), Decimal(3)))
    rate = Rate("input_tokens", Decimal(1), Decimal(1), "USD", "s", "d", tiers=tiers)
    assert [rate.price_at(Decimal(size))[0] for size in (10, 11, 20, 21)] == [1, 2, 2, 3]


def test_a_cost_is_exact_beyond_the_precision_of_the_thread():
    """Large quantities at small prices lose no digit before the one rounding."""
    rate = Rate("audio_seconds", Decimal("0.000000000001"), Decimal(1), "USD", "s", "d")
    quantity = Decimal("123456789012345.123456789")
    assert rate.cost(quantity, rate.unit_price) == Decimal("123.456789012345123456789")


def test_flags_are_appended_once_and_quoted():
    """A flag's value cannot add flags of its own."""
    assert with_flags("s") == "s"
    assert with_flags("s", ("ref", "a&b=c?#"), ("stale", "1")) == "s?ref=a%26b%3Dc%3F%23&stale=1"


def test_a_period_ends_at_the_next_boundary():
    """The boundary itself belongs to what it begins."""
    first, second = midnight(date(2026, 1, 1)), midnight(date(2026, 2, 1))
    assert period([second, first], first) == (first, second)
    assert period([second, first], datetime(2025, 1, 1, tzinfo=UTC)) == (None, first)
    assert period([], first) == (None, None)


def test_a_digest_depends_on_content_not_on_order():
    """The same row gives the same twelve digits, however it is arranged."""
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    assert len(digest_of({})) == 12
