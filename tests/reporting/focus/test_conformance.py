"""FOCUS files against an independent lint of the specification, focus-data-toolkit."""

import json

import pytest
from focus_data_toolkit.cli import main as toolkit
from focus_data_toolkit.io.row_source import read_source_rows
from focus_data_toolkit.model.validator import lint_focus_1_4_structure, load_model
from focus_data_toolkit.schema.registry import mandatory_columns, version_columns

from livekit_costmeter.reporting import FOCUS_VERSIONS, FocusOptions, write_focus

COST_AND_USAGE = "Cost and Usage"
SITUATIONS = (
    "mixed call",
    "own keys",
    "credits",
    "corrections",
    "taxes",
    "unpriced",
    "unknown owner",
    "currencies",
    "everything",
)


def model_of(version):
    """Return the toolkit's model with the columns of one version, as its register of versions has them."""
    known = load_model()["datasets"][COST_AND_USAGE]["columns"]
    name = {"data_type": "String", "value_format": "", "allows_nulls": False}
    required = mandatory_columns(COST_AND_USAGE, version)
    columns = {column: dict(known.get(column, name)) for column in version_columns(COST_AND_USAGE, version)}
    for column, spec in columns.items():
        spec["feature_level"] = "Mandatory" if column in required else spec.get("feature_level", "Conditional")
    return {**load_model(), "datasets": {COST_AND_USAGE: {"columns": columns}}}


def violations(path, version, *conditions):
    """Return what the lint says about a file."""
    rows = read_source_rows(str(path), dataset=COST_AND_USAGE)
    model = model_of(version)
    return lint_focus_1_4_structure(COST_AND_USAGE, rows, model=model, supported_conditions=conditions).messages()


@pytest.fixture
def written(tmp_path):
    """Return a function that writes charges as a FOCUS file and returns its path."""

    def write(charges, version, ending, options=None):
        path = tmp_path / f"focus.{ending}"
        with path.open("wb") as stream:
            write_focus(charges, stream, version, options, parquet=ending == "parquet")
        return path

    return write


@pytest.mark.parametrize("byok", ["strict", "lenient"])
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("version", FOCUS_VERSIONS)
def test_every_situation_passes_the_lint(situations, written, version, situation, byok):
    """Columns, nulls, formats and the rules across columns, by the model of the version."""
    path = written(situations[situation], version, "csv", FocusOptions("VoiceCo", byok))
    assert violations(path, version) == []


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("version", FOCUS_VERSIONS)
def test_the_toolkit_recognises_the_version_and_takes_the_file(situations, written, tmp_path, capsys, version, ending):
    """Its commands exit with 0: it checks 1.4, and what it makes 1.4 of 1.2 and 1.3 passes that check as well."""
    path = written(situations["everything"], version, ending)
    assert toolkit(["detect", str(path), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["detected_version"], found["confidence"], found["exact_match"]) == (version, "HIGH", True)
    if version == "1.4":
        assert toolkit(["validate", str(path)]) == 0
    else:
        out = str(tmp_path / "converted")
        assert toolkit(["convert", "--cost-and-usage", str(path), "--out", out, "--exit-policy", "pipeline"]) == 0
        assert "lint [Cost and Usage]: lint OK" in capsys.readouterr().out


@pytest.mark.parametrize("version", FOCUS_VERSIONS)
def test_priced_rows_also_keep_the_rules_of_unit_pricing(situations, written, version):
    """A writer that declares unit prices and pricing categories owes more columns; only unpriced lines cannot pay."""
    conditions = ("SupportsUnitPricing", "SupportsMultiplePricingCategories")
    priced = [charge for charge in situations["everything"] if charge.pricing_status != "unpriced"]
    assert violations(written(priced, version, "csv"), version, *conditions) == []
    missing = violations(written(situations["unpriced"], version, "csv"), version, *conditions)
    assert {message.split(": ", 1)[0] for message in missing} == {
        f"[SEMANTIC_VALID:required_for_usage_or_purchase] {column} row {row}"
        for column in ("PricingCategory", "SkuPriceId")
        for row in (0, 1)
    }


def test_the_name_of_a_virtual_currency_is_what_the_lint_does_not_know(situations, written):
    """That is why credits are XXX unless a name is asked for."""
    path = written(situations["credits"], "1.4", "csv", FocusOptions(credit_currency="Credits"))
    assert violations(path, "1.4") == ["[STRUCTURAL_VALID:bad_currency] PricingCurrency row 1: invalid value 'Credits'"]


def test_an_empty_period_has_nothing_but_its_emptiness(written, capsys):
    """A header and no rows: every version is recognised, and the lint has nothing else to say."""
    for version in FOCUS_VERSIONS:
        path = written([], version, "csv")
        assert toolkit(["detect", str(path), "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["detected_version"] == version
        assert violations(path, version) == ["[STRUCTURAL_VALID:empty_dataset] -: no rows provided"]
