"""What may be said of an address that holds a password."""

import pytest

from livekit_costmeter.delivery.sinks.addresses import Address, Secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://meter:horse-battery@host:4222", "nats://host:4222"),
        ("nats://horse-battery@host", "nats://host"),
        ("tls://meter:horse-battery@a:1,tls://meter:horse-battery@b:2", "tls://a:1,tls://b:2"),
        ("redis://:horse%2Fbattery@host:6379/0?ssl_cert_reqs=none", "redis://host:6379/0"),
        ("redis://host/0?password=horse-battery", "redis://host/0"),
        ("redis://:horse@battery@host/0", "redis://host/0"),
        ("redis://:horse/battery@host/0", "***"),
        ("horse-battery", "***"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
    ],
)
def test_address_is_shown_without_the_user(url, shown):
    """What an operator reads names the place, never who comes with which password."""
    assert Address(url).shown == shown
    assert "horse" not in Address(url).shown


@pytest.mark.parametrize(
    "url",
    [
        "nats://meter:horse%20battery@host",
        "nats://horse%20battery@host",
        "redis://host/0?password=horse%20battery",
        "nats://a:b@c,nats://meter:horse%20battery@host",
    ],
)
def test_secret_is_concealed_in_what_others_say(url):
    """A library that quotes the password, encoded or not, is corrected; its text becomes one line."""
    said = Address(url).conceal("refused\n'horse battery' or\thorse%20battery")
    assert said == "refused '***' or ***"


def test_short_secrets_do_not_blank_out_the_message():
    """A password of two letters is in every text, and hiding it would hide the text."""
    assert Secrets(["on", ""]).conceal("connection refused") == "connection refused"
