"""
What an estimate came to, for people: tables with bars on a terminal, plain aligned lines anywhere else.

Invariant: plain text carries every amount whole; what is not priced, not known or left out is said in both. Where not
everything fits on a terminal, a column is left out as a whole and named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from livekit_costmeter.billing.estimates.ledger import Recorded
from livekit_costmeter.billing.estimates.parts import FEES, MEASURES, TAXES, TELEPHONY, Part, Sums
from livekit_costmeter.billing.estimates.quotes import Quote, Spread, share
from livekit_costmeter.cli.estimate.answer import Answer
from livekit_costmeter.cli.estimate.words import THE_CHEAPEST, introduction, remarks, statement_lines
from livekit_costmeter.records import UNIT_ORDER
from livekit_costmeter.reporting.tally import sorted_sums
from livekit_costmeter.reporting.wording import (
    AT_LEAST,
    NOT_KNOWN,
    NOTHING,
    UNPRICED,
    aligned_lines,
    cost_texts,
    money_text,
    name_text,
    quantity_texts,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_QUANTITY_STEP = Decimal("0.01")
_BAR = "bar"
_BAR_WIDTH = 12
_PADDING = 3  # what rich puts around a cell, at most
_WORDS = {"cost": "providers' cost", "billed": "on the bill", "own": "own providers", "paid": "paid in all"}
_SPARE = (_BAR, "p90", "p50", "a month", "owner", "share", "own providers")


@dataclass(frozen=True, slots=True)
class _Grid:
    """Columns and rows; `shares` are the lengths of the bars, by row."""

    titles: Sequence[str]
    numbers: Sequence[bool]
    rows: Sequence[Sequence[str]]
    shares: Sequence[Decimal | None] = ()


def answer_text(answer: Answer) -> str:
    """Return the answer as plain lines of any width, without styles."""
    grids = (aligned_lines([grid.titles, *grid.rows], grid.numbers) for grid in _grids(answer, exact=True))
    blocks = [[introduction(answer)], *grids, [*statement_lines(answer), *remarks(answer)]]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def print_answer(answer: Answer, console: Console) -> None:
    """Print the answer to a terminal."""
    from rich.text import Text

    console.print(Text(introduction(answer), style="bold"))
    for grid in _grids(answer, exact=False):
        console.print(_table(grid, console.width))
    for line in statement_lines(answer):
        console.print(Text(line))
    for line in remarks(answer):
        console.print(Text(line, style=_style(line)))


def _style(line: str) -> str:
    if line.startswith(THE_CHEAPEST):
        return "bold"
    return "yellow" if UNPRICED in line or "unknown" in line else "dim"


def _grids(answer: Answer, *, exact: bool) -> Iterator[_Grid]:
    if not answer.quotes:
        return
    if len(answer.quotes) > 1:
        yield _comparison(answer, exact=exact)
    shown = answer.quotes[answer.shown]
    if answer.recorded:
        yield _used(answer.recorded)
    yield _parts(answer, shown, exact=exact)
    yield _totals(answer, shown, exact=exact)


def _comparison(answer: Answer, *, exact: bool) -> _Grid:
    """Show one line per quote: what tells it from the others, and what it comes to."""
    components = [
        component
        for component in dict.fromkeys(s.component for quote in answer.quotes for s in quote.suppliers)
        if len({_supplier(quote, component) for quote in answer.quotes}) > 1
    ]
    plans = len({_plan(quote) for quote in answer.quotes}) > 1
    titles = ["", *(["plan"] if plans else []), *components]
    amounts = [_WORDS["cost"], "a call", "a minute", "a month", *(["p50", "p90"] if answer.recorded else [])]
    fits = ["fits"] if answer.max_per_minute is not None else []
    rows = []
    for position, quote in enumerate(answer.quotes):
        named = [*([_plan(quote)] if plans else []), *(_supplier(quote, component) for component in components)]
        mark = "cheapest" if position in answer.ranking.cheapest else str(position + 1)
        rows.append([mark, *named, *_line(answer, quote, exact=exact), *([_fits(answer, quote)] if fits else [])])
    numbers = [False] * len(titles) + [True] * len(amounts) + [False] * len(fits)
    return _Grid([*titles, *amounts, *fits], numbers, rows)


def _line(answer: Answer, quote: Quote, *, exact: bool) -> Iterator[str]:
    measure = answer.ranking.measure
    sums = quote.total.paid if measure == "paid" else quote.total.amounts["cost"]
    partial = not quote.knows(measure)
    yield _amount(quote, quote.total, "cost", exact=exact)
    yield _money(quote.per_call(sums), exact=exact, partial=partial)
    yield _money(quote.per_minute(sums), exact=exact, partial=partial)
    yield _money(quote.per_month(sums, answer.calls_per_month), exact=exact, partial=partial)
    if answer.recorded:
        spread = quote.spreads[measure]
        yield from (_spread_money(spread, name, exact=exact, partial=partial) for name in ("p50", "p90"))


def _used(recorded: Recorded) -> _Grid:
    """Show what the recorded calls used, per call."""
    amounts: dict[tuple[str, str, str], dict[str, Decimal]] = {}
    for (component, model, owner, unit), quantity in recorded.quantities.items():
        mean = share(quantity, 1, recorded.calls)
        amounts.setdefault((component, model, owner), {})[unit] = mean.quantize(_QUANTITY_STEP) or mean
    rows = [
        [*map(name_text, who), ", ".join(quantity_texts(sorted_sums(units, UNIT_ORDER), exact=True))]
        for who, units in sorted(amounts.items())
    ]
    return _Grid(["component", "recorded with", "owner", "used per call"], [False] * 4, rows)


def _parts(answer: Answer, quote: Quote, *, exact: bool) -> _Grid:
    """Show what each part of a call costs, and its share."""
    columns = [name for name in MEASURES if name != "own" or any(part.amounts["own"] for part in quote.parts)]
    parts = [part for part in quote.parts if part.name != TELEPHONY or not part.is_nothing()]
    titles = ["part", "by", "owner", *(_WORDS[name] for name in columns), "share", *([] if exact else [_BAR])]
    rows, shares = [], []
    for part in (*parts, quote.total):
        shares.append(_share(answer, quote, part))
        amounts = [_amount(quote, part, name, exact=exact) for name in columns]
        rows.append([part.name, *_who(quote, part), *amounts, _percent(shares[-1]), *([] if exact else [""])])
    numbers = [False] * 3 + [True] * (len(columns) + 1) + ([] if exact else [False])
    return _Grid(titles, numbers, rows, shares)


def _totals(answer: Answer, quote: Quote, *, exact: bool) -> _Grid:
    """Show a minute, a call and a month."""
    month = f"a month of {answer.calls_per_month:,} calls"
    titles = ["", "a minute", "a call", month, *(["p50", "p90"] if answer.recorded else [])]
    rows = []
    for name in ("cost", "billed", "own", "paid"):
        sums = quote.total.paid if name == "paid" else quote.total.amounts[name]
        if name == "own" and not sums:
            continue
        partial = not quote.total.knows(*(("billed", "own") if name == "paid" else (name,)))
        by = (quote.per_minute(sums), quote.per_call(sums), quote.per_month(sums, answer.calls_per_month))
        cells = [_money(amounts, exact=exact, partial=partial) for amounts in by]
        if answer.recorded:
            spread = quote.spreads[name]
            cells += [_spread_money(spread, part, exact=exact, partial=partial) for part in ("p50", "p90")]
        rows.append([_WORDS[name], *cells])
    return _Grid(titles, [False] + [True] * (len(titles) - 1), rows)


def _share(answer: Answer, quote: Quote, part: Part) -> Decimal | None:
    if part is quote.total:
        return Decimal(1) if quote.shares[answer.ranking.measure] else None
    return answer.share(quote, part)


def _who(quote: Quote, part: Part) -> tuple[str, str]:
    if part.name in (FEES, TAXES):
        return _plan(quote), ""
    component = "call" if part.name == TELEPHONY else part.name
    for supplier in quote.suppliers:
        if supplier.component == component:
            name = supplier.name if supplier.model else supplier.provider
            return name_text(name), name_text(supplier.owner or "as recorded")
    return ("", "") if part is quote.total else ("as recorded", "")


def _supplier(quote: Quote, component: str) -> str:
    return next((name_text(s.name.rstrip("/")) for s in quote.suppliers if s.component == component), NOTHING)


def _plan(quote: Quote) -> str:
    if quote.scheme.plan is not None:
        return quote.scheme.plan.name
    return "each account's" if quote.scheme.fees else "at cost"


def _amount(quote: Quote, part: Part, name: str, *, exact: bool) -> str:
    sums = part.amounts[name]
    if not sums and part.knows(name):
        return NOTHING
    return _money(quote.per_call(sums), exact=exact, partial=not part.knows(name))


def _money(sums: Sums, *, exact: bool, partial: bool) -> str:
    worth = {currency: amount for currency, amount in sums.items() if amount} or dict(list(sums.items())[:1])
    return ", ".join(cost_texts(worth, exact=exact, unpriced=partial))


def _spread_money(spread: Spread | None, name: str, *, exact: bool, partial: bool) -> str:
    if spread is None:
        return NOT_KNOWN
    return money_text(getattr(spread, name), spread.currency, exact=exact, partial=partial)


def _percent(share: Decimal | None) -> str:
    return NOTHING if share is None else f"{share * 100:.1f} %"


def _fits(answer: Answer, quote: Quote) -> str:
    fits = answer.fits(quote)
    return "unknown" if fits is None else "yes" if fits else "no"


def _table(grid: _Grid, width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = _fitting(grid, width)
    hidden = [title for index, title in enumerate(grid.titles) if index not in shown and title != _BAR]
    caption = f"no room for: {', '.join(hidden)}" if hidden else None
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, caption=caption, caption_justify="left")
    for index in shown:
        title = "" if grid.titles[index] == _BAR else grid.titles[index]
        table.add_column(title, justify="right" if grid.numbers[index] else "left", overflow="fold")
    for number, row in enumerate(grid.rows):
        cells: list[Any] = [
            _bar(grid.shares[number])
            if grid.titles[index] == _BAR
            else Text(row[index], style="yellow" if row[index].startswith((UNPRICED, AT_LEAST)) else "")
            for index in shown
        ]
        bold = row[0] in ("total", "cheapest", _WORDS["paid"])
        table.add_row(*cells, style="bold" if bold else "")
    return table


def _fitting(grid: _Grid, width: int) -> list[int]:
    from rich.cells import cell_len

    widths = [
        max(cell_len(text) for text in (grid.titles[index], *(row[index] for row in grid.rows))) + _PADDING
        for index in range(len(grid.titles))
    ]
    if _BAR in grid.titles:
        widths[grid.titles.index(_BAR)] = _BAR_WIDTH + _PADDING
    shown = list(range(len(grid.titles)))
    for title in _SPARE:
        if sum(widths[index] for index in shown) <= width:
            break
        shown = [index for index in shown if grid.titles[index] != title]
    return shown


def _bar(share: Decimal | None) -> Any:
    from rich.progress_bar import ProgressBar

    part = int((share or Decimal(0)) * 1000)
    return ProgressBar(
        total=1000,
        completed=max(min(part, 1000), 0),
        width=_BAR_WIDTH,
        style="bright_black",
        complete_style="cyan",
        finished_style="cyan",
    )
