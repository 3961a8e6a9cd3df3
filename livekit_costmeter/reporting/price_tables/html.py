"""
A price table as a page of its own.

Invariant: one file that loads nothing and runs nothing, and in which text from outside is text, never markup. It
follows the reader's light or dark theme, and its tables scroll where the screen is narrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from livekit_costmeter.reporting.price_tables.forms import WITH_PRIORITY, Cell, Column, row_sources, section_columns
from livekit_costmeter.reporting.wording import name_text

_STYLE = """\
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5d6878; --line: #e1e6ed; --page: #f6f8fb; --card: #ffffff;
  --accent: #0b6bcb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf1; --soft: #98a3b3; --line: #2b3340; --page: #10141a;
  --card: #181e27; --accent: #6cb2ff; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 2.5rem 1.25rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; }
h1 { margin: 0; font-size: 1.7rem; letter-spacing: -0.01em; }
h2 { margin: 2.25rem 0 0.6rem; font-size: 1.1rem; }
.when, footer { color: var(--soft); font-size: 0.9rem; }
.frame { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
table { width: 100%; border-collapse: collapse; font-size: 0.95rem; }
th, td { padding: 0.6rem 0.9rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
tbody tr:hover { background: color-mix(in srgb, var(--accent) 7%, transparent); }
thead th { color: var(--soft); font-size: 0.78rem; font-weight: 600; text-transform: uppercase;
  letter-spacing: 0.04em; vertical-align: bottom; }
tbody th { font-weight: 600; }
.price { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.priority { display: block; color: var(--soft); font-size: 0.85em; }
.source { display: block; color: var(--soft); font: 0.75rem/1.4 ui-monospace, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; max-width: 34rem; font-weight: 400; }
footer { margin-top: 2.25rem; }
footer p { margin: 0.2rem 0; }
@media print { body { background: none; padding: 0; } .frame { border: 0; } }
"""


def price_table_html(document: Mapping[str, Any]) -> str:
    """Return the table as one HTML document; a row's sources stand below its name."""
    title = escape(name_text(document["title"]))
    when = (
        f'<p class="when">Prices at {escape(document["at"][:16].replace("T", " "))}, UTC</p>\n'
        if document["at"]
        else ""
    )
    sections = "".join(part for section in document["sections"] for part in _section(section))
    notes = "".join(f"<p>{escape(name_text(note))}</p>\n" for note in document["notes"])
    footer = f"<footer>\n{notes}</footer>\n" if notes else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{title}</h1>\n{when}{sections}{footer}</main>\n</body>\n</html>\n"
    )


def _section(section: Mapping[str, Any]) -> Iterator[str]:
    columns = [column for column in section_columns(section) if column.title != "Source"]
    name = escape(section["title"])
    yield f'<section id="{section["key"]}">\n<h2>{name}</h2>\n<div class="frame">\n'
    yield f'<table aria-label="{name}">\n<thead>\n<tr>'
    yield "".join(f'<th scope="col"{_class(column)}>{escape(column.title)}</th>' for column in columns)
    yield "</tr>\n</thead>\n<tbody>\n"
    for number, row in enumerate(section["rows"]):
        cells = (_cell(column, column.cells[number], row) for column in columns)
        yield f"<tr>{''.join(cells)}</tr>\n"
    yield "</tbody>\n</table>\n</div>\n</section>\n"


def _cell(column: Column, cell: Cell, row: Mapping[str, Any]) -> str:
    if column.title == "Item":
        sources = "".join(f'<span class="source">{escape(source)}</span>' for source in row_sources(row))
        return f'<th scope="row">{escape(cell.text)}{sources}</th>'
    beside = f'<span class="priority">{escape(cell.beside)} {WITH_PRIORITY}</span>' if cell.beside else ""
    return f"<td{_class(column)}>{escape(cell.text)}{beside}</td>"


def _class(column: Column) -> str:
    return ' class="price"' if column.price else ""
