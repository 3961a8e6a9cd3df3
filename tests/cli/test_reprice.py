"""`costmeter reprice`."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from livekit_costmeter.delivery import list_segments

DAY = ("--since", "2026-11-20", "--until", "2026-11-21")
CARD = Path("rates.yaml")


def set_prices(*, text="2", tokens="0.5", extra=""):
    """Write a new rate card: a price per million of output and of input tokens, and other rows."""
    row = "  - {{provider: openai, model: gpt-4o-mini, unit: {}, price: '{}', per: 1000000}}\n"
    CARD.write_text(
        "name: newer\nrates:\n" + row.format("input_tokens", tokens) + row.format("output_tokens", text) + extra
    )


MADE_UP = "  - {provider: openai, model: made-up, unit: input_tokens, price: '1', per: 1}\n"


@pytest.fixture
def total(run):
    """Return a function that reports the total."""
    return lambda *options: json.loads(run("report", "--by", "", "--format", "json", *options).stdout)["total"]


@pytest.fixture
def exported(run):
    """Return a function that exports the rows of a sink, in the order of their keys."""

    def export(sink):
        rows = json.loads(run("export", "--format", "json", "--sink", sink).stdout)
        return sorted(rows, key=lambda row: (row["record_id"], row["line"]))

    return export


def test_the_difference_is_shown_and_nothing_is_booked(ledger, run):
    """By model and unit: records, old and new cost, difference, and both sources."""
    set_prices(tokens="0.75")
    result = run("reprice", *DAY, "--format", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert (found["since"], found["records"], found["changed"]) == ("2026-11-20T00:00:00.000000Z", 1, 1)
    (row,) = found["rows"]
    assert (row["model"], row["unit"], row["status"], row["records"]) == ("gpt-4o-mini", "input_tokens", "changed", 1)
    assert (row["old_cost"], row["new_cost"]) == ({"USD": "0.0005"}, {"USD": "0.00075"})
    assert row["difference"] == row["billed_difference"] == {"USD": "0.00025"}
    assert row["old_pricing_source"].startswith("ratecard:card@")
    assert row["new_pricing_source"].startswith("ratecard:newer@")
    assert list_segments(ledger / ".costmeter/spool") == []


def test_the_other_formats_say_the_same(ledger, run):
    """Plain lines carry exact sums; CSV has a line per row and currency."""
    set_prices(tokens="0.75", extra=MADE_UP)
    lines = run("reprice").stdout.splitlines()
    assert "+0.0005 USD" in lines[1]
    assert "openai/made-up" in lines[2]
    assert lines[2].endswith("newly priced")
    assert lines[3:] == [
        "cost: 0.001 USD +7.0005 USD",
        "billed: 0.001 USD +7.0005 USD",
        "3 records of 3 to be corrected",
    ]
    rows = list(csv.DictReader(io.StringIO(run("reprice", "--format", "csv").stdout)))
    assert [(row["model"], row["status"], row["difference"]) for row in rows] == [
        ("gpt-4o-mini", "changed", "0.0005"),
        ("made-up", "newly_priced", "7"),
    ]


@pytest.mark.parametrize("sink", ["sqlite", "lines"])
def test_what_is_booked_reaches_every_sink_once(ledger, run, total, exported, sink):
    """Booked twice before it is shipped and once after, it is there once, and reports are at the new prices."""
    set_prices(tokens="0.75", extra=MADE_UP)
    first = run("reprice", "--book", "--yes", "--sink", sink)
    assert first.stderr == "booked 3 corrections of 3 records; they are delivered by whoever ships\n"
    second = run("reprice", "--book", "--sink", sink)
    assert second.stderr == "costmeter: there is nothing to book\n"
    assert run("ship").exit_code == 0
    assert run("reprice", "--book", "--sink", sink).stderr == "costmeter: there is nothing to book\n"
    rows = exported("sqlite")
    assert rows == exported("lines")
    assert sum(row["kind"] == "correction" for row in rows) == 3
    assert total("--sink", sink)["cost"] == {"USD": "7.0019"}
    assert total("--sink", sink)["unpriced_records"] == 0
    assert total(*DAY, "--sink", sink)["cost"] == {"USD": "0.00095"}


def test_corrections_of_several_reprices_add_up(ledger, run, total):
    """Also where the one before is not shipped yet."""
    for tokens in ("1", "0.25", "0.75"):
        set_prices(tokens=tokens)
        run("reprice", "--book", "--yes")
    run("ship")
    assert total()["cost"] == {"USD": "0.0019"}


def test_only_what_is_asked_for_is_looked_at(ledger, run):
    """By period, provider, model, component and account; a filter given twice is an either-or."""
    set_prices(tokens="0.75", extra=MADE_UP)

    def records(*options):
        return json.loads(run("reprice", "--format", "json", *options).stdout)["records"]

    assert records() == 3
    assert records(*DAY) == records("--account", "zen") == records("--model", "made-*") == 1
    assert records("--account", "zen", "--account", "acme") == records("--model", "gpt-4o-mini") == 2
    assert records("--component", "tts") == records("--provider", "deepgram") == records("--model", "gpt-4o") == 0


def test_another_configuration_may_be_tried_out(ledger, run):
    """The same ledger at the prices of a file of its own."""
    Path("rates-next.yaml").write_text(CARD.read_text().replace('"0.5"', '"5"'))
    Path("next.yaml").write_text(Path("costmeter.yaml").read_text().replace("rates.yaml", "rates-next.yaml"))
    found = json.loads(run("reprice", "--config", "next.yaml", "--format", "json").stdout)
    assert found["total"]["difference"] == {"USD": "0.009"}


def test_what_has_no_price_now_keeps_its_own(ledger, run, total):
    """It is said, and booking changes nothing."""
    CARD.write_text("name: empty\nrates:\n" + MADE_UP)
    result = run("reprice", "--book", "--yes", "--model", "gpt-4o-mini")
    assert "4 lines of which no source has a price now, kept as booked" in result.stdout
    assert result.stderr == "costmeter: there is nothing to book\n"
    assert total()["cost"] == {"USD": "0.0014"}


def test_on_a_terminal_it_asks_first(ledger, run, monkeypatch):
    """No answer and no are no; nothing is booked."""
    set_prices(tokens="0.75")
    monkeypatch.setattr("livekit_costmeter.cli.reprice._is_terminal", lambda: True)
    for answer in ("n\n", ""):
        result = run("reprice", "--book", input=answer)
        assert result.exit_code != 0
        assert "Book 2 corrections?" in result.stderr
    assert list_segments(ledger / ".costmeter/spool") == []
    assert "booked 2 corrections" in run("reprice", "--book", input="y\n").stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sink", "none"], "no sink named 'none'"),
        (["--sink", "screen"], "the sink screen cannot be read back"),
        (["--since", "2026-11-21", "--until", "2026-11-20"], "must be later than --since"),
        (["--config", "none.yaml"], "none.yaml"),
    ],
)
def test_what_cannot_be_repriced_is_said(ledger, run, options, message):
    """Exit code 2 and a reason."""
    result = run("reprice", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_a_period_that_was_never_shipped_is_no_ledger(project, run):
    """It is an error, and no sum of nothing."""
    result = run("reprice", "--book")
    assert result.exit_code == 2
    assert "no ledger yet" in result.stderr


def test_a_full_disk_books_nothing(ledger, run, monkeypatch, one_line):
    """It is one line, and the same command books everything once there is room."""
    set_prices(tokens="0.75")
    spool = ledger / ".costmeter/spool"

    def refused(_descriptor):
        raise OSError(28, "No space left on device", str(spool))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refused)
        result = run("reprice", "--book", "--yes")
    assert (result.exit_code, one_line(result.stderr)) == (2, True)
    assert list_segments(spool) == []
    assert "booked 2 corrections" in run("reprice", "--book", "--yes").stderr


@pytest.mark.slow
def test_a_kill_at_any_moment_and_the_same_command_again(project, spool, usage, run, total, exported):
    """Of a booking that is killed there is nothing or all of it; in the end each line has the new price once."""
    spool(*(json.loads(usage()) for _ in range(3000)))
    run("ship")
    set_prices(tokens="0.75")
    command = [sys.executable, "-m", "livekit_costmeter", "reprice", "--book", "--yes"]
    for wait in (0.4, 0.8, 1.0, 1.2, 1.4, 1.6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    run("ship")
    assert Decimal(total()["cost"]["USD"]) == Decimal("0.00095") * 3000
    assert exported("sqlite") == exported("lines")
    assert len(exported("sqlite")) == 9000
