"""Grouping, and what is said about unknown prices and call times."""

from datetime import timedelta
from decimal import Decimal

import pytest

from livekit_costmeter.records import UNIT_ORDER
from livekit_costmeter.reporting import UnknownDimension, UnpricedModel, build_report


def test_rows_are_ordered_by_key_with_missing_values_last(charge):
    """The order of the rows follows their keys, not the ledger."""
    charges = [charge(account=account, provider=provider) for account in (None, "b", "a") for provider in "yx"]
    keys = [tuple(row.key.values()) for row in build_report(charges, ["account", "provider"]).rows]
    assert keys == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), (None, "x"), (None, "y")]


def test_quantities_come_in_the_order_of_the_units(charge):
    """Units are listed in the order of the unit list, whatever came first."""
    charges = [charge(record_id=unit, unit=unit) for unit in reversed(UNIT_ORDER)]
    assert list(UNIT_ORDER) == list(build_report(charges, []).total.quantities)


def test_currencies_never_mix(charge):
    """Each currency has its own sum."""
    charges = [charge(cost=Decimal(1)), charge(cost=Decimal(2), currency="EUR"), charge(cost=Decimal(4))]
    assert build_report(charges, []).total.cost == {"EUR": 2, "USD": 5}


def test_an_unpriced_record_is_counted_once_and_adds_nothing_to_the_cost(charge, unpriced):
    """A record with a priced and two unpriced lines is one unpriced record; its priced part still counts."""
    charges = [
        charge(record_id="a"),
        unpriced(record_id="a", line=1, unit="output_tokens"),
        unpriced(record_id="a", line=2, unit="reasoning_tokens"),
        charge(record_id="b"),
    ]
    report = build_report(charges, ["unit"])
    assert (report.total.records, report.total.unpriced_records) == (2, 1)
    assert {"USD": Decimal("0.0003")} == report.total.cost
    by_unit = {row.key["unit"]: (row.cost, row.records, row.unpriced_records) for row in report.rows}
    assert by_unit["output_tokens"] == ({}, 1, 1)
    assert ({"USD": Decimal("0.0003")}, 2, 0) == by_unit["input_tokens"]


def test_unpriced_models_are_listed_with_their_reason(charge, unpriced):
    """The report names each model without a price, why, and in how many records, the most frequent first."""
    charges = [
        unpriced(record_id="a", model="x"),
        unpriced(record_id="b", model="y"),
        unpriced(record_id="b", model="y", line=1, unit="output_tokens"),
        unpriced(record_id="c", model="y"),
        unpriced(record_id="d", model="y", pricing_source="odd"),
        charge(record_id="e"),
    ]
    expected = [
        UnpricedModel("openai", "y", "no_match", 2),
        UnpricedModel("openai", "x", "no_match", 1),
        UnpricedModel("openai", "y", "unknown", 1),
    ]
    assert expected == list(build_report(charges, []).unpriced)


def test_a_free_charge_without_a_currency_is_not_unpriced(charge):
    """What costs nothing on purpose adds nothing and leaves no record unpriced."""
    report = build_report([charge(cost=Decimal(0), currency=None, pricing_status="free")], [])
    assert (report.total.cost, report.total.unpriced_records) == ({}, 0)


def test_a_billed_cost_that_is_not_known_is_said(charge):
    """A line whose owner is unknown leaves the bill incomplete, in its own row and in the total."""
    charges = [charge(), charge(record_id="b", key_owner="unknown", billed_cost=None, billed_currency=None)]
    report = build_report(charges, ["owner"])
    assert [row.billed_incomplete for row in report.rows] == [False, True]
    assert report.total.billed_incomplete
    assert {"USD": Decimal("0.00015")} == report.total.billed_cost


def test_minutes_come_from_the_call_time(charge, noon):
    """Call seconds are added up and decide, although the charges span more time."""
    charges = [
        charge(session_id="s", cost=Decimal(3)),
        charge(session_id="s", component="call", unit="call_seconds", quantity=Decimal(60), cost=Decimal(0)),
        charge(session_id="s", component="call", unit="call_seconds", quantity=Decimal(30), cost=Decimal(0)),
        charge(session_id="s", at=noon + timedelta(hours=1), cost=Decimal(0)),
    ]
    total = build_report(charges, []).total
    assert Decimal("1.5") == total.minutes
    assert {"USD": Decimal(2)} == total.cost_per_minute


def test_minutes_without_call_time_are_the_span_of_the_charges(charge, noon):
    """From the first start to the last charge of each call; a later correction does not stretch it."""
    charges = [
        charge(session_id="s", at=noon, started_at=noon - timedelta(seconds=30), cost=Decimal(1)),
        charge(session_id="s", at=noon + timedelta(seconds=90), cost=Decimal(1)),
        charge(session_id="s", at=noon + timedelta(days=3), kind="correction", cost=Decimal(2)),
        charge(session_id="t", at=noon, started_at=noon - timedelta(seconds=60), cost=Decimal(2)),
    ]
    total = build_report(charges, []).total
    assert (Decimal(3), {"USD": Decimal(2)}) == (total.minutes, total.cost_per_minute)


def test_minutes_of_a_row_are_those_of_its_calls(charge, noon):
    """A provider that took part in a call counts the whole call, because that is what a minute of calls costs."""
    call = charge(session_id="s", component="call", provider="livekit", unit="call_seconds", quantity=Decimal(120))
    charges = [call, charge(session_id="s", provider="a", at=noon), charge(session_id=None, provider="b")]
    minutes = {row.key["provider"]: row.minutes for row in build_report(charges, ["provider"]).rows}
    assert {"a": Decimal(2), "b": None, "livekit": Decimal(2)} == minutes


def test_a_filter_keeps_the_call_time(charge):
    """Asked for one provider only, the report still knows how long its calls lasted."""
    call = charge(session_id="s", component="call", provider="livekit", unit="call_seconds", quantity=Decimal(120))
    other = charge(session_id="t", component="call", provider="livekit", unit="call_seconds", quantity=Decimal(600))
    charges = [call, other, charge(session_id="s", cost=Decimal(1))]
    total = build_report(charges, [], where={"provider": ["openai"]}).total
    assert (1, Decimal(2), {"USD": Decimal("0.5")}) == (total.records, total.minutes, total.cost_per_minute)


def test_a_call_over_midnight_is_split_between_its_days(charge, noon):
    """By day, a call counts on each day for the seconds that fell on it."""
    fields = {"session_id": "s", "component": "call", "unit": "call_seconds"}
    night = noon + timedelta(hours=12)
    charges = [
        charge(**fields, at=night - timedelta(seconds=1), quantity=Decimal(60)),
        charge(**fields, at=night, quantity=Decimal(180)),
    ]
    report = build_report(charges, ["day"])
    expected = {"2026-11-20": Decimal(1), "2026-11-21": Decimal(3)}
    assert expected == {row.key["day"]: row.minutes for row in report.rows}
    assert Decimal(4) == report.total.minutes


def test_a_call_of_unknown_length_has_no_minutes(charge):
    """One instant is no length: the cost per minute is unknown, not infinite and not 0."""
    total = build_report([charge(session_id="s")], []).total
    assert (total.minutes, total.cost_per_minute) == (None, None)


def test_an_unpriced_call_has_no_cost_per_minute(unpriced, noon):
    """Where no cost is known, none per minute is either."""
    total = build_report([unpriced(session_id="s", started_at=noon - timedelta(minutes=1))], []).total
    assert (Decimal(1), None) == (total.minutes, total.cost_per_minute)


def test_the_period_is_half_open_and_kept_in_the_report(charge, noon):
    """Charges outside the period do not count, even if the ledger handed them out."""
    charges = [charge(record_id=str(hour), at=noon + timedelta(hours=hour)) for hour in range(4)]
    since, until = noon + timedelta(hours=1), noon + timedelta(hours=3)
    report = build_report(charges, [], since, until)
    assert (since, until, 2) == (report.since, report.until, report.total.records)


def test_naming_a_dimension_twice_groups_by_it_once(charge):
    """A repeated name is one column."""
    assert build_report([charge()], ["model", "unit", "model"]).by == ("model", "unit")


def test_a_wrong_name_is_refused_before_anything_is_read(charge):
    """An unknown dimension fails at once, in grouping and in filters."""
    untouched = iter([charge()])
    with pytest.raises(UnknownDimension):
        build_report(untouched, ["colour"])
    with pytest.raises(UnknownDimension):
        build_report(untouched, [], where={"colour": ["red"]})
    assert len(list(untouched)) == 1


def test_an_empty_ledger_gives_an_empty_report():
    """Without charges there are no rows, and the total knows nothing."""
    report = build_report([], ["provider"])
    assert (
        report.rows,
        report.total.records,
        report.total.cost,
        report.total.estimated_share,
        report.total.minutes,
    ) == ((), 0, {}, 0, None)
