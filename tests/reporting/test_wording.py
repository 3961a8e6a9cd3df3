"""How values are worded."""

from decimal import Decimal

import pytest

from livekit_costmeter.reporting.wording import money_text, name_text, percent_text, quantity_texts


@pytest.mark.parametrize(
    ("amount", "exact", "partial", "expected"),
    [
        ("0.0123456789", True, False, "0.0123456789 USD"),
        ("0.0123456789", False, False, "0.012346 USD"),
        ("0.0123456789", False, True, ">= 0.012345 USD"),
        ("1234567.5", False, False, "1,234,567.500000 USD"),
        ("1E-12", False, False, "0.000000000001 USD"),
        ("0", False, False, "0.000000 USD"),
        ("-0.5", False, False, "-0.500000 USD"),
    ],
)
def test_money(amount, exact, partial, expected):
    """Money rounds to 6 places for the eye, a lower bound rounds down, and nothing small reads as nothing."""
    assert expected == money_text(Decimal(amount), "USD", exact=exact, partial=partial)


def test_quantities_leave_out_zeros_among_several():
    """A row of one unit says 0; among several, zeros are noise."""
    assert quantity_texts({"requests": Decimal(0)}, exact=False) == ["0 requests"]
    mixed = {"input_tokens": Decimal("12345.50"), "requests": Decimal(0)}
    assert quantity_texts(mixed, exact=False) == ["12,345.5 input_tokens"]
    assert quantity_texts(mixed, exact=True) == ["12345.5 input_tokens"]


@pytest.mark.parametrize(
    ("share", "expected"), [("0", "0 %"), ("0.000001", "0.1 %"), ("0.1234", "12.4 %"), ("1", "100 %")]
)
def test_percents_round_up(share, expected):
    """Only a share of exactly 0 reads as 0 %."""
    assert expected == percent_text(Decimal(share))


@pytest.mark.parametrize(
    ("name", "expected"), [(None, "-"), ("", "-"), ("日本 ü", "日本 ü"), ("a\tb\x7f\u202e", "a\\tb\\x7f\\u202e")]
)
def test_names(name, expected):
    """Letters of any script stay, what steers a terminal is escaped, nothing is a dash."""
    assert expected == name_text(name)
