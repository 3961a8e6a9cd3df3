"""
The Parquet sink: files for a lake, in a local directory or a bucket, one folder per UTC day of `at`.

    <root>/day=2026-11-20/<digest>.parquet     rows of one batch; the digest is of their keys
    <root>/_costmeter                          written by `check`, to see whether that is allowed

One column per field of a charge, in order: decimals are `decimal128(38, 12)` (a unit price 18 places), instants
`timestamp[us, UTC]`, labels a map, what is unknown null. The file's metadata says `costmeter.layout`; a layout only
ever grows, columns that an older file lacks are read as null.

Invariant: a file is never changed. A batch that comes again has the same names and is there already; rows that come
again in another batch are in two files, so whoever reads leaves out copies by (`record_id`, `line`), as `read` does
(the file that was there first counts). Returning from `write` means that the files are there, so nothing is held back
to make larger ones; the courier gathers rows instead, as `batch_rows` and `linger` ask for.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, model_validator

from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, SinkError
from livekit_costmeter.delivery.sinks.addresses import Secrets
from livekit_costmeter.delivery.sinks.layout import COLUMNS
from livekit_costmeter.delivery.sinks.parquet_store import BucketStore, DirectoryStore, Store
from livekit_costmeter.records import CHARGE_FIELDS, Charge

LAYOUT = 1
_LAYOUT_KEY = b"costmeter.layout"
_T = TypeVar("_T")
_TYPES = {
    "text": pa.string(),
    "integer": pa.int32(),
    "boolean": pa.bool_(),
    "decimal": pa.decimal128(38, 12),
    "instant": pa.timestamp("us", tz="UTC"),
    "labels": pa.map_(pa.string(), pa.string()),
}
SCHEMA = pa.schema(
    [
        pa.field(
            column.name,
            pa.decimal128(38, 18) if column.name == "unit_price" else _TYPES[column.kind],
            nullable=not column.required,
            metadata={"comment": column.comment},
        )
        for column in COLUMNS
    ],
    metadata={_LAYOUT_KEY: str(LAYOUT)},
)
_PLAIN = re.compile(r"https?://[^@?]*")
"""An address that holds no secret, and that an operator wants to read in a message."""
_LONGEST = 400
_ROWS_AT_ONCE = 2_000


class ParquetSink:
    """Write charges as Parquet files, which any number of hosts may add to."""

    readable = True

    class Options(BaseModel):
        """`path` of a directory, or `url` of a folder in a bucket (`s3://bucket/folder`, `gs://bucket/folder`).

        `storage` is what s3fs or gcsfs take (`key`, `secret`, `endpoint_url`, `token`, ...); without it they look where
        their vendors' tools look. `timeout` is for one file, in seconds. Files are gathered: up to `batch_rows` rows,
        for up to `linger` seconds.
        """

        model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
        path: Path | None = None
        url: str | None = Field(default=None, pattern=r"^(s3|gs)://[^/?#@\s]+(/[^?#\s]*)?$")
        storage: dict[str, Any] = Field(default_factory=dict, repr=False)
        compression: Literal["zstd", "snappy", "gzip", "none"] = "zstd"
        timeout: float = Field(default=10.0, gt=0)
        batch_rows: int = Field(default=20_000, ge=1, le=1_000_000)
        linger: float = Field(default=60.0, ge=0)

        @model_validator(mode="after")
        def _is_somewhere(self) -> ParquetSink.Options:
            if (self.path is None) == (self.url is None):
                raise ValueError("expected either path or url")
            return self

    def __init__(self, options: Options) -> None:
        self.batch_rows = options.batch_rows
        self.linger = options.linger
        self._compression = options.compression
        self._timeout = options.timeout
        self._secrets = Secrets(_texts(options.storage))
        self._place = options.url or str(options.path)
        self._store: Store = (
            BucketStore(options.url, options.storage, options.timeout)
            if options.url
            else DirectoryStore(Path(options.path or "."), options.timeout)
        )

    def open(self) -> None:
        """Do nothing: folders are made with their first file, and connections when they are needed."""

    def write(self, charges: Sequence[Charge]) -> None:
        """Add one file per day of `at`; the rows of one record have one `at`, so they are in one file."""
        days: dict[str, dict[tuple[str, int], Charge]] = {}
        for charge in charges:
            day = charge.at.astimezone(UTC).date().isoformat()
            days.setdefault(day, {}).setdefault((charge.record_id, charge.line), charge)
        # All of them are encoded before the first one is written: a refused record leaves nothing behind.
        files = {f"day={day}/{_digest(rows)}.parquet": self._encode(list(rows.values())) for day, rows in days.items()}
        for name, data in files.items():
            self._guarded(lambda name=name, data=data: self._store.create(name, data))  # type: ignore[misc]

    def _encode(self, rows: list[Charge]) -> bytes:
        try:
            table = _table(rows)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            raise RejectedRecords(_misfits(rows)) from None
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression=self._compression, store_schema=True)
        return buffer.getvalue()

    def _guarded(self, work: Callable[[], _T]) -> _T:
        try:
            return work()
        except SinkError:
            raise
        except TimeoutError:
            failure = RetryableError(f"{self._place}: no answer within {self._timeout:g} s")
        except Exception as error:
            failure = RetryableError(f"{self._place}: {self._reason(error)}")
        self.close()
        # Raised outside the handler: what the library said may hold a key.
        raise failure

    def _reason(self, error: Exception) -> str:
        if isinstance(error, ImportError):
            return f"{error.name} is not installed: pip install 'livekit-costmeter[parquet]'"
        text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        return self._secrets.conceal(text)[:_LONGEST]

    def check(self) -> str:
        """Write a marker, look at the newest file's layout, and say how many days there are."""
        self._guarded(lambda: self._store.replace("_costmeter", f"layout {LAYOUT}\n".encode()))
        days = self._guarded(self._store.days)
        newest = self._guarded(lambda: self._store.files(days[-1])) if days else []
        if newest:
            self._open(newest[-1])
        return f"{self._place}: {len(days)} days, layout {LAYOUT}"

    def read(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Charge]:
        """Yield the rows between two instants by day, each once, otherwise as they were written.

        One file is in memory at a time; telling copies apart costs about 100 bytes per row of one day.

        Raises:
            SinkError: It cannot be read, or a file is of a newer layout.
        """
        try:
            first, last = _day(since, "day=0"), _day(until, "day=~")
            for day in self._guarded(self._store.days):
                if first <= day <= last:
                    yield from self._read_day(day, since, until)
        finally:
            self.close()

    def _read_day(self, day: str, since: datetime | None, until: datetime | None) -> Iterator[Charge]:
        seen: set[bytes] = set()
        for name in self._guarded(lambda: self._store.files(day)):
            for batch in self._open(name).iter_batches(batch_size=_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    key = blake2b(f"{row['record_id']} {row['line']}".encode(), digest_size=16).digest()
                    if key in seen:
                        continue
                    seen.add(key)
                    charge = _charge(row)
                    if (since is None or charge.at >= since) and (until is None or charge.at < until):
                        yield charge

    def _open(self, name: str) -> pq.ParquetFile:
        data = self._guarded(lambda: self._store.content(name))
        try:
            file = pq.ParquetFile(pa.BufferReader(data))
            layout = int((file.schema_arrow.metadata or {}).get(_LAYOUT_KEY, 0))
        except (pa.ArrowException, ValueError) as error:
            raise SinkError(f"{self._place}/{name}: no Parquet file of ours: {str(error)[:_LONGEST]}") from None
        if not layout:
            raise SinkError(f"{self._place}/{name}: no Parquet file of ours")
        if layout > LAYOUT:
            raise SinkError(f"{self._place}/{name}: layout {layout} is of a newer release, this one reads {LAYOUT}")
        return file

    def close(self) -> None:
        """Close connections; idempotent."""
        self._store.close()


def _digest(rows: dict[tuple[str, int], Charge]) -> str:
    keys = "\n".join(f"{record_id} {line}" for record_id, line in sorted(rows))
    return blake2b(keys.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _table(rows: Sequence[Charge]) -> pa.Table:
    arrays = []
    for field in SCHEMA:
        values = [getattr(row, field.name) for row in rows]
        if pa.types.is_map(field.type):
            values = [list(value.items()) for value in values]
        arrays.append(pa.array(values, type=field.type))
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    table.validate(full=True)
    return table


def _misfits(rows: Sequence[Charge]) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in rows:
        try:
            _table([row])
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            found[row.record_id] = f"a value fits no column: {str(error)[:_LONGEST]}"
    return found


def _charge(row: dict[str, Any]) -> Charge:
    values: dict[str, Any] = {name: row.get(name) for name in CHARGE_FIELDS}
    values["labels"] = dict(values["labels"] or ())
    return Charge(**values)


def _day(instant: datetime | None, otherwise: str) -> str:
    return f"day={instant.astimezone(UTC).date().isoformat()}" if instant else otherwise


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if not _PLAIN.fullmatch(value):
            yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
