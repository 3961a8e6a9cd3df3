"""
What the rows of a rollup are told apart by: traits, at three levels of detail.

Invariant: traits hold everything that a report groups or counts by, so that any report by the dimensions of a level,
or by some of them, can be made from its rows. Besides the values of the dimensions they have, at the end, why the
charge is unpriced, or None. The day is kept beside them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from livekit_costmeter.records import Charge
from livekit_costmeter.reporting.ledger import DIMENSIONS
from livekit_costmeter.reporting.tally import is_unpriced, unpriced_reason

Traits = tuple[str | None, ...]

_WORK = ("component", "provider", "model", "owner", "outcome", "unit", "billed_by", "source")
_CLIENT = ("owner", "account", "project", "agent")
_ALL = tuple(dict.fromkeys((*_WORK, *_CLIENT)))
COVERED = frozenset({*_ALL, "day"})
"""The dimensions that a rollup knows. A label, a session, a room or a job has too many values to sum up by."""
_READERS = tuple(DIMENSIONS[name] for name in _ALL)


@dataclass(frozen=True)
class Level:
    """Some dimensions that rows are kept by; the fewer, the fewer rows there are to read."""

    number: int
    dimensions: tuple[str, ...]

    @cached_property
    def _places(self) -> tuple[int, ...]:
        return (*(_ALL.index(name) for name in self.dimensions), len(_ALL))

    def project(self, traits: Traits) -> Traits:
        """Return those of all the traits that this level has."""
        return tuple([traits[place] for place in self._places])


WORK, CLIENT, ALL = LEVELS = (Level(0, _WORK), Level(1, _CLIENT), Level(2, _ALL))


def level_of(names: Collection[str]) -> Level:
    """Return the first level that has all these dimensions."""
    return next(level for level in LEVELS if not {*names} - {*level.dimensions, "day"})


def traits_of(charge: Charge) -> Traits:
    """Return all traits of a charge but its day."""
    reason = unpriced_reason(charge) if is_unpriced(charge) else None
    return (*[read(charge) for read in _READERS], reason)
