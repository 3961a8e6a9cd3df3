"""
The PostgreSQL sink: table `charges` in a schema of your choice, filled by COPY.

Columns, indexes and the layout's version are those of `layout`: decimals are `numeric`, instants `timestamptz`, labels
`jsonb`. It is laid out on first use; hosts that come at the same moment wait for each other (an advisory lock). A batch
is one transaction: COPY into a temporary table, then INSERT ... ON CONFLICT DO NOTHING. Everything that it sets lives
no longer than the transaction, so a pooler that hands out connections per transaction may stand in between.

Invariant: one row per (`record_id`, `line`), the first one written. Only what PostgreSQL says about a value of a row (a
NUL, a constraint, a trigger) refuses a record, and that record alone; whatever else goes wrong may be mended by an
operator, so the batch comes again, on a new connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_core import to_json

from livekit_costmeter.delivery.sinks import RetryableError
from livekit_costmeter.delivery.sinks.halving import send_in_halves
from livekit_costmeter.delivery.sinks.layout import KEY, VERSION
from livekit_costmeter.delivery.sinks.postgres_table import (
    Connection,
    PostgresTable,
    is_connection_string,
    rolled_back,
)
from livekit_costmeter.records import CHARGE_FIELDS, Charge

_Result = TypeVar("_Result")
_NAMES = ", ".join(CHARGE_FIELDS)
_STAGING = f"pg_temp.costmeter_staging_{VERSION}"
_LABELS = CHARGE_FIELDS.index("labels")
_FETCH = "FETCH 2000 FROM costmeter"
_READ_PATIENCE = 60.0
_COUNTED = 100_000
_key = attrgetter(*KEY)
_values = attrgetter(*CHARGE_FIELDS)


class PostgresSink:
    """Write charges to a PostgreSQL table, which any number of hosts may share."""

    readable = True
    batch_rows = 2_000
    """What a transaction costs beside its rows is little then, and finding refused records among them still quick."""

    class Options(BaseModel):
        """`dsn` is a connection string or URL, `schema` says where the tables are; the rest is in seconds.

        `connect_timeout` is for each address, `statement_timeout` the server's own patience with one statement,
        `timeout` ours with a batch: after that the connection is cut and the batch comes again.
        """

        model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
        dsn: SecretStr
        # Under a name of its own, because pydantic's models have a `schema` already.
        schema_: str = Field(default="public", alias="schema", pattern=r"^[^%]+$")
        connect_timeout: int = Field(default=4, ge=2)
        statement_timeout: float = Field(default=8.0, gt=0)
        timeout: float = Field(default=10.0, gt=0)

        @field_validator("dsn")
        @classmethod
        def _can_be_read(cls, dsn: SecretStr) -> SecretStr:
            if not is_connection_string(dsn.get_secret_value()):
                raise ValueError("expected a connection string such as postgresql://user:password@host:5432/database")
            return dsn

    def __init__(self, options: Options, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._timeout = options.timeout
        self._monotonic = monotonic
        self._connection: Connection | None = None
        self._table = PostgresTable(
            options.dsn.get_secret_value(),
            options.schema_,
            connect_timeout=options.connect_timeout,
            statement_timeout=options.statement_timeout,
            monotonic=monotonic,
        )
        table = self._table.name
        self._stage = (
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {_STAGING} ON COMMIT DELETE ROWS "  # noqa: S608
            f"AS SELECT {_NAMES} FROM {table} WITH NO DATA"
        )
        self._insert_new = (
            f"INSERT INTO {table} ({_NAMES}) SELECT {_NAMES} FROM {_STAGING} "  # noqa: S608
            f"ON CONFLICT ({', '.join(KEY)}) DO NOTHING; COMMIT"
        )

    def open(self) -> None:
        """Connect, and create the tables where missing; any number of hosts may do so at once."""
        self._guarded(lambda: self._connected(self._deadline()))

    def write(self, charges: Sequence[Charge]) -> None:
        """Insert the rows that are new, in one transaction; in several where the table refuses a record."""
        if not charges:
            return
        deadline = self._deadline()
        # In one order everywhere, so that two writers of the same rows wait for each other and never in a circle.
        send_in_halves(sorted(charges, key=_key), lambda rows: self._insert(rows, deadline), most=len(charges))

    def _insert(self, rows: list[Charge], deadline: float) -> None:
        if self._monotonic() >= deadline:
            raise RetryableError(f"{self._table.place}: not done in time")
        connection = self._guarded(lambda: self._connected(deadline))
        self._guarded(lambda: self._commit(connection, rows, deadline), writes_rows=True)

    def _commit(self, connection: Connection, rows: list[Charge], deadline: float) -> None:
        with self._table.cut_off(connection, deadline), rolled_back(connection):
            connection.execute(f"{self._table.begin(deadline)}; {self._stage}")
            with connection.cursor() as cursor, cursor.copy(f"COPY {_STAGING} ({_NAMES}) FROM STDIN") as copy:
                for charge in rows:
                    copy.write_row(_row(charge))
            connection.execute(self._insert_new)

    def _connected(self, deadline: float) -> Connection:
        if self._connection is None:
            connection = self._table.connect(deadline)
            try:
                with self._table.cut_off(connection, deadline):
                    self._table.prepare(connection, deadline)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _deadline(self) -> float:
        return self._monotonic() + self._timeout

    def _guarded(self, action: Callable[[], _Result], *, writes_rows: bool = False) -> _Result:
        try:
            return self._table.guarded(action, writes_rows=writes_rows)
        except RetryableError:
            self.close()  # it may be broken, or lead to a server that is no longer the one to write to
            raise

    def check(self) -> str:
        """Connect, look at layout and rights, and count the rows (up to 100,000)."""
        return self._guarded(self._look)

    def _look(self) -> str:
        deadline, table = self._deadline(), self._table
        connection = self._connected(deadline)
        query = (
            f"SELECT (SELECT count(*) FROM (SELECT 1 FROM {table.name} LIMIT {_COUNTED}) AS counted), "  # noqa: S608
            "has_table_privilege(%s, 'INSERT'), has_database_privilege(current_database(), 'TEMPORARY')"
        )
        with table.cut_off(connection, deadline):
            rows, may_insert, may_stage = connection.execute(query, [table.name]).fetchone() or (0, False, False)
        if not may_insert:
            raise RetryableError(f"{table.place}: no right to INSERT into {table.name}")
        if not may_stage:
            raise RetryableError(f"{table.place}: no right to make temporary tables (GRANT TEMPORARY ON DATABASE)")
        return f"{table.place}: {rows}{' or more' if rows == _COUNTED else ''} rows in {table.name}, layout {VERSION}"

    def read(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Charge]:
        """Yield the rows between two instants, ordered by `at`, streaming; nothing where there is no table yet.

        Raises:
            SinkError: It cannot be read.
        """
        rows = self._rows(since, until)
        try:
            while batch := self._table.guarded(lambda: next(rows, None)):
                yield from batch
        finally:
            rows.close()

    def _rows(self, since: datetime | None, until: datetime | None) -> Any:
        bounds = {"at >= %s": since, "at < %s": until}
        where = " AND ".join(["true", *(bound for bound, instant in bounds.items() if instant is not None)])
        query = (
            f"DECLARE costmeter NO SCROLL CURSOR FOR SELECT {_NAMES} FROM {self._table.name} "  # noqa: S608
            f"WHERE {where} ORDER BY at, {', '.join(KEY)}"
        )
        with closing(self._table.connect(self._deadline())) as connection:
            with self._read_limit(connection):
                if self._table.version(connection) is None:
                    return
                connection.execute("BEGIN; SET LOCAL TimeZone = 'UTC'")
                connection.execute(query, [instant for instant in bounds.values() if instant is not None])
            while True:
                with self._read_limit(connection):
                    rows = connection.execute(_FETCH, binary=True).fetchall()
                if not rows:
                    return
                yield [_charge(row) for row in rows]

    def _read_limit(self, connection: Connection) -> Any:
        # A report may have to wait for a sort; what it must not do is to wait for ever.
        return self._table.cut_off(connection, self._monotonic() + max(_READ_PATIENCE, self._timeout))

    def close(self) -> None:
        """Close the connection; idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _row(charge: Charge) -> list[Any]:
    row = list(_values(charge))
    row[_LABELS] = to_json(row[_LABELS], fallback=dict).decode()
    return row


def _charge(row: tuple[Any, ...]) -> Charge:
    labels = row[_LABELS]
    if len(labels) > 1:  # jsonb orders them by length; this is an order that anybody would expect
        row = (*row[:_LABELS], dict(sorted(labels.items())), *row[_LABELS + 1 :])
    return Charge(*row)
