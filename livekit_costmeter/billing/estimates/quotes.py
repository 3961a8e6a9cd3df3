"""
Quotes: what calls come to with one plan and one choice of models, and which of them is the cheapest.

Invariant: of what is not known in full no total is claimed: it is compared last, and is never the cheapest.
Currencies are compared only where the plan has a rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from livekit_costmeter.billing.estimates.parts import EXACT, Part, Sums
from livekit_costmeter.billing.estimates.profiles import Supplier
from livekit_costmeter.billing.estimates.schemes import Scheme
from livekit_costmeter.records import Charge, round_cost

Measure = Literal["paid", "cost"]

MEASURES: tuple[Measure, ...] = ("paid", "cost")
"""What calls are compared by: what their account pays in all, or what their providers charge."""
KEPT_IN: Mapping[Measure, tuple[str, ...]] = {"paid": ("billed", "own"), "cost": ("cost",)}
"""The amounts of a part that make a measure."""

_MINUTE = Decimal(60)
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Spread:
    """The amounts of single calls in one currency: half of the calls cost up to `p50`, nine of ten up to `p90`.

    The mean of as many other such calls lies within `margin` of this `mean`, 19 times of 20, as far as calls are alike;
    `None` for calls too few to say.
    """

    currency: str
    mean: Decimal
    p50: Decimal
    p90: Decimal
    margin: Decimal | None


@dataclass(frozen=True, slots=True)
class Quote:
    """What the calls come to with one plan and one choice of models.

    Sums are over all `calls`, which last `seconds` together; `per_call` and the like divide them. `paid` is what the
    account pays for a call in all, `cost` what the providers charge for it, both in the currency of the bill; `None`
    where a part is in a currency without a rate. `shares` are those of the parts in them, 0 to 1. `spreads` are those
    of cost, billed, own and paid. `charges` are the lines, where they were kept.
    """

    scheme: Scheme
    suppliers: tuple[Supplier, ...]
    calls: int
    seconds: Decimal
    parts: tuple[Part, ...]
    total: Part
    paid: tuple[str, Decimal] | None
    cost: tuple[str, Decimal] | None
    shares: Mapping[Measure, Mapping[str, Decimal]] = field(default_factory=dict)
    spreads: Mapping[str, Spread | None] = field(default_factory=dict)
    charges: Sequence[Charge] = ()

    def per_call(self, sums: Sums) -> dict[str, Decimal]:
        """Return an amount for one call."""
        return {currency: share(amount, 1, self.calls) for currency, amount in sums.items()}

    def per_minute(self, sums: Sums) -> dict[str, Decimal]:
        """Return an amount for one minute; nothing for calls without length."""
        return {currency: share(amount, _MINUTE, self.seconds) for currency, amount in sums.items() if self.seconds}

    def per_month(self, sums: Sums, calls: int) -> dict[str, Decimal]:
        """Return an amount for so many calls."""
        return {currency: share(amount, calls, self.calls) for currency, amount in sums.items()}

    def compared(self, measure: Measure) -> tuple[str, Decimal] | None:
        """Return the amount of a call that this is compared by, whether complete or not."""
        return self.paid if measure == "paid" else self.cost

    def knows(self, measure: Measure) -> bool:
        """Tell whether an amount is known in full, and in one currency."""
        return self.total.knows(*KEPT_IN[measure]) and self.compared(measure) is not None

    def fits(self, measure: Measure, per_minute: Decimal | None) -> bool | None:
        """Tell whether a minute costs no more than that; `None` where it is not known."""
        amount = self.compared(measure)
        if per_minute is None or amount is None or not self.seconds:
            return None
        exceeds = share(amount[1] * self.calls, _MINUTE, self.seconds) > per_minute
        return not exceeds if exceeds or self.knows(measure) else None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Quotes with the cheapest first, those that are not known in full last; by what, and which are the cheapest.

    `lowest` are the lowest amounts of a call by currency, because those are not compared, and the positions in `quotes`
    of what costs that.
    """

    quotes: tuple[Quote, ...]
    measure: Measure
    lowest: Mapping[str, tuple[Decimal, tuple[int, ...]]]

    @property
    def cheapest(self) -> tuple[int, ...]:
        """Return the positions of the cheapest quotes of every currency."""
        return tuple(position for _, positions in self.lowest.values() for position in positions)


def rank(quotes: Iterable[Quote], max_per_minute: Decimal | None = None) -> Ranking:
    """Sort quotes by what the account pays, or by the providers' cost where nobody knows who pays."""
    listed = list(quotes)
    known = [measure for measure in MEASURES if any(quote.knows(measure) for quote in listed)]
    measure = known[0] if known else MEASURES[0]
    listed.sort(key=lambda quote: _rank(quote, measure))
    lowest: dict[str, tuple[Decimal, tuple[int, ...]]] = {}
    for position, quote in enumerate(listed):
        compared = quote.compared(measure)
        if compared is None or not quote.knows(measure) or quote.fits(measure, max_per_minute) is False:
            continue
        currency, amount = compared
        least, positions = lowest.get(currency, (amount, ()))
        if amount == least:
            lowest[currency] = amount, (*positions, position)
    return Ranking(tuple(listed), measure, lowest)


def share(amount: Decimal, numerator: Decimal | int, denominator: Decimal | int) -> Decimal:
    """Return `amount` x numerator / denominator, rounded once as money is."""
    return round_cost(EXACT.divide(EXACT.multiply(amount, Decimal(numerator)), Decimal(denominator)))


def _rank(quote: Quote, measure: Measure) -> tuple[bool, str, Decimal]:
    currency, amount = quote.compared(measure) or ("", _ZERO)
    return not quote.knows(measure), currency, amount
