"""
The file format of plans: what a platform charges an account.

A file is one plan, or `plans: [...]` with several; `FILE#NAME` names one of them. Prices are quoted decimals::

    name: acme-2026                    # letters, digits, dot, dash, underscore
    description: text
    currency: USD                      # ISO 4217, what the account is billed in
    billed_by: platform                # platform (default) or livekit: who sends this bill
    effective_from: 2026-01-01         # UTC midnight, inclusive; absent is always
    effective_to: 2027-01-01           # UTC midnight, exclusive; absent is never
    prices_in: credits                 # `credits` or a currency; by default `currency`
    credits:                           # a virtual currency
      name: credits
      price: "0.005"                   # of one credit, in `currency`
      rounding: {per: line, step: "1", mode: up}   # line or invoice; up, down, half_up, half_even; of statements only
    pass_through:                      # work on the platform's keys that no row of `rates` prices: cost, plus markup
      - {component: llm, markup: "0.20", labels: {team: ai}}   # a component or "*", the exact one wins
    rates:                             # provider work on the platform's keys, in place of its cost
      - {id: flash, component: tts, provider: elevenlabs, model: "*flash*", unit: characters, price: "9", per: 1000}
    telephony:                         # call legs on the platform's numbers
      - {id: did, provider: vobiz, direction: any, number_type: any, price: "0.50", per_seconds: 60, pulse_seconds: 60}
    fees:                              # the platform's own charges, whoever owns keys and numbers
      - {id: minutes, per: minute, channels: [inbound, outbound, web], legs: primary, price: "1.50", pulse_seconds: 60}
    taxes:
      - {id: gst, rate: "0.18", on: [usage, fee]}
    exchange_rates:                    # one of `from` is `rate` of `to`
      - {from: USD, to: INR, rate: "83.10", effective_from: 2026-01-01, source: text}

Rows of rates, telephony and fees also take `currency` (else `prices_in`), `priority_price`, `labels` (put on what the
row bills), `source`, `effective_from`, `effective_to`, and, where seconds are billed, `pulse_seconds` (rounded up to
whole ones, for each operation) and `minimum_seconds` (the least that one operation is billed).

- Without `pass_through` everything is passed on at cost; with the list, a component that is not in it costs nothing.
- Of rates and of telephony the most specific row wins: an exact provider, then an exact model (direction, number type)
  before a glob, a longer glob before a shorter. A unit without a row takes its parent's, as cached input takes input's.
- Work that a row prices in one measure (its characters) is not billed in another one (its seconds) as well; where it
  was measured in the other one only, what is billed is not known.
- Fees add up: each id is a fee of its own. Without `channels` a fee is for every channel. `legs` is `primary` or `all`.
- Rows with one id are one rule over time: the same but for its prices, and without a gap between their dates.

Invariant: a plan in which `find_mistake` finds none is unambiguous: one rule for each unit at each instant.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from livekit_costmeter.billing.exchange import CURRENCIES
from livekit_costmeter.pricing.schema import Day
from livekit_costmeter.records import UNIT_ORDER

CREDITS = "credits"
"""The currency of prices in the plan's virtual currency."""

NO_PLAN = "none"
"""The name that stands for no plan."""

Channel = Literal["inbound", "outbound", "web", "chat"]
WorkComponent = Literal["stt", "llm", "tts", "realtime", "turn_detection", "interruption"]

_ZERO = Decimal(0)
_UNITS_OF_CALLS = frozenset({"messages", "call_seconds"})
_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=400)]
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]


def _iso(value: str) -> str:
    if value not in CURRENCIES:
        raise PydanticCustomError("currency", "{value} is not a currency of ISO 4217", {"value": repr(value)})
    return value


def _iso_or_credits(value: str) -> str:
    return value if value == CREDITS else _iso(value)


def _known_unit(value: str) -> str:
    if value not in UNIT_ORDER:
        allowed = ", ".join(UNIT_ORDER)
        raise PydanticCustomError("unit", "{value} is not a unit (allowed: {allowed})", _shown(value, allowed))
    return value


def _unit_of_work(value: str) -> str:
    if value in _UNITS_OF_CALLS:
        raise PydanticCustomError("unit", f"{value} are of calls, which `telephony` and `fees` price")
    return _known_unit(value)


def _some_plan(value: str) -> str:
    if value == NO_PLAN:
        raise PydanticCustomError("name", f"{value!r} stands for no plan")
    return value


def _not_in_per_cent(value: Decimal) -> Decimal:
    if value > 1:
        raise PydanticCustomError("share", "a share, at most 1: 18 % is 0.18")
    return value


def _free_id(value: str) -> str:
    if value.startswith("markup-"):
        raise PydanticCustomError("id", "ids that begin with markup- are those of markups")
    if value in UNIT_ORDER:  # `billed_in=` names either
        raise PydanticCustomError("id", f"{value} is the name of a unit; a rule needs another one")
    return value


def _shown(value: str, allowed: str) -> dict[str, Any]:
    return {"value": repr(value), "allowed": allowed}


def _not_a_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("decimal_type", "Input should be a decimal, as text or number")
    return value


Currency = Annotated[str, AfterValidator(_iso)]
_PriceCurrency = Annotated[str, AfterValidator(_iso_or_credits)]
_Id = Annotated[_Name, AfterValidator(_free_id)]
# As many places as every store of charges keeps of a unit price.
_Price = Annotated[
    Decimal, BeforeValidator(_not_a_bool), Field(ge=0, allow_inf_nan=False, max_digits=30, decimal_places=18)
]
_Positive = Annotated[
    Decimal, BeforeValidator(_not_a_bool), Field(gt=0, allow_inf_nan=False, max_digits=30, decimal_places=18)
]
_Seconds = Annotated[
    Decimal, BeforeValidator(_not_a_bool), Field(ge=0, allow_inf_nan=False, max_digits=24, decimal_places=9)
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Dated(_Model):
    effective_from: Day | None = None
    effective_to: Day | None = None
    labels: dict[str, str] = {}
    source: _Text | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        start, end = self.effective_from, self.effective_to
        if start is not None and end is not None and start >= end:
            raise PydanticCustomError("dates", "effective_to must be later than effective_from")
        return self


class _PricedModel(_Dated):
    id: _Id
    price: _Price
    priority_price: _Price | None = None
    currency: _PriceCurrency | None = None
    pulse_seconds: Annotated[_Seconds, Field(gt=0)] | None = None
    minimum_seconds: _Seconds = _ZERO

    def _refuse_seconds(self, where: str) -> None:
        if self.pulse_seconds is not None or self.minimum_seconds:
            raise PydanticCustomError("seconds", f"pulse_seconds and minimum_seconds need {where}")


class RateRuleModel(_PricedModel):
    """A row of `rates`: provider work on the platform's keys."""

    component: WorkComponent
    provider: _Text = "*"
    model: _Text = "*"
    unit: Annotated[str, AfterValidator(_unit_of_work)]
    per: _Positive = Decimal(1)

    @model_validator(mode="after")
    def _check_seconds(self) -> Self:
        if not self.unit.endswith("_seconds"):
            self._refuse_seconds("a unit of seconds")
        return self


class TelephonyRuleModel(_PricedModel):
    """A row of `telephony`: call legs on the platform's numbers."""

    provider: _Text = "*"
    direction: Literal["inbound", "outbound", "any"] = "any"
    number_type: _Text = "any"
    per_seconds: _Positive = Decimal(60)


class FeeRuleModel(_PricedModel):
    """A row of `fees`: the platform's own charge."""

    per: Literal["minute", "message", "call"]
    channels: Annotated[tuple[Channel, ...], Field(min_length=1)] | None = None
    legs: Literal["primary", "all"] = "primary"

    @model_validator(mode="after")
    def _check_seconds(self) -> Self:
        if self.per != "minute":
            self._refuse_seconds("a fee per minute")
        return self


class PassThroughModel(_Model):
    """A row of `pass_through`: what is billed at cost, plus markup."""

    component: WorkComponent | Literal["call", "*"]
    markup: _Price = _ZERO
    labels: dict[str, str] = {}


class TaxModel(_Dated):
    """A row of `taxes`: a share of each billed line."""

    id: _Id
    rate: Annotated[_Price, AfterValidator(_not_in_per_cent)]
    on: Annotated[tuple[Literal["usage", "fee"], ...], Field(min_length=1)] = ("usage", "fee")


class ExchangeRateModel(_Model):
    """A row of `exchange_rates`: one of `from` is `rate` of `to`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_currency: Annotated[Currency, Field(alias="from")]
    to_currency: Annotated[Currency, Field(alias="to")]
    rate: _Positive
    effective_from: Day | None = None
    source: _Text | None = None

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if self.from_currency == self.to_currency:
            raise PydanticCustomError("pair", "from and to are the same currency")
        return self


class RoundingModel(_Model):
    """How statements round credits."""

    per: Literal["line", "invoice"] = "invoice"
    step: _Positive = Decimal(1)
    mode: Literal["up", "down", "half_up", "half_even"] = "half_up"


class CreditsModel(_Model):
    """A virtual currency."""

    name: _Text = CREDITS
    price: _Positive
    rounding: RoundingModel | None = None


class PlanModel(_Model):
    """One plan, as it stands in a file."""

    name: Annotated[_Name, AfterValidator(_some_plan)]
    description: str = ""
    currency: Currency
    billed_by: Literal["platform", "livekit"] = "platform"
    effective_from: Day | None = None
    effective_to: Day | None = None
    prices_in: _PriceCurrency | None = None
    credits: CreditsModel | None = None
    pass_through: tuple[PassThroughModel, ...] | None = None
    rates: tuple[RateRuleModel, ...] = ()
    telephony: tuple[TelephonyRuleModel, ...] = ()
    fees: tuple[FeeRuleModel, ...] = ()
    taxes: tuple[TaxModel, ...] = ()
    exchange_rates: tuple[ExchangeRateModel, ...] = ()

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        start, end = self.effective_from, self.effective_to
        if start is not None and end is not None and start >= end:
            raise PydanticCustomError("dates", "effective_to must be later than effective_from")
        return self

    def currency_of(self, row: _PricedModel) -> str:
        """Return the currency that a row's price is in: ISO 4217, or `credits`."""
        return row.currency or self.prices_in or self.currency


class PlanFileModel(_Model):
    """A file of several plans."""

    plans: Annotated[tuple[PlanModel, ...], Field(min_length=1)]
