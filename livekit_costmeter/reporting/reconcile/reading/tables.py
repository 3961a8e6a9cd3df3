"""
CSV as blocks of columns that know their lines.

Invariant: every row is as wide as the header, or blank and left out, or refused with its line; memory holds one block.
Lines without quotes are split at the delimiter, which gives the same cells as the csv module in half the time; from
the first quote on, the csv module reads the rest.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO, overload

from livekit_costmeter.reporting.reconcile.lines import ExportError
from livekit_costmeter.reporting.reconcile.reading import cells

Row = list[str]

_ROWS = 1 << 9
_BLOCK = 1 << 16  # fits a processor's cache
_DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows, by column, and the line each stands on."""

    columns: Sequence[Sequence[str]]
    lines: Sequence[int]


class _Columns(Sequence[Sequence[str]]):
    """The columns of cells that stand row after row, an end between two rows; cut out when asked for."""

    def __init__(self, found: list[str], width: int) -> None:
        self._found = found
        self._width = width

    def __len__(self) -> int:
        return self._width

    @overload
    def __getitem__(self, position: int) -> list[str]: ...

    @overload
    def __getitem__(self, position: slice) -> list[Sequence[str]]: ...

    def __getitem__(self, position: int | slice) -> Sequence[Any]:
        if isinstance(position, slice):
            return [self[each] for each in range(self._width)[position]]
        return self._found[range(self._width)[position] :: self._width + 1]


class Table:
    """
    A CSV file with a header row.

    Attributes:
        path: The file, for messages.
        columns: The header, stripped.
        delimiter: Comma, semicolon, tab or bar, whichever makes the most columns of the header.
    """

    def __init__(self, text: TextIO, path: Path, delimiter: str | None = None) -> None:
        self.path = path
        self._text = text
        first, self._line = _header_line(text)
        self.delimiter = delimiter or max(_DELIMITERS, key=first.count)
        try:
            header = next(csv.reader([first], delimiter=self.delimiter, strict=True), [])
        except csv.Error as error:
            raise self.error(self._line, f"not CSV: {error}") from None
        self._header = self._line
        self.columns = tuple(cell.strip() for cell in header)

    def index(self, column: str) -> int | None:
        """
        Return the position of a column, `None` where there is none.

        Raises:
            ExportError: The header has it twice.
        """
        if self.columns.count(column) > 1:
            raise self.error(self._header, f"column {cells.shown(column)} stands here twice")
        return self.columns.index(column) if column in self.columns else None

    def require(self, columns: Sequence[str]) -> None:
        """
        Check that the header has some columns, once.

        Raises:
            ExportError: One is missing; the message names it and those there are.
        """
        for column in columns:
            if self.index(column) is None:
                there = ", ".join(cells.shown(column) for column in self.columns[:40])
                raise self.error(self._header, f"no column {cells.shown(column)} (there are: {there})")

    def rows(self, spell: Callable[[str], str], needed: Collection[str]) -> Iterator[tuple[int, dict[str, str]]]:
        """
        Yield the line and the cells of each row, by the name of their column in another spelling.

        Raises:
            ExportError: A needed column is missing, or there twice.
        """
        names = [spell(column) for column in self.columns]
        for name in needed:
            if names.count(name) != 1:
                there = ", ".join(cells.shown(column) for column in self.columns[:40])
                raise self.error(self._header, f"expected one column {cells.shown(name)} (there are: {there})")
        for block in self.blocks():
            for line, row in zip(block.lines, zip(*block.columns, strict=True), strict=True):
                yield line, dict(zip(names, row, strict=True))

    def error(self, line: int, message: str) -> ExportError:
        """Return an error at a line."""
        return ExportError(f"{self.path}:{line}: {message}")

    def blocks(self) -> Iterator[Block]:
        """
        Yield the rows, some hundreds at a time.

        Raises:
            ExportError: A row is too short or too long, or not CSV.
        """
        while text := self._text.read(_BLOCK):
            if not text.endswith("\n"):
                text += self._text.readline()
            plain = text.replace("\r\n", "\n")
            if '"' in plain or "\r" in plain:
                yield from self._quoted(text)
                return
            yield self._split(plain.removesuffix("\n"))

    def _split(self, text: str) -> Block:
        delimiter, width = self.delimiter, len(self.columns)
        count = text.count("\n") + 1
        lines = range(self._line + 1, self._line + 1 + count)
        self._line += count
        blank = "\n" + delimiter * (width - 1) + "\n"
        # One split for all rows. With their ends as cells, every row is as wide as the header if the ends are in step.
        found = text.replace("\n", f"{delimiter}\n{delimiter}").split(delimiter)
        in_step = found[width :: width + 1].count("\n") == count - 1 and len(found) == count * (width + 1) - 1
        if in_step and blank not in f"\n{text}\n":
            return Block(_Columns(found, width), lines)
        rows = [line.split(delimiter) for line in text.split("\n")]
        return self._even(list(zip(lines, rows, strict=True)))

    def _quoted(self, text: str) -> Iterator[Block]:
        lines = chain(io.StringIO(text, newline=""), self._text)
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
        before, rows = self._line, []
        line = before + 1
        try:
            for row in reader:
                rows.append((line, row))
                line = before + reader.line_num + 1
                if len(rows) == _ROWS:
                    yield self._even(rows)
                    rows = []
        except csv.Error as error:
            raise self.error(before + max(reader.line_num, 1), f"not CSV: {error}") from None
        yield self._even(rows)

    def _even(self, rows: Sequence[tuple[int, Row]]) -> Block:
        kept = [(line, fitted) for line, row in rows if (fitted := self._fit(line, row)) is not None]
        columns = list(zip(*(row for _, row in kept), strict=True)) or [()] * len(self.columns)
        return Block(columns, [line for line, _ in kept])

    def _fit(self, line: int, row: Row) -> Row | None:
        """Cut blank cells beyond the header; `None` for a blank row."""
        width = len(self.columns)
        if not any(map(str.strip, row)):
            return None
        if len(row) == width:
            return row
        if len(row) < width or any(map(str.strip, row[width:])):
            raise self.error(line, f"{len(row)} cells; expected {width} as in the header (is the file truncated?)")
        return row[:width]


def _header_line(text: TextIO) -> tuple[str, int]:
    line = 0
    while found := text.readline():
        line += 1
        if found.strip():
            return found, line
    return "", max(line, 1)
