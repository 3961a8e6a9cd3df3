"""
What an operator has let go of: segments that owe a sink nothing any more.

Format of `forgotten/<sink>` in the spool directory: one name of a segment per line, those that were there when the
operator said so. Replaced by rename. Whoever holds the ship lock heeds it, now or when it takes over, so that it can be
said while a worker ships.

Invariant: only segments that are named owe less. One that is made later owes all that its header lists.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from livekit_costmeter.delivery.files.acks import SINK_NAME

Forgotten = Mapping[str, Collection[str]]
"""Sink to segments that owe it nothing."""

_FRESH = 60.0


def let_go(directory: Path, sink: str, segments: Collection[str]) -> None:
    """Have these segments owe the sink nothing, and those that were named before.

    Raises:
        OSError: The spool cannot be written.
        ValueError: No sink can have this name.
    """
    if not SINK_NAME.fullmatch(sink):
        raise ValueError(f"sink name {sink!r} is not letters, digits, - and _")
    path = directory / "forgotten" / sink
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = path.with_name(f"{sink}.{os.getpid()}.tmp")
    made.touch(mode=0o600)
    made.write_text("".join(f"{name}\n" for name in sorted({*segments, *_read(path)})))
    made.rename(path)


def read_forgotten(directory: Path) -> dict[str, frozenset[str]]:
    """Return what was let go of; empty where nothing was."""
    try:
        paths = list((directory / "forgotten").iterdir())
    except FileNotFoundError:
        return {}
    return {path.name: _read(path) for path in paths if SINK_NAME.fullmatch(path.name)}


def _read(path: Path) -> frozenset[str]:
    try:
        return frozenset(path.read_text().split())
    except FileNotFoundError:
        return frozenset()


def sweep_forgotten(directory: Path, segments: Collection[str], *, clock: Callable[[], float] = time.time) -> None:
    """Remove what names only segments that are gone; a request that was just made is left alone."""
    for sink, named in read_forgotten(directory).items():
        path = directory / "forgotten" / sink
        if named.isdisjoint(segments) and clock() - path.stat().st_mtime > _FRESH:
            path.unlink(missing_ok=True)
