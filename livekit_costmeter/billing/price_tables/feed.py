"""
A price list as JSON: reading and checking it, and its prices as a table.

A feed is what a platform publishes for its own price page::

    {
        "config": {
            "usage": [
                {
                    "category": "llm-input",
                    "vendor": "openai",
                    "item": "gpt-4o-mini",
                    "unit": "Credits per 1000 input tokens",
                    "value": 0.03,
                    "priorityValue": 0.05,
                }
            ]
        }
    }

- `category` is `orchestration`, `llm-input`, `llm-output`, `asr` or `tts`; all but the last two need an `item`.
- `value` and `priorityValue` are prices in credits, as numbers or text; null or absent is not known, and stays empty.
- Other keys are the publisher's own and are passed over.

The table groups and names as the publisher's page does: one row per model with the prices of its input and output,
vendors by the names they give themselves, sorted by vendor and item. Two things that page makes up are left to the
feed: where the feed has no price for messages or minutes the page shows 1 and 10, and no-reply usage it always shows as
0. Two things are more: rows that would read the same keep their model's own name, and orchestration shows every item.

Invariant: a feed that is read is unambiguous, and its prices are the digits that stand in the file: no float touches
them. A feed that is not, is refused with the path of the first mistake.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Any, Literal, NoReturn, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from livekit_costmeter.billing.price_tables.table import (
    Denomination,
    Price,
    PriceRow,
    PricesIn,
    PriceTable,
    SectionKey,
    in_reading_order,
    vendor_name,
)

Category = Literal["orchestration", "llm-input", "llm-output", "asr", "tts"]

_NAMED = frozenset({"orchestration", "llm-input", "llm-output"})
_SHOWN = 60
_WORDS = {
    "missing": "missing",
    "string_type": "expected text",
    "tuple_type": "expected a list",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "string_too_short": "expected text that is not empty",
    "too_short": "no prices in it",
    "greater_than_equal": "a price cannot be negative",
    "finite_number": "expected a finite number",
    "literal_error": f"not one of {', '.join(get_args(Category))}",
}
_ORCHESTRATION = {"interaction": "Chat usage", "no-reply": "No-reply usage", "audio": "Phone usage"}
_UNITS = {
    "per 1000 input tokens": "1K Input Tokens",
    "per 1000 output tokens": "1K Output Tokens",
    "credits per 1000 llm tokens": "1K Tokens",
    "credits per 1000 characters": "1K Characters",
    "credits per minute": "Minutes",
    "credits per message": "Messages",
}
_FAMILIES = ("Flash", "Turbo", "Multilingual")
_NUMBER_TYPES = ("decimal_type", "decimal_parsing")


class InvalidFeed(ValueError):
    """A feed that cannot be used; the message names the JSON path and what is wrong there."""


def _not_a_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("decimal_type", "expected a number")
    return value


_Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=300)]
_Price = Annotated[
    Decimal, BeforeValidator(_not_a_bool), Field(ge=0, allow_inf_nan=False, max_digits=30, decimal_places=24)
]


class FeedPrice(BaseModel):
    """One price of a feed, in credits."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    category: Category
    vendor: _Text | None = None
    item: _Text | None = None
    unit: _Text | None = None
    value: _Price | None = None
    priority_value: _Price | None = Field(default=None, alias="priorityValue")


class _Config(BaseModel):
    usage: Annotated[tuple[FeedPrice, ...], Field(min_length=1)]


class _File(BaseModel):
    config: _Config


@dataclass(frozen=True, slots=True)
class Feed:
    """The prices of a feed, in its order, and a digest of its bytes."""

    prices: tuple[FeedPrice, ...]
    digest: str


def read_feed(raw: bytes) -> Feed:
    """Read a feed from its bytes.

    Raises:
        InvalidFeed: It is not JSON, not of this shape, or says two things about one price.
    """
    try:
        values = json.loads(
            raw.decode("utf-8-sig"), parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError:
        raise InvalidFeed("not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise InvalidFeed(f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise InvalidFeed("nested too deeply") from None
    try:
        prices = _File.model_validate(values).config.usage
    except ValidationError as error:
        raise InvalidFeed(_first_problem(error)) from None
    _check_names(prices)
    return Feed(prices, hashlib.sha256(raw).hexdigest()[:12])


def feed_table(
    feed: Feed, title: str, prices_in: PricesIn, currency: Denomination, *, priority: bool = False
) -> PriceTable:
    """Return the feed as a table.

    Args:
        feed: What was read.
        title: What stands above the table.
        prices_in: `credits` as they stand in the feed, or `money` by the price of one.
        currency: The name of the credits, and what one costs.
        priority: Prices with priority take the place of the usual ones.
    """
    by_category: dict[str, list[FeedPrice]] = {}
    for price in feed.prices:
        by_category.setdefault(price.category, []).append(price)
    positions = {id(price): position for position, price in enumerate(feed.prices)}
    converted = _Converted(feed, prices_in, currency, priority, positions)
    sections: dict[SectionKey, tuple[PriceRow, ...]] = {
        "orchestration": _orchestration(by_category.get("orchestration", ()), converted),
        "llm": in_reading_order(
            _models([*by_category.get("llm-input", ()), *by_category.get("llm-output", ())], converted)
        ),
        "stt": _told_apart(_speech(price, "STT", converted) for price in by_category.get("asr", ())),
        "tts": _told_apart(_speech(price, "TTS", converted) for price in by_category.get("tts", ())),
    }
    notes = (currency.note(), "prices with priority" if priority else "")
    return PriceTable(title, prices_in, currency, sections, notes=tuple(note for note in notes if note))


@dataclass(frozen=True, slots=True)
class _Converted:
    """Prices of a feed in what the table shows."""

    feed: Feed
    prices_in: PricesIn
    currency: Denomination
    priority: bool
    positions: Mapping[int, int]

    def price(self, price: FeedPrice) -> Price:
        position = self.positions[id(price)]
        usual, fast = self._amount(price.value), self._amount(price.priority_value)
        source = f"feed:{self.feed.digest}#config.usage[{position}]"
        if self.priority and fast is not None:
            return Price(fast, None, source)
        return Price(usual, None if self.priority else fast, source)

    def _amount(self, value: Decimal | None) -> Decimal | None:
        return self.currency.money(value) if self.prices_in == "money" else value


def _orchestration(prices: Iterable[FeedPrice], converted: _Converted) -> tuple[PriceRow, ...]:
    known = list(_ORCHESTRATION)
    rows = [_row(price, _ORCHESTRATION.get(price.item or "", price.item or ""), converted) for price in prices]
    return tuple(sorted(rows, key=lambda row: known.index(row.model) if row.model in known else len(known)))


def _models(prices: Iterable[FeedPrice], converted: _Converted) -> Iterator[PriceRow]:
    grouped: dict[tuple[str, str], dict[str, Price]] = {}
    for price in prices:
        sides = grouped.setdefault(
            (price.vendor or "", price.item or ""), {"input": Price(None), "output": Price(None)}
        )
        sides[price.category.removeprefix("llm-")] = converted.price(price)
    for (vendor, item), sides in grouped.items():
        yield PriceRow(vendor_name(vendor), item, item, "1K Tokens", sides)


def _speech(price: FeedPrice, kind: str, converted: _Converted) -> PriceRow:
    vendor = vendor_name(price.vendor)
    family = None
    if kind == "TTS" and vendor == "ElevenLabs":
        family = next((name for name in _FAMILIES if name.lower() in (price.item or "").lower()), None)
    return _row(price, " - ".join(part for part in (vendor, kind, family) if part), converted)


def _row(price: FeedPrice, item: str, converted: _Converted) -> PriceRow:
    prices = {"unit": converted.price(price)}
    return PriceRow(vendor_name(price.vendor), item, price.item or "", short_unit(price.unit), prices)


def short_unit(unit: str | None) -> str:
    """Return a unit as the table names it, such as `1K Characters`; one that is not known stays as it is."""
    lowered = (unit or "").lower()
    return next((name for words, name in _UNITS.items() if words in lowered), unit or "")


def _told_apart(rows: Iterable[PriceRow]) -> tuple[PriceRow, ...]:
    known = list(rows)
    times = Counter((row.item, row.unit) for row in known)
    return in_reading_order(
        replace(row, item=f"{row.item} ({row.model})") if row.model and times[row.item, row.unit] > 1 else row
        for row in known
    )


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidFeed(f"not JSON: {name} is no number")


def _check_names(prices: Iterable[FeedPrice]) -> None:
    seen: dict[tuple[object, ...], int] = {}
    for position, price in enumerate(prices):
        where = f"config.usage[{position}]"
        if price.category in _NAMED and not price.item:
            raise InvalidFeed(f"{where}.item: missing ({price.category} needs one)")
        # Speech may be sold by two units at once; a token of a model has one price.
        unit = None if price.category in _NAMED else price.unit
        key = tuple(part and part.casefold() for part in (price.category, price.vendor, price.item, unit))
        first = seen.setdefault(key, position)
        if first != position:
            raise InvalidFeed(f"{where}: the same price as config.usage[{first}] (category, vendor, item and unit)")


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    path = ""
    for part in problem["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    kind, given = problem["type"], problem["input"]
    if kind in _NUMBER_TYPES:
        message = f"expected a number or null, got {_shown(given)}"
    else:
        message = _WORDS.get(kind, str(problem["msg"]).lower())
        message = f"{_shown(given)} is {message}" if kind == "literal_error" else message
    return f"{path}: {message}" if path else message


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
