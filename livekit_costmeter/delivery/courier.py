"""
A courier: brings the charges of segments to one sink and remembers how far it came.

A sink may ask for large batches: its attributes `batch_rows` (rows in one `write`) and `linger` (seconds) say how many
rows, of however many segments, are gathered for how long; without them a batch goes as soon as there is one.

Invariant: the cursor moves only after `sink.write` has returned, in the order of the segment, and a record's rows are
never parted. A crash in between sends a batch again, which the sink ignores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livekit_costmeter.delivery.backlog import is_framing, opened, segment_path
from livekit_costmeter.delivery.files.acks import Ack, ack_path, write_ack
from livekit_costmeter.delivery.files.charges import HEADER, charge_lines, decode_charges
from livekit_costmeter.delivery.files.dead import DeadLetters
from livekit_costmeter.delivery.files.lines import Line, read_lines
from livekit_costmeter.delivery.files.progress import SegmentState
from livekit_costmeter.delivery.files.status import SinkStatus
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, Sink
from livekit_costmeter.records import Charge, charge_fields

_NOTHING = Ack()
_ROW_BYTES = 1_000
"""About what a row takes on disk: enough to tell a full batch from a small one without reading it."""


@dataclass(slots=True)
class Batch:
    """Charges of whole records, which segment each is from, and the acknowledgements that their commit is worth."""

    charges: list[Charge] = field(default_factory=list)
    records: int = 0
    segments: dict[str, str] = field(default_factory=dict)
    acks: dict[str, tuple[SegmentState, Ack]] = field(default_factory=dict)

    def take(self, state: SegmentState, ack: Ack, charges: Sequence[Charge] | None) -> None:
        """Add one record, or none where it was damaged, up to a place in a segment."""
        if charges is not None:
            self.charges += charges
            self.records += 1
            if charges:
                self.segments[charges[0].record_id] = state.name
        self.acks[state.name] = (state, ack)


class Courier:
    """Delivers to one sink; used by one thread at a time."""

    def __init__(
        self,
        name: str,
        sink: Sink | Callable[[], Sink],
        directory: Path,
        *,
        dead: DeadLetters,
        notices: Notices,
        tally: SinkStatus,
        batch_rows: int = 500,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.tally = tally
        self._make = sink
        self._sink: Sink | None = None
        self._directory = directory
        self._dead = dead
        self._notices = notices
        self._batch_rows = batch_rows
        self._linger = 0.0
        self._clock = clock
        self._monotonic = monotonic
        self._owed_since: float | None = None

    def has_all(self, state: SegmentState) -> bool:
        """Tell whether the sink has everything that is rated of a segment."""
        return self._ack(state).charges >= state.rated

    def behind(self, states: Iterable[SegmentState]) -> int:
        """Return how many bytes of the segments' charges the sink does not have."""
        return sum(state.rated - self._ack(state).charges for state in states)

    def _ack(self, state: SegmentState) -> Ack:
        return state.acks.get(self.name, _NOTHING)

    def ship(self, *states: SegmentState, patient: bool = False) -> None:
        """Deliver everything that is rated of the segments; `patient`, leave what the sink wants gathered for longer.

        Raises:
            RetryableError: The sink could not take a batch now; the cursors stand before it.
        """
        owed = [state for state in states if not self.has_all(state)]
        if not owed:
            return
        try:
            self._get_ready()
            if patient and self._may_wait(owed):
                return
            for batch in self._batches(owed):
                self._deliver(batch)
        except (RetryableError, FileNotFoundError) as error:
            self.tally.retries += 1
            self.tally.last_error_at, self.tally.last_error = self._clock(), str(error)
            raise RetryableError(str(error)) from error.__cause__
        self._owed_since = None

    def _get_ready(self) -> None:
        try:
            self._opened()
        except RetryableError:
            raise
        except Exception as error:
            self.close()
            raise RetryableError(f"{type(error).__name__}: {error}") from error

    def _may_wait(self, owed: Sequence[SegmentState]) -> bool:
        now = self._monotonic()
        if self._owed_since is None:
            self._owed_since = now
        return now - self._owed_since < self._linger and self.behind(owed) < self._batch_rows * _ROW_BYTES

    def _batches(self, states: Sequence[SegmentState]) -> Iterator[Batch]:
        batch = Batch()
        for state in states:
            for ack, charges in self._records(state):
                batch.take(state, ack, charges)
                if len(batch.charges) >= self._batch_rows:
                    yield batch
                    batch = Batch()
        if batch.acks:
            yield batch

    def _records(self, state: SegmentState) -> Iterator[tuple[Ack, Sequence[Charge] | None]]:
        ack, end = self._ack(state), state.rated
        fresh = state.fresh
        stored = min(end, fresh[0].start) if fresh else end
        if max(ack.charges, len(HEADER)) < stored:
            yield from self._stored(state.name, ack, stored)
        for stretch in fresh:
            for place, charges in stretch.records:
                if ack.charges < place.charges <= end:
                    yield place, charges

    def _stored(self, segment: str, ack: Ack, end: int) -> Iterator[tuple[Ack, Sequence[Charge] | None]]:
        with opened(self._directory / f"{segment}.charges") as descriptor:
            for place, payload in charge_lines(descriptor, ack.charges, end):
                if payload is None:
                    ack = Ack(place, self._damaged(segment, ack.segment))
                    yield ack, None
                    continue
                source, charges = decode_charges(payload)
                ack = Ack(place, source)
                yield ack, charges

    def _damaged(self, segment: str, offset: int) -> int:
        """Set aside the usage whose charges were damaged on disk; return the source offset behind it."""
        with opened(segment_path(self._directory, segment)) as source:
            lines = (line for line in read_lines(source, offset) if not (line.payload and is_framing(line.payload)))
            line = next(lines, Line(offset, None))
        usage = (line.payload or b"").decode(errors="replace")
        self._dead.keep(self.name, segment, reason="charges damaged on disk", usage=usage)
        self.tally.rejected += 1
        return line.end

    def _deliver(self, batch: Batch) -> None:
        rest: Sequence[Charge] = batch.charges
        while rest:
            try:
                self._opened().write(rest)
                break
            except RejectedRecords as error:
                rest = self._set_aside(batch.segments, rest, error.rejected)
            except RetryableError:
                raise
            except Exception as error:
                self.close()
                raise RetryableError(f"{type(error).__name__}: {error}") from error
        for state, ack in batch.acks.values():
            state.acks[self.name] = ack
            self._acknowledge(state.name, ack)
        self.tally.records += batch.records
        self.tally.rows += len(rest)
        self.tally.last_success = self._clock()

    def _acknowledge(self, segment: str, ack: Ack) -> None:
        try:
            write_ack(ack_path(self._directory, segment, self.name), ack)
        except OSError as error:
            # A full disk is emptied by going on: at its end the segment is deleted. A crash before sends again.
            reason = error.strerror or str(error)
            self._notices.warning("acknowledgement cannot be written, delivery goes on", sink=self.name, reason=reason)

    def _opened(self) -> Sink:
        if self._sink is None:
            made: Any = self._make() if callable(self._make) else self._make
            made.open()
            self._sink = made
            self._batch_rows = getattr(made, "batch_rows", self._batch_rows)
            self._linger = getattr(made, "linger", self._linger)
        return self._sink

    def _set_aside(
        self, segments: Mapping[str, str], rows: Sequence[Charge], rejected: Mapping[str, str]
    ) -> list[Charge]:
        refused = [charge for charge in rows if charge.record_id in rejected]
        if not refused:
            raise RetryableError("the sink rejected records that it was not given")
        for record_id, reason in rejected.items():
            lines = [charge_fields(charge) for charge in refused if charge.record_id == record_id]
            if lines:
                segment = segments[record_id]
                self._dead.keep(self.name, segment, reason=reason[:500], record_id=record_id, charges=lines)
                self.tally.rejected += 1
        return [charge for charge in rows if charge.record_id not in rejected]

    def close(self) -> None:
        """Close the sink; the next delivery opens it again."""
        sink, self._sink = self._sink, None
        if sink is not None:
            with suppress(Exception):  # it is being given up; what it had committed is acknowledged
                sink.close()
