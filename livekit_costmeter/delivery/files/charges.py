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

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from livekit_costmeter.delivery.files.acks import Ack
from livekit_costmeter.delivery.files.lines import encode_line, read_lines
from livekit_costmeter.records import CHARGE_FIELDS, Charge, make_charge, parse_instant

HEADER = encode_line(to_json({"fields": CHARGE_FIELDS}))
"""How a charges file of this release begins."""

_FLAGS = os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC
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


def append_charges(path: Path, out: bytes, *, size: int, write: Callable[[int, bytes], int] = os.write) -> None:
    """Append lines to a charges file of that size, durably.

    Raises:
        OSError: The disk refused; the file is as it was.
    """
    descriptor = os.open(path, _FLAGS, 0o600)
    try:
        _write_whole(descriptor, out, write)
        os.fdatasync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
    finally:
        os.close(descriptor)


def _write_whole(descriptor: int, out: bytes, write: Callable[[int, bytes], int]) -> None:
    if write(descriptor, out) != len(out):
        raise OSError(errno.ENOSPC, "short write of charges")


def recover_charges(path: Path, seen: Ack) -> Ack | None:
    """Cut off what a crash left half written behind what was seen, and return how far the rest goes.

    `None` says that the file is of another release, or shorter than what was seen: the segment is to be rated again.
    """
    descriptor = os.open(path, _FLAGS, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size < seen.charges or (size and not has_header(descriptor)):
            return None
        whole = seen
        for end, payload in charge_lines(descriptor, seen.charges):
            if payload is None:
                break
            whole = Ack(end, source_offset(payload))
        if size > whole.charges:
            os.ftruncate(descriptor, whole.charges)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    return whole


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
    return make_charge(*values)
