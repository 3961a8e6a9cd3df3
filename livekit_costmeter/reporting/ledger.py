"""
The read side of a sink, and the dimensions by which its charges are grouped and filtered.

Invariant: charges stream; nothing here ever holds more than one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from operator import attrgetter
from typing import Protocol

from livekit_costmeter.records import Charge

Dimension = Callable[[Charge], str | None]
Where = Mapping[str, Collection[str]]
_LABEL = "label:"


class Ledger(Protocol):
    """A place charges are read back from: any readable sink."""

    def read(self, since: datetime | None, until: datetime | None) -> Iterator[Charge]:
        """Stream the charges with `since` <= `at` < `until`, each once, the rows of one record one after another."""
        ...


class UnknownDimension(ValueError):
    """A name that charges can be neither grouped nor filtered by; the message lists the allowed ones."""


def _day(charge: Charge) -> str:
    return charge.at.astimezone(UTC).date().isoformat()


def _source(charge: Charge) -> str:
    return charge.pricing_source.partition(":")[0]


def _label_set(charge: Charge) -> str | None:
    return ",".join(f"{name}={value}" for name, value in sorted(charge.labels.items())) or None


DIMENSIONS: Mapping[str, Dimension] = {
    "component": attrgetter("component"),
    "provider": attrgetter("provider"),
    "model": attrgetter("model"),
    "owner": attrgetter("key_owner"),
    "account": attrgetter("account"),
    "project": attrgetter("project"),
    "session": attrgetter("session_id"),
    "agent": attrgetter("agent"),
    "day": _day,
    "unit": attrgetter("unit"),
    "outcome": attrgetter("outcome"),
    "billed_by": attrgetter("billed_by"),
    "room": attrgetter("room"),
    "job": attrgetter("job_id"),
    "source": _source,
    "label": _label_set,
}
"""Name to reader. `day` is the UTC date of `at`, `source` the part of `pricing_source` before its first colon, `label`
the whole label set as `k=v,k=v` in the order of the names. Besides these, `label:<name>` reads one label."""


def dimension(name: str) -> Dimension:
    """Return the function that reads one dimension of a charge; it returns `None` where the charge has no value.

    Raises:
        UnknownDimension: The name is neither in `DIMENSIONS` nor `label:<name>`.
    """
    if name.startswith(_LABEL) and name != _LABEL:
        label = name.removeprefix(_LABEL)
        return lambda charge: charge.labels.get(label)
    if name not in DIMENSIONS:
        raise UnknownDimension(f"{name!r} is not one of {', '.join(DIMENSIONS)}, label:<name>")
    return DIMENSIONS[name]


def matcher(where: Where) -> Callable[[Charge], bool]:
    """Return the test whether a charge has, for each dimension named, one of the values; an empty text means no value.

    Raises:
        UnknownDimension: `where` names something charges do not have.
    """
    wanted = [(dimension(name), frozenset(values)) for name, values in where.items()]

    def matches(charge: Charge) -> bool:
        return all((read(charge) or "") in values for read, values in wanted)

    return matches


def select(charges: Iterable[Charge], where: Where) -> Iterator[Charge]:
    """Stream the charges that match, such as `{"provider": ["openai"], "label:campaign": ["q4"]}`."""
    return filter(matcher(where), charges)


def within(charges: Iterable[Charge], since: datetime | None, until: datetime | None) -> Iterator[Charge]:
    """Stream the charges with `since` <= `at` < `until`; `None` is no bound."""
    for charge in charges:
        if (since is None or charge.at >= since) and (until is None or charge.at < until):
            yield charge
