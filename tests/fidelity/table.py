"""
The table of three counts: a rich one for people, JSON and CSV with every line, markdown with one row per case.

Invariant: the same results give the same text; a gap is relative to the ledger, and where the ledger has nothing, what
was counted all the same is said in full.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal

from rich.table import Table

from tests.fidelity.case import BILLED, ZERO, Line, Result

_PLACES = Decimal("0.001")
_FINE = Decimal("0.01")
# What a case is about, by the first letter of its code; those of other vendors are about all of it.
_SUBJECTS = {"L": "llm", "K": "llm", "X": "llm", "A": "llm", "T": "tts", "B": "tts", "S": "stt", "R": "realtime"}
_SHORT = {
    "input_tokens": "in",
    "cached_input_tokens": "cached",
    "input_audio_tokens": "audio in",
    "cached_input_audio_tokens": "cached audio",
    "output_tokens": "out",
    "reasoning_tokens": "reasoning",
    "output_audio_tokens": "audio out",
    "characters": "ch",
    "audio_seconds": "s",
    "connection_seconds": "s connected",
    "cache_write_tokens": "written to cache",
}
_FIELDS = (
    "case",
    "name",
    "component",
    "model",
    "unit",
    "ledger",
    "livekit",
    "costmeter",
    "livekit_gap",
    "gap",
    "basis",
)


def rows(results: Iterable[Result]) -> list[dict[str, str | None]]:
    """Return one mapping per line of each result; numbers are decimal strings, gaps fractions or null."""
    return [_row(result, line) for result in results for line in result.lines]


def totals(lines: Iterable[Line]) -> list[Line]:
    """Add up lines by component and unit."""
    sums: dict[tuple[str, str], list[Decimal | None]] = defaultdict(lambda: [ZERO, ZERO, ZERO])
    for line in lines:
        total = sums[line.component, line.unit]
        for position, amount in enumerate((line.ledger, line.livekit, line.costmeter)):
            total[position] = None if amount is None or total[position] is None else total[position] + amount
    ordered = sorted(sums.items(), key=lambda item: (item[0][0], BILLED.index(item[0][1])))
    return [Line(component, "", unit, *amounts, {}) for (component, unit), amounts in ordered]


def as_json(results: Sequence[Result]) -> str:
    """Return every line as an array of objects."""
    return json.dumps(rows(results), indent=1, ensure_ascii=False)


def as_csv(results: Sequence[Result]) -> str:
    """Return every line below a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(results))
    return text.getvalue().rstrip("\n")


def as_table(results: Sequence[Result]) -> Table:
    """Return a table for a terminal, totals last."""
    table = Table(title="What the providers saw, and who says so", box=None, header_style="bold", pad_edge=False)
    for name in ("case", "", "unit"):
        table.add_column(name, overflow="fold")
    for name in ("ledger", "LiveKit", "gap", "costmeter", "gap"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("known")
    for result in results:
        for number, line in enumerate(result.lines):
            head = (result.case.code, result.case.name) if number == 0 else ("", "")
            table.add_row(*head, f"{line.model} {line.unit}", *_counts(line), line.bases)
        table.add_section()
    for number, line in enumerate(_all(results)):
        table.add_row("all" if number == 0 else "", "", f"{line.component} {line.unit}", *_counts(line), "")
    return table


def as_markdown(results: Sequence[Result]) -> str:
    """Return one row per case, of the component that the case is about, and one per component for all cases."""
    lines = ["| case | the providers' ledger | LiveKit's usage | costmeter |", "|---|---|---|---|"]
    for result in results:
        subject = _SUBJECTS.get(result.case.code[0])
        own = totals(line for line in result.lines if subject in (None, line.component))
        lines.append(_markdown_row(f"{result.case.code}: {result.case.name}", own))
    everything = _all(results)
    for component in dict.fromkeys(line.component for line in everything):
        own = [line for line in everything if line.component == component]
        lines.append(_markdown_row(f"**all: {component}**", own))
    return "\n".join(lines)


def _markdown_row(name: str, lines: Sequence[Line]) -> str:
    columns = zip(*(_cells(line) for line in lines), strict=True) if lines else (("0",),) * 3
    return f"| {name} | {' | '.join('<br>'.join(column) for column in columns)} |"


def _row(result: Result, line: Line) -> dict[str, str | None]:
    return {
        "case": result.case.code,
        "name": result.case.name,
        "component": line.component,
        "model": line.model,
        "unit": line.unit,
        "ledger": text(line.ledger),
        "livekit": None if line.livekit is None else text(line.livekit),
        "costmeter": text(line.costmeter),
        "livekit_gap": fraction(line.livekit, line.ledger),
        "gap": fraction(line.costmeter, line.ledger),
        "basis": line.bases,
    }


def text(amount: Decimal | None) -> str:
    """Write an amount plainly, to three places."""
    if amount is None:
        return "n/a"
    return f"{amount.quantize(_PLACES).normalize():f}"


def fraction(amount: Decimal | None, ledger: Decimal) -> str | None:
    """Return by what part of the ledger an amount is off, to four places; None where one of them has nothing."""
    if amount is None:
        return None
    return f"{((amount - ledger) / ledger).quantize(Decimal('0.0001')).normalize():f}" if ledger else None


def gap(amount: Decimal | None, ledger: Decimal) -> str:
    """Write by how much an amount is off, for people; nothing if it is not, or if there is no amount."""
    if amount is None or amount == ledger:
        return ""
    if not ledger:
        return f"+{text(amount)}"
    share = (amount - ledger) / ledger
    return f"{share:+.1%}" if abs(share) < Decimal("0.1") else f"{share:+.0%}"


def _counts(line: Line) -> tuple[str, ...]:
    livekit = _coloured(gap(line.livekit, line.ledger), line.livekit, line.ledger)
    own = _coloured(gap(line.costmeter, line.ledger), line.costmeter, line.ledger)
    return text(line.ledger), text(line.livekit), livekit, text(line.costmeter), own


def _coloured(words: str, amount: Decimal | None, ledger: Decimal) -> str:
    is_off = amount is not None and abs(amount - ledger) > ledger * _FINE
    return f"[red]{words}[/red]" if words and is_off else words


def _all(results: Iterable[Result]) -> list[Line]:
    return totals(line for result in results for line in result.lines)


def _cells(line: Line) -> tuple[str, str, str]:
    unit = _SHORT.get(line.unit, line.unit)
    ledger = f"{text(line.ledger)} {unit}"
    return ledger, _marked(line.livekit, line.ledger), _marked(line.costmeter, line.ledger)


def _marked(amount: Decimal | None, ledger: Decimal) -> str:
    words = gap(amount, ledger)
    return f"{text(amount)} ({words.replace('-', '−')})" if words else text(amount)  # noqa: RUF001 - a minus sign
