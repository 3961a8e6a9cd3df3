"""
The shipper: the one process that rates, sends and deletes in a spool directory.

Invariant: it works only while it holds `ship.lock`, and every sink goes at its own pace: in the background each has a
thread, in a single pass each has a few tries, and none waits for one that is away.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from livekit_costmeter.delivery.background import Background, jittered
from livekit_costmeter.delivery.backlog import pending, segment_path, sweep
from livekit_costmeter.delivery.courier import Courier
from livekit_costmeter.delivery.custody import Custody
from livekit_costmeter.delivery.files.acks import SINK_NAME
from livekit_costmeter.delivery.files.dead import DeadLetters
from livekit_costmeter.delivery.files.locks import ShipLock
from livekit_costmeter.delivery.files.progress import SegmentState
from livekit_costmeter.delivery.files.status import SinkStatus
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.delivery.rating import Learner, Rate, Rating, RatingCounts
from livekit_costmeter.delivery.sinks import Sink
from livekit_costmeter.delivery.statistics import Statistics

Progress = Callable[[int, int], None]
"""Called with the records delivered so far in this pass and those still pending."""

_SLICE = 2_000
_OWN_SLICE = 200
_TRIES = 3


@dataclass(slots=True)
class Shipment:
    """What one pass did.

    `sinks` counts rows per sink, `still_owed` says per sink why it does not have everything, `stalled` counts segments
    that could not be read or rated (the disk refused the charges, no prices could be read), `put_back` dead letters,
    and `busy` says that another shipper holds the directory and nothing was done.
    """

    records: int = 0
    charges: int = 0
    sinks: dict[str, int] = field(default_factory=dict)
    rejected: int = 0
    still_owed: dict[str, str] = field(default_factory=dict)
    deleted: int = 0
    torn: int = 0
    corrupt: int = 0
    gaps: int = 0
    stalled: int = 0
    put_back: int = 0
    busy: bool = False

    def add(self, counts: RatingCounts) -> None:
        """Take in what one stretch of rating did."""
        self.records += counts.records
        self.charges += counts.charges
        self.rejected += counts.dead
        self.torn += counts.torn
        self.corrupt += counts.corrupt
        self.gaps += counts.gaps
        self.stalled += bool(counts.stalled)


class Shipper:
    """Ship one spool directory: once, a job's own segments in small slices, or in the background."""

    def __init__(
        self,
        directory: Path,
        *,
        rate: Rate,
        sinks: Mapping[str, Sink | Callable[[], Sink]],
        learn: Learner | None = None,
        batch_rows: int = 500,
        fsync: float = 0.5,
        interval: float = 0.5,
        max_bytes: int | None = None,
        progress: Progress | None = None,
        write: Callable[[int, bytes], int] = os.write,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        for name in sinks:
            if not SINK_NAME.fullmatch(name):
                raise ValueError(f"sink name {name!r} is not letters, digits, - and _")
        self.lock = ShipLock(directory)
        self._directory = directory
        self._rate = rate
        self._sinks = sinks
        self._learn = learn
        self._batch_rows = batch_rows
        self._fsync = fsync
        self._interval = interval
        self._max_bytes = max_bytes
        self._progress = progress
        self._write = write
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._notices = Notices(monotonic=monotonic)
        self._background: Background | None = None

    def _custody(self) -> Custody:
        # Made anew each time the lock is taken: what was known before may have been changed by another holder.
        dead = DeadLetters(self._directory, notices=self._notices, clock=self._clock)
        statistics = Statistics(self._directory, self._sinks, notices=self._notices, clock=self._clock)
        couriers = {
            name: Courier(
                name,
                sink,
                self._directory,
                dead=dead,
                notices=self._notices,
                tally=statistics.sink(name),
                batch_rows=self._batch_rows,
                clock=self._clock,
                monotonic=self._monotonic,
            )
            for name, sink in self._sinks.items()
        }
        rating = Rating(
            self._directory,
            self._rate,
            couriers,
            dead,
            self._notices,
            learn=self._learn,
            fsync=self._fsync,
            monotonic=self._monotonic,
            write=self._write,
        )
        return Custody(
            self._directory,
            rating=rating,
            couriers=couriers,
            dead=dead,
            statistics=statistics,
            notices=self._notices,
        )

    def ship_once(self, *, own: Collection[str] | None = None, limit: int | None = None, wait: float = 0.2) -> Shipment:
        """Ship everything that is pending now, or only the segments `own`, at most `limit` records of each.

        Returns with `busy` set where another shipper holds the directory for longer than `wait` seconds.
        """
        if self.lock.held or not self.lock.acquire(wait):
            return Shipment(busy=True)
        custody = self._custody()
        try:
            return self._pass(custody, own, limit)
        finally:
            for courier in custody.couriers.values():
                courier.close()
            self.lock.release()

    def ship_own(self, names: Collection[str], limit: int = _OWN_SLICE) -> Shipment:
        """Ship a slice of a job's own segments (`Spool.segments`) if nobody else ships here; adopt nothing."""
        return self.ship_once(own=frozenset(names), limit=limit, wait=0.0)

    def _pass(self, custody: Custody, own: Collection[str] | None, limit: int | None) -> Shipment:
        shipment = Shipment()
        away: dict[str, str] = {}
        before = {name: replace(courier.tally) for name, courier in custody.couriers.items()}
        total = pending(self._directory).records if self._progress else 0
        if own is None:
            sweep(self._directory, clock=self._clock)
        for state in custody.refresh(own):
            for counts in self._slices(custody, state, limit):
                shipment.add(counts)
                self._carry(custody.couriers_for(state), state, away)
                self._report(custody, before, total)
            for sink in custody.owed(state):
                shipment.still_owed[sink] = away.get(sink, "not configured")
            shipment.deleted += custody.settle(state)
        shipment.stalled += custody.unreadable
        shipment.put_back = custody.put_back
        for name, courier in custody.couriers.items():
            shipment.sinks[name] = courier.tally.rows - before[name].rows
            shipment.rejected += courier.tally.rejected - before[name].rejected
        custody.write_status()
        return shipment

    def _slices(self, custody: Custody, state: SegmentState, limit: int | None) -> Iterator[RatingCounts]:
        goal = state.source + 1 if limit is not None else _size(segment_path(self._directory, state.name))
        room = limit or _SLICE
        while True:
            counts = custody.rate(state, room)
            yield counts
            # Beyond the goal lies what a live writer appended meanwhile; that is for the next pass.
            if counts.records < room or state.source > goal:
                return

    def _carry(self, couriers: list[Courier], state: SegmentState, away: dict[str, str]) -> None:
        present = [courier for courier in couriers if courier.name not in away]
        if len(present) == 1:
            self._attempt(present[0], state, away)
            return
        threads = [
            threading.Thread(target=self._attempt, args=(courier, state, away), daemon=True) for courier in present
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _attempt(self, courier: Courier, state: SegmentState, away: dict[str, str]) -> None:
        reason = ""
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(jittered(0.2 * 2**attempt))
            try:
                courier.ship(state)
            except Exception as error:
                reason = str(error)
            else:
                return
        away[courier.name] = reason
        self._notices.warning("sink is away, its charges wait", about=courier.name, sink=courier.name, reason=reason)

    def _report(self, custody: Custody, before: Mapping[str, SinkStatus], total: int) -> None:
        if self._progress is not None:
            taken = (courier.tally.records - before[name].records for name, courier in custody.couriers.items())
            shipped = max(taken, default=0)
            self._progress(shipped, max(0, total - shipped))

    def start(self) -> None:
        """Ship in the background from now on, as soon as nobody else ships here; idempotent."""
        if self._background is None:
            self._background = Background(
                self._directory,
                lock=self.lock,
                make_custody=self._custody,
                notices=self._notices,
                interval=self._interval,
                max_bytes=self._max_bytes,
            )
            self._background.start()

    def stop(self, timeout: float) -> bool:
        """Make a last pass and stop, within `timeout` seconds; tell whether it came to an end."""
        background, self._background = self._background, None
        return background is None or background.stop(timeout)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
