"""
Charges as things stand in the end: what a later one says of an earlier one (thrown away, priced after all) is applied.

Invariant: charges stream. They are read a second time only where the first reading met something that changes what
was read before, so memory grows with such news and never with charges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TypeVar

from livekit_costmeter.records import Charge
from livekit_costmeter.reporting.discards import Discards
from livekit_costmeter.reporting.ledger import within
from livekit_costmeter.reporting.tally import LaterPrices

_Found = TypeVar("_Found")


def read_settled(
    charges: Iterable[Charge],
    since: datetime | None,
    until: datetime | None,
    fill: Callable[[Iterator[Charge]], _Found],
) -> _Found:
    """Return what `fill` makes of the charges with `since` <= `at` < `until`; it is called once or twice.

    Raises:
        TypeError: The charges are an iterator, which can be read only once.
    """
    if isinstance(charges, Iterator):
        raise TypeError("charges are read a second time where work was thrown away: give a list, not an iterator")
    discards, later = Discards(), LaterPrices()

    def settled() -> Iterator[Charge]:
        discards.has_grown = later.has_grown = False
        for charge in within(charges, since, until):
            if not discards.note(charge):
                later.note(charge)
                yield discards.settle(later.settle(charge))

    found = fill(settled())
    return fill(settled()) if discards.has_grown or later.has_grown else found
