"""
Shipping in the background: one thread that rates and deletes, and one per sink that delivers at its own pace.

Invariant: daemon threads only, and the lock is freed only when all of them have ended, so that no late
acknowledgement meets another shipper.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

from livekit_costmeter.delivery.backlog import sweep
from livekit_costmeter.delivery.courier import Courier
from livekit_costmeter.delivery.custody import Custody
from livekit_costmeter.delivery.files.locks import ShipLock
from livekit_costmeter.delivery.files.segment import directory_bytes
from livekit_costmeter.delivery.notices import Notices

_STANDBY = 1.0
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60.0
_SWEEP_PASSES = 120


def jittered(seconds: float) -> float:
    """Spread a waiting time by a half, so that many shippers do not come back at once."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets


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
    ) -> None:
        self._directory = directory
        self._lock = lock
        self._make_custody = make_custody
        self._notices = notices
        self._interval = interval
        self._max_bytes = max_bytes
        self._stopping = threading.Event()
        self._all_rated = threading.Event()
        self._thread = threading.Thread(target=self._run, name="costmeter-ship", daemon=True)

    def start(self) -> None:
        """Start the threads; they wait where another process ships."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Ask for a last pass and wait for it; tell whether all threads have ended."""
        self._stopping.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            if not self._stand_by():
                return
            try:
                self._ship(self._make_custody())
            finally:
                self._lock.release()
        except Exception as error:
            self._notices.warning("shipping stopped; usage stays in the spool", error=repr(error))

    def _stand_by(self) -> bool:
        while not self._acquired():
            if self._stopping.wait(_STANDBY):
                return False
        return True

    def _acquired(self) -> bool:
        try:
            return self._lock.acquire()
        except OSError as error:
            # A disk that refuses now may not refuse later, and nobody starts these threads again.
            reason = error.strerror or str(error)
            self._notices.warning("the spool cannot be locked, shipping waits", reason=reason)
            return False

    def _ship(self, custody: Custody) -> None:
        wakes = [threading.Event() for _ in custody.couriers]
        threads = [
            threading.Thread(
                target=self._carry_on, args=(courier, custody, wake), name=f"costmeter-{courier.name}", daemon=True
            )
            for courier, wake in zip(custody.couriers.values(), wakes, strict=True)
        ]
        for thread in threads:
            thread.start()
        passes = 0
        while True:
            last = self._stopping.is_set()
            self._pass(custody, wakes, passes)
            passes += 1
            if last:
                break
            self._stopping.wait(self._interval)
        self._all_rated.set()
        for wake in wakes:
            wake.set()
        for thread in threads:
            thread.join()
        for state in custody.known():
            custody.settle(state)

    def _pass(self, custody: Custody, wakes: list[threading.Event], number: int) -> None:
        try:
            if number % _SWEEP_PASSES == 0:
                self._look_after_directory()
            for state in custody.refresh():
                if not state.final and custody.rate(state).charges:
                    for wake in wakes:
                        wake.set()
                custody.settle(state)
        except Exception as error:
            self._notices.warning("a pass over the spool failed, the next one tries again", error=repr(error))

    def _look_after_directory(self) -> None:
        sweep(self._directory)
        held = directory_bytes(self._directory)
        if self._max_bytes is not None and held > self._max_bytes:
            self._notices.warning("spool is over max_bytes and grows on", bytes=held, max_bytes=self._max_bytes)

    def _carry_on(self, courier: Courier, custody: Custody, wake: threading.Event) -> None:
        failures = 0
        while True:
            last = self._all_rated.is_set()
            wake.clear()
            failures = 0 if self._round(courier, custody) else failures + 1
            if last:
                break
            if failures:
                self._all_rated.wait(jittered(min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(failures, 10))))
            else:
                wake.wait(self._interval)
        courier.close()

    def _round(self, courier: Courier, custody: Custody) -> bool:
        try:
            for state in custody.known():
                if courier in custody.couriers_for(state):
                    courier.ship(state)
        except Exception as error:
            self._notices.warning(
                "sink is away, its charges wait", about=courier.name, sink=courier.name, reason=str(error)
            )
            return False
        return True
