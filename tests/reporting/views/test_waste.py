"""What interruptions, speculation and retries cost."""

import csv
import io
import json
from decimal import Decimal

import pytest

from livekit_costmeter.reporting import build_report
from livekit_costmeter.reporting.views import find_waste, waste_csv, waste_json, waste_text


@pytest.fixture
def charges(charge, unpriced):
    """Return work of two models of which one wastes, and a third that has no price."""
    return [
        charge(record_id="a", model="x", cost=Decimal(6)),
        charge(record_id="b", model="x", outcome="interrupted", cost=Decimal(3)),
        charge(record_id="c", model="x", outcome="failed", cost=Decimal(1)),
        charge(record_id="d", model="y", cost=Decimal(10)),
        unpriced(record_id="e", model="z", outcome="discarded"),
    ]


@pytest.fixture
def waste(charges):
    """Return the waste per model."""
    return find_waste(build_report(charges, ["model", "outcome"]))


def test_each_group_has_its_outcomes_and_their_share_of_what_it_cost(waste):
    """Only of groups that have any, but of the cost of all of the group."""
    x, z = waste.rows
    assert (x.key, dict(x.wasted), dict(x.whole)) == ({"model": "x"}, {"USD": 4}, {"USD": 10})
    assert (x.shares(), x.shares("failed")) == ({"USD": Decimal("0.4")}, {"USD": Decimal("0.1")})
    assert (z.key["model"], z.shares(), z.unpriced_records) == ("z", {}, 1)


def test_the_total_is_of_everything(waste):
    """Also of groups that waste nothing."""
    assert (dict(waste.total.wasted), dict(waste.total.whole)) == ({"USD": 4}, {"USD": 20})
    assert waste.total.shares() == {"USD": Decimal("0.2")}


def test_finished_work_that_was_thrown_away_later_is_speculation(charge):
    """As in a report."""
    speech = {"session_id": "s", "speech_id": "sp"}
    charges = [
        charge(record_id="a", **speech, cost=Decimal(1)),
        charge(record_id="b", **speech, outcome="discarded", quantity=Decimal(0), cost=Decimal(0)),
    ]
    (row,) = find_waste(build_report(charges, ["model", "outcome"])).rows
    assert (list(row.outcomes), row.shares()) == (["discarded"], {"USD": 1})


def test_text_has_a_column_per_outcome_that_there_is(waste):
    """What a group does not have is a dash, what has no price says so."""
    header, x, z, total, *notes = waste_text(waste).splitlines()
    assert header.split() == ["model", "interruptions", "speculation", "retries", "together", "share", "of", "cost"]
    assert x.split() == ["x", "3", "USD", "-", "1", "USD", "4", "USD", "40.0", "%", "10", "USD"]
    assert z.split() == ["z", "-", "unpriced", "-", "unpriced", "-", "unpriced"]
    assert "20.0 %" in total
    assert notes[0] == "1 record unpriced: openai/z (no_match) x 1"


def test_without_waste_that_is_said(charge):
    """An empty table would look like a mistake."""
    assert "no work was interrupted" in waste_text(find_waste(build_report([charge()], ["model", "outcome"])))


def test_json_has_the_documented_shape(waste):
    """Outcomes by name, money by currency, null or absent for what is not known."""
    fields = json.loads(waste_json(waste))
    assert list(fields) == ["since", "until", "by", "rows", "total", "left_out"]
    assert fields["by"] == ["model"]
    x = fields["rows"][0]
    assert list(x) == ["key", "cost", "wasted", "wasted_share", "unpriced_records", "outcomes"]
    assert x["outcomes"]["interrupted"] == {
        "cost": {"USD": "3"},
        "share": {"USD": "0.3"},
        "records": 1,
        "unpriced_records": 0,
        "estimated_share": "0",
    }
    assert fields["total"]["wasted_share"] == {"USD": "0.2"}


def test_csv_reads_back(waste):
    """A line per group and outcome."""
    rows = list(csv.DictReader(io.StringIO(waste_csv(waste))))
    assert [(row["model"], row["outcome"], row["cost"], row["share"], row["group_cost"]) for row in rows] == [
        ("x", "interrupted", "3", "0.3", "10"),
        ("x", "failed", "1", "0.1", "10"),
        ("z", "discarded", "", "", ""),
    ]


def test_the_most_wasteful_come_first(charges, charge):
    """With a limit."""
    more = charge(record_id="f", model="w", outcome="failed", cost=Decimal(2))
    waste = find_waste(build_report([*charges, more], ["model", "outcome"]), top=2)
    assert [row.key["model"] for row in waste.rows] == ["x", "w"]
    assert waste.rows_left_out == 1


def test_a_report_by_anything_else_is_refused(charge):
    """Its rows would not say what was wasted."""
    with pytest.raises(ValueError, match="last dimension is outcome"):
        find_waste(build_report([charge()], ["outcome", "model"]))
