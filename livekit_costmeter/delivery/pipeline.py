"""
How one process delivers: it appends to its spool, and ships it where that is its job.

Invariant: nothing is started before `serve`, and `settle` takes no longer than its deadline; what is not shipped by
then stays in the spool for the next shipper.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from livekit_costmeter.delivery.backlog import segment_path
from livekit_costmeter.delivery.files.locks import ShipLock
from livekit_costmeter.delivery.shipper import Shipper
from livekit_costmeter.delivery.spool import Cursor, Spool
from livekit_costmeter.log import log

_POLL = 0.05


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
    """The spool of a process and, except in a job, its shipper."""

    def __init__(
        self,
        spool: Spool,
        *,
        make_shipper: Callable[[], Shipper],
        is_job: bool,
        deadline: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._spool = spool
        self._make_shipper = make_shipper
        self._is_job = is_job
        self._deadline = deadline
        self._monotonic = monotonic
        self._sleep = sleep
        self._serving: threading.Thread | None = None

    def append(self, body: bytes) -> str | None:
        """Append one record; see `Spool.append`."""
        return self._spool.append(body)

    def readback(self) -> Readback:
        """Return a reader of this process's own records; there is to be one."""
        return Readback(self._spool)

    def serve(self) -> None:
        """Ship this spool in the background from now on; nothing in a job, where the worker's main process does."""
        if not self._is_job and self._serving is None:
            # Making a shipper loads catalogs, so it is not done on the loop that calls us.
            self._serving = threading.Thread(target=self._start, name="costmeter-start", daemon=True)
            self._serving.start()

    def _start(self) -> None:
        try:
            self._make_shipper().start()
        except Exception as error:
            self._serving = None
            log().error("this process cannot ship; usage stays in the spool", error=repr(error))

    async def settle(self) -> None:
        """Close the segment and see it shipped, within the deadline; appending may go on after it."""
        self._spool.close()
        names = self._spool.segments
        loop, shipped = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            try:
                self._flush(names)
            except Exception as error:
                log().warning("usage stays in the spool for the next shipper", error=repr(error))
            with suppress(RuntimeError):  # the loop did not wait for us and is closed
                loop.call_soon_threadsafe(shipped.set)

        threading.Thread(target=flush, name="costmeter-settle", daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(shipped.wait(), self._deadline)

    def _flush(self, names: Sequence[str]) -> None:
        until = self._monotonic() + self._deadline
        shipper: Shipper | None = None
        while (waiting := self._waiting(names)) and self._monotonic() < until:
            if self._serving is not None:
                self._sleep(_POLL)
                continue
            if not ShipLock(self._spool.directory).is_free():
                return
            shipper = shipper or self._make_shipper()
            shipment = shipper.ship_own(waiting)
            if shipment.still_owed or not (shipment.records or shipment.deleted):
                return

    def _waiting(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if segment_path(self._spool.directory, name).exists()]
