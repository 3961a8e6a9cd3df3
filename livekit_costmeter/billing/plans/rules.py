"""
Rules of a plan, ready for billing: canonical names, dates as instants, and a digest of their own.

Invariant: immutable, and the same row gives the same rule. A digest is over all that decides an amount, not over the
row's description of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Literal

from livekit_costmeter.billing.schema import (
    CreditsModel,
    FeeRuleModel,
    PassThroughModel,
    RateRuleModel,
    TaxModel,
    TelephonyRuleModel,
)
from livekit_costmeter.pricing.providers import identify
from livekit_costmeter.pricing.rates import digest_of, midnight

ANY = "*"
CALL_UNITS: Mapping[str, tuple[str, Decimal]] = {
    "minute": ("call_seconds", Decimal(60)),
    "message": ("messages", Decimal(1)),
    "call": ("requests", Decimal(1)),
}
"""What a fee counts, by the word of `per`: the unit, and how many of it the price is for."""

_GLOB = frozenset("*?[")
_SAID = {"source"}
_Row = RateRuleModel | TelephonyRuleModel | FeeRuleModel
Section = Literal["rates", "telephony", "fees"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of rates, telephony or fees.

    Attributes:
        section: The list it stands in.
        component: `call` for telephony and fees.
        provider: Canonical provider or glob, lower case.
        model: Model or glob, lower case; `*` for telephony and fees.
        unit: What is charged for.
        price: Price of `price_per` units, in `currency`.
        priority_price: The same for priority, where it differs.
        currency: ISO 4217, or `credits`.
        pulse: Seconds are rounded up to whole ones of this; `None` is not at all.
        minimum: The least seconds that one operation is billed.
        channels: Calls on these channels only; `None` is every one.
        number_type: Only numbers of this type; `None` is every one.
        legs: `primary` or `all`.
        per: `minute`, `message` or `call` of fees; empty otherwise.
        rank: Orders rules that match the same work, the most specific is the greatest.
    """

    id: str
    section: Section
    component: str
    provider: str
    model: str
    unit: str
    price: Decimal
    priority_price: Decimal | None
    price_per: Decimal
    currency: str
    pulse: Decimal | None
    minimum: Decimal
    labels: Mapping[str, str]
    source: str | None
    start: datetime | None
    end: datetime | None
    digest: str
    channels: frozenset[str] | None = None
    number_type: str | None = None
    legs: Literal["primary", "all"] = "all"
    per: Literal["minute", "message", "call", ""] = ""
    rank: tuple[bool | int, ...] = ()

    def active(self, at: datetime) -> bool:
        """Tell whether the rule is in force at an aware instant."""
        return within(self.start, self.end, at)

    def matches(self, provider: str, models: Iterable[str]) -> bool:
        """Tell whether the rule is about this provider and one of these model names, all in lower case."""
        return fnmatchcase(provider, self.provider) and any(fnmatchcase(name, self.model) for name in models)

    def selects(self) -> tuple[object, ...]:
        """Return all that decides what the rule is about; rows with one id have the same."""
        return (
            *(self.section, self.component, self.provider, self.model, self.unit, self.price_per),
            *(self.channels, self.number_type, self.legs, self.per),
        )


@dataclass(frozen=True, slots=True)
class PassThrough:
    """Work that is billed at cost; `markup` is the share put on top."""

    markup: Decimal
    labels: Mapping[str, str]
    digest: str


@dataclass(frozen=True, slots=True)
class Tax:
    """A share of each billed line of these kinds."""

    id: str
    rate: Decimal
    on: frozenset[str]
    labels: Mapping[str, str]
    start: datetime | None
    end: datetime | None
    digest: str

    def active(self, at: datetime) -> bool:
        """Tell whether the tax is in force at an aware instant."""
        return within(self.start, self.end, at)


@dataclass(frozen=True, slots=True)
class Rounding:
    """How a statement rounds credits: each line or the whole, to steps."""

    per: Literal["line", "invoice"]
    step: Decimal
    mode: Literal["up", "down", "half_up", "half_even"]


@dataclass(frozen=True, slots=True)
class Credits:
    """A virtual currency: `price` is that of one, in the plan's currency."""

    name: str
    price: Decimal
    rounding: Rounding | None


def is_exact(pattern: str) -> bool:
    """Tell a name from a glob."""
    return not _GLOB.intersection(pattern)


def rate_rule(row: RateRuleModel, currency: str) -> Rule:
    """Return the rule of a row of `rates`; `currency` is that of its price."""
    provider, model = _provider(row.provider), row.model.lower()
    return replace(
        _rule(row, "rates", currency),
        component=row.component,
        provider=provider,
        model=model,
        unit=row.unit,
        price_per=row.per,
        rank=(is_exact(provider), is_exact(model), len(provider), len(model)),
    )


def telephony_rule(row: TelephonyRuleModel, currency: str) -> Rule:
    """Return the rule of a row of `telephony`; `currency` is that of its price."""
    provider = _provider(row.provider)
    channels = frozenset(("inbound", "outbound") if row.direction == "any" else (row.direction,))
    number_type = None if row.number_type.lower() == "any" else row.number_type.lower()
    return replace(
        _rule(row, "telephony", currency),
        provider=provider,
        price_per=row.per_seconds,
        channels=channels,
        number_type=number_type,
        rank=(is_exact(provider), len(provider), len(channels) == 1, number_type is not None),
    )


def fee_rule(row: FeeRuleModel, currency: str) -> Rule:
    """Return the rule of a row of `fees`; `currency` is that of its price."""
    unit, per = CALL_UNITS[row.per]
    channels = None if row.channels is None else frozenset(row.channels)
    rule = _rule(row, "fees", currency)
    return replace(rule, unit=unit, price_per=per, channels=channels, legs=row.legs, per=row.per)


def _rule(
    row: RateRuleModel | TelephonyRuleModel | FeeRuleModel,
    section: Literal["rates", "telephony", "fees"],
    currency: str,
) -> Rule:
    return Rule(
        id=row.id,
        section=section,
        component="call",
        provider=ANY,
        model=ANY,
        unit="call_seconds",
        price=row.price,
        priority_price=row.priority_price,
        price_per=Decimal(1),
        currency=currency,
        pulse=row.pulse_seconds,
        minimum=row.minimum_seconds,
        labels=MappingProxyType(dict(row.labels)),
        source=row.source,
        start=edge(row.effective_from),
        end=edge(row.effective_to),
        digest=digest_of({**row.model_dump(mode="json", exclude=_SAID), "currency": currency}),
    )


def pass_through_of(row: PassThroughModel) -> PassThrough:
    """Return what a row of `pass_through` says."""
    return PassThrough(row.markup, MappingProxyType(dict(row.labels)), digest_of(row.model_dump(mode="json")))


def tax_of(row: TaxModel) -> Tax:
    """Return what a row of `taxes` says."""
    labels = MappingProxyType(dict(row.labels))
    digest = digest_of({**row.model_dump(mode="json", exclude=_SAID), "on": sorted(row.on)})
    return Tax(row.id, row.rate, frozenset(row.on), labels, edge(row.effective_from), edge(row.effective_to), digest)


def credits_of(row: CreditsModel) -> Credits:
    """Return the virtual currency that a row describes."""
    given = row.rounding
    rounding = None if given is None else Rounding(given.per, given.step, given.mode)
    return Credits(row.name, row.price, rounding)


def _provider(name: str) -> str:
    return identify("", name, None).provider if is_exact(name) else name.lower()


def edge(day: date | None) -> datetime | None:
    """Return the instant at which a day begins; `None` stays `None`."""
    return None if day is None else midnight(day)


def within(start: datetime | None, end: datetime | None, at: datetime) -> bool:
    """Tell whether an instant is in a period: inclusive, exclusive, `None` is open."""
    return (start is None or start <= at) and (end is None or at < end)
