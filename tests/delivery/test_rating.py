"""The rating stage: once, durable before anyone sees it, and no usage lost to a bad price or disk."""

import json
import os

from livekit_costmeter.delivery import list_segments
from livekit_costmeter.delivery.backlog import segment_path
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
