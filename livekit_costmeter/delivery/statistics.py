"""
The numbers of a shipper: what it found, delivered, tried again and could not deliver, carried on from the one before.

Invariant: each number is written by one thread only (rating's by the one that rates, a sink's by the one that delivers
to it) and only grows; `write` never raises.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from livekit_costmeter.delivery.backlog import opened, record_time, segment_path
from livekit_costmeter.delivery.files.acks import Ack
from livekit_costmeter.delivery.files.lines import read_lines
from livekit_costmeter.delivery.files.progress import SegmentState
from livekit_costmeter.delivery.files.status import SinkStatus, Status, read_status, write_status
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.delivery.rating import RatingCounts

EVERY = 5.0
"""Seconds between two writings of `status.json`."""

_CHUNK = 1 << 14


class Statistics:
    """Counts for one holder of the ship lock."""

    def __init__(
        self, directory: Path, sinks: Iterable[str], *, notices: Notices, clock: Callable[[], float] = time.time
    ) -> None:
        now = clock()
        self._directory = directory
        self._notices = notices
        self._clock = clock
        self._status = read_status(directory) or Status(now, now, os.getpid())
        for name in sinks:
            self._status.sinks.setdefault(name, SinkStatus())

    def sink(self, name: str) -> SinkStatus:
        """Return the numbers of a sink, to be counted up."""
        return self._status.sinks[name]

    def rated(self, counts: RatingCounts) -> None:
        """Take in what one stretch of rating did."""
        rating = self._status.rating
        rating.appended += counts.records
        rating.charges += counts.charges
        rating.unpriced += counts.unpriced
        rating.estimated += counts.estimated
        rating.rejected += counts.dead
        rating.dropped += counts.dropped
        rating.corrupt += counts.corrupt
        rating.torn += counts.torn
        rating.gaps += counts.gaps

    def write(self, owed: Mapping[str, Sequence[SegmentState]]) -> None:
        """Write the numbers for others to read; `owed` are the segments that each sink lacks something of, in order."""
        self._status.at, self._status.pid = self._clock(), os.getpid()
        for name, sink in self._status.sinks.items():
            sink.pending_bytes, sink.oldest_at = self._pending(name, owed.get(name, ()))
        try:
            write_status(self._directory, self._status)
        except OSError as error:
            reason = error.strerror or str(error)
            self._notices.warning("status.json cannot be written, shipping goes on", reason=reason)

    def _pending(self, sink: str, states: Sequence[SegmentState]) -> tuple[int, float | None]:
        size, oldest = 0, None
        for state in states:
            offset = state.acks.get(sink, Ack()).segment
            try:
                lacking = segment_path(self._directory, state.name).stat().st_size - offset
                if lacking > 0 and oldest is None:
                    oldest = self._oldest(state.name, offset)
            except FileNotFoundError:
                continue
            size += max(0, lacking)
        return size, oldest

    def _oldest(self, name: str, offset: int) -> float | None:
        path = segment_path(self._directory, name)
        with opened(path) as descriptor:
            lines = read_lines(descriptor, offset, offset + _CHUNK)
            payloads = (line.payload for line in lines if line.payload and line.payload.startswith(b'{"id":'))
            payload = next(payloads, None)
        return None if payload is None else record_time(payload, path.stat().st_mtime)
