"""
Charges as they are rated: what is new in the charges files of a spool directory, before any sink has it.

Invariant: a line is taken when it is whole, and once. The files that grew last are held open, so that what is written
just before a segment is deleted is still read. A segment that comes and goes between two looks is not seen here, nor
what was rated in memory because the disk was full; both are in the sinks by then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from livekit_costmeter.delivery.files.charges import HEADER, charge_lines, decode_charges, has_header
from livekit_costmeter.log import log
from livekit_costmeter.records import Charge

_HELD = 64
_LONGEST = 1 << 20
_SUFFIX = ".charges"


@dataclass(slots=True)
class _File:
    """How far a charges file was read, and its descriptor while it is held open."""

    inode: int
    offset: int = 0
    descriptor: int | None = None
    readable: bool | None = None

    def release(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


class RatedCharges:
    """The charges that are rated in a spool directory from the first look on, or with `history` all that are there."""

    def __init__(self, directory: Path, *, history: bool, held: int = _HELD) -> None:
        self._directory = directory
        self._files: dict[str, _File] = {}
        self._skip = not history
        self._held = held

    def look(self) -> Iterator[Charge]:
        """Yield what is new since the last look, in the order in which segments were begun."""
        present = self._sizes()
        for name in sorted(self._files.keys() - present.keys()):
            yield from self._last_of(name)
        for name, (inode, size) in sorted(present.items()):
            file = self._files.get(name)
            if file is None or file.inode != inode or size < file.offset:  # or begun anew, to be rated again
                self._forget(name)
                file = self._files[name] = _File(inode)
                if self._skip:
                    file.offset = self._end_of(name, file, size)
            if size > file.offset:
                yield from self._news(name, file)
        self._skip = False

    def close(self) -> None:
        """Let go of all files; idempotent."""
        for name in list(self._files):
            self._forget(name)

    def _sizes(self) -> dict[str, tuple[int, int]]:
        sizes = {}
        with suppress(FileNotFoundError), os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    with suppress(FileNotFoundError):
                        stat = entry.stat()
                        sizes[entry.name] = stat.st_ino, stat.st_size
        return sizes

    def _last_of(self, name: str) -> Iterator[Charge]:
        """Read the rest of a file that was deleted, if it is held open."""
        file = self._files[name]
        if file.descriptor is not None:
            yield from self._read(name, file)
        self._forget(name)

    def _news(self, name: str, file: _File) -> Iterator[Charge]:
        if self._hold(name, file) is not None:
            yield from self._read(name, file)

    def _end_of(self, name: str, file: _File, size: int) -> int:
        """Return where the last whole line of a file ends; what follows it is being written."""
        descriptor = self._hold(name, file)
        if descriptor is None:
            return size
        start = max(0, size - _LONGEST)
        return start + os.pread(descriptor, size - start, start).rfind(b"\n") + 1

    def _hold(self, name: str, file: _File) -> int | None:
        """Have a file open, at the cost of the one that has not grown for longest; `None` where it is gone."""
        if file.descriptor is None:
            try:
                file.descriptor = os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
        self._files[name] = self._files.pop(name)
        held = [other for other in self._files.values() if other.descriptor is not None]
        for other in held[: -self._held]:
            other.release()
        return file.descriptor

    def _read(self, name: str, file: _File) -> Iterator[Charge]:
        assert file.descriptor is not None
        if file.readable is None and os.fstat(file.descriptor).st_size >= len(HEADER):
            file.readable = has_header(file.descriptor)
            if not file.readable:
                log().warning("charges of another release are shown once a sink has them", segment=name)
        if not file.readable:
            return
        for end, payload in charge_lines(file.descriptor, file.offset):
            if payload is None:
                return  # half written by a crash; its place is written anew
            file.offset = end
            yield from decode_charges(payload)[1]

    def _forget(self, name: str) -> None:
        file = self._files.pop(name, None)
        if file is not None:
            file.release()
