"""
The rating stage: reads what a segment holds, rates each record once, and keeps the charges beside the segment.

Invariant: charges are on disk before any sink sees them, and nobody reads beyond `SegmentState.rated`. What a crash
left half written behind it was seen by nobody, is cut off, and is rated again.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from livekit_costmeter.delivery.audit import AuditSidecar
from livekit_costmeter.delivery.backlog import is_alive, is_framing, opened, read_header, segment_path
from livekit_costmeter.delivery.files.acks import Ack, ack_path, read_ack
from livekit_costmeter.delivery.files.charges import HEADER, charge_lines, encode_charges, has_header, source_offset
from livekit_costmeter.delivery.files.dead import DeadLetters
from livekit_costmeter.delivery.files.lines import Line, read_lines
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.records import Charge, UsageRecord, parse_usage

Rate = Callable[[UsageRecord], Sequence[Charge]]
"""What prices a record. It raises `PricesUnavailable` where none could be priced now; all else is about this one."""

_AT_ONCE = 500
_FLAGS = os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC


class PricesUnavailable(Exception):
    """No price can be read now (a broken rate card, a catalog that is not installed): usage waits in the spool."""


@dataclass(slots=True)
class SegmentState:
    """One segment as the shipper knows it: `source` bytes of it are rated into `rated` bytes of charges on disk.

    `final` says that its writer is gone and everything is rated. `sinks` is what its header lists; each courier keeps
    its entry of `acks`, which stays when the segment is deleted under a courier that is just looking at it.
    """

    name: str
    sinks: tuple[str, ...]
    source: int = 0
    rated: int = 0
    final: bool = False
    torn: bool = False
    synced: int = 0
    sequence: int | None = None
    acks: dict[str, Ack] = field(default_factory=dict)


@dataclass(slots=True)
class RatingCounts:
    """What one stretch of rating did; `stalled` says that the disk refused the charges, or that prices are away."""

    records: int = 0
    charges: int = 0
    corrupt: int = 0
    torn: int = 0
    gaps: int = 0
    dead: int = 0
    stalled: bool = False


class Learner(Protocol):
    """Learns from records as they are rated, such as how many tokens a text has; never raises."""

    def learn_from(self, record: UsageRecord) -> None:
        """Take one record for a sample, if it is one."""

    def save(self) -> None:
        """Keep what was learned."""


@dataclass(slots=True)
class Rating:
    """Rates segments of one directory; used by the holder of the ship lock, from one thread."""

    directory: Path
    rate: Rate
    sinks: Collection[str]
    dead: DeadLetters
    notices: Notices
    learn: Learner | None = None
    fsync: float = 0.5
    monotonic: Callable[[], float] = time.monotonic
    _synced_at: dict[str, float] = field(default_factory=dict)
    _audits: AuditSidecar = field(init=False)

    def __post_init__(self) -> None:
        self._audits = AuditSidecar(self.directory, notices=self.notices)

    def resume(self, name: str) -> SegmentState:
        """Find out how far a segment was rated by whoever shipped it before.

        Raises:
            FileNotFoundError: The segment is gone.
        """
        header = read_header(segment_path(self.directory, name))
        listed = header.get("sinks") or ()
        state = SegmentState(name, tuple(str(sink) for sink in listed))
        state.acks = {sink: read_ack(ack_path(self.directory, name, sink)) for sink in {*state.sinks, *self.sinks}}
        seen = max(state.acks.values(), key=lambda ack: ack.charges, default=Ack())
        if self._charges_path(name).exists():
            self._recover(state, seen)
        elif seen.charges:
            self._rate_again(state)
        return state

    def _notice(self, state: SegmentState, event: str, **fields: Any) -> None:
        self.notices.warning(event, about=state.name, segment=state.name, **fields)

    def _charges_path(self, name: str) -> Path:
        return self.directory / f"{name}.charges"

    def _recover(self, state: SegmentState, seen: Ack) -> None:
        with self._appending(state.name) as descriptor:
            size = os.fstat(descriptor).st_size
            if size < seen.charges or (size and not has_header(descriptor)):
                self._rate_again(state)
                return
            state.rated, state.source = seen.charges, seen.segment
            for end, payload in charge_lines(descriptor, seen.charges):
                if payload is None:
                    break
                state.rated, state.source = end, source_offset(payload)
            if size > state.rated:
                os.ftruncate(descriptor, state.rated)
            os.fdatasync(descriptor)

    def _rate_again(self, state: SegmentState) -> None:
        self._notice(state, "charges are gone or of another release, the segment is rated again")
        for sink in state.acks:
            ack_path(self.directory, state.name, sink).unlink(missing_ok=True)
        state.acks = {}
        self._charges_path(state.name).unlink(missing_ok=True)
        state.rated = state.source = 0

    @contextmanager
    def _appending(self, name: str) -> Iterator[int]:
        descriptor = os.open(self._charges_path(name), _FLAGS, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def advance(self, state: SegmentState, limit: int | None = None) -> RatingCounts:
        """Rate what is new in a segment, at most `limit` records, and tell what was done.

        Raises:
            FileNotFoundError: The segment is gone.
            OSError: The disk refused the charges; nothing is lost, the next call starts where this one did.
            PricesUnavailable: Likewise, for want of prices.
        """
        counts = RatingCounts()
        if state.final:
            return counts
        path = segment_path(self.directory, state.name)
        dead = not is_alive(path)
        with opened(path) as source:
            size = os.fstat(source).st_size
            self._sync(state, source, size)
            if size > state.source:
                self._rate_lines(state, source, counts, limit)
            if dead and (limit is None or counts.records < limit):
                self._conclude(state, size, counts)
        return counts

    def _sync(self, state: SegmentState, source: int, size: int) -> None:
        # The writer must never wait for the disk, so its segment is made durable from here.
        now = self.monotonic()
        if size > state.synced and now - self._synced_at.get(state.name, -self.fsync) >= self.fsync:
            os.fdatasync(source)
            state.synced = size
            self._synced_at[state.name] = now

    def _rate_lines(self, state: SegmentState, source: int, counts: RatingCounts, limit: int | None) -> None:
        lines = read_lines(source, state.source)
        with self._appending(state.name) as charges:
            while limit is None or counts.records < limit:
                room = _AT_ONCE if limit is None else min(_AT_ONCE, limit - counts.records)
                batch = list(_take(lines, room))
                if not batch:
                    return
                out = b"".join(self._rated_line(state, line, counts) for line in batch)
                self._store(state, charges, out)
                state.source = batch[-1].end
                if self.learn is not None:
                    self.learn.save()

    def _store(self, state: SegmentState, charges: int, out: bytes) -> None:
        if not out:
            return
        if not state.rated:
            out = HEADER + out
        try:
            whole = os.write(charges, out) == len(out)
            os.fdatasync(charges)
        except OSError:
            os.ftruncate(charges, state.rated)
            raise
        if not whole:
            os.ftruncate(charges, state.rated)
            raise OSError(errno.ENOSPC, "short write of charges")
        state.rated += len(out)

    def _rated_line(self, state: SegmentState, line: Line, counts: RatingCounts) -> bytes:
        if line.payload is not None and is_framing(line.payload):
            return b""
        charges: Sequence[Charge] = ()
        if line.payload is None:
            counts.corrupt += 1
            self._notice(state, "damaged line skipped", before=line.end)
        else:
            counts.records += 1
            charges = self._charges(state, line.payload, counts)
        return encode_charges(line.end, charges)

    def _charges(self, state: SegmentState, payload: bytes, counts: RatingCounts) -> Sequence[Charge]:
        try:
            record = parse_usage(payload)
            charges = self.rate(record)
        except PricesUnavailable:
            raise
        except Exception as error:
            counts.dead += 1
            reason = f"{type(error).__name__}: {error}"[:500]
            self.dead.keep("rating", state.name, reason=reason, usage=payload.decode(errors="replace"))
            return ()
        self._audits.keep(record)
        if self.learn is not None:
            self.learn.learn_from(record)
        self._watch_sequence(state, record.id, counts)
        counts.charges += len(charges)
        return charges

    def _watch_sequence(self, state: SegmentState, record_id: str, counts: RatingCounts) -> None:
        segment, _, sequence = record_id.rpartition("-")
        if segment != state.name or not sequence.isdecimal():
            return
        missing = int(sequence) - state.sequence - 1 if state.sequence is not None else 0
        if missing > 0:
            counts.gaps += missing
            self._notice(state, "records are missing in a segment", count=missing)
        state.sequence = int(sequence)

    def _conclude(self, state: SegmentState, size: int, counts: RatingCounts) -> None:
        state.final = True
        self._synced_at.pop(state.name, None)
        with opened(segment_path(self.directory, state.name)) as source:
            end = max((line.end for line in read_lines(source, state.source)), default=state.source)
        if size > end:
            counts.torn += 1
            state.torn = True
            self._notice(state, "torn last line dropped: its writer was killed or the disk refused it")


def _take(lines: Iterator[Line], count: int) -> Iterator[Line]:
    for _ in range(count):
        line = next(lines, None)
        if line is None:
            return
        yield line
