"""
The rows of one period that say the same, added up.

Invariant: the sums are exact and every cell has been looked at, though the work is done on whole columns: a million
rows cost little more than the csv module alone. A column with a cell that is not a plain number is read cell by cell,
and its mistake is named with its line. Buckets shorter than an hour are added up to the hour they are in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Context, Decimal
from functools import reduce
from operator import getitem
from typing import Any

from livekit_costmeter.reporting.reconcile.lines import ExportError
from livekit_costmeter.reporting.reconcile.reading import cells
from livekit_costmeter.reporting.reconcile.reading.columns import plain_numbers
from livekit_costmeter.reporting.reconcile.reading.files import open_text
from livekit_costmeter.reporting.reconcile.reading.periods import Period, bucket
from livekit_costmeter.reporting.reconcile.reading.tables import Block, Table

Texts = tuple[str, ...]
Key = tuple[Period, Texts]
ReadNumber = Callable[[str, bool], Decimal]

_ZEROS = frozenset(("", "0", "0.0", "0.00"))
_MOST_GROUPS = 1 << 15
_NOTHING = Decimal(0)
_add = Context(prec=200).add


def grouped(
    table: Table,
    span: Sequence[str],
    texts: Sequence[str],
    numbers: Mapping[str, bool],
    period: Callable[..., Period] = bucket,
    read: ReadNumber | None = None,
    *,
    dots: bool = True,
) -> Iterator[Group]:
    """
    Yield the rows of one period and the same texts together, in the order of their first rows.

    Args:
        table: Where the rows are.
        span: The columns that say when; they must exist.
        texts: The columns that say what; one that the header lacks is blank.
        numbers: The columns that say how much, and whether they may be negative; likewise.
        period: Reads the cells of `span`; raises `CellError`.
        read: Reads a cell of a number, and may be told that it can be negative; raises `CellError`.
        dots: It takes a dot for the decimal mark, so that plain numbers need not go through it.

    Raises:
        ExportError: A cell cannot be read.
    """
    layout = _Layout(table, span, texts, numbers, period, read, dots=dots)
    groups = _Groups(layout)
    for block in table.blocks():
        groups.add(block)
        if len(groups) > _MOST_GROUPS:
            yield from groups
            groups = _Groups(layout)
    yield from groups


class _Layout:
    """Where the wanted columns are, and how they are read."""

    def __init__(
        self,
        table: Table,
        span: Sequence[str],
        texts: Sequence[str],
        numbers: Mapping[str, bool],
        period: Callable[..., Period],
        read: ReadNumber | None,
        *,
        dots: bool,
    ) -> None:
        table.require(span)
        self.table = table
        self.period = period
        self.quick = dots and (read is not None or table.delimiter in ",\t")
        self.read = read or self._number
        self.span = list(map(table.columns.index, span))
        there = [text for text in dict.fromkeys(texts) if table.index(text) is not None]
        self.texts = [table.columns.index(text) for text in there]
        self.text_at = {text: position for position, text in enumerate(there)}
        self.numbers = {
            column: (position, signed)
            for column, signed in numbers.items()
            if (position := table.index(column)) is not None
        }

    def _number(self, text: str, signed: bool) -> Decimal:
        return cells.number(text, signed=signed, dots_may_group=self.table.delimiter == ";")


class Group:
    """
    Rows of one period that differ in numbers only.

    Attributes:
        period: Start and end, UTC.
        place: `file:line` of the first of its rows.
        key: The period and the cells that say what.
    """

    __slots__ = ("_layout", "_line", "_sums", "key", "period", "place")

    def __init__(self, layout: _Layout, key: Key, line: int, sums: Mapping[str, Decimal]) -> None:
        self._layout = layout
        self._line = line
        self._sums = sums
        self.key = key
        self.period = key[0]
        self.place = f"{layout.table.path}:{line}"

    def text(self, column: str) -> str | None:
        """
        Return what the rows say in a column; `None` where it is blank or there is none.

        Raises:
            ExportError: It has control characters or is a formula.
        """
        position = self._layout.text_at.get(column)
        if position is None:
            return None
        try:
            return cells.name(self.key[1][position])
        except cells.CellError as error:
            raise self.error(f"{column}: {error}") from None

    def currency(self, column: str) -> str:
        """
        Return the currency of the rows, in capitals.

        Raises:
            ExportError: It is not one.
        """
        try:
            return cells.currency(self.text(column))
        except cells.CellError as error:
            raise self.error(f"{column}: {error}") from None

    def total(self, column: str) -> Decimal | None:
        """Return the sum of a column; `None` where there is none or all its cells are blank."""
        return self._sums.get(column)

    def error(self, message: str) -> ExportError:
        """Return an error at the first of the rows."""
        return ExportError(f"{self.place}: {message}")

    def split(self) -> Iterator[Group]:
        """Read the file once more and yield each of the rows as a group of its own, to find the one that is wrong."""
        layout = self._layout
        with open_text(layout.table.path) as text:
            for block in Table(text, layout.table.path, layout.table.delimiter).blocks():
                for position, line in enumerate(block.lines):
                    row = Block([column[position : position + 1] for column in block.columns], [line])
                    if line >= self._line:
                        groups = _Groups(layout)
                        groups.add(row)
                        yield from (group for group in groups if group.key == self.key)


class _Spans(dict[Texts, "_Numbers"]):
    """The groups of a period by the cells that say when; several spans may be one period."""

    def __init__(self, period: Callable[..., Period], keys: list[Key]) -> None:
        super().__init__()
        self._period = period
        self._keys = keys
        self._numbers: dict[Period, _Numbers] = {}

    def __missing__(self, span: Texts) -> _Numbers:
        period = self._period(*span)
        found = self._numbers.get(period)
        if found is None:
            found = self._numbers[period] = _Numbers(period, self._keys)
        self[span] = found
        return found


class _Numbers(dict[Texts, int]):
    """The number of a group of one period by the cells that say what."""

    def __init__(self, period: Period, keys: list[Key]) -> None:
        super().__init__()
        self._period = period
        self._keys = keys

    def __missing__(self, texts: Texts) -> int:
        self[texts] = number = len(self._keys)
        self._keys.append((self._period, texts))
        return number


class _Groups:
    """
    Sums of the groups, by number of the group.

    A group is found by the cells that say when, then by those that say what, so that a time is read once; its sums are
    in one list per column, integers as such, because that is where a million rows go through.
    """

    def __init__(self, layout: _Layout) -> None:
        self._layout = layout
        self._keys: list[Key] = []
        self._lines: list[int] = []
        self._spans = _Spans(layout.period, self._keys)
        self._integers: dict[str, list[int]] = {column: [] for column in layout.numbers}
        self._decimals: dict[str, dict[int, Decimal]] = {column: {} for column in layout.numbers}
        self._said: dict[str, set[int]] = {column: set() for column in layout.numbers}

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Group]:
        for number, (key, line) in enumerate(zip(self._keys, self._lines, strict=True)):
            sums = {
                column: _add(self._integers[column][number], self._decimals[column].get(number, 0))
                for column, said in self._said.items()
                if number in said
            }
            yield Group(self._layout, key, line, sums)

    def add(self, block: Block) -> None:
        """Add the rows of a block to their groups."""
        layout, mine = self._layout, self._numbers_of(block)
        rows: defaultdict[int, list[int]] = defaultdict(list)
        for row, number in enumerate(mine):
            rows[number].append(row)
        there = set(rows)
        before: list[tuple[Sequence[str], list[Any]]] = []
        for column, (position, signed) in layout.numbers.items():
            found = block.columns[position]
            if found and found[0] in _ZEROS and found.count(found[0]) == len(found):
                if found[0]:
                    self._said[column] |= there
            elif layout.quick and (values := _same_as(before, found) or plain_numbers(found)):
                before.append((found, values))
                spoken = {number for number, cell in zip(mine, found, strict=True) if cell} if "" in found else there
                self._said[column] |= spoken
                self._add_values(column, values, rows)
            else:
                self._add_cells(column, signed, found, block.lines, mine)

    def _numbers_of(self, block: Block) -> list[int]:
        """Return the number of each row's group, after making those that are new."""
        layout = self._layout
        spans = list(zip(*(block.columns[position] for position in layout.span), strict=True))
        texts: list[Texts] = list(zip(*(block.columns[position] for position in layout.texts), strict=True))
        texts = texts or [()] * len(spans)
        try:
            mine = list(map(getitem, map(self._spans.__getitem__, spans), texts))
        except cells.CellError as error:
            bad = next(line for span, line in zip(spans, block.lines, strict=True) if span not in self._spans)
            raise layout.table.error(bad, str(error)) from None
        for number in range(len(self._lines), len(self._keys)):
            self._lines.append(block.lines[mine.index(number)])
            for sums in self._integers.values():
                sums.append(0)
        return mine

    def _add_values(self, column: str, values: Sequence[Any], rows: Mapping[int, Sequence[int]]) -> None:
        if values[0].__class__ is int:
            integers = self._integers[column]
            for number, mine in rows.items():
                integers[number] += sum(map(values.__getitem__, mine))
        else:
            decimals = self._decimals[column]
            for number, mine in rows.items():
                decimals[number] = reduce(_add, map(values.__getitem__, mine), decimals.get(number, _NOTHING))

    def _add_cells(
        self, column: str, signed: bool, found: Sequence[str], lines: Sequence[int], mine: Sequence[int]
    ) -> None:
        sums, said = self._decimals[column], self._said[column]
        for cell, line, number in zip(found, lines, mine, strict=True):
            if cell and not cell.isspace():
                try:
                    value = self._layout.read(cell, signed)
                except cells.CellError as error:
                    raise self._layout.table.error(line, f"{column}: {error}") from None
                sums[number] = _add(sums.get(number, 0), value)
                said.add(number)


def _same_as(before: Sequence[tuple[Sequence[str], list[Any]]], found: Sequence[str]) -> list[Any] | None:
    """Return the numbers of an earlier column with the same cells: text tokens are often all tokens."""
    return next((values for other, values in before if other == found), None)
