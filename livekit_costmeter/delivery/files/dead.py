"""
Dead letters: what could not be rated, or what a sink refused for good.

Format of `dead/<origin>-<segment>.jsonl`, origin `rating` or the sink's name: one JSON object per line, `{"at",
"reason", "record_id", ...}` and either `usage`, the line as it was spooled, or `charges`, the rows that were refused.
Invariant: a letter is on disk before delivery moves on; after a crash in between it may stand there twice.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.records import format_instant

_FLAGS = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC


class DeadLetters:
    """Keeps what cannot be delivered in `<spool directory>/dead`, with its reason."""

    def __init__(self, directory: Path, *, notices: Notices, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory / "dead"
        self._notices = notices
        self._clock = clock

    def keep(self, origin: str, segment: str, *, reason: str, **content: Any) -> None:
        """Append one letter, durably.

        Raises:
            OSError: The disk refused; the caller must not move on.
        """
        at = format_instant(datetime.fromtimestamp(self._clock(), UTC))
        line = to_json({"at": at, "reason": reason, **content}) + b"\n"
        self._directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self._directory / f"{origin}-{segment}.jsonl", _FLAGS, 0o600)
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, "short write of a dead letter")
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._notices.warning("record went to the dead letters", about=origin, origin=origin, reason=reason)
