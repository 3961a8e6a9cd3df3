"""Ready-made charges on their way through the spool."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from dataclasses import replace
from decimal import Decimal

import pytest

from livekit_costmeter.delivery import list_segments, pending
from livekit_costmeter.delivery.files.booking import Booked, book, booking_turn, waiting
from livekit_costmeter.delivery.files.dead import ask_for_retry
from livekit_costmeter.delivery.sinks.memory import MemorySink
from livekit_costmeter.records import parse_usage, usage_json


@pytest.fixture
def corrections(rates):
    """Return a function that makes that many correction records of two rows."""

    def make(count):
        for number in range(count):
            record = parse_usage(usage_json({"id": f"c{number}", **rates.usage()}))
            for charge in rates.two_charges(record):
                yield replace(charge, kind="correction", corrects=f"r{number}", cost=Decimal("-0.000000000001"))

    return make


def test_what_is_booked_arrives_in_every_sink_as_it_was(directory, corrections, make_shipper):
    """Nothing is rated, each sink has the same rows, and the segment is gone."""
    made = list(corrections(3))
    booked = book(made, directory, ["one", "two"], reason="test")
    assert (booked.records, booked.charges, [booked.segment]) == (3, 6, list_segments(directory))
    assert pending(directory).records == 3
    sinks = {"one": MemorySink(), "two": MemorySink()}
    shipment = make_shipper(sinks=sinks, rate=None).ship_once()
    assert (shipment.records, shipment.charges, shipment.rejected) == (3, 6, 0)
    assert [sink.charges for sink in sinks.values()] == [made, made]
    assert list_segments(directory) == []


def test_booking_again_is_booking_once(directory, corrections, make_shipper):
    """Rows with the same ids and lines are the same rows, whether the first ones are shipped or not."""
    sink = MemorySink()
    for _ in range(2):
        for _ in range(2):
            book(corrections(2), directory, ["ledger"], reason="test")
        make_shipper(sinks={"ledger": sink}).ship_once()
    assert sink.charges == list(corrections(2))


def test_nothing_to_book_makes_no_segment(directory):
    """There is no directory, and no name of a segment."""
    assert book([], directory, ["ledger"], reason="test") == Booked(0, 0, None)
    assert not directory.exists()


def test_a_sink_that_is_away_gets_it_later(directory, corrections, make_shipper, away):
    """It is owed like everything else, and delays nobody."""
    book(corrections(1), directory, ["away", "ledger"], reason="test")
    sink = MemorySink()
    shipment = make_shipper(sinks={"away": away, "ledger": sink}).ship_once()
    assert (len(sink.charges), list(shipment.still_owed)) == (2, ["away"])
    make_shipper(sinks={"away": sink, "ledger": MemorySink()}).ship_once()
    assert list_segments(directory) == []


def test_without_sinks_it_is_for_those_configured(directory, corrections, make_shipper):
    """As a segment of usage whose writer knew of none."""
    book(corrections(1), directory, [], reason="test")
    sink = MemorySink()
    make_shipper(sinks={"any": sink}).ship_once()
    assert len(sink.charges) == 2


def test_a_disk_that_refuses_books_nothing(directory, corrections):
    """However much of it was written, there is no segment and nothing is left behind."""

    def fails():
        yield from corrections(2000)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        book(fails(), directory, ["ledger"], reason="test")
    assert list(directory.iterdir()) == []


def _killed(charges, directory):
    def dies():
        yield from charges
        os.kill(os.getpid(), signal.SIGKILL)

    book(dies(), directory, ["ledger"], reason="test")


def test_a_kill_in_the_middle_books_nothing(directory, corrections, make_shipper):
    """Not even the half that was on disk is delivered; the same booking made again is."""
    made = list(corrections(2000))
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(made, directory))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    sink = MemorySink()
    shipper = make_shipper(sinks={"ledger": sink})
    shipper.ship_once()
    assert (list(waiting(directory)), sink.charges) == ([], [])
    book(made, directory, ["ledger"], reason="test")
    shipper.ship_once()
    assert sink.charges == made


def test_what_waits_can_be_read(directory, corrections, fill, picky, make_shipper, away):
    """Booked charges, also those put back from the dead letters, but no usage; once delivered, they are the sink's."""
    fill(3)
    made = list(corrections(2))
    book(made, directory, ["ledger"], reason="test")
    assert list(waiting(directory)) == made
    make_shipper(sinks={"ledger": picky({"c0"})}).ship_once()
    assert list(waiting(directory)) == []
    assert ask_for_retry(directory)
    make_shipper(sinks={"ledger": away}).ship_once()
    assert list(waiting(directory)) == made[:2]


def test_who_books_takes_turns(directory):
    """A second process comes in when the first one has left, or was killed."""
    context = multiprocessing.get_context("fork")
    entered = context.Event()
    process = context.Process(target=_enter, args=(directory, entered))
    with booking_turn(directory):
        process.start()
        assert not entered.wait(0.3)
    assert entered.wait(30)
    process.join(30)
    assert process.exitcode == 0


def _enter(directory, entered):
    with booking_turn(directory):
        entered.set()
