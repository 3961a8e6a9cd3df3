"""Copying a ledger: whole, in order, and on from where it stopped."""

import json

import pytest

from livekit_costmeter.delivery.backfill import Backfill
from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, SinkError
from livekit_costmeter.delivery.sinks.memory import MemorySink
from livekit_costmeter.records import parse_usage, usage_json


class Counting(MemorySink):
    """A sink that remembers its batches, and goes away when it is told."""

    def __init__(self):
        super().__init__()
        self.batches = []
        self.away_after = None

    def write(self, charges):
        if self.away_after is not None and len(self.batches) >= self.away_after:
            raise RetryableError("gone")
        super().write(charges)
        self.batches.append(len(charges))


class Unreadable(Counting):
    """A sink that cannot be read back."""

    readable = False


@pytest.fixture
def path(tmp_path):
    """Name the file that says how far a copy is."""
    return tmp_path / "spool/backfill-a-b.json"


@pytest.fixture
def source(rates):
    """Fill a ledger with ten records of two rows."""
    sink = MemorySink()
    for number in range(10):
        body = usage_json(rates.usage(id=f"seg-{number}", at=f"2026-11-20T18:{number:02}:00Z"))
        sink.write(rates.two_charges(parse_usage(body)))
    return sink


def copy(source, target, path):
    """Copy in batches of three rows, which are four, because records are not parted."""
    return Backfill(source, target, path, batch_rows=3).run()


def interrupted(source, target, path, after):
    """Copy until the target goes away."""
    target.away_after = after
    with pytest.raises(RetryableError, match="gone"):
        copy(source, target, path)
    target.away_after = None
    target.batches.clear()


def test_everything_is_copied_in_order_and_in_whole_records(source, path):
    """The target has the same rows in the same order; nothing is left behind that says how far it came."""
    target = Counting()
    copied = copy(source, target, path)
    assert target.charges == source.charges
    assert target.batches == [4] * 5
    assert (copied.rows, copied.skipped, copied.rejected) == (20, 0, {})
    assert not path.exists()


@pytest.mark.parametrize("kind", [Counting, Unreadable])
def test_copy_goes_on_where_it_stopped(source, path, kind):
    """What the target has taken is not sent again."""
    target = kind()
    interrupted(source, target, path, after=3)
    assert json.loads(path.read_text())["rows"] == 12
    copied = copy(source, target, path)
    assert (copied.skipped, copied.sent, target.batches) == (12, 8, [4, 4])
    assert target.charges == source.charges
    assert not path.exists()


def test_source_that_changed_in_between_is_copied_anew(source, path, rates):
    """A row that came in before the place where it stopped is not skipped."""
    target = Counting()
    interrupted(source, target, path, after=3)
    late = rates.two_charges(parse_usage(usage_json(rates.usage(id="late"))))
    changed = MemorySink()
    changed.write([*late, *source.charges])
    copied = copy(changed, target, path)
    assert (copied.skipped, copied.sent) == (0, 22)
    assert {charge.record_id for charge in target.charges} == {charge.record_id for charge in changed.charges}


def test_target_that_lost_its_rows_is_filled_anew(source, path):
    """What says how far it came is believed only as far as the target bears it out."""
    interrupted(source, Counting(), path, after=3)
    emptied = Counting()
    assert copy(source, emptied, path).skipped == 0
    assert emptied.charges == source.charges


@pytest.mark.parametrize("text", ["", "{", '{"rows": 12}', '{"rows": "x", "digest": 1, "refused": 0, "last": []}'])
def test_damaged_progress_is_a_copy_from_the_start(source, path, text):
    """Half a file costs time and no row."""
    path.parent.mkdir()
    path.write_text(text)
    target = Counting()
    assert copy(source, target, path).sent == 20
    assert target.charges == source.charges


def test_refused_records_are_named_and_the_rest_is_copied(source, path, picky):
    """What the target will never take is counted, also over an interruption, and stays in the source."""
    target = picky({"seg-1", "seg-7"})
    copied = copy(source, target, path)
    assert copied.rejected == {"seg-1": "too odd", "seg-7": "too odd"}
    assert len(target.charges) == 16
    assert len(source.charges) == 20


def test_refusals_before_an_interruption_are_remembered(source, path, picky):
    """The run that ends the copy tells of those, too."""
    target = picky({"seg-1"})
    write, batches = target.write, []

    def leave(charges):
        if len(batches) == 3:
            raise RetryableError("gone")
        write(charges)
        batches.append(charges)

    target.write = leave
    with pytest.raises(RetryableError):
        copy(source, target, path)
    target.write = write
    copied = copy(source, target, path)
    assert (copied.refused, copied.rejected, copied.rows) == (1, {}, 20)


def test_a_sink_that_refuses_what_it_was_not_given_ends_the_copy(source, path):
    """That is a mistake of the sink, and would go on for ever."""
    target = MemorySink()

    def refuse(_charges):
        raise RejectedRecords({"nobody": "odd"})

    target.write = refuse
    with pytest.raises(SinkError, match="not given"):
        copy(source, target, path)


def test_one_copy_at_a_time(source, path):
    """A second one of the same two sinks says so and leaves the first alone."""

    class Meeting(Counting):
        def write(self, charges):
            with pytest.raises(SinkError, match="another process is copying this"):
                copy(source, Counting(), path)
            super().write(charges)

    target = Meeting()
    copy(source, target, path)
    assert target.charges == source.charges
