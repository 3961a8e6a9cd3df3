"""One row per call, and how costs are spread over calls."""

import csv
import io
import json
import random
from datetime import timedelta
from decimal import Decimal

import pytest

from livekit_costmeter.reporting import build_report
from livekit_costmeter.reporting.formats import row_fields
from livekit_costmeter.reporting.views import build_calls, calls_csv, calls_json, calls_text


@pytest.fixture
def calls(charge, unpriced, noon):
    """Return three calls (one of them in part without a price), and something outside any."""
    later = noon + timedelta(minutes=2)
    return [
        charge(
            record_id="a", session_id="long", started_at=noon - timedelta(minutes=2), cost=Decimal(3), agent="sales"
        ),
        charge(record_id="b", session_id="short", at=noon, account="zen", cost=Decimal(1)),
        charge(record_id="c", session_id="long", at=later, outcome="interrupted", cost=Decimal(1), agent="support"),
        charge(record_id="d", session_id="part", at=later, cost=Decimal("0.5")),
        unpriced(record_id="e", session_id="part", at=later + timedelta(minutes=1), unit="output_tokens"),
        charge(record_id="f", at=later, cost=Decimal(10)),
    ]


def test_each_call_is_one_row_in_the_order_of_their_starts(calls, noon):
    """With its start, length, agents, accounts, cost per minute and what became of its records."""
    report = build_calls(calls)
    assert [call.session for call in report.calls] == ["long", "short", "part"]
    long = report.calls[0]
    assert (long.started_at, long.sums.minutes) == (noon - timedelta(minutes=2), 4)
    assert (long.agents, long.accounts) == (("sales", "support"), ())
    assert long.outcomes == {"completed": 1, "interrupted": 1}
    assert (long.sums.cost, long.sums.cost_per_minute) == ({"USD": 4}, {"USD": 1})
    assert (report.calls[2].sums.unpriced_records, report.calls[1].accounts) == (1, ("zen",))


def test_calls_and_what_is_outside_make_the_total(calls):
    """The sums are those of a report."""
    report = build_calls(calls)
    assert (report.outside.cost, report.outside.records) == ({"USD": 10}, 1)
    assert sum(call.sums.cost["USD"] for call in report.calls) + 10 == report.total.cost["USD"]
    assert build_calls(calls[:5]).outside is None


def test_each_row_is_the_row_of_a_report_by_session(charge, unpriced, noon):
    """Whatever the ledger has: discards, corrections, currencies, calls out of order."""
    dice = random.Random(7)
    charges = []
    for number in range(400):
        make = dice.choice([charge, charge, unpriced])
        fields = {"session_id": dice.choice([None, *"abcdefgh"]), "speech_id": dice.choice([None, *"xyz"])}
        fields["outcome"] = dice.choice(["completed", "completed", "interrupted", "discarded", "failed"])
        fields["quantity"] = Decimal(dice.choice([0, 1, 1000]))
        fields["kind"] = dice.choice(["usage"] * 6 + ["correction", "fee"])
        fields["unit"] = dice.choice(["input_tokens", "call_seconds"])
        at = noon + timedelta(seconds=dice.randrange(-500, 500))
        more = (
            {} if make is unpriced else {"cost": Decimal(dice.randrange(1000)), "currency": dice.choice(["USD", "EUR"])}
        )
        charges.append(make(record_id=f"r{number}", at=at, **fields, **more))
    since, until = noon - timedelta(seconds=300), noon + timedelta(seconds=300)
    report = build_report(charges, ["session"], since, until)
    rows = {row.key["session"]: row_fields(row) for row in report.rows}
    found = build_calls(charges, since, until)
    assert {call.session: row_fields(call.sums) for call in found.calls} == {
        k: v for k, v in rows.items() if k is not None
    }
    assert row_fields(found.total) == row_fields(report.total)
    assert found.unpriced == report.unpriced


def test_percentiles_are_values_of_actual_calls(charge):
    """The nearest rank: at least that share of the calls costs no more, exactly."""
    charges = [charge(record_id=str(n), session_id=f"s{n}", cost=Decimal(n)) for n in range(1, 201)]
    spread = build_calls(charges).cost["USD"]
    assert spread.percentiles == {50: 100, 90: 180, 99: 198}
    assert (spread.calls, spread.incomplete, spread.mean) == (200, 0, Decimal("100.5"))
    one = build_calls(charges[:1]).cost["USD"]
    assert one.percentiles == {50: 1, 90: 1, 99: 1}


def test_a_call_without_any_price_is_not_a_call_that_costs_nothing(charge, unpriced):
    """It is left out of the percentiles of cost; one with a price in part makes them lower bounds."""
    charges = [
        charge(record_id="a", session_id="a", cost=Decimal(2)),
        charge(record_id="b", session_id="b", cost=Decimal(4)),
        unpriced(record_id="b2", session_id="b"),
        unpriced(record_id="c", session_id="c"),
    ]
    report = build_calls(charges)
    assert (report.count, report.cost["USD"].calls, report.cost["USD"].incomplete) == (3, 2, 1)
    assert "cost per call: mean >= 3 USD, p50 >= 2 USD, p90 >= 4 USD, p99 >= 4 USD (2 calls, >= as 1" in calls_text(
        report
    )


def test_currencies_have_percentiles_of_their_own(charge):
    """They never mix."""
    charges = [
        charge(record_id=c, session_id="s", cost=Decimal(n), currency=c) for n, c in enumerate(("EUR", "USD"), 1)
    ]
    assert {currency: each.percentiles[50] for currency, each in build_calls(charges).cost.items()} == {
        "EUR": 1,
        "USD": 2,
    }


def test_the_most_expensive_calls_come_first_and_the_others_are_summed_up(calls):
    """Percentiles and total are still those of all calls."""
    report = build_calls(calls, top=1)
    assert [call.session for call in report.calls] == ["long"]
    assert (report.left_out.rows, report.left_out.unpriced_rows, report.left_out.cost) == (
        2,
        1,
        {"USD": Decimal("1.5")},
    )
    assert (report.count, report.cost["USD"].calls) == (3, 3)
    assert "not shown: 2 more calls, >= 1.5 USD" in calls_text(report)


def test_a_call_of_which_the_period_has_only_a_correction_has_no_start(charge, noon):
    """It began in another period."""
    (call,) = build_calls([charge(kind="correction", session_id="s")]).calls
    assert (call.started_at, call.sums.minutes, dict(call.outcomes)) == (None, None, {})


def test_text_has_a_line_per_call_and_says_what_lies_outside(calls):
    """Aligned, exact, with the total below."""
    lines = calls_text(build_calls(calls)).splitlines()
    assert lines[0].split() == [
        *("session", "started", "minutes", "agent", "account", "cost", "per", "minute", "billed", "unpriced"),
        *("estimated", "outcomes"),
    ]
    assert lines[1].split()[:4] == ["long", "2026-11-20", "11:58:00", "4"]
    assert "1 completed, 1 interrupted" in lines[1]
    assert "sales, support" in lines[1]
    assert ">= 0.5 USD" in lines[3]
    assert lines[4].startswith("total  ")
    assert "3 calls" in lines[4]
    assert "outside any call: 10 USD in 1 record" in lines


def test_json_has_the_documented_shape(calls):
    """A report's rows with more about the call; decimals are text."""
    found = json.loads(calls_json(build_calls(calls)))
    assert list(found) == ["since", "until", "by", "rows", "total", "count", "spread", "outside", "left_out"]
    assert list(found["rows"][0]) == [
        *("key", "started_at", "agents", "accounts", "outcomes", "quantities", "cost", "billed_cost", "records"),
        *("unpriced_records", "estimated_share", "minutes", "cost_per_minute"),
    ]
    assert found["rows"][0]["key"] == {"session": "long"}
    assert found["spread"]["cost"]["USD"] == {
        "calls": 3,
        "incomplete": 1,
        "mean": "1.833333333333",
        "p50": "1",
        "p90": "4",
        "p99": "4",
    }
    assert found["spread"]["minutes"]["p99"] == "4"
    assert (found["outside"]["cost"], found["left_out"]) == ({"USD": "10"}, None)
    empty = json.loads(calls_json(build_calls([])))
    assert (empty["rows"], empty["count"], empty["spread"]) == (
        [],
        0,
        {"cost": {}, "cost_per_minute": {}, "minutes": None},
    )


def test_csv_reads_back(calls, charge):
    """A line per call and currency; what a call has once stands on its first line."""
    euro = charge(record_id="g", session_id="long", currency="EUR", billed_cost=None, cost=Decimal(7))
    rows = list(csv.DictReader(io.StringIO(calls_csv(build_calls([*calls, euro])))))
    assert [(row["session"], row["currency"], row["cost"], row["records"]) for row in rows] == [
        ("long", "EUR", "7", "3"),
        ("long", "USD", "4", ""),
        ("short", "USD", "1", "1"),
        ("part", "USD", "0.5", "2"),
    ]
    assert (rows[0]["agents"], rows[0]["interrupted"], rows[0]["probe"]) == ("sales;support", "1", "0")


def test_charges_that_can_be_read_only_once_are_refused(calls):
    """As for a report."""
    with pytest.raises(TypeError, match="read a second time"):
        build_calls(iter(calls))
