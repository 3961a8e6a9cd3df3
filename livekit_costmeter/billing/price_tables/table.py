"""
A price table: what each model, and each minute or message of the platform itself, costs an account.

The table as plain values (`document`), which is also its JSON form::

    {
        "title": "acme-2026",
        "at": "2026-11-20T00:00:00.000000Z",
        "prices_in": "credits",
        "currency": "USD",
        "credits": {"name": "credits", "price": "0.005"},
        "notes": ["credits at $0.005 each"],
        "sections": [
            {
                "key": "llm",
                "title": "Large Language Models (LLMs)",
                "columns": {"input": "Credits per 1K input tokens", "output": "Credits per 1K output tokens"},
                "rows": [
                    {
                        "vendor": "OpenAI",
                        "item": "gpt-4o-mini",
                        "model": "gpt-4o-mini",
                        "unit": "1K Tokens",
                        "terms": "",
                        "prices": [
                            {
                                "of": "input",
                                "value": "0.03",
                                "shown": "0.03",
                                "priority_value": null,
                                "priority_shown": "",
                                "pricing_source": "catalog:...",
                            }
                        ],
                    }
                ],
            }
        ],
    }

Sections stand in the order `orchestration`, `telephony`, `llm`, `stt`, `tts`, `other`, and only where they have rows.
`of` is `input` or `output` in `llm`, else `unit`. `at` is null for prices that say nothing about time, `credits` where
there are none.

Invariant: `value` is exact and `shown` is what a person reads: credits whole, money to 6 places, a half going up. What
is not known is null and an empty text; what is not free is never shown as 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Literal

from livekit_costmeter.billing.plans import Plan
from livekit_costmeter.records import decimal_text, format_instant

SectionKey = Literal["orchestration", "telephony", "llm", "stt", "tts", "other"]
PricesIn = Literal["credits", "money"]

_TITLES: Mapping[SectionKey, str] = {
    "orchestration": "Orchestration",
    "telephony": "Telephony",
    "llm": "Large Language Models (LLMs)",
    "stt": "Speech-to-Text (STT)",
    "tts": "Text-to-Speech (TTS)",
    "other": "Other work",
}
SECTIONS: tuple[SectionKey, ...] = tuple(_TITLES)
_TOKEN_COLUMNS = {"input": "per 1K input tokens", "output": "per 1K output tokens"}
_VENDORS = {
    "anthropic": "Anthropic",
    "assemblyai": "AssemblyAI",
    "cartesia": "Cartesia",
    "deepgram": "Deepgram",
    "elevenlabs": "ElevenLabs",
    "google": "Google",
    "groq": "Groq",
    "livekit": "LiveKit",
    "openai": "OpenAI",
    "rime": "Rime Labs",
    "rimelabs": "Rime Labs",
    "sarvam": "Sarvam",
    "twilio": "Twilio",
    "voiceflow": "Voiceflow",
    "vonage": "Vonage",
}
_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "INR": "₹"}
_EXACT = Context(prec=60)
_STEP = Decimal("1e-6")
# The order in which names are read, as the Unicode collation has it: signs, then digits, then letters.
_COLLATION = {sign: rank for rank, sign in enumerate(" _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789")}


@dataclass(frozen=True, slots=True)
class Denomination:
    """What an account pays in: a currency and, where the platform has them, credits with the price of one."""

    code: str
    credits: str | None = None
    credit_price: Decimal | None = None

    @classmethod
    def of(cls, plan: Plan) -> Denomination:
        """Return what the accounts of a plan pay in."""
        owned = plan.credits
        return cls(plan.currency) if owned is None else cls(plan.currency, owned.name, owned.price)

    def note(self) -> str:
        """Say what a credit costs; empty where there are none."""
        if self.credits is None or self.credit_price is None:
            return ""
        return f"{self.credits} at {money_shown(self.credit_price, self.code)} each"

    def money(self, credits: Decimal | None) -> Decimal | None:
        """Return an amount of credits in money, exact."""
        if credits is None or self.credit_price is None:
            return None
        return _EXACT.multiply(credits, self.credit_price)


@dataclass(frozen=True, slots=True)
class Price:
    """A price, the one with priority where it differs, and who says so; `None` is not known."""

    value: Decimal | None
    priority: Decimal | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One line: `item` is for people, `model` the name in the source; prices by `unit`, or by `input` and `output`."""

    vendor: str
    item: str
    model: str
    unit: str
    prices: Mapping[str, Price]
    terms: str = ""


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Rows by section, all in credits or all in money."""

    title: str
    prices_in: PricesIn
    currency: Denomination
    sections: Mapping[SectionKey, tuple[PriceRow, ...]]
    at: datetime | None = None
    notes: tuple[str, ...] = field(default=())

    def document(self) -> dict[str, Any]:
        """Return the table as the plain values that the module describes."""
        paid = self.currency
        return {
            "title": self.title,
            "at": None if self.at is None else format_instant(self.at),
            "prices_in": self.prices_in,
            "currency": paid.code,
            "credits": {"name": paid.credits, "price": _text(paid.credit_price)} if paid.credits else None,
            "notes": list(self.notes),
            "sections": [self._section(key) for key in SECTIONS if self.sections.get(key)],
        }

    def _section(self, key: SectionKey) -> dict[str, Any]:
        per = _TOKEN_COLUMNS if key == "llm" else {"unit": "per unit"}
        name = self.currency.credits if self.prices_in == "credits" else None
        what = self.currency.code if name is None else name[:1].upper() + name[1:]
        return {
            "key": key,
            "title": _TITLES[key],
            "columns": {of: f"{what} {words}" for of, words in per.items()},
            "rows": [self._row(row) for row in self.sections[key]],
        }

    def _row(self, row: PriceRow) -> dict[str, Any]:
        return {
            "vendor": row.vendor,
            "item": row.item,
            "model": row.model,
            "unit": row.unit,
            "terms": row.terms,
            "prices": [self._price(of, price) for of, price in row.prices.items()],
        }

    def _price(self, of: str, price: Price) -> dict[str, Any]:
        return {
            "of": of,
            "value": _text(price.value),
            "shown": self._shown(price.value),
            "priority_value": _text(price.priority),
            "priority_shown": self._shown(price.priority),
            "pricing_source": price.source,
        }

    def _shown(self, value: Decimal | None) -> str:
        if value is None:
            return ""
        return decimal_text(value) if self.prices_in == "credits" else money_shown(value, self.currency.code)


def money_shown(amount: Decimal, currency: str) -> str:
    """Return `$0.000001` or `1.5 CHF`: 6 places, a half going up; exact where 6 places would show nothing."""
    rounded = amount.quantize(_STEP, rounding=ROUND_HALF_UP, context=_EXACT)
    text = decimal_text(rounded if rounded or not amount else amount)
    sign = _SIGNS.get(currency)
    return f"{text} {currency}" if sign is None else f"{sign}{text}"


def vendor_name(vendor: str | None) -> str:
    """Return a vendor's name as it writes itself, where that is known."""
    key = "".join((vendor or "").lower().replace("-", "").split())
    return _VENDORS.get(key, vendor or "")


def in_reading_order(rows: Iterable[PriceRow]) -> tuple[PriceRow, ...]:
    """Sort rows by vendor and item without regard to case; equals stay in their order."""
    return tuple(sorted(rows, key=lambda row: (_collated(row.vendor), _collated(row.item))))


def _collated(text: str) -> tuple[list[tuple[int, str]], str]:
    ranks = [(_COLLATION.get(sign, len(_COLLATION)), sign) for sign in text.casefold()]
    return ranks, text.swapcase()  # small letters before capitals


def _text(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)
