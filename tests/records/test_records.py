"""Usage records and charges as JSON, both ways."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livekit_costmeter.records import (
    CHARGE_FIELDS,
    Charge,
    InvalidRecord,
    charge_fields,
    charge_json,
    decimal_text,
    format_instant,
    parse_charge,
    parse_instant,
    parse_usage,
    round_cost,
    usage_fields,
)

AT = "2026-11-20T18:11:24.123456Z"
MINIMAL = {
    "component": "llm",
    "provider": "openai",
    "model": "gpt-4o-mini",
    "quantities": {"input_tokens": "5"},
    "at": AT,
}


def line(**changes):
    return json.dumps({key: value for key, value in {**MINIMAL, **changes}.items() if value is not ...})


def test_a_minimal_record_gets_an_id_and_defaults():
    """Five keys are enough; the id is then the line's digest, the same for the same line."""
    record = parse_usage(line())
    assert record.id == parse_usage(line()).id != parse_usage(line(model="gpt-4o")).id
    assert (record.outcome, record.key_owner, record.labels) == ("completed", "unknown", {})
    assert record.at == datetime(2026, 11, 20, 18, 11, 24, 123456, tzinfo=UTC)


def test_a_record_survives_the_round_trip():
    """What is read back equals what was written."""
    record = parse_usage(
        line(id="a-1", started_at=AT, basis={"input_tokens": "reported"}, labels={"campaign": "q4 é"},
             operation_total={"input_tokens": "5"}, attributes={"estimate": {"ratio": "4.1"}})
    )  # fmt: skip
    assert parse_usage(json.dumps(usage_fields(record))) == record


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"component": ...}, "component: missing (required: component, provider, model, quantities, at)"),
        ({"quantities": ...}, "quantities: missing"),
        ({"component": "lllm"}, "component: 'lllm' is not one of stt, llm, tts"),
        ({"quantities": {"tokens": "1"}}, "quantities.tokens: unknown unit (allowed: input_tokens"),
        ({"quantities": {"input_tokens": "many"}}, "quantities.input_tokens: 'many' is not a decimal"),
        ({"quantities": {"input_tokens": "-1"}}, "quantities.input_tokens: -1 is outside 0"),
        ({"quantities": {"input_tokens": "NaN"}}, "quantities.input_tokens: NaN is outside 0"),
        ({"quantities": {"input_tokens": True}}, "quantities.input_tokens: expected a decimal string"),
        ({"quantities": ["input_tokens"]}, "quantities: expected an object"),
        ({"at": "yesterday"}, "at: expected an ISO 8601 instant or epoch seconds"),
        ({"at": 1e30}, "at: expected an ISO 8601 instant or epoch seconds"),
        ({"basis": {"input_tokens": "guessed"}}, "basis.input_tokens: 'guessed' is not one of reported"),
        ({"outcome": "lost"}, "outcome: 'lost' is not one of completed"),
        ({"labels": {"a": 1}}, "labels.a: expected text"),
        ({"colour": "red"}, "colour: unknown key (allowed: id, at"),
        ({"provider": 5}, "provider: expected text, got 5"),
    ],
)
def test_a_bad_record_is_refused_by_key(changes, message):
    """The message names the key and what is allowed."""
    with pytest.raises(InvalidRecord) as error:
        parse_usage(line(**changes))
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '"text"', "null", b"\xff\xfe"])
def test_what_is_no_object_is_refused(text):
    """Anything but one JSON object is an error, never a crash."""
    with pytest.raises(InvalidRecord):
        parse_usage(text)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_no_line_crashes_the_reader(text):
    """Whatever stands on a line, it is a record or an InvalidRecord."""
    try:
        record = parse_usage(text)
    except InvalidRecord as error:
        assert str(error)
    else:
        assert record.component


def test_instants_are_utc():
    """An offset is converted, a missing one means UTC, and microseconds are always written."""
    noon = datetime(2026, 11, 20, 12, tzinfo=timezone(timedelta(hours=2)))
    assert format_instant(noon) == "2026-11-20T10:00:00.000000Z"
    assert parse_instant("2026-11-20T12:00:00+02:00") == noon
    assert parse_instant("2026-11-20T10:00:00") == noon
    assert parse_instant("2026-11-20") == datetime(2026, 11, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1E+3", "1000"),
        ("0.0000001", "0.0000001"),
        ("1E-12", "0.000000000001"),
        ("5.000", "5"),
        ("-0.0", "0"),
        ("0", "0"),
        ("100", "100"),
    ],
)
def test_decimals_are_written_plainly(value, text):
    """No exponent, no trailing zeros, no negative zero."""
    assert decimal_text(Decimal(value)) == text


def test_money_rounds_half_even_at_twelve_places():
    """A tie goes to the even neighbour."""
    assert round_cost(Decimal("0.0000000000005")) == 0
    assert round_cost(Decimal("0.0000000000015")) == Decimal("0.000000000002")


def charge(**changes):
    values = dict.fromkeys(CHARGE_FIELDS)
    at = datetime(2026, 11, 20, tzinfo=UTC)
    values.update(
        record_id="a-1", line=0, kind="usage", at=at, component="llm", outcome="completed", provider="a", model="m",
        unit="input_tokens", quantity=Decimal(5), quantity_basis="reported", billable_quantity=Decimal(5),
        pricing_status="unpriced", pricing_source="unpriced:no_match", stale=False, key_owner="unknown",
        billed_by="unknown", labels={"a": "b"},
    )  # fmt: skip
    return Charge(**{**values, **changes})


def test_a_charge_survives_the_round_trip():
    """Exact decimals and nulls come back as they went."""
    for one in (charge(), charge(cost=Decimal("0.000000000001"), currency="USD", unit_price=Decimal("0.15"))):
        assert parse_charge(charge_json(one)) == one


def test_an_unknown_cost_is_null_and_never_zero():
    """JSON says null where a price is not known."""
    assert charge_fields(charge())["cost"] is None
    assert b'"cost":null' in charge_json(charge())


@pytest.mark.parametrize("change", [{"cost": "much"}, {"extra": 1}])
def test_a_damaged_charge_is_refused(change):
    """A line that is not a whole charge is an error that says why."""
    with pytest.raises(InvalidRecord):
        parse_charge(json.dumps({**charge_fields(charge()), **change}))
