"""
The ClickHouse layout: the table `<name>_rows` of what was written, and the view `<name>` of what holds.

One column per field of a charge, in order: decimals are `Decimal(38, 12)` (a unit price 18 places), instants
`DateTime64(6, 'UTC')`, labels a `Map`, what is unknown NULL. Behind them stands `precedence`, which falls with the
time at which the server took the row. The table is a `ReplacingMergeTree(precedence)` ordered by the key, so that
merges and the view (`FINAL`) keep of two rows with one key the one that came first. Its comment says the layout's
version; a layout only ever grows, and an older one gets the columns that it lacks.

Invariant: what goes into a column comes out equal. A value that does not fit is refused, never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from operator import attrgetter
from typing import Any

from livekit_costmeter.delivery.sinks.layout import COLUMNS, Column
from livekit_costmeter.records import CHARGE_FIELDS, Charge

VERSION = 1
COMMENT = "costmeter layout "
_PLACES = {"unit_price": 18}
_MANY_VALUES = frozenset(
    {"record_id", "operation_id", "session_id", "job_id", "room", "participant", "speech_id", "corrects"}
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST = (datetime(1900, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LATEST = (datetime(2299, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_EXACT = Context(prec=38, traps=[Inexact, InvalidOperation])


def column_type(column: Column) -> str:
    """Return the ClickHouse type of a column."""
    if column.kind == "text":
        name = "String" if column.required else "Nullable(String)"
        return name if column.name in _MANY_VALUES else f"LowCardinality({name})"
    name = {
        "integer": "UInt32",
        "boolean": "Bool",
        "decimal": f"Decimal(38, {_PLACES.get(column.name, 12)})",
        "instant": "DateTime64(6, 'UTC')",
        "labels": "Map(LowCardinality(String), String)",
    }[column.kind]
    return name if column.required else f"Nullable({name})"


TYPES = tuple(column_type(column) for column in COLUMNS)


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def create_table(rows: str) -> str:
    """Return the statement that makes the table where it is missing."""
    columns = ", ".join(_definition(column) for column in COLUMNS)
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(rows)} ({columns}, precedence UInt64 "
        "DEFAULT bitNot(toUInt64(toUnixTimestamp64Nano(now64(9)))), INDEX at_range at TYPE minmax GRANULARITY 1) "
        "ENGINE = ReplacingMergeTree(precedence) PARTITION BY toYYYYMM(at) ORDER BY (record_id, line) "
        f"SETTINGS non_replicated_deduplication_window = 1000 COMMENT '{COMMENT}{VERSION}'"
    )


def create_view(name: str, rows: str, *, anew: bool = False) -> str:
    """Return the statement that makes the view where it is missing, or makes it anew."""
    create = "CREATE OR REPLACE VIEW" if anew else "CREATE VIEW IF NOT EXISTS"
    fields = ", ".join(CHARGE_FIELDS)
    return f"{create} {quoted(name)} AS SELECT {fields} FROM {quoted(rows)} FINAL"  # noqa: S608


def additions(rows: str, missing: Sequence[Column]) -> list[str]:
    """Return the statements that bring an older table to this layout."""
    added = [f"ALTER TABLE {quoted(rows)} ADD COLUMN IF NOT EXISTS {_definition(column)}" for column in missing]
    return [*added, f"ALTER TABLE {quoted(rows)} MODIFY COMMENT '{COMMENT}{VERSION}'"]


def _definition(column: Column) -> str:
    return f"{column.name} {column_type(column)} COMMENT '{column.comment}'"


def columns_of(charges: Sequence[Charge]) -> list[Sequence[Any]]:
    """Return the values by column, as the client library takes them.

    Raises:
        ValueError, ArithmeticError, TypeError: A value fits no column.
    """
    return [_CONVERT[column.kind](column, list(map(attrgetter(column.name), charges))) for column in COLUMNS]


def misfits(charges: Sequence[Charge]) -> dict[str, str]:
    """Return the records of which a value fits no column, with the reason."""
    found: dict[str, str] = {}
    for charge in charges:
        for column in COLUMNS:
            try:
                _CONVERT[column.kind](column, [getattr(charge, column.name)])
            except (ValueError, ArithmeticError, TypeError, AttributeError):
                found.setdefault(charge.record_id, f"{column.name} does not fit {column_type(column)}")
    return found


def _texts(_column: Column, values: Sequence[Any]) -> Sequence[Any]:
    "".join(filter(None, values)).encode()  # half a surrogate pair would only be found in the middle of the insert
    return values


def _integers(_column: Column, values: Sequence[int]) -> Sequence[int]:
    if min(values) < 0 or max(values) >= 1 << 32:
        raise ValueError("out of range")
    return values


def _booleans(_column: Column, values: Sequence[bool]) -> Sequence[bool]:
    return values


def _decimals(column: Column, values: Sequence[Decimal | None]) -> Sequence[Decimal | None]:
    quantum = Decimal(1).scaleb(-_PLACES.get(column.name, 12))
    if not all(value is None or value.is_finite() for value in values):
        raise ValueError("not a number")
    return [None if value is None else value.quantize(quantum, context=_EXACT) for value in values]


def _instants(_column: Column, values: Sequence[datetime | None]) -> Sequence[int | None]:
    ticks = [None if value is None else (value - _EPOCH) // _MICROSECOND for value in values]
    known = [tick for tick in ticks if tick is not None]
    if known and not (min(known) >= _EARLIEST and max(known) < _LATEST):
        raise ValueError("out of range")
    return ticks


def _labels(_column: Column, values: Sequence[Mapping[str, str]]) -> Sequence[dict[str, str]]:
    for value in values:
        "".join((*value, *value.values())).encode()
    return [dict(value) for value in values]


_CONVERT: Mapping[str, Callable[[Column, Any], Sequence[Any]]] = {
    "text": _texts,
    "integer": _integers,
    "boolean": _booleans,
    "decimal": _decimals,
    "instant": _instants,
    "labels": _labels,
}
