"""Plans, records and prices for the tests of billing."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from livekit_costmeter.billing.bill import bill
from livekit_costmeter.billing.plans import Plan
from livekit_costmeter.billing.plans.mistakes import find_mistake
from livekit_costmeter.billing.schema import PlanModel
from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.pricing.policies import PolicyTable
from livekit_costmeter.pricing.ratecards import RateCard, overrides_card
from livekit_costmeter.pricing.schema import RateCardFile
from livekit_costmeter.records import UNIT_ORDER, UsageRecord

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
ROWS = [
    {"provider": "openai", "model": "gpt-4o-mini", "unit": "input_tokens", "price": "0.15", "per": 1000000},
    {"provider": "openai", "model": "gpt-4o-mini", "unit": "output_tokens", "price": "0.60", "per": 1000000},
    {"provider": "acme-tts", "model": "flash", "unit": "characters", "price": "0.05", "per": 1000},
    {"provider": "acme-stt", "model": "nova", "unit": "audio_seconds", "price": "0.0043", "per": 60},
    {"provider": "acme-stt", "model": "nova", "unit": "connection_seconds", "price": "0.0043", "per": 60},
    {"provider": "twilio", "model": "*", "unit": "call_seconds", "price": "0.0085", "per": 60},
    {"provider": "webrtc", "model": "*", "unit": "call_seconds", "price": "0"},
    {"provider": "webrtc", "model": "*", "unit": "messages", "price": "0"},
    {"provider": "euro", "model": "*", "unit": "characters", "price": "1", "per": 1000, "currency": "EUR"},
]


@pytest.fixture(scope="session")
def prices():
    """A book with a few prices and no policy: nothing but what stands above."""
    card = RateCard.from_model(RateCardFile.model_validate({"name": "card", "rates": ROWS}), "0123456789ab")
    book = PriceBook([card], overrides=overrides_card([]), catalogs=[])
    book.__dict__["policies"] = PolicyTable(shipped=[])
    return book


@pytest.fixture(scope="session")
def usage():
    """Build a record; unit names in the keywords are quantities, everything else is a field."""

    def build(component, provider, model, **values):
        quantities = {name: Decimal(str(values.pop(name))) for name in list(values) if name in UNIT_ORDER}
        fields = {"id": "r1", "at": NOON, "key_owner": "platform", **values}
        return UsageRecord(component=component, provider=provider, model=model, quantities=quantities, **fields)

    return build


@pytest.fixture(scope="session")
def plan():
    """Build a plan that has no mistake from its keys as they stand in the file."""

    def build(**keys):
        model = PlanModel.model_validate({"name": "gold", "currency": "USD", **keys})
        assert find_mistake(model) is None
        return Plan.from_model(model, "fedcba987654")

    return build


@pytest.fixture(scope="session")
def billed(prices):
    """Rate a record and apply a plan."""

    def build(record, plan, **options):
        return bill(record, rate(record, prices), plan, **options)

    return build


@pytest.fixture(scope="session")
def leg(usage):
    """Build the records of one call leg: opened at answer, then its increments, the last with the total."""

    def build(*increments, provider="vobiz", model="inbound", closed=True, attributes=None, **fields):
        total = sum(map(Decimal, increments), Decimal(0))
        shared = {"operation_id": "leg-1", **fields}
        attributes = {"leg": "primary", **(attributes or {})}
        records = [
            usage(
                "call", provider, model, call_seconds=0, id="r0", attributes={**attributes, "state": "opened"}, **shared
            )
        ]
        for number, seconds in enumerate(increments, start=1):
            last = closed and number == len(increments)
            state = {**attributes, "state": "ended" if last else "connected"}
            sums = {"operation_total": {"call_seconds": total}} if last else {}
            record = usage(
                "call", provider, model, call_seconds=seconds, id=f"r{number}", attributes=state, **shared, **sums
            )
            records.append(record)
        return records

    return build
