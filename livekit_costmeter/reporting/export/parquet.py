"""
Parquet: rows of plain values into one file, and charges as such rows.

Invariant: rows are held for one row group at a time, money and quantities are exact or refused, and what was not
written to its end is no Parquet file. Decimals are
`decimal128(38, 18)`: 20 digits before the point, 18 after it. Charges have 12 places of money, 9 of quantities and up
to 18 of unit prices, so they fit; a number with more digits on either side does not, and the export ends there with the
column and the value in the message.

Instants are `timestamp[us, UTC]`, labels a map, integers `int32`, what is not known is null. pyarrow comes with the
extra `parquet`.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import IO, TYPE_CHECKING, Any, Literal

from livekit_costmeter.records import CHARGE_FIELDS, Charge

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

Kind = Literal["text", "integer", "boolean", "decimal", "instant", "labels"]
_ROW_GROUP = 10_000
_LONGEST = 200
_KINDS: Mapping[str, Kind] = {
    "int": "integer",
    "bool": "boolean",
    "Decimal": "decimal",
    "datetime": "instant",
    "Mapping[str, str]": "labels",
}
CHARGE_COLUMNS: tuple[tuple[str, Kind], ...] = tuple(
    (field.name, _KINDS.get(str(field.type).partition(" | ")[0], "text")) for field in dataclasses.fields(Charge)
)


class CannotExport(ValueError):
    """A format has no room for a value, or its library is not installed; the message says which."""


def write_charges_parquet(charges: Iterable[Charge], stream: IO[bytes]) -> int:
    """Write one row per charge, one column per field, and return how many."""
    return write_parquet(CHARGE_COLUMNS, map(attrgetter(*CHARGE_FIELDS), charges), stream)


def write_parquet(columns: Sequence[tuple[str, Kind]], rows: Iterable[Sequence[Any]], stream: IO[bytes]) -> int:
    """Write rows, each with one value per column (name and kind), and return how many they were.

    Raises:
        CannotExport: A value does not fit its column, or pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError:
        raise CannotExport("pyarrow is not installed: pip install 'livekit-costmeter[parquet]'") from None
    schema = _schema(columns)
    gate = _Gate(stream)
    count = 0
    with pq.ParquetWriter(gate, schema, compression="zstd") as writer:
        try:
            for group in _groups(iter(rows)):
                writer.write_table(_table(group, schema, count))
                count += len(group)
        except BaseException:
            gate.shut = True
            raise
    return count


class _Gate(io.RawIOBase):
    """Pass bytes on until it is shut: a writer that is stopped adds a footer, and half a file would look whole."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self.shut = False
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self.shut:
            self._stream.write(data)
        return len(data)


def _groups(rows: Iterator[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    while group := list(islice(rows, _ROW_GROUP)):
        yield group


def _schema(columns: Sequence[tuple[str, Kind]]) -> pa.Schema:
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "integer": pa.int32(),
        "boolean": pa.bool_(),
        "decimal": pa.decimal128(38, 18),
        "instant": pa.timestamp("us", tz="UTC"),
        "labels": pa.map_(pa.string(), pa.string()),
    }
    return pa.schema([pa.field(name, types[kind]) for name, kind in columns])


def _table(rows: Sequence[Sequence[Any]], schema: pa.Schema, before: int) -> pa.Table:
    import pyarrow as pa

    arrays = []
    for field, values in zip(schema, zip(*rows, strict=True), strict=True):
        plain = [list(value.items()) for value in values] if pa.types.is_map(field.type) else values
        try:
            arrays.append(pa.array(plain, type=field.type))
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            raise CannotExport(_misfit(plain, field, before)) from None
    return pa.Table.from_arrays(arrays, schema=schema)


def _misfit(values: Sequence[Any], field: pa.Field, before: int) -> str:
    import pyarrow as pa

    for row, value in enumerate(values, before + 1):
        try:
            pa.array([value], type=field.type)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            return f"row {row}, {field.name}: {str(value)[:_LONGEST]!r} does not fit {field.type}"
    return f"{field.name}: values do not fit {field.type}"
