"""One FOCUS row per charge."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from livekit_costmeter.records import CHARGE_FIELDS
from livekit_costmeter.reporting.focus import FocusOptions, focus_row
from livekit_costmeter.reporting.focus.columns import CUSTOM


def row(charge, **options):
    return focus_row(charge, FocusOptions(**options))


def test_a_row_holds_every_field_of_its_charge(situations):
    """What no column of the specification has room for is in a custom one."""
    custom = {field: column for column, (field, _) in CUSTOM.items()}
    standard = {"account": "BillingAccountName", "project": "SubAccountId", "session_id": "ResourceId"}
    for charge in situations["everything"]:
        found = row(charge)
        for field in set(CHARGE_FIELDS) - {"labels", "room"}:
            assert found[{**custom, **standard}[field]] == getattr(charge, field)
        assert json.loads(found["Tags"] or "{}") == charge.labels
        assert charge.session_id is None or found["ResourceName"] == charge.room


@pytest.mark.parametrize(
    ("situation", "position", "provider", "publisher", "service_provider", "issuer"),
    [
        ("own keys", 0, "openai", "openai", "openai", "openai"),
        ("mixed call", 1, "VoiceCo", "openai", "openai", "VoiceCo"),
        ("unknown owner", 0, "openai", "openai", "openai", "unknown"),
        ("taxes", 0, "VoiceCo", "VoiceCo", "VoiceCo", "VoiceCo"),
    ],
)
def test_who_provides_and_who_invoices(situations, situation, position, provider, publisher, service_provider, issuer):
    """The provider invoices what an own key paid; the platform sells the rest, and its plan is its own service."""
    found = row(situations[situation][position], issuer="VoiceCo")
    assert found["InvoiceIssuerName"] == issuer
    assert (found["ProviderName"], found["PublisherName"]) == (provider, publisher)
    assert found["ServiceProviderName"] == service_provider


def test_livekit_invoices_under_its_name(charge):
    """Also a plan that it bills by."""
    assert row(charge(provider="livekit", billed_by="livekit"))["InvoiceIssuerName"] == "livekit"
    plan = charge(kind="fee", billed_by="livekit", pricing_source="plan:ship@0123456789ab#minutes")
    assert row(plan)["ServiceProviderName"] == "livekit"


def test_kinds_have_their_category(charge, fee, tax, credit, purchase, corrections):
    """Only corrections are of that class, and only usage has a consumed quantity."""
    found = [row(one) for one in (charge(), fee, tax, credit, purchase, *corrections)]
    categories = ["Usage", "Usage", "Tax", "Credit", "Purchase", "Usage", "Usage", "Usage", "Adjustment"]
    assert [one["ChargeCategory"] for one in found] == categories
    assert [one["ChargeClass"] for one in found] == [None] * 5 + ["Correction"] * 4
    assert [one["ConsumedUnit"] for one in found[:5]] == ["Tokens", "Seconds", None, None, None]
    assert [one["ChargeFrequency"] for one in found[3:6]] == ["One-Time", "One-Time", "Usage-Based"]


def test_periods_are_whole_seconds_and_whole_months(charge):
    """The end is exclusive, so work without a length lasts the second it was known in; the month is that of UTC."""
    at = datetime(2026, 12, 31, 23, 59, 59, 250000, tzinfo=UTC)
    instant, lasting = row(charge(at=at)), row(charge(at=at, started_at=at - timedelta(seconds=2.5)))
    assert instant["ChargePeriodStart"] == datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert instant["ChargePeriodEnd"] == lasting["ChargePeriodEnd"] == datetime(2027, 1, 1, tzinfo=UTC)
    assert lasting["ChargePeriodStart"] == datetime(2026, 12, 31, 23, 59, 56, tzinfo=UTC)
    assert instant["BillingPeriodStart"] == datetime(2026, 12, 1, tzinfo=UTC)
    assert instant["BillingPeriodEnd"] == datetime(2027, 1, 1, tzinfo=UTC)
    elsewhere = row(charge(at=datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=2)))))
    assert elsewhere["BillingPeriodStart"] == datetime(2026, 11, 1, tzinfo=UTC)
    backwards = row(charge(at=at, started_at=at + timedelta(hours=1)))
    assert backwards["ChargePeriodStart"] == instant["ChargePeriodStart"]


def test_skus_name_what_is_sold_and_their_prices_how_it_is_priced(mixed_call, fee, tax):
    """Neither has a price, a date or an account in it."""
    heard, thought, _ = (row(one) for one in mixed_call)
    assert (heard["SkuId"], heard["SkuMeter"]) == ("deepgram/nova-3/audio_seconds", "Audio seconds")
    assert (heard["SkuPriceId"], heard["PricingUnit"]) == ("deepgram/nova-3/audio_seconds/per-60", "Minutes")
    assert (thought["SkuPriceId"], thought["PricingUnit"]) == (
        "openai/gpt-4o-mini/input_tokens/per-1000000",
        "1000000 Tokens",
    )
    assert json.loads(thought["SkuPriceDetails"]) == {
        "x_Component": "llm",
        "x_Provider": "openai",
        "x_Model": "gpt-4o-mini",
    }
    assert (row(fee)["SkuId"], row(fee)["SkuPriceId"]) == (
        "plan/acme-2026/platform-fee",
        "plan/acme-2026/platform-fee/per-60",
    )
    assert (row(tax)["SkuId"], row(tax)["SkuPriceId"], row(tax)["PricingCategory"]) == (None, None, None)


def test_what_is_not_known_is_said_in_words(unpriced, unknown_owner, charge):
    """A 0 that is not known to be one stands beside a sentence and a null."""
    found = row(unpriced())
    assert found["ChargeDescription"] == (
        "1000 input tokens of gpt-4o-mini by openai; cost not known; billed amount not known"
    )
    assert (found["x_PricingStatus"], found["x_ProviderEstimatedCost"]) == ("unpriced", None)
    assert (found["PricingQuantity"], found["ConsumedQuantity"], found["x_Quantity"]) == (None, None, 1000)
    whose = row(unknown_owner)
    assert whose["ChargeDescription"].endswith("; who is billed is not known")
    assert (whose["x_BilledBy"], whose["x_BilledCost"], whose["BilledCost"]) == ("unknown", None, 0)
    assert row(charge())["ChargeDescription"] == "1000 input tokens of gpt-4o-mini by openai"


def test_every_component_is_a_service(charge):
    """Models are AI, calls are networking; work of nobody in particular has an account all the same."""
    components = ("stt", "llm", "tts", "realtime", "turn_detection", "interruption", "call")
    found = [row(charge(component=component)) for component in components]
    assert len({one["ServiceName"] for one in found}) == len(components)
    assert {one["ServiceCategory"] for one in found} == {"AI and Machine Learning", "Networking"}
    assert {one["BillingAccountId"] for one in found} == {"unassigned"}
