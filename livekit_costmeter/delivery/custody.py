"""
The segments in the custody of the holder of the ship lock: which there are, who is owed each, when one may go.

Invariant: a segment goes when its writer is gone, all of it is rated, and every sink that its header lists has
acknowledged all of it (or the operator let go of that sink). One whose header lists no sink is owed to those
configured now; a sink that is configured now but not listed does not get it.

The segment file is deleted first, its charges and acknowledgements after it. So a crash in between leaves files
without a segment, which can be shipped by nobody and are swept by the next shipper. The other way round, a segment
without acknowledgements would be rated and sent once more. Only dead letters that were put back go before it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from livekit_costmeter.delivery.backlog import list_segments, segment_path
from livekit_costmeter.delivery.courier import Courier
from livekit_costmeter.delivery.files.acks import Ack, ack_path
from livekit_costmeter.delivery.files.dead import DeadLetters
from livekit_costmeter.delivery.files.forgotten import Forgotten, read_forgotten
from livekit_costmeter.delivery.files.progress import SegmentState
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.delivery.rating import Rating, RatingCounts
from livekit_costmeter.delivery.statistics import Statistics


class Custody:
    """What is known of a directory's segments while the lock is held; after it, another process may change them."""

    def __init__(
        self,
        directory: Path,
        *,
        rating: Rating,
        couriers: Mapping[str, Courier],
        dead: DeadLetters,
        statistics: Statistics,
        notices: Notices,
    ) -> None:
        self.couriers = couriers
        self.unreadable = 0
        self.put_back = 0
        self._directory = directory
        self._rating = rating
        self._dead = dead
        self._statistics = statistics
        self._forgotten: Forgotten = {}
        self._notices = notices
        self._states: dict[str, SegmentState] = {}

    def refresh(self, only: Collection[str] | None = None) -> list[SegmentState]:
        """Look at the directory and at what the operator asked for again, and return its segments, oldest first."""
        self._forgotten = read_forgotten(self._directory)
        if only is None:
            self._put_back()
        names = [name for name in list_segments(self._directory) if only is None or name in only]
        for gone in self._states.keys() - set(names):
            self._forget(gone)
        for name in names:
            if name not in self._states:
                self._resume(name)
        found = [self._states[name] for name in names if name in self._states]
        self.unreadable = len(names) - len(found)
        return found

    def _put_back(self) -> None:
        try:
            self.put_back += self._dead.put_back(self.couriers)
        except OSError as error:
            reason = error.strerror or str(error)
            self._notices.warning("dead letters cannot be put back now", reason=reason)

    def _resume(self, name: str) -> None:
        try:
            self._states[name] = self._rating.resume(name)
        except OSError as error:
            reason = error.strerror or str(error)
            self._notices.warning("a segment cannot be read, it waits", about=name, segment=name, reason=reason)

    def known(self) -> list[SegmentState]:
        """Return the segments seen at the last look, oldest first; callable from any thread."""
        return sorted(self._states.values(), key=lambda state: state.name)

    def ahead(self) -> int:
        """Return how many bytes of charges wait for the sink that is owed least of those that are owed any."""
        waiting = [courier.behind(states) for courier, states in self.owing()]
        return min(waiting, default=0)

    def owing(self) -> list[tuple[Courier, list[SegmentState]]]:
        """Return the couriers that have something to deliver, or may have, each with its segments."""
        owed: dict[str, list[SegmentState]] = {}
        for state in self.known():
            for courier in self.couriers_for(state):
                owed.setdefault(courier.name, []).append(state)
        return [(self.couriers[name], states) for name, states in owed.items()]

    def rate(self, state: SegmentState, limit: int | None = None) -> RatingCounts:
        """Rate what is new in a segment; a disk or prices that refuse are logged, and the next call tries again."""
        for held in [other for other in self._rating.held.values() if not self.owed(other)]:
            self._rating.release(held)
        try:
            counts = self._rating.advance(state, limit)
        except FileNotFoundError:
            self._forget(state.name)
            return RatingCounts()
        except OSError as error:
            counts = RatingCounts(stalled=error.strerror or str(error))
        if counts.stalled:
            self._notices.warning("rating waits", reason=counts.stalled)
        self._statistics.rated(counts)
        return counts

    def couriers_for(self, state: SegmentState) -> list[Courier]:
        """Return the couriers that owe this segment to their sinks."""
        listed = state.sinks or tuple(self.couriers)
        return [self.couriers[name] for name in listed if name in self.couriers and not self._let_go(name, state)]

    def owed(self, state: SegmentState) -> list[str]:
        """Name the sinks that do not have all of this segment, configured or not."""
        listed = state.sinks or tuple(self.couriers) or ("any sink",)
        if not state.rated:
            return []
        return [name for name in listed if not self._let_go(name, state) and not self._has_all(name, state)]

    def _let_go(self, sink: str, state: SegmentState) -> bool:
        return state.name in self._forgotten.get(sink, ())

    def _has_all(self, name: str, state: SegmentState) -> bool:
        if name in self.couriers:
            return self.couriers[name].has_all(state)
        self._notices.warning(
            "a segment is kept for a sink that is not configured", about=name, sink=name, segment=state.name
        )
        return False

    def write_status(self) -> None:
        """Write the numbers of this directory for others to read."""
        self._statistics.write({courier.name: states for courier, states in self.owing()})

    def settle(self, state: SegmentState) -> bool:
        """Delete a segment that nobody owes or is owed anything of; tell whether it is gone."""
        if not state.final or self.owed(state):
            return False
        sinks = {*state.sinks, *self.couriers}
        for sink in sinks:
            if self._let_go(sink, state) and state.acks.get(sink, Ack()).charges < state.rated:
                self._notices.warning("a sink was let go of and does not get a segment", sink=sink, segment=state.name)
        self._dead.settle(state.name)
        segment_path(self._directory, state.name).unlink(missing_ok=True)
        (self._directory / f"{state.name}.charges").unlink(missing_ok=True)
        for sink in sinks:
            ack_path(self._directory, state.name, sink).unlink(missing_ok=True)
        self._forget(state.name)
        return True

    def _forget(self, name: str) -> None:
        self._states.pop(name, None)
        self._rating.held.pop(name, None)
        self._notices.forget(name)
