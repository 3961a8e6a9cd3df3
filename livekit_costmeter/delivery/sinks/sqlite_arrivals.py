"""
The rows of a SQLite ledger in the order in which they came.

Invariant: a position is a `rowid`. SQLite has one writer at a time and gives a new row the highest rowid and one more,
so whoever sees a row sees every row before it, and a row that comes later has a higher position.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from livekit_costmeter.delivery.sinks import SinkError
from livekit_costmeter.delivery.sinks.sqlite_rows import charge_of
from livekit_costmeter.records import CHARGE_FIELDS, Charge

_FIELDS = ", ".join(CHARGE_FIELDS)
_ROWS = f"SELECT {_FIELDS} FROM charges"  # noqa: S608
_VALUES_AT_ONCE = 500


class SqliteArrivals:
    """Read one file by the order in which its rows came; nothing is written or created."""

    def __init__(self, path: Path, timeout: float) -> None:
        self.path = path
        self._address = f"{path.absolute().as_uri()}?mode=rw"  # without it, a file that is not there would be made
        self._timeout = timeout

    def position(self) -> int:
        """Return the position of the newest row, 0 where there is none."""
        ((newest,),) = self._select("SELECT coalesce(max(rowid), 0) FROM charges")
        return int(newest)

    def digests(self, positions: Sequence[int]) -> dict[int, str]:
        """Return digests of the rows at these positions; one that holds no row is left out."""
        found = self._chosen(f"SELECT rowid, {_FIELDS} FROM charges WHERE rowid IN", positions)  # noqa: S608
        return {row[0]: blake2b(repr(row[1:]).encode(), digest_size=16).hexdigest() for row in found}

    def read(self, after: int, until: int) -> Iterator[Charge]:
        """Stream the rows with `after` < position <= `until`, in order."""
        return map(charge_of, self._select(f"{_ROWS} WHERE rowid > ? AND rowid <= ? ORDER BY rowid", [after, until]))

    def of_sessions(self, sessions: Collection[str], until: int) -> Iterator[Charge]:
        """Stream the rows of these sessions up to a position, in any order."""
        return map(charge_of, self._chosen(f"{_ROWS} WHERE rowid <= {until:d} AND session_id IN", sessions))

    def of_records(self, records: Collection[str], until: int) -> Iterator[Charge]:
        """Stream the rows of these records up to a position, in any order."""
        # The plus: looked up by their key they are few, by their position many.
        return map(charge_of, self._chosen(f"{_ROWS} WHERE +rowid <= {until:d} AND record_id IN", records))

    def _chosen(self, query: str, values: Collection[Any]) -> Iterator[tuple[Any, ...]]:
        left = iter(values)
        while some := list(islice(left, _VALUES_AT_ONCE)):
            yield from self._select(f"{query} ({', '.join('?' * len(some))})", some)

    def _select(self, query: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            with closing(sqlite3.connect(self._address, timeout=self._timeout, uri=True)) as connection:
                yield from connection.execute(query, values)
        except sqlite3.Error as error:
            raise SinkError(f"{self.path}: {error}") from None
