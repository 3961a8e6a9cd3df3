"""The truth table: what costmeter records of each case is what the providers saw, and it says how it knows."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import ROUND_HALF_EVEN, Decimal

import pytest

from tests.fidelity.case import BILLED, ZERO
from tests.fidelity.cases import CASES
from tests.fidelity.runs import Runs

ESTIMATES = (Decimal("0.20"), Decimal("0.05"))
"""How far estimated tokens may be off, before and after calls on the same model were reported."""
OBSERVED = Decimal("0.01")

CLOCKS = {"session_seconds", "connection_seconds"}

each_case = pytest.mark.parametrize("case", CASES, ids=[f"{case.code} {case.name}" for case in CASES])


@pytest.fixture(scope="session")
def runs(request):
    """The results of the cases that the tests at hand ask for, several being played at a time."""
    wanted = [item.callspec.params["case"].code for item in request.session.items if "case" in _params(item)]
    with Runs() as runs:
        runs.begin(dict.fromkeys(wanted))
        yield runs


def _params(item):
    return item.callspec.params if hasattr(item, "callspec") else {}


@pytest.fixture(scope="session")
def all_results(runs):
    """The results of all cases, of a meter that has learned nothing."""
    runs.begin(case.code for case in CASES)
    return [runs.result(case.code) for case in CASES]


def allowed(case, line, estimates=ESTIMATES[0]):
    """How far a line may be off: reported units not at all, observed ones by a hundredth, estimates by their share."""
    estimated = (line.ledger - line.certain) * estimates if line.doubtful else ZERO
    observed = line.ledger * OBSERVED if "observed" in line.known else ZERO
    return max(estimated, ZERO) + observed + case.slack.get(line.unit, ZERO)


def visible(result):
    """The lines of which anybody outside can know anything."""
    return [line for line in result.lines if line.unit not in result.case.hidden]


def told(result):
    return "\n".join(
        f"{line.component} {line.model} {line.unit}: ledger {line.ledger}, costmeter {line.costmeter} ({line.bases})"
        for line in result.lines
    )


@each_case
def test_costmeter_records_what_the_provider_saw(case, runs):
    """Every unit of every model equals the provider's ledger within the tolerance of how it is known."""
    result = runs.result(case.code)
    off = [line for line in visible(result) if abs(line.costmeter - line.ledger) > allowed(case, line)]
    assert not off, told(result)
    assert result.failures == {}


@each_case
def test_nothing_is_silently_zero_and_nothing_is_counted_twice(case, runs):
    """A unit that the provider saw is recorded, once; one that it never saw is not."""
    for line in visible(result := runs.result(case.code)):
        assert (line.costmeter > 0) == (line.ledger > 0), told(result)
        assert line.costmeter < line.ledger * 3 / 2, told(result)


@each_case
def test_records_say_how_the_work_ended(case, runs):
    """Outcomes are as the case says; components that it does not name have only completed."""
    ended = defaultdict(Counter)
    for record in runs.result(case.code).records:
        if not _is_the_end_of_work(record):
            continue
        ended[record["component"]][record["outcome"]] += 1
    for component, outcomes in ended.items():
        if component in case.outcomes:
            assert outcomes == Counter(case.outcomes[component]), component
        else:
            assert set(outcomes) == {"completed"}, component
    assert set(case.outcomes) <= set(ended)


def _is_the_end_of_work(record):
    # Increments of a stream come before its end; how long a session was open is no piece of work.
    is_increment = record["component"] == "stt" and "operation_total" not in record
    return not is_increment and (record["component"] == "stt" or not set(record["quantities"]) <= CLOCKS)


@each_case
def test_estimates_are_marked_and_can_be_recomputed(case, runs):
    """Each estimated quantity follows from what its record says was observed, with which ratios."""
    for record in runs.result(case.code).records:
        inputs = record.get("attributes", {}).get("estimate", {})
        estimated = {unit for unit, basis in record["basis"].items() if basis in ("estimated", "lower_bound")}
        assert set(inputs) == estimated
        for unit in estimated:
            ratios = {name: Decimal(ratio) for name, ratio in inputs[unit]["ratios"].items()}
            exact = sum((amount * ratios[name] for name, amount in inputs[unit]["observed"].items()), ZERO)
            assert Decimal(record["quantities"][unit]) == exact.to_integral_value(ROUND_HALF_EVEN), unit
            assert inputs[unit]["samples"] >= 0


@each_case
def test_discarded_work_is_named_beside_its_record_and_adds_nothing(case, runs):
    """Where a completed generation was thrown away, a record of the same speech without quantities says so."""
    records = runs.result(case.code).records
    for record in records:
        if record["outcome"] != "discarded" or any(Decimal(amount) for amount in record["quantities"].values()):
            continue
        same = [
            other
            for other in records
            if (other["component"], other.get("speech_id")) == (record["component"], record.get("speech_id"))
        ]
        assert record.get("speech_id")
        assert [other["outcome"] for other in same] == ["completed", "discarded"]


def test_hidden_work_is_marked_as_a_lower_bound(runs):
    """Of a model that may have reasoned out of sight, an estimate says that it is the least that was done."""
    for case in (case for case in CASES if case.hidden):
        assert any(line.known.get("lower_bound") for line in runs.result(case.code).lines), told(runs.result(case.code))
        for line in runs.result(case.code).lines:
            if line.unit in case.hidden:
                assert line.costmeter <= line.ledger


def test_what_is_reported_or_observed_is_right_in_sum(all_results):
    """Over all cases, what is known and not estimated is between 0.99 and 1.01 of what the providers saw."""
    ledger, recorded = Counter(), Counter()
    for result in all_results:
        for line in visible(result):
            if not line.doubtful:
                ledger[line.component, line.unit] += line.ledger
                recorded[line.component, line.unit] += line.costmeter
    ratios = {place: recorded[place] / amount for place, amount in ledger.items() if amount}
    assert {unit for _, unit in ratios} >= {"input_tokens", "output_tokens", "characters", "audio_seconds"}
    wrong = {place: ratio for place, ratio in ratios.items() if not Decimal("0.99") <= ratio <= Decimal("1.01")}
    assert not wrong


def off_in_sum(results, share):
    """Return the estimated units that are off by more than a share over all results, with their ratios."""
    ledger, recorded = Counter(), Counter()
    for result in results:
        for line in visible(result):
            if line.doubtful:
                ledger[line.unit] += line.ledger - line.certain
                recorded[line.unit] += line.doubtful
    assert set(ledger) >= {"input_tokens", "output_tokens", "output_audio_tokens"}
    ratios = {unit: recorded[unit] / amount for unit, amount in ledger.items()}
    return {unit: ratio for unit, ratio in ratios.items() if abs(ratio - 1) > share}


def test_estimates_are_within_a_fifth_in_sum_before_anything_was_learned(all_results):
    """A meter that has seen no reported call of a model is off by at most 20 % over all cases."""
    assert off_in_sum(all_results, ESTIMATES[0]) == {}


def test_estimates_are_within_a_twentieth_in_sum_once_calls_were_reported(runs, all_results):
    """After some normal calls on the same models, the same cases are off by at most 5 % in sum."""
    codes = [result.case.code for result in all_results if any(line.doubtful for line in result.lines)]
    runs.begin(codes, practised=True)
    results = [runs.result(code, practised=True) for code in codes]
    assert off_in_sum(results, ESTIMATES[1]) == {}
    for result in results:
        for record in result.records:
            for unit, inputs in record.get("attributes", {}).get("estimate", {}).items():
                # Characters need no samples; a plugin that keeps a transcriber's tokens to itself gives none.
                is_learned = unit.endswith("_tokens") and record["component"] != "stt"
                if is_learned and record["basis"][unit] == "estimated":
                    assert inputs["samples"] > 0, (result.case.code, record["model"], unit)


def test_every_case_compares_something(all_results):
    """A case in which nobody saw a unit would prove nothing."""
    assert [result.case.code for result in all_results if not result.lines] == ["S6"], (
        "a muted microphone sends nothing"
    )
    assert len({case.code for case in CASES}) == len(CASES)
    assert set(BILLED) >= {unit for case in CASES for unit in case.slack}
