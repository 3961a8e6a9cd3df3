"""The numbers of delivery: what they count, and that they outlive who counted."""

import dataclasses
import errno
import json
import stat

import pytest

from livekit_costmeter.delivery import list_segments
from livekit_costmeter.delivery.files.status import read_status, status_path
from livekit_costmeter.delivery.sinks import RetryableError
from livekit_costmeter.delivery.sinks.memory import MemorySink

NOON = 1_795_176_000.0


def test_numbers_say_what_was_found_delivered_and_refused(fill, make_shipper, directory, flaky, picky):
    """Records, rows, retries and refusals per sink, and the last success and failure with their times."""
    ids = fill(4, sinks=["good", "picky"])
    sinks = {"good": flaky([RetryableError("locked"), RetryableError("locked")]), "picky": picky({ids[0]})}
    make_shipper(sinks=sinks, clock=lambda: NOON).ship_once()
    status = read_status(directory)
    assert (status.rating.appended, status.rating.charges, status.rating.rejected) == (4, 8, 0)
    good, refusing = status.sinks["good"], status.sinks["picky"]
    assert (good.records, good.rows, good.retries, good.rejected) == (4, 8, 2, 0)
    assert (good.last_success, good.last_error_at, good.last_error) == (NOON, NOON, "locked")
    assert (refusing.rows, refusing.rejected, refusing.pending_bytes) == (6, 1, 0)
    assert stat.S_IMODE(status_path(directory).stat().st_mode) == 0o600


def test_numbers_are_carried_on_by_the_next_shipper(fill, make_shipper, directory):
    """They count from the first shipper of a directory on, and a sink that is gone keeps its numbers."""
    for number in (1, 2):
        fill(3)
        make_shipper(sinks={"ledger": MemorySink()}, clock=lambda at=number: NOON + at).ship_once()
    make_shipper(sinks={"other": MemorySink()}, clock=lambda: NOON + 3).ship_once()
    status = read_status(directory)
    assert (status.since, status.at, status.rating.appended) == (NOON + 1, NOON + 3, 6)
    assert (status.sinks["ledger"].rows, status.sinks["other"].rows) == (12, 0)


def test_numbers_of_what_waits(fill, make_shipper, directory, away):
    """Bytes of usage that a sink lacks, and when the oldest of it was used."""
    fill(3, sinks=["ledger", "dead"])
    make_shipper(sinks={"ledger": MemorySink(), "dead": away}).ship_once()
    status = read_status(directory)
    dead = status.sinks["dead"]
    assert dead.pending_bytes == (directory / f"{list_segments(directory)[0]}.seg").stat().st_size
    assert dead.oldest_at == pytest.approx(1_795_198_284.123456)
    assert (dead.last_success, dead.retries, dead.last_error) == (None, 3, "connection refused")
    assert status.sinks["ledger"].oldest_at is None


def test_unpriced_and_estimated_records_are_counted(make_spool, rates, make_shipper, directory):
    """A record counts once, however many of its units are unpriced or estimated."""
    spool = make_spool()
    for basis in ("reported", "estimated", "lower_bound", "observed"):
        spool.append(rates.body(basis={"input_tokens": basis, "output_tokens": basis}))
    spool.close()

    def rate(record):
        status = "unpriced" if record.basis["input_tokens"] == "estimated" else "priced"
        return [dataclasses.replace(charge, pricing_status=status) for charge in rates.two_charges(record)]

    make_shipper(sinks={"ledger": MemorySink()}, rate=rate).ship_once()
    rating = read_status(directory).rating
    assert (rating.appended, rating.unpriced, rating.estimated) == (4, 1, 2)


def test_records_that_a_writer_had_to_drop_are_counted_by_the_shipper(make_spool, rates, make_shipper, directory):
    """The next segment's header says how many, and they are counted once."""
    refuse = [False]

    def write(descriptor, data):
        if refuse[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os_write(descriptor, data)

    from os import write as os_write

    now = [0.0]
    spool = make_spool(write=write, max_tail=2, monotonic=lambda: now[0])
    spool.append(rates.body())
    refuse[0] = True
    for _ in range(5):
        spool.append(rates.body())
    refuse[0], now[0] = False, 100.0
    spool.append(rates.body())
    spool.close()
    spool.append(rates.body())
    spool.close()
    make_shipper(sinks={"ledger": MemorySink()}).ship_once()
    assert read_status(directory).rating.dropped == spool.stats.dropped == 4


@pytest.mark.parametrize("text", ["", "[]", "{", '{"since": 1}', '{"since": "x", "at": "y", "pid": 1}'])
def test_damaged_numbers_begin_anew(fill, make_shipper, directory, text):
    """They decide nothing, so they stop nothing."""
    fill(1)
    status_path(directory).write_text(text)
    assert read_status(directory) is None
    make_shipper(sinks={"ledger": MemorySink()}).ship_once()
    assert read_status(directory).rating.appended == 1


def test_numbers_that_another_release_counted_are_passed_over(fill, make_shipper, directory):
    """A number that this release does not know, or that it misses, does no harm."""
    make_shipper(sinks={"ledger": MemorySink()}).ship_once()
    values = json.loads(status_path(directory).read_text())
    values["rating"] = {"appended": 5, "novelty": 1}
    status_path(directory).write_text(json.dumps(values))
    assert (read_status(directory).rating.appended, read_status(directory).rating.charges) == (5, 0)


def test_numbers_that_cannot_be_written_stop_nothing(fill, make_shipper, directory, caplog):
    """A full disk delivers all the same."""
    fill(2)
    (directory / "status.json.tmp").mkdir()
    sink = MemorySink()
    make_shipper(sinks={"ledger": sink}).ship_once()
    assert len(sink.charges) == 4
    assert "status.json cannot be written" in caplog.text
