"""
The file of a rollup: SQLite, beside the ledger, under its name and `.rollup`.

    following(position, obstacle)     the newest row that is summed up; why that is not possible, if so
    landmarks(position, digest)       some rows of the ledger, by which it is recognised
    traits(id, level, names)          what rows are told apart by, as a JSON array (see `traits`)
    answers(record_id, answer)        corrections, outside of sessions, that make an amount of a record known
    sums(level, span, day, traits, kind, name, estimated, charges, amount, magnitude)
    counts(level, span, day, kind, shape, things, amount)    shape: the ids of traits, in order, parted by spaces

A span is `first, last, previous, following`. Days are ordinals (1 is 0001-01-01). An amount is two columns, whole
and last places (10^-12), because one number of SQLite does not hold every sum.

Invariant: a transaction takes a stretch of rows in and moves the position, both or neither. Everything here can be made
anew from the ledger, so a file of another format, of another ledger or one that is damaged is thrown away.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from livekit_costmeter.reporting.rollup.contributions import PLACES, CannotRollUp, Contributions, Measure
from livekit_costmeter.reporting.rollup.projection import Rows, counts_of, sums_of
from livekit_costmeter.reporting.rollup.traits import LEVELS, Level, Traits

FORMAT = 1
_OURS = 0x636F7374  # "cost"
_SCALE = 10**PLACES
_SPAN = "first, last, previous, following"
_WHERE = "level = ? AND first >= ? AND first < ? AND last < ? AND previous < ? AND following >= ?"
_KEYS = {"sums": f"level, {_SPAN}, day, traits, kind, name, estimated", "counts": f"level, {_SPAN}, day, kind, shape"}
_TOTALS = {
    "sums": ("charges", "whole", "places", "magnitude_whole", "magnitude_places"),
    "counts": ("things", "whole", "places"),
}


def _table(name: str) -> str:
    # What grows beyond 64 bits SQLite would turn into a float; better that it fails.
    totals = ", ".join(f"{column} INTEGER NOT NULL CHECK (typeof({column}) = 'integer')" for column in _TOTALS[name])
    return f"CREATE TABLE {name} ({_KEYS[name]}, {totals}, PRIMARY KEY ({_KEYS[name]})) WITHOUT ROWID"


def _upsert(name: str) -> str:
    columns = [*_KEYS[name].split(", "), *_TOTALS[name]]
    added = ", ".join(f"{column} = {column} + excluded.{column}" for column in _TOTALS[name])
    values = ", ".join("?" * len(columns))
    return (
        f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({values}) "  # noqa: S608
        f"ON CONFLICT ({_KEYS[name]}) DO UPDATE SET {added}"
    )


def _delete(name: str) -> str:
    matched = " AND ".join(f"{column} = ?" for column in _KEYS[name].split(", "))
    return f"DELETE FROM {name} WHERE {matched} AND {_TOTALS[name][0]} = 0"  # noqa: S608


_SCHEMA = (
    "CREATE TABLE following (position INTEGER NOT NULL, obstacle TEXT)",
    "INSERT INTO following VALUES (0, NULL)",
    "CREATE TABLE landmarks (position INTEGER PRIMARY KEY, digest TEXT NOT NULL)",
    "CREATE TABLE traits (id INTEGER PRIMARY KEY, level INTEGER NOT NULL, names TEXT NOT NULL, UNIQUE (level, names))",
    "CREATE TABLE answers (record_id TEXT, answer TEXT, PRIMARY KEY (record_id, answer)) WITHOUT ROWID",
    *map(_table, _KEYS),
    f"PRAGMA application_id = {_OURS}",
    f"PRAGMA user_version = {FORMAT}",
)


class Window(NamedTuple):
    """Days as ordinals, the last one exclusive."""

    since: int
    until: int


class RollupFile:
    """`with RollupFile(path) as file:`; errors are those of sqlite3. A file that is not there is made."""

    def __init__(self, path: Path, *, mode: int = 0o600, timeout: float = 60.0) -> None:
        self._path = path
        self._ids: dict[tuple[int, Traits], int] = {}
        with suppress(OSError):  # somebody else's file or directory may still be read
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, mode & 0o666))
        address = f"{path.absolute().as_uri()}?mode=rw"
        self._connection = sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; idempotent."""
        self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only one who writes, and commit everything or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._ids.clear()
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See one state of the file, whoever writes."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def is_laid_out(self) -> bool:
        """Tell whether the file has this format.

        Raises:
            CannotRollUp: It is something else's.
        """
        ours, version = self._scalar("PRAGMA application_id") == _OURS, self._scalar("PRAGMA user_version")
        if not ours and self._scalar("SELECT count(*) FROM sqlite_master"):
            raise CannotRollUp(f"{self._path} is no rollup")
        return bool(ours and version == FORMAT)

    def clear(self) -> None:
        """Begin anew."""
        self._ids.clear()
        for (name,) in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            self._connection.execute(f"DROP TABLE {name}")
        for statement in _SCHEMA:
            self._connection.execute(statement)

    def position(self) -> int:
        """Return the position of the newest row that is summed up."""
        return int(self._scalar("SELECT position FROM following"))

    def obstacle(self) -> str | None:
        """Return why the ledger cannot be summed up, if so."""
        found: str | None = self._scalar("SELECT obstacle FROM following")
        return found

    def give_up(self, obstacle: str) -> None:
        """Remember why the ledger cannot be summed up."""
        self._connection.execute("UPDATE following SET obstacle = ?", [obstacle])

    def move(self, position: int, landmarks: Mapping[int, str]) -> None:
        """Move the position, and remember rows up to it."""
        self._connection.execute("UPDATE following SET position = ?", [position])
        self._connection.execute("DELETE FROM landmarks")
        self._connection.executemany("INSERT INTO landmarks VALUES (?, ?)", landmarks.items())

    def landmarks(self) -> dict[int, str]:
        """Return the rows that the ledger is recognised by."""
        return dict(self._connection.execute("SELECT position, digest FROM landmarks").fetchall())

    def add_answers(self, answers: Iterable[tuple[str, str]]) -> None:
        """Remember which corrections belong to which records."""
        self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", answers)

    def answers(self, records: Collection[str]) -> list[str]:
        """Return the corrections that belong to these records."""
        if not self._scalar("SELECT EXISTS (SELECT 1 FROM answers)"):
            return []
        query = "SELECT answer FROM answers WHERE record_id = ?"
        return [answer for record in records for (answer,) in self._connection.execute(query, [record])]

    def add(self, contributions: Contributions) -> None:
        """Add contributions to the sums and counts of every level."""
        for level in LEVELS:
            self._add("sums", level, sums_of(level, contributions, self._id))
            self._add("counts", level, counts_of(level, contributions, self._id))

    def _add(self, table: str, level: Level, changes: Rows) -> None:
        rows = [(level.number, *key, *_columns(totals)) for key, totals in changes.items() if any(totals)]
        self._connection.executemany(_upsert(table), rows)
        # Where something was taken back, nothing may be left.
        fewer = [(level.number, *key) for key, totals in changes.items() if totals[0] < 0]
        self._connection.executemany(_delete(table), fewer)

    def _id(self, level: Level, traits: Traits) -> int:
        key = (level.number, traits)
        if key not in self._ids:
            values = [level.number, json.dumps(traits)]
            self._connection.execute("INSERT OR IGNORE INTO traits (level, names) VALUES (?, ?)", values)
            self._ids[key] = self._scalar("SELECT id FROM traits WHERE level = ? AND names = ?", *values)
        return self._ids[key]

    def traits(self, level: Level) -> dict[int, Traits]:
        """Return all traits of a level by their id."""
        rows = self._connection.execute("SELECT id, names FROM traits WHERE level = ?", [level.number])
        return {number: tuple(json.loads(names)) for number, names in rows}

    def sums(self, level: Level, window: Window, *, daily: bool) -> Iterator[tuple[int, int, Measure, int, int]]:
        """Yield day (0, unless `daily`), traits, measure, amount and magnitude; also what comes to nothing."""
        day = "day" if daily else "0"
        query = (
            f"SELECT {day}, traits, kind, name, estimated, {_summed('sums')} FROM sums WHERE {_WHERE} "  # noqa: S608
            "GROUP BY 1, 2, 3, 4, 5"
        )
        for row in self._connection.execute(query, _bounds(level, window)):
            day_number, traits, kind, name, estimated, _, whole, places, magnitude, magnitude_places = row
            measure = Measure(kind, name, bool(estimated))
            yield day_number, traits, measure, whole * _SCALE + places, magnitude * _SCALE + magnitude_places

    def counts(self, level: Level, window: Window, *, daily: bool) -> Iterator[tuple[int, str, list[int], int, int]]:
        """Yield day (0, unless `daily`), kind, shape, number of things and amount."""
        day, other = ("day", "call") if daily else ("0", "part")
        query = (
            f"SELECT {day}, kind, shape, {_summed('counts')} FROM counts WHERE {_WHERE} AND kind <> ? "  # noqa: S608
            "GROUP BY 1, 2, 3"
        )
        for day_number, kind, shape, things, whole, places in self._connection.execute(
            query, [*_bounds(level, window), other]
        ):
            yield day_number, kind, [int(number) for number in shape.split()], things, whole * _SCALE + places

    def _scalar(self, query: str, *values: object) -> Any:
        row = self._connection.execute(query, values).fetchone()
        return row[0] if row else None


def _columns(totals: list[int]) -> Iterator[int]:
    number, *amounts = totals
    yield number
    for amount in amounts:
        yield from divmod(amount, _SCALE)


def _summed(table: str) -> str:
    return ", ".join(f"sum({column})" for column in _TOTALS[table])


def _bounds(level: Level, window: Window) -> list[int]:
    since, until = window
    return [level.number, since, until, until, since, until]
