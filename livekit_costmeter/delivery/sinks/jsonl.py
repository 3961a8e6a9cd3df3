"""
The JSON Lines sink: one charge per line, in files that rotate.

`path` is the current file. When it has grown over `max_bytes`, it becomes `<path>.<UTC time>` and a new one is begun;
with `keep`, older ones beyond that number are deleted. Where the clock was set back, the name is made later than the
newest. `<path>.lock` is held (`flock`) while a batch is appended, so several processes may share the files.

Invariant: a row that was written recently is not written again. What may be sent again is what was never
acknowledged, that is the end of what each shipper sent, so it is enough to know the newest rows: `_WINDOW` bytes of
them are read on opening and whatever other processes append is read before the next batch. An index of everything
would cost a second file to keep consistent with the first. `read` leaves out the copies that come from further back.
A batch is one write and one fdatasync; half a line at the end of a file is left by a crash, was never acknowledged,
and is cut off.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import from_json

from livekit_costmeter.delivery.sinks import RetryableError, SinkError
from livekit_costmeter.log import log
from livekit_costmeter.records import Charge, InvalidRecord, charge_json, parse_charge, parse_size

_WINDOW = 32 << 20
_REMEMBERED = 100_000
_STAMP = "%Y%m%dT%H%M%S%fZ"
_FLAGS = os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC


class JsonlSink:
    """Append charges to rotating JSON Lines files."""

    readable = True

    class Options(BaseModel):
        """`path` of the current file; rotate at `max_bytes`; keep that many rotated files (all without it).

        `timeout` is how long to wait for another process that appends, in seconds.
        """

        model_config = ConfigDict(extra="forbid")
        path: Path
        max_bytes: Annotated[int, BeforeValidator(parse_size)] = Field(default=256 << 20, ge=1)
        keep: int | None = Field(default=None, ge=1)
        timeout: float = Field(default=10.0, gt=0)

    def __init__(
        self,
        options: Options,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = options.path
        self._max_bytes = options.max_bytes
        self._keep = options.keep
        self._timeout = options.timeout
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._recent: dict[tuple[str, int], None] = {}
        self._inode = 0
        self._known = 0
        self._is_open = False

    def open(self) -> None:
        """Read the newest rows, to know them when they come again."""
        if self._is_open:
            return
        self._recent.clear()
        self._inode = self._known = 0
        with self._locked():
            self._catch_up()
        self._is_open = True

    def write(self, charges: Sequence[Charge]) -> None:
        """Append the rows that are new with one write, durably."""
        self.open()
        with self._locked():
            self._catch_up()
            new: dict[tuple[str, int], bytes] = {}
            for charge in charges:
                key = (charge.record_id, charge.line)
                if key not in self._recent:
                    new.setdefault(key, charge_json(charge) + b"\n")
            if new:
                self._append(b"".join(new.values()))
                self._remember(new)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            lock = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                self._wait_for(lock)
                yield
            finally:
                os.close(lock)
        except OSError as error:
            raise RetryableError(f"{self._path}: {error.strerror or error}") from None

    def _wait_for(self, lock: int) -> None:
        deadline = self._monotonic() + self._timeout
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._monotonic() > deadline:
                    raise RetryableError(f"{self._path}: another process has been appending for too long") from None
                self._sleep(0.01)
            else:
                return

    def _catch_up(self) -> None:
        """Learn what is in the current file behind what is known, and in the one before it when starting afresh."""
        descriptor = os.open(self._path, _FLAGS, 0o600)
        try:
            stat = os.fstat(descriptor)
            if stat.st_ino != self._inode:
                self._inode, self._known = stat.st_ino, max(0, stat.st_size - _WINDOW)
                if stat.st_size < _WINDOW:
                    self._learn_from_rotated(_WINDOW - stat.st_size)
            self._known = self._learn(descriptor, self._known)
            if self._known < stat.st_size:
                os.ftruncate(descriptor, self._known)
        finally:
            os.close(descriptor)

    def _learn_from_rotated(self, room: int) -> None:
        for path in self._rotated()[-1:]:
            with path.open("rb") as file:
                self._learn(file.fileno(), max(0, os.fstat(file.fileno()).st_size - room))

    def _learn(self, descriptor: int, offset: int) -> int:
        with os.fdopen(os.dup(descriptor), "rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                offset += len(line)
                self._remember(_key(line))
        return offset

    def _remember(self, keys: dict[tuple[str, int], bytes] | dict[tuple[str, int], None]) -> None:
        self._recent.update(dict.fromkeys(keys))
        while len(self._recent) > _REMEMBERED:
            del self._recent[next(iter(self._recent))]

    def _append(self, rows: bytes) -> None:
        if self._known and self._known + len(rows) > self._max_bytes:
            self._rotate()
        descriptor = os.open(self._path, _FLAGS, 0o600)
        try:
            written = os.write(descriptor, rows)
            if written == len(rows):
                os.fdatasync(descriptor)
                self._inode, self._known = os.fstat(descriptor).st_ino, self._known + written
                return
            os.ftruncate(descriptor, self._known)
        finally:
            os.close(descriptor)
        raise RetryableError(f"{self._path}: the disk is full")

    def _rotate(self) -> None:
        self._path.rename(f"{self._path}.{self._stamp()}")
        self._known = 0
        surplus = self._rotated()[: -self._keep] if self._keep else []
        for path in surplus:
            path.unlink()
            log().info("rotated ledger file deleted, as `keep` says", path=str(path))

    def _stamp(self) -> str:
        # By name, the newest file's rows are known when they come again, and the oldest file is deleted.
        stamp = self._now().strftime(_STAMP)
        newest = max((path.name.rpartition(".")[2] for path in self._rotated()), default="")
        if stamp <= newest:
            stamp = (datetime.strptime(newest, _STAMP) + timedelta(microseconds=1)).strftime(_STAMP)  # noqa: DTZ007
        return stamp

    def _rotated(self) -> list[Path]:
        return sorted(self._path.parent.glob(f"{self._path.name}.2*Z"))

    def check(self) -> str:
        """Open the file and say how large the ledger is."""
        if not self._path.parent.is_dir():
            raise SinkError(f"{self._path}: no such directory")
        self.open()
        files = [*self._rotated(), self._path]
        return f"{self._path}: {sum(path.stat().st_size for path in files)} bytes in {len(files)} files"

    def read(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Charge]:
        """Yield the rows between two instants as they were written, each once.

        Streams; telling copies apart costs about 100 bytes of memory per row of the ledger.

        Raises:
            SinkError: A line is no charge.
        """
        seen: set[bytes] = set()
        for path in [*self._rotated(), self._path]:
            for charge in _charges(path):
                digest = blake2b(f"{charge.record_id} {charge.line}".encode(), digest_size=16).digest()
                if digest in seen:
                    continue
                seen.add(digest)
                if (since is None or charge.at >= since) and (until is None or charge.at < until):
                    yield charge

    def close(self) -> None:
        """Forget what was read; idempotent."""
        self._recent.clear()
        self._is_open = False


def _key(line: bytes) -> dict[tuple[str, int], None]:
    try:
        values = from_json(line)
        return {(values["record_id"], values["line"]): None}
    except (ValueError, KeyError, TypeError):
        return {}  # a line of somebody else's; `read` will name it


def _charges(path: Path) -> Iterator[Charge]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield parse_charge(line)
            except InvalidRecord as error:
                raise SinkError(f"{path}:{number}: {error}") from None
