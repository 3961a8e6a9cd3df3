"""
Following a ledger: charges as they arrive, one line each.

Invariant: a charge is shown once. Any readable sink can be followed, because only `Ledger.read` is used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from livekit_costmeter.records import Charge, decimal_text
from livekit_costmeter.reporting.ledger import Ledger
from livekit_costmeter.reporting.tally import ESTIMATES, unpriced_reason
from livekit_costmeter.reporting.wording import UNPRICED, money_text, name_text

_SEEN_AT_LEAST = 10_000


def _now() -> datetime:
    return datetime.now(UTC)


def follow(
    ledger: Ledger,
    since: datetime | None = None,
    *,
    poll: float = 1.0,
    overlap: timedelta = timedelta(minutes=1),
    clock: Callable[[], datetime] = _now,
    wait: Callable[[float], bool] | None = None,
) -> Iterator[Charge]:
    """Yield the charges from `since` on (from now on, without it), then new ones as they arrive.

    Each look reads again from `overlap` before the newest charge seen, because several processes ship into one ledger
    and their charges arrive out of order. One that arrives later than that is in the ledger, but is not shown here.
    `poll` is the seconds between two looks; `wait` sleeps that long and returns whether to stop, as the `wait` of a
    `threading.Event` does.
    """
    pause = wait or threading.Event().wait
    window = _Window(since or clock(), overlap, clock)
    while True:
        yield from filter(window.admit, ledger.read(window.horizon(), None))
        if pause(poll):
            return


class _Window:
    """The stretch of time that is read again, and which of its charges were already shown."""

    def __init__(self, start: datetime, overlap: timedelta, clock: Callable[[], datetime]) -> None:
        self._horizon = self._newest = start
        self._overlap = overlap
        self._clock = clock
        self._seen: dict[tuple[str, int], datetime] = {}
        self._limit = _SEEN_AT_LEAST

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
        self._newest = max(self._newest, charge.at)
        if len(self._seen) >= self._limit:
            self._forget()
        return True

    def _forget(self) -> None:
        # What lies before the horizon is never read again.
        horizon = self.horizon()
        self._seen = {key: at for key, at in self._seen.items() if at >= horizon}
        self._limit = max(_SEEN_AT_LEAST, 2 * len(self._seen))


def charge_line(charge: Charge) -> str:
    """Return one compact line: when, what, how much (`~` if estimated), its cost and where that is from, who."""
    at = charge.at.astimezone(UTC)
    parts = [
        f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}Z",
        charge.component,
        f"{name_text(charge.provider)}/{name_text(charge.model)}",
        f"{'~' if charge.quantity_basis in ESTIMATES else ''}{decimal_text(charge.quantity)} {name_text(charge.unit)}",
        _cost(charge),
        *_notes(charge),
    ]
    return "  ".join(parts)


def _cost(charge: Charge) -> str:
    if charge.cost is None:
        return f"{UNPRICED} ({name_text(unpriced_reason(charge))})"
    return money_text(charge.cost, charge.currency or "", exact=True)


def _notes(charge: Charge) -> Iterator[str]:
    if charge.kind != "usage":
        yield charge.kind
    if charge.outcome != "completed":
        yield charge.outcome
    if charge.cost is not None:
        yield charge.pricing_source.partition(":")[0]
    for name, value in (("owner", charge.key_owner), ("account", charge.account), ("session", charge.session_id)):
        if value:
            yield f"{name}={name_text(value)}"
