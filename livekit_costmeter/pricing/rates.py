"""
What one source says a unit costs: rates, sets of rates, and the flags that explain them.

Invariant: a rate is immutable, exact and names its source. A source string is
`kind:name@version#provider/model@effective`, with flags appended once, as `?key=value&key=value`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal
from urllib.parse import quote

BASE = "base"
"""The effective date of a price that has always applied."""

TOKENS = "tokens"
_MONEY = Context(prec=60)
_SAFE = "/:.-_*,@+ "


@dataclass(frozen=True, slots=True)
class RateTier:
    """The price of the whole request once its size exceeds `above` (a cliff, not a staircase)."""

    above: Decimal
    unit_price: Decimal


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of `price_per` units; zero means free on purpose."""

    unit: str
    unit_price: Decimal
    price_per: Decimal
    currency: str
    source: str
    digest: str
    stale: bool = False
    flags: tuple[tuple[str, str], ...] = ()
    tiers: tuple[RateTier, ...] = ()

    def price_at(self, size: Decimal) -> tuple[Decimal, RateTier | None]:
        """Return the price for a request of this size, and the tier that set it."""
        for tier in reversed(self.tiers):
            if size > tier.above:
                return tier.unit_price, tier
        return self.unit_price, None

    def cost(self, quantity: Decimal, unit_price: Decimal) -> Decimal:
        """Return quantity x price, exact to 60 digits; the caller rounds once."""
        return _MONEY.divide(_MONEY.multiply(quantity, unit_price), self.price_per)

    def printed_source(self, *flags: tuple[str, str]) -> str:
        """Return the source with the rate's own flags and these appended."""
        return with_flags(self.source, *self.flags, *flags)


@dataclass(frozen=True, slots=True)
class RateSet:
    """What one source says about one model in one period: a rate per unit.

    Attributes:
        rates: Unit to rate.
        since: When these rates began (UTC, inclusive); `None` is always.
        until: When they end (UTC, exclusive); `None` is never. Both bound how long a look-up may be remembered.
        blocked: Units that must not take a parent's rate from this source, because that rate is known to be wrong.
        free: The rate of a model that costs nothing in any unit.
    """

    rates: Mapping[str, Rate]
    since: datetime | None = None
    until: datetime | None = None
    blocked: frozenset[str] = field(default_factory=frozenset)
    free: Rate | None = None


def measure_of(unit: str) -> str:
    """Return the measure that a unit belongs to: all tokens are one measure, every other unit is its own."""
    return TOKENS if unit.endswith("_tokens") else unit


def with_flags(source: str, *flags: tuple[str, str]) -> str:
    """Append flags to a source string, each pair once."""
    for key, value in flags:
        flag = f"{key}={quote(value, safe=_SAFE)}"
        base, mark, given = source.partition("?")
        if flag not in given.split("&"):
            source = f"{base}?{given}&{flag}" if mark else f"{base}?{flag}"
    return source


def digest_of(row: object) -> str:
    """Return 12 hex digits of the SHA-256 of a price row, so that a source can be audited without its package."""
    text = json.dumps(row, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def midnight(day: date) -> datetime:
    """Return the first instant of a day, UTC."""
    return datetime.combine(day, time(), UTC)


def period(boundaries: Iterable[datetime], at: datetime) -> tuple[datetime | None, datetime | None]:
    """Return the span around `at` that no boundary cuts: the latest one not after it, the first one after it."""
    since: datetime | None = None
    until: datetime | None = None
    for boundary in boundaries:
        if boundary <= at:
            since = boundary if since is None or boundary > since else since
        else:
            until = boundary if until is None or boundary < until else until
    return since, until
