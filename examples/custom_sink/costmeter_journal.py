"""
A journal: one line per charge, columns of fixed width for people, the charge as JSON behind them.

    at (27)  account (20)  provider/model (32)  unit (26)  quantity (20, right)  cost (20, right)  currency (3)  JSON

Texts that are too long for their column are cut there; the JSON has them whole, and only the JSON is read back.

Invariant: one line per (`record_id`, `line`), the first one written. Several processes may share the file: who appends
holds its lock and has read what the others appended. A line without an end was left by a crash and never acknowledged;
it is cut off before the next one is written.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, SinkError
from livekit_costmeter.records import Charge, charge_json, decimal_text, format_instant, parse_charge

Key = tuple[str, int]


class JournalSink:
    """Append charges to a journal file."""

    readable = True

    class Options(BaseModel):
        """`path` of the file; `max_line` in bytes; another writer is waited for `timeout` seconds."""

        model_config = ConfigDict(extra="forbid")
        path: Path
        max_line: int = Field(default=65_536, ge=1_024)
        timeout: float = Field(default=10.0, gt=0)

    def __init__(self, options: Options) -> None:
        self._options = options
        self._path = options.path
        self._keys: set[Key] = set()
        self._known = 0

    def open(self) -> None:
        """Read which rows are there."""
        with self._locked() as file:
            self._catch_up(file)

    def write(self, charges: Sequence[Charge]) -> None:
        """Append the rows that are new, durably."""
        with self._locked() as file:
            self._catch_up(file)
            new: dict[Key, bytes] = {}
            for charge in charges:
                key = (charge.record_id, charge.line)
                if key not in self._keys and key not in new:
                    new[key] = _line(charge)
            self._refuse_too_long(new)
            self._append(file, b"".join(new.values()))
            self._keys.update(new)

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                self._lock(file)
                yield file
        except OSError as error:
            # A full disk or a missing folder is an operator's to mend; the batch comes again.
            raise RetryableError(f"{self._path}: {error.strerror or error}") from None

    def _lock(self, file: BinaryIO) -> None:
        deadline = time.monotonic() + self._options.timeout
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RetryableError(f"{self._path}: another process holds it") from None
                time.sleep(0.02)
            else:
                return

    def _catch_up(self, file: BinaryIO) -> None:
        size = os.fstat(file.fileno()).st_size
        if size < self._known:  # it was replaced by another file
            self._forget()
        file.seek(self._known)
        for line in _lines(file):
            charge = _charge(line, self._path)
            self._keys.add((charge.record_id, charge.line))
            self._known += len(line)
        if self._known < size:
            file.truncate(self._known)

    def _refuse_too_long(self, new: dict[Key, bytes]) -> None:
        limit = self._options.max_line
        too_long = {record: f"a line of {len(line)} bytes" for (record, _), line in new.items() if len(line) > limit}
        if too_long:
            raise RejectedRecords(too_long)

    def _append(self, file: BinaryIO, rows: bytes) -> None:
        file.seek(self._known)
        if file.write(rows) < len(rows):
            file.truncate(self._known)
            raise RetryableError(f"{self._path}: the disk is full")
        os.fdatasync(file.fileno())
        self._known += len(rows)

    def check(self) -> str:
        """Read the file and count its rows."""
        if not self._path.parent.is_dir():
            raise SinkError(f"{self._path}: no such directory")
        self.open()
        return f"{self._path}: {len(self._keys)} rows"

    def read(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Charge]:
        """Yield the rows between two instants as they were written; nothing where there is no file yet."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for line in _lines(file):
                charge = _charge(line, self._path)
                if (since is None or charge.at >= since) and (until is None or charge.at < until):
                    yield charge

    def close(self) -> None:
        """Forget what was read; idempotent."""
        self._forget()

    def _forget(self) -> None:
        self._keys.clear()
        self._known = 0


def _line(charge: Charge) -> bytes:
    cost = "" if charge.cost is None else decimal_text(charge.cost)
    columns = (
        format_instant(charge.at),
        _cut(charge.account or "", 20),
        _cut(f"{charge.provider}/{charge.model}", 32),
        f"{charge.unit:26}",
        f"{decimal_text(charge.quantity):>20}",
        f"{cost:>20}",
        f"{charge.currency or '':3}",
    )
    return "  ".join(columns).encode() + b"  " + charge_json(charge) + b"\n"


def _cut(text: str, width: int) -> str:
    plain = "".join(letter if letter.isprintable() else " " for letter in text).replace("{", "(")
    return f"{plain[:width]:{width}}"


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield whole lines from where the file stands."""
    rest = b""
    while chunk := file.read(1 << 20):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)


def _charge(line: bytes, path: Path) -> Charge:
    try:
        return parse_charge(line[line.index(b"{") :])
    except ValueError as error:
        raise SinkError(f"{path}: a line is no charge: {error}") from None
