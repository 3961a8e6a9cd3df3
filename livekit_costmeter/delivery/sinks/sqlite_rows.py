"""
A charge as a row of the SQLite table, both ways.

Decimals are TEXT, because SQLite's own numbers are floats; instants are ISO 8601 text in UTC with microseconds, so that
they sort; `labels` is JSON text, `stale` 0 or 1.

Invariant: what is read back equals what was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any

from pydantic_core import from_json, to_json

from livekit_costmeter.delivery.sinks.layout import COLUMNS
from livekit_costmeter.records import CHARGE_FIELDS, Charge, decimal_text, format_instant, make_charge, parse_instant

_values = attrgetter(*CHARGE_FIELDS)


def row_of(charge: Charge) -> list[Any]:
    """Return the values of a charge as its columns hold them."""
    # This is the busiest loop of shipping, and most columns are text already.
    row = list(_values(charge))
    for position, column_value in _TO_COLUMNS:
        if row[position] is not None:
            row[position] = column_value(row[position])
    return row


def charge_of(row: tuple[Any, ...]) -> Charge:
    """Return the charge that a row of all columns, in their order, holds."""
    values = list(row)
    for position, value_of in _FROM_COLUMNS:
        if values[position] is not None:
            values[position] = value_of(values[position])
    charge: Charge = make_charge(*values)
    return charge


def _labels(labels: Mapping[str, str]) -> str:
    return to_json(labels, fallback=dict).decode()


def _converted(converters: Mapping[str, Callable[[Any], Any]]) -> list[tuple[int, Callable[[Any], Any]]]:
    return [(position, converters[column.kind]) for position, column in enumerate(COLUMNS) if column.kind in converters]


# The lines of a record share their instants, and nearly all lines their prices.
_TO_COLUMNS = _converted({
    "decimal": lru_cache(4096)(decimal_text),
    "instant": lru_cache(256)(format_instant),
    "labels": _labels,
    "boolean": int,
})  # fmt: skip
_FROM_COLUMNS = _converted({
    "decimal": lru_cache(16384)(Decimal),
    "instant": lru_cache(256)(parse_instant),
    "labels": from_json,
    "boolean": bool,
})  # fmt: skip
