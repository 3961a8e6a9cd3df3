"""
The audit sidecar of a spool: what LiveKit's own session usage said, session by session, kept for reports.

Format of `audit.jsonl`: checksummed lines (see `files.lines`), one per audit record, `{"id", "at", "started_at",
"session_id", "project", "account", "livekit": [...]}`; the last as in the record (`livekit_costmeter.records.audit`).
Over 16 MiB the file becomes `audit.1.jsonl`, in place of the one before, and a new one is begun.

Invariant: only the holder of the ship lock writes, and a line is on disk before the record counts as rated. After a
crash in between it may stand there twice, so reading takes each id once. A sidecar that cannot be written is said and
never stops the shipping.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pydantic_core import from_json, to_json

from livekit_costmeter.delivery.backlog import opened
from livekit_costmeter.delivery.files.lines import encode_line, read_lines
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.log import log
from livekit_costmeter.records import (
    LIVEKIT_KEY,
    InvalidRecord,
    SessionAudit,
    UsageRecord,
    format_instant,
    is_audit,
    livekit_fields,
    parse_instant,
    parse_livekit,
)

MAX_BYTES = 16 << 20
_FLAGS = os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC


def current_path(directory: Path) -> Path:
    """Return where the sidecar of a spool directory is written."""
    return directory / "audit.jsonl"


def previous_path(directory: Path) -> Path:
    """Return where the sidecar lies that was full."""
    return directory / "audit.1.jsonl"


class AuditSidecar:
    """Keeps audit records; used by whoever rates, which is the holder of the ship lock."""

    def __init__(self, directory: Path, *, notices: Notices, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self._notices = notices
        self._max_bytes = max_bytes

    def keep(self, record: UsageRecord) -> None:
        """Append a record, durably, if it is an audit record; any other is none of its business."""
        if not is_audit(record):
            return
        try:
            self._append(encode_line(_payload(record)))
        except (OSError, InvalidRecord) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._notices.warning("a session's audit cannot be kept, shipping goes on", reason=reason)

    def _append(self, line: bytes) -> None:
        path = current_path(self._directory)
        if path.exists() and path.stat().st_size >= self._max_bytes:
            path.replace(previous_path(self._directory))
        descriptor = os.open(path, _FLAGS, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # what a crash left half written must not take this line with it
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, "short write of an audit")
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def _payload(record: UsageRecord) -> bytes:
    return to_json(
        {
            "id": record.id,
            "at": format_instant(record.at),
            "started_at": None if record.started_at is None else format_instant(record.started_at),
            "session_id": record.session_id,
            "project": record.project,
            "account": record.account,
            LIVEKIT_KEY: livekit_fields(parse_livekit(record.attributes[LIVEKIT_KEY])),
        }
    )


def read_audits(directory: Path, since: datetime | None = None, until: datetime | None = None) -> list[SessionAudit]:
    """Return the sessions that ended with `since` <= `at` < `until`, oldest first, each audit record once.

    What is damaged, or was written by a release that says it differently, is passed over with a warning. Without a
    sidecar there is nothing to return.

    Raises:
        OSError: There is one, and it cannot be opened.
    """
    found: dict[str, SessionAudit] = {}
    # The current file first: it may become the previous one in between, and is then read twice rather than not at all.
    for path in (current_path(directory), previous_path(directory)):
        for audit in _read(path):
            if (since is None or audit.at >= since) and (until is None or audit.at < until):
                found.setdefault(audit.id, audit)
    return sorted(found.values(), key=lambda audit: (audit.at, audit.id))


def _read(path: Path) -> Iterator[SessionAudit]:
    try:
        with opened(path) as descriptor:
            payloads = [line.payload for line in read_lines(descriptor)]
    except FileNotFoundError:
        return
    audits = [_parse(payload) if payload else None for payload in payloads]
    if None in audits:
        log().warning("lines of the audit sidecar cannot be read", path=str(path), lines=audits.count(None))
    yield from filter(None, audits)


def _parse(payload: bytes) -> SessionAudit | None:
    try:
        values = from_json(payload)
        started_at = values["started_at"]
        return SessionAudit(
            values["id"],
            parse_instant(values["at"]),
            None if started_at is None else parse_instant(started_at),
            values["session_id"],
            values["project"],
            values["account"],
            parse_livekit(values[LIVEKIT_KEY]),
        )
    except (ValueError, KeyError, TypeError):  # InvalidRecord is a ValueError
        return None
