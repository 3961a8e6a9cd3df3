"""`costmeter report` from the sums beside a ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

FORMS = ("text", "json", "csv")
BY = ("component,model,owner", "account", "day", "")


def reports(run):
    return [run("report", "--by", by, "--format", form).stdout for by in BY for form in FORMS]


def test_a_report_from_sums_is_the_same_report(ledger, run):
    """Made once, they are used from then on, and nobody can tell."""
    before = reports(run)
    assert run("report", "--rebuild").exit_code == 0
    assert (ledger / "costmeter.db.rollup").exists()
    assert reports(run) == before


def test_sums_are_made_anew_whatever_is_asked_for(ledger, run):
    """Also where the report itself reads the charges."""
    result = run("report", "--by", "session", "--rebuild", "--format", "csv")
    assert result.stdout == run("report", "--by", "session", "--format", "csv").stdout
    assert (ledger / "costmeter.db.rollup").exists()


@pytest.mark.parametrize("arguments", [("--sink", "lines"), ("--audit",), ("--calls",)])
def test_sums_are_refused_where_there_are_none(ledger, run, arguments):
    """Only an SQLite ledger has some, and only what is summed up needs them."""
    result = run("report", "--rebuild", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--rebuild has no meaning " in result.stderr
    assert sorted(path.name for path in Path().glob("*.rollup")) == []


def test_sums_that_cannot_be_made_are_said_in_a_line(ledger, run, one_line):
    """Whoever asks for them is told; whoever asks for a report gets it."""
    (ledger / "costmeter.db.rollup").mkdir()
    result = run("report", "--rebuild")
    assert (result.exit_code, result.stdout) == (2, "")
    assert one_line(result.stderr)
    assert run("report").exit_code == 0
