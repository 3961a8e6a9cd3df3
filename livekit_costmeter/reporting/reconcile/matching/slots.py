"""
Time in half hours: what both sides are counted by, so that days of any time zone can be put together.

Invariant: a slot is the number of half hours since 1970 UTC; a span is its first slot and how many there are. What is
shorter than a slot is in the slot it begins in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal

Span = tuple[int, int]
"""First slot, number of slots."""

EXACT = Context(prec=100)
SECONDS = 1800
HOUR = 2
DAY = 48
ZERO = Decimal(0)


def slot_of(instant: datetime) -> int:
    """Return the slot that an aware instant is in."""
    return int(instant.timestamp()) // SECONDS


def span_of(start: datetime, end: datetime) -> Span:
    """Return the slots of a period."""
    first = slot_of(start)
    return first, max(1, slot_of(end - timedelta(microseconds=1)) + 1 - first)


def instant_of(slot: int) -> datetime:
    """Return the first instant of a slot, UTC."""
    return datetime.fromtimestamp(slot * SECONDS, UTC)


def day_of(slot: int) -> str:
    """Return the UTC date of a slot."""
    return instant_of(slot).date().isoformat()


def add_to(sums: dict[int, Decimal], slot: int, amount: Decimal) -> None:
    """Add an amount to the sum of a slot."""
    sums[slot] = EXACT.add(sums.get(slot, ZERO), amount)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum."""
    result = ZERO
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def within(sums: Mapping[int, Decimal], window: Span) -> Decimal:
    """Return the sum of the slots of a window."""
    first, count = window
    return total(amount for slot, amount in sums.items() if first <= slot < first + count)


def of_spans(sums: Mapping[Span, Decimal], window: Span) -> Decimal:
    """Return the sum of the spans that begin in a window."""
    first, count = window
    return total(amount for (start, _), amount in sums.items() if first <= start < first + count)
