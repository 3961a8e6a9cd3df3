"""Lines that had no price when they were booked."""

from __future__ import annotations

from decimal import Decimal

import pytest

from livekit_costmeter.reporting import build_report, report_text


@pytest.fixture
def priced_later(charge):
    """Return a function that makes the correction which prices a line."""

    def make(**fields):
        source = "ratecard:new@00#openai/m@base?was=unpriced&reprice=1"
        same = {"record_id": "reprice-1", "kind": "correction", "corrects": "a", "quantity": Decimal(0)}
        return charge(**{**same, "cost": Decimal(5), "billed_cost": Decimal(5), "pricing_source": source, **fields})

    return make


@pytest.mark.parametrize("late", [True, False])
def test_a_correction_that_finds_the_price_answers_the_question(unpriced, priced_later, late):
    """Wherever it stands in the ledger, the record is no longer unpriced, and its quantity counts once."""
    rows = [unpriced(record_id="a", line=0), priced_later(line=0)]
    report = build_report(rows if late else rows[::-1], ["model"])
    assert (report.total.unpriced_records, report.unpriced) == (0, ())
    assert (report.total.cost, report.total.billed_cost) == ({"USD": 5}, {"USD": 5})
    assert (report.total.billed_incomplete, report.total.quantities) == (False, {"input_tokens": 1000})
    assert "unpriced" not in report_text(report)


def test_other_lines_stay_unpriced(unpriced, priced_later):
    """Another line of the record, and a correction of something else, answer nothing."""
    rows = [unpriced(record_id="a", line=0), unpriced(record_id="a", line=1), unpriced(record_id="b", line=0)]
    assert build_report([*rows, priced_later(line=1)], []).total.unpriced_records == 2
    ordinary = priced_later(line=0, pricing_source="ratecard:new@00#openai/m@base?reprice=1")
    assert build_report([*rows, ordinary], []).total.unpriced_records == 2


def test_an_unknown_payer_stays_unknown(unpriced, priced_later):
    """A price says what it costs, not who is billed for it."""
    rows = [unpriced(record_id="a", key_owner="unknown"), priced_later(line=0, billed_cost=None, billed_currency=None)]
    total = build_report(rows, []).total
    assert (total.unpriced_records, total.billed_incomplete) == (0, True)


def test_a_billed_cost_that_is_found_later_completes_the_bill(charge, priced_later):
    """The cost was known all the time."""
    line = charge(record_id="a", billed_cost=None, billed_currency=None)
    found = priced_later(line=0, cost=Decimal(0), pricing_source="ratecard:card@00#o/m@base?was=unbilled&reprice=1")
    assert build_report([line], []).total.billed_incomplete
    total = build_report([line, found], []).total
    assert (total.billed_incomplete, total.cost, total.billed_cost) == (False, {"USD": line.cost}, {"USD": 5})
