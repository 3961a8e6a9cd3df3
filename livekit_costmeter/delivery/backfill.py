"""
Copying a ledger: every charge of one sink into another, in the order of the source, whole records at a time.

Format of `backfill-<from>-<to>.json` in the spool directory, which is there as long as a copy is unfinished:
`{"rows": how many rows of the source are done, "digest": of the keys of those, "refused": how many records of them the
target refused, "last": [at, record_id, line] of the last row that it took}`. Its holder has it locked (`flock`).

Invariant: a row is skipped only if the source still begins with exactly the rows that were done, and the target, where
it can be read, still has the last of them. Otherwise the copy begins anew, which is harmless: targets ignore what they
have. The file is written after the target's commit, so a kill in between sends one batch again.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from pydantic_core import from_json, to_json

from livekit_costmeter.delivery.sinks import RejectedRecords, Sink, SinkError
from livekit_costmeter.records import Charge, format_instant, parse_instant

_FLAGS = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
_BATCH_ROWS = 2_000
_LARGEST_FILE = 1 << 16


class Source(Protocol):
    """Where charges are copied from: any readable sink."""

    def read(self, since: datetime | None, until: datetime | None) -> Iterator[Charge]:
        """Stream the charges, the rows of one record one after another."""
        ...


@dataclass(slots=True)
class Copied:
    """What a copy has done so far: rows `sent`, records `rejected` and why; and `skipped` and `refused` before that."""

    skipped: int = 0
    refused: int = 0
    sent: int = 0
    rejected: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Count the rows of the source that are done."""
        return self.skipped + self.sent


class Backfill:
    """One copy from a source into a target; `copied` says how far it is."""

    def __init__(
        self,
        source: Source,
        target: Sink,
        path: Path,
        *,
        batch_rows: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.copied = Copied()
        self._source = source
        self._target = target
        self._path = path
        self._batch_rows = batch_rows or int(getattr(target, "batch_rows", _BATCH_ROWS))
        self._progress = progress
        self._keys = blake2b(digest_size=16)
        self._last: list[Any] | None = None

    def run(self) -> Copied:
        """Copy what is not copied yet.

        Raises:
            SinkError: One of the two cannot go on (run it again, it goes on from there), or another copy runs.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, _FLAGS, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._target.open()
            self._copy(descriptor)
            self._path.unlink(missing_ok=True)
        except BlockingIOError:
            raise SinkError(f"{self._path}: another process is copying this") from None
        finally:
            os.close(descriptor)
        return self.copied

    def _copy(self, descriptor: int) -> None:
        with closing(self._rest(_read(descriptor))) as rows:
            for batch in _batches(rows, self._batch_rows):
                self._write(batch)
                for charge in batch:
                    self._keys.update(_key(charge))
                self.copied.sent += len(batch)
                _write(descriptor, self._state())
                if self._progress is not None:
                    self._progress(self.copied.rows)

    def _rest(self, state: dict[str, Any]) -> Any:
        """Return the rows that are still to be sent."""
        rows: Any = self._source.read(None, None)
        if not self._has(state.get("last")):
            return rows
        for charge in islice(rows, state["rows"]):
            self._keys.update(_key(charge))
            self.copied.skipped += 1
        if self.copied.skipped == state["rows"] and self._keys.hexdigest() == state["digest"]:
            self.copied.refused, self._last = state["refused"], state["last"]
            return rows
        rows.close()
        self._keys, self.copied.skipped = blake2b(digest_size=16), 0
        return self._source.read(None, None)

    def _has(self, last: list[Any] | None) -> bool:
        """Tell whether the target has a row; where it cannot be read, it is believed."""
        if last is None:
            return False
        target: Any = self._target
        if not getattr(target, "readable", False):
            return True
        at = parse_instant(last[0])
        with closing(target.read(at, at + timedelta(microseconds=1))) as rows:
            return any([charge.record_id, charge.line] == last[1:] for charge in rows)

    def _write(self, batch: Sequence[Charge]) -> None:
        while batch:
            try:
                self._target.write(batch)
            except RejectedRecords as error:
                rest = [charge for charge in batch if charge.record_id not in error.rejected]
                if len(rest) == len(batch):
                    raise SinkError("the sink rejected records that it was not given") from None
                self.copied.rejected.update(error.rejected)
                batch = rest
            else:
                self._last = [format_instant(batch[-1].at), batch[-1].record_id, batch[-1].line]
                return

    def _state(self) -> dict[str, Any]:
        refused = self.copied.refused + len(self.copied.rejected)
        return {"rows": self.copied.rows, "digest": self._keys.hexdigest(), "refused": refused, "last": self._last}


def _batches(rows: Iterator[Charge], size: int) -> Iterator[list[Charge]]:
    batch: list[Charge] = []
    for charge in rows:
        if len(batch) >= size and charge.record_id != batch[-1].record_id:
            yield batch
            batch = []
        batch.append(charge)
    if batch:
        yield batch


def _key(charge: Charge) -> bytes:
    return f"{charge.record_id} {charge.line}\n".encode(errors="surrogatepass")


def _read(descriptor: int) -> dict[str, Any]:
    try:
        state = from_json(os.pread(descriptor, _LARGEST_FILE, 0))
        at, record_id, line = state["last"]
        last = [format_instant(parse_instant(at)), str(record_id), int(line)]
        return {"rows": int(state["rows"]), "refused": int(state["refused"]), "digest": state["digest"], "last": last}
    except (ValueError, KeyError, TypeError):
        return {}  # nothing was taken yet, or it is damaged


def _write(descriptor: int, state: dict[str, Any]) -> None:
    line = to_json(state)
    os.pwrite(descriptor, line, 0)
    os.ftruncate(descriptor, len(line))
