"""
Charts made of characters, for terminals: bars, spark lines, histograms.

Invariant: a chart stands beside numbers and never instead of them; what is above nothing is drawn as something.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import ROUND_CEILING, Decimal

from livekit_costmeter.records import decimal_text
from livekit_costmeter.reporting.report import Report
from livekit_costmeter.reporting.tally import EXACT
from livekit_costmeter.reporting.views.percentiles import spread
from livekit_costmeter.reporting.wording import money_text, name_text

_SPARKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = "▏▎▍▌▋▊▉█"
_BINS = 10
_FEWEST = 5
_LONGEST = 92
_NICE = (Decimal(1), Decimal(2), Decimal(5), Decimal(10))
_ZERO = Decimal(0)


def bar(part: Decimal, whole: Decimal, width: int) -> str:
    """Return a bar of `part` out of `whole`, in eighths of a character."""
    if part <= 0 or whole <= 0:
        return ""
    eighths = max(1, int(EXACT.divide(EXACT.multiply(part, Decimal(8 * width)), whole)))
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest - 1] if rest else "")


def spark(values: Sequence[Decimal | None]) -> str:
    """Return one character per value, as high as its part of the largest; a space where there is nothing."""
    highest = max((value for value in values if value is not None), default=_ZERO)
    return "".join(" " if value is None or value <= 0 else _SPARKS[_height(value, highest)] for value in values)


def _height(value: Decimal, highest: Decimal) -> int:
    return int(EXACT.divide(EXACT.multiply(value, Decimal(len(_SPARKS) - 1)), highest))


def daily_lines(report: Report, width: int) -> list[str]:
    """Return a spark line of the cost per day and currency for a report by day, of at most the last `width` days.

    Nothing where days may be left out: they would look like days without cost.
    """
    if "day" not in report.by or report.left_out is not None:
        return []
    costs: dict[str, dict[date, Decimal]] = {}
    for row in report.rows:
        for currency, amount in row.cost.items():
            days = costs.setdefault(currency, {})
            day = date.fromisoformat(row.key["day"] or "")
            days[day] = EXACT.add(days.get(day, _ZERO), amount)
    return [_daily_line(currency, days, width) for currency, days in sorted(costs.items()) if len(days) > 1]


def _daily_line(currency: str, days: dict[date, Decimal], width: int) -> str:
    last = max(days)
    first = max(min(days), last - timedelta(days=min(width, _LONGEST) - 1))
    shown = [days.get(first + timedelta(days=index)) for index in range((last - first).days + 1)]
    highest = max(days, key=lambda day: days[day])
    return f"{first}  {spark(shown)}  {last}  highest {money_text(days[highest], currency, exact=False)} on {highest}"


def histogram_lines(values: Sequence[Decimal], currency: str, width: int) -> list[str]:
    """Return a histogram of the cost per call, one line per interval up to the 99th percentile, and one beyond.

    Nothing where there are too few calls to show a shape.
    """
    spreading = spread(values, 0, lambda mean: mean)
    if spreading is None or len(values) < _FEWEST or spreading.percentiles[99] <= 0:
        return []
    step = _step(spreading.percentiles[99])
    counts = [0] * (_BINS + 1)
    for value in values:
        counts[min(_BINS, max(0, int(EXACT.divide_int(value, step))))] += 1
    while not counts[-1]:
        counts.pop()
    labels = [_interval(index, step) for index in range(len(counts))]
    edge, number = max(map(len, labels)), max(len(f"{count:,}") for count in counts)
    room = max(8, min(40, width - edge - number - 4))
    lines = [
        f"{label:>{edge}}  {count:>{number},}  {bar(Decimal(count), Decimal(max(counts)), room)}".rstrip()
        for label, count in zip(labels, counts, strict=True)
    ]
    return [f"calls by cost, {name_text(currency)}", *lines]


def _step(highest: Decimal) -> Decimal:
    """Return the smallest width of 1, 2 or 5 times a power of ten with which the intervals reach `highest`."""
    raw = EXACT.divide(highest, Decimal(_BINS)).quantize(Decimal("1e-15"), rounding=ROUND_CEILING, context=EXACT)
    power = Decimal(1).scaleb(raw.adjusted())
    return next(step for step in (EXACT.multiply(nice, power) for nice in _NICE) if step >= raw)


def _interval(index: int, step: Decimal) -> str:
    low = decimal_text(EXACT.multiply(step, Decimal(index)))
    return f"from {low}" if index == _BINS else f"{low} to {decimal_text(EXACT.multiply(step, Decimal(index + 1)))}"
