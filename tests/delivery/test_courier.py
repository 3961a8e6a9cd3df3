"""The courier: what a sink raises, and where the cursor stands after it."""

import json

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
