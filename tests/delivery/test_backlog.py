"""The spool's reader: what is whole, what is torn, what is owed."""

import os

import pytest

from livekit_costmeter.delivery import inspect, list_segments, pending
from livekit_costmeter.delivery.backlog import is_alive, opened, segment_path, sweep
from livekit_costmeter.delivery.files.acks import Ack, ack_path, write_ack
from livekit_costmeter.delivery.files.forgotten import let_go
from livekit_costmeter.delivery.files.lines import decode_line, encode_line, read_lines


@pytest.fixture
def segment(make_spool, rates, directory):
    """A closed segment of five records."""
    spool = make_spool()
    for _ in range(5):
        spool.append(rates.body())
    spool.close()
    return segment_path(directory, list_segments(directory)[0])


def cut_closing_line(path):
    """Leave a segment as a kill leaves it."""
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:-2]) + b"\n")


def test_line_is_verified():
    """A line comes back whole or not at all."""
    line = encode_line(b'{"a":1}')
    assert decode_line(line[:-1]) == b'{"a":1}'
    assert decode_line(line[:-2]) is None
    assert decode_line(b"") is None


def test_lines_longer_than_a_chunk_are_read(tmp_path):
    """Reading in pieces parts no line, and offsets are exact."""
    path = tmp_path / "f"
    rows = [b"x" * size for size in (10, 3 << 20, 0, 1 << 20)]
    path.write_bytes(b"".join(map(encode_line, rows)))
    with opened(path) as descriptor:
        lines = list(read_lines(descriptor))
        assert [line.payload for line in lines] == rows
        assert lines[-1].end == path.stat().st_size
        assert [line.payload for line in read_lines(descriptor, lines[1].end)] == rows[2:]
        assert [line.payload for line in read_lines(descriptor, 0, lines[0].end)] == rows[:1]


def test_report_of_a_clean_segment(segment):
    """A closed segment reports its records and no trouble."""
    report = inspect(segment)
    assert (report.records, report.gaps, report.corrupt) == (5, 0, 0)
    assert (report.closed, report.torn, report.live) == (True, False, False)
    assert report.header["sinks"] == ["ledger"]


def test_missing_record_shows_as_a_gap(segment):
    """A line that is gone leaves a hole in the sequence."""
    lines = segment.read_bytes().split(b"\n")
    segment.write_bytes(b"\n".join([*lines[:2], *lines[4:]]))
    assert inspect(segment).gaps == 2


def test_killed_segment_has_no_closing_line(segment):
    """A missing tail is visible."""
    cut_closing_line(segment)
    assert not inspect(segment).closed


def test_damaged_line_is_skipped(segment):
    """What stands behind a damaged line is still read."""
    data = bytearray(segment.read_bytes())
    data[data.index(b"gpt-4o")] ^= 1
    segment.write_bytes(data)
    report = inspect(segment)
    assert (report.records, report.corrupt, report.gaps) == (4, 1, 1)


def test_half_a_line_is_not_yet_there_while_the_writer_lives(spool, rates, directory):
    """Only the end of a dead segment is torn."""
    spool.append(rates.body())
    path = segment_path(directory, list_segments(directory)[0])
    with path.open("ab") as file:
        file.write(b"0000")
    assert not inspect(path).torn
    spool.close()
    path.write_bytes(path.read_bytes().split(b'{"closed"')[0])
    assert inspect(path).torn


def test_deleted_segment_is_not_alive(directory):
    """A segment that is gone has no writer."""
    assert not is_alive(directory / "gone.seg")


def test_pending_counts_what_the_slowest_sink_lacks(make_spool, rates, directory):
    """Owed is what not every listed sink has acknowledged."""
    spool = make_spool(header={"sinks": ["fast", "slow"]})
    for _ in range(4):
        spool.append(rates.body())
    name = list_segments(directory)[0]
    path = segment_path(directory, name)
    with opened(path) as descriptor:
        ends = [line.end for line in read_lines(descriptor)]
    write_ack(ack_path(directory, name, "fast"), Ack(1, ends[4]))
    write_ack(ack_path(directory, name, "slow"), Ack(1, ends[1]))
    made = path.stat().st_mtime
    owed = pending(directory, clock=lambda: made + 90)
    assert (owed.segments, owed.records, owed.bytes) == (1, 3, ends[4] - ends[1])
    assert owed.oldest_age == pytest.approx(90)
    let_go(directory, "slow", [name])
    assert pending(directory).records == 0


def test_pending_of_no_directory_is_nothing(directory):
    """A spool that was never used owes nothing."""
    assert pending(directory).records == 0
    assert pending(directory).oldest_age is None


def test_sweep_removes_only_what_nobody_owns(spool, rates, directory):
    """Leavings of deleted segments and old beginnings go; a fresh or locked beginning and a segment's files stay."""
    spool.append(rates.body())
    name = list_segments(directory)[0]
    for kept in (f"{name}.charges", f"{name}.ledger.ack", "fresh.tmp"):
        (directory / kept).write_bytes(b"")
    for gone in ("old.tmp", "gone.charges", "gone.ledger.ack"):
        (directory / gone).write_bytes(b"")
    os.utime(directory / "old.tmp", (1, 1))
    assert sweep(directory) == 3
    assert {path.name for path in directory.iterdir()} == {
        f"{name}.seg",
        f"{name}.charges",
        f"{name}.ledger.ack",
        "fresh.tmp",
    }
