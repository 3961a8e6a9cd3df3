"""
Charges as files: JSON lines, one JSON array, CSV, Parquet.

Invariant: charges are written as they are read, in their order, with every column of `CHARGE_FIELDS`; what is in memory
does not grow with their number. A charge that a format has no room for ends the export with its name, never as another
value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

from livekit_costmeter.records import Charge
from livekit_costmeter.reporting.export.parquet import CannotExport, write_charges_parquet
from livekit_costmeter.reporting.export.text import write_csv, write_json, write_jsonl

__all__ = ["BINARY_FORMATS", "EXPORT_FORMATS", "CannotExport", "write_export"]

_WRITERS: Mapping[str, Callable[[Iterable[Charge], Any], int]] = {
    "jsonl": write_jsonl,
    "json": write_json,
    "csv": write_csv,
    "parquet": write_charges_parquet,
}
EXPORT_FORMATS = tuple(_WRITERS)
BINARY_FORMATS = frozenset({"parquet"})
"""Formats that want a stream of bytes; the others want one of text."""


def write_export(charges: Iterable[Charge], format: str, stream: IO[Any]) -> int:
    """Write the charges to a stream, of bytes for `BINARY_FORMATS` and else of text, and return how many they were.

    Raises:
        ValueError: The format is not one of `EXPORT_FORMATS`.
        CannotExport: The format has no room for a value, or its library is not installed.
    """
    if format not in _WRITERS:
        raise ValueError(f"{format!r} is not one of {', '.join(EXPORT_FORMATS)}")
    return _WRITERS[format](charges, stream)
