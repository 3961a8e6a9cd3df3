"""The shipper: whole passes, slices, and who may ship."""

import pytest

from livekit_costmeter.delivery import ShipLock, list_segments, pending
from livekit_costmeter.delivery.sinks.memory import MemorySink


def test_everything_pending_arrives_in_order(fill, make_shipper, directory, rows, expected):
    """A pass rates each record, delivers its rows in order, and deletes the segment."""
    ids = fill(25)
    sink = MemorySink()
    shipment = make_shipper(sinks={"ledger": sink}, batch_rows=7).ship_once()
    assert rows(sink) == expected(ids)
    assert (shipment.records, shipment.charges, shipment.sinks) == (25, 50, {"ledger": 50})
    assert (shipment.deleted, shipment.still_owed, shipment.busy) == (1, {}, False)
    assert {path.name for path in directory.iterdir()} == {"ship.lock", "status.json"}


def test_live_segment_is_shipped_and_kept(fill, make_shipper, directory, rows, expected, flaky):
    """What a living process has appended is delivered at once and once; its segment stays."""
    ids = fill(3, close=False)
    sink = flaky()
    shipper = make_shipper(sinks={"ledger": sink})
    shipper.ship_once()
    assert rows(sink) == expected(ids)
    assert len(list_segments(directory)) == 1
    assert shipper.ship_once().records == 0
    assert len(sink.batches) == 1


def test_dead_sink_holds_up_no_other(fill, make_shipper, directory, rows, expected, away):
    """The others get everything, and what the dead one is owed stays and is reported."""
    ids = [*fill(3, sinks=["good", "dead"]), *fill(3, sinks=["good", "dead"])]
    good = MemorySink()
    shipment = make_shipper(sinks={"good": good, "dead": away}).ship_once()
    assert sorted(rows(good)) == sorted(expected(ids))
    assert shipment.still_owed == {"dead": "connection refused"}
    assert pending(directory).records == 6
    revived = MemorySink()
    make_shipper(sinks={"good": good, "dead": revived}).ship_once()
    assert sorted(rows(revived)) == sorted(expected(ids))
    assert list_segments(directory) == []


def test_one_shipper_at_a_time(fill, make_shipper, directory):
    """A second shipper says that it is not its turn, and touches nothing."""
    fill(2)
    lock = ShipLock(directory)
    assert lock.acquire()
    assert not ShipLock(directory).is_free()
    sink = MemorySink()
    assert make_shipper(sinks={"ledger": sink}).ship_once(wait=0).busy
    assert sink.charges == []
    lock.release()
    assert ShipLock(directory).is_free()
    assert not make_shipper(sinks={"ledger": sink}).ship_once().busy
    assert len(sink.charges) == 4


def test_job_ships_slices_of_its_own_only(fill, make_shipper, directory, make_spool, rates, rows, expected):
    """Without a shipper beside it, a job delivers its own segment bit by bit and adopts nobody else's."""
    foreign = fill(3)
    spool = make_spool()
    own = [spool.append(rates.body()) for _ in range(5)]
    sink = MemorySink()
    shipper = make_shipper(sinks={"ledger": sink})
    assert shipper.ship_own(spool.segments, limit=2).records == 2
    assert rows(sink) == expected(own[:2])
    spool.close()
    while shipper.ship_own(spool.segments, limit=2).records:
        assert shipper.lock.is_free()
    assert rows(sink) == expected(own)
    assert list_segments(directory) == [foreign[0].rpartition("-")[0]]


def test_progress_counts_down(fill, make_shipper):
    """A terminal can show how far a long pass is."""
    fill(5)
    fill(5)
    seen = []
    make_shipper(sinks={"ledger": MemorySink()}, progress=lambda done, left: seen.append((done, left))).ship_once()
    assert seen == [(5, 5), (10, 0)]


def test_sink_names_must_fit_in_file_names(make_shipper):
    """A name that would leave the directory is refused at once."""
    with pytest.raises(ValueError, match="sink name"):
        make_shipper(sinks={"../ledger": MemorySink()})
