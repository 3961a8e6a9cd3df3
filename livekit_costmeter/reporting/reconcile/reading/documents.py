"""
JSON one document at a time: a page, a list of pages, JSON lines, or pages written one after the other.

Invariant: at most one document is in memory, none larger than 16 MiB; numbers are exact (`Decimal`, never float), and
a value that is not what was expected is refused with its path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, TextIO

from livekit_costmeter.reporting.reconcile.lines import ExportError
from livekit_costmeter.reporting.reconcile.reading import cells

LARGEST_DOCUMENT = 16 << 20
_BLOCK = 1 << 18
_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST_NUMBER = 80


def _exact(text: str) -> Decimal:
    if len(text) > _LONGEST_NUMBER:
        raise cells.CellError(f"{cells.shown(text)} is out of range; expected a number below 10^18")
    return Decimal(text)


def _refuse_constant(text: str) -> NoReturn:
    raise cells.CellError(f"{text} is not a number of JSON")


_DECODER = json.JSONDecoder(parse_float=_exact, parse_int=_exact, parse_constant=_refuse_constant)


class Node:
    """An object of a document and where it stands; reading a value of another kind raises `ExportError`."""

    __slots__ = ("data", "place")

    def __init__(self, data: Mapping[str, Any], place: str) -> None:
        self.data = data
        self.place = place

    def at(self, name: str) -> str:
        """Return the place of a value."""
        return f"{self.place}{'.' if '#' in self.place else '#'}{cells.shown(name)[1:-1]}"

    def error(self, name: str, message: str) -> ExportError:
        """Return an error at a value."""
        return ExportError(f"{self.at(name)}: {message}")

    def children(self, name: str) -> Iterator[Node]:
        """Yield the objects of a list; an absent or null list is empty."""
        found = self.data.get(name)
        if found is None:
            return
        if not isinstance(found, list):
            raise self.error(name, f"{cells.shown(found)} is not a list")
        for position, item in enumerate(found):
            if not isinstance(item, dict):
                raise self.error(f"{name}[{position}]", f"{cells.shown(item)} is not an object")
            yield Node(item, self.at(f"{name}[{position}]"))

    def child(self, name: str) -> Node:
        """Return an object; an absent or null one is empty."""
        found = self.data.get(name)
        if found is not None and not isinstance(found, dict):
            raise self.error(name, f"{cells.shown(found)} is not an object")
        return Node(found or {}, self.at(name))

    def number(self, name: str, *, signed: bool = False) -> Decimal | None:
        """Return a number, written as such or as text; `None` where it is absent, null or blank."""
        found = self.data.get(name)
        if found is None or found == "":
            return None
        try:
            return cells.number(found, signed=signed)
        except cells.CellError as error:
            raise self.error(name, str(error)) from None

    def text(self, name: str) -> str | None:
        """Return a name; `None` where it is absent, null or blank."""
        found = self.data.get(name)
        if found is None:
            return None
        if not isinstance(found, str):
            raise self.error(name, f"{cells.shown(found)} is not text")
        try:
            return cells.name(found)
        except cells.CellError as error:
            raise self.error(name, str(error)) from None

    def texts(self, name: str) -> list[str]:
        """Return a list of names; one alone counts as a list, an absent or null one is empty."""
        found = self.data.get(name)
        items = found if isinstance(found, list) else [] if found is None else [found]
        if not all(isinstance(item, str) for item in items):
            raise self.error(name, f"{cells.shown(found)} is not a list of texts")
        return items

    def currency(self, name: str) -> str:
        """Return a currency code, in capitals."""
        try:
            return cells.currency(self.text(name))
        except cells.CellError as error:
            raise self.error(name, str(error)) from None

    def instant(self, name: str) -> datetime:
        """Return a time: a Unix time or ISO 8601."""
        found = self.data.get(name)
        if not isinstance(found, str | Decimal):
            raise self.error(name, f"{cells.shown(found)} is not a time; expected Unix seconds or ISO 8601")
        try:
            return cells.instant(str(found))
        except cells.CellError as error:
            raise self.error(name, str(error)) from None


def read_documents(text: TextIO, path: Path) -> Iterator[Node]:
    """
    Yield the documents of a file, each with its place `file:line`.

    Raises:
        ExportError: It is not JSON, ends in the middle, nests too deeply, or a document is not an object or too large.
    """
    scanner = _Scanner(text, path)
    listed = scanner.skip() == "["
    if listed:
        scanner.step()
    while character := scanner.skip():
        if listed and character == "]":
            scanner.step()
            if scanner.skip():
                raise scanner.error("something follows the list; expected the end of the file")
            return
        yield scanner.document()
        if listed and scanner.skip() == ",":
            scanner.step()
            if scanner.skip() == "]":
                raise scanner.error("a comma before the end of the list; expected another object")
        elif listed and scanner.skip() not in ("]", ""):
            raise scanner.error("expected a comma or the end of the list")
    if listed:
        raise scanner.error("the file ends in the middle of a list; expected `]` (is it truncated?)")


class _Scanner:
    """A window over the text that grows until it holds a whole document."""

    def __init__(self, text: TextIO, path: Path) -> None:
        self._text = text
        self._path = path
        self._window = ""
        self._position = 0
        self._line = 1

    def error(self, message: str) -> ExportError:
        return ExportError(f"{self._path}:{self._line}: {message}")

    def step(self) -> None:
        self._move(self._position + 1)

    def skip(self) -> str:
        """Skip white space; return the next character, or nothing at the end."""
        while True:
            match = _SPACE.match(self._window, self._position)
            self._move(match.end() if match else self._position)
            if self._position < len(self._window):
                return self._window[self._position]
            if not self._grow(_BLOCK):
                return ""

    def document(self) -> Node:
        """Read the object that starts here."""
        if self._window[self._position] != "{":
            raise self.error(f"{cells.shown(self._window[self._position :][:40])} is not an object of JSON")
        while True:
            try:
                found, end = _DECODER.raw_decode(self._window, self._position)
            except json.JSONDecodeError as error:
                held = len(self._window) - self._position
                if held > LARGEST_DOCUMENT:
                    raise self.error("a document of more than 16 MiB; fetch or write smaller pages") from None
                if not self._grow(max(_BLOCK, held)):
                    raise self._not_json(error) from None
            except cells.CellError as error:
                raise self.error(str(error)) from None
            except RecursionError:
                raise self.error("nested too deeply; expected an export of a provider") from None
            else:
                node = Node(found, f"{self._path}:{self._line}")
                self._move(end)
                return node

    def _not_json(self, error: json.JSONDecodeError) -> ExportError:
        line = self._line + self._window.count("\n", self._position, error.pos)
        if error.pos >= len(self._window.rstrip()) or error.msg.startswith("Unterminated string"):
            return ExportError(f"{self._path}:{line}: the file ends in the middle of a document (is it truncated?)")
        return ExportError(f"{self._path}:{line}: not JSON: {error.msg}")

    def _move(self, position: int) -> None:
        self._line += self._window.count("\n", self._position, position)
        self._position = position

    def _grow(self, size: int) -> bool:
        more = self._text.read(size)
        if more:
            self._window = self._window[self._position :] + more
            self._position = 0
        return bool(more)
