"""
Which days are fetched.

Invariant: whole days of UTC, because that is what providers add up; a window that cuts a day is refused, since the
provider's side would hold more than ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from livekit_costmeter.reporting.reconcile.lines import ExportError

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """From one midnight of UTC to another; `until` is exclusive."""

    since: datetime
    until: datetime

    @property
    def first_day(self) -> str:
        """Return the first day as `2026-05-01`."""
        return self.since.date().isoformat()

    @property
    def last_day(self) -> str:
        """Return the last day, which is in the window."""
        return (self.until - _DAY).date().isoformat()

    def slices(self, days: int) -> Iterator[Window]:
        """Yield the window in pieces of at most some days."""
        start = self.since
        while start < self.until:
            end = min(start + days * _DAY, self.until)
            yield Window(start, end)
            start = end


def whole_days(since: datetime, until: datetime | None, now: datetime) -> Window:
    """
    Return the window between two instants, today the last day at most.

    Args:
        since: Aware; a midnight of UTC.
        until: The same, exclusive; `None`, or one to come, takes in today.
        now: Aware.

    Raises:
        ExportError: One of them is not midnight, or nothing is between them.
    """
    tomorrow = _midnight(now) + _DAY
    # An end that is still to come cuts nothing off.
    since, until = since.astimezone(UTC), tomorrow if until is None or until > now else until.astimezone(UTC)
    for option, instant in (("--since", since), ("--until", until)):
        if instant != _midnight(instant):
            raise ExportError(
                f"{option} {instant:%Y-%m-%dT%H:%M:%SZ} is not midnight; an API is read by whole days of UTC"
            )
    if since >= until:
        raise ExportError(f"nothing to fetch: --since {since:%Y-%m-%d} is not before {until:%Y-%m-%d}")
    return Window(since, until)


def _midnight(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
