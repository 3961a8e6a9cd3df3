"""`costmeter report --audit`: how it is known, and what LiveKit missed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest


@pytest.fixture
def audited(project, usage, spool, run):
    """Ship a session with an interrupted answer and LiveKit's side of it, and another session without one."""
    usual = json.loads(usage(reported_provider="api.openai.com"))
    units = {"input_tokens": "1000", "output_tokens": "100"}
    row = {"component": "llm", "provider": "api.openai.com", "model": "gpt-4o-mini", "units": units}
    agents = {"component": "call", "provider": "livekit", "model": "agents", "quantities": {}, "basis": {}}
    cut_off = {"quantities": {"output_tokens": "40"}, "basis": {"output_tokens": "estimated"}}
    spool(
        usual,
        {**usual, **cut_off, "outcome": "interrupted"},
        {**usual, **agents, "attributes": {"livekit": [row]}},
        {**usual, "session_id": "ses-2", "at": "2026-11-21T12:00:00Z"},
    )
    assert run("ship").exit_code == 0
    return project


def rows(result):
    """Return the rows of an audit in JSON by unit."""
    return {row["unit"]: row for row in json.loads(result.stdout)["rows"]}


def test_the_audit_says_what_livekit_missed_and_why(audited, run):
    """LiveKit's side comes from the spool that the configuration names."""
    result = run("report", "--audit")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "not_audited 100, interrupted 40" in result.stdout
    assert "compared with LiveKit's own usage: 1 of 2 sessions" in result.stdout
    output = rows(run("report", "--audit", "--format", "json"))["output_tokens"]
    assert (output["quantity"], output["livekit"], output["missed"]) == ("240", "100", "40")
    assert (output["estimated_share"], output["missed_share"]) == ("0.166667", "0.285714")


def test_the_audit_is_of_a_period(audited, run):
    """Both sides are cut to it."""
    first = rows(run("report", "--audit", "--format", "json", "--until", "2026-11-21"))["input_tokens"]
    second = rows(run("report", "--audit", "--format", "json", "--since", "2026-11-21"))["input_tokens"]
    assert (first["quantity"], first["livekit"], first["missed"]) == ("1000", "1000", "0")
    assert (second["quantity"], second["livekit"], second["missed"]) == ("1000", None, None)


def test_the_audit_reads_back_as_csv(audited, run):
    """One line per model and unit."""
    lines = list(csv.DictReader(io.StringIO(run("report", "--audit", "--format", "csv").stdout)))
    assert [(line["unit"], line["missed"]) for line in lines] == [("input_tokens", "0"), ("output_tokens", "40")]


def test_without_a_spool_livekits_side_is_not_known(audited, run):
    """A ledger that was copied from elsewhere still says how its quantities are known."""
    Path(".costmeter/spool/audit.jsonl").unlink()
    output = rows(run("report", "--audit", "--format", "json"))["output_tokens"]
    assert (output["estimated_share"], output["livekit"], output["missed"]) == ("0.166667", None, None)


def test_a_spool_that_cannot_be_read_is_named(audited, run, one_line):
    """An audit without it would look as if LiveKit had said nothing."""
    sidecar = Path(".costmeter/spool/audit.jsonl")
    sidecar.unlink()
    sidecar.mkdir()
    result = run("report", "--audit")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "spool" in result.stderr
    assert "Is a directory" in result.stderr
    assert one_line(result.stderr)


@pytest.mark.parametrize("option", [("--by", "model"), ("--strict",)])
def test_options_that_mean_nothing_in_an_audit_are_refused(audited, run, option):
    """Rather than passed over."""
    result = run("report", "--audit", *option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{option[0]} has no meaning with --audit" in result.stderr


def test_an_audit_changes_no_file(audited, run):
    """It only reads."""
    before = {path: path.read_bytes() for path in audited.rglob("*") if path.is_file()}
    assert run("report", "--audit").exit_code == 0
    assert {path: path.read_bytes() for path in audited.rglob("*") if path.is_file()} == before


def test_a_report_says_what_the_interruption_cost(audited, run):
    """Under the table, and by outcome where that is asked for."""
    assert "interruptions: 0.00008 USD in 1 record, 100 % of it estimated" in run("report").stdout
    found = json.loads(run("report", "--by", "outcome", "--format", "json").stdout)
    assert [row["key"]["outcome"] for row in found["rows"]] == ["completed", "interrupted"]
    assert found["outcomes"][0]["cost"] == {"USD": "0.00008"}
    assert found["total"]["records"] == 3


def test_speculation_is_found_in_a_ledger(project, usage, spool, run):
    """An answer that was made ahead and thrown away is read as discarded, in every readable sink."""
    usual = json.loads(usage(speech_id="sp-1"))
    zero = {"quantities": {"output_tokens": "0"}, "basis": {"output_tokens": "observed"}}
    spool(usual, {**usual, **zero, "outcome": "discarded"}, {**usual, "speech_id": "sp-2"})
    assert run("ship").exit_code == 0
    for sink in ("sqlite", "lines"):
        found = json.loads(run("report", "--by", "outcome", "--format", "json", "--sink", sink).stdout)
        assert [(row["key"]["outcome"], row["records"]) for row in found["rows"]] == [
            ("completed", 1),
            ("discarded", 1),
        ]
        assert found["total"]["unpriced_records"] == 0
