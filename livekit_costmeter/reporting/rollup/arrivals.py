"""
What a store has to offer so that its reports can come from a rollup: its rows in the order in which they came.

Invariant: whoever has seen a position will never see a new row at it or before it. A store that cannot promise this
(PostgreSQL's sequences are not in the order of commits, and ClickHouse and Parquet have none) offers nothing, and is
read as a stream.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from livekit_costmeter.records import Charge


class Arrivals(Protocol):
    """The charges of one store by position, which counts up from 1; 0 is before all of them."""

    @property
    def path(self) -> Path:
        """The store's file; the rollup stands beside it."""

    def position(self) -> int:
        """Return the position of the newest row, 0 where there is none."""

    def digests(self, positions: Sequence[int]) -> Mapping[int, str]:
        """Return digests of the rows at these positions; one that holds no row is left out."""

    def read(self, after: int, until: int) -> Iterator[Charge]:
        """Stream the rows with `after` < position <= `until`."""

    def of_sessions(self, sessions: Collection[str], until: int) -> Iterator[Charge]:
        """Stream the rows of these sessions up to a position, in any order."""

    def of_records(self, records: Collection[str], until: int) -> Iterator[Charge]:
        """Stream the rows of these records up to a position, in any order."""
