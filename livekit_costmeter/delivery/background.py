"""
Shipping in the background: one thread that rates and deletes, and one per sink that delivers at its own pace.

Invariant: daemon threads only, and the lock is freed only when all of them have ended, so that no late
acknowledgement meets another shipper.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from livekit_costmeter.delivery.backlog import sweep
from livekit_costmeter.delivery.courier import Courier
from livekit_costmeter.delivery.custody import Custody
from livekit_costmeter.delivery.files.locks import ShipLock
from livekit_costmeter.delivery.files.progress import SegmentState
from livekit_costmeter.delivery.files.segment import directory_bytes
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.delivery.statistics import EVERY

_STANDBY = 1.0
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60.0
_SWEEP_PASSES = 120
_SLICE = 2_000
_AHEAD = 4 << 20
"""Bytes of charges that may wait for the quickest sink before rating waits for it."""


def jittered(seconds: float) -> float:
    """Spread a waiting time by a half, so that many shippers do not come back at once."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets


def back_off(failures: int) -> float:
    """Return how long to wait after so many failures in a row, in seconds."""
    return jittered(min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(failures, 10)))


class Background:
    """The threads of one shipper, from `start` to `stop`; not used again after it."""

    def __init__(
        self,
        directory: Path,
        *,
        lock: ShipLock,
        make_custody: Callable[[], Custody],
        notices: Notices,
        interval: float,
        max_bytes: int | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._lock = lock
        self._make_custody = make_custody
        self._notices = notices
        self._interval = interval
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._stopping = threading.Event()
        self._done = threading.Event()
        self._nudge = threading.Event()
        self._is_ahead = False
        self._away: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="costmeter-ship", daemon=True)

    def start(self) -> None:
        """Start the threads; they wait where another process ships."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Ask for a last pass and wait for it; tell whether all threads have ended."""
        self._stopping.set()
        self._away.clear()
        self._nudge.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while self._stand_by():
            try:
                self._ship(self._make_custody())
            except Exception as error:
                self._notices.warning("shipping failed and begins anew; usage stays in the spool", error=repr(error))
                self._stopping.wait(_STANDBY)
            finally:
                self._lock.release()

    def _stand_by(self) -> bool:
        """Wait for the lock; tell whether it is held, or it is time to stop."""
        while not self._done.is_set() and not self._acquired():
            if self._stopping.wait(_STANDBY):
                return False
        return self._lock.held

    def _acquired(self) -> bool:
        try:
            return self._lock.acquire()
        except OSError as error:
            # A disk that refuses now may not refuse later, and nobody starts these threads again.
            reason = error.strerror or str(error)
            self._notices.warning("the spool cannot be locked, shipping waits", reason=reason)
            return False

    def _ship(self, custody: Custody) -> None:
        all_rated = threading.Event()
        wakes = [threading.Event() for _ in custody.couriers]
        threads = [
            threading.Thread(
                target=self._carry_on,
                args=(courier, custody, wake, all_rated),
                name=f"costmeter-{courier.name}",
                daemon=True,
            )
            for courier, wake in zip(custody.couriers.values(), wakes, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            self._rate_on(custody, wakes)
        finally:
            all_rated.set()
            for wake in wakes:
                wake.set()
            for thread in threads:
                thread.join()
        for state in custody.known():
            custody.settle(state)
        custody.write_status()

    def _rate_on(self, custody: Custody, wakes: list[threading.Event]) -> None:
        passes, told = 0, self._monotonic()
        while True:
            last = self._stopping.is_set()
            self._nudge.clear()
            self._pass(custody, wakes, passes)
            passes += 1
            if self._monotonic() - told >= EVERY:
                custody.write_status()
                told = self._monotonic()
            if not self._lock.stands():
                self._notices.warning("the spool directory was removed or replaced; shipping begins anew")
                return
            # What no sink has room for now waits for the sinks, also at the end, unless all of them are away.
            if last and not (self._is_ahead and self._somebody_delivers(custody)):
                self._done.set()
                return
            self._nudge.wait(self._interval)

    def _somebody_delivers(self, custody: Custody) -> bool:
        return any(courier.name not in self._away for courier, _ in custody.owing())

    def _pass(self, custody: Custody, wakes: list[threading.Event], number: int) -> None:
        try:
            if number % _SWEEP_PASSES == 0:
                self._look_after_directory()
            states = custody.refresh()
            room = _AHEAD - custody.ahead()
            for state in states:
                room -= self._rate(custody, state, wakes, room)
                custody.settle(state)
            self._is_ahead = room <= 0
        except Exception as error:
            self._notices.warning("a pass over the spool failed, the next one tries again", error=repr(error))

    def _rate(self, custody: Custody, state: SegmentState, wakes: list[threading.Event], room: int) -> int:
        """Rate a segment as long as its charges have room, and return the room they took; sync it in any case.

        Charges that no sink takes would only fill the disk, and those that one will take are best still in memory.
        """
        before = state.rated
        while not state.final:
            limit = _SLICE if room > state.rated - before else 0
            counts = custody.rate(state, limit)
            if counts.charges:
                for wake in wakes:
                    wake.set()
            if counts.stalled or counts.records < limit or not limit:
                break
        return state.rated - before

    def _look_after_directory(self) -> None:
        sweep(self._directory)
        held = directory_bytes(self._directory)
        if self._max_bytes is not None and held > self._max_bytes:
            self._notices.warning("spool is over max_bytes and grows on", bytes=held, max_bytes=self._max_bytes)

    def _carry_on(self, courier: Courier, custody: Custody, wake: threading.Event, all_rated: threading.Event) -> None:
        failures = rows = 0
        while True:
            last = all_rated.is_set()
            wake.clear()
            failures = 0 if self._round(courier, custody, last=last) else failures + 1
            (self._away.add if failures else self._away.discard)(courier.name)
            if last:
                break
            if self._is_ahead and courier.tally.rows > rows:
                self._nudge.set()
            rows = courier.tally.rows
            if failures:
                # A stop ends the waiting: each sink gets one more chance to take what is left.
                if self._stopping.wait(back_off(failures)):
                    all_rated.wait(self._interval)
            else:
                wake.wait(self._interval)
        courier.close()

    def _round(self, courier: Courier, custody: Custody, *, last: bool) -> bool:
        try:
            owed = [state for state in custody.known() if courier in custody.couriers_for(state)]
            courier.ship(*owed, patient=not last)
        except Exception as error:
            self._notices.warning(
                "sink is away, its charges wait", about=courier.name, sink=courier.name, reason=str(error)
            )
            return False
        return True
