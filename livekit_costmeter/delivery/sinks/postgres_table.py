"""
The table `charges` on one PostgreSQL server: how it is reached, laid out and migrated, and what its errors mean.

Invariant: what leaves here as an error is one line that begins with the place (`host:port/database`) and holds neither
password nor connection string. No wait is longer than its deadline, also where the server has stopped answering.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo, pq, sql

from livekit_costmeter.delivery.sinks import RetryableError, SinkError
from livekit_costmeter.delivery.sinks.deadline import within
from livekit_costmeter.delivery.sinks.halving import Refused
from livekit_costmeter.delivery.sinks.layout import (
    COLUMNS,
    INDEXES,
    KEY,
    TABLE_COMMENT,
    VERSION,
    Column,
    missing_columns,
    verify,
)
from livekit_costmeter.log import log

Connection = psycopg.Connection[Any]
_Result = TypeVar("_Result")
_TYPES = {
    "text": "text",
    "integer": "integer",
    "boolean": "boolean",
    "decimal": "numeric",
    "instant": "timestamp with time zone",
    "labels": "jsonb",
}
_REFUSALS = ("22", "23", "P0001", "54000")
"""SQLSTATEs of what is wrong with a row: data, constraints, what triggers raise, more than an index can hold."""
_REASON = re.compile(r"failed: (?:FATAL: +)?(?!connection to server)([^\n]+)")
_LONGEST = 300
_SHORTEST_WAIT = 0.05


class PostgresTable:
    """`charges` and `costmeter_schema` in one schema of one database."""

    def __init__(
        self,
        dsn: str,
        schema: str,
        *,
        connect_timeout: int,
        statement_timeout: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dsn = dsn
        self._schema_name = schema
        self._schema = sql.Identifier(schema).as_string(None)
        self._connect_timeout = connect_timeout
        self._statement_timeout = statement_timeout
        self._monotonic = monotonic
        self._version_name = f"{self._schema}.costmeter_schema"
        self.name = f"{self._schema}.charges"
        self.place = _place(dsn)

    def connect(self, deadline: float) -> Connection:
        """Return a connection that commits by itself and remembers no statement, as poolers want it.

        Raises:
            RetryableError: There is none in time, whatever the resolver and the list of hosts do.
        """
        try:
            return within(deadline - self._monotonic(), self._connect)
        except TimeoutError:
            raise RetryableError(f"{self.place}: no connection in time") from None

    def _connect(self) -> Connection:
        return psycopg.connect(
            self._dsn,
            autocommit=True,
            prepare_threshold=None,
            client_encoding="UTF8",
            connect_timeout=self._connect_timeout,
            fallback_application_name="livekit-costmeter",
        )

    def begin(self, deadline: float) -> str:
        """Return the statements that begin a transaction which the server itself gives up in time."""
        patience = min(self._statement_timeout, max(deadline - self._monotonic(), _SHORTEST_WAIT))
        return f"BEGIN; SET LOCAL statement_timeout = {int(patience * 1000)}"

    def version(self, connection: Connection) -> int | None:
        """Return the layout that is there, or None."""
        if not self._tables(connection) >= {"charges", "costmeter_schema"}:
            return None
        found = _scalar(connection, f"SELECT max(version) FROM {self._version_name}")  # noqa: S608
        return None if found is None else int(found)

    def _tables(self, connection: Connection) -> set[str]:
        # Read as rows: what the server remembers of names may be older than a lock that was waited for.
        query = (
            "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
            "WHERE nspname = %s AND relname IN ('charges', 'costmeter_schema')"
        )
        return {name for (name,) in connection.execute(query, [self._schema_name])}

    def prepare(self, connection: Connection, deadline: float) -> None:
        """Create what is missing, bring an older layout up to date, and see that charges fit in.

        Raises:
            SinkError: The layout is of a newer release, or the table is not ours.
        """
        version = self.version(connection)
        if version is None or version < VERSION:
            with rolled_back(connection):
                connection.execute(self.begin(deadline))
                # Hosts that start at the same moment lay out one after another; the later ones find it done.
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [_lock_number(self._schema)])
                self._lay_out(connection)
                connection.execute("COMMIT")
        self._verify(connection)

    def _lay_out(self, connection: Connection) -> None:
        version = self.version(connection)
        if version is None:
            self._create(connection)
        elif version < VERSION:
            log().info("ledger gets the layout of this release", place=self.place, layout=version, new=VERSION)
            missing = missing_columns(self._columns(connection))
            statements = [f"ALTER TABLE {self.name} ADD COLUMN {column.name} {_type(column)}" for column in missing]
            statements += [self._comment(column) for column in missing]
            statements += [*self._indexes(), f"UPDATE {self._version_name} SET version = {VERSION}"]  # noqa: S608
            connection.execute("; ".join(statements))

    def _create(self, connection: Connection) -> None:
        if not _scalar(connection, "SELECT count(*) FROM pg_namespace WHERE nspname = %s", self._schema_name):
            connection.execute(f"CREATE SCHEMA {self._schema}")
        if self._tables(connection):
            raise SinkError(
                f"{self.place}: {self.name} and costmeter_schema do not belong together; name another schema"
            )
        columns = ", ".join(
            f"{column.name} {_type(column)}{' NOT NULL' if column.required else ''}" for column in COLUMNS
        )
        statements = [
            f"CREATE TABLE {self.name} ({columns}, PRIMARY KEY ({', '.join(KEY)}))",
            f"COMMENT ON TABLE {self.name} IS {_literal(TABLE_COMMENT)}",
            *map(self._comment, COLUMNS),
            *self._indexes(),
            f"CREATE TABLE {self._version_name} (version integer NOT NULL)",
            f"INSERT INTO {self._version_name} VALUES ({VERSION})",  # noqa: S608
        ]
        connection.execute("; ".join(statements))

    def _indexes(self) -> list[str]:
        return [
            f"CREATE INDEX IF NOT EXISTS {name} ON {self.name} ({', '.join(columns)})"
            for name, columns in INDEXES.items()
        ]

    def _comment(self, column: Column) -> str:
        return f"COMMENT ON COLUMN {self.name}.{column.name} IS {_literal(column.comment)}"

    def _verify(self, connection: Connection) -> None:
        found = self._columns(connection)
        verify(self.place, self.version(connection) or 0, found)
        for column in COLUMNS:
            if found[column.name] != _TYPES[column.kind]:
                kinds = f"{found[column.name]}, not {_TYPES[column.kind]}"
                raise SinkError(f"{self.place}: column {column.name} of {self.name} is {kinds}")

    def _columns(self, connection: Connection) -> dict[str, str]:
        query = (
            "SELECT attname, format_type(atttypid, atttypmod) "
            "FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
            "JOIN pg_namespace ON pg_namespace.oid = relnamespace "
            "WHERE nspname = %s AND relname = 'charges' AND attnum > 0 AND NOT attisdropped"
        )
        return dict(connection.execute(query, [self._schema_name]).fetchall())

    @contextmanager
    def cut_off(self, connection: Connection, deadline: float) -> Iterator[None]:
        """Break the connection at the deadline: a server that hangs sends nothing that a wait could end with.

        Raises:
            RetryableError: It came to that.
        """
        # A descriptor of its own: the connection's may be closed and given to another file before the timer runs.
        with socket.socket(fileno=os.dup(connection.fileno())) as wire:
            broken = threading.Event()
            timer = threading.Timer(max(deadline - self._monotonic(), _SHORTEST_WAIT), _break, [wire, broken])
            timer.daemon = True
            timer.start()
            try:
                yield
            except psycopg.Error:
                if not broken.is_set():
                    raise
            else:
                return
            finally:
                timer.cancel()
        raise RetryableError(f"{self.place}: no answer in time")

    def guarded(self, action: Callable[[], _Result], *, writes_rows: bool = False) -> _Result:
        """Do something with the server.

        Raises:
            Refused: It `writes_rows`, and a value in one of them is at fault.
            RetryableError: Anything else: an operator can mend it.
        """
        try:
            return action()
        except (psycopg.Error, UnicodeEncodeError, OSError) as error:
            refused = writes_rows and _blames_a_row(error)
            failure = Refused(_reason(error)) if refused else RetryableError(f"{self.place}: {_reason(error)}")
        # Raised outside the handler, so that the original, which quotes rows, is not its context.
        raise failure


@contextmanager
def rolled_back(connection: Connection) -> Iterator[None]:
    """Take a transaction back if its block fails."""
    try:
        yield
    except BaseException:
        with suppress(psycopg.Error):  # what failed is more telling than that it cannot be taken back
            connection.rollback()
        raise


def is_connection_string(dsn: str) -> bool:
    """Tell whether libpq can read a connection string or URL, and it says anything."""
    try:
        return bool(conninfo.conninfo_to_dict(dsn))
    except psycopg.ProgrammingError:
        return False


def _place(dsn: str) -> str:
    defaults = {option.keyword.decode(): (option.val or b"").decode() for option in pq.Conninfo.get_defaults()}
    given = {**defaults, **{name: str(value) for name, value in conninfo.conninfo_to_dict(dsn).items()}}
    host = given.get("host") or given.get("hostaddr") or "localhost"
    return f"{host}:{given.get('port') or 5432}/{given.get('dbname') or given.get('user') or ''}"


def _blames_a_row(error: Exception) -> bool:
    state = getattr(error, "sqlstate", None)
    # Without a state it was psycopg that refused, before anything was sent.
    return state.startswith(_REFUSALS) if state else isinstance(error, psycopg.DataError | UnicodeEncodeError)


def _reason(error: Exception) -> str:
    diagnosis = getattr(error, "diag", None)
    text = diagnosis.message_primary if diagnosis is not None else None
    if text is None:
        # Each address that was tried has a line; what is said twice is said once.
        text = ", ".join(dict.fromkeys(_REASON.findall(str(error)))) or str(error)
    return " ".join(text.split())[:_LONGEST]


def _type(column: Column) -> str:
    # Bytes in order, as other stores sort it, and faster to compare.
    return f'{_TYPES[column.kind]} COLLATE "C"' if column.name == KEY[0] else _TYPES[column.kind]


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None)


def _scalar(connection: Connection, query: str, *parameters: object) -> Any:
    row = connection.execute(query, parameters or None).fetchone()
    return row[0] if row else None


def _lock_number(schema: str) -> int:
    return int.from_bytes(blake2b(f"livekit-costmeter {schema}".encode(), digest_size=8).digest(), signed=True)


def _break(wire: socket.socket, broken: threading.Event) -> None:
    broken.set()
    with suppress(OSError):  # it is closed already
        wire.shutdown(socket.SHUT_RDWR)
