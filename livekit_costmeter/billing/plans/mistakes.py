"""
What is wrong with a plan that its schema alone cannot see.

Invariant: a plan without a mistake has at most one rule of rates and of telephony for each unit at each instant, no
rule with a hole in its time, and an exchange rate for every currency that it prices in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from fnmatch import fnmatchcase
from functools import cache
from itertools import combinations, pairwise
from typing import NamedTuple

from livekit_costmeter.billing.exchange import ExchangeRates
from livekit_costmeter.billing.plans.plan import Plan
from livekit_costmeter.billing.plans.rules import Rule, is_exact
from livekit_costmeter.billing.schema import CREDITS, ExchangeRateModel, PlanModel

_LISTS = ("rates", "telephony", "fees")
_CATALOGS = "USD"
_Rows = Sequence[tuple[tuple[str, int], Rule]]


class Mistake(NamedTuple):
    """Where in the plan it is, and what it is."""

    location: tuple[str | int, ...]
    message: str


class _Period(NamedTuple):
    location: tuple[str | int, ...]
    start: date
    end: date


def find_mistake(model: PlanModel, exchange: ExchangeRates | None = None) -> Mistake | None:
    """Return the first mistake, or `None`; `exchange` are the rates that the plan need not state itself."""
    plan = Plan.from_model(model, "", exchange)
    rows = [((name, number), rule) for name in _LISTS for number, rule in enumerate(getattr(plan, name))]
    return next(
        (
            mistake
            for found in (
                _credits(model, rows),
                _identities(model, rows),
                _overlaps(rows),
                _pass_through(model),
                repeated_rates(model.exchange_rates),
                _currencies(model, plan, rows),
            )
            for mistake in found
        ),
        None,
    )


def repeated_rates(rows: Sequence[ExchangeRateModel]) -> Iterator[Mistake]:
    """Yield a mistake for each exchange rate that begins with an earlier row of the same pair."""
    seen: dict[object, int] = {}
    for number, row in enumerate(rows):
        first = seen.setdefault((row.from_currency, row.to_currency, row.effective_from), number)
        if first != number:
            pair = f"{row.from_currency} to {row.to_currency}"
            message = f"a second rate from {pair} for the same date as exchange_rates[{first}]"
            yield Mistake(("exchange_rates", number), message)


def _credits(model: PlanModel, rows: _Rows) -> Iterator[Mistake]:
    if model.credits is not None:
        return
    if model.prices_in == CREDITS:
        yield Mistake(("prices_in",), "prices in credits need `credits` with the price of one")
    for location, rule in rows:
        if rule.currency == CREDITS:
            yield Mistake((*location, "currency"), "a price in credits needs `credits` with the price of one")


def _identities(model: PlanModel, rows: _Rows) -> Iterator[Mistake]:
    first: dict[str, tuple[tuple[str, int], object]] = {}
    periods: dict[str, list[_Period]] = {}
    selected = [(location, rule.id, rule.selects()) for location, rule in rows]
    selected += [(("taxes", number), tax.id, ("taxes", *sorted(tax.on))) for number, tax in enumerate(model.taxes)]
    for location, name, selects in selected:
        earlier, expected = first.setdefault(name, (location, selects))
        if expected != selects:
            message = f"{name} is the id of {_text(earlier)}, which is about something else; ids name one rule"
            yield Mistake((*location, "id"), message)
        row = getattr(model, location[0])[location[1]]
        period = _Period(location, row.effective_from or date.min, row.effective_to or date.max)
        periods.setdefault(name, []).append(period)
    for name, spans in periods.items():
        yield from _breaks(name, spans)


def _breaks(name: str, spans: list[_Period]) -> Iterator[Mistake]:
    for earlier, later in pairwise(sorted(spans, key=lambda span: (span.start, span.end))):
        about = f"{_text(earlier.location)} and {_text(later.location)}"
        if later.start < earlier.end:
            when = "always" if later.start == date.min else f"on {later.start}"
            yield Mistake(later.location, f"two rules for one unit: {about} are both {name}, {when}")
        elif later.start > earlier.end:
            message = f"a gap in the dates of {name}: nothing from {earlier.end} to {later.start}, between {about}"
            yield Mistake(later.location, message)


def _overlaps(rows: _Rows) -> Iterator[Mistake]:
    for (first, one), (second, other) in combinations(rows, 2):
        if one.section != other.section or one.section == "fees" or one.rank != other.rank:
            continue
        if _same_work(one, other) and _same_time(one, other):
            about = f"{_text(first)} and {_text(second)}"
            message = f"two rules for one unit: {about} both charge {other.unit} of {_work(other)}"
            yield Mistake(second, f"{message}; narrow one of them, or keep their dates apart")


def _same_work(one: Rule, other: Rule) -> bool:
    numbers = one.number_type is None or other.number_type is None or one.number_type == other.number_type
    channels = one.channels is None or other.channels is None or bool(one.channels & other.channels)
    same = (one.component, one.unit) == (other.component, other.unit) and numbers and channels
    return same and overlap(one.provider, other.provider) and overlap(one.model, other.model)


def _same_time(one: Rule, other: Rule) -> bool:
    before = one.end is not None and other.start is not None and one.end <= other.start
    after = other.end is not None and one.start is not None and other.end <= one.start
    return not before and not after


def _work(rule: Rule) -> str:
    if rule.section == "telephony":
        return f"calls over {rule.provider}"
    return f"{rule.component} {rule.provider}/{rule.model}"


def _pass_through(model: PlanModel) -> Iterator[Mistake]:
    seen: dict[str, int] = {}
    for number, entry in enumerate(model.pass_through or ()):
        first = seen.setdefault(entry.component, number)
        if first != number:
            message = f"two rules for one unit: pass_through[{first}] is about {entry.component} as well"
            yield Mistake(("pass_through", number), message)


def _currencies(model: PlanModel, plan: Plan, rows: _Rows) -> Iterator[Mistake]:
    for location, rule in rows:
        if rule.currency != CREDITS and not plan.exchange.knows(rule.currency, plan.currency):
            yield Mistake(location, _no_rate(rule.currency, plan.currency, "its price is in"))
    if plan.pass_through and not plan.exchange.knows(_CATALOGS, plan.currency):
        yield Mistake(
            ("pass_through" if model.pass_through else "currency",),
            _no_rate(_CATALOGS, plan.currency, "what is passed through is priced in"),
        )


def _no_rate(source: str, target: str, why: str) -> str:
    return f"no exchange rate from {source} to {target}, but {why} {source} (state it under exchange_rates)"


def _text(location: Sequence[str | int]) -> str:
    return f"{location[0]}[{location[1]}]"


def overlap(one: str, other: str) -> bool:
    """Tell whether any name matches both of two names or globs."""
    if is_exact(one):
        return fnmatchcase(one, other)
    if is_exact(other):
        return fnmatchcase(other, one)
    ours, theirs = _tokens(one), _tokens(other)

    @cache
    def meet(i: int, j: int) -> bool:
        if ours[i : i + 1] == ["*"]:
            return meet(i + 1, j) or (j < len(theirs) and meet(i, j + 1))
        if theirs[j : j + 1] == ["*"]:
            return meet(i, j + 1) or (i < len(ours) and meet(i + 1, j))
        if i == len(ours) or j == len(theirs):
            return i == len(ours) and j == len(theirs)
        return _compatible(ours[i], theirs[j]) and meet(i + 1, j + 1)

    return meet(0, 0)


def _tokens(pattern: str) -> list[str]:
    tokens: list[str] = []
    rest = pattern
    while rest:
        # As fnmatch reads it: the bracket that closes a set is not its first character.
        close = rest.find("]", 3 if rest.startswith("[!") else 2) if rest[0] == "[" else -1
        tokens.append(rest[: close + 1] if close > 0 else rest[0])
        rest = rest[len(tokens[-1]) :]
    return tokens


def _compatible(one: str, other: str) -> bool:
    for name, pattern in ((one, other), (other, one)):
        if len(name) == 1 and name != "?":
            return fnmatchcase(name, pattern)
    return True
