"""
The rating stage: reads what a segment holds, rates each record once, and keeps the charges beside the segment.

Invariant: charges are on disk before any sink sees them, and nobody reads beyond `SegmentState.rated`. What a crash
left half written behind it was seen by nobody, is cut off, and is rated again.

A disk that the spool itself has filled has no room for charges, and gets none before something is delivered and
deleted. So, as the one exception, a few stretches may be rated in memory alone; the segment goes on like that to its
end. After a crash it is rated again, and the sinks ignore the rows that they have.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from livekit_costmeter.delivery.backlog import dropped_before, is_alive, is_framing, opened, read_header, segment_path
from livekit_costmeter.delivery.files.acks import Ack, ack_path, read_ack
from livekit_costmeter.delivery.files.audit import AuditSidecar
from livekit_costmeter.delivery.files.charges import HEADER, append_charges, encode_charges, recover_charges
from livekit_costmeter.delivery.files.dead import RATING, DeadLetters, returned_charges
from livekit_costmeter.delivery.files.lines import Line, read_lines
from livekit_costmeter.delivery.files.progress import SegmentState, Stretch
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.records import Charge, UsageRecord, parse_usage

Rate = Callable[[UsageRecord], Sequence[Charge]]
"""What prices a record. It raises `PricesUnavailable` where none could be priced now; all else is about this one."""

_AT_ONCE = 500
_RECENT = 4
_HELD = 8
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MEASURED = frozenset({"reported", "observed"})


class PricesUnavailable(Exception):
    """No price can be read now (a broken rate card, a catalog that is not installed): usage waits in the spool."""


@dataclass(slots=True)
class RatingCounts:
    """What one stretch of rating did; `stalled` says why it went no further, such as a full disk or no prices."""

    records: int = 0
    charges: int = 0
    corrupt: int = 0
    torn: int = 0
    gaps: int = 0
    dead: int = 0
    unpriced: int = 0
    estimated: int = 0
    dropped: int = 0
    stalled: str = ""

    def add(self, other: RatingCounts) -> None:
        """Take in what was done next."""
        self.records += other.records
        self.charges += other.charges
        self.corrupt += other.corrupt
        self.torn += other.torn
        self.gaps += other.gaps
        self.dead += other.dead
        self.unpriced += other.unpriced
        self.estimated += other.estimated
        self.dropped += other.dropped


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
    write: Callable[[int, bytes], int] = os.write
    held: dict[str, SegmentState] = field(default_factory=dict)
    _recent: deque[SegmentState] = field(default_factory=deque)
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
        whole = recover_charges(self._charges_path(state.name), seen)
        if whole is None:
            self._rate_again(state)
        else:
            state.rated, state.source = whole.charges, whole.segment
            state.stored = state.rated

    def _rate_again(self, state: SegmentState) -> None:
        self._notice(state, "charges are gone or of another release, the segment is rated again")
        for sink in state.acks:
            ack_path(self.directory, state.name, sink).unlink(missing_ok=True)
        state.acks = {}
        self._charges_path(state.name).unlink(missing_ok=True)
        state.rated = state.stored = state.source = 0

    def advance(self, state: SegmentState, limit: int | None = None) -> RatingCounts:
        """Rate what is new in a segment, at most `limit` records, and tell what was done.

        Where the disk refuses the charges or there are no prices, it says `stalled`; nothing is lost, the next call
        starts where this one came to.

        Raises:
            FileNotFoundError: The segment is gone.
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
                counts.stalled = self._rate_lines(state, source, counts, limit)
            if dead and not counts.stalled and (limit is None or counts.records < limit):
                self._conclude(state, size, counts)
        return counts

    def _sync(self, state: SegmentState, source: int, size: int) -> None:
        # The writer must never wait for the disk, so its segment is made durable from here.
        now = self.monotonic()
        if size > state.synced and now - self._synced_at.get(state.name, -self.fsync) >= self.fsync:
            os.fdatasync(source)
            state.synced = size
            self._synced_at[state.name] = now

    def _rate_lines(self, state: SegmentState, source: int, counts: RatingCounts, limit: int | None) -> str:
        """Rate batch by batch; return why it stopped before the end, if it did."""
        lines = read_lines(source, state.source)
        while limit is None or counts.records < limit:
            room = _AT_ONCE if limit is None else min(_AT_ONCE, limit - counts.records)
            batch = list(islice(lines, room))
            if not batch:
                break
            try:
                counts.add(self._rate_batch(state, batch))
            except OSError as error:
                return f"charges cannot be written: {error.strerror or error}"
            except PricesUnavailable as error:
                return f"no prices can be read: {error}"
        return ""

    def _rate_batch(self, state: SegmentState, batch: Sequence[Line]) -> RatingCounts:
        counts = RatingCounts()
        start = end = state.rated or len(HEADER)
        out, records = [], []
        for line in batch:
            charges = self._rated(state, line, counts)
            if charges is not None:
                out.append(encode_charges(line.end, charges))
                end += len(out[-1])
                records.append((Ack(end, line.end), charges))
        if out:
            self._store(state, out, Stretch(start, records))
        state.source = batch[-1].end
        if self.learn is not None:
            self.learn.save()
        return counts

    def _store(self, state: SegmentState, out: list[bytes], stretch: Stretch) -> None:
        try:
            self._append(state, b"".join(out if state.rated else [HEADER, *out]))
        except OSError as error:
            if error.errno not in _FULL or sum(len(other.fresh) for other in self.held.values()) >= _HELD:
                raise
            self.held[state.name] = state
            self._notice(state, "the disk is full, a segment is rated in memory")
        else:
            self._recent.append(state)
        state.fresh = (*state.fresh, stretch)
        state.rated = stretch.records[-1][0].charges
        state.stored = state.stored if state.name in self.held else state.rated
        while len(self._recent) > _RECENT:
            oldest = self._recent.popleft()
            oldest.fresh = oldest.fresh[1:]

    def _append(self, state: SegmentState, out: bytes) -> None:
        if state.stored < state.rated:
            raise OSError(errno.ENOSPC, "the charges before these are in memory")
        append_charges(self._charges_path(state.name), out, size=state.rated, write=self.write)

    def release(self, state: SegmentState) -> None:
        """Let go of charges that are in memory alone, because every sink has them."""
        self._recent = deque(other for other in self._recent if other is not state)
        state.fresh = ()
        del self.held[state.name]

    def _rated(self, state: SegmentState, line: Line, counts: RatingCounts) -> Sequence[Charge] | None:
        if line.payload is None:
            counts.corrupt += 1
            self._notice(state, "damaged line skipped", before=line.end)
            return ()
        if is_framing(line.payload):
            counts.dropped += dropped_before(line.payload)
            return None
        counts.records += 1
        return self._charges(state, line.payload, counts)

    def _charges(self, state: SegmentState, payload: bytes, counts: RatingCounts) -> Sequence[Charge]:
        try:
            returned = returned_charges(payload)
            if returned is not None:
                counts.charges += len(returned)
                return returned
            record = parse_usage(payload)
            charges = self.rate(record)
        except PricesUnavailable:
            raise
        except Exception as error:
            counts.dead += 1
            reason = f"{type(error).__name__}: {error}"[:500]
            usage = payload.decode(errors="replace")
            self.dead.keep(RATING, state.name, reason=reason, usage=usage, sinks=list(state.sinks))
            return ()
        self._audits.keep(record)
        if self.learn is not None:
            self.learn.learn_from(record)
        self._watch_sequence(state, record.id, counts)
        counts.charges += len(charges)
        counts.unpriced += any([charge.pricing_status == "unpriced" for charge in charges])  # noqa: C419 - quicker
        if record.basis:
            counts.estimated += not _MEASURED.issuperset(record.basis.values())
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
