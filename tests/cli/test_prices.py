"""`costmeter prices`: what things cost, and what cannot be priced."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest


def test_show_lists_rates_in_order_of_precedence(run, project):
    """The user's rate card first, marked as used; the catalogs after it."""
    Path("costmeter.yaml").write_text("pricing: {rate_cards: [./rates.yaml]}\n")
    rows = json.loads(run("prices", "show", "openai/gpt-4o-mini", "--component", "llm", "--format", "json").stdout)
    assert list(rows[0]) == ["used", "component", "unit", "price", "per", "currency", "source"]
    inputs = [row for row in rows if row["unit"] == "input_tokens"]
    assert [row["used"] for row in inputs] == ["yes", *[""] * (len(inputs) - 1)]
    assert inputs[0]["source"].startswith("ratecard:card@")
    assert (inputs[0]["price"], inputs[0]["per"]) == ("0.5", "1000000")
    assert any(row["source"].startswith("catalog:genai-prices@") for row in inputs[1:])


def test_the_formats_hold_the_same_rows(run, project):
    """Text, JSON and CSV differ in form only; text has no escape sequences off a terminal."""
    text, form_json, form_csv = (
        run("prices", "show", "openai/gpt-4o-mini", "--format", form).stdout for form in ("text", "json", "csv")
    )
    assert json.loads(form_json) == list(csv.DictReader(io.StringIO(form_csv)))
    assert len(text.splitlines()) == len(json.loads(form_json)) + 1
    assert "\x1b" not in text


def test_a_model_without_a_price_is_said_on_stderr(run, project):
    """Exit code 1, and where to look; in JSON an empty array."""
    result = run("prices", "show", "openai/none")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "costmeter: no price for openai/none; find models with: costmeter prices search WORD\n"
    assert json.loads(run("prices", "show", "openai/none", "--format", "json").stdout) == []


@pytest.mark.parametrize("model", ["gpt-4o-mini", "openai/", "/gpt", ""])
def test_a_model_is_named_with_its_provider(run, model):
    """Without a provider a name says too little."""
    for name in ("show", "check"):
        result = run("prices", name, model)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "is not PROVIDER/MODEL, such as openai/gpt-4o-mini" in result.stderr


def test_search_wants_every_word(run, project):
    """Case does not matter; nothing found is no error."""
    Path("costmeter.yaml").write_text("pricing: {rate_cards: [./rates.yaml]}\n")
    rows = json.loads(run("prices", "search", "OPENAI", "4o-mini", "--format", "json").stdout)
    assert {"model": "openai/gpt-4o-mini", "source": "ratecard:card"} in rows
    assert all("openai" in row["model"] and "4o-mini" in row["model"] for row in rows)
    nothing = run("prices", "search", "no-such-thing")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "costmeter: nothing found\n")


def test_check_finds_what_the_ledger_holds_without_a_price(ledger, run):
    """The unknown model is named, and the exit code says that something was found."""
    result = run("prices", "check", "--format", "json")
    assert result.exit_code == 1
    assert [(row["problem"], row["model"]) for row in json.loads(result.stdout)] == [("unpriced", "openai/made-up")]


def test_check_without_a_ledger_looks_at_the_rate_cards(project, run):
    """It says that there is no ledger, and makes none."""
    result = run("prices", "check")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no ledger yet: " in result.stderr
    assert "1 models checked, nothing to say" in result.stderr
    assert not (project / "costmeter.db").exists()


def test_check_of_named_models_needs_no_ledger(project, run):
    """What is asked for is looked at, nothing else."""
    good, bad = run("prices", "check", "openai/gpt-4o-mini"), run("prices", "check", "openai/made-up")
    assert (good.exit_code, good.stderr) == (0, "costmeter: 1 models checked, nothing to say\n")
    assert bad.exit_code == 1
    assert "unpriced" in bad.stdout


def test_coverage_says_for_every_model_whether_it_is_priced(run):
    """Each row has a source or a reason; the summary is a message, not a result."""
    rows = json.loads(run("prices", "coverage", "--format", "json").stdout)
    assert all(row["source"] for row in rows)
    assert all(row["source"].startswith("unpriced:") != bool(row["priced"]) for row in rows)
    installed = run("prices", "coverage", "--installed", "--unpriced")
    assert "models of installed plugins priced" in installed.stderr
    assert "models of installed plugins priced" not in installed.stdout
    assert "catalog:" not in installed.stdout


def test_prices_leave_nothing_behind(project, run):
    """Looking up a price makes neither a ledger nor a spool."""
    for arguments in (("show", "openai/gpt-4o-mini"), ("search", "openai"), ("check",), ("coverage",)):
        run("prices", *arguments)
    assert sorted(path.name for path in project.iterdir()) == ["costmeter.yaml", "rates.yaml"]


OURS = '{id: ours, provider: Groq, component: stt, billed_by: audio, per_stream_overhead: "0.50", increment: 1}'


def test_policies_lists_the_rows_in_force_with_their_sources(run, project):
    """The user's rows first and marked, the shipped row that one of them replaces left out."""
    Path("costmeter.yaml").write_text(f"policies: [{OURS}]\n")
    rows = json.loads(run("prices", "policies", "--format", "json").stdout)
    assert [row["id"] for row in rows if row["set_by"] == "config"] == ["ours"]
    assert (rows[0]["provider"], rows[0]["rounding"], rows[0]["per_stream_overhead"]) == ("groq", "up", "0.5")
    shipped = {row["id"]: row for row in rows[1:]}
    assert shipped["aws-transcribe"]["minimum"] == "15"
    assert all(row["source"].startswith("https://") and row["read_on"] for row in shipped.values())
    assert "groq-whisper" not in shipped


def test_policies_in_text_and_csv_have_the_same_rows(run, project):
    """Text says the rule in words; CSV has a column per field."""
    Path("costmeter.yaml").write_text(f"policies: [{OURS}]\n")
    text, table = (run("prices", "policies", "--format", form).stdout for form in ("text", "csv"))
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [line.split()[1] for line in text.splitlines()[1:]] == [row["id"] for row in rows]
    assert "steps of 1 (up); plus 0.5 per stream" in text
    assert "at least 15; steps of 1 (up)" in text
    assert rows[0]["increment"] == "1"


@pytest.mark.parametrize("command", [("prices", "policies"), ("rate",), ("check",), ("prices", "check")])
def test_a_bad_policy_is_one_message_and_exit_code_2(run, project, command):
    """Whatever needs prices refuses it, with file, line and key path."""
    Path("costmeter.yaml").write_text(f"project: x\npolicies:\n  - {OURS[:-1]}, incremnt: 5}}\n")
    result = run(*command, input="")
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert "costmeter.yaml:3: policies[0].incremnt: unknown key (allowed: billed_by, channels, " in result.stderr


def test_a_users_policy_changes_what_rate_prints(run, project, usage):
    """The whole path: a row in the YAML, a closed and a killed operation on stdin, charges on stdout."""
    Path("costmeter.yaml").write_text(f"policies: [{OURS}]\n")
    fields = {
        "component": "stt",
        "provider": "groq",
        "model": "whisper-large-v3",
        "quantities": {"audio_seconds": "2.2"},
    }
    closed = usage(**fields, operation_total={"audio_seconds": "2.2"})
    killed = usage(**fields, operation_id="killed")
    lines = [json.loads(line) for line in run("rate", input=closed + killed).stdout.splitlines()]
    assert [line["billable_quantity"] for line in lines] == ["3", "2.2"]
    assert [line["pricing_source"].partition("?")[2] for line in lines] == [
        "policy=ours@base",
        "policy=ours@base&open=1",
    ]
