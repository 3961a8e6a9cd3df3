"""
Dead letters: what could not be rated, or what a sink refused for good.

Format of `dead/<origin>-<segment>.jsonl`, origin `rating` or the sink's name: one JSON object per line, `{"at",
"reason", "record_id", ...}` and either `usage`, the line as it was spooled (and `sinks`, those it was for), or
`charges`, the rows that were refused.

A file named `dead/retry` asks whoever holds the ship lock to put all letters back. Those of one file become a segment
of their own, owed to the sink that refused them, in which a letter is its `usage`, or a line `{"charges": [...]}` that
is not rated again. The file is then called `<origin>-<segment>.<new segment>` and goes when that segment goes.

Invariant: a letter is on disk before delivery moves on; after a crash in between it may stand there twice. It leaves
only when its sink has it, or when a new letter says why not.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from livekit_costmeter.delivery.files.segment import segment_name, write_segment
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.records import Charge, charge_from_fields, format_instant

RATING = "rating"
_FLAGS = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
_CHARGES = b'{"charges":'


def ask_for_retry(directory: Path) -> bool:
    """Ask whoever holds the ship lock to put the letters back; tell whether there are any."""
    if not _letter_files(directory / "dead"):
        return False
    (directory / "dead" / "retry").touch(mode=0o600)
    return True


def count_letters(directory: Path) -> dict[str, int]:
    """Count the letters of each origin."""
    counts: dict[str, int] = {}
    for path in _letter_files(directory / "dead"):
        with path.open("rb") as file:
            counts[_origin(path)] = counts.get(_origin(path), 0) + sum(1 for _ in file)
    return counts


def charges_line(fields: list[dict[str, Any]]) -> bytes:
    """Return the line of a segment for charges that are not rated again, given as their JSON values."""
    return _CHARGES + to_json(fields) + b"}"


def returned_charges(payload: bytes) -> list[Charge] | None:
    """Return the charges of a line that is not rated again, `None` where a line is anything else."""
    if not payload.startswith(_CHARGES):
        return None
    return [charge_from_fields(values) for values in from_json(payload)["charges"]]


def _letter_files(dead: Path) -> list[Path]:
    return sorted(dead.glob("*.jsonl"))


def _origin(path: Path) -> str:
    # `<origin>-<time>-<token>`, and the name of a sink may have dashes.
    return path.name.partition(".")[0].rsplit("-", 2)[0]


class DeadLetters:
    """Keeps what cannot be delivered in `<spool directory>/dead`, with its reason."""

    def __init__(self, directory: Path, *, notices: Notices, clock: Callable[[], float] = time.time) -> None:
        self._spool = directory
        self._directory = directory / "dead"
        self._notices = notices
        self._clock = clock
        self._lock = threading.Lock()

    def keep(self, origin: str, segment: str, *, reason: str, **content: Any) -> None:
        """Append one letter, durably.

        Raises:
            OSError: The disk refused; the caller must not move on.
        """
        at = format_instant(datetime.fromtimestamp(self._clock(), UTC))
        line = to_json({"at": at, "reason": reason, **content}) + b"\n"
        self._directory.mkdir(mode=0o700, exist_ok=True)
        with self._lock:
            self._append(self._directory / f"{origin}-{segment}.jsonl", line)
        self._notices.warning("record went to the dead letters", about=origin, origin=origin, reason=reason)

    def _append(self, path: Path, line: bytes) -> None:
        descriptor = os.open(path, _FLAGS, 0o600)
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, "short write of a dead letter")
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def put_back(self, sinks: Collection[str]) -> int:
        """Put the letters back if that was asked for, and return how many; those of sinks not named stay.

        Raises:
            OSError: The disk refused; what is not put back yet is put back by the next call.
        """
        asked = self._directory / "retry"
        if not asked.exists():
            return 0
        count = 0
        with self._lock:
            for path in [*_letter_files(self._directory), *self._interrupted()]:
                if _origin(path) in (RATING, *sinks):
                    count += self._put_back(path)
                else:
                    self._notices.warning("dead letters of a sink that is not configured stay", sink=_origin(path))
        asked.unlink()
        return count

    def _interrupted(self) -> list[Path]:
        """Return the files that were renamed for a segment which, because of a crash, was never made."""
        renamed = [path for path in self._directory.glob("*.*") if path.suffix != ".jsonl"]
        return [path for path in renamed if not (self._spool / f"{path.suffix[1:]}.seg").exists()]

    def _put_back(self, path: Path) -> int:
        name = segment_name(self._clock())
        renamed = path.rename(path.with_suffix(f".{name}"))
        origin = _origin(path)
        owed = [origin] if origin != RATING else next(_letters(renamed), {}).get("sinks")
        created_at = format_instant(datetime.fromtimestamp(self._clock(), UTC))
        header = {"format": 1, "created_at": created_at, "pid": os.getpid(), "sinks": owed, "letters": path.name}
        return write_segment(self._spool, name, header, _payloads(renamed))

    def settle(self, segment: str) -> None:
        """Let go of the letters that were put back into a segment, because it is delivered."""
        for path in self._directory.glob(f"*.{segment}"):
            path.unlink(missing_ok=True)


def _payloads(path: Path) -> Iterator[bytes]:
    seen: set[bytes] = set()
    for letter in _letters(path):
        payload = _payload(letter)
        digest = blake2b(payload, digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield payload


def _letters(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        yield from map(_letter, file)


def _letter(line: bytes) -> dict[str, Any]:
    try:
        letter = from_json(line)
    except ValueError:  # half a letter: what was refused is not acknowledged either, and comes again
        return {"usage": line.decode(errors="replace").rstrip("\n")}
    return letter if isinstance(letter, dict) else {"usage": line.decode().rstrip("\n")}


def _payload(letter: dict[str, Any]) -> bytes:
    if "charges" in letter:
        return charges_line(letter["charges"])
    return str(letter.get("usage", "")).replace("\n", " ").encode()
