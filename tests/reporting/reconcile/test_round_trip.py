"""
One month, both sides: our usage records, and the vendors' exports in their own formats, made from the same facts.

The facts share no code with the diagnosis. Interrupted generations, of which we have estimates only, are in every month
of a language model; what is found is measured over random months with one fault and with two.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from random import Random

import pytest

from livekit_costmeter.reporting.reconcile import CAUSES
from tests.reporting.reconcile.round_trip.facts import MODELS
from tests.reporting.reconcile.round_trip.faults import FAULTS
from tests.reporting.reconcile.round_trip.run import run

ALONE = [(vendor, (fault,)) for fault, (_, vendors, _) in FAULTS.items() for vendor in vendors]
PAIRS = [
    (vendor, (first, second))
    for first, second in combinations(FAULTS, 2)
    if FAULTS[first][2] != FAULTS[second][2]
    for vendor in FAULTS[first][1]
    if vendor in FAULTS[second][1]
]
ENOUGH = 0.95


def wanted(faults):
    """Return the classes that have to be named."""
    return {FAULTS[fault][2] for fault in faults}


@pytest.mark.parametrize("vendor", MODELS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_month_without_a_fault_has_no_drift_and_no_cause(vendor, seed, tmp_path):
    """Reported units agree to the last one, estimates stay within their share, and nothing is explained away."""
    found = run(seed, vendor, (), tmp_path)
    assert found.findings == ()
    assert not found.over
    rows = [row for row in found.rows if row.level == "unit" and row.their_units is not None]
    assert rows or vendor == "cartesia"
    for row in rows:
        if not row.estimated_share:
            assert abs(row.unit_difference) < 1e-3  # hours of an export are binary fractions
        else:
            assert abs(row.unit_percent) <= 100 * row.estimated_share
    assert any(not row.estimated_share for row in rows) == (vendor not in ("openai", "anthropic", "cartesia"))


@pytest.mark.parametrize(("vendor", "seed"), [("openai", 11), ("anthropic", 12)])
def test_where_nothing_is_interrupted_tokens_agree_to_the_last_one(vendor, seed, tmp_path, monkeypatch):
    """Without estimates there is no drift at all, in any unit and in any amount of money."""
    monkeypatch.setattr("tests.reporting.reconcile.round_trip.run.INTERRUPTED", 0.0)
    found = run(seed, vendor, (), tmp_path)
    assert {row.state for row in found.rows} == {"agrees"}
    assert all(row.unit_difference == 0 for row in found.rows)
    assert all(row.cost_difference == 0 for row in found.rows)


@pytest.mark.parametrize(("vendor", "faults"), ALONE[::3])
def test_a_fault_alone_is_named(vendor, faults, tmp_path):
    """The first cause is the one that was injected, and no other is named."""
    found = run(77, vendor, faults, tmp_path)
    assert [finding.class_ for finding in found.findings] == [FAULTS[faults[0]][2]]
    assert found.findings[0].evidence


@pytest.mark.parametrize("vendor", ["openai", "deepgram", "anthropic"])
@pytest.mark.parametrize("fault", ["discount", "stale_catalog", "missed_usage", "double_counting", "incomplete", None])
def test_costs_alone_tell_rates_from_usage(vendor, fault, tmp_path):
    """Without any quantities a rate is a factor that every day has; what is missed or doubled is never that even."""
    found = run(5, vendor, (fault,) if fault else (), tmp_path, costs_alone=True)
    assert [finding.class_ for finding in found.findings] == ([FAULTS[fault][2]] if fault else [])
    assert all(row.their_units is None for row in found.rows)


def test_every_cause_has_a_fault():
    """The eleven codes are the eleven faults, in the same classes."""
    assert {name: each[2] for name, each in FAULTS.items()} == {code: group for code, (group, _) in CAUSES.items()}


@pytest.mark.slow
def test_faults_alone_and_in_pairs_are_named_in_almost_all_of_many_random_months(tmp_path):
    """Precision and recall are 95 % or better, alone and in pairs; of a pair both are among the first three."""
    rng = Random(20261121)
    cases = [*ALONE, *ALONE, *(rng.choice(PAIRS) for _ in range(180))]
    scores = {1: Counter(), 2: Counter()}
    for number, (vendor, faults) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        named = [finding.class_ for finding in run(rng.randrange(1 << 30), vendor, faults, folder).findings]
        score = scores[len(faults)]
        score["right"] += len(wanted(faults) & set(named[:3]))
        score["missing"] += len(wanted(faults) - set(named[:3]))
        score["wrong"] += len(set(named) - wanted(faults))
        score["months"] += 1
    for size, score in scores.items():
        precision = score["right"] / (score["right"] + score["wrong"])
        recall = score["right"] / (score["right"] + score["missing"])
        print(f"{score['months']} months with {size} fault(s): precision {precision:.1%}, recall {recall:.1%}")
        assert precision >= ENOUGH
        assert recall >= ENOUGH
    assert sum(score["months"] for score in scores.values()) >= 200
