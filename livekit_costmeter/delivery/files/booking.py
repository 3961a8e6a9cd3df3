"""
Booking: charges that are ready-made, such as corrections, enter the spool as a segment of their own.

Format: the segment's header has, besides what every header has, `{"booking": why}` and the sinks that are owed; then
follows one line `{"charges": [...]}` per record, which is not rated again, and the closing line. From there on it goes
the way of everything else: the same bytes into every sink, each row once by (`record_id`, `line`), acknowledged, and
deleted when every sink has it.

Invariant: a booking is in the spool whole or not at all, however large it is: it gets its name when its last line is on
disk. Who books what follows from what is booked takes turns (`booking_turn`), and counts in what waits (`waiting`).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path

from livekit_costmeter.delivery.backlog import list_segments, opened, read_header, segment_path
from livekit_costmeter.delivery.files.dead import charges_line, returned_charges
from livekit_costmeter.delivery.files.lines import read_lines
from livekit_costmeter.delivery.files.segment import segment_name, write_segment
from livekit_costmeter.records import Charge, charge_fields, format_instant

_FLAGS = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC


@dataclass(slots=True)
class Booked:
    """What a booking put into the spool; `segment` is None where there was nothing to book."""

    records: int = 0
    charges: int = 0
    segment: str | None = None


def book(
    charges: Iterable[Charge],
    directory: Path,
    sinks: Collection[str],
    *,
    reason: str,
    clock: Callable[[], float] = time.time,
    token: str | None = None,
) -> Booked:
    """Put ready-made charges into a spool directory, for the sinks named; without any, for those configured.

    They are streamed and delivered as they are, by whoever ships there, so they have to be right and to have ids that
    make booking them again harmless. The rows of one record follow one another.

    Raises:
        OSError: The disk refused; nothing is booked.
    """
    rest = iter(charges)
    first = next(rest, None)
    if first is None:
        return Booked()
    booked = Booked(segment=segment_name(clock(), token))
    header = {
        "format": 1,
        "created_at": format_instant(datetime.fromtimestamp(clock(), UTC)),
        "pid": os.getpid(),
        "sinks": list(sinks) or None,
        "booking": reason,
    }
    assert booked.segment is not None
    write_segment(directory, booked.segment, header, _payloads(chain([first], rest), booked))
    return booked


def _payloads(charges: Iterable[Charge], booked: Booked) -> Iterator[bytes]:
    for _, rows in groupby(charges, key=attrgetter("record_id")):
        fields = [charge_fields(charge) for charge in rows]
        booked.records += 1
        booked.charges += len(fields)
        yield charges_line(fields)


def waiting(directory: Path) -> Iterator[Charge]:
    """Stream the ready-made charges that lie in a spool directory; some sinks may have them already.

    To know all that is booked, read these first and a sink after: what is deleted meanwhile is in the sink by then.
    """
    for name in list_segments(directory):
        path = segment_path(directory, name)
        if not {"booking", "letters"} & read_header(path).keys():
            continue
        try:
            with opened(path) as descriptor:
                for line in read_lines(descriptor):
                    yield from returned_charges(line.payload or b"") or ()
        except FileNotFoundError:
            continue  # delivered, and deleted


@contextmanager
def booking_turn(directory: Path) -> Iterator[None]:
    """Wait until nobody else is booking into a spool directory, and keep others waiting meanwhile.

    Raises:
        OSError: The directory cannot be written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "booking.lock", _FLAGS, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child forked meanwhile has the descriptor too
        os.close(descriptor)
