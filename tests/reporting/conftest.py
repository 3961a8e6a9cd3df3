"""Charges for the tests of reporting: a whole, valid one by default, any field of it replaced."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from livekit_costmeter.records import Charge

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def make_charge(**fields):
    """Build a priced charge; a field named in `fields` replaces the default."""
    defaults = {
        "record_id": "seg-1",
        "line": 0,
        "kind": "usage",
        "at": NOON,
        "started_at": None,
        "component": "llm",
        "outcome": "completed",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "reported_provider": "api.openai.com",
        "reported_model": "gpt-4o-mini",
        "operation_id": None,
        "unit": "input_tokens",
        "quantity": Decimal(1000),
        "quantity_basis": "reported",
        "billable_quantity": Decimal(1000),
        "unit_price": Decimal("0.15"),
        "price_per": Decimal(1000000),
        "cost": Decimal("0.00015"),
        "currency": "USD",
        "pricing_status": "priced",
        "pricing_source": "catalog:genai-prices@0.2.3#openai/gpt-4o-mini@2024-07-18",
        "price_digest": None,
        "stale": False,
        "key_id": None,
        "key_owner": "platform",
        "billed_by": "platform",
        "billed_cost": Decimal("0.00015"),
        "billed_currency": "USD",
        "credits": None,
        "account": None,
        "project": None,
        "labels": {},
        "session_id": None,
        "job_id": None,
        "room": None,
        "agent": None,
        "participant": None,
        "speech_id": None,
        "corrects": None,
    }
    return Charge(**{**defaults, **fields})


def make_unpriced(**fields):
    """Build a charge without a price."""
    nothing = dict.fromkeys(("unit_price", "price_per", "cost", "currency", "billed_cost", "billed_currency"))
    status = {"pricing_status": "unpriced", "pricing_source": "unpriced:no_match?tier=flex"}
    return make_charge(**{**nothing, **status, **fields})


@pytest.fixture(scope="session")
def charge() -> Callable[..., Charge]:
    """Return the factory of priced charges."""
    return make_charge


@pytest.fixture(scope="session")
def unpriced() -> Callable[..., Charge]:
    """Return the factory of unpriced charges."""
    return make_unpriced


@pytest.fixture(scope="session")
def noon() -> datetime:
    """Return the instant at which charges happen by default."""
    return NOON
