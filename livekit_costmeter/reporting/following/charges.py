"""
Following: charges as they are rated and as they arrive in a ledger.

Invariant: a charge is shown once, wherever it is seen first. Any readable sink can be followed, because only
`Ledger.read` is used; what is rated is handed in as a function, because reporting knows no spool.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

from livekit_costmeter.records import Charge
from livekit_costmeter.reporting.ledger import Ledger, within

_SEEN_AT_LEAST = 10_000
_SEEN_AT_MOST = 500_000
_LOOKS_PER_LEDGER = 20

Rated = Callable[[], Iterator[Charge]]
"""Yields what was rated since it was last called."""


def _now() -> datetime:
    return datetime.now(UTC)


def follow(
    ledger: Ledger | None,
    since: datetime | None = None,
    *,
    rated: Rated | None = None,
    poll: float = 0.25,
    overlap: timedelta = timedelta(minutes=1),
    seen_at_most: int = _SEEN_AT_MOST,
    clock: Callable[[], datetime] = _now,
    wait: Callable[[float], bool] | None = None,
) -> Iterator[Iterator[Charge]]:
    """Yield look after look: the charges from `since` on (from now on, without it), then new ones as they come.

    Each look is to be read to its end before the next. What is `rated` is shown at once, and without `since` whatever
    its time; the ledger, which also has what other hosts ship, is then looked at every twentieth time only. It is read
    again from `overlap` before the newest charge it had, because charges arrive out of order. One that arrives later
    than that, or after `seen_at_most` newer ones while the ledger stood still, is in the ledger, but is not shown here.
    `poll` is the seconds between two looks; `wait` sleeps that long and returns whether to stop, as the `wait` of a
    `threading.Event` does. Before it stops there is a last look at everything.
    """
    pause = wait or threading.Event().wait
    window = _Window(since or clock(), overlap, seen_at_most, clock)
    stopped = False
    for look in count():
        if ledger is not None and (rated is None or stopped or look % _LOOKS_PER_LEDGER == 0):
            yield window.from_ledger(ledger)
        if rated is not None:
            yield filter(window.admit, within(rated(), since, None))
        if stopped:
            return
        stopped = pause(poll)


class _Window:
    """The stretch of time of the ledger that is read again, and which charges were already shown."""

    def __init__(self, start: datetime, overlap: timedelta, at_most: int, clock: Callable[[], datetime]) -> None:
        self._horizon = self._newest = start
        self._overlap = overlap
        self._clock = clock
        self._seen: dict[tuple[str, int], datetime] = {}
        self._at_most = at_most
        self._limit = min(_SEEN_AT_LEAST, at_most)

    def from_ledger(self, ledger: Ledger) -> Iterator[Charge]:
        for charge in ledger.read(self.horizon(), None):
            self._newest = max(self._newest, charge.at)
            if self.admit(charge):
                yield charge

    def horizon(self) -> datetime:
        """Return where the next look begins; it only moves forward, also when the clock is set back."""
        # A charge dated in the future, from a host whose clock is ahead, must not hide those that are on time.
        self._horizon = max(self._horizon, min(self._newest, self._clock()) - self._overlap)
        return self._horizon

    def admit(self, charge: Charge) -> bool:
        key = (charge.record_id, charge.line)
        if key in self._seen:
            return False
        self._seen[key] = charge.at
        if len(self._seen) >= self._limit:
            self._forget()
        return True

    def _forget(self) -> None:
        # What lies before the horizon is never read again.
        self._keep_from(self.horizon())
        if len(self._seen) >= self._at_most:
            self._horizon = max(self._horizon, sorted(self._seen.values())[len(self._seen) // 2])
            self._keep_from(self._horizon)
        self._limit = min(max(_SEEN_AT_LEAST, 2 * len(self._seen)), max(self._at_most, len(self._seen) + 1))

    def _keep_from(self, horizon: datetime) -> None:
        self._seen = {key: at for key, at in self._seen.items() if at >= horizon}
