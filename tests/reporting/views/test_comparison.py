"""Two periods side by side."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from livekit_costmeter.reporting import build_report
from livekit_costmeter.reporting.views import compare, comparison_csv, comparison_json, comparison_text, period_before


@pytest.fixture
def found(charge, noon):
    """Return a comparison in which one model got dearer, one is new and one is gone."""
    before = [
        charge(model="same", cost=Decimal(4), session_id="s", started_at=noon - timedelta(minutes=1)),
        charge(model="old", cost=Decimal(3)),
    ]
    now = [charge(model="same", cost=Decimal(5)), charge(model="fresh", cost=Decimal(10))]
    return compare(build_report(before, ["model"]), build_report(now, ["model"]))


def test_both_costs_the_difference_and_the_percentage_of_each_group(found):
    """In percent of the previous cost."""
    same = found.rows[2]
    assert (same.key["model"], same.status) == ("same", "both")
    assert (same.differences(), same.shares()) == ({"USD": 1}, {"USD": Decimal("0.25")})


def test_what_is_new_or_gone_has_no_difference_and_no_percentage(found):
    """Neither 0 nor infinite; the total has both all the same."""
    assert [(row.key["model"], row.status) for row in found.rows[:2]] == [("fresh", "new"), ("old", "gone")]
    assert all(row.differences() == row.shares() == {} for row in found.rows[:2])
    assert found.total.differences() == {"USD": 8}
    assert found.total.shares()["USD"] == Decimal("1.14285714")


def test_text_says_new_gone_and_not_available(found):
    """A line per group, signs before differences."""
    fresh, old, same, total = comparison_text(found).splitlines()[1:5]
    assert fresh.split() == ["fresh", "n/a", "10", "USD", "n/a", "n/a", "n/a", "n/a", "new"]
    assert old.split() == ["old", "3", "USD", "n/a", "n/a", "n/a", "n/a", "n/a", "gone"]
    assert same.split() == ["same", "4", "USD", "5", "USD", "+1", "USD", "+25.0", "%", "4", "USD", "n/a"]
    assert "+114.3 %" in total


def test_json_has_the_documented_shape(found):
    """Both rows as a report has them, null where there is none."""
    fields = json.loads(comparison_json(found))
    assert list(fields) == [
        *("since", "until", "previous_since", "previous_until", "by", "rows", "total", "left_out"),
    ]
    fresh, _, same = fields["rows"]
    assert (fresh["previous"], fresh["difference"], fresh["percent"]) == (None, {}, {})
    assert (same["previous"]["cost"], same["current"]["cost"]) == ({"USD": "4"}, {"USD": "5"})
    assert (same["difference"], same["percent"]) == ({"USD": "1"}, {"USD": "25"})
    assert list(fields["total"]) == ["previous", "current", "difference", "percent"]


def test_csv_reads_back(found):
    """What is not known is an empty field."""
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO(comparison_csv(found)))}
    assert (rows["fresh"]["status"], rows["fresh"]["previous_cost"], rows["fresh"]["percent"]) == ("new", "", "")
    assert (rows["same"]["difference"], rows["same"]["percent"], rows["same"]["previous_records"]) == ("1", "25", "1")
    assert (rows["old"]["cost"], rows["old"]["records"]) == ("", "")


@pytest.mark.parametrize(
    ("before", "now", "difference", "percent"),
    [
        (True, False, "<= +1 USD", "<= +25.0 %"),
        (False, True, ">= +1 USD", ">= +25.0 %"),
        (True, True, "~ +1 USD", "~ +25.0 %"),
    ],
)
def test_a_difference_of_costs_that_lack_prices_is_marked(charge, unpriced, before, now, difference, percent):
    """A lower bound below or above makes it a bound, both make it neither."""
    reports = [
        build_report([charge(cost=Decimal(cost)), *([unpriced(record_id="u")] if lacks else [])], [])
        for cost, lacks in ((4, before), (5, now))
    ]
    text = comparison_text(compare(*reports))
    assert f"  {difference}" in text
    assert f"  {percent}" in text


def test_a_cost_of_nothing_has_no_percentage(charge):
    """There is nothing to be in percent of."""
    reports = [build_report([charge(cost=Decimal(cost))], ["model"]) for cost in (0, 5)]
    (row,) = compare(*reports).rows
    assert (row.differences(), row.shares()) == ({"USD": 5}, {})


def test_currencies_are_compared_each_with_itself(charge):
    """A currency that only one period has has no difference."""
    before = build_report([charge(cost=Decimal(4))], [])
    now = build_report([charge(cost=Decimal(5)), charge(cost=Decimal(1), currency="EUR")], [])
    assert compare(before, now).total.differences() == {"USD": 1}


def test_the_rows_that_moved_most_come_first(found):
    """Also those that are new or gone, which moved by all they cost."""
    top = compare(found.previous, found.current, top=2)
    assert [row.key["model"] for row in top.rows] == ["fresh", "old"]
    assert top.rows_left_out == 1
    assert "not shown: 1 more rows" in comparison_text(top)


def test_only_reports_by_the_same_dimensions_can_be_compared(charge):
    """Anything else is a mistake."""
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(build_report([charge()], ["model"]), build_report([charge()], ["provider"]))


def day(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "until", "before"),
    [
        ("2026-11-02", "2026-11-09", "2026-10-26"),
        ("2026-11-01", "2026-12-01", "2026-10-01"),
        ("2026-03-01", "2026-04-01", "2026-02-01"),
        ("2026-01-01", "2026-04-01", "2025-10-01"),
        ("2026-11-01T00:00:01", "2026-12-01T00:00:01", "2026-10-02T00:00:01"),
        ("2026-11-20", "2026-11-20T06:00", "2026-11-19T18:00"),
    ],
)
def test_the_period_before_is_as_long_and_whole_months_follow_whole_months(since, until, before):
    """It ends where the other begins."""
    assert period_before(day(since), day(until)) == (day(before), day(since))
