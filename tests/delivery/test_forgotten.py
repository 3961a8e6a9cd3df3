"""Letting go of a sink: which segments owe it nothing any more."""

import os

import pytest

from livekit_costmeter.delivery import list_segments
from livekit_costmeter.delivery.backlog import owing, pending_by_sink, sweep
from livekit_costmeter.delivery.files.forgotten import let_go, read_forgotten
from livekit_costmeter.delivery.sinks.memory import MemorySink


def test_only_what_was_there_is_let_go_of(fill, make_shipper, directory, away, caplog):
    """A segment that is made afterwards owes the sink all that its header lists; what goes is said."""
    fill(2, sinks=["ledger", "dead"])
    let_go(directory, "dead", owing(directory, "dead", (), living=True))
    later = fill(3, sinks=["ledger", "dead"])
    sink = MemorySink()
    make_shipper(sinks={"ledger": sink, "dead": away}).ship_once()
    assert len(sink.charges) == 10
    assert list_segments(directory) == [later[0].rpartition("-")[0]]
    assert pending_by_sink(directory, ["ledger", "dead"])["dead"].records == 3
    assert "let go of" in caplog.text


def test_background_heeds_it(fill, make_shipper, directory, away, until):
    """It is said while a worker ships, which has no command line."""
    fill(2, sinks=["ledger", "dead"])
    sink = MemorySink()
    make_shipper(sinks={"ledger": sink, "dead": away}, interval=0.02).start()
    until(lambda: len(sink.charges) == 4)
    let_go(directory, "dead", owing(directory, "dead", (), living=True))
    until(lambda: list_segments(directory) == [])
    assert list(read_forgotten(directory)) == ["dead"]


def test_living_segment_goes_on_to_owe_a_sink_that_is_kept(fill, directory):
    """Its writer is still at it; only closed ones are let go of, unless all are meant."""
    closed = fill(1, sinks=["ledger"])[0].rpartition("-")[0]
    fill(1, close=False, sinks=["ledger"])
    fill(1, close=False, sinks=[])
    assert owing(directory, "ledger", ["ledger"], living=False) == [closed]
    assert len(owing(directory, "ledger", ["ledger"], living=True)) == 3
    assert len(owing(directory, "ledger", [], living=True)) == 2


def test_saying_it_twice_adds_to_it(directory):
    """The second time does not take back the first."""
    let_go(directory, "dead", ["a"])
    let_go(directory, "dead", ["b"])
    assert read_forgotten(directory) == {"dead": {"a", "b"}}


def test_name_that_leaves_the_directory_is_refused(directory):
    """A sink's name is a file's name here."""
    with pytest.raises(ValueError, match="sink name"):
        let_go(directory, "../ledger", [])


def test_what_names_only_segments_that_are_gone_is_swept(fill, directory):
    """Old requests go with their segments; one that was just made stays."""
    name = fill(1)[0].rpartition("-")[0]
    let_go(directory, "kept", [name])
    let_go(directory, "fresh", ["gone"])
    let_go(directory, "old", ["gone"])
    for sink in ("kept", "old"):
        os.utime(directory / "forgotten" / sink, (1, 1))
    sweep(directory)
    assert set(read_forgotten(directory)) == {"kept", "fresh"}
