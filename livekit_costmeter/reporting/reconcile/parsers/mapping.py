"""
Any other CSV, by a mapping in YAML.

One mapping is one format::

    name: telnyx-detail            # what --as calls it
    provider: telnyx               # canonical provider
    component: call                # or columns.component
    columns:                       # our field: the column's name in the header
      start: Date                  # the only one that is required
      end: To                      # absent: a row lasts one `period`
      model: Product               # also component, key, request_id, service_tier, detail, currency
      cost: Amount
    quantities:                    # a unit of the ledger: its column, and how many units one in the column is
      call_seconds: {column: Minutes, per: 60}
      requests: Calls
    currency: EUR                  # or columns.currency
    timezone: Europe/Berlin        # of times without an offset; UTC
    date_format: "%d.%m.%Y"        # as in Python's strptime; absent: Unix time or ISO 8601
    period: day                    # day | hour | month: how long a row without an end lasts
    delimiter: ";"                 # absent: what the header has most of
    decimal: ","                   # the decimal mark; a dot
    thousands: "."                 # what groups digits; nothing

Invariant: a mapping that validates reads a file in one way. Its numbers have the marks it declares and no others, and
a local day is that day in its time zone, 23 or 25 hours where the clocks change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from livekit_costmeter.records import UNIT_ORDER
from livekit_costmeter.reporting.reconcile.lines import ProviderLine
from livekit_costmeter.reporting.reconcile.reading import Export, Group, Head, Period, cells, grouped

_MOMENT = timedelta(microseconds=1)
_ONE = Decimal(1)
_PLAIN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_LOCAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?!.*(?:Z|UTC|[+-][0-9]{2}:?[0-9]{2})\s*\Z)")


def _known_unit(value: str) -> str:
    if value not in UNIT_ORDER:
        raise ValueError(f"{value!r} is not a unit (allowed: {', '.join(UNIT_ORDER)})")
    return value


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{value!r} is not a time zone; expected one such as Europe/Berlin") from None
    return value


def _short(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
_Mark = Annotated[str, StringConstraints(pattern=r"^[., '\u00a0\u202f]$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnsModel(_Section):
    """Which column says what."""

    start: _Text
    end: _Text | None = None
    model: _Text | None = None
    component: _Text | None = None
    key: _Text | None = None
    request_id: _Text | None = None
    service_tier: _Text | None = None
    detail: _Text | None = None
    cost: _Text | None = None
    currency: _Text | None = None


class QuantityModel(_Section):
    """A column of a quantity; `per` units of the ledger are one in the column."""

    column: _Text
    per: Annotated[Decimal, Field(gt=0, allow_inf_nan=False, max_digits=30)] = _ONE


class MappingModel(_Section):
    """One format."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
    provider: _Text
    component: Literal["stt", "llm", "tts", "realtime", "call"] | None = None
    columns: ColumnsModel
    quantities: dict[
        Annotated[str, AfterValidator(_known_unit)], Annotated[QuantityModel, BeforeValidator(_short)]
    ] = {}
    currency: Annotated[str, StringConstraints(pattern=r"^([A-Z]{3}|credits)$")] | None = None
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    date_format: _Text | None = None
    period: Literal["hour", "day", "month"] = "day"
    delimiter: Annotated[str, StringConstraints(pattern=r"^[,;|\t]$")] | None = None
    decimal: Literal[".", ","] = "."
    thousands: _Mark | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.columns.cost is None and not self.quantities:
            raise ValueError("needs columns.cost, or quantities, or both")
        if self.columns.cost is not None and self.currency is None and self.columns.currency is None:
            raise ValueError("a cost needs a currency, or columns.currency")
        if self.decimal == self.thousands:
            raise ValueError("decimal and thousands are the same mark")
        return self


class MappedCsv:
    """A parser made of a mapping."""

    def __init__(self, mapping: MappingModel) -> None:
        self._mapping = mapping
        self._zone = ZoneInfo(mapping.timezone)
        # Whole groups of three only: a mark elsewhere means that the mapping is not of this file.
        mark, decimal = re.escape(mapping.thousands or "\0"), re.escape(mapping.decimal)
        self._groups = re.compile(rf"\A[+-]?[0-9]{{1,3}}(?:{mark}[0-9]{{3}})+(?={decimal}|\Z)")
        self.name = mapping.name
        self.provider = mapping.provider

    def recognises(self, head: Head) -> bool:
        """Tell whether all columns are there."""
        return self._columns() <= set(head.columns)

    def read(self, export: Export) -> Iterator[ProviderLine]:
        """Yield the lines; rows that differ in numbers only are added up."""
        columns = self._mapping.columns
        span = [name for name in (columns.start, columns.end) if name is not None]
        texts = [name for name in self._texts().values() if name is not None]
        numbers = {quantity.column: False for quantity in self._mapping.quantities.values()}
        if columns.cost is not None:
            numbers[columns.cost] = True
        with export.table(self._mapping.delimiter) as table:
            table.require(sorted(self._columns()))
            dots = self._mapping.decimal == "." != self._mapping.thousands
            for group in grouped(table, span, texts, numbers, self._period, self._number, dots=dots):
                yield from self._lines(group)

    def _texts(self) -> dict[str, str | None]:
        return self._mapping.columns.model_dump(exclude={"start", "end", "cost"})

    def _columns(self) -> set[str]:
        named = set(self._mapping.columns.model_dump().values()) - {None}
        return named | {quantity.column for quantity in self._mapping.quantities.values()}

    def _lines(self, group: Group) -> Iterator[ProviderLine]:
        said = {field: group.text(column) if column else None for field, column in self._texts().items()}
        code = said.pop("currency")
        component = said.pop("component") or self._mapping.component
        quantities = {
            unit: total * quantity.per
            for unit, quantity in self._mapping.quantities.items()
            if (total := group.total(quantity.column)) is not None
        }
        column = self._mapping.columns.cost
        cost = None if column is None else group.total(column)
        if cost is None:
            currency = None
        else:
            currency = self._mapping.currency if code is None else group.currency(self._mapping.columns.currency or "")
            if currency is None:
                raise group.error("expected a currency")
        for unit, quantity, money in _statements(quantities, cost):
            yield ProviderLine(
                self.provider,
                said["model"],
                component,
                unit,
                quantity,
                money,
                None if money is None else currency,
                *group.period,
                key=said["key"],
                request_id=said["request_id"],
                service_tier=said["service_tier"],
                detail=said["detail"],
                place=group.place,
            )

    def _number(self, text: str, signed: bool) -> Decimal:
        plain = self._groups.sub(lambda found: found[0].replace(self._mapping.thousands or "", ""), text.strip())
        wrong_mark = self._mapping.decimal == "," and "." in plain
        plain = plain.replace(self._mapping.decimal, ".")
        if wrong_mark or _PLAIN.fullmatch(plain) is None:
            raise cells.CellError(f"{cells.shown(text)} is not a number with {self._mapping.decimal!r} as decimal mark")
        return cells.number(plain, signed=signed)

    def _period(self, start: str, end: str | None = None) -> Period:
        begins = self._instant(start)
        ends = self._next(begins) if end is None else self._instant(end)
        if ends < begins:
            raise cells.CellError(f"{cells.shown(end)} is before {cells.shown(start)}; expected a later end")
        return begins.astimezone(UTC), max(ends.astimezone(UTC), begins.astimezone(UTC) + _MOMENT)

    def _instant(self, text: str) -> datetime:
        """Read a time in the mapping's zone."""
        style = self._mapping.date_format
        if style is None:
            found = cells.instant(text)
            local = _LOCAL.match(text.strip()) is not None
        else:
            try:
                found = datetime.strptime(text.strip(), style)  # noqa: DTZ007  # the zone follows
            except (ValueError, re.error):
                raise cells.CellError(f"{cells.shown(text)} is not a time; expected {style!r}") from None
            local = found.tzinfo is None
        cells.check_year(found, text)
        return found.replace(tzinfo=self._zone) if local else found.astimezone(self._zone)

    def _next(self, begins: datetime) -> datetime:
        if self._mapping.period == "hour":
            return (begins.astimezone(UTC) + timedelta(hours=1)).astimezone(self._zone)
        if self._mapping.period == "day":
            return begins + timedelta(days=1)  # on the wall clock
        return (begins.replace(day=1) + timedelta(days=32)).replace(day=1)


def _statements(
    quantities: Mapping[str, Decimal], cost: Decimal | None
) -> Iterator[tuple[str | None, Decimal | None, Decimal | None]]:
    """Yield unit, quantity and cost; the cost of several quantities is a line of its own."""
    if len(quantities) == 1 and cost is not None:
        unit, quantity = next(iter(quantities.items()))
        yield unit, quantity, cost
        return
    for unit, quantity in quantities.items():
        if quantity:
            yield unit, quantity, None
    if cost is not None:
        yield None, None, cost
