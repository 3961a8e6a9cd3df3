"""
How a spool's delivery goes, in numbers that outlive the process that counted them.

Format of `status.json` in the spool directory: `{"since", "at", "pid", "rating": {...}, "sinks": {name: {...}}}`, the
inner objects with the fields of `RatingTally` and `SinkStatus`. Counters run from `since` on, over all shippers of the
directory; instants are ISO 8601, `null` where something has not happened. Replaced by rename.

Invariant: only the holder of the ship lock writes it, and nothing is decided by it: a file that is missing, damaged or
some seconds old (its writer was killed) costs a count in a report and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import from_json, to_json

from livekit_costmeter.records import format_instant, parse_instant

T = TypeVar("T")


@dataclass(slots=True)
class RatingTally:
    """What was found in the spool: records `appended`, `dropped` by their writers (as far as those could say), ..."""

    appended: int = 0
    charges: int = 0
    unpriced: int = 0
    estimated: int = 0
    rejected: int = 0
    dropped: int = 0
    corrupt: int = 0
    torn: int = 0
    gaps: int = 0


@dataclass(slots=True)
class SinkStatus:
    """One sink: what it took, refused and still lacks. `pending_bytes` are of usage; times are epoch seconds."""

    records: int = 0
    rows: int = 0
    retries: int = 0
    rejected: int = 0
    pending_bytes: int = 0
    oldest_at: float | None = None
    last_success: float | None = None
    last_error_at: float | None = None
    last_error: str | None = None


@dataclass(slots=True)
class Status:
    """All numbers of a spool directory, at an epoch time."""

    since: float
    at: float
    pid: int
    rating: RatingTally = field(default_factory=RatingTally)
    sinks: dict[str, SinkStatus] = field(default_factory=dict)


def status_path(directory: Path) -> Path:
    """Return where the numbers of a spool directory lie."""
    return directory / "status.json"


def write_status(directory: Path, status: Status) -> None:
    """Replace the numbers.

    Raises:
        OSError: The disk refused.
    """
    path = status_path(directory)
    made = path.with_name("status.json.tmp")
    made.touch(mode=0o600)
    made.write_bytes(to_json(_as_json(dataclasses.asdict(status)), indent=1) + b"\n")
    made.rename(path)


def read_status(directory: Path) -> Status | None:
    """Return the numbers as they were last written, `None` where there are none that can be read."""
    try:
        values = from_json(status_path(directory).read_bytes())
        return Status(
            parse_instant(values["since"]).timestamp(),
            parse_instant(values["at"]).timestamp(),
            int(values["pid"]),
            _made(RatingTally, values["rating"]),
            {name: _made(SinkStatus, sink) for name, sink in values["sinks"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _as_json(value)
        if isinstance(value, dict)
        else format_instant(datetime.fromtimestamp(value, UTC))
        if isinstance(value, float)
        else value
        for key, value in values.items()
    }


def _made(kind: type[T], values: Mapping[str, Any]) -> T:
    # Another release may count other things.
    known = {f.name: f.type for f in dataclasses.fields(kind) if f.name in values}  # type: ignore[arg-type]
    return kind(**{name: _time(values[name]) if "float" in str(of) else values[name] for name, of in known.items()})


def _time(text: str | None) -> float | None:
    return None if text is None else parse_instant(text).timestamp()
