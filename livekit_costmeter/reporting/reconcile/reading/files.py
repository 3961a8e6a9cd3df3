"""
Bytes to text: encodings, line lengths, and where a bad byte stands.

Invariant: memory stays bounded whatever the file holds; no line of CSV is longer than 1 MiB. The encoding is told by a
byte order mark or by where zero bytes stand, and is UTF-8 otherwise; a legacy code page is refused, not guessed.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from livekit_costmeter.reporting.reconcile.lines import ExportError

_BLOCK = 1 << 20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BLANK = b" \t\r\n\0\xef\xbb\xbf\xff\xfe"
_PACKED = {
    b"PK\x03\x04": "a ZIP archive or spreadsheet",
    b"\x1f\x8b": "compressed",
    b"PAR1": "Parquet",
    b"%PDF": "a PDF",
}


@contextmanager
def open_text(path: Path, *, lines: bool = True) -> Iterator[TextIO]:
    """
    Open a file as text, its line ends as they are.

    Args:
        path: The file.
        lines: It is read line by line, so a line has its bound; JSON is read by the block and may be one line.

    Raises:
        ExportError: It cannot be opened, is packed, or (while it is read) is not text of its encoding, or has an
            endless line.
    """
    try:
        raw = path.open("rb", buffering=0)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror or 'cannot be read'}") from None
    with raw:
        encoding, skip = _encoding(path, raw)
        raw.seek(skip)
        buffered = io.BufferedReader(_BoundedLines(raw, path) if lines else raw, _BLOCK)
        with io.TextIOWrapper(buffered, encoding, newline="") as text:
            try:
                yield text
            except UnicodeDecodeError as error:
                line = _bad_line(path, encoding, skip)
                raise ExportError(f"{path}:{line}: not {encoding.upper()} text; save it as UTF-8") from error


class _BoundedLines(io.RawIOBase):
    """Reads blocks of a file and refuses one without a line end, before anybody collects the line."""

    def __init__(self, raw: io.FileIO, path: Path) -> None:
        self._raw = raw
        self._path = path
        self._lines = 1
        self._open = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        count = self._raw.readinto(view) or 0
        block = bytes(view[:count])
        last = max(block.rfind(b"\n"), block.rfind(b"\r"))
        self._open = self._open + count if last < 0 else count - last
        self._lines += block.count(b"\n")
        if self._open > _BLOCK:
            raise ExportError(f"{self._path}:{self._lines}: a line of more than 1 MiB; expected rows or pages")
        return count


def _encoding(path: Path, raw: io.FileIO) -> tuple[str, int]:
    start = raw.read(4096)
    if not start.strip(_BLANK):
        raise ExportError(f"{path}:1: the file is empty; expected an export of a provider")
    for magic, kind in _PACKED.items():
        if start.startswith(magic):
            raise ExportError(f"{path}:1: this is {kind}; expected CSV or JSON (unpack it, or save it as CSV)")
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding, len(mark)
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if max(even, odd) > len(start) // 8 and min(even, odd) == 0:
        return ("utf-16-le" if odd else "utf-16-be"), 0
    return "utf-8", 0


def _bad_line(path: Path, encoding: str, skip: int) -> int:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    line = 1
    with path.open("rb") as file:
        file.seek(skip)
        while block := file.readline(_BLOCK):
            try:
                line += decoder.decode(block).count("\n")
            except UnicodeDecodeError:
                break
    return line
