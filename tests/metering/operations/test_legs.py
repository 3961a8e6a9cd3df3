"""Whose number a leg is on, and what is kept of what LiveKit knows about it."""

from __future__ import annotations

import pytest

from livekit_costmeter.metering import TelephonyRule
from tests.metering.lobby import INBOUND, OUTBOUND


def last_of(exchange, lobby, session, **attributes):
    """Return the last record of a call with these attributes."""
    exchange.starts(session)
    lobby.joins("caller", attributes=attributes)
    session.close()
    return exchange.written[-1]


RULES = [
    TelephonyRule("nobody", number="+9198*"),
    TelephonyRule("platform", "vobiz", trunk="ST_*", number="+9180*", direction="inbound", number_type="local"),
    TelephonyRule("acme", "twilio", direction="outbound", account="acme"),
    TelephonyRule("platform", "plivo"),
]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (INBOUND, ("vobiz", "inbound", "platform", "local", "ST_in")),
        (OUTBOUND, ("twilio", "outbound", "acme", None, "ST_out")),
        ({**INBOUND, "sip.trunkPhoneNumber": "+14155550100"}, ("plivo", "inbound", "platform", None, "ST_in")),
        ({**INBOUND, "sip.trunkPhoneNumber": ""}, ("plivo", "inbound", "platform", None, "ST_in")),
        ({**OUTBOUND, "sip.trunkID": "", "sip.twilio.callSid": "CA1"}, ("twilio", "outbound", "acme", None, None)),
    ],
)
async def test_the_first_rule_that_fits_our_number_decides(make_exchange, lobby, make_session, attributes, expected):
    """Trunk, our own number and direction are matched; the number of the other side never is."""
    record = last_of(make_exchange(RULES), lobby, make_session(lobby.room), **attributes)
    said = record["attributes"]
    found = record["provider"], record["model"], record["key_owner"], said.get("number_type"), said.get("trunk")
    assert found == expected


@pytest.mark.parametrize(
    ("number", "pattern", "is_meant"),
    [
        ("+91 80-1234 5678", "+9180*", True),
        ("+918012345678", "+91 (80) 1234 5678", True),
        ("080 1234 5678", "080*", True),
        ("+918012345678", "+91[78]0[0-9]*", True),
        ("+918012345678", "+91[1-7]*", False),
        ("+918012345678", "080*", False),
        ("+918012345678", "80*", False),
        ("", "+91*", False),
        ("", "*", True),
    ],
)
async def test_a_number_is_one_however_it_is_spaced(make_exchange, lobby, make_session, number, pattern, is_meant):
    """Spaces, dashes, dots and brackets make no other number; a national form is another text than an international."""
    exchange = make_exchange([TelephonyRule("platform", number=pattern)])
    record = last_of(exchange, lobby, make_session(lobby.room), **{**INBOUND, "sip.trunkPhoneNumber": number})
    assert (record["key_owner"] == "platform") is is_meant


@pytest.mark.parametrize(
    ("attributes", "rules", "provider"),
    [
        ({"sip.twilio.accountSid": "AC1"}, (), "twilio"),
        ({"sip.telnyx.callLegID": "1"}, (), "telnyx"),
        ({}, (), "unknown"),
        ({"sip.twilio.callSid": "CA1"}, [TelephonyRule("acme", "Vonage")], "vonage"),
        ({"sip.twilio.callSid": "CA1"}, [TelephonyRule("acme")], "twilio"),
    ],
)
async def test_the_carrier_is_what_a_rule_says_else_what_livekit_says(
    make_exchange, lobby, make_session, attributes, rules, provider
):
    """Without either it is unknown, and so is the owner of the number without a rule."""
    record = last_of(make_exchange(rules), lobby, make_session(lobby.room), **INBOUND, **attributes)
    assert (record["provider"], record["key_owner"]) == (provider, "acme" if rules else "unknown")


@pytest.mark.parametrize(
    ("privacy", "caller", "ours"),
    [
        ("masked", "+**********78", "+**********78"),
        ("full", "+919812345678", "+918012345678"),
        ("hash", "tel_", "tel_"),
    ],
)
async def test_ids_are_kept_numbers_pass_privacy_and_the_rest_stays_out(
    make_exchange, lobby, make_session, privacy, caller, ours
):
    """Hosts and headers may hold anything; numbers are written as the configuration says."""
    attributes = {**INBOUND, "sip.twilio.callSid": "CA1", "sip.twilio.accountSid": "AC1"}
    sip = last_of(make_exchange(privacy=privacy), lobby, make_session(lobby.room), **attributes)["attributes"]["sip"]
    assert sip.keys() == {
        *("callID", "callStatus", "trunkID", "ruleID", "twilio.callSid", "phoneNumber", "trunkPhoneNumber"),
    }
    assert sip["phoneNumber"].startswith(caller)
    assert sip["trunkPhoneNumber"].startswith(ours)
    assert (sip["phoneNumber"] == sip["trunkPhoneNumber"]) is (privacy == "masked")


@pytest.mark.parametrize("mode", ["masked", "hash"])
async def test_no_number_is_in_a_record_or_a_repr(make_exchange, lobby, make_session, mode):
    """Neither the caller's nor ours, whichever way they are written, in whatever we hold while the call lasts."""
    numbers = ["98123 45678", "+91 80 1234 5678", "+919812345678"]
    exchange = make_exchange([TelephonyRule("platform", number=numbers[1])], mode)
    session = exchange.starts(make_session(lobby.room))
    attributes = {**INBOUND, "sip.phoneNumber": numbers[0], "sip.trunkPhoneNumber": numbers[1]}
    lobby.joins(f"sip_{numbers[2]}", attributes=attributes)
    leg = exchange.meter._calls[session].leg
    session.close()
    held = f"{exchange.written} {leg!r} {leg.line!r} {leg.scope!r} {exchange.meter._rules!r}"
    assert leg.line.owner == "platform"
    assert not [number for number in numbers if number in held or number.replace(" ", "") in held]


async def test_a_short_number_and_an_identity_with_a_number_are_masked_too(exchange, lobby, make_session):
    """An extension is a number wherever LiveKit says so, and SIP identities are made of numbers."""
    session = exchange.starts(make_session(lobby.room))
    lobby.joins("sip_+919812345678", attributes={**OUTBOUND, "sip.callStatus": "active"})
    session.close()
    text = str(exchange.written)
    assert exchange.written[-1]["attributes"]["sip"]["phoneNumber"] == "**01"
    assert "1001" not in text
    assert "919812345678" not in text
