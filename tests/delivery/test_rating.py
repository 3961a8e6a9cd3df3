"""The rating stage: once, durable before anyone sees it, and no usage lost to a bad price or disk."""

import errno
import json
import os

import pytest

from livekit_costmeter.delivery import list_segments
from livekit_costmeter.delivery.backlog import segment_path
from livekit_costmeter.delivery.files.charges import append_charges
from livekit_costmeter.delivery.rating import PricesUnavailable
from livekit_costmeter.delivery.sinks.memory import MemorySink


def test_record_is_rated_once(fill, make_shipper, rates, away):
    """A sink that comes late gets the charges that the first one got, not a second opinion."""
    fill(5, sinks=["early", "late"])
    rated = []

    def rate(record):
        rated.append(record.id)
        return rates.two_charges(record)

    early, late = MemorySink(), MemorySink()
    make_shipper(rate=rate, sinks={"early": early, "late": away}).ship_once()
    make_shipper(rate=rate, sinks={"early": early, "late": late}).ship_once()
    assert len(rated) == 5
    assert late.charges == early.charges


def test_unreadable_usage_goes_to_the_dead_letters(make_spool, rates, make_shipper, directory, rows, expected):
    """A record that is none is set aside as it was spooled, and holds up nothing."""
    spool = make_spool()
    ids = [spool.append(rates.body()), spool.append(b'"nonsense":1}'), spool.append(rates.body())]
    spool.close()
    sink = MemorySink()
    shipment = make_shipper(sinks={"ledger": sink}).ship_once()
    assert rows(sink) == expected([ids[0], ids[2]])
    assert shipment.rejected == 1
    letter = json.loads(next((directory / "dead").iterdir()).read_text())
    assert json.loads(letter["usage"])["nonsense"] == 1
    assert "InvalidRecord" in letter["reason"]


def test_rating_that_raises_keeps_the_usage(fill, make_shipper, directory, rates, rows, expected):
    """A record that cannot be priced is kept among the dead letters, and holds up no other."""
    ids = fill(3)

    def rate(record):
        if record.id == ids[1]:
            raise KeyError("no such tier")
        return rates.two_charges(record)

    sink = MemorySink()
    make_shipper(rate=rate, sinks={"ledger": sink}).ship_once()
    assert rows(sink) == expected([ids[0], ids[2]])
    assert ids[1] in next((directory / "dead").iterdir()).read_text()


def test_half_written_charges_are_rated_again(fill, make_shipper, directory, rows, expected, away):
    """What a crash left at the end of the charges was seen by nobody and is replaced."""
    ids = fill(4)
    make_shipper(sinks={"ledger": away}).ship_once()
    charges = directory / f"{list_segments(directory)[0]}.charges"
    os.truncate(charges, charges.stat().st_size - 10)
    sink = MemorySink()
    assert make_shipper(sinks={"ledger": sink}).ship_once().records == 1
    assert rows(sink) == expected(ids)


def test_lost_charges_are_rated_again(fill, make_shipper, directory, rows, expected, away):
    """A segment whose charges were deleted under an acknowledgement is rated and sent anew."""
    ids = fill(4, sinks=["ledger", "dead"])
    sink = MemorySink()
    make_shipper(sinks={"ledger": sink, "dead": away}).ship_once()
    (directory / f"{list_segments(directory)[0]}.charges").unlink()
    revived = MemorySink()
    make_shipper(sinks={"ledger": sink, "dead": revived}).ship_once()
    assert rows(revived) == rows(sink) == expected(ids)


def test_damaged_charges_leave_the_usage_in_the_dead_letters(fill, make_shipper, directory, rows, expected, away):
    """A charge that the disk spoiled after it was rated is set aside with its usage; the others arrive."""
    ids = fill(3, sinks=["first", "second"])
    make_shipper(sinks={"first": MemorySink(), "second": away}).ship_once()
    charges = directory / f"{list_segments(directory)[0]}.charges"
    data = bytearray(charges.read_bytes())
    data[data.index(f"{ids[1]}".encode())] ^= 1
    charges.write_bytes(data)
    second = MemorySink()
    make_shipper(sinks={"first": MemorySink(), "second": second}).ship_once()
    assert rows(second) == expected([ids[0], ids[2]])
    assert ids[1] in next((directory / "dead").iterdir()).read_text()


def test_damaged_usage_is_counted_and_passed(fill, make_shipper, directory, rows, expected):
    """A damaged line in a segment is counted, the lines behind it are shipped."""
    ids = fill(3)
    path = segment_path(directory, list_segments(directory)[0])
    data = bytearray(path.read_bytes())
    data[data.index(b"gpt-4o")] ^= 1
    path.write_bytes(data)
    sink = MemorySink()
    shipment = make_shipper(sinks={"ledger": sink}).ship_once()
    assert (shipment.corrupt, shipment.records) == (1, 2)
    assert rows(sink) == expected(ids[1:])


def test_torn_tail_of_a_dead_segment_is_counted(fill, make_shipper, directory, rows, expected):
    """Half a record of a killed process is dropped with a counter, and its segment goes."""
    ids = fill(2)
    path = segment_path(directory, list_segments(directory)[0])
    with path.open("ab") as file:
        file.write(b'0badcafe {"id":')
    sink = MemorySink()
    shipment = make_shipper(sinks={"ledger": sink}).ship_once()
    assert (shipment.torn, rows(sink)) == (1, expected(ids))
    assert list_segments(directory) == []


def test_charges_of_another_release_are_rated_again(fill, make_shipper, directory, rows, expected, away):
    """After an upgrade that changed a charge's fields, a segment on its way is rated anew and nothing is doubled."""
    ids = fill(2, sinks=["ledger", "dead"])
    sink = MemorySink()
    make_shipper(sinks={"ledger": sink, "dead": away}).ship_once()
    charges = directory / f"{list_segments(directory)[0]}.charges"
    charges.write_bytes(charges.read_bytes().replace(b"corrects", b"corrupts"))
    revived = MemorySink()
    make_shipper(sinks={"ledger": sink, "dead": revived}).ship_once()
    assert rows(sink) == rows(revived) == expected(ids)


def test_charges_that_cannot_be_written_wait(fill, make_shipper, directory, rows, expected):
    """A disk that refuses the charges delays them, says so, and costs nothing."""
    ids = fill(3)
    charges = directory / f"{list_segments(directory)[0]}.charges"
    charges.mkdir()
    sink = MemorySink()
    shipper = make_shipper(sinks={"ledger": sink})
    shipment = shipper.ship_once()
    assert (shipment.stalled, shipment.records, sink.charges) == (1, 0, [])
    charges.rmdir()
    assert shipper.ship_once().stalled == 0
    assert rows(sink) == expected(ids)


def test_usage_waits_while_no_prices_can_be_read(fill, make_shipper, directory, rates, rows, expected, caplog):
    """What keeps all prices away is no record's fault: none is set aside, and all are rated once it is mended."""
    ids, sink = fill(3), MemorySink()

    def rate(_record):
        raise PricesUnavailable("rates.yaml: not YAML")

    shipment = make_shipper(rate=rate, sinks={"ledger": sink}).ship_once()
    assert (shipment.stalled, shipment.rejected, shipment.deleted) == (1, 0, 0)
    assert "rates.yaml: not YAML" in caplog.text
    assert not (directory / "dead").exists()
    make_shipper(sinks={"ledger": sink}).ship_once()
    assert rows(sink) == expected(ids)
    assert list_segments(directory) == []


@pytest.fixture
def full_disk():
    """Give a `write` for charges on a disk that takes `disk.room` writes and no more."""

    class Disk:
        room = 0

        def write(self, descriptor, data):
            if self.room <= 0:
                os.write(descriptor, data[:10])
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= 1
            return os.write(descriptor, data)

    return Disk()


def test_full_disk_is_emptied_from_memory(fill, make_shipper, directory, rows, expected, full_disk, caplog):
    """Where the spool itself fills the disk, charges have no room: the oldest is shipped from memory and deleted."""
    ids = [*fill(3_000), *fill(3_000)]
    sink = MemorySink()
    shipment = make_shipper(sinks={"ledger": sink}, write=full_disk.write).ship_once()
    assert (shipment.deleted, shipment.still_owed, shipment.stalled) == (2, {}, 0)
    assert rows(sink) == expected(ids)
    assert list_segments(directory) == []
    assert "the disk is full" in caplog.text


def test_disk_that_fills_up_within_a_segment_stops_nothing(fill, make_shipper, rows, expected, full_disk):
    """What is on disk already and what has no more room there make one sequence."""
    ids = fill(2_500)
    full_disk.room = 2
    sink = MemorySink()
    make_shipper(sinks={"ledger": sink}, write=full_disk.write).ship_once()
    assert rows(sink) == expected(ids)


def test_memory_for_a_full_disk_is_bounded(make_spool, rates, make_shipper, directory, full_disk, away):
    """Where nobody takes the charges either, rating stops, says so, and everything stays as it was."""
    spool = make_spool()
    for _ in range(6_000):
        spool.append(rates.body())
    spool.close()
    shipper = make_shipper(sinks={"ledger": away}, write=full_disk.write)
    rated = []
    shipper._rate = lambda record: rated.append(record.id) or rates.two_charges(record)
    shipment = shipper.ship_once()
    assert (shipment.stalled, shipment.deleted) == (1, 0)
    assert len(rated) <= 9 * 500
    assert (directory / f"{list_segments(directory)[0]}.charges").stat().st_size == 0


def test_crash_while_a_full_disk_was_emptied_doubles_nothing(fill, make_shipper, directory, rows, expected, full_disk):
    """Acknowledged charges that were in memory alone are rated and sent again, and the sink ignores them."""
    ids = fill(900, sinks=["ledger", "late"])
    sink, late = MemorySink(), MemorySink()
    shipper = make_shipper(sinks={"ledger": sink}, write=full_disk.write)
    shipper.ship_once()
    assert len(sink.charges) == 1_800
    make_shipper(sinks={"ledger": sink, "late": late}).ship_once()
    assert rows(sink) == rows(late) == expected(ids)
    assert list_segments(directory) == []


def test_background_empties_a_full_disk(fill, make_shipper, directory, rows, expected, full_disk, until):
    """The worker's own shipper does it, too, as fast as the sink takes it."""
    ids = [*fill(5_000), *fill(5_000)]
    sink = MemorySink()
    make_shipper(sinks={"ledger": sink}, write=full_disk.write, interval=0.02).start()
    until(lambda: list_segments(directory) == [])
    assert sorted(rows(sink)) == sorted(expected(ids))  # two segments are shipped in turns


def test_refused_append_leaves_the_charges_as_they_were(tmp_path, full_disk):
    """Half a line is cut off again."""
    path = tmp_path / "a.charges"
    append_charges(path, b"whole line", size=0)
    with pytest.raises(OSError, match="No space left"):
        append_charges(path, b"another whole line", size=10, write=full_disk.write)
    assert path.read_bytes() == b"whole line"


def test_fresh_charges_are_not_read_back(fill, make_shipper, directory, rows, expected):
    """What was just rated reaches the sinks from memory, equal to what is on disk for those that come later."""
    ids = fill(40, sinks=["now", "later"])
    now, later = MemorySink(), MemorySink()
    shipper = make_shipper(sinks={"now": now, "later": later})
    custody = shipper._custody()
    (state,) = custody.refresh()
    custody.rate(state)
    charges = directory / f"{state.name}.charges"
    aside = charges.rename(directory / "aside")
    custody.couriers["now"].ship(state)
    aside.rename(charges)
    state.fresh = ()
    custody.couriers["later"].ship(state)
    assert rows(now) == expected(ids)
    assert now.charges == later.charges
