"""`costmeter report` in its other shapes: per call, compared, what was wasted, the most expensive rows."""

from __future__ import annotations

import csv
import io
import json

import pytest

KINDS = [("--calls",), ("--compare", "2026-11-20..2026-11-21"), ("--waste",), ("--top", "2")]


def answer(run, *arguments):
    result = run("report", "--format", "json", *arguments)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_calls_are_rows_of_their_own(ledger, run):
    """One per session; what has none is beside them."""
    found = answer(run, "--calls")
    assert [row["key"]["session"] for row in found["rows"]] == ["ses-1", "ses-2"]
    assert found["rows"][0]["accounts"] == ["acme"]
    assert (found["count"], found["spread"]["cost"]["USD"]["p99"]) == (2, "0.0007")
    text = run("report", "--calls", "--top", "1").stdout
    assert text.splitlines()[1].startswith("ses-1 ")
    assert "not shown: 1 more calls, 0.0007 USD" in text


def test_a_period_is_compared_with_the_one_before(ledger, run):
    """`previous` is as long and ends where it begins; the dimensions are those of the report."""
    found = answer(run, "--compare", "previous", "--since", "2026-11-21", "--until", "2026-11-22", "--by", "account")
    assert (found["previous_since"], found["previous_until"]) == (
        "2026-11-20T00:00:00.000000Z",
        "2026-11-21T00:00:00.000000Z",
    )
    assert [(row["key"]["account"], row["status"]) for row in found["rows"]] == [
        ("acme", "gone"),
        ("zen", "new"),
        (None, "new"),
    ]
    assert (found["total"]["difference"], found["total"]["percent"]) == ({"USD": "0"}, {"USD": "0"})


def test_a_period_that_goes_on_is_compared_as_it_ends_now(ledger, run):
    """Otherwise half a month would be compared with a whole one."""
    found = answer(run, "--compare", "previous", "--since", "2020-01-01")
    assert found["until"] is not None
    assert found["previous_until"] == "2020-01-01T00:00:00.000000Z"


def test_a_period_is_compared_with_any_other(ledger, run):
    """Named by two instants."""
    found = answer(run, "--compare", "2026-11-20..2026-11-21", "--since", "2026-11-21", "--by", "model")
    assert [(row["key"]["model"], row["status"]) for row in found["rows"]] == [
        ("gpt-4o-mini", "both"),
        ("made-up", "new"),
    ]


def test_waste_is_found_per_group(ledger, run, spool, usage):
    """By the same dimensions as a report."""
    spool({**json.loads(usage(at="2026-11-20T12:30:00Z")), "outcome": "interrupted"})
    assert run("ship").exit_code == 0
    (row,) = answer(run, "--waste", "--by", "model")["rows"]
    assert (row["key"], row["cost"], row["wasted"]) == ({"model": "gpt-4o-mini"}, {"USD": "0.0021"}, {"USD": "0.0007"})
    assert row["outcomes"]["interrupted"]["share"] == {"USD": "0.333333"}


def test_the_label_record_type_can_be_grouped_by(ledger, run, spool, usage):
    """As any label, in every shape that has groups."""
    spool(json.loads(usage(labels={"record_type": "eval"})))
    assert run("ship").exit_code == 0
    keys = [row["key"] for row in answer(run, "--by", "label:record_type", "--top", "1")["rows"]]
    assert keys == [{"label:record_type": None}]
    found = answer(run, "--by", "label:record_type", "--compare", "2026-11-20..2026-11-21")
    assert {"label:record_type": "eval"} in [row["key"] for row in found["rows"]]


@pytest.mark.parametrize("kind", KINDS)
def test_each_shape_has_every_format_and_is_strict(ledger, run, kind):
    """Text, JSON and CSV; `--strict` exits with 1 for the record without a price."""
    for form in ("text", "json", "csv"):
        result = run("report", "--format", form, "--strict", *kind)
        assert (result.exit_code, result.stderr) == (1, "")
        assert "\x1b" not in result.stdout
    rows = list(csv.DictReader(io.StringIO(run("report", "--format", "csv", *kind).stdout)))
    assert all(None not in row and None not in row.values() for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_each_shape_of_nothing_is_empty(ledger, run, kind):
    """A period without charges is no error."""
    for form in ("text", "json", "csv"):
        result = run("report", "--format", form, "--since", "2031-01-01", "--until", "2031-01-02", *kind)
        assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--calls", "--waste"), "--calls and --waste are reports of their own"),
        (("--audit", "--calls"), "--audit and --calls are reports of their own"),
        (("--audit", "--top", "3"), "--top has no meaning with --audit"),
        (("--calls", "--by", "model"), "--by has no meaning with --calls"),
        (("--waste", "--by", "outcome"), "leave outcome out of --by"),
        (("--compare", "previous"), "--compare previous needs --since"),
        (("--compare", "previous", "--since", "2100-01-01"), "needs a period that has begun"),
        (("--compare", "yesterday"), "'yesterday' is neither previous nor SINCE..UNTIL"),
        (("--compare", "2026-11-01..never"), "'never' is not a date or ISO 8601 instant"),
        (("--compare", "2026-11-02..2026-11-01"), "the second instant must be later"),
        (("--top", "-1"), "-1 is not in the range"),
    ],
)
def test_what_does_not_go_together_is_refused(ledger, run, arguments, message):
    """Exit code 2, and nothing on stdout."""
    result = run("report", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
