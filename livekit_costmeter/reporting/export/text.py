"""
Charges as text: `jsonl`, `json` and `csv`.

Invariant: each charge is on its way before the next one is read.

`jsonl` has one object per line, `json` one array with an object per line. `csv` has a header; null is an empty field,
a boolean `true` or `false`, labels a JSON object; lines end in a bare newline.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from livekit_costmeter.records import CHARGE_FIELDS, Charge, charge_fields, charge_json


def write_jsonl(charges: Iterable[Charge], stream: TextIO) -> int:
    """Write one JSON object per line and return how many."""
    count = 0
    for count, charge in enumerate(charges, 1):  # noqa: B007  the last number is the count
        stream.write(charge_json(charge).decode() + "\n")
    return count


def write_json(charges: Iterable[Charge], stream: TextIO) -> int:
    """Write one JSON array and return how many objects it has."""
    count = 0
    for count, charge in enumerate(charges, 1):
        stream.write(("[\n" if count == 1 else ",\n") + charge_json(charge).decode())
    stream.write("\n]\n" if count else "[]\n")
    return count


def write_csv(charges: Iterable[Charge], stream: TextIO) -> int:
    """Write a header and one row per charge and return how many."""
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
