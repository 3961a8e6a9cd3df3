"""Phone numbers on their way into a record."""

from __future__ import annotations

import pytest

from livekit_costmeter.metering import Privacy


def privacy(mode="masked"):
    return Privacy(mode, secret=lambda: b"s")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("sip_+15551234567", "sip_+*********67"),
        ("+44 20 7946 0958", "+**********58"),
        ("call from (555) 123-4567 today", "call from ********67 today"),
        ("555-123-4567", "********67"),
        ("15551234567", "*********67"),
        ("tel:+4915112345678;x", "tel:+***********78;x"),
        ("020 7946 0958", "*********58"),
        ("98123 45678", "********78"),
        ("91-98123-45678", "91-********78"),
        ("0124-4567890", "*********90"),
    ],
)
def test_phone_numbers_are_masked_wherever_they_stand(text, masked):
    """Every usual spelling of a number loses all but its last two digits."""
    assert privacy().text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "room-1763662285123",
        "1763662285",
        "2026-11-20",
        "ses_1234567890abcdef",
        "550e8400-e29b-41d4-a716-446655440000",
        "v1.2.3",
    ],
)
def test_clocks_dates_and_ids_stay(text):
    """What only looks like digits is left alone, so that rooms and labels still group."""
    assert privacy().text(text) == text


def test_hashing_keeps_numbers_apart_without_showing_them():
    """The same number in two spellings gives one token, another number another one."""
    hashed = privacy("hash").text
    assert hashed("+15551234567") == hashed("+1 555 123 4567")
    assert hashed("+15551234567") != hashed("+15551234568")
    assert "555" not in hashed("+15551234567")


def test_full_numbers_only_on_request():
    """The configuration can ask for the numbers themselves."""
    assert privacy("full").text("sip_+15551234567") == "sip_+15551234567"


def test_accounts_of_plain_digits_stay_apart():
    """An account number is a name; only an international phone number in it is masked."""
    assert privacy().account("15551234567") == "15551234567"
    assert privacy().account("+15551234567") == "+*********67"


def test_without_a_secret_a_number_is_masked():
    """A disk that refuses the secret behind hashes costs neither the record nor the caller's privacy."""

    def refused():
        raise OSError("the disk is full")

    assert Privacy("hash", secret=refused).text("call of +4915112345678") == "call of +***********78"
