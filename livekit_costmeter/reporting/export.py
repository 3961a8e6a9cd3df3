"""
Charges as files: JSON lines, one JSON array, CSV.

Invariant: charges are written as they are read, one at a time and in their order, with every column of `CHARGE_FIELDS`.

`jsonl` has one object per line, `json` one array with an object per line. `csv` has a header; null is an empty field,
a boolean `true` or `false`, labels a JSON object; lines end in a bare newline.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

from livekit_costmeter.records import CHARGE_FIELDS, Charge, charge_fields, charge_json


def write_export(charges: Iterable[Charge], format: str, stream: TextIO) -> int:
    """Write the charges to a text stream and return how many they were.

    Raises:
        ValueError: The format is not one of `EXPORT_FORMATS`.
    """
    if format not in _WRITERS:
        raise ValueError(f"{format!r} is not one of {', '.join(EXPORT_FORMATS)}")
    return _WRITERS[format](charges, stream)


def _write_jsonl(charges: Iterable[Charge], stream: TextIO) -> int:
    count = 0
    for count, charge in enumerate(charges, 1):  # noqa: B007  the last number is the count
        stream.write(charge_json(charge).decode() + "\n")
    return count


def _write_json(charges: Iterable[Charge], stream: TextIO) -> int:
    count = 0
    for count, charge in enumerate(charges, 1):
        stream.write(("[\n" if count == 1 else ",\n") + charge_json(charge).decode())
    stream.write("\n]\n" if count else "[]\n")
    return count


def _write_csv(charges: Iterable[Charge], stream: TextIO) -> int:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CHARGE_FIELDS)
    count = 0
    for count, charge in enumerate(charges, 1):  # noqa: B007  the last number is the count
        writer.writerow([_csv_cell(value) for value in charge_fields(charge).values()])
    return count


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    return value


_WRITERS: Mapping[str, Callable[[Iterable[Charge], TextIO], int]] = {
    "jsonl": _write_jsonl,
    "json": _write_json,
    "csv": _write_csv,
}
EXPORT_FORMATS = tuple(_WRITERS)
