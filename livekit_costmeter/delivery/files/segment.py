"""
One open segment file, as its writer holds it.

Invariant: the file is locked before it has its final name, and the lock goes before the descriptor does, so that a
finished segment counts as dead while its writer still reads from it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from livekit_costmeter.delivery.files.lines import decode_line, encode_line

_FLAGS = os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC


@dataclass(slots=True)
class SegmentFile:
    """A segment being written: `start` and `size` bound its records, `passed` counts those of earlier files."""

    descriptor: int
    start: int
    size: int
    records: int = 0
    generation: int = 0
    passed: int = 0

    def close_out(self, write: Callable[[int, bytes], int]) -> None:
        """Write the closing line; a disk that refuses it leaves the segment looking killed, which loses nothing."""
        with suppress(OSError):
            write(self.descriptor, encode_line(to_json({"closed": {"records": self.records}})))

    def unlock(self) -> None:
        """Give up the segment: from here on it counts as dead."""
        with suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def release(self) -> None:
        """Close the descriptor."""
        with suppress(OSError):
            os.close(self.descriptor)

    def lies_at(self, path: Path) -> bool:
        """Tell whether this is the file at a path; somebody may have removed or replaced the directory."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), path.stat())
        except OSError:
            return False

    def view(self) -> SegmentView:
        """Return a reader over what is written so far, with a descriptor of its own."""
        return SegmentView(os.dup(self.descriptor), self.start, self.size, self.generation, self.passed)


@dataclass(frozen=True, slots=True)
class SegmentView:
    """A bounded look at a segment's records; `read` closes it."""

    descriptor: int
    start: int
    end: int
    generation: int
    passed: int

    def duplicate(self) -> SegmentView:
        """Return the same look with a descriptor of its own."""
        return replace(self, descriptor=os.dup(self.descriptor))

    def read(self, offset: int) -> list[bytes]:
        """Return the payloads from a byte offset to the end of the view."""
        try:
            data = os.pread(self.descriptor, self.end - offset, offset)
        finally:
            os.close(self.descriptor)
        payloads = map(decode_line, data.split(b"\n")[:-1])
        return [payload for payload in payloads if payload is not None]


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """Counts since this process first used the spool. `waiting` lines are in memory because the disk refused them."""

    appended: int = 0
    dropped: int = 0
    waiting: int = 0
    segments: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a process has read its own records. `lost` counts those that were no longer there to be read."""

    owner: int = 0
    generation: int = 0
    offset: int = 0
    passed: int = 0
    lost: int = 0


def segment_name(now: float, token: str | None = None) -> str:
    """Return a name for a new segment: names sort by time, and 96 random bits make each its own."""
    moment = datetime.fromtimestamp(now, UTC)
    return f"{moment:%Y%m%dT%H%M%S%fZ}-{token or secrets.token_hex(12)}"


def create_segment(
    directory: Path, name: str, header: Mapping[str, Any], write: Callable[[int, bytes], int]
) -> SegmentFile:
    """Make, lock, head and name a new segment.

    Raises:
        OSError: The disk refused; nothing is left behind.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = directory / f"{name}.tmp"
    descriptor = os.open(made, _FLAGS, 0o600)
    line = encode_line(to_json({"header": header}))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write_whole(descriptor, line, write)
        made.rename(directory / f"{name}.seg")
    except BaseException:
        os.close(descriptor)
        made.unlink(missing_ok=True)
        raise
    return SegmentFile(descriptor, len(line), len(line))


def write_segment(directory: Path, name: str, header: Mapping[str, Any], payloads: Iterable[bytes]) -> int:
    """Make a whole, closed segment at once, durably, and return how many records it holds.

    Raises:
        OSError: The disk refused; nothing is left behind.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = directory / f"{name}.tmp"
    count = 0
    try:
        with os.fdopen(os.open(made, _FLAGS, 0o600), "wb") as file:
            file.write(encode_line(to_json({"header": header})))
            for count, payload in enumerate(payloads, 1):  # noqa: B007 - the last one is the number of them
                file.write(encode_line(payload))
            file.write(encode_line(to_json({"closed": {"records": count}})))
            file.flush()
            os.fdatasync(file.fileno())
        made.rename(directory / f"{name}.seg")
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    return count


def _write_whole(descriptor: int, line: bytes, write: Callable[[int, bytes], int]) -> None:
    if write(descriptor, line) != len(line):
        raise OSError(errno.ENOSPC, "short write")


def directory_bytes(directory: Path) -> int:
    """Return the size of a spool directory's own files in bytes."""
    with os.scandir(directory) as entries:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in entries if entry.is_file())
