"""
Billing policies: what a provider puts on its bill for what was measured, one row per provider and component.

The shipped rows are `billing_policies.yaml` beside this module; the user's stand under `policies` in `costmeter.yaml`
and come first. A row::

    - id: acme-stt                    # letters, digits, dot, dash, underscore
      provider: acme                  # any spelling a plugin reports; compared in canonical form
      component: stt                  # stt, llm, tts, realtime, turn_detection, interruption, call
      model: "fast-*"                 # exact name or glob, compared without case; absent is every model
      billed_by: connection           # audio, connection, session, call, output_audio, characters, tokens, requests
      unit: connection_seconds        # what the amounts below count; needed for tokens only
      minimum: 15                     # the least that one operation is billed
      increment: 1                    # billed in steps of this size
      rounding: up                    # up (default with an increment), nearest (a half goes up), none
      per_stream_overhead: "0.5"      # added once per operation, before rounding
      interrupted: billed             # billed or free; absent is not known, and billed
      discarded: billed
      failed: free
      probe: billed
      silence: billed                 # for information: silence is not measured
      channels: per_channel           # for information, per_channel or mono: channels are not measured
      source: "https://acme.example/pricing"   # shipped rows: the public page; the user's: any text
      read_on: 2026-11-20             # when the source was read
      note: what else the page says

Invariant: pure and exact. `policy(total)` is the only place where a quantity becomes a billable one, so that the
records of an operation add up to it, whatever pieces the operation was measured in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Context, Decimal
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from livekit_costmeter.pricing.providers import identify
from livekit_costmeter.pricing.rates import BASE, TOKENS, RateSet, measure_of
from livekit_costmeter.records import UNIT_ORDER, Component

MEASURES: Mapping[str, str] = {
    "audio": "audio_seconds",
    "connection": "connection_seconds",
    "session": "session_seconds",
    "call": "call_seconds",
    "output_audio": "output_audio_seconds",
    "characters": "characters",
    "tokens": TOKENS,
    "requests": "requests",
}
"""The measure behind each word of `billed_by`."""

TIMES = frozenset({"audio_seconds", "connection_seconds", "session_seconds"})
"""The measures of one stream's time, of which a provider bills one: a second costs the same in each."""

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=400)]
_Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
_Fate = Literal["billed", "free"]
_ZERO = Decimal(0)
_EXACT = Context(prec=80)
_OUTCOMES = ("interrupted", "discarded", "failed", "probe")


def _not_a_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("decimal_type", "Input should be a decimal, as text or number")
    return value


# As many places as quantities have, so that a billable quantity never has more.
_Amount = Annotated[
    Decimal, BeforeValidator(_not_a_bool), Field(ge=0, allow_inf_nan=False, max_digits=24, decimal_places=9)
]


class PolicyModel(BaseModel):
    """One row, as it stands in a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: _Id
    provider: _Text
    component: Component
    model: _Text | None = None
    billed_by: Literal["audio", "connection", "session", "call", "output_audio", "characters", "tokens", "requests"]
    unit: _Text | None = None
    minimum: _Amount = _ZERO
    increment: Annotated[_Amount, Field(gt=0)] | None = None
    rounding: Literal["up", "nearest", "none"] | None = None
    per_stream_overhead: _Amount = _ZERO
    interrupted: _Fate | None = None
    discarded: _Fate | None = None
    failed: _Fate | None = None
    probe: _Fate | None = None
    silence: _Fate | None = None
    channels: Literal["per_channel", "mono"] | None = None
    source: _Text | None = None
    read_on: date | None = None
    note: str = ""

    @model_validator(mode="after")
    def _check_unit(self) -> Self:
        measure = MEASURES[self.billed_by]
        if self.unit is not None and (self.unit not in UNIT_ORDER or measure_of(self.unit) != measure):
            raise PydanticCustomError("unit", f"{self.unit} is not what `billed_by: {self.billed_by}` counts")
        if self.unit is None and measure == TOKENS and (self.minimum or self.increment or self.per_stream_overhead):
            raise PydanticCustomError("unit", "amounts of tokens need a unit, such as input_tokens")
        return self

    @model_validator(mode="after")
    def _check_rounding(self) -> Self:
        if self.rounding in ("up", "nearest") and self.increment is None:
            raise PydanticCustomError("rounding", f"rounding {self.rounding} needs an increment")
        return self


class ShippedPolicyModel(PolicyModel):
    """One row that ships with the package: it names its public page and the day it was read."""

    source: Annotated[str, StringConstraints(pattern=r"^https://", max_length=400)]
    read_on: date


class PoliciesFile(BaseModel):
    """The shipped file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policies: tuple[ShippedPolicyModel, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A row, ready for rating.

    Attributes:
        row: The row as it stands in its file.
        own: The user wrote it.
        provider: Canonical provider.
        pattern: Model or glob in lower case, `*` for every model.
        measure: What is billed.
        unit: What the amounts count; `None` where there are none.
        rounding: `up`, `nearest` or `none`; never empty.
        tag: `<row>@<date>`, as source strings carry it.
        free: The outcomes that cost nothing.
    """

    row: PolicyModel
    own: bool
    provider: str
    pattern: str
    measure: str
    unit: str | None
    rounding: str
    tag: str
    free: frozenset[str]

    @classmethod
    def of(cls, row: PolicyModel, *, own: bool) -> Policy:
        """Return the policy of a row."""
        measure = MEASURES[row.billed_by]
        return cls(
            row=row,
            own=own,
            provider=identify("", row.provider, None).provider,
            pattern=(row.model or "*").lower(),
            measure=measure,
            unit=row.unit or (None if measure == TOKENS else measure),
            rounding=row.rounding or ("none" if row.increment is None else "up"),
            tag=f"{row.id}@{row.read_on or BASE}",
            free=frozenset(name for name in _OUTCOMES if getattr(row, name) == "free"),
        )

    def counts(self, unit: str) -> bool:
        """Tell whether this row changes amounts of a unit."""
        row = self.row
        return unit == self.unit and bool(row.minimum or row.per_stream_overhead or self.rounding != "none")

    def billable(self, unit: str, total: Decimal, outcome: str) -> Decimal:
        """Return what is billed for a whole operation: `policy(total)`. Nothing measured is nothing billed."""
        if outcome in self.free or not total:
            return _ZERO
        if not self.counts(unit):
            return total
        return max(self._rounded(_EXACT.add(total, self.row.per_stream_overhead)), self.row.minimum)

    def closing(self, unit: str, quantity: Decimal, total: Decimal, outcome: str) -> Decimal:
        """Return what the last record of an operation bills: the operation's billable, less what the others billed.

        Negative where the others billed too much: an operation that was free in the end, or rounded down.
        """
        billed_before = _EXACT.subtract(total, quantity)
        return _EXACT.subtract(self.billable(unit, total, outcome), billed_before)

    def _rounded(self, amount: Decimal) -> Decimal:
        step = self.row.increment
        if step is None or self.rounding == "none":
            return amount
        whole, rest = _EXACT.divmod(amount, step)
        up = rest > 0 if self.rounding == "up" else _EXACT.add(rest, rest) >= step
        return _EXACT.multiply(_EXACT.add(whole, 1) if up else whole, step)

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Order rows from general to specific; the user's are above all others."""
        return self.own, not _is_glob(self.pattern), len(self.pattern)

    def matches(self, models: Sequence[str]) -> bool:
        """Tell whether the row is about one of these names, given in lower case."""
        return any(fnmatchcase(model, self.pattern) for model in models)


class PolicyTable:
    """The rows in force: the user's, and those shipped rows that none of the user's replaces."""

    def __init__(self, own: Iterable[PolicyModel] = (), shipped: Iterable[PolicyModel] | None = None) -> None:
        mine = [Policy.of(row, own=True) for row in own]
        others = [Policy.of(row, own=False) for row in (shipped_policies() if shipped is None else shipped)]
        kept = [policy for policy in others if not any(_replaces(one, policy) for one in mine)]
        self.in_force: tuple[Policy, ...] = (*mine, *kept)
        self._ranked = sorted(self.in_force, key=lambda policy: policy.rank, reverse=True)

    def find(self, provider: str, models: Sequence[str], component: str) -> Policy | None:
        """Return the row for a canonical provider, a component and the names its model goes by, or `None`."""
        names = [model.lower() for model in models]
        about = (p for p in self._ranked if p.provider == provider and p.row.component == component)
        return next((policy for policy in about if policy.matches(names)), None)


@cache
def shipped_policies() -> tuple[PolicyModel, ...]:
    """Return the rows that ship with the package, read once.

    Raises:
        ValidationError: The shipped file is not what the schema says.
    """
    import yaml

    text = files("livekit_costmeter.pricing").joinpath("billing_policies.yaml").read_text("utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return PoliciesFile.model_validate(yaml.load(text, loader)).policies  # noqa: S506  # a safe loader


def find_repeated(rows: Sequence[PolicyModel]) -> tuple[int, int] | None:
    """Return the positions of the first two rows that share an id, or provider, component and model."""
    seen: dict[object, int] = {}
    for position, row in enumerate(rows):
        about = (identify("", row.provider, None).provider, row.component, (row.model or "*").lower())
        for key in (row.id, about):
            if seen.setdefault(key, position) != position:
                return seen[key], position
    return None


def as_billed(rates: RateSet, policy: Policy | None) -> RateSet:
    """Complete rates by the measure that the policy bills: a price per second is one, whichever seconds are billed."""
    if policy is None or policy.measure not in TIMES or policy.measure in rates.rates:
        return rates
    known = next((rates.rates[measure] for measure in sorted(TIMES) if measure in rates.rates), None)
    if known is None:
        return rates
    flags = (*known.flags, ("billed_as", known.unit), ("policy", policy.tag))
    return replace(rates, rates={policy.measure: replace(known, unit=policy.measure, flags=flags), **rates.rates})


def _replaces(own: Policy, shipped: Policy) -> bool:
    about = (own.provider, own.row.component) == (shipped.provider, shipped.row.component)
    return own.row.id == shipped.row.id or (about and fnmatchcase(shipped.pattern, own.pattern))


def _is_glob(pattern: str) -> bool:
    return any(mark in pattern for mark in "*?[")
