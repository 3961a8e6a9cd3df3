"""Charges in every situation that a FOCUS file has to have room for."""

from datetime import timedelta
from decimal import Decimal

import pytest

OWN = {"key_owner": "acme", "key_id": "9f31c2d07a4e", "billed_by": "provider", "billed_cost": Decimal(0)}
NO_UNIT_PRICE = {"unit_price": None, "price_per": None}
NOTHING = {"quantity": Decimal(0), "billable_quantity": Decimal(0), **NO_UNIT_PRICE}
FX = "catalog:genai-prices@0.2.3#openai/gpt-4o-mini@2024-07-18?fx=USD-INR:83.1@2026-01-01"
INR = {"currency": "INR", "billed_currency": "INR", "account": "acme"}
FEE = {
    "component": "call",
    "provider": "webrtc",
    "model": "web",
    "unit": "call_seconds",
    "quantity": Decimal(61),
    "billable_quantity": Decimal(120),
    "price_per": Decimal(60),
}
HEARD = {
    "component": "stt",
    "provider": "deepgram",
    "model": "nova-3",
    "unit": "audio_seconds",
    "quantity": Decimal("100.123456789"),
    "billable_quantity": Decimal("100.123456789"),
    "unit_price": Decimal("0.0048"),
    "price_per": Decimal(60),
    "cost": Decimal("0.008009876543"),
}


@pytest.fixture(scope="session")
def own_key(charge):
    """Return a charge that an account's own key paid for."""
    return charge(record_id="own", account="acme", **OWN)


@pytest.fixture(scope="session")
def unknown_owner(charge):
    """Return a charge of which nobody knows whose key paid for it."""
    nobody = {"key_owner": "unknown", "billed_by": "unknown", "billed_cost": None, "billed_currency": None}
    return charge(record_id="whose", **nobody)


@pytest.fixture(scope="session")
def converted(charge):
    """Return a charge in dollars that is billed in rupees."""
    billed = {"billed_cost": Decimal("0.012465"), "billed_currency": "INR"}
    return charge(record_id="fx", account="acme", pricing_source=FX, **billed)


@pytest.fixture(scope="session")
def fee(charge):
    """Return a fee of a plan, by the minute, that takes credits."""
    money = {"unit_price": Decimal("1.5"), "cost": Decimal(3), "billed_cost": Decimal(3), "credits": Decimal(600)}
    source = "plan:acme-2026@0123456789ab#platform-fee?pulse=60"
    return charge(record_id="fee", kind="fee", pricing_source=source, **FEE, **INR, **money)


@pytest.fixture(scope="session")
def tax(charge):
    """Return the tax on that fee."""
    amount = Decimal("0.54")
    money = {"unit_price": Decimal("0.27"), "cost": amount, "billed_cost": amount, "credits": Decimal(108)}
    source = "plan:acme-2026@0123456789ab#gst"
    return charge(record_id="fee", line=1, kind="tax", pricing_source=source, **FEE, **INR, **money)


@pytest.fixture(scope="session")
def credit(charge):
    """Return a credit that the platform grants."""
    return charge(record_id="trial", kind="credit", **NOTHING, cost=Decimal(-5), billed_cost=Decimal(-5))


@pytest.fixture(scope="session")
def purchase(charge):
    """Return a purchase."""
    one = {"unit": "requests", "quantity": Decimal(1), "billable_quantity": Decimal(1), "price_per": Decimal(1)}
    money = {"unit_price": Decimal(2), "cost": Decimal(2), "billed_cost": Decimal(2)}
    return charge(record_id="number", kind="purchase", component="call", provider="twilio", **one, **money)


@pytest.fixture(scope="session")
def corrections(charge):
    """Return corrections: of a quantity, of a price, of an own key's cost, and of a tax."""
    fewer = {"quantity": Decimal(-10), "billable_quantity": Decimal(-10)}
    less = {"cost": Decimal("-0.0000015"), "billed_cost": Decimal("-0.0000015")}
    own = {**OWN, "cost": Decimal("-0.5"), "pricing_source": "invoice:0123456789ab"}
    of_tax = {"cost": None, "billed_cost": Decimal("-0.01"), "pricing_source": "plan:acme-2026@ba9876543210#gst"}
    return [
        charge(record_id="c1", kind="correction", corrects="llm", **fewer, **less),
        charge(record_id="c2", kind="correction", corrects="llm", **NOTHING, **less),
        charge(record_id="c3", kind="correction", corrects="own", **NOTHING, **own),
        charge(record_id="c4", kind="correction", corrects="fee", **NOTHING, **INR, **of_tax),
    ]


@pytest.fixture(scope="session")
def mixed_call(charge, noon):
    """Return one call: an account's own key for speech to text, the platform's for the rest."""
    call = {"account": "acme", "session_id": "ses-1", "room": "room-1", "labels": {"campaign": "q4", "ü": 'x,"y"\nz'}}
    speech = {"component": "tts", "provider": "cartesia", "model": "sonic-3", "unit": "characters"}
    return [
        charge(record_id="stt", **call, **HEARD, **OWN),
        charge(record_id="llm", **call, project="line", started_at=noon - timedelta(seconds=2.5)),
        charge(record_id="tts", **call, **speech),
    ]


@pytest.fixture(scope="session")
def situations(
    charge, unpriced, own_key, unknown_owner, converted, fee, tax, credit, purchase, corrections, mixed_call
):
    """Return lists of charges by what they are examples of."""
    covered = charge(record_id="covered", account="acme", billed_cost=Decimal(0), billed_currency="INR")
    free = charge(record_id="free", unit_price=Decimal(0), cost=Decimal(0), pricing_status="free")
    found = {
        "mixed call": mixed_call,
        "own keys": [own_key],
        "credits": [credit, fee, purchase],
        "corrections": corrections,
        "taxes": [fee, tax],
        "unpriced": [unpriced(), unpriced(record_id="b", billed_cost=Decimal(0), billed_currency="INR"), free],
        "unknown owner": [unknown_owner],
        "currencies": [converted, covered, fee, charge()],
    }
    return {**found, "everything": [one for charges in found.values() for one in charges]}
