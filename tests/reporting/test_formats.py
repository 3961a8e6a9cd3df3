"""Reports as JSON and CSV."""

import csv
import io
import json
from datetime import timedelta
from decimal import Decimal

from livekit_costmeter.records import UNIT_ORDER
from livekit_costmeter.reporting import build_report, report_csv, report_json


def test_json_has_the_documented_shape(charge, unpriced, noon):
    """Keys, decimals as strings, instants in UTC, null for what is not known."""
    charges = [
        charge(record_id="a", session_id="s", started_at=noon - timedelta(minutes=2), account="acme"),
        unpriced(record_id="a", line=1, session_id="s", unit="characters", quantity=Decimal("2.50"), account="acme"),
    ]
    row = {
        "quantities": {"input_tokens": "1000", "characters": "2.5"},
        "cost": {"USD": "0.00015"},
        "billed_cost": {"USD": "0.00015"},
        "records": 1,
        "unpriced_records": 1,
        "estimated_share": "0",
        "minutes": "2",
        "cost_per_minute": {"USD": "0.000075"},
    }
    expected = {
        "since": "2026-11-20T00:00:00.000000Z",
        "until": None,
        "by": ["account", "label:campaign"],
        "rows": [{"key": {"account": "acme", "label:campaign": None}, **row}],
        "total": row,
        "outcomes": [],
    }
    report = build_report(charges, ["account", "label:campaign"], noon.replace(hour=0))
    assert expected == json.loads(report_json(report))


def test_json_of_nothing_is_null_and_not_zero():
    """A report without charges has no cost, rather than a cost of 0."""
    total = json.loads(report_json(build_report([], [])))["total"]
    assert (total["cost"], total["minutes"], total["cost_per_minute"]) == ({}, None, None)


def test_json_never_uses_exponents(charge):
    """A tiny cost is written out."""
    total = json.loads(report_json(build_report([charge(cost=Decimal("1E-12"))], [])))["total"]
    assert total["cost"] == {"USD": "0.000000000001"}


def test_csv_has_the_same_columns_whatever_the_data(charge):
    """The header depends on the grouping alone."""
    empty = report_csv(build_report([], ["model"]))
    full = report_csv(build_report([charge()], ["model"]))
    assert empty.splitlines()[0] == full.splitlines()[0]
    assert empty.split(",")[:2] == ["model", "records"]
    assert list(UNIT_ORDER) == empty.rstrip("\n").split(",")[-len(UNIT_ORDER) :]


def test_csv_columns_add_up(charge, unpriced):
    """A row with two currencies takes two lines, but its counts and quantities stand once."""
    charges = [
        charge(record_id="a", cost=Decimal(1)),
        charge(record_id="b", cost=Decimal(2), currency="EUR", billed_cost=Decimal(2), billed_currency="EUR"),
        unpriced(record_id="c", model="other"),
    ]
    lines = list(csv.DictReader(io.StringIO(report_csv(build_report(charges, ["model"])))))
    shown = [(x["model"], x["records"], x["currency"], x["cost"], x["input_tokens"]) for x in lines]
    assert shown == [
        ("gpt-4o-mini", "2", "EUR", "2", "2000"),
        ("gpt-4o-mini", "", "USD", "1", ""),
        ("other", "1", "", "", "1000"),
    ]


def test_csv_keeps_a_unit_it_does_not_know(charge):
    """A quantity in a unit outside the list gets a column of its own at the end."""
    text = report_csv(build_report([charge(unit="gigabytes", quantity=Decimal(7))], []))
    header, line = text.splitlines()
    assert (header.split(",")[-1], line.split(",")[-1]) == ("gigabytes", "7")
