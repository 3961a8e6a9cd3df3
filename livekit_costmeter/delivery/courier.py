"""
A courier: brings the charges of segments to one sink and remembers how far it came.

Invariant: the cursor moves only after `sink.write` has returned, in the order of the segment, and a record's rows are
never parted. A crash in between sends a batch again, which the sink ignores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livekit_costmeter.delivery.backlog import is_framing, opened, segment_path
from livekit_costmeter.delivery.files.acks import Ack, ack_path, write_ack
from livekit_costmeter.delivery.files.charges import charge_lines, decode_charges
from livekit_costmeter.delivery.files.dead import DeadLetters
from livekit_costmeter.delivery.files.lines import Line, read_lines
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.delivery.rating import SegmentState
from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, Sink
from livekit_costmeter.records import Charge, charge_fields

_NOTHING = Ack()


@dataclass(slots=True)
class Batch:
    """Charges of whole records, and the acknowledgement that their commit is worth."""

    charges: list[Charge] = field(default_factory=list)
    records: int = 0
    ack: Ack = field(default_factory=Ack)


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
        batch_rows: int = 500,
    ) -> None:
        self.name = name
        self.records = 0
        self.rows = 0
        self.rejected = 0
        self._make = sink
        self._sink: Sink | None = None
        self._directory = directory
        self._dead = dead
        self._notices = notices
        self._batch_rows = batch_rows

    def has_all(self, state: SegmentState) -> bool:
        """Tell whether the sink has everything that is rated of a segment."""
        return self._ack(state).charges >= state.rated

    def _ack(self, state: SegmentState) -> Ack:
        return state.acks.get(self.name, _NOTHING)

    def ship(self, state: SegmentState) -> None:
        """Deliver everything that is rated of a segment.

        Raises:
            RetryableError: The sink could not take a batch now; the cursor stands before it.
        """
        if self.has_all(state):
            return
        try:
            for batch in self._batches(state):
                self._deliver(state, batch)
        except FileNotFoundError as error:
            raise RetryableError(f"{self.name}: {error}") from None

    def _batches(self, state: SegmentState) -> Iterator[Batch]:
        start = self._ack(state)
        batch = Batch(ack=start)
        with opened(self._directory / f"{state.name}.charges") as descriptor:
            for end, payload in charge_lines(descriptor, start.charges, state.rated):
                if payload is None:
                    batch.ack = Ack(end, self._damaged(state.name, batch.ack.segment))
                    continue
                source, charges = decode_charges(payload)
                batch.charges += charges
                batch.records += 1
                batch.ack = Ack(end, source)
                if len(batch.charges) >= self._batch_rows:
                    yield batch
                    batch = Batch(ack=batch.ack)
        if batch.ack != start:
            yield batch

    def _damaged(self, segment: str, offset: int) -> int:
        """Set aside the usage whose charges were damaged on disk; return the source offset behind it."""
        with opened(segment_path(self._directory, segment)) as source:
            lines = (line for line in read_lines(source, offset) if not (line.payload and is_framing(line.payload)))
            line = next(lines, Line(offset, None))
        usage = (line.payload or b"").decode(errors="replace")
        self._dead.keep(self.name, segment, reason="charges damaged on disk", usage=usage)
        self.rejected += 1
        return line.end

    def _deliver(self, state: SegmentState, batch: Batch) -> None:
        rest: Sequence[Charge] = batch.charges
        while rest:
            try:
                self._opened().write(rest)
                break
            except RejectedRecords as error:
                rest = self._set_aside(state.name, rest, error.rejected)
            except RetryableError:
                raise
            except Exception as error:
                self.close()
                raise RetryableError(f"{type(error).__name__}: {error}") from error
        state.acks[self.name] = batch.ack
        self._acknowledge(state.name, batch.ack)
        self.records += batch.records
        self.rows += len(rest)

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
        return self._sink

    def _set_aside(self, segment: str, rows: Sequence[Charge], rejected: dict[str, str]) -> list[Charge]:
        refused = [charge for charge in rows if charge.record_id in rejected]
        if not refused:
            raise RetryableError("the sink rejected records that it was not given")
        for record_id, reason in rejected.items():
            lines = [charge_fields(charge) for charge in refused if charge.record_id == record_id]
            if lines:
                self._dead.keep(self.name, segment, reason=reason[:500], record_id=record_id, charges=lines)
                self.rejected += 1
        return [charge for charge in rows if charge.record_id not in rejected]

    def close(self) -> None:
        """Close the sink; the next delivery opens it again."""
        sink, self._sink = self._sink, None
        if sink is not None:
            with suppress(Exception):  # it is being given up; what it had committed is acknowledged
                sink.close()
