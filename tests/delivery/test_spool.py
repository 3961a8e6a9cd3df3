"""The spool's writer, on a real disk."""

import errno
import json
import os
import shutil
import signal
import stat
import threading

import pytest

from livekit_costmeter.delivery import Cursor, inspect, list_segments
from livekit_costmeter.delivery.backlog import is_alive, segment_path


class Clock:
    """Time that moves when told."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


class Disk:
    """An `os.write` that can be made to fail or to write in part."""

    def __init__(self):
        self.room = None

    def __call__(self, descriptor, data):
        if self.room is None:
            return os.write(descriptor, data)
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: self.room]
        self.room -= len(part)
        return os.write(descriptor, part)


def only(directory):
    """Return the name of the only segment."""
    names = list_segments(directory)
    assert len(names) == 1
    return names[0]


def ids(found):
    """List the ids of the records among the payloads."""
    return [json.loads(payload)["id"] for payload in found if payload and payload.startswith(b'{"id"')]


def operations_of(found):
    """List the operations of the records among the payloads."""
    return [json.loads(payload)["operation_id"] for payload in found if payload and payload.startswith(b'{"id"')]


def test_nothing_is_opened_before_the_first_append(make_spool, directory):
    """A process that meters nothing leaves no trace on the disk."""
    make_spool()
    assert not directory.exists()


def test_append_returns_the_id_that_is_on_disk(spool, rates, payloads, directory):
    """The id is segment and sequence, and stands in the record."""
    identity = spool.append(rates.body())
    assert identity == f"{only(directory)}-0"
    assert ids(payloads()) == [identity]
    assert spool.append(rates.body()) == f"{only(directory)}-1"


def test_header_and_closing_line_frame_the_records(make_spool, rates, payloads):
    """A segment says who made it and what it owes, and at the end how many records it holds."""
    spool = make_spool(header={"sinks": ["a", "b"], "config": "d1"}, pid=lambda: 4711)
    spool.append(rates.body())
    spool.close()
    header, _, closing = map(json.loads, payloads())
    assert header["header"]["sinks"] == ["a", "b"]
    assert (header["header"]["pid"], header["header"]["config"], header["header"]["format"]) == (4711, "d1", 1)
    assert closing == {"closed": {"records": 1}}


def test_files_are_private(spool, rates, directory):
    """Nobody else on the host reads what calls cost."""
    spool.append(rates.body())
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(segment_path(directory, only(directory)).stat().st_mode) == 0o600


def test_segment_is_alive_until_closed(spool, rates, directory):
    """The lock tells a reader whether more may come."""
    spool.append(rates.body())
    path = segment_path(directory, only(directory))
    assert is_alive(path)
    spool.close()
    assert not is_alive(path)


def test_append_after_close_opens_a_new_segment(spool, rates, directory):
    """Metering goes on after a close, and closing twice is harmless."""
    first = spool.append(rates.body())
    spool.close()
    spool.close()
    second = spool.append(rates.body())
    assert first.rpartition("-")[0] != second.rpartition("-")[0]
    assert len(list_segments(directory)) == 2


def test_segments_roll_by_size(make_spool, rates, payloads, directory):
    """A full segment is closed and the next begun; no record spans two."""
    spool = make_spool(max_segment_bytes=1_000)
    appended = [spool.append(rates.body()) for _ in range(20)]
    assert len(list_segments(directory)) > 3
    assert sorted(ids(payloads())) == sorted(appended)
    assert all(inspect(segment_path(directory, name)).closed for name in list_segments(directory)[:-1])


def test_failed_write_loses_nothing(make_spool, rates, payloads):
    """While the disk is full, appends return None; when it recovers, every record is there once."""
    disk, clock = Disk(), Clock()
    spool = make_spool(write=disk, monotonic=clock)
    operations = [f"op-{number}" for number in range(9)]
    bodies = [rates.body(operation_id=operation) for operation in operations]
    assert all(spool.append(body) for body in bodies[:3])
    disk.room = 100
    assert [spool.append(body) for body in bodies[3:8]] == [None] * 5
    assert spool.stats.waiting == 5
    disk.room, clock.now = None, clock.now + 60
    assert spool.append(bodies[8])
    assert sorted(operations_of(payloads())) == operations
    assert len(set(ids(payloads()))) == 9
    assert spool.stats.dropped == 0


def test_segment_is_abandoned_where_it_tore(make_spool, rates, directory):
    """After half a line nothing is appended to that file, and its report says torn."""
    disk, clock = Disk(), Clock()
    spool = make_spool(write=disk, monotonic=clock)
    spool.append(rates.body())
    torn = only(directory)
    disk.room = 10
    spool.append(rates.body())
    disk.room, clock.now = None, clock.now + 60
    spool.append(rates.body())
    report = inspect(segment_path(directory, torn))
    assert (report.records, report.torn, report.closed, report.live) == (1, True, False, False)


def test_retries_back_off(make_spool, rates):
    """A full disk is not tried at every append."""
    disk, clock = Disk(), Clock()
    disk.room = 0
    spool = make_spool(write=disk, monotonic=clock)
    for _ in range(100):
        spool.append(rates.body())
    assert spool.stats.refused == 1
    clock.now += 60
    spool.append(rates.body())
    assert spool.stats.refused == 2


def test_overflowing_tail_is_counted(make_spool, rates, payloads, caplog):
    """What memory cannot hold is dropped, oldest first, counted, and logged."""
    disk, clock = Disk(), Clock()
    disk.room = 0
    spool = make_spool(write=disk, monotonic=clock, max_tail=10)
    for number in range(25):
        spool.append(rates.body(operation_id=f"op-{number}"))
    assert (spool.stats.waiting, spool.stats.dropped) == (10, 15)
    assert "usage records dropped" in caplog.text
    disk.room = None
    spool.close()
    assert operations_of(payloads()) == [f"op-{number}" for number in range(15, 25)]


def test_unwritable_directory_does_not_raise(make_spool, rates, directory):
    """A spool that cannot be made is an answer of None, not an exception in the agent."""
    directory.write_text("a file where the directory should be")
    spool = make_spool()
    assert spool.append(rates.body()) is None
    assert spool.stats.waiting == 1
    directory.unlink()


def test_what_is_no_record_is_counted(spool, rates):
    """Something that cannot be appended is dropped with a counter, and the next record is fine."""
    assert spool.append(None) is None
    assert spool.stats.dropped == 1
    assert spool.append(rates.body())


def test_forked_child_has_its_own_segment(spool, rates, payloads, directory):
    """Parent and child never write into one file, and the child keeps no lock of the parent alive."""
    spool.append(rates.body())
    release, hold = os.pipe()
    child = os.fork()
    if child == 0:
        spool.append(rates.body())
        os.read(release, 1)
        os._exit(0)
    os.close(release)
    names = []
    while len(names) < 2:
        names = list_segments(directory)
    spool.append(rates.body())
    spool.close()
    assert [is_alive(segment_path(directory, name)) for name in names] == [False, True]
    os.write(hold, b"x")
    os.close(hold)
    assert os.waitpid(child, 0)[1] == 0
    assert len(set(ids(payloads()))) == 3


def test_threads_share_a_spool(spool, rates, payloads):
    """Jobs in threads append to one segment without a gap or a torn line."""
    threads = [threading.Thread(target=lambda: [spool.append(rates.body()) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sequences = [int(identity.rpartition("-")[2]) for identity in ids(payloads())]
    assert sequences == list(range(800))


def test_own_records_are_read_back_once(make_spool, rates, directory):
    """A process reads its own records, across rolls and after the shipper deleted the files, each once."""
    spool = make_spool(max_segment_bytes=1_000)
    appended = [spool.append(rates.body()) for _ in range(5)]
    cursor, first = spool.read_own(Cursor())
    appended += [spool.append(rates.body()) for _ in range(5)]
    for name in list_segments(directory):
        segment_path(directory, name).unlink()
    spool.close()
    cursor, second = spool.read_own(cursor)
    assert ids([*first, *second]) == appended
    assert spool.read_own(cursor) == (cursor, [])
    assert cursor.lost == 0


def test_reading_back_says_what_came_too_late(make_spool, rates):
    """Only a few finished files are kept for reading back; what is gone is counted."""
    spool = make_spool(max_segment_bytes=1)
    for _ in range(20):
        spool.append(rates.body())
    cursor, found = spool.read_own(Cursor())
    assert len(found) + cursor.lost == 20
    assert cursor.lost > 0


def test_oversized_spool_warns_and_goes_on(make_spool, rates, caplog):
    """`max_bytes` is soft: it is said once and nothing is dropped."""
    spool = make_spool(max_segment_bytes=1_000, max_bytes=2_000)
    assert all(spool.append(rates.body()) for _ in range(30))
    assert caplog.text.count("over max_bytes") == 1


def test_append_survives_a_kill(launch, directory, payloads):
    """A record whose append returned is on disk when the process is killed right after it."""
    writer = launch("write.py", directory, 1_000_000, 1 << 20)
    reported = [writer.stdout.readline().strip().decode() for _ in range(50)]
    writer.send_signal(signal.SIGKILL)
    reported += writer.stdout.read().decode().split("\n")[:-1]
    found = ids(payloads())
    assert len(found) == len(set(found))
    assert set(reported) <= set(found)


def test_removed_directory_is_made_anew_with_what_was_in_it(make_spool, rates, directory, payloads):
    """A living writer whose directory is removed writes its records again, under their ids, and goes on there."""
    spool = make_spool()
    ids = [spool.append(rates.body()) for _ in range(3)]
    spool.look_after()
    assert len(spool.segments) == 1
    shutil.rmtree(directory)
    ids.append(spool.append(rates.body()))
    spool.look_after()
    ids.append(spool.append(rates.body()))
    spool.look_after()
    found = [json.loads(payload) for payload in payloads()]
    assert [record["id"] for record in found if "id" in record] == ids
    assert set(spool.segments[1:]) == set(list_segments(directory))
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_moved_directory_counts_as_removed(make_spool, rates, directory, payloads):
    """What lies elsewhere now is found by no shipper."""
    spool = make_spool()
    identity = spool.append(rates.body())
    directory.rename(directory.with_name("moved"))
    spool.look_after()
    assert [json.loads(payload)["id"] for payload in payloads() if b'"id"' in payload] == [identity]


def test_records_of_a_removed_directory_wait_for_the_disk(make_spool, rates, directory, payloads, caplog):
    """Where the directory cannot be made, the next look tries again, and the process still reads its own records."""
    spool = make_spool()
    cursor, _ = spool.read_own(Cursor())
    identity = spool.append(rates.body())
    shutil.rmtree(directory)
    directory.write_text("a file")
    with pytest.raises(OSError, match=str(directory)):
        spool.look_after()
    assert [json.loads(line)["id"] for line in spool.read_own(cursor)[1]] == [identity]
    directory.unlink()
    spool.look_after()
    assert [json.loads(payload)["id"] for payload in payloads() if b'"id"' in payload] == [identity]
    assert "was removed" in caplog.text
