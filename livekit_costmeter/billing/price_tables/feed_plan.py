"""
A plan file from a price feed: the same prices, ready to bill by.

- Models and speech become `rates`, for as many tokens, characters or minutes as the feed sells; `item` is the model's
  name, or every model of the vendor where the feed names none. A vendor goes by its canonical name.
- `interaction` becomes a fee per message in chats, `audio` a fee per minute of calls and web sessions; both as the
  publisher describes them. `no-reply` has no row, because nobody bills it: it must be 0.
- Prices stay in credits, with their prices for priority; what the feed does not name is passed on at cost.

Invariant: whole or not at all. The plan's price table shows the feed's prices again; a feed that says something which a
plan cannot is refused with the path of what that is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from livekit_costmeter.billing.plans.mistakes import find_mistake
from livekit_costmeter.billing.price_tables.feed import Feed, FeedPrice, InvalidFeed, short_unit
from livekit_costmeter.billing.price_tables.table import Denomination
from livekit_costmeter.billing.schema import PlanModel
from livekit_costmeter.pricing.providers import identify
from livekit_costmeter.records import decimal_text

_SIDES = {"llm-input": "input_tokens", "llm-output": "output_tokens"}
_SPEECH = {"asr": "stt", "tts": "tts"}
_SOLD = {
    ("asr", "Minutes"): ("audio_seconds", 60),
    ("tts", "Minutes"): ("output_audio_seconds", 60),
    ("tts", "1K Characters"): ("characters", 1000),
}
_FEES: Mapping[str, Mapping[str, Any]] = {
    "interaction": {"id": "chat-message", "per": "message", "channels": ["chat"]},
    "audio": {"id": "voice-minute", "per": "minute", "channels": ["inbound", "outbound", "web"]},
}
_FREE = "no-reply"
_PROVIDERS = {"rimelabs": "rime"}
_LONGEST_ID = 70


def feed_plan(feed: Feed, name: str, paid: Denomination) -> str:
    """Return the YAML of a plan with the feed's prices.

    Args:
        feed: What was read.
        name: Name of the plan; what a name must not hold becomes a dash.
        paid: The name of the credits, and what one costs.

    Raises:
        InvalidFeed: A price has no place in a plan.
    """
    import yaml

    if paid.credits is None or paid.credit_price is None:
        raise InvalidFeed("its prices are in credits, whose price must be known")
    rows = _Rows(feed)
    fields = {
        "name": _plain(name),
        "description": f"from the price feed {feed.digest}",
        "currency": paid.code,
        "prices_in": "credits",
        "credits": {"name": paid.credits, "price": decimal_text(paid.credit_price)},
        "rates": rows.rates,
        "fees": rows.fees,
    }
    _check(fields)
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120)


class _Rows:
    """The rows of a plan, one for each price of the feed."""

    def __init__(self, feed: Feed) -> None:
        self.rates: list[dict[str, Any]] = []
        self.fees: list[dict[str, Any]] = []
        self._ids: set[str] = set()
        sides = {(price.category, *_model_of(price)) for price in feed.prices}
        for position, price in enumerate(feed.prices):
            where = f"config.usage[{position}]"
            if price.value is None:
                raise InvalidFeed(f"{where}.value: not known, which a plan cannot say")
            other = next((name for name in _SIDES if price.category in _SIDES and name != price.category), None)
            if other is not None and (other, *_model_of(price)) not in sides:
                raise InvalidFeed(f"{where}: the model has no {other}, which a plan would bill at cost")
            said = {"source": f"feed:{feed.digest}#{where}", **_prices(price, price.value)}
            if price.category == "orchestration":
                self._add_fee(price, where, said)
            else:
                self.rates.append({**self._rate(price, where), **said})

    def _add_fee(self, price: FeedPrice, where: str, said: Mapping[str, Any]) -> None:
        if price.item == _FREE and not price.value and not price.priority_value:
            return
        fee = _FEES.get(price.item or "")
        if fee is None:
            raise InvalidFeed(f"{where}.item: {price.item!r} is no fee of a plan (those are {', '.join(_FEES)})")
        self.fees.append({**fee, **said})

    def _rate(self, price: FeedPrice, where: str) -> dict[str, Any]:
        if price.category in _SIDES:
            component, unit, per = "llm", _SIDES[price.category], 1000
        else:
            sold = _SOLD.get((price.category, short_unit(price.unit)))
            if sold is None:
                raise InvalidFeed(f"{where}.unit: {price.unit!r} is no unit of {price.category} that a plan has")
            component, (unit, per) = _SPEECH[price.category], sold
        provider, model = _model_of(price)
        # A plan file reads patterns in names, and expands variables, which a feed has no business with.
        if any(set("*?[$") & set(name or "") for name in (price.vendor, price.item)):
            raise InvalidFeed(f"{where}: a plan cannot name what has *, ?, [ or $ in its name")
        return {
            "id": self._id(f"{price.category}-{provider}-{model}"),
            "component": component,
            "provider": provider,
            "model": model,
            "unit": unit,
            "per": per,
        }

    def _id(self, wanted: str) -> str:
        base = chosen = _plain(wanted)[:_LONGEST_ID]
        number = 1
        while chosen in self._ids:
            number += 1
            chosen = f"{base}-{number}"
        self._ids.add(chosen)
        return chosen


def _prices(price: FeedPrice, value: Decimal) -> dict[str, str]:
    prices = {"price": decimal_text(value)}
    return prices if price.priority_value is None else {**prices, "priority_price": decimal_text(price.priority_value)}


def _model_of(price: FeedPrice) -> tuple[str, str]:
    return _provider(price.vendor), (price.item or "*").lower()


def _provider(vendor: str | None) -> str:
    if not vendor:
        return "*"
    squeezed = "".join(vendor.lower().replace("-", "").split())
    spellings = (identify("", name, None) for name in (vendor, _PROVIDERS.get(squeezed, squeezed)))
    return next((known.provider for known in spellings if known.reason == "name"), vendor.lower())


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "feed"


def _check(fields: Mapping[str, Any]) -> None:
    try:
        mistake = find_mistake(PlanModel.model_validate(fields))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise InvalidFeed(f"as a plan: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    if mistake is not None:
        raise InvalidFeed(f"as a plan: {'.'.join(map(str, mistake.location))}: {mistake.message}")
