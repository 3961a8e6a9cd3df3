"""Finished work that was thrown away afterwards, and what work beside the answers cost."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from livekit_costmeter.reporting import build_report, report_json, report_text


@pytest.fixture
def thrown_away(charge):
    """Return a speech made ahead and thrown away, another speech, and the same speech's voice."""
    speech = {"session_id": "s", "speech_id": "sp-1"}
    return [
        charge(record_id="a", **speech, cost=Decimal(1)),
        charge(record_id="b", session_id="s", speech_id="sp-2", cost=Decimal(2)),
        charge(record_id="c", **speech, component="tts", provider="cartesia", model="sonic-3", cost=Decimal(4)),
        charge(record_id="d", **speech, outcome="discarded", quantity=Decimal(0), cost=Decimal(0)),
        charge(record_id="e", session_id="other", speech_id="sp-1", cost=Decimal(8)),
    ]


def costs(report):
    """Return records and dollars by outcome."""
    return {row.key["outcome"]: (row.records, row.cost["USD"]) for row in report.rows}


@pytest.mark.parametrize("order", [1, -1])
def test_what_was_completed_and_thrown_away_counts_as_discarded(thrown_away, order):
    """Only of the same session, speech, component and model; whether the ledger has it before or after."""
    report = build_report(thrown_away[::order], ["outcome"])
    assert costs(report) == {"completed": (3, 14), "discarded": (1, 1)}
    assert (report.total.records, report.total.cost) == (4, {"USD": 15})


def test_work_discarded_before_its_end_counts_as_it_is(charge, unpriced):
    """It has quantities of its own; its units that are zero say nothing."""
    charges = [
        charge(record_id="a", speech_id="sp-1", outcome="discarded", cost=Decimal(1)),
        unpriced(record_id="a", line=1, speech_id="sp-1", outcome="discarded", unit="requests", quantity=Decimal(0)),
    ]
    report = build_report(charges, ["outcome"])
    assert costs(report) == {"discarded": (1, 1)}
    assert report.total.unpriced_records == 0


def test_a_discard_without_a_speech_throws_nothing_away(charge):
    """Nothing says which work it was."""
    charges = [charge(record_id="a"), charge(record_id="b", outcome="discarded", quantity=Decimal(0))]
    assert set(costs(build_report(charges, ["outcome"]))) == {"completed"}


def test_a_filter_by_outcome_finds_what_was_thrown_away(thrown_away):
    """The outcome is the one that the work had in the end."""
    assert build_report(thrown_away, [], where={"outcome": ["discarded"]}).total.cost == {"USD": 1}
    filtered = build_report(thrown_away, ["outcome"], where={"provider": ["openai"]})
    assert costs(filtered) == {"completed": (2, 10), "discarded": (1, 1)}


def test_charges_that_can_be_read_only_once_are_refused(charge):
    """A report from half of what it needs would be wrong without a word."""
    with pytest.raises(TypeError, match="not an iterator"):
        build_report(iter([charge()]), [])


def test_a_ledger_is_read_a_second_time_only_where_something_was_thrown_away(thrown_away):
    """A second pass is the price of exact sums in little memory."""

    class Counted:
        def __init__(self, charges):
            self.charges, self.reads = charges, 0

        def __iter__(self):
            self.reads += 1
            return iter(self.charges)

    plain, mixed = Counted(thrown_away[:3]), Counted(thrown_away)
    build_report(plain, [])
    build_report(mixed, [])
    assert (plain.reads, mixed.reads) == (1, 2)


def test_plain_text_says_what_work_beside_the_answers_cost(thrown_away, charge, unpriced):
    """One line per kind, under the table; a partial cost is a lower bound, an estimate shows its share."""
    charges = [
        *thrown_away,
        charge(record_id="f", outcome="interrupted", cost=Decimal("0.5"), quantity_basis="estimated"),
        unpriced(record_id="f", line=1, outcome="interrupted", unit="output_tokens"),
        charge(record_id="g", outcome="failed", cost=Decimal(0)),
        unpriced(record_id="h", outcome="probe"),
        unpriced(record_id="i", outcome="probe"),
    ]
    lines = report_text(build_report(charges, ["component"])).splitlines()
    assert lines[4:8] == [
        "interruptions: >= 0.5 USD in 1 record, 100 % of it estimated",
        "speculation (thrown away): 1 USD in 1 record",
        "retries (failed attempts): 0 USD in 1 record",
        "probes: unpriced in 2 records",
    ]


def test_there_is_no_such_line_where_all_went_well(charge):
    """A call without interruptions does not talk of them."""
    report = build_report([charge()], [])
    assert report.outcomes == ()
    assert len(report_text(report).splitlines()) == 3


def test_json_has_the_same_as_rows(thrown_away, charge):
    """They are part of the total, not on top of it."""
    charges = [*thrown_away, charge(record_id="f", outcome="interrupted", cost=Decimal("0.5"))]
    found = json.loads(report_json(build_report(charges, [])))
    assert [(row["key"], row["cost"]) for row in found["outcomes"]] == [
        ({"outcome": "interrupted"}, {"USD": "0.5"}),
        ({"outcome": "discarded"}, {"USD": "1"}),
    ]
    assert found["outcomes"][0].keys() == found["rows"][0].keys()
    assert found["total"]["cost"] == {"USD": "15.5"}


def test_a_correction_of_thrown_away_work_follows_it(thrown_away):
    """A later price changes the cost of the speculation, not of the answers."""
    correction = replace(thrown_away[0], record_id="z", kind="correction", cost=Decimal("-0.25"), corrects="a")
    assert costs(build_report([*thrown_away, correction], ["outcome"]))["discarded"] == (2, Decimal("0.75"))
