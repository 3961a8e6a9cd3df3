"""
The segments in the custody of the holder of the ship lock: which there are, who is owed each, when one may go.

Invariant: a segment goes when its writer is gone, all of it is rated, and every sink that its header lists has
acknowledged all of it (or the operator let go of that sink). One whose header lists no sink is owed to those
configured now; a sink that is configured now but not listed does not get it.

The segment file is deleted first, its charges and acknowledgements after it. So a crash in between leaves files
without a segment, which can be shipped by nobody and are swept by the next shipper. The other way round, a segment
without acknowledgements would be rated and sent once more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from livekit_costmeter.delivery.backlog import list_segments, segment_path
from livekit_costmeter.delivery.courier import Courier
from livekit_costmeter.delivery.files.acks import ack_path
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.delivery.rating import PricesUnavailable, Rating, RatingCounts, SegmentState


class Custody:
    """What is known of a directory's segments while the lock is held; after it, another process may change them."""

    def __init__(
        self,
        directory: Path,
        *,
        rating: Rating,
        couriers: Mapping[str, Courier],
        forgotten: Collection[str],
        notices: Notices,
    ) -> None:
        self.couriers = couriers
        self.unreadable = 0
        self._directory = directory
        self._rating = rating
        self._forgotten = frozenset(forgotten)
        self._notices = notices
        self._states: dict[str, SegmentState] = {}

    def refresh(self, only: Collection[str] | None = None) -> list[SegmentState]:
        """Look at the directory again and return its segments, oldest first."""
        names = [name for name in list_segments(self._directory) if only is None or name in only]
        for gone in self._states.keys() - set(names):
            self._forget(gone)
        for name in names:
            if name not in self._states:
                self._resume(name)
        found = [self._states[name] for name in names if name in self._states]
        self.unreadable = len(names) - len(found)
        return found

    def _resume(self, name: str) -> None:
        try:
            self._states[name] = self._rating.resume(name)
        except OSError as error:
            reason = error.strerror or str(error)
            self._notices.warning("a segment cannot be read, it waits", about=name, segment=name, reason=reason)

    def known(self) -> list[SegmentState]:
        """Return the segments seen at the last look, oldest first; callable from any thread."""
        return sorted(self._states.values(), key=lambda state: state.name)

    def rate(self, state: SegmentState, limit: int | None = None) -> RatingCounts:
        """Rate what is new in a segment; a disk or prices that refuse are logged, and the next call tries again."""
        try:
            return self._rating.advance(state, limit)
        except FileNotFoundError:
            self._forget(state.name)
        except OSError as error:
            self._notices.warning("charges cannot be written, rating waits", reason=error.strerror or str(error))
            return RatingCounts(stalled=True)
        except PricesUnavailable as error:
            self._notices.warning("no prices can be read, rating waits", reason=str(error))
            return RatingCounts(stalled=True)
        return RatingCounts()

    def couriers_for(self, state: SegmentState) -> list[Courier]:
        """Return the couriers that owe this segment to their sinks."""
        listed = state.sinks or tuple(self.couriers)
        return [self.couriers[name] for name in listed if name in self.couriers and name not in self._forgotten]

    def owed(self, state: SegmentState) -> list[str]:
        """Name the sinks that do not have all of this segment, configured or not."""
        listed = state.sinks or tuple(self.couriers) or ("any sink",)
        if not state.rated:
            return []
        return [name for name in listed if name not in self._forgotten and not self._has_all(name, state)]

    def _has_all(self, name: str, state: SegmentState) -> bool:
        if name in self.couriers:
            return self.couriers[name].has_all(state)
        self._notices.warning(
            "a segment is kept for a sink that is not configured", about=name, sink=name, segment=state.name
        )
        return False

    def settle(self, state: SegmentState) -> bool:
        """Delete a segment that nobody owes or is owed anything of; tell whether it is gone."""
        if not state.final or self.owed(state):
            return False
        sinks = {*state.sinks, *self.couriers}
        segment_path(self._directory, state.name).unlink(missing_ok=True)
        (self._directory / f"{state.name}.charges").unlink(missing_ok=True)
        for sink in sinks:
            ack_path(self._directory, state.name, sink).unlink(missing_ok=True)
        self._forget(state.name)
        return True

    def _forget(self, name: str) -> None:
        self._states.pop(name, None)
        self._notices.forget(name)
