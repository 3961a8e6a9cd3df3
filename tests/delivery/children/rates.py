"""Usage and prices for tests: a record as the meter writes it, and a rate that makes two charges of each."""

from decimal import Decimal

from livekit_costmeter.records import Charge, UsageRecord, usage_json


def usage(**changes):
    """Return the fields of one record."""
    fields = {
        "at": "2026-11-20T18:11:24.123456Z",
        "component": "llm",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "quantities": {"input_tokens": "1200", "output_tokens": "55"},
        "account": "acme",
        "labels": {"campaign": "q4"},
    }
    return {**fields, **changes}


def body(**changes):
    """Return what the meter appends: a record as JSON members, before it has an id."""
    return usage_json(usage(**changes))[1:]


def two_charges(record: UsageRecord) -> list[Charge]:
    """Charge every record at 1 per million, in two lines."""
    return [_charge(record, line, unit) for line, unit in enumerate(("input_tokens", "output_tokens"))]


def _charge(record: UsageRecord, line: int, unit: str) -> Charge:
    quantity = record.quantities.get(unit, Decimal(0))
    same = ("at", "started_at", "component", "outcome", "provider", "model", "reported_provider", "reported_model")
    more = ("operation_id", "key_id", "key_owner", "account", "project", "labels", "session_id", "job_id", "room")
    copied = {name: getattr(record, name) for name in (*same, *more, "agent", "participant", "speech_id")}
    return Charge(
        record_id=record.id,
        line=line,
        kind="usage",
        unit=unit,
        quantity=quantity,
        quantity_basis="reported",
        billable_quantity=quantity,
        unit_price=Decimal(1),
        price_per=Decimal(1_000_000),
        cost=quantity / 1_000_000,
        currency="USD",
        pricing_status="priced",
        pricing_source="ratecard:test@00#*/*@2026-01-01",
        price_digest=None,
        stale=False,
        billed_by="unknown",
        billed_cost=None,
        billed_currency=None,
        credits=None,
        corrects=None,
        **copied,
    )
