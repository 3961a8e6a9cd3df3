"""Records, cards and books for the tests of pricing."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.pricing.ratecards import RateCard, overrides_card
from livekit_costmeter.pricing.schema import OverrideModel, RateCardFile
from livekit_costmeter.records import UNIT_ORDER, UsageRecord

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def record():
    """Build a record; unit names in the keywords are quantities, everything else is a field."""

    def build(component, provider, model, **values):
        quantities = {name: Decimal(str(values.pop(name))) for name in list(values) if name in UNIT_ORDER}
        fields = {"id": "r1", "at": NOON, **values}
        return UsageRecord(component=component, provider=provider, model=model, quantities=quantities, **fields)

    return build


@pytest.fixture
def card():
    """Build a rate card from rows as they stand in the file."""

    def build(*rows, name="acme-2026"):
        return RateCard.from_model(RateCardFile.model_validate({"name": name, "rates": rows}), "0123456789ab")

    return build


@pytest.fixture
def override():
    """Build overrides from rows as they stand in the file; what every row needs has a default."""

    def build(*rows):
        common = {"source": "https://vendor.example/pricing", "read": "2026-11-20"}
        return overrides_card(OverrideModel.model_validate({**common, **row}) for row in rows)

    return build


@pytest.fixture(scope="session")
def shipped():
    """The book that every installation has: shipped overrides, both catalogs."""
    return PriceBook()


@pytest.fixture(scope="session")
def catalogs_only():
    """Both catalogs without the shipped overrides."""
    return PriceBook(overrides=overrides_card([]))


@pytest.fixture
def lines():
    """Rate a record and return its charges by unit."""

    def by_unit(record, book):
        return {charge.unit: charge for charge in rate(record, book)}

    return by_unit
