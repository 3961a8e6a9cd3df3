"""
Price tables for people and spreadsheets: a table on a terminal, plain aligned lines elsewhere, CSV and JSON.

A table comes as the plain values of its JSON form: `{title, at, prices_in, currency, credits, notes, sections: [{key,
title, columns, rows: [{vendor, item, model, unit, terms, prices: [{of, value, shown, priority_value, priority_shown,
pricing_source}]}]}]}`.

CSV: one line per price, with `_COLUMNS` whatever the table holds; `value` is exact, `shown` as people read it, and
`prices_in` names the credits or the currency.

Invariant: what is not known is an empty cell, never 0, and no price is cut: names fold, and sources give way.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from livekit_costmeter.reporting.wording import aligned_lines, name_text

if TYPE_CHECKING:  # rich is imported when something is shown
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Document = Mapping[str, Any]
WITH_PRIORITY = "with priority"
_SOURCE = "Source"
_PADDING = 3  # what rich puts around a cell, at most
_SHORTEST = 8
_LEAST_SOURCE = 24
_COLUMNS = (
    "section",
    "vendor",
    "item",
    "model",
    "unit",
    "of",
    "prices_in",
    "value",
    "shown",
    "priority_value",
    "priority_shown",
    "terms",
    "pricing_source",
)


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in one place of a table; `beside` is the price with priority."""

    text: str
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A title, whether it holds prices, and one cell per row."""

    title: str
    price: bool
    cells: Sequence[Cell]


def price_table_json(document: Document) -> str:
    """Return the table as an indented JSON document, without a newline at the end."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def price_table_csv(document: Document) -> str:
    """Return the table as CSV with a header, lines ending in a bare newline."""
    credits_name = document["credits"] and document["credits"]["name"]
    prices_in = credits_name if document["prices_in"] == "credits" else document["currency"]
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for section in document["sections"]:
        for row in section["rows"]:
            common = {name: row[name] for name in ("vendor", "item", "model", "unit", "terms")}
            for price in row["prices"]:
                writer.writerow({"section": section["key"], "prices_in": prices_in, **common, **price})
    return text.getvalue()


def price_table_text(document: Document) -> str:
    """Return the table as plain lines of any width; a price with priority has a column of its own."""
    lines = [f"{name_text(document['title'])}{_when(document)}"]
    for section in document["sections"]:
        columns = [part for column in section_columns(section) for part in _side_by_side(column)]
        cells = [[column.title for column in columns]]
        cells += [[column.cells[row].text for column in columns] for row in range(len(section["rows"]))]
        lines += ["", section["title"], *aligned_lines(cells, [column.price for column in columns])]
    if document["notes"]:
        lines += ["", *(name_text(note) for note in document["notes"])]
    return "\n".join(lines) + "\n"


def print_price_table(document: Document, console: Console) -> None:
    """Print the table to a rich console on a terminal; on a narrow one sources have no room, and that is said."""
    from rich.text import Text

    console.print(Text(f"{name_text(document['title'])}{_when(document)}", style="bold"))
    hidden = False
    for section in document["sections"]:
        columns = section_columns(section)
        shown = columns if _room_for_sources(columns, console.width) else columns[:-1]
        hidden |= shown != columns
        console.print()
        console.print(_terminal_table(section["title"], shown))
    for note in [*document["notes"], *(["no room for: Source"] if hidden else [])]:
        console.print(Text(name_text(note), style="dim"))


def section_columns(section: Mapping[str, Any]) -> list[Column]:
    """Return the columns of a section: vendor, item, unit where it is not said by the prices, prices, terms, source."""
    rows = section["rows"]
    names = ["vendor", "item"] if "input" in section["columns"] else ["vendor", "item", "unit"]
    columns = [Column(name.capitalize(), price=False, cells=[_cell(row[name]) for row in rows]) for name in names]
    for of, title in section["columns"].items():
        prices = [next((price for price in row["prices"] if price["of"] == of), None) for row in rows]
        cells = [Cell(price["shown"], price["priority_shown"]) if price else Cell("") for price in prices]
        columns.append(Column(title, price=True, cells=cells))
    terms = Column("Terms", price=False, cells=[_cell(row["terms"]) for row in rows])
    sources = Column(_SOURCE, price=False, cells=[Cell(", ".join(row_sources(row))) for row in rows])
    return [*columns, *(column for column in (terms, sources) if any(cell.text for cell in column.cells))]


def row_sources(row: Mapping[str, Any]) -> list[str]:
    """Return the sources of a row's prices, each once."""
    return list(dict.fromkeys(name_text(price["pricing_source"]) for price in row["prices"] if price["pricing_source"]))


def _cell(text: str) -> Cell:
    return Cell(name_text(text) if text else "")


def _side_by_side(column: Column) -> Iterator[Column]:
    yield column
    if any(cell.beside for cell in column.cells):
        yield Column(WITH_PRIORITY, price=True, cells=[Cell(cell.beside) for cell in column.cells])


def _when(document: Document) -> str:
    return f" at {document['at'][:16].replace('T', ' ')}, UTC" if document["at"] else ""


def _room_for_sources(columns: Sequence[Column], width: int) -> bool:
    if columns[-1].title != _SOURCE:
        return True
    # What a cell needs at least: a price its digits, a name a few letters.
    needed = sum(
        _PADDING + (max(len(line) for line in _lines(column)) if column.price else _SHORTEST) for column in columns[:-1]
    )
    return needed + _LEAST_SOURCE <= width


def _lines(column: Column) -> Iterator[str]:
    yield from column.title.replace(" per ", "\nper ").split("\n")
    for cell in column.cells:
        yield cell.text
        yield _beside(cell)


def _beside(cell: Cell) -> str:
    return f"{cell.beside} {WITH_PRIORITY}" if cell.beside else ""


def _terminal_table(title: str, columns: Sequence[Column]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        title_style="bold cyan",
        box=box.SIMPLE_HEAD,
        header_style="bold",
        pad_edge=False,
    )
    for column in columns:
        # A price never wraps: a number that is cut would be a wrong number.
        heading = column.title.replace(" per ", "\nper ") if column.price else column.title
        justify: Literal["left", "right"] = "right" if column.price else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=column.price, vertical="top")
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(_terminal_cell(column, cell) for column, cell in zip(columns, row, strict=True)))
    return table


def _terminal_cell(column: Column, cell: Cell) -> Text:
    from rich.text import Text

    text = Text(cell.text, style="dim" if column.title == _SOURCE else "")
    if cell.beside:
        text.append(f"\n{_beside(cell)}", style="dim")
    return text
