"""Which segments are owed to whom, and when one goes."""

from livekit_costmeter.delivery import list_segments, pending
from livekit_costmeter.delivery.backlog import segment_path
from livekit_costmeter.delivery.files.forgotten import let_go
from livekit_costmeter.delivery.sinks.memory import MemorySink


def test_segment_waits_for_a_sink_that_is_not_configured(fill, make_shipper, directory, caplog):
    """What a header lists is owed until it is delivered or let go of."""
    fill(2, sinks=["ledger", "warehouse"])
    sink = MemorySink()
    shipment = make_shipper(sinks={"ledger": sink}).ship_once()
    assert shipment.still_owed == {"warehouse": "not configured"}
    assert len(sink.charges) == 4
    assert "not configured" in caplog.text
    let_go(directory, "warehouse", list_segments(directory))
    make_shipper(sinks={"ledger": sink}).ship_once()
    assert list_segments(directory) == []


def test_sink_that_is_not_listed_gets_nothing(fill, make_shipper):
    """A sink that was configured later does not get older segments."""
    fill(2, sinks=["ledger"])
    later = MemorySink()
    make_shipper(sinks={"ledger": MemorySink(), "later": later}).ship_once()
    assert later.charges == []


def test_segment_that_lists_no_sink_goes_to_those_configured(fill, make_shipper, directory, rows, expected):
    """Usage spooled under a bad configuration waits for a good one."""
    ids = fill(2, sinks=[])
    make_shipper().ship_once()
    assert len(list_segments(directory)) == 1
    sink = MemorySink()
    make_shipper(sinks={"ledger": sink}).ship_once()
    assert rows(sink) == expected(ids)
    assert list_segments(directory) == []


def test_segment_that_cannot_be_read_holds_up_no_other(fill, make_shipper, directory, caplog, rows, expected):
    """A segment that the disk does not give is logged and waits; the others are shipped."""
    ids = fill(2)
    (directory / "00000000-unreadable.seg").mkdir()
    sink = MemorySink()
    make_shipper(sinks={"ledger": sink}).ship_once()
    assert rows(sink) == expected(ids)
    assert "cannot be read" in caplog.text
    assert pending(directory).segments == 1


def test_leavings_of_a_crash_during_deletion_are_swept(fill, make_shipper, directory, away):
    """Charges and acknowledgements without their segment are shipped by nobody and removed."""
    fill(2, sinks=["ledger", "dead"])
    make_shipper(sinks={"ledger": MemorySink(), "dead": away}).ship_once()
    segment_path(directory, list_segments(directory)[0]).unlink()
    sink = MemorySink()
    make_shipper(sinks={"ledger": sink, "dead": MemorySink()}).ship_once()
    assert sink.charges == []
    assert {path.name for path in directory.iterdir()} == {"ship.lock", "status.json"}
