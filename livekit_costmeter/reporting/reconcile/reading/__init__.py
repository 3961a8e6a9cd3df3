"""
Files of providers, safely: text, CSV, JSON, and the export as a parser sees it.

Invariant: a file is data from outside. Whatever it holds, reading it yields cells and objects within bounded memory,
or raises one `ExportError` with the file and the line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from livekit_costmeter.reporting.reconcile.lines import ExportError
from livekit_costmeter.reporting.reconcile.reading import cells
from livekit_costmeter.reporting.reconcile.reading.documents import Node, read_documents
from livekit_costmeter.reporting.reconcile.reading.files import open_text
from livekit_costmeter.reporting.reconcile.reading.groups import Group, grouped
from livekit_costmeter.reporting.reconcile.reading.periods import Period, bucket
from livekit_costmeter.reporting.reconcile.reading.tables import Table

__all__ = ["Export", "Group", "Head", "Node", "Period", "Table", "bucket", "cells", "grouped", "read_head"]


@dataclass(frozen=True, slots=True)
class Head:
    """
    What a file looks like, before anybody reads it.

    Attributes:
        name: The file's name, without its folder.
        columns: The header row of a CSV; empty for JSON.
        document: The first object of a JSON file; `None` for CSV and for an empty list.
    """

    name: str
    columns: tuple[str, ...] = ()
    document: Node | None = None

    @property
    def keys(self) -> frozenset[str]:
        """Return the keys of the first object."""
        return frozenset(self.document.data) if self.document else frozenset()

    def has(self, *names: str) -> bool:
        """Tell whether the header row, or the first object, has all these names."""
        return set(names) <= (self.keys or set(self.columns))


@dataclass(frozen=True, slots=True)
class Export:
    """
    A file a parser reads.

    Attributes:
        path: The file.
        provider: Whose it is, where the user said so; needed by formats that several providers share.
        window: The period the user asked for; the dates of files that have none.
    """

    path: Path
    provider: str | None = None
    window: Period | None = None

    @contextmanager
    def table(self, delimiter: str | None = None) -> Iterator[Table]:
        """
        Open the file as CSV.

        Raises:
            ExportError: It is JSON.
        """
        with open_text(self.path) as text:
            table = Table(text, self.path, delimiter)
            if table.columns and table.columns[0][:1] in ("{", "["):
                raise ExportError(f"{self.path}:1: this is JSON; expected CSV with a header row")
            yield table

    @contextmanager
    def table_or_none(self) -> Iterator[Table | None]:
        """Open the file as CSV where it is not JSON."""
        if read_head(self.path).columns:
            with self.table() as table:
                yield table
        else:
            yield None

    def documents(self) -> Iterator[Node]:
        """
        Yield the JSON objects of the file.

        Raises:
            ExportError: It is not JSON.
        """
        with open_text(self.path, lines=False) as text:
            yield from read_documents(text, self.path)

    def dates(self) -> Period:
        """
        Return the window as the dates of a file that has none.

        Raises:
            ExportError: The user gave no window.
        """
        if self.window is None:
            raise ExportError(f"{self.path}:1: the file has no dates; say which period it is of (--since and --until)")
        return self.window


def read_head(path: Path) -> Head:
    """
    Look at the start of a file.

    Raises:
        ExportError: It is empty, packed, or neither CSV nor JSON.
    """
    with open_text(path, lines=False) as text:
        start = text.read(1).strip()
        while not start and (more := text.read(1)):
            start = more.strip()
    if not start:
        raise ExportError(f"{path}:1: the file is empty; expected an export of a provider")
    if start in "{[":
        return Head(path.name, document=next(Export(path).documents(), None))
    with open_text(path) as text:
        return Head(path.name, columns=Table(text, path).columns)
