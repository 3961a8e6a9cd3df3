"""
How values are worded for people: money, quantities, shares, names.

Invariant: what is shown is never more certain than what is known: a partial cost is a lower bound and rounds down, a
share of estimates rounds up. Text from outside cannot break a line or steer a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_UP, Decimal

from livekit_costmeter.records import decimal_text
from livekit_costmeter.reporting.tally import EXACT, UnpricedModel

NOTHING = "-"
NOT_KNOWN = "n/a"
UNPRICED = "unpriced"
AT_LEAST = ">= "
_MONEY_STEP = Decimal("1e-6")
_PERCENT_STEP = Decimal("0.1")


def name_text(value: str | None) -> str:
    """Return a name from outside with control characters escaped; `-` where there is none."""
    if not value:
        return NOTHING
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in value)


def money_text(amount: Decimal, currency: str, *, exact: bool, partial: bool = False) -> str:
    """Return `0.012345 USD`, led by `>= ` if partial; not exact means 6 places, unless that would show nothing."""
    shown = decimal_text(amount)
    if not exact:
        rounding = ROUND_FLOOR if partial else ROUND_HALF_EVEN
        rounded = amount.quantize(_MONEY_STEP, rounding=rounding, context=EXACT)
        shown = f"{rounded:,f}" if rounded or not amount else shown
    return f"{AT_LEAST if partial else ''}{shown} {name_text(currency)}"


def cost_texts(cost: Mapping[str, Decimal], *, exact: bool, unpriced: bool) -> list[str]:
    """Return one text per currency; without any, `unpriced` or `n/a`."""
    if not cost:
        return [UNPRICED if unpriced else NOT_KNOWN]
    return [money_text(amount, currency, exact=exact, partial=unpriced) for currency, amount in cost.items()]


def quantity_texts(quantities: Mapping[str, Decimal], *, exact: bool) -> list[str]:
    """Return `1,234 input_tokens` per unit (exact: no separators), leaving out zeros among several."""
    known = {unit: decimal_text(amount) for unit, amount in quantities.items() if amount or len(quantities) == 1}
    return [f"{text if exact else f'{Decimal(text):,f}'} {name_text(unit)}" for unit, text in known.items()]


def percent_text(share: Decimal) -> str:
    """Return a share of 0 to 1 as `12.5 %`, rounded up."""
    percent = EXACT.multiply(share, Decimal(100)).quantize(_PERCENT_STEP, rounding=ROUND_UP, context=EXACT)
    return f"{decimal_text(percent)} %"


def records_text(count: int) -> str:
    """Return `1 record`, `2 records`."""
    return f"{count} record{'' if count == 1 else 's'}"


def unpriced_line(count: int, models: Iterable[UnpricedModel]) -> list[str]:
    """Say how many records have no price, of which models and why; nothing where all have one."""
    if not count:
        return []
    named = ", ".join(
        f"{name_text(each.provider)}/{name_text(each.model)} ({name_text(each.reason)}) x {each.records}"
        for each in models
    )
    return [f"{records_text(count)} {UNPRICED}: {named}"]


def period_text(since: datetime | None, until: datetime | None) -> str | None:
    """Return a period as a title; `None` where it has no bounds."""
    if since is None and until is None:
        return None
    return f"{_instant(since, 'the beginning')} to {_instant(until, 'now')}, UTC"


def _instant(instant: datetime | None, open_end: str) -> str:
    return open_end if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M}"


def aligned_lines(lines: Sequence[Sequence[str]], numbers: Sequence[bool]) -> list[str]:
    """Return rows of cells as lines, columns two spaces apart, those with numbers at the right."""
    widths = [max(len(line[index]) for line in lines) for index in range(len(numbers))]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, numbers, strict=True)
        ).rstrip()
        for line in lines
    ]
