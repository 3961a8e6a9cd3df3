"""`costmeter report` and `export`: what a ledger says, and that reading leaves it alone."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from livekit_costmeter.records import CHARGE_FIELDS, parse_charge

READING = [("report",), ("export",), ("export", "--format", "csv"), ("export", "-o", "out.jsonl")]


def listing(directory):
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def exported(run, *arguments):
    return [json.loads(line) for line in run("export", *arguments).stdout.splitlines()]


def test_a_report_says_what_was_spent_and_what_has_no_price(ledger, run):
    """The unpriced record is named, its quantity counted, its cost not made up."""
    result = run("report")
    assert (result.exit_code, result.stderr) == (0, "")
    assert ">= 0.0014 USD" in result.stdout
    assert "1 record unpriced: openai/made-up" in result.stdout
    assert "7 input_tokens" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_strict_report_is_the_same_report_and_exits_with_1(ledger, run):
    """`--strict` changes the exit code only, and only while something is unpriced."""
    assert run("report", "--strict").exit_code == 1
    assert run("report", "--strict").stdout == run("report").stdout
    assert run("report", "--strict", "--until", "2026-11-21").exit_code == 0


def test_a_report_for_programs_has_the_documented_shape(ledger, run):
    """Keys, sums by unit and currency, and the total, all decimals as text."""
    found = json.loads(run("report", "--by", "account, day", "--format", "json", "--since", "2026-11-20").stdout)
    assert list(found) == ["since", "until", "by", "rows", "total", "outcomes"]
    assert (found["since"], found["until"]) == ("2026-11-20T00:00:00.000000Z", None)
    assert found["by"] == ["account", "day"]
    rows = {(row["key"]["account"], row["key"]["day"]): row for row in found["rows"]}
    acme, nobody = rows["acme", "2026-11-20"], rows[None, "2026-11-21"]
    assert acme["quantities"] == {"input_tokens": "1000", "output_tokens": "100"}
    assert (acme["cost"], acme["billed_cost"]) == ({"USD": "0.0007"}, {"USD": "0.0007"})
    assert (nobody["cost"], nobody["records"], nobody["unpriced_records"]) == ({}, 1, 1)
    assert (found["total"]["records"], found["total"]["unpriced_records"]) == (3, 1)
    assert found["total"]["estimated_share"] == "0"
    assert "key" not in found["total"]


def test_a_report_as_csv_reads_back(ledger, run):
    """One line per row, columns by name."""
    rows = list(csv.DictReader(io.StringIO(run("report", "--by", "session", "--format", "csv").stdout)))
    assert {row["session"] for row in rows} == {"ses-1", "ses-2"}
    assert sum(int(row["records"]) for row in rows) == 3


def test_a_report_by_nothing_is_the_total(ledger, run):
    """No name is a fair answer to `--by`."""
    found = json.loads(run("report", "--by", "", "--format", "json").stdout)
    assert found["rows"][0]["records"] == found["total"]["records"] == 3


def test_labels_are_a_dimension(ledger, run):
    """`label:NAME` groups by one label."""
    found = json.loads(run("report", "--by", "label:campaign", "--format", "json").stdout)
    assert [row["key"] for row in found["rows"]] == [{"label:campaign": "q4"}]


@pytest.mark.parametrize(
    ("arguments", "times"),
    [
        ((), 3),
        (("--since", "2026-11-21"), 2),
        (("--until", "2026-11-21"), 1),
        (("--until", "2026-11-21T00:00:00.000001Z"), 2),
        (("--since", "2026-11-20T12:00Z", "--until", "2026-11-21T08:00Z"), 2),
        (("--since", "2026-11-20T22:00:00-02:00"), 2),
        (("--since", "2030-01-01"), 0),
    ],
)
def test_a_period_is_utc_and_ends_before_until(ledger, run, arguments, times):
    """A bare date means its midnight, `--until` is exclusive, an offset is honoured."""
    assert len({charge["record_id"] for charge in exported(run, *arguments)}) == times
    assert json.loads(run("report", "--format", "json", *arguments).stdout)["total"]["records"] == times


def test_json_is_an_array_and_jsonl_are_lines(ledger, run):
    """The same charges in both, each with every field; an empty period is an empty array."""
    lines = exported(run)
    assert json.loads(run("export", "--format", "json").stdout) == lines
    assert [list(charge) for charge in lines] == [list(CHARGE_FIELDS)] * 5
    assert json.loads(run("export", "--format", "json", "--since", "2030-01-01").stdout) == []
    assert run("export", "--since", "2030-01-01").stdout == ""


def test_csv_has_a_header_and_empty_fields_for_what_is_unknown(ledger, run):
    """Null is an empty field, never 0."""
    rows = list(csv.DictReader(io.StringIO(run("export", "--format", "csv").stdout)))
    assert list(rows[0]) == list(CHARGE_FIELDS)
    assert [row["cost"] for row in rows if row["model"] == "made-up"] == [""]


def test_an_export_into_a_file_is_whole_or_not_there(ledger, run, one_line):
    """The file is replaced at the end; one that cannot be finished leaves the old one and no draft."""
    target = Path("out.jsonl")
    target.write_text("old")
    target.chmod(0o640)
    with Path("charges.jsonl").open("a") as damaged:
        damaged.write("{}\n")
    failed = run("export", "--sink", "lines", "-o", "out.jsonl")
    assert (failed.exit_code, failed.stdout, target.read_text()) == (2, "", "old")
    assert "charges.jsonl:6: " in failed.stderr
    assert one_line(failed.stderr)
    assert run("export", "-o", "out.jsonl").exit_code == 0
    assert len([parse_charge(line) for line in target.read_text().splitlines()]) == 5
    assert target.stat().st_mode & 0o777 == 0o640
    assert not list(ledger.glob(".out*"))


def test_an_export_into_a_device_does_not_replace_it(ledger, run):
    """`-o /dev/null` writes to the device."""
    assert run("export", "-o", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()


def test_an_export_into_a_directory_that_is_not_there_is_named(ledger, run):
    """The path as the user wrote it."""
    result = run("export", "-o", "none/out.jsonl")
    assert (result.exit_code, result.stderr) == (2, "costmeter: none/out.jsonl: No such file or directory\n")


def test_the_sink_can_be_chosen(ledger, run):
    """Every readable sink holds the same charges."""
    assert sorted(map(str, exported(run, "--sink", "lines"))) == sorted(map(str, exported(run, "--sink", "sqlite")))


@pytest.mark.parametrize("arguments", [*READING, ("prices", "check")])
def test_reading_changes_no_file(ledger, run, arguments):
    """Neither the ledger nor anything beside it; only what `-o` names is written."""
    before = listing(ledger)
    assert run(*arguments).exit_code in (0, 1)
    after = listing(ledger)
    after.pop(str(ledger / "out.jsonl"), None)
    assert after == before


@pytest.mark.parametrize("arguments", READING)
@pytest.mark.parametrize("sink", ["sqlite", "lines"])
def test_a_ledger_that_is_not_there_is_an_error_and_is_not_made(project, run, one_line, arguments, sink):
    """A sum of nothing would be a wrong answer in the wrong directory."""
    result = run(*arguments, "--sink", sink)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no ledger yet: " in result.stderr
    assert one_line(result.stderr)
    assert sorted(path.name for path in project.iterdir()) == ["costmeter.yaml", "rates.yaml"]


def test_without_a_configuration_the_message_says_so(run):
    """A user in the wrong directory sees that built-in settings were used."""
    result = run("report")
    assert result.exit_code == 2
    assert "built-in settings (no costmeter.yaml here)" in result.stderr


def test_a_file_that_is_no_ledger_is_named(project, run, one_line):
    """Garbage and an empty file are one line, not a traceback."""
    for content in (b"garbage" * 1000, b""):
        Path("costmeter.db").write_bytes(content)
        result = run("report")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "costmeter.db: " in result.stderr
        assert one_line(result.stderr)
        assert Path("costmeter.db").read_bytes() == content


@pytest.mark.parametrize("name", ["report", "export", "tail"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sink", "warehouse"), "no sink named 'warehouse' (there are: sqlite, lines, screen)"),
        (("--sink", "screen"), "the sink screen cannot be read back (sqlite and jsonl can)"),
        (("--since", "tomorrow"), "'tomorrow' is not a date or ISO 8601 instant (such as 2026-11-20"),
        (("--since", "0001-01-01T00:00+14:00"), "is not a date or ISO 8601 instant"),
        (("--config", "none.yaml"), "none.yaml: No such file or directory"),
        (("--config", ""), "the configuration file was given as an empty text"),
    ],
)
def test_a_wrong_option_is_explained(ledger, run, name, arguments, message):
    """Exit code 2, the message on stderr with what would be right, nothing on stdout."""
    result = run(name, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize("name", ["report", "export"])
@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_period_that_is_empty_by_definition_is_refused(ledger, run, name, form, order):
    """`--since` at or after `--until` is a mistake, in either order of the options; not even a header is printed."""
    for until in ("2026-11-20", "2026-11-21"):
        options = [("--since", "2026-11-21"), ("--until", until)][::order]
        result = run(name, "--format", form, *options[0], *options[1])
        assert (result.exit_code, result.stdout) == (2, "")
        assert "must be later than --since (2026-11-21T00:00Z)" in result.stderr


def test_an_unknown_dimension_is_refused_with_those_there_are(run):
    """Also where there is nothing to read yet."""
    result = run("report", "--by", "account,colour")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'colour' is not one of component, provider, model, owner, account" in result.stderr
    assert "label:<name>" in result.stderr


@pytest.mark.parametrize(("name", "form"), [("report", "jsonl"), ("export", "text"), ("report", "focus")])
def test_an_unknown_format_is_refused_with_those_there_are(ledger, run, name, form):
    """What is not built is absent."""
    result = run(name, "--format", form)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is not one of" in result.stderr
