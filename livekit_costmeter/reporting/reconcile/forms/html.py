"""
A reconciliation as a page of its own.

Invariant: one file that loads nothing and runs nothing, and in which text from outside is text, never markup. It
follows the reader's light or dark theme.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from livekit_costmeter.reporting.reconcile.forms.words import TITLES, cells_of, shown_rows
from livekit_costmeter.reporting.reconcile.matching import Row
from livekit_costmeter.reporting.reconcile.result import Reconciliation
from livekit_costmeter.reporting.wording import name_text, period_text

_STYLE = """\
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5d6878; --line: #e1e6ed; --page: #f6f8fb; --card: #ffffff;
  --over: #b3261e; --within: #8a6100; --good: #1a7f4b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf1; --soft: #98a3b3; --line: #2b3340; --page: #10141a;
  --card: #181e27; --over: #ff8a80; --within: #f2c14e; --good: #6fdc9f; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 2.5rem 1.25rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 78rem; margin: 0 auto; }
h1 { margin: 0; font-size: 1.7rem; letter-spacing: -0.01em; }
h2 { margin: 2.25rem 0 0.6rem; font-size: 1.1rem; }
.when, footer { color: var(--soft); font-size: 0.9rem; }
.verdict { display: inline-block; margin: 1rem 0; padding: 0.25rem 0.75rem; border: 1px solid currentColor;
  border-radius: 999px; font-weight: 600; }
.over { color: var(--over); } .within { color: var(--within); } .agrees { color: var(--good); }
.no_provider_data, .no_meter_data { color: var(--over); }
.frame { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
table { width: 100%; border-collapse: collapse; font-size: 0.93rem; }
th, td { padding: 0.5rem 0.8rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-size: 0.78rem; font-weight: 600; white-space: nowrap; }
tr.unit > * { color: var(--soft); } tr.total > * { font-weight: 600; border-top: 2px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
ol { padding-left: 1.3rem; } li { margin: 0.6rem 0; } code { font-size: 0.9em; }
.evidence { display: block; color: var(--soft); overflow-wrap: anywhere; }
footer { margin-top: 2rem; } footer p { margin: 0.2rem 0; }
@media print { body { background: none; padding: 0; } .frame { border: 0; overflow: visible; } }
"""


def reconciliation_html(found: Reconciliation) -> str:
    """Return one HTML document."""
    title = f"Reconciliation with {escape(name_text(found.provider))}"
    verdict = ("over", "differs by more than it may") if found.over else ("agrees", "agrees")
    currency = f", cost in {escape(found.total.currency)}" if found.total.currency else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        f'<p class="when">{escape(period_text(found.since, found.until) or "")}{currency}</p>\n'
        f'<p class="verdict {verdict[0]}">{verdict[1]}</p>\n'
        f"{''.join(_table(found))}{''.join(_causes(found))}{_footer(found)}</main>\n</body>\n</html>\n"
    )


def _table(found: Reconciliation) -> Iterator[str]:
    yield '<div class="frame">\n<table aria-label="Comparison">\n<thead>\n<tr>'
    yield "".join(f'<th scope="col"{_align(number)}>{escape(title)}</th>' for number, title in enumerate(TITLES))
    yield "</tr>\n</thead>\n<tbody>\n"
    for row in (*shown_rows(found.rows), found.total):
        yield f'<tr class="{row.level}">{"".join(_cells(row))}</tr>\n'
    yield "</tbody>\n</table>\n</div>\n"


def _cells(row: Row) -> Iterator[str]:
    for number, cell in enumerate(cells_of(row)):
        text = escape(cell)
        if not number:
            yield f'<th scope="row">{text}</th>'
        elif number == len(TITLES) - 1:
            yield f'<td class="{row.state}">{text}</td>'
        else:
            yield f"<td{_align(number)}>{text}</td>"


def _align(number: int) -> str:
    return ' class="number"' if 1 < number < len(TITLES) - 1 else ""


def _causes(found: Reconciliation) -> Iterator[str]:
    if not found.findings:
        return
    yield "<h2>Causes, the one that explains most first</h2>\n<ol>\n"
    for finding in found.findings:
        yield (
            f"<li><code>{finding.code}</code> {escape(finding.words)}"
            f'<span class="evidence">{escape(name_text(finding.evidence))}</span></li>\n'
        )
    yield "</ol>\n"


def _footer(found: Reconciliation) -> str:
    notes = ["Percentages are of the provider's number.", *found.notes]
    if found.left_out:
        notes.append(f"One-sided rows are not in the total: {found.left_out}.")
    lines = "".join(f"<p>{escape(name_text(note))}</p>\n" for note in notes)
    return f"<footer>\n{lines}</footer>\n"
