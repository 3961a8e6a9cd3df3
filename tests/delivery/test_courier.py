"""The courier: what a sink raises, and where the cursor stands after it."""

import json

import pytest

from livekit_costmeter.delivery import list_segments
from livekit_costmeter.delivery.files.acks import ack_path
from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError
from livekit_costmeter.delivery.sinks.memory import MemorySink


def test_record_is_never_parted(fill, make_shipper, flaky):
    """The rows of one record are written in one batch, whatever the batch size."""
    fill(10)
    sink = flaky()
    make_shipper(sinks={"ledger": sink}, batch_rows=3).ship_once()
    for batch in sink.batches:
        assert len(batch) % 2 == 0


def test_retryable_error_sends_the_batch_again(fill, make_shipper, rows, expected, flaky):
    """A sink that recovers within a pass misses nothing."""
    ids = fill(5)
    sink = flaky([RetryableError("locked"), RetryableError("locked")])
    assert make_shipper(sinks={"ledger": sink}).ship_once().still_owed == {}
    assert rows(sink) == expected(ids)


def test_unforeseen_exception_counts_as_retryable(fill, make_shipper, rows, expected, flaky):
    """A bug in a sink costs a delay, not a charge."""
    ids = fill(5)
    sink = flaky([ZeroDivisionError("oops")])
    make_shipper(sinks={"ledger": sink}).ship_once()
    assert rows(sink) == expected(ids)


def test_rejected_record_goes_to_the_dead_letters(fill, make_shipper, directory, rows, expected, picky):
    """Only the refused record is set aside, with its reason and rows; the rest arrives and the segment goes."""
    ids = fill(5)
    sink = picky({ids[2]})
    shipment = make_shipper(sinks={"ledger": sink}).ship_once()
    assert rows(sink) == expected([*ids[:2], *ids[3:]])
    assert shipment.rejected == 1
    letters = [json.loads(line) for path in (directory / "dead").iterdir() for line in path.read_text().splitlines()]
    assert [(letter["record_id"], letter["reason"], len(letter["charges"])) for letter in letters] == [
        (ids[2], "too odd", 2)
    ]
    assert list_segments(directory) == []


def test_sink_that_rejects_what_it_was_not_given_is_retried(fill, make_shipper, rows, expected, flaky):
    """Nonsense from a sink neither loops for ever nor loses a row."""
    ids = fill(2)
    sink = flaky([RejectedRecords({"stranger": "never seen"})])
    make_shipper(sinks={"ledger": sink}).ship_once()
    assert rows(sink) == expected(ids)


def test_lost_acknowledgement_sends_again(fill, make_shipper, directory, rows, expected, away, flaky):
    """Without its acknowledgement a sink gets the rows again, and it keeps one set."""
    ids = fill(4, sinks=["ledger", "dead"])
    sink = flaky()
    shipper = make_shipper(sinks={"ledger": sink, "dead": away})
    shipper.ship_once()
    ack_path(directory, list_segments(directory)[0], "ledger").unlink()
    shipper.ship_once()
    assert len(sink.batches) == 2
    assert rows(sink) == expected(ids)


def test_acknowledgement_that_cannot_be_written_stops_nothing(fill, make_shipper, directory, rows, expected, caplog):
    """On a full disk delivery goes on, because it is what makes room again."""
    ids = fill(20)
    (directory / f"{list_segments(directory)[0]}.ledger.ack.tmp").mkdir()
    sink = MemorySink()
    make_shipper(sinks={"ledger": sink}, batch_rows=4).ship_once()
    assert rows(sink) == expected(ids)
    assert list_segments(directory) == []
    assert caplog.text.count("acknowledgement cannot be written") == 1


class Gathering(MemorySink):
    """A sink that wants large batches."""

    def __init__(self, batch_rows, linger):
        super().__init__()
        self.batch_rows, self.linger = batch_rows, linger
        self.batches = []

    def write(self, charges):
        self.batches.append(len(charges))
        super().write(charges)


@pytest.fixture
def carry(directory, make_shipper):
    """Rate what is pending and carry it to a sink as the background does; `time[0]` is what the clock says."""
    time = [0.0]

    def make(sink):
        shipper = make_shipper(sinks={"ledger": sink}, monotonic=lambda: time[0])
        custody = shipper._custody()

        def step(*, patient=True):
            states = custody.refresh()
            for state in states:
                custody.rate(state)
            custody.couriers["ledger"].ship(*states, patient=patient)
            return [custody.settle(state) for state in states]

        return step

    return make, time


def test_sink_that_lingers_gets_the_rows_of_many_segments_at_once(fill, carry, rows, expected):
    """Ended calls wait for each other as long as the sink asks for, then go in one write and are acknowledged each."""
    make, time = carry
    sink = Gathering(batch_rows=1_000, linger=60)
    step = make(sink)
    ids = fill(3)
    assert step() == [False]
    time[0] = 59
    ids += fill(3)
    assert step() == [False, False]
    assert sink.batches == []
    time[0] = 60
    assert step() == [True, True]
    assert sink.batches == [12]
    assert rows(sink) == expected(ids)
    fill(1)
    assert step() == [False]


def test_full_batch_does_not_linger(fill, carry):
    """What fills the batches that a sink asks for goes at once, in batches of that size."""
    make, _ = carry
    sink = Gathering(batch_rows=4, linger=60)
    fill(10)
    assert make(sink)() == [True]
    assert sink.batches == [4, 4, 4, 4, 4]


def test_last_pass_and_single_passes_do_not_linger(fill, carry, make_shipper):
    """Whoever stops, or ships once, leaves nothing behind for the sake of large batches."""
    make, _ = carry
    sink = Gathering(batch_rows=1_000, linger=60)
    fill(3)
    assert make(sink)(patient=False) == [True]
    fill(3)
    assert make_shipper(sinks={"ledger": sink}).ship_once().still_owed == {}
    assert sink.batches == [6, 6]


def test_failure_does_not_linger_again(fill, carry):
    """A batch whose turn had come is sent as soon as the sink is back."""
    make, time = carry
    sink = Gathering(batch_rows=1_000, linger=60)
    step = make(sink)
    fill(3)
    step()
    time[0], write = 60, sink.write
    sink.write = lambda _: (_ for _ in ()).throw(RetryableError("away"))
    with pytest.raises(RetryableError, match="away"):
        step()
    sink.write = write
    assert step() == [True]


def test_refused_record_of_a_batch_of_many_segments_goes_to_its_own(fill, carry, directory, picky):
    """Dead letters say the segment that a record came from, whatever it was written with."""
    make, _ = carry
    first, second = fill(2), fill(2)
    sink = picky({first[0], second[1]})
    assert make(sink)() == [True, True]
    letters = {path.name: json.loads(path.read_text())["record_id"] for path in (directory / "dead").iterdir()}
    assert letters == {f"ledger-{refused.rpartition('-')[0]}.jsonl": refused for refused in (first[0], second[1])}
