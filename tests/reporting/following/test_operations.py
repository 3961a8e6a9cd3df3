"""From charges to operations, with running totals."""

from decimal import Decimal

import pytest

from livekit_costmeter.reporting import UnknownDimension
from livekit_costmeter.reporting.following import Operations


@pytest.fixture
def talk(charge):
    """Return the charges of two sessions: a request of two units, a stream in two increments, another request."""
    one = {"session_id": "s", "cost": Decimal(1)}
    stream = {"component": "stt", "model": "nova-3", "operation_id": "stream", "unit": "audio_seconds", **one}
    return [
        charge(record_id="a", **one),
        charge(record_id="a", line=1, unit="output_tokens", **one),
        charge(record_id="b", **stream),
        charge(record_id="c", session_id="other", cost=Decimal(8)),
        charge(record_id="d", **stream),
    ]


def told(operations, look):
    return [(one.charge.record_id, one.sums.cost["USD"], one.running.cost["USD"]) for one in operations.of(iter(look))]


def test_an_operation_is_one_with_all_its_units_and_increments(talk):
    """Whatever a look has of it; the total of its session stands beside it."""
    operations = Operations(["session"])
    assert told(operations, talk) == [("a", 2, 2), ("d", 2, 4), ("c", 8, 8)]
    assert operations.total.cost == {"USD": 12}
    assert (operations.total.records, operations.sessions) == (4, 2)


def test_an_operation_that_goes_on_is_told_again_with_what_is_new(talk):
    """Each look tells only what it had; the total goes on."""
    operations = Operations(["session"])
    assert [told(operations, [one]) for one in talk[2:]] == [[("b", 1, 1)], [("c", 8, 8)], [("d", 1, 2)]]


def test_totals_are_kept_by_any_dimension(talk):
    """By unit, the lines of one record go to different totals, and it is still one record altogether."""
    operations = Operations(["unit"])
    assert [(one.key["unit"], one.running.cost["USD"]) for one in operations.of(iter(talk))] == [
        ("input_tokens", 1),
        ("output_tokens", 1),
        ("audio_seconds", 2),
        ("input_tokens", 9),
    ]
    assert operations.total.records == 4


def test_by_nothing_there_is_one_total(talk):
    """The key is empty."""
    operations = Operations([])
    assert [one.running.cost["USD"] for one in operations.of(iter(talk))] == [2, 4, 12]


def test_a_long_look_is_told_as_it_is_read(charge):
    """It is not gathered whole; nothing is lost where a round ends."""
    operations, taken = Operations(["session"]), []

    def look():
        for number in range(12_000):
            taken.append(number)
            yield charge(record_id=str(number // 2), line=number % 2, session_id="s", cost=Decimal(1))

    told = operations.of(look())
    first = next(told)
    assert len(taken) < 6_000
    rest = list(told)
    assert first.sums.records + sum(one.sums.records for one in rest) == operations.total.records == 6_000
    assert rest[-1].running.cost == {"USD": 12_000}


def test_an_unknown_dimension_is_refused():
    """Before anything is read."""
    with pytest.raises(UnknownDimension, match="colour"):
        Operations(["colour"])
