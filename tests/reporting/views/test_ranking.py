"""The most expensive rows, and what the others come to."""

import json
from decimal import Decimal

from livekit_costmeter.reporting import build_report, report_json, report_text
from livekit_costmeter.reporting.views import top


def test_the_most_expensive_rows_come_first_and_the_total_stays(charge, unpriced):
    """What is left out is counted and summed up; a row without a price is not the cheapest, it comes last."""
    charges = [charge(record_id=str(n), model=f"m{n}", cost=Decimal(n)) for n in (1, 4, 2, 3)]
    charges.append(unpriced(record_id="u", model="a"))
    report = build_report(charges, ["model"])
    found = top(report, 2)
    assert [row.key["model"] for row in found.rows] == ["m4", "m3"]
    assert found.total == report.total
    assert (found.left_out.rows, found.left_out.unpriced_rows, found.left_out.cost) == (3, 1, {"USD": 3})
    assert "not shown: 3 more rows, >= 3 USD" in report_text(found)
    assert json.loads(report_json(found))["left_out"] == {
        "rows": 3,
        "unpriced_rows": 1,
        "cost": {"USD": "3"},
        "billed_cost": {"USD": "0.0003"},
    }
    assert "left_out" not in json.loads(report_json(report))


def test_where_there_are_several_currencies_the_one_that_most_rows_have_decides(charge):
    """They are never compared with each other."""
    charges = [
        charge(record_id="a", model="a", cost=Decimal(1)),
        charge(record_id="b", model="b", cost=Decimal(2)),
        charge(record_id="c", model="c", cost=Decimal(9), currency="EUR"),
    ]
    assert [row.key["model"] for row in top(build_report(charges, ["model"]), 9).rows] == ["b", "a", "c"]
