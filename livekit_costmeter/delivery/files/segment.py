"""
One open segment file, as its writer holds it.

Invariant: the file is locked before it has its final name, and the lock goes before the descriptor does, so that a
finished segment counts as dead while its writer still reads from it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
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

    def read(self, offset: int) -> list[bytes]:
        """Return the payloads from a byte offset to the end of the view."""
        try:
            data = os.pread(self.descriptor, self.end - offset, offset)
        finally:
            os.close(self.descriptor)
        payloads = map(decode_line, data.split(b"\n")[:-1])
        return [payload for payload in payloads if payload is not None]


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


def _write_whole(descriptor: int, line: bytes, write: Callable[[int, bytes], int]) -> None:
    if write(descriptor, line) != len(line):
        raise OSError(errno.ENOSPC, "short write")


def directory_bytes(directory: Path) -> int:
    """Return the size of a spool directory's own files in bytes."""
    with os.scandir(directory) as entries:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in entries if entry.is_file())
