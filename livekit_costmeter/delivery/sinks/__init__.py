"""
Where charges go: what a sink is, what it may raise, and how the type named in the YAML is found.

Invariant: a sink is idempotent by (`record_id`, `line`), and returning from `write` means committed.

    SinkError                 says in one line what is wrong
    ├── UnknownSink           nobody provides the type, or its client library is not installed
    ├── RetryableError        it may work later: the same batch comes again
    └── RejectedRecords       these records never will: they go to the dead letters, the rest comes again

Anything else that a sink raises counts as retryable and is logged. A sink package declares its class as an entry point:

    [project.entry-points."livekit_costmeter.sinks"]
    bigquery = "costmeter_bigquery:BigQuerySink"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from typing import Any, Protocol, runtime_checkable

from livekit_costmeter.records import Charge

GROUP = "livekit_costmeter.sinks"


class SinkError(Exception):
    """A sink cannot do its work; the message is one line for the operator and holds no secret."""


class UnknownSink(SinkError):
    """A type that no installed package provides, or whose client library is missing."""


class RetryableError(SinkError):
    """The store is away, locked or full; the same batch will be written again."""


class RejectedRecords(SinkError):
    """The store refuses these records for good: `rejected` maps record ids to reasons."""

    def __init__(self, rejected: Mapping[str, str]) -> None:
        super().__init__(f"{len(rejected)} records refused: {next(iter(rejected.values()), '')}")
        self.rejected = dict(rejected)


@runtime_checkable
class Sink(Protocol):
    """A store for charges. Its class has a pydantic model `Options` (extra="forbid") and takes one in `__init__`.

    A sink that can be reported from sets `readable = True` and has `read(since, until) -> Iterator[Charge]`, both
    instants optional, `until` exclusive, ordered by `at` or as written, without `open` and without creating anything.
    One that knows in which order its rows came may have `arrivals()`, from which reports keep sums (the protocol
    `Arrivals` of `reporting.rollup`). It is used by one thread at a time.
    """

    def open(self) -> None:
        """Get ready to write; also after `close`."""

    def write(self, charges: Sequence[Charge]) -> None:
        """Commit a batch; rows that are already there stay as they are."""

    def check(self) -> str:
        """Return one line on the store's health; works without `open`.

        Raises:
            SinkError: Says in one line what is wrong.
        """

    def close(self) -> None:
        """Let go of the store; idempotent."""


def find_sink(type_name: str) -> Any:
    """Import and return the sink class that an installed package declares under this type.

    Raises:
        UnknownSink: No such type (names those there are), or its client library is not installed.
    """
    known = {point.name: point for point in _own_entry_points()}
    if type_name not in known:
        # Looked at second: it reads the metadata of everything that is installed, and a worker's start pays for it.
        known |= {point.name: point for point in entry_points(group=GROUP)}
    if type_name not in known:
        raise UnknownSink(f"unknown sink type {type_name!r} (allowed: {', '.join(sorted(known))})")
    return _load(known[type_name])


def _own_entry_points() -> Iterable[EntryPoint]:
    try:
        return distribution("livekit-costmeter").entry_points.select(group=GROUP)
    except PackageNotFoundError:
        return ()  # run from a checkout that is not installed


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except ModuleNotFoundError as error:
        package = point.dist.name if point.dist else "livekit-costmeter"
        raise UnknownSink(
            f"sink type {point.name!r} needs the module {error.name!r}: pip install '{package}[{point.name}]'"
        ) from None
