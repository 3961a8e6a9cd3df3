"""Shipping in the background: threads of its own pace, a last pass, one holder of the lock."""

from livekit_costmeter.delivery import ShipLock, list_segments
from livekit_costmeter.delivery.sinks import RetryableError
from livekit_costmeter.delivery.sinks.memory import MemorySink


def test_background_ships_what_is_appended(make_spool, rates, make_shipper, directory, rows, expected, until):
    """Records of a living process arrive while it goes on, and a stop delivers and deletes the rest."""
    spool, sink = make_spool(), MemorySink()
    shipper = make_shipper(sinks={"ledger": sink}, interval=0.02)
    shipper.start()
    shipper.start()
    ids = [spool.append(rates.body()) for _ in range(3)]
    until(lambda: len(sink.charges) == 6)
    ids += [spool.append(rates.body()) for _ in range(3)]
    spool.close()
    assert shipper.stop(10)
    assert rows(sink) == expected(ids)
    assert list_segments(directory) == []
    assert ShipLock(directory).is_free()


def test_background_retries_one_sink_and_serves_the_other(
    make_spool, rates, make_shipper, caplog, rows, expected, until, flaky
):
    """A sink that is away for a while gets everything when it is back; the other does not notice."""
    spool = make_spool(header={"sinks": ["good", "flaky"]})
    good, flaky = MemorySink(), flaky([RetryableError("away")])
    shipper = make_shipper(sinks={"good": good, "flaky": flaky}, interval=0.02)
    ids = [spool.append(rates.body()) for _ in range(3)]
    shipper.start()
    until(lambda: len(good.charges) == 6)
    until(lambda: len(flaky.charges) == 6)
    assert rows(good) == rows(flaky) == expected(ids)
    assert caplog.text.count("sink=flaky") == 1


def test_background_waits_for_its_turn(fill, make_shipper, directory, until):
    """A shipper that finds another at work takes over when that one is gone."""
    fill(2)
    lock, sink = ShipLock(directory), MemorySink()
    assert lock.acquire()
    shipper = make_shipper(sinks={"ledger": sink}, interval=0.02)
    shipper.start()
    assert sink.charges == []
    lock.release()
    until(lambda: len(sink.charges) == 4)


def test_background_and_a_single_pass_do_not_meet(fill, make_shipper, until):
    """A pass while the same shipper works in the background says busy."""
    shipper = make_shipper(sinks={"ledger": MemorySink()}, interval=0.02)
    shipper.start()
    until(lambda: shipper.lock.held)
    fill(1)
    assert shipper.ship_once(wait=0).busy


def test_background_outlives_a_disk_that_refuses_its_lock(fill, make_shipper, directory, rows, expected, until, caplog):
    """Nobody starts the threads again, so they wait until the directory can be written."""
    directory.write_text("a file where the directory should be")
    sink = MemorySink()
    shipper = make_shipper(sinks={"ledger": sink}, interval=0.02)
    shipper.start()
    until(lambda: "cannot be locked" in caplog.text)
    directory.unlink()
    ids = fill(2)
    until(lambda: len(sink.charges) == 4)
    assert rows(sink) == expected(ids)
