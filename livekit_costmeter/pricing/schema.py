"""
The file format of rate cards and of the shipped overrides.

A rate card is one YAML mapping::

    name: acme-2026                  # letters, digits, dot, dash, underscore
    rates:
      - provider: deepgram           # any spelling a plugin reports; compared in canonical form
        model: "nova-3*"             # exact name or glob, compared without case
        unit: audio_seconds          # a unit of the usage record
        price: "0.0048"              # quoted decimal (a plain number is read by its shortest text)
        per: 60                      # the price buys this many units
        currency: USD                # three capitals
        effective_from: 2026-01-01   # UTC midnight, inclusive; absent is always
        effective_to: 2027-01-01     # UTC midnight, exclusive; absent is never
        key_owner: acme              # only for this owner's keys
        tiers: [{above: 200000, price: "0.0096"}]   # by the size of the one request
        source: "contract 4711"

Invariant: a card that validates is unambiguous: no two rows say different things about the same provider, model
pattern, unit, owner and instant.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from livekit_costmeter.records import UNIT_ORDER

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]


def _known_unit(value: str) -> str:
    if value not in UNIT_ORDER:
        raise PydanticCustomError(
            "unit", "{unit} is not a unit (allowed: {allowed})", {"unit": repr(value), "allowed": ", ".join(UNIT_ORDER)}
        )
    return value


def _not_a_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("decimal_type", "Input should be a decimal, as text or number")
    return value


def _day(value: Any) -> date:
    # Pydantic also takes seconds since 1970 for a date, and drops the time zone of an instant.
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        day = None
    if not isinstance(day, date) or isinstance(day, datetime):
        raise PydanticCustomError("day", "expected a date, such as 2026-01-31")
    return day


Day = Annotated[date, BeforeValidator(_day)]
"""A day in a file; what applies from or to it does so at its midnight, UTC."""

_UnitName = Annotated[str, AfterValidator(_known_unit)]
_Price = Annotated[Decimal, BeforeValidator(_not_a_bool), Field(ge=0, allow_inf_nan=False, max_digits=30)]
_Quantity = Annotated[Decimal, BeforeValidator(_not_a_bool), Field(gt=0, allow_inf_nan=False, max_digits=30)]


class TierModel(BaseModel):
    """The price of a whole request that is larger than `above`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    above: _Quantity
    price: _Price


class RateModel(BaseModel):
    """One row of a rate card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: _Text
    model: _Text
    unit: _UnitName
    price: _Price
    per: _Quantity = Decimal(1)
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "USD"
    effective_from: Day | None = None
    effective_to: Day | None = None
    source: _Text | None = None
    key_owner: _Text | None = None
    tiers: tuple[TierModel, ...] = ()

    @model_validator(mode="after")
    def _check_order(self) -> RateModel:
        start, end = self.effective_from, self.effective_to
        if start is not None and end is not None and start >= end:
            raise PydanticCustomError("dates", "effective_to must be later than effective_from")
        sizes = [tier.above for tier in self.tiers]
        if sizes != sorted(set(sizes)):
            raise PydanticCustomError("tiers", "tiers must rise: each `above` larger than the one before")
        return self


class OverrideModel(RateModel):
    """One shipped correction of the catalogs: a rate with its published page and the day it was read."""

    id: _Name
    component: Literal["stt", "llm", "tts", "realtime", "turn_detection", "interruption", "call"] | None = None
    source: Annotated[str, StringConstraints(pattern=r"^https://", max_length=400)]
    read: Day
    note: str = ""
    plan: Literal["ship", "scale"] | None = None
    """For the inference gateway: only under this plan (`ship` stands for build and ship)."""


class RateCardFile(BaseModel):
    """A rate card file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: _Name
    rates: Annotated[tuple[RateModel, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_overlaps(self) -> RateCardFile:
        check_overlaps(self.rates)
        return self


class OverridesFile(BaseModel):
    """An overrides file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rates: tuple[OverrideModel, ...]


def check_overlaps(rows: tuple[RateModel, ...]) -> None:
    """Refuse rows that price the same thing at the same time.

    Raises:
        PydanticCustomError: Names both rows by their position.
    """
    seen: dict[tuple[object, ...], list[int]] = {}
    for position, row in enumerate(rows):
        key = (
            row.provider.lower(),
            row.model.lower(),
            row.unit,
            row.key_owner,
            getattr(row, "component", None),
            getattr(row, "plan", None),
        )
        for earlier in seen.setdefault(key, []):
            if _overlap(rows[earlier], row):
                raise PydanticCustomError(
                    "overlap",
                    "rates[{first}] and rates[{second}] overlap: both price {unit} of {provider}/{model}",
                    {
                        "first": earlier,
                        "second": position,
                        "unit": row.unit,
                        "provider": row.provider,
                        "model": row.model,
                    },
                )
        seen[key].append(position)


def _overlap(first: RateModel, second: RateModel) -> bool:
    starts = [row.effective_from or date.min for row in (first, second)]
    ends = [row.effective_to or date.max for row in (first, second)]
    return max(starts) < min(ends)
