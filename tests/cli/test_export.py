"""`costmeter export`: Parquet and FOCUS; the formats of text are with the ledger."""

import csv
import io
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from focus_data_toolkit.cli import main as toolkit

from livekit_costmeter.records import CHARGE_FIELDS


def focus_rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_parquet_goes_to_a_file_or_a_pipe(ledger, run, command):
    """The same charges as in every other format."""
    assert run("export", "--format", "parquet", "-o", "out.parquet").exit_code == 0
    table = pq.read_table("out.parquet")
    assert tuple(table.column_names) == CHARGE_FIELDS
    assert table.num_rows == len(run("export").stdout.splitlines())
    piped = command("export", "--format", "parquet")
    assert (piped.returncode, piped.stderr) == (0, b"")
    assert pq.read_table(io.BytesIO(piped.stdout)) == table


def test_parquet_is_not_printed_on_a_terminal(ledger, run, monkeypatch):
    """Bytes would only confuse it."""
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True, raising=False)
    result = run("export", "--format", "parquet")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "parquet is not for a terminal: name a file with -o" in result.stderr


def test_focus_is_csv_and_says_what_it_does_not_know(ledger, run):
    """One row per charge; what is not known stands as 0, so it is counted on stderr as well."""
    result = run("export", "--format", "focus")
    rows = focus_rows(result.stdout)
    assert result.exit_code == 0
    assert len(rows) == len(run("export").stdout.splitlines())
    assert {row["InvoiceIssuerName"] for row in rows} == {"line"}  # the project
    assert sum(row["x_PricingStatus"] == "unpriced" for row in rows) == 1
    assert result.stderr == (
        "costmeter: 1 of 5 rows have no price: their costs stand as 0, with x_PricingStatus unpriced\n"
        "costmeter: of 1 of 5 rows it is not known what is billed: BilledCost stands as 0, with an empty x_BilledCost\n"
    )


def test_focus_is_parquet_by_the_name_of_its_file(ledger, run):
    """Both kinds of file pass the lint of another project."""
    for name in ("focus.parquet", "focus.csv"):
        assert run("export", "--format", "focus", "-o", name, "--issuer", "VoiceCo").exit_code == 0
        assert toolkit(["validate", name]) == 0
    table = pq.read_table("focus.parquet")
    assert set(table["InvoiceIssuerName"].to_pylist()) == {"VoiceCo"}
    assert table.num_rows == len(focus_rows(Path("focus.csv").read_text()))


@pytest.mark.parametrize("version", ["1.2", "1.3", "1.4"])
def test_focus_has_versions(ledger, run, version, capsys):
    """Another tool recognises the one that was asked for."""
    assert run("export", "--format", "focus", "--focus-version", version, "-o", "focus.csv").exit_code == 0
    assert toolkit(["detect", "focus.csv"]) == 0
    assert f"version={version} confidence=HIGH" in capsys.readouterr().out


def test_an_own_key_can_be_read_strictly_or_leniently(project, spool, usage_of_own_key, run):
    """Strictly nothing is effective, leniently the provider's cost; nothing is billed either way."""
    spool(usage_of_own_key)
    assert run("ship").exit_code == 0
    found = {
        byok: focus_rows(run("export", "--format", "focus", "--byok", byok).stdout)[0] for byok in ("strict", "lenient")
    }
    assert {row["BilledCost"] for row in found.values()} == {"0"}
    assert {row["ListCost"] for row in found.values()} == {"0.0005"}
    assert (found["strict"]["EffectiveCost"], found["lenient"]["EffectiveCost"]) == ("0", "0.0005")
    assert {row["InvoiceIssuerName"] for row in found.values()} == {"openai"}


@pytest.fixture
def usage_of_own_key():
    """Return usage that an account's own key paid for."""
    return {
        "at": "2026-11-20T12:00:00Z",
        "component": "llm",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "quantities": {"input_tokens": "1000"},
        "key_owner": "acme",
        "account": "acme",
    }


@pytest.mark.parametrize(
    "option",
    [("--focus-version", "1.2"), ("--byok", "lenient"), ("--issuer", "VoiceCo"), ("--credit-currency", "Credits")],
)
def test_options_of_focus_are_refused_with_other_formats(ledger, run, option):
    """A setting that would do nothing is a mistake."""
    result = run("export", "--format", "csv", *option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{option[0]} has no meaning without --format focus" in result.stderr


@pytest.mark.parametrize("form", ["parquet", "focus"])
def test_without_its_library_nothing_is_written(ledger, run, one_line, monkeypatch, form):
    """One line says what to install, and the file that was there stays."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    Path("out.parquet").write_text("as it was")
    result = run("export", "--format", form, "-o", "out.parquet")
    assert result.exit_code == 2
    assert one_line(result.stderr)
    assert "pip install 'livekit-costmeter[parquet]'" in result.stderr
    assert Path("out.parquet").read_text() == "as it was"
    assert [path.name for path in Path().glob(".out*")] == []


def test_an_empty_period_is_a_file_with_columns(ledger, run):
    """Nothing to say about nothing."""
    result = run("export", "--format", "focus", "--since", "2030-01-01")
    assert (result.exit_code, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    assert run("export", "--format", "parquet", "--since", "2030-01-01", "-o", "out.parquet").exit_code == 0
    assert pq.read_table("out.parquet").num_rows == 0
