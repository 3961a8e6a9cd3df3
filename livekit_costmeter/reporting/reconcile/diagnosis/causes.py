"""
Why the two sides may differ: the one list of causes.

Invariant: a cause has a code, that programs read, and words, that people read. Causes that one export cannot tell apart
share a class; which of them it is, is then the best guess.

| code | class | what it is |
|---|---|---|
| `discount` | rate | same units, a rate below ours in all prices: a discount that the catalog does not know |
| `stale_catalog` | rate | same units, another rate for some prices or from a day on: our price is out of date |
| `missed_usage` | unseen | usage that was not recorded |
| `other_client` | unseen | somebody else uses the same key or account |
| `double_counting` | doubled | usage that was recorded twice |
| `incomplete` | incomplete | the provider's numbers of the last days are not complete yet |
| `wrong_model` | model | usage that was recorded under another model |
| `wrong_modality` | modality | usage that was recorded as another kind of tokens, such as audio as text |
| `billing_increment` | increment | the provider rounds operations, or adds to them, in another way than our policy |
| `day_boundary` | boundary | the provider's days begin at another hour (time zone), or it files work by when it began |
| `estimated` | estimated | part of ours is estimated, and that is off |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

CAUSES: Mapping[str, tuple[str, str]] = {
    "discount": ("rate", "the provider charges less for the same units: a discount that the catalog does not know"),
    "stale_catalog": ("rate", "the provider charges another rate for the same units: our price is out of date"),
    "missed_usage": ("unseen", "usage that was not recorded"),
    "other_client": ("unseen", "somebody else uses the same key or account"),
    "double_counting": ("doubled", "usage that was recorded twice"),
    "incomplete": ("incomplete", "the provider's numbers of the last days are not complete yet"),
    "wrong_model": ("model", "usage that was recorded under another model"),
    "wrong_modality": ("modality", "usage that was recorded as another kind of tokens"),
    "billing_increment": ("increment", "the provider bills operations in other steps than our billing policy"),
    "day_boundary": ("boundary", "the provider's days are not ours"),
    "estimated": ("estimated", "the part of ours that is an estimate is off"),
}
"""Code to class and words."""

_FEW = 3


@dataclass(frozen=True, slots=True)
class NewRate:
    """A rate that would have agreed: `price` for `per` units, from a day on (`None`: as far as the period goes)."""

    component: str
    model: str
    unit: str
    price: Decimal
    per: Decimal
    currency: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """
    A cause, with its evidence.

    Attributes:
        code: One of `CAUSES`.
        evidence: One sentence with the numbers.
        models: The models it is about.
        units: The units it is about; empty for all.
        weight: How much of the usage or the cost it explains, 0 to 1 and more; for the order alone.
        rates: The rates that would have agreed.
        first_day: The number of the first day it is about, where that is not the period's.
    """

    code: str
    evidence: str
    models: tuple[str, ...]
    units: tuple[str, ...] = ()
    weight: float = 0.0
    rates: tuple[NewRate, ...] = ()
    first_day: int | None = None

    @property
    def class_(self) -> str:
        """Return the class of causes."""
        return CAUSES[self.code][0]

    @property
    def words(self) -> str:
        """Return what the cause is, for people."""
        return CAUSES[self.code][1]

    def naming_models(self) -> Finding:
        """Return this finding with its models before the evidence, where they are not many."""
        if len(self.models) > _FEW:
            return self
        return replace(self, evidence=f"{', '.join(self.models)}: {self.evidence}")

    def with_more(self, other: Finding) -> Finding:
        """Return this finding with what another of the same cause is about; its own evidence stands first."""
        return replace(
            self,
            evidence=f"{self.evidence}; {other.evidence}",
            models=tuple(dict.fromkeys((*self.models, *other.models))),
            units=tuple(dict.fromkeys((*self.units, *other.units))) if self.units and other.units else (),
            rates=(*self.rates, *other.rates),
        )

    def is_about(self, model: str, unit: str | None = None) -> bool:
        """Tell whether a row has to do with it."""
        return model in self.models and (unit is None or not self.units or unit in self.units)
