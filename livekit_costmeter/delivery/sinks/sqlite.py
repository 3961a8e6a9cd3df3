"""
The SQLite sink: table `charges`, the default ledger.

Columns, indexes and the layout's version are those of `layout`; what the columns hold is said in `sqlite_rows`.

Invariant: one row per (`record_id`, `line`), the first one written; all rows of a batch are committed together or not
at all. WAL with synchronous=NORMAL: a commit survives the death of the process; a power cut may take the last commits
back, never the file, and those are still in the spool unless its segment was already deleted.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from livekit_costmeter.delivery.sinks import RetryableError, SinkError
from livekit_costmeter.delivery.sinks.layout import COLUMNS, INDEXES, KEY, VERSION, missing_columns, verify
from livekit_costmeter.delivery.sinks.sqlite_arrivals import SqliteArrivals
from livekit_costmeter.delivery.sinks.sqlite_rows import charge_of, row_of
from livekit_costmeter.log import log
from livekit_costmeter.records import CHARGE_FIELDS, Charge, format_instant

_TYPES = {column.kind: "INTEGER" if column.kind in ("integer", "boolean") else "TEXT" for column in COLUMNS}
_COLUMNS = "".join(
    f"  {column.name} {_TYPES[column.kind]}{' NOT NULL' if column.required else ''}, -- {column.comment}\n"
    for column in COLUMNS
)
_INDEXES = tuple(
    f"CREATE INDEX IF NOT EXISTS {name} ON charges ({', '.join(columns)})" for name, columns in INDEXES.items()
)
_SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS charges (\n{_COLUMNS}  PRIMARY KEY ({', '.join(KEY)}))",
    *_INDEXES,
    "CREATE TABLE IF NOT EXISTS costmeter_schema (version INTEGER NOT NULL)",
    f"INSERT INTO costmeter_schema SELECT {VERSION} WHERE NOT EXISTS (SELECT 1 FROM costmeter_schema)",  # noqa: S608
)
_IS_LAID_OUT = "SELECT count(*) FROM sqlite_master WHERE name = 'costmeter_schema'"
_INSERT = (
    f"INSERT INTO charges ({', '.join(CHARGE_FIELDS)}) VALUES ({', '.join('?' * len(CHARGE_FIELDS))}) "  # noqa: S608
    "ON CONFLICT (record_id, line) DO NOTHING"
)
_SELECT = f"SELECT {', '.join(CHARGE_FIELDS)} FROM charges WHERE at >= ? AND at < ? ORDER BY at, record_id, line"  # noqa: S608
_RETRYABLE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PROTOCOL")


class SqliteSink:
    """Write charges to one SQLite file, which any number of processes may share."""

    readable = True

    class Options(BaseModel):
        """`path` of the file; `busy_timeout` is how long to wait for another writer, in seconds."""

        model_config = ConfigDict(extra="forbid")
        path: Path
        busy_timeout: float = Field(default=10.0, gt=0)

    def __init__(
        self,
        options: Options,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = options.path
        self._busy_timeout = options.busy_timeout
        self._monotonic = monotonic
        self._sleep = sleep
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None

    def open(self) -> None:
        """Create the file and its tables where missing; any number of processes may do so at once."""
        if self._connection is not None:
            return
        deadline = self._monotonic() + self._busy_timeout
        while True:
            try:
                self._connection = self._connect()
            except (sqlite3.Error, OSError) as error:
                # The switch to WAL does not wait for other connections by itself, so the waiting is done here.
                if not _is_contention(error) or self._monotonic() > deadline:
                    raise self._failure(error) from None
            else:
                return
            self._sleep(0.02)

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            self._path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
        )
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            if not connection.execute(_IS_LAID_OUT).fetchone()[0]:
                self._lay_out(connection)
            elif _version(connection) < VERSION:
                self._migrate(connection)
            verify(str(self._path), _version(connection), _column_names(connection))
            self._inode = _inode(self._path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _lay_out(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("COMMIT")

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        version = _version(connection)  # another process may have been first
        if version < VERSION:
            log().info("ledger gets the layout of this release", path=str(self._path), layout=version, new=VERSION)
            for column in missing_columns(_column_names(connection)):
                connection.execute(f"ALTER TABLE charges ADD COLUMN {column.name} {_TYPES[column.kind]}")
            for statement in _INDEXES:
                connection.execute(statement)
            connection.execute("UPDATE costmeter_schema SET version = ?", [VERSION])
        connection.execute("COMMIT")

    def write(self, charges: Sequence[Charge]) -> None:
        """Insert the rows that are new, in one transaction."""
        if not charges:
            return
        if self._connection is not None and _inode(self._path) != self._inode:
            self.close()  # the file was moved or deleted: never write into one that nobody will read
        self.open()
        rows = [row_of(charge) for charge in charges]
        try:
            self._insert(rows)
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from None

    def _insert(self, rows: list[list[Any]]) -> None:
        assert self._connection is not None
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(_INSERT, rows)
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.rollback()
            raise

    def _failure(self, error: Exception) -> SinkError:
        code = getattr(error, "sqlite_errorname", "SQLITE_CANTOPEN" if isinstance(error, OSError) else "")
        kind = RetryableError if code.startswith(_RETRYABLE) else SinkError
        return kind(f"{self._path}: {getattr(error, 'strerror', None) or error}")

    def check(self) -> str:
        """Open the file and count its rows."""
        self.open()
        assert self._connection is not None
        try:
            rows = self._connection.execute("SELECT count(*) FROM charges").fetchone()[0]
        except sqlite3.Error as error:
            raise self._failure(error) from None
        return f"{self._path}: {rows} rows"

    def read(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Charge]:
        """Yield the rows between two instants, ordered by `at`, streaming; nothing where there is no file yet.

        Raises:
            SinkError: The file is no ledger of ours.
        """
        if not self._path.exists():
            return
        bounds = (format_instant(since) if since else "", format_instant(until) if until else "~")
        try:
            with closing(sqlite3.connect(self._path, timeout=self._busy_timeout)) as connection:
                for row in connection.execute(_SELECT, bounds):
                    yield charge_of(row)
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def arrivals(self) -> SqliteArrivals:
        """Return the reader of the rows in the order in which they came."""
        return SqliteArrivals(self._path, self._busy_timeout)

    def close(self) -> None:
        """Close the connection; idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT version FROM costmeter_schema").fetchone()[0])


def _column_names(connection: sqlite3.Connection) -> list[str]:
    return [row[1] for row in connection.execute("PRAGMA table_info(charges)")]


def _is_contention(error: Exception) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
