"""
The spool's writer: one process appends its usage records to segment files of its own.

Invariant: once `append` has returned an id, the record outlives the process; only the owner appends to a segment.

A segment is `<directory>/<name>.seg`, where the name is `<UTC time>-<random hex>`, made as `<name>.tmp`, locked
(`flock`, held for life: "alive"), given its header, then renamed, so that nobody adopts it early. It consists of
checksummed lines (see `files.lines`):

- first `{"header": {"format": 1, "created_at": ..., "pid": ..., "dropped": ..., "sinks": [...], ...}}`, where `dropped`
  counts records that this process had to drop since its segment before; the caller gives the rest;
- then one usage record per line, `id` = `<name>-<sequence>`, sequences from 0 without gaps. Records that the disk
  refused for a while keep the id they were given and may follow in a later segment;
- last, in a segment that was closed and not killed, `{"closed": {"records": N}}`, N counting the lines of this file.

A segment in which a write failed is abandoned where it tore. While the disk refuses, a bounded tail of lines waits in
memory and is retried on later appends; what overflows it is counted and logged.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from livekit_costmeter.delivery.files.lines import encode_line
from livekit_costmeter.delivery.files.locks import watch_forks
from livekit_costmeter.delivery.files.segment import (
    Cursor,
    SegmentFile,
    SegmentView,
    SpoolStats,
    create_segment,
    directory_bytes,
    segment_name,
    write_segment,
)
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.records import format_instant

MAX_SEGMENT_BYTES = 16 << 20
_KEPT_FILES = 4
_DRAIN_AT_ONCE = 256
_LONGEST_WAIT = 5.0


class Spool:
    """Append usage records to segments in `directory`; opens nothing before the first append."""

    def __init__(
        self,
        directory: Path,
        *,
        header: Mapping[str, Any],
        max_bytes: int,
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
        max_tail: int = 10_000,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        token: Callable[[], str] = lambda: secrets.token_hex(12),
        pid: Callable[[], int] = os.getpid,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self._directory = directory
        self._header = header
        self._max_bytes = max_bytes
        self._max_segment_bytes = max_segment_bytes
        self._max_tail = max_tail
        self._clock = clock
        self._monotonic = monotonic
        self._token = token
        self._pid = pid
        self._write = write
        self._notices = Notices(monotonic=monotonic)
        self._reset()
        watch_forks(self)

    def _reset(self) -> None:
        self._owner = self._pid()
        self._lock = threading.Lock()
        self._file: SegmentFile | None = None
        self._kept: list[SegmentFile] = []
        self._names: list[str] = []
        self._lost: list[SegmentView] = []
        self._tail: deque[bytes] = deque()
        self._name, self._encoded_name = "", b""
        self._sequence = 0
        self._appended = self._dropped = self._refused = self._told = 0
        self._wait = 0.0
        self._retry_at = 0.0

    def append(self, members: bytes, more: bytes = b"") -> str | None:
        """Give a record its id, append it as one line and return the id.

        `members` and `more`, one after the other, are the record as a JSON object (by `USAGE_FIELDS`) without its id
        and its opening brace. Returns `None` if the disk refused the line (it waits in memory, or was dropped and
        counted). Never raises.
        """
        try:
            with self._lock:
                if not self._name:
                    self._take_name()
                sequence = self._sequence
                self._sequence = sequence + 1
                line = encode_line(b'{"id":"%b-%d",%b%b' % (self._encoded_name, sequence, members, more))
                identity = f"{self._name}-{sequence}"
                if self._file is not None and not self._tail and self._put(self._file, line):
                    return identity
                self._hold(line)
                self._drain(_DRAIN_AT_ONCE)
                return None if self._tail else identity
        except Exception as error:
            self._dropped += 1
            self._notices.warning("usage record dropped: it cannot be written", error=type(error).__name__)
            return None

    def _take_name(self) -> None:
        self._name = segment_name(self._clock(), self._token())
        self._encoded_name = self._name.encode()
        self._sequence = 0

    def _put(self, file: SegmentFile, line: bytes) -> bool:
        try:
            written = self._write(file.descriptor, line)
        except OSError as error:
            self._abandon(error.strerror or "write failed")
            return False
        if written != len(line):
            self._abandon("short write")
            return False
        file.size += written
        file.records += 1
        self._appended += 1
        if file.size >= self._max_segment_bytes:
            self._finish()
            self._watch_size()
        return True

    def _abandon(self, reason: str) -> None:
        # No closing line: nothing may follow a torn one.
        if self._file is not None:
            self._keep(self._file)
        self._file, self._name = None, ""
        self._back_off(reason)

    def _back_off(self, reason: str) -> None:
        self._refused += 1
        self._wait = min(_LONGEST_WAIT, self._wait * 2 or 0.05)
        self._retry_at = self._monotonic() + self._wait
        self._notices.warning("spool cannot be written, usage waits in memory", reason=reason, waiting=len(self._tail))

    def _hold(self, line: bytes) -> None:
        self._tail.append(line)
        if len(self._tail) > self._max_tail:
            self._tail.popleft()
            self._dropped += 1
            self._notices.warning("usage records dropped: the disk refuses and memory is full", dropped=self._dropped)

    def _drain(self, limit: int) -> None:
        if self._wait and self._monotonic() < self._retry_at:
            return
        for _ in range(min(limit, len(self._tail))):
            file = self._file or self._open()
            if file is None or not self._put(file, self._tail[0]):
                return
            self._tail.popleft()
            self._wait = 0.0

    def _open(self) -> SegmentFile | None:
        if not self._name:
            self._take_name()
        dropped = self._dropped - self._told
        try:
            self._file = create_segment(self._directory, self._name, self._full_header(dropped), self._write)
        except OSError as error:
            self._back_off(error.strerror or "open failed")
            return None
        self._told += dropped
        self._names.append(self._name)
        self._file.generation = len(self._names)
        self._file.passed = self._appended
        return self._file

    def _full_header(self, dropped: int) -> dict[str, Any]:
        created_at = format_instant(datetime.fromtimestamp(self._clock(), UTC))
        return {"format": 1, "created_at": created_at, "pid": self._owner, "dropped": dropped, **self._header}

    def look_after(self) -> None:
        """Make the open segment anew, with all that it holds, if it was removed under us; never called on a loop.

        What of it was delivered already is delivered again, which sinks ignore.

        Raises:
            OSError: The disk refused; the next call tries again.
        """
        with self._lock:
            file, path = self._file, self._directory / f"{self._name}.seg"
            if file is not None and not file.lies_at(path):
                self._lost.append(file.view())
                self._keep(file)
                self._file, self._name = None, ""
                self._notices.warning("the spool directory was removed; usage is written anew", path=str(path))
        while self._lost:
            name = segment_name(self._clock(), self._token())
            view = self._lost[0]
            write_segment(self._directory, name, self._full_header(0), view.duplicate().read(view.start))
            self._names.append(name)
            os.close(self._lost.pop(0).descriptor)

    def _finish(self) -> None:
        file = self._file
        if file is None:
            return
        file.close_out(self._write)
        self._keep(file)
        self._file, self._name = None, ""

    def _keep(self, file: SegmentFile) -> None:
        file.unlock()
        self._kept.append(file)
        if len(self._kept) > _KEPT_FILES:
            self._kept.pop(0).release()

    def _watch_size(self) -> None:
        try:
            held = directory_bytes(self._directory)
        except OSError:
            return  # the shipper deleted a file under our eyes; the next segment looks again
        if held > self._max_bytes:
            self._notices.warning("spool is over max_bytes and grows on", bytes=held, max_bytes=self._max_bytes)

    def read_own(self, cursor: Cursor) -> tuple[Cursor, list[bytes]]:
        """Return the new cursor and this process's records behind the old one, as JSON payloads; start with `Cursor()`.

        Reads through the spool's own descriptors, so it sees records whose file the shipper has already deleted. One
        reader per spool: what it has read of finished segments is released. `cursor.lost` tells what came too late.
        """
        if cursor.owner != self._owner:
            cursor = Cursor(owner=self._owner)
        payloads: list[bytes] = []
        with self._lock:
            files = [*self._kept, *([self._file] if self._file else [])]
            views = [file.view() for file in files if file.generation >= cursor.generation]
        for view in views:
            skipped = max(0, view.passed - cursor.passed) if view.generation > cursor.generation else 0
            start = cursor.offset if view.generation == cursor.generation else view.start
            found = view.read(start)
            payloads += found
            passed = cursor.passed + skipped + len(found)
            cursor = Cursor(self._owner, view.generation, view.end, passed, cursor.lost + skipped)
        with self._lock:
            while self._kept and self._kept[0].generation < cursor.generation:
                self._kept.pop(0).release()
        return cursor, payloads

    def close(self) -> None:
        """Write what waits and the closing line, and unlock; idempotent. The next append opens a new segment."""
        with self._lock:
            self._retry_at = 0.0
            self._drain(len(self._tail))
            self._finish()
            if self._tail:
                self._notices.warning(
                    "usage is still in memory only, a later append tries again", waiting=len(self._tail)
                )

    @property
    def stats(self) -> SpoolStats:
        """Count what happened so far."""
        return SpoolStats(self._appended, self._dropped, len(self._tail), len(self._names), self._refused)

    @property
    def directory(self) -> Path:
        """Where the segments lie."""
        return self._directory

    @property
    def segments(self) -> tuple[str, ...]:
        """Names of the segments this process has opened, oldest first."""
        return tuple(self._names)

    def after_fork(self) -> None:
        """Let go of the parent's segments in a child, leaving the parent's locks alone."""
        for file in [*self._kept, *([self._file] if self._file else [])]:
            file.release()
        for view in self._lost:
            os.close(view.descriptor)
        self._reset()
