"""
How one process delivers: it appends to its spool, and ships it where that is its job.

A plain script, and the main process of a worker, ship in the background. A job only appends; where nobody ships (the
lock is free), it ships its own segments in small slices and adopts nothing.

Invariant: nothing is opened, loaded or started before the first append or `serve`. `settle` and the end of the process
take no longer than their deadline; what is not shipped by then stays in the spool for the next shipper.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING

from livekit_costmeter.delivery.files.locks import ShipLock, watch_forks
from livekit_costmeter.delivery.files.segment import Cursor
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.delivery.spool import Spool

if TYPE_CHECKING:
    from livekit_costmeter.delivery.shipper import Shipper

_POLL = 0.05
_SLICE_EVERY = 2.0
_EXIT_PRIORITY = 100


class Readback:
    """Reads this process's own records, each once. `complete` turns false if some could no longer be read."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._cursor = Cursor()
        self.complete = True

    def new(self) -> list[bytes]:
        """Return the JSON of the records appended since the last call."""
        self._cursor, payloads = self._spool.read_own(self._cursor)
        self.complete = self._cursor.lost == 0
        return payloads


class Pipeline:
    """The spool of a process, and its way to the sinks."""

    def __init__(
        self,
        spool: Spool,
        *,
        make_shipper: Callable[[], Shipper],
        is_job: bool,
        deadline: float = 5.0,
        slice_every: float = _SLICE_EVERY,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._spool = spool
        self._make_shipper = make_shipper
        self._is_job = is_job
        self._deadline = deadline
        self._slice_every = slice_every
        self._monotonic = monotonic
        self._sleep = sleep
        self._shipper: Shipper | None = None
        self._worker: threading.Thread | None = None
        self._starting = threading.Lock()
        self._stopping = threading.Event()
        self._notices = Notices(monotonic=monotonic)
        self.append: Callable[..., str | None] = self._append_first
        """Append one record; see `Spool.append`. The first one in a process also starts what ships it."""
        watch_forks(self)

    def _append_first(self, members: bytes, more: bytes = b"") -> str | None:
        record_id = self._spool.append(members, more)
        if self._worker is None:
            self._start(self._ship_slices if self._is_job else self._ship_all)
        self.append = self._spool.append
        return record_id

    def serve(self) -> None:
        """Ship this spool in the background from now on; nothing in a job, where the worker's main process does."""
        if not self._is_job and self._worker is None:
            self._start(self._ship_all)

    def readback(self) -> Readback:
        """Return a reader of this process's own records; there is to be one."""
        return Readback(self._spool)

    def after_fork(self) -> None:
        """Forget, in a forked child, threads that only the parent has."""
        self._shipper = self._worker = None
        self.append = self._append_first
        self._starting, self._stopping = threading.Lock(), threading.Event()

    def _start(self, work: Callable[[], None]) -> None:
        with self._starting:
            if self._worker is not None:  # another thread's loop appended first as well
                return
            # Making a shipper loads sinks and prices, so it is not done on the loop that calls us.
            self._worker = threading.Thread(target=self._careful, args=(work,), name="costmeter", daemon=True)
            self._worker.start()
        # Unlike atexit, this also runs in the child processes of multiprocessing, which LiveKit's jobs are.
        Finalize(None, self.close, exitpriority=_EXIT_PRIORITY)

    def _ship_all(self) -> None:
        self._shipper = self._make_shipper()
        self._shipper.start()
        while not self._stopping.wait(self._slice_every):
            self._careful(self._spool.look_after)

    def _ship_slices(self) -> None:
        while not self._stopping.wait(self._slice_every):
            self._careful(self._spool.look_after)
            self._careful(self._ship_slice)

    def _ship_slice(self) -> None:
        if ShipLock(self._spool.directory).is_free() and self._waiting():
            self._shipper = self._shipper or self._make_shipper()
            self._shipper.ship_own(self._spool.segments)

    def close(self) -> None:
        """Close the segment and stop shipping after a last pass, within the deadline; called as the process ends."""
        until = self._monotonic() + self._deadline
        self._stopping.set()
        self._spool.close()
        if self._worker is not None:
            self._worker.join(self._deadline)
        shipper, self._shipper = self._shipper, None
        if shipper is not None:
            shipper.stop(max(0.0, until - self._monotonic()))

    async def settle(self) -> None:
        """Close the segment and see it shipped, within the deadline; appending may go on after it."""
        self._spool.close()
        loop, shipped = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            self._careful(self._flush)
            with suppress(RuntimeError):  # the loop did not wait for us and is closed
                loop.call_soon_threadsafe(shipped.set)

        # A thread of its own and no executor: one that is stuck must not keep a finished job alive.
        threading.Thread(target=flush, name="costmeter-settle", daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(shipped.wait(), self._deadline)

    def _flush(self) -> None:
        until = self._monotonic() + self._deadline
        shipper: Shipper | None = None
        while self._waiting() and self._monotonic() < until:
            if self._worker is not None and not self._is_job:
                self._sleep(_POLL)
                continue
            if not ShipLock(self._spool.directory).is_free():
                return
            shipper = shipper or self._make_shipper()
            shipment = shipper.ship_own(self._waiting())
            if shipment.busy or shipment.still_owed:
                return

    def _careful(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._notices.warning("usage stays in the spool for the next shipper", error=repr(error))

    def _waiting(self) -> list[str]:
        from livekit_costmeter.delivery.backlog import segment_path

        return [name for name in self._spool.segments if segment_path(self._spool.directory, name).exists()]
