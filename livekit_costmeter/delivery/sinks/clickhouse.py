"""
The ClickHouse sink: native inserts into `charges_rows`, read through the view `charges` (see `clickhouse_table`).

Invariant: one row per (`record_id`, `line`) in the view, the first one written. ClickHouse enforces no keys, so a
repeat is harmless in two steps: a batch that comes again as it was is dropped by the server (its deduplication token is
the digest of its keys), and rows that come again in another batch are hidden by the view and gone after the next merge.
Ask the view, not the table. A batch is one block, which ClickHouse takes whole or not at all, per month of `at`.

Only what the server says about a value of a row (a constraint, a range) refuses a record, and that record alone;
whatever else goes wrong may be mended by an operator, so the batch comes again, on a new connection.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import blake2b
from typing import Any, TypeVar
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.datatypes.registry import get_from_name
from clickhouse_connect.driver.exceptions import ClickHouseError
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, SinkError
from livekit_costmeter.delivery.sinks import clickhouse_table as table
from livekit_costmeter.delivery.sinks.addresses import Address
from livekit_costmeter.delivery.sinks.deadline import within
from livekit_costmeter.delivery.sinks.layout import missing_columns
from livekit_costmeter.records import CHARGE_FIELDS, Charge

_Result = TypeVar("_Result")
_TYPES = [get_from_name(name) for name in table.TYPES]
_INTERFACES = {"clickhouse": "http", "http": "http", "clickhouses": "https", "https": "https", "chdb": "chdb"}
_REFUSALS = frozenset({69, 321, 407, 469})
"""ARGUMENT_OUT_OF_BOUND, VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE, DECIMAL_OVERFLOW, VIOLATED_CONSTRAINT."""
_SAID = re.compile(r"DB::Exception: (.+?)(?: \(for url [^)]*\)|$)", re.DOTALL)
_UNKNOWN_TABLE = 60
_READ_PATIENCE = 300.0
_LONGEST = 400


class _RowsRefused(SinkError):
    """The server refuses a value of a row."""


class ClickHouseSink:
    """Write charges to a ClickHouse table, which any number of hosts may share."""

    readable = True

    class Options(BaseModel):
        """`dsn` is an address such as `https://user:password@host:8443/database`; `table` names the view in it.

        The database is there; the table behind the view is `<table>_rows`. `chdb:///directory` is the engine of the
        package chdb in this process. `timeout` is for a batch, in seconds. Inserts are gathered: up to `batch_rows`
        rows, for up to `linger` seconds.
        """

        model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
        dsn: SecretStr
        table: str = Field(default="charges", min_length=1)
        timeout: float = Field(default=10.0, gt=0)
        batch_rows: int = Field(default=20_000, ge=1, le=200_000)
        linger: float = Field(default=5.0, ge=0)

        @field_validator("dsn")
        @classmethod
        def _can_be_read(cls, dsn: SecretStr) -> SecretStr:
            if not _is_address(dsn.get_secret_value()):
                raise ValueError("expected an address such as https://user:password@host:8443/database")
            return dsn

    def __init__(self, options: Options, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.batch_rows = options.batch_rows
        self.linger = options.linger
        self._dsn = options.dsn.get_secret_value()
        self._address = Address(self._dsn)
        self._view = options.table
        self._rows = f"{options.table}_rows"
        self._timeout = options.timeout
        self._monotonic = monotonic
        self._client: Any = None

    def open(self) -> None:
        """Connect, and lay out table and view where missing; any number of hosts may do so at once."""
        self._guarded(self._connected, self._deadline())

    def _deadline(self) -> float:
        return self._monotonic() + self._timeout

    def _connected(self) -> Any:
        if self._client is None:
            client = self._connect(self._timeout)
            try:
                self._lay_out(client)
            except BaseException:
                client.close()
                raise
            self._client = client
        return self._client

    def _connect(self, patience: float) -> Any:
        interface = _INTERFACES[urlsplit(self._dsn).scheme]
        if interface == "chdb":
            return clickhouse_connect.get_client(dsn=self._dsn, tz_mode="aware")
        return clickhouse_connect.get_client(
            dsn=self._dsn,
            interface=interface,
            tz_mode="aware",
            autogenerate_session_id=False,
            connect_timeout=max(1, round(self._timeout)),
            send_receive_timeout=max(1, round(patience)),
            query_retries=0,
            dedicated_pool=True,
        )

    def _lay_out(self, client: Any) -> None:
        version, found = self._layout(client)
        if version is None:
            client.command(table.create_table(self._rows))
        elif version > table.VERSION:
            raise SinkError(
                f"{self._address.shown}: layout {version} is of a newer release, "
                f"this one writes layout {table.VERSION}: upgrade it"
            )
        elif version < table.VERSION or missing_columns(found):
            for statement in table.additions(self._rows, missing_columns(found)):
                client.command(statement)
            client.command(table.create_view(self._view, self._rows, anew=True))
        if not client.command(f"EXISTS {table.quoted(self._view)}"):
            client.command(table.create_view(self._view, self._rows))

    def _layout(self, client: Any) -> tuple[int | None, list[str]]:
        """Return the layout's version (0 where the table says none, None where there is no table) and its columns."""
        query = (
            "SELECT comment, (SELECT groupArray(name) FROM system.columns WHERE database = currentDatabase() "
            "AND table = {rows:String}) FROM system.tables WHERE database = currentDatabase() AND name = {rows:String}"
        )
        found = client.query(query, parameters={"rows": self._rows}).result_rows
        if not found:
            return None, []
        version = found[0][0].removeprefix(table.COMMENT)
        return int(version) if version.isdecimal() else 0, found[0][1]

    def write(self, charges: Sequence[Charge]) -> None:
        """Insert the rows in one block; in several where the server refuses a record."""
        first = {(charge.record_id, charge.line): charge for charge in reversed(charges)}
        rejected: dict[str, str] = {}
        try:
            if first:
                self._insert(list(first.values())[::-1], self._deadline(), rejected)
        except RetryableError:
            if not rejected:
                raise
        if rejected:
            raise RejectedRecords(rejected)

    def _insert(self, rows: list[Charge], deadline: float, rejected: dict[str, str]) -> None:
        try:
            columns = table.columns_of(rows)
        except (ValueError, ArithmeticError, TypeError):
            rejected.update(table.misfits(rows))
            rows = [row for row in rows if row.record_id not in rejected]
            columns = table.columns_of(rows) if rows else []
        if not rows:
            return
        try:
            self._guarded(lambda: self._send(rows, columns), deadline)
        except _RowsRefused as refusal:
            records = list(dict.fromkeys(row.record_id for row in rows))
            if len(records) == 1:
                rejected[records[0]] = str(refusal)
                return
            for half in (set(records[: len(records) // 2]), set(records[len(records) // 2 :])):
                self._insert([row for row in rows if row.record_id in half], deadline, rejected)

    def _send(self, rows: list[Charge], columns: list[Sequence[Any]]) -> None:
        keys = "\n".join(f"{row.record_id} {row.line}" for row in rows)
        client = self._connected()
        context = client.create_insert_context(
            table.quoted(self._rows),
            column_names=CHARGE_FIELDS,
            column_types=_TYPES,
            column_oriented=True,
            settings={
                "insert_deduplicate": 1,
                "insert_deduplication_token": blake2b(keys.encode(), digest_size=16).hexdigest(),
                "max_partitions_per_insert_block": 0,  # a ledger of many years may be copied in one go
            },
        )
        # One block, not the library's several: that is what the server takes whole or not at all.
        context.req_block_size = len(rows)
        context.data = columns
        client.data_insert(context)

    def _guarded(self, work: Callable[[], _Result], deadline: float) -> _Result:
        try:
            return within(deadline - self._monotonic(), work)
        except TimeoutError:
            self._client = None  # somebody still waits on it; it is let go of, not closed
            raise RetryableError(f"{self._address.shown}: no answer within {self._timeout:g} s") from None
        except SinkError:
            self.close()
            raise
        except Exception as error:
            failure = self._failure(error)
        if not isinstance(failure, _RowsRefused):
            self.close()
        # Raised outside the handler: what the library said may hold an address with its password.
        raise failure

    def _failure(self, error: Exception) -> SinkError:
        text = self._address.conceal(_reason(error))[:_LONGEST]
        if getattr(error, "code", None) in _REFUSALS:
            return _RowsRefused(text)
        return RetryableError(f"{self._address.shown}: {text}")

    def check(self) -> str:
        """Connect, look at layout and rights, and say how many rows are stored."""
        return self._guarded(self._look, self._deadline())

    def _look(self) -> str:
        client, rows = self._connected(), table.quoted(self._rows)
        # Writes nothing, and fails where there is no right to write or to read.
        client.command(f"INSERT INTO {rows} SELECT * FROM {rows} WHERE 0")  # noqa: S608
        query = "SELECT total_rows FROM system.tables WHERE database = currentDatabase() AND name = {rows:String}"
        stored = client.query(query, parameters={"rows": self._rows}).result_rows[0][0]
        return f"{self._address.shown}: {stored or 0} rows in {self._rows}, layout {table.VERSION}"

    def read(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Charge]:
        """Yield the rows of the view between two instants, ordered by `at`, streaming; nothing where there is none yet.

        Raises:
            SinkError: It cannot be read.
        """
        bounds = {"at >= {since:DateTime64(6, 'UTC')}": since, "at < {until:DateTime64(6, 'UTC')}": until}
        where = " AND ".join(["true", *(bound for bound, instant in bounds.items() if instant is not None)])
        query = (
            f"SELECT {', '.join(CHARGE_FIELDS)} FROM {table.quoted(self._view)} "  # noqa: S608
            f"WHERE {where} ORDER BY at, record_id, line"
        )
        rows = self._stream(query, {"since": since, "until": until})
        while True:
            try:
                charge = next(rows, None)
            except Exception as error:
                if getattr(error, "code", None) == _UNKNOWN_TABLE:
                    return
                failure = SinkError(str(self._failure(error)))
            else:
                if charge is None:
                    return
                yield charge
                continue
            raise failure

    def _stream(self, query: str, instants: dict[str, datetime | None]) -> Iterator[Charge]:
        parameters = {name: instant for name, instant in instants.items() if instant is not None}
        client = self._connect(max(_READ_PATIENCE, self._timeout))
        try:
            with client.query_rows_stream(query, parameters=parameters) as stream:
                for row in stream:
                    yield Charge(*row)
        finally:
            client.close()

    def close(self) -> None:
        """Close the connection; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):  # it is being given up; what it had committed is acknowledged
                client.close()


def _reason(error: Exception) -> str:
    said = _SAID.search(str(error))
    if said is not None:
        return said[1]
    cause: BaseException = error.__cause__ or error  # the library's own words are about itself
    while isinstance(reason := getattr(cause, "reason", None), BaseException):
        cause = reason
    return str(cause) if isinstance(error, ClickHouseError) else f"{type(error).__name__}: {error}"


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in _INTERFACES and bool(parts.hostname or parts.scheme == "chdb") and (parts.port or 1) > 0
    except ValueError:
        return False
