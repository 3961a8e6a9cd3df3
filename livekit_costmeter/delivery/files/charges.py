"""
The charges file of a segment, `<segment>.charges`: what the rating stage writes and the couriers read.

Format: checksummed lines (see `lines`). The first is `{"fields": [...]}`, the names of a charge's fields in order. Then
one per line of the segment that may be a record, `{"next": source offset behind it, "charges": [[value, ...], ...]}`;
the array is empty where there was nothing to charge or the record went to the dead letters. Values stand without
their names, which makes the file half as large and the shipper faster: it is read by the release that wrote it, and
where the fields have changed in between, the segment is rated again.

Invariant: a record's rows stay on one line, and a charge comes back equal to the one that was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any

from pydantic_core import from_json, to_json

from livekit_costmeter.delivery.files.lines import encode_line, read_lines
from livekit_costmeter.records import CHARGE_FIELDS, Charge, parse_instant

HEADER = encode_line(to_json({"fields": CHARGE_FIELDS}))
"""How a charges file of this release begins."""

_values = attrgetter(*CHARGE_FIELDS)
_AT, _STARTED_AT = CHARGE_FIELDS.index("at"), CHARGE_FIELDS.index("started_at")
_DECIMALS = tuple(position for position, name in enumerate(CHARGE_FIELDS) if "Decimal" in Charge.__annotations__[name])


def encode_charges(end: int, charges: Sequence[Charge]) -> bytes:
    """Return the line for one source line that ends at an offset."""
    return encode_line(to_json({"next": end, "charges": [_values(charge) for charge in charges]}, fallback=dict))


def decode_charges(payload: bytes) -> tuple[int, list[Charge]]:
    """Return the source offset and the charges of one line."""
    line = from_json(payload)
    return line["next"], [_charge(values) for values in line["charges"]]


def source_offset(payload: bytes) -> int:
    """Return the source offset of one line."""
    return int(from_json(payload)["next"])


def has_header(descriptor: int) -> bool:
    """Tell whether a charges file was begun by a release with the same fields."""
    first = next(iter(read_lines(descriptor, 0, len(HEADER))), None)
    return first is not None and first.payload == HEADER[9:-1]


def charge_lines(descriptor: int, offset: int, limit: int | None = None) -> Iterator[tuple[int, bytes | None]]:
    """Yield the offset behind each line and its payload, `None` where it is damaged, from an offset on."""
    for line in read_lines(descriptor, max(offset, len(HEADER)), limit):
        yield line.end, line.payload


def _charge(values: list[Any]) -> Charge:
    for position in _DECIMALS:
        if values[position] is not None:
            values[position] = Decimal(values[position])
    values[_AT] = parse_instant(values[_AT])
    if values[_STARTED_AT] is not None:
        values[_STARTED_AT] = parse_instant(values[_STARTED_AT])
    return Charge(*values)
