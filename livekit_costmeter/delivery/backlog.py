"""
The spool's reader: which segments a directory holds, whether their writers live, and what is in them.

Invariant: reading changes nothing. What is incomplete at the end of a live segment is not there yet; at the end of a
dead one it is torn, and counted. A damaged line is counted and skipped, and the lines behind it are read.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from livekit_costmeter.delivery.files.acks import ack_path, read_ack
from livekit_costmeter.delivery.files.forgotten import Forgotten, read_forgotten, sweep_forgotten
from livekit_costmeter.delivery.files.lines import read_lines
from livekit_costmeter.records import parse_instant

_TMP_AGE = 60.0


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """What one segment holds: `gaps` are missing sequences, `corrupt` damaged lines, `torn` a half last line."""

    name: str
    header: dict[str, Any]
    records: int
    gaps: int
    corrupt: int
    closed: bool
    torn: bool
    live: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """What a spool directory still owes: segments, records not yet acknowledged by all, their bytes, age in seconds."""

    segments: int
    records: int
    bytes: int
    oldest_age: float | None


def segment_path(directory: Path, name: str) -> Path:
    """Return where a segment lies."""
    return directory / f"{name}.seg"


def list_segments(directory: Path) -> list[str]:
    """Return the names of all segments, oldest first; empty where there is no directory yet."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name[:-4] for entry in entries if entry.name.endswith(".seg"))
    except FileNotFoundError:
        return []


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file for reading and yield its descriptor.

    Raises:
        FileNotFoundError: It is gone (shipped and deleted).
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_alive(path: Path) -> bool:
    """Tell whether the writer of a segment still holds its lock. Ask before reading, so that a dead end is final."""
    try:
        with opened(path) as descriptor:
            return _locked(descriptor)
    except FileNotFoundError:
        return False


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def read_header(path: Path) -> dict[str, Any]:
    """Return a segment's header; empty where it is damaged or the file is gone."""
    try:
        with opened(path) as descriptor:
            payload = next((line.payload for line in read_lines(descriptor)), None)
            header = from_json(payload).get("header") if payload else None
    except (FileNotFoundError, ValueError, AttributeError):
        return {}
    return header if isinstance(header, dict) else {}


def is_framing(payload: bytes) -> bool:
    """Tell a header or closing line from a usage record."""
    return payload.startswith((b'{"header":', b'{"closed":'))


def dropped_before(payload: bytes) -> int:
    """Return how many records a segment's header says its writer had to drop before it was made."""
    header = from_json(payload).get("header")
    return int(header.get("dropped") or 0) if isinstance(header, dict) else 0


def inspect(path: Path) -> SegmentReport:
    """Read one segment through and report what it holds and misses.

    Raises:
        FileNotFoundError: The segment is gone.
    """
    records = gaps = corrupt = end = 0
    expected, closed, name = 0, False, path.stem
    live = is_alive(path)
    with opened(path) as descriptor:
        for line in read_lines(descriptor):
            end = line.end
            if line.payload is None:
                corrupt += 1
            elif is_framing(line.payload):
                closed = line.payload.startswith(b'{"closed":')
            else:
                records += 1
                sequence = own_sequence(line.payload, name)
                if sequence is not None:
                    gaps += max(0, sequence - expected)
                    expected = sequence + 1
        torn = not live and os.fstat(descriptor).st_size > end
    return SegmentReport(path.stem, read_header(path), records, gaps, corrupt, closed, torn, live)


def own_sequence(payload: bytes, name: str) -> int | None:
    """Return a record's sequence if it got its id in segment `name`; `None` for one from an earlier segment."""
    values = from_json(payload)
    segment, _, sequence = str(values.get("id") if isinstance(values, dict) else "").rpartition("-")
    return int(sequence) if segment == name and sequence.isdecimal() else None


def pending(directory: Path, *, clock: Callable[[], float] = time.time) -> Pending:
    """Sum up what is not yet acknowledged by every sink the segments list; streams, so it costs time and not memory."""
    segments = records = size = 0
    oldest: float | None = None
    forgotten = read_forgotten(directory)
    for name in list_segments(directory):
        path = segment_path(directory, name)
        try:
            owed, waiting, made = _owed(directory, name, forgotten)
        except FileNotFoundError:
            continue
        except OSError:
            segments += 1  # it is there and cannot be read; the shipper logs why
            continue
        if waiting or not is_alive(path):
            segments += 1
        if waiting:
            records += waiting
            size += owed
            oldest = made if oldest is None else min(oldest, made)
    return Pending(segments, records, size, None if oldest is None else max(0.0, clock() - oldest))


def _owed(directory: Path, name: str, forgotten: Forgotten) -> tuple[int, int, float]:
    path = segment_path(directory, name)
    sinks = [sink for sink in read_header(path).get("sinks") or [] if name not in forgotten.get(sink, ())]
    # Where the header lists no sink, whoever got some of it so far has left an acknowledgement.
    acks = [ack_path(directory, name, sink) for sink in sinks] or list(directory.glob(f"{name}.*.ack"))
    offset = min((read_ack(path).segment for path in acks), default=0)
    waiting = 0
    with opened(path) as descriptor:
        stat = os.fstat(descriptor)
        end = offset
        for line in read_lines(descriptor, offset):
            end = line.end
            waiting += line.payload is None or not is_framing(line.payload)
    return end - offset, waiting, stat.st_mtime


def owing(directory: Path, sink: str, configured: Collection[str], *, living: bool) -> list[str]:
    """Name the segments that are for a sink; unless `living`, without those that are still written to."""
    paths = [segment_path(directory, name) for name in list_segments(directory)]
    listing = [path for path in paths if sink in (read_header(path).get("sinks") or configured)]
    return [path.stem for path in listing if living or not is_alive(path)]


def pending_by_sink(
    directory: Path, sinks: Collection[str], *, clock: Callable[[], float] = time.time
) -> dict[str, Pending]:
    """Sum up what each sink is owed: those named, and any other that a segment lists; ages are of records, in seconds.

    Streams, so it costs time and not memory. A segment that lists no sink is owed to those named.
    """
    found = {sink: Pending(0, 0, 0, None) for sink in sinks}
    forgotten = read_forgotten(directory)
    for name in list_segments(directory):
        listed = read_header(segment_path(directory, name)).get("sinks") or sinks
        owed = [sink for sink in listed if name not in forgotten.get(sink, ())]
        offsets = {sink: read_ack(ack_path(directory, name, sink)).segment for sink in owed}
        try:
            for sink, (records, size, at) in _behind(directory, name, offsets).items():
                before = found.get(sink, Pending(0, 0, 0, None))
                age = before.oldest_age if at is None else max(before.oldest_age or 0.0, clock() - at)
                found[sink] = Pending(before.segments + 1, before.records + records, before.bytes + size, age)
        except OSError:
            continue  # it is gone, or cannot be read, which the shipper logs
    return found


def _behind(directory: Path, name: str, offsets: Mapping[str, int]) -> dict[str, tuple[int, int, float | None]]:
    """Return per sink that lacks records of a segment: how many, their bytes, and the time of the oldest."""
    with opened(segment_path(directory, name)) as descriptor:
        made = os.fstat(descriptor).st_mtime
        ends: dict[int, list[Any]] = {offset: [0, 0, None] for offset in offsets.values()}
        for line in read_lines(descriptor, min(ends, default=0)):
            if line.payload is not None and is_framing(line.payload):
                continue
            for offset, sums in ends.items():
                if line.end > offset:
                    sums[:] = sums[0] + 1, line.end - offset, sums[2] or record_time(line.payload, made)
    return {sink: tuple(ends[offset]) for sink, offset in offsets.items() if ends[offset][0]}


def record_time(payload: bytes | None, otherwise: float) -> float:
    """Return the time of a usage record, in epoch seconds, and `otherwise` where it does not say."""
    try:
        return parse_instant(from_json(payload or b"")["at"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return otherwise


def sweep(directory: Path, *, clock: Callable[[], float] = time.time) -> int:
    """Remove what has no owner: beginnings of segments whose process died, and leavings of segments already deleted.

    Only the holder of the ship lock may call this. Returns the number of files removed.
    """
    removed = 0
    with os.scandir(directory) as entries:
        names = {entry.name for entry in entries if entry.name.endswith((".tmp", ".charges", ".ack"))}
    for name in names:
        path = directory / name
        orphan = not segment_path(directory, name.partition(".")[0]).exists()
        if orphan and (not name.endswith(".tmp") or _abandoned(path, clock())):
            path.unlink(missing_ok=True)
            removed += 1
    sweep_forgotten(directory, list_segments(directory), clock=clock)
    return removed


def _abandoned(path: Path, now: float) -> bool:
    # A beginning holds no record: records are appended after the rename only.
    try:
        return now - path.stat().st_mtime > _TMP_AGE and not is_alive(path)
    except FileNotFoundError:
        return False
