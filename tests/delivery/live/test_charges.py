"""Charges as they are rated, read from beside the segments while others write and delete these."""

import os
from pathlib import Path

import pytest

from livekit_costmeter.delivery.files.charges import HEADER
from livekit_costmeter.delivery.live import RatedCharges
from livekit_costmeter.delivery.sinks.memory import MemorySink


@pytest.fixture
def watch(directory):
    """Make readers of the test's directory, closed at the end."""
    made = []

    def make(*, history=True, **options):
        made.append(RatedCharges(directory, history=history, **options))
        return made[-1]

    yield make
    for reader in made:
        reader.close()


def keys(reader):
    return [(charge.record_id, charge.line) for charge in reader.look()]


def descriptors():
    """Count what this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_there_may_be_nothing_yet(watch):
    """A spool directory that does not exist has no charges."""
    assert keys(watch()) == []


def test_charges_are_seen_before_any_sink_has_them(watch, fill, make_shipper, away, expected):
    """A dead sink hides nothing, and each look has only what is new."""
    reader, shipper = watch(), make_shipper(sinks={"ledger": away})
    for count in (3, 2):
        ids = fill(count)
        shipper.ship_once()
        assert keys(reader) == expected(ids)
    assert keys(reader) == []


def test_from_now_on_leaves_out_what_was_rated_before(watch, make_spool, rates, make_shipper, away, expected):
    """Without the history, the first look finds nothing, later ones what was added to the files that were there."""
    shipper, spool = make_shipper(sinks={"ledger": away}), make_spool()
    spool.append(rates.body())
    shipper.ship_once()
    reader = watch(history=False)
    assert keys(reader) == []
    last = spool.append(rates.body())
    shipper.ship_once()
    assert keys(reader) == expected([last])


def test_what_is_written_just_before_a_segment_is_deleted_is_read(
    watch, make_spool, rates, make_shipper, directory, expected
):
    """The file is held open, so shipping and deleting it between two looks loses nothing."""
    spool, sink = make_spool(), MemorySink()
    shipper, reader = make_shipper(sinks={"ledger": sink}), watch()
    first = spool.append(rates.body())
    shipper.ship_once()
    assert keys(reader) == expected([first])
    last = spool.append(rates.body())
    spool.close()
    shipper.ship_once()
    assert not list(directory.glob("*.charges"))
    assert keys(reader) == expected([last])
    assert keys(reader) == []


def test_rotation_is_followed(watch, make_spool, rates, make_shipper, away, expected):
    """Each file of a writer that goes on to the next is read to its end, the next from its beginning."""
    spool, reader = make_spool(max_segment_bytes=600), watch()
    shipper = make_shipper(sinks={"ledger": away})
    found, ids = [], []
    for _ in range(12):
        ids.append(spool.append(rates.body()))
        shipper.ship_once()
        found += keys(reader)
    assert sorted(found) == sorted(expected(ids))


def test_few_files_are_held_open(watch, fill, make_shipper, away, expected):
    """A backlog of many segments does not use up descriptors, and all of it is read."""
    ids = [identity for _ in range(20) for identity in fill(1)]
    make_shipper(sinks={"ledger": away}).ship_once()
    before = descriptors()
    reader = watch(held=4)
    assert sorted(keys(reader)) == sorted(expected(ids))
    assert descriptors() <= before + 4


def test_half_a_line_waits_until_it_is_whole(watch, fill, make_shipper, away, directory, expected):
    """A line that is just being written is read once, later; a damaged one is not read, and is written anew."""
    ids = fill(2)
    make_shipper(sinks={"ledger": away}).ship_once()
    (path,) = directory.glob("*.charges")
    whole = path.read_bytes()
    cut = whole[: len(HEADER)] + whole[len(HEADER) :][:-30]
    reader = watch()
    for content, expecting in (
        (HEADER[:20], []),
        (cut, expected(ids[:1])),
        (cut[:-3] + b"xxx\n", []),
        (whole, expected(ids[1:])),
    ):
        with path.open("r+b") as file:
            file.write(content)
            file.truncate()
        assert keys(reader) == expecting


def test_from_now_on_begins_behind_the_last_whole_line(watch, fill, make_shipper, away, directory, expected):
    """A line that is half written at the first look is new at the next."""
    ids = fill(2)
    make_shipper(sinks={"ledger": away}).ship_once()
    (path,) = directory.glob("*.charges")
    whole = path.read_bytes()
    os.truncate(path, len(whole) - 30)
    reader = watch(history=False)
    assert keys(reader) == []
    with path.open("ab") as file:
        file.write(whole[-30:])
    assert keys(reader) == expected(ids[1:])


def test_charges_of_another_release_are_left_to_the_sinks(watch, fill, make_shipper, away, directory, caplog):
    """Their columns are not known; that is said once, and nothing is made up."""
    fill(1)
    make_shipper(sinks={"ledger": away}).ship_once()
    (path,) = directory.glob("*.charges")
    path.write_bytes(path.read_bytes().replace(b'"record_id"', b'"record_no"', 1))
    reader = watch()
    assert keys(reader) == keys(reader) == []
    assert sum("another release" in record.getMessage() for record in caplog.records) == 1


def test_a_segment_that_is_rated_again_is_read_again(watch, fill, make_shipper, away, directory, expected):
    """Its charges file is another one then; who follows tells the same charges apart by their keys."""
    ids = fill(2)
    make_shipper(sinks={"ledger": away}).ship_once()
    reader = watch()
    assert keys(reader) == expected(ids)
    (path,) = directory.glob("*.charges")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    assert keys(reader) == expected(ids)


def test_looking_changes_nothing(watch, fill, make_shipper, away, directory):
    """Neither a file nor its time."""
    fill(2)
    make_shipper(sinks={"ledger": away}).ship_once()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir() if path.is_file()}
    assert len(keys(watch())) == 4
    assert {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir() if path.is_file()
    } == before
