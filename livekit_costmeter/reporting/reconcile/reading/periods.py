"""
The period a row is about.

Invariant: a bucket shorter than an hour is the hour it is in; one across hours stays as it is. The same hour is the
same object, so that finding its group again costs next to nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from livekit_costmeter.reporting.reconcile.reading import cells

Period = tuple[datetime, datetime]

_HOUR = timedelta(hours=1)
_SECONDS_PER_HOUR = 3600
_SECONDS = range(10**9, 4_133_980_800)  # ten digits, up to the year 2100
_DIGITS = 10


def bucket(start: str, end: str) -> Period:
    """
    Read a period; one shorter than an hour becomes the hour it is in, one across hours stays.

    Raises:
        CellError: A time cannot be read, or the end is not after the start.
    """
    return _unix_hour(start, end) or _any_bucket(start, end)


def _unix_hour(start: str, end: str) -> Period | None:
    """Return the hour of two plain Unix times in it; `None` for anything else, which is read with more care."""
    both = start + end
    if not (len(start) == len(end) == _DIGITS and both.isascii() and both.isdecimal()):
        return None
    first, last = int(start), int(end)
    number = first // _SECONDS_PER_HOUR
    within = first < last <= (number + 1) * _SECONDS_PER_HOUR
    return _hour(number) if within and first in _SECONDS and last in _SECONDS else None


@lru_cache(maxsize=1 << 10)
def _hour(number: int) -> Period:
    begins = datetime.fromtimestamp(number * _SECONDS_PER_HOUR, UTC)
    return begins, begins + _HOUR


def _any_bucket(start: str, end: str) -> Period:
    begins, ends = cells.instant(start), cells.instant(end)
    if begins >= ends:
        raise cells.CellError(f"the period {cells.shown(start)} to {cells.shown(end)} is empty; expected a later end")
    hour = begins.replace(minute=0, second=0, microsecond=0)
    return (hour, hour + _HOUR) if ends <= hour + _HOUR else (begins, ends)
