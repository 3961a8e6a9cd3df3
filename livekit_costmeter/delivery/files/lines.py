"""
One checksummed line, the unit in which segments and charges files grow and are read.

Format: the Adler-32 of the payload as eight hex digits, a space, the payload (JSON, so without a raw newline), a
newline. Adler-32 and not CRC-32, because the writer is on an event loop: a CRC's table of 16 KB is out of the cache by
then, and fetching it costs more than the sum itself.

Invariant: a line is either whole and verified or it is reported as damaged; half a line is never taken for a record.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import adler32

_CHUNK = 1 << 20
_PREFIX = 9


def encode_line(payload: bytes) -> bytes:
    """Frame one JSON payload as a line, newline included."""
    return b"%08x %b\n" % (adler32(payload), payload)


def decode_line(line: bytes) -> bytes | None:
    """Return the payload of a line without its newline, or `None` if the checksum does not match."""
    payload = line[_PREFIX:]
    return payload if line[:_PREFIX] == b"%08x " % adler32(payload) else None


@dataclass(frozen=True, slots=True)
class Line:
    """A complete line: `payload` is `None` where the checksum failed, `end` the offset behind the newline."""

    end: int
    payload: bytes | None


def read_lines(descriptor: int, offset: int = 0, limit: int | None = None) -> Iterator[Line]:
    """Yield every complete line from a byte offset on, up to the offset `limit` or the end of the file.

    What follows the last newline is left alone: compare the last `end` with the size to see it.
    """
    rest = b""
    while True:
        room = _CHUNK if limit is None else min(_CHUNK, limit - offset - len(rest))
        chunk = os.pread(descriptor, room, offset + len(rest)) if room > 0 else b""
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            offset += len(line) + 1
            yield Line(offset, decode_line(line))
