"""Shipping in the background: threads of its own pace, a last pass, one holder of the lock."""

import shutil
import threading

import pytest

from livekit_costmeter.delivery import ShipLock, list_segments
from livekit_costmeter.delivery.background import _FIRST_WAIT, _LONGEST_WAIT, back_off
from livekit_costmeter.delivery.files.status import read_status
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


class Hanging(MemorySink):
    """A sink whose store takes a batch and does not answer until it is told to."""

    def __init__(self):
        super().__init__()
        self.answer = threading.Event()

    def write(self, charges):
        self.answer.wait(60)
        super().write(charges)


@pytest.fixture
def hanging():
    """Give a sink that hangs; it answers at the end, so that its thread does."""
    sink = Hanging()
    yield sink
    sink.answer.set()


def test_sink_that_hangs_delays_only_itself(fill, make_shipper, hanging, directory, until, rows, expected):
    """The others get what comes before and after, and a stop keeps to its time; what hangs is still owed."""
    good = MemorySink()
    shipper = make_shipper(sinks={"good": good, "hanging": hanging}, interval=0.02)
    ids = fill(2, sinks=["good", "hanging"])
    shipper.start()
    until(lambda: len(good.charges) == 4)
    ids += fill(2, sinks=["good", "hanging"])
    until(lambda: len(good.charges) == 8)
    assert rows(good) == expected(ids)
    assert not shipper.stop(0.1)
    assert len(list_segments(directory)) == 2


def test_process_with_a_sink_that_hangs_ends_on_time(launch, directory, tmp_path):
    """Its threads are daemons: a store that never answers does not keep a finished worker alive."""
    process = launch("hang.py", directory)
    assert process.wait(timeout=30) == 0
    assert len(list_segments(directory)) == 1


@pytest.mark.parametrize("failures", [1, 2, 5, 50, 5_000])
def test_back_off_doubles_to_a_bound_and_is_spread(failures):
    """Many shippers that lost the same store do not come back at the same moment."""
    longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(failures, 100))
    waits = {back_off(failures) for _ in range(200)}
    assert len(waits) > 100
    assert longest / 2 <= min(waits) <= max(waits) <= longest


def test_removed_directory_is_locked_anew(fill, make_shipper, directory, until, rows, expected, caplog):
    """A lock of a directory that is gone keeps nobody out, so shipping begins anew with the one that is there."""
    sink = MemorySink()
    shipper = make_shipper(sinks={"ledger": sink}, interval=0.02)
    shipper.start()
    until(lambda: shipper.lock.held)
    shutil.rmtree(directory)
    ids = fill(2)
    until(lambda: len(sink.charges) == 4)
    until(lambda: not ShipLock(directory).is_free())
    assert rows(sink) == expected(ids)
    assert "removed or replaced" in caplog.text


def test_rating_does_not_run_ahead_of_all_sinks(make_spool, rates, make_shipper, directory, until, rows, expected):
    """Charges that nobody takes do not fill the disk; once a sink is back, everything arrives before a stop is over."""
    spool = make_spool(header={"sinks": ["ledger"]}, max_segment_bytes=400_000)
    ids = [spool.append(rates.body()) for _ in range(12_000)]
    spool.close()
    sink = Returning()
    shipper = make_shipper(sinks={"ledger": sink}, interval=0.02, batch_rows=2_000)
    shipper.start()
    until(lambda: sum(path.stat().st_size for path in directory.glob("*.charges")) > 4 << 20)
    size = sum(path.stat().st_size for path in directory.glob("*.charges"))
    assert size < 8 << 20
    assert len(list(directory.glob("*.charges"))) < len(list_segments(directory))
    sink.back = True
    assert shipper.stop(60)
    assert rows(sink) == expected(ids)
    assert list_segments(directory) == []
    assert read_status(directory).sinks["ledger"].rows == 24_000


class Returning(MemorySink):
    """A sink that is away until it is said to be back."""

    back = False

    def write(self, charges):
        if not self.back:
            raise RetryableError("away")
        super().write(charges)


def test_bug_in_shipping_begins_anew(fill, make_shipper, until, rows, expected, caplog):
    """Nobody starts the threads again, so what goes wrong in them costs a delay and a line in the log."""
    ids, sink = fill(2), MemorySink()
    shipper = make_shipper(sinks={"ledger": sink}, interval=0.02)
    custody, failures = shipper._custody, [ZeroDivisionError("oops")]

    def make_custody():
        if failures:
            raise failures.pop()
        return custody()

    shipper._custody = make_custody
    shipper.start()
    until(lambda: len(sink.charges) == 4)
    assert rows(sink) == expected(ids)
    assert "begins anew" in caplog.text
