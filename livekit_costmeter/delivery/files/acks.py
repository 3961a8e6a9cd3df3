"""
Acknowledgements: how far one sink has committed one segment.

Format of `<segment>.<sink>.ack`: `{"charges": offset in <segment>.charges, "segment": the source offset in the segment
that this corresponds to}`. Replaced by rename, so it is one state or the next. Invariant: it is written only after the
sink's commit, and where it is missing or damaged it counts as zero, because sinks ignore what they have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import from_json, to_json

SINK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""What a sink may be called: its name is part of file names."""


@dataclass(frozen=True, slots=True)
class Ack:
    """How far one sink has committed one segment: byte offsets into the charges file and into the segment."""

    charges: int = 0
    segment: int = 0


def ack_path(directory: Path, segment: str, sink: str) -> Path:
    """Return where a sink's acknowledgement of a segment lies."""
    return directory / f"{segment}.{sink}.ack"


def read_ack(path: Path) -> Ack:
    """Return an acknowledgement, zero where there is none or it is damaged."""
    try:
        values = from_json(path.read_bytes())
        return Ack(int(values["charges"]), int(values["segment"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Ack()


def write_ack(path: Path, ack: Ack) -> None:
    """Replace an acknowledgement."""
    made = path.with_name(path.name + ".tmp")
    made.write_bytes(to_json({"charges": ack.charges, "segment": ack.segment}))
    made.chmod(0o600)
    made.rename(path)
