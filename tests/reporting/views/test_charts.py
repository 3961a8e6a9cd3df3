"""Charts for terminals, and that they are only there."""

import io
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from rich.console import Console

from livekit_costmeter.reporting import build_report, print_report, report_text
from livekit_costmeter.reporting.views import (
    build_calls,
    calls_text,
    compare,
    find_waste,
    print_calls,
    print_comparison,
    print_waste,
    top,
)
from livekit_costmeter.reporting.views.charts import bar, histogram_lines, spark


def printed(show, found, width=150):
    """Return what a terminal of this width shows, without colours."""
    stream = io.StringIO()
    show(found, Console(file=stream, width=width, force_terminal=True, color_system=None, legacy_windows=False))
    return stream.getvalue()


@pytest.fixture
def days(charge, noon):
    """Return charges of four days, the third without any."""
    return [
        charge(record_id=str(n), at=noon + timedelta(days=n), cost=Decimal(cost))
        for n, cost in ((0, 1), (1, 4), (3, 2))
    ]


def test_a_spark_line_is_as_high_as_its_values_and_empty_where_there_is_none():
    """The largest is full, what is little is drawn, nothing is a space."""
    assert spark([Decimal(0), None, Decimal("0.001"), Decimal(4), Decimal(8)]) == "  ▁▄█"
    assert spark([]) == ""


def test_a_bar_is_as_long_as_its_part():
    """In eighths of a character, and never nothing for something."""
    assert (bar(Decimal(1), Decimal(2), 4), bar(Decimal(3), Decimal(8), 1)) == ("██", "▍")
    assert (bar(Decimal(1), Decimal(1000), 4), bar(Decimal(0), Decimal(1), 4)) == ("▏", "")


def test_a_report_by_day_has_a_spark_line_on_a_terminal_alone(days):
    """One character per day, days without cost included."""
    report = build_report(days, ["day"])
    assert "2026-11-20  ▂█ ▄  2026-11-23  highest 4.000000 USD on 2026-11-21" in printed(print_report, report)
    assert "█" not in report_text(report)
    assert "█" not in printed(print_report, build_report(days, ["model"]))


def test_days_that_are_left_out_are_not_drawn_as_days_without_cost(days):
    """The most expensive days are no course of time."""
    assert "█" not in printed(print_report, top(build_report(days, ["day"]), 2))


def test_bars_of_days_are_measured_by_the_largest(days):
    """A month's days would all be short against the total."""
    lines = printed(print_report, build_report(days, ["day"])).splitlines()
    assert next(line for line in lines if line.lstrip().startswith("2026-11-21")).count("━") == 12


def test_a_histogram_counts_every_call():
    """Intervals of round numbers up to the 99th percentile, and one line for what is beyond."""
    values = [*(Decimal(n) / 200 for n in range(200)), Decimal(50), Decimal(50)]
    title, *lines = histogram_lines(values, "USD", 80)
    assert title == "calls by cost, USD"
    counts = [int(re.search(r"  +([0-9]+)(  |$)", line)[1]) for line in lines]
    assert sum(counts) == 202
    assert (lines[-1].split()[:2], counts[-1], len(lines)) == (["from", "1"], 2, 11)


def test_a_histogram_of_a_few_or_of_nothing_is_not_drawn():
    """It would show no shape."""
    assert histogram_lines([Decimal(1)] * 4, "USD", 80) == histogram_lines([Decimal(0)] * 50, "USD", 80) == []


@pytest.mark.parametrize("cost", [Decimal("1e-12"), Decimal("0.3"), Decimal(1), Decimal(123456789)])
def test_a_histogram_holds_equal_values_of_any_size(cost):
    """All calls in one interval."""
    lines = histogram_lines([cost] * 7, "USD", 80)
    assert sum(" 7  " in line for line in lines) == 1


def test_calls_have_a_histogram_on_a_terminal_alone(charge):
    """With the table above and the percentiles below; what has no room is named."""
    charges = [charge(record_id=str(n), session_id=f"s{n}", cost=Decimal(n)) for n in range(1, 9)]
    shown = printed(print_calls, build_calls(charges))
    assert "calls by cost, USD" in shown
    assert "p90 8.000000 USD" in shown
    assert "calls by cost" not in calls_text(build_calls(charges))
    assert "no room for: " in printed(print_calls, build_calls(charges), width=60)


def test_a_comparison_and_waste_are_tables_on_a_terminal(charge):
    """With the same numbers, rounded."""
    reports = [build_report([charge(cost=Decimal(cost), outcome="failed")], ["model", "outcome"]) for cost in (4, 5)]
    assert "+25.0 %" in printed(print_comparison, compare(*reports))
    assert "100.0 %" in printed(print_waste, find_waste(reports[0]))
