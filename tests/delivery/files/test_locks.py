"""The ship lock: one holder, freed by death, not kept by a child."""

import os
import stat

from livekit_costmeter.delivery import ShipLock


def test_lock_has_one_holder(directory):
    """The second to ask is refused until the first lets go."""
    first, second = ShipLock(directory), ShipLock(directory)
    assert first.is_free()
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    assert not second.is_free()
    first.release()
    first.release()
    assert second.acquire()
    second.release()


def test_lock_is_waited_for(directory):
    """A shipper that waits gets the lock when the holder lets go within the time."""
    holder = ShipLock(directory)
    holder.acquire()
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            holder.release()

    waiting = ShipLock(directory, sleep=sleep)
    assert waiting.acquire(wait=60)
    assert len(waits) == 3
    waiting.release()


def test_lock_is_private(directory):
    """Nobody else on the host can hold up shipping."""
    lock = ShipLock(directory)
    lock.acquire()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "ship.lock").stat().st_mode) == 0o600
    lock.release()


def test_forked_child_does_not_keep_the_lock(directory):
    """When the holder lets go, the lock is free although a child that it forked lives on."""
    lock = ShipLock(directory)
    lock.acquire()
    ready, tell_ready = os.pipe()
    release, hold = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell_ready, b"x" if not lock.held else b"!")
        os.read(release, 1)
        os._exit(0)
    assert os.read(ready, 1) == b"x"
    assert not ShipLock(directory).is_free()
    os.close(lock._descriptor)  # what the kernel does when the holder dies
    lock._descriptor = None
    assert ShipLock(directory).is_free()
    os.write(hold, b"x")
    os.waitpid(child, 0)
    for descriptor in (ready, tell_ready, release, hold):
        os.close(descriptor)
