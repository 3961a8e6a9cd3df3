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


async def test_a_short_number_and_an_identity_with_a_number_are_masked_too(exchange, lobby, make_session):
    """An extension is a number wherever LiveKit says so, and SIP identities are made of numbers."""
    session = exchange.starts(make_session(lobby.room))
    lobby.joins("sip_+919812345678", attributes={**OUTBOUND, "sip.callStatus": "active"})
    session.close()
    text = str(exchange.written)
    assert exchange.written[-1]["attributes"]["sip"]["phoneNumber"] == "**01"
    assert "1001" not in text
    assert "919812345678" not in text
