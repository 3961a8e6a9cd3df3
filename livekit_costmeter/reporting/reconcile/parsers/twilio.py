"""
Twilio's usage records and call records, as JSON pages or CSV.

Usage records: `category, description, start_date, end_date, count, count_unit, usage, usage_unit, price, price_unit`;
dates are whole days, both inclusive. Calls: `sid, start_time, end_time, duration` (seconds), `price, price_unit,
direction, status`; a call's price is negative, because it is taken from the balance, and null until it is rated. JSON
spells names with underscores, CSV as `StartDate`; both are read in either spelling.

Invariant: nothing is counted twice. Categories contain each other (`calls` has `calls-inbound`, `totalprice` has all),
so the lines are the innermost ones, and of an outer one what its parts leave over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime

from livekit_costmeter.reporting.reconcile.lines import ProviderLine
from livekit_costmeter.reporting.reconcile.reading import Export, Head, Node, Period

_DAY, _MOMENT = timedelta(days=1), timedelta(microseconds=1)
_MINUTE, _NOTHING = Decimal(60), Decimal(0)
_EVERYTHING = "totalprice"
_USAGE = {"category", "startdate", "enddate", "usage", "price"}
_CALL = {"sid", "starttime", "duration", "price", "priceunit"}
_UNITS = {
    "minutes": ("call_seconds", _MINUTE),
    "messages": ("messages", Decimal(1)),
    "segments": ("messages", Decimal(1)),
}


def _plain(name: str) -> str:
    found = re.sub(r"[^a-z]", "", name.lower())
    return "sid" if found == "callsid" else found


def _names(head: Head, pages: str) -> set[str]:
    """Return the names of a row, whether it is one of CSV or the first of a page."""
    if head.document is None:
        return set(map(_plain, head.columns))
    rows = head.document.data.get(pages)
    return set(map(_plain, rows[0])) if isinstance(rows, list) and rows and isinstance(rows[0], dict) else set()


def _rows(export: Export, pages: str, needed: set[str]) -> Iterator[Node]:
    """Yield rows of CSV, or the objects of pages, with plain names."""
    with export.table_or_none() as table:
        if table is not None:
            for line, row in table.rows(_plain, needed):
                yield Node(row, f"{export.path}:{line}")
            return
    for page in export.documents():
        for node in page.children(pages):
            yield Node({_plain(name): value for name, value in node.data.items()}, node.place)


@dataclass(slots=True)
class _Category:
    """What is said about one category in one period; records of several accounts are added up."""

    place: str
    price: Decimal = _NOTHING
    currency: str = ""
    quantity: Decimal = _NOTHING
    unit: str = ""


class _UsageRecords:
    name = "twilio-usage"
    provider = "twilio"

    def recognises(self, head: Head) -> bool:
        return _names(head, "usage_records") >= _USAGE

    def read(self, export: Export) -> Iterator[ProviderLine]:
        periods: dict[Period, dict[str, _Category]] = {}
        for node in _rows(export, "usage_records", _USAGE):
            start, end = node.instant("startdate"), node.instant("enddate") + _DAY
            if start >= end:
                raise node.error("enddate", "expected a day not before the first")
            _add(node, periods.setdefault((start, end), {}))
        for period, categories in periods.items():
            yield from _innermost(period, categories)


def _add(node: Node, categories: dict[str, _Category]) -> None:
    category = categories.setdefault(node.text("category") or "", _Category(node.place))
    category.price += node.number("price", signed=True) or _NOTHING
    category.quantity += node.number("usage", signed=True) or _NOTHING
    category.unit = (node.text("usageunit") or "").lower()
    if node.data.get("priceunit"):
        category.currency = node.currency("priceunit")


def _innermost(period: Period, categories: Mapping[str, _Category]) -> Iterator[ProviderLine]:
    parts: dict[str, list[_Category]] = {}
    for name, category in categories.items():
        outer = _outer(name, categories)
        if outer is not None:
            parts.setdefault(outer, []).append(category)
    for name, category in categories.items():
        inner = parts.get(name, [])
        price = category.price - sum((part.price for part in inner), _NOTHING)
        quantity = category.quantity - sum((part.quantity for part in inner if part.unit == category.unit), _NOTHING)
        if inner:
            # Parts that are more than the whole leave nothing over.
            price, quantity = max(price, _NOTHING), max(quantity, _NOTHING)
        unit, factor = _UNITS.get(category.unit, (None, Decimal(1)))
        if price or (unit and quantity):
            yield ProviderLine(
                "twilio",
                None,
                "call" if name.partition("-")[0] in ("calls", "trunking") else None,
                unit if quantity else None,
                quantity * factor if unit and quantity else None,
                price if category.currency else None,
                category.currency or None,
                *period,
                detail=name or None,
                place=category.place,
            )


def _outer(category: str, there: Mapping[str, _Category]) -> str | None:
    name = category
    while "-" in name:
        name = name.rpartition("-")[0]
        if name in there:
            return name
    return _EVERYTHING if category != _EVERYTHING and _EVERYTHING in there else None


class _Calls:
    name = "twilio-calls"
    provider = "twilio"

    def recognises(self, head: Head) -> bool:
        return _names(head, "calls") >= _CALL

    def read(self, export: Export) -> Iterator[ProviderLine]:
        for node in _rows(export, "calls", _CALL):
            if node.data.get("starttime"):  # a call that never began has none
                yield _call(node)


def _call(node: Node) -> ProviderLine:
    price, duration = node.number("price", signed=True), node.number("duration")
    start = _time(node, "starttime")
    end = _time(node, "endtime") if node.data.get("endtime") else start
    return ProviderLine(
        "twilio",
        None,
        "call",
        "call_seconds",
        duration or _NOTHING,
        None if price is None else -price or _NOTHING,
        None if price is None else node.currency("priceunit"),
        start,
        max(end, start + _MOMENT),
        request_id=node.text("sid"),
        detail=node.text("direction"),
        place=node.place,
    )


def _time(node: Node, name: str) -> datetime:
    text = node.text(name) or ""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return node.instant(name)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


PARSERS = [_UsageRecords(), _Calls()]
