"""Reports as people see them."""

import io
from datetime import timedelta
from decimal import Decimal

import pytest
from rich.console import Console

from livekit_costmeter.reporting import build_report, print_report, report_table, report_text


def printed(report, *, width, terminal):
    """Return what a console of this width shows, without colours."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    print_report(report, console)
    return stream.getvalue()


@pytest.fixture
def report(charge, unpriced, noon):
    """Return a report with a priced, a partly priced and an unpriced row, and an estimate."""
    charges = [
        charge(record_id="a", session_id="s", started_at=noon - timedelta(minutes=2), cost=Decimal("0.030000000001")),
        charge(record_id="b", provider="mixed", cost=Decimal("0.0123456789"), quantity_basis="estimated"),
        unpriced(record_id="b", provider="mixed", line=1, unit="output_tokens"),
        unpriced(record_id="c", provider="zero", model="local", quantity=Decimal(1234567)),
    ]
    return build_report(charges, ["provider", "model"], noon.replace(hour=0), noon.replace(day=21, hour=0))


def test_plain_text_is_exact_and_aligned(report):
    """One line per row, exact values, numbers at the right, then what is unpriced and estimated."""
    lines = report_text(report).splitlines()
    assert [line.split("  ")[0].split(" ")[0] for line in lines] == [
        *("provider", "mixed", "openai", "zero", "total", "2", "estimated"),
    ]
    assert ">= 0.0123456789 USD" in lines[1]
    assert " 0.030000000001 USD" in lines[2]
    assert "  unpriced  " in lines[3]
    assert "1234567 input_tokens" in lines[3]
    assert ">= 0.042345678901 USD" in lines[4]
    assert len({line.index(" USD") for line in (lines[1], lines[2], lines[4])}) == 1


def test_plain_text_names_what_is_unpriced_and_how_much_is_estimated(report):
    """The last lines hide nothing: models without a price with the reason, and the estimated share."""
    assert report_text(report).splitlines()[-2:] == [
        "2 records unpriced: mixed/gpt-4o-mini (no_match) x 1, zero/local (no_match) x 1",
        "estimated share 29.2 %",
    ]


def test_a_pipe_gets_plain_text_whole_however_narrow(report):
    """Not a terminal: no wrapping, no cutting, no escape codes, whatever width the console believes in."""
    assert report_text(report) == printed(report, width=20, terminal=False)


def test_a_terminal_gets_a_table_with_bars_and_the_same_footer(report):
    """On a terminal costs are rounded, a lower bound rounds down, and bars show the shares."""
    text = printed(report, width=200, terminal=True)
    assert ">= 0.012345 USD" in text
    assert "1,234,567 input_tokens" in text
    assert "━━━" in text
    assert "2026-11-20 00:00 to 2026-11-21 00:00, UTC" in text
    assert "2 records unpriced: mixed/gpt-4o-mini (no_match) x 1, zero/local (no_match) x 1" in text
    assert "estimated share 29.2 %" in text
    assert "no room" not in text


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_a_narrow_terminal_loses_columns_but_no_digit(report, width):
    """Whole columns give way, and are named; costs, shares and the footer stay and fit."""
    text = printed(report, width=width, terminal=True)
    for wanted in (">= 0.012345 USD", "0.030000 USD", ">= 0.042345 USD", "unpriced", "100.0 %", "2 records unpriced"):
        assert wanted in text
    assert all(len(line) <= width for line in text.splitlines())
    header, apology = text.splitlines()[2], text.partition("no room for: ")[2]
    for title in ("per minute", "minutes", "billed", "records", "quantities"):
        assert (title in header) != (title in apology.rstrip().split(", "))


def test_a_report_without_grouping_is_its_total(charge):
    """Grouped by nothing, there is one line, the total."""
    header, total, *_ = report_text(build_report([charge()], [])).splitlines()
    assert header.split()[0] == "cost"
    assert total.split()[:3] == ["total", "0.00015", "USD"]


def test_an_empty_report_says_that_it_knows_nothing():
    """Without charges the cost is not available, rather than 0."""
    total = report_text(build_report([], ["provider"])).splitlines()[1]
    assert total.split()[:2] == ["total", "n/a"]


def test_names_from_outside_cannot_steer_the_terminal(charge):
    """Markup is shown as it is, control characters are escaped, a newline does not break the row."""
    hostile = "[red]x[/red]\x1b[31m\nnext"
    report = build_report([charge(model=hostile)], ["model"])
    shown = "[red]x[/red]\\x1b[31m\\nnext"
    for text in (report_text(report), printed(report, width=200, terminal=True)):
        assert shown in text
        assert "\x1b[31m" not in text


def test_several_currencies_stand_side_by_side(charge):
    """Each currency has its own line in the table and its own part in plain text, with its own share."""
    charges = [charge(cost=Decimal(1)), charge(cost=Decimal(2), currency="EUR"), charge(provider="x", cost=Decimal(3))]
    report = build_report(charges, ["provider"])
    line = report_text(report).splitlines()[1]
    assert "2 EUR, 1 USD   100.0 %, 25.0 %" in line
    assert "2.000000 EUR" in printed(report, width=160, terminal=True)


def test_a_negative_cost_has_no_share(charge):
    """A row of corrections shows what it takes back, without a share or a bar."""
    charges = [charge(cost=Decimal(5)), charge(record_id="b", kind="correction", account="a", cost=Decimal(-1))]
    line = report_text(build_report(charges, ["account"])).splitlines()[1]
    assert line.split()[:4] == ["a", "-1", "USD", "-"]


def test_a_partly_known_bill_is_a_lower_bound(charge):
    """The billed column marks a sum that lacks lines of unknown owners."""
    charges = [charge(), charge(record_id="b", billed_cost=None, billed_currency=None)]
    assert ">= 0.00015 USD" in report_text(build_report(charges, ["provider"]))


def test_without_known_calls_there_are_no_minutes_columns(charge, report):
    """Columns that could only say n/a are left out; a row without calls says n/a beside rows with."""
    assert "minute" not in report_text(build_report([charge()], ["provider"]))
    assert "n/a" in report_text(report).splitlines()[1]


def test_the_renderable_itself_is_plain_off_terminal(report):
    """Printed softly wrapped, the renderable gives the same plain text."""
    stream = io.StringIO()
    Console(file=stream, width=20).print(report_table(report), soft_wrap=True)
    assert report_text(report) == stream.getvalue()
