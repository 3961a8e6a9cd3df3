"""
Rating estimated calls under every combination of plans and models.

Invariant: each record is rated by the function that rates live usage, and billed by the one that bills it; what is
rated for one combination is not rated again for another.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import product

from livekit_costmeter.billing.estimates.comparison import in_one, shares_of, spread_of
from livekit_costmeter.billing.estimates.parts import PARTS, Part, part_of, total_of
from livekit_costmeter.billing.estimates.profiles import Supplier
from livekit_costmeter.billing.estimates.quotes import MEASURES, Quote, Spread
from livekit_costmeter.billing.estimates.schemes import Convert, Scheme
from livekit_costmeter.records import Charge, UsageRecord

Rate = Callable[[UsageRecord], Sequence[Charge]]
SPREADS = ("cost", "billed", "own", "paid")
_KEPT_FOR = {"cost": ("cost",), "billed": ("billed", "paid"), "own": ("own", "paid")}
_NOTHING: Mapping[tuple[str, str], Decimal] = {}
_ZERO = Decimal(0)


class _Variant:
    """The sums of one component with one model under one plan."""

    __slots__ = ("by_call", "charges", "parts")

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.by_call: dict[Hashable, dict[tuple[str, str], Decimal]] = {}
        self.charges: list[Charge] = []

    def add(self, call: Hashable, charges: Iterable[Charge], fees: frozenset[str], *, keep: bool) -> None:
        sums = self.by_call.setdefault(call, {})
        for charge in charges:
            name = part_of(charge, fees)
            part = self.parts.get(name) or self.parts.setdefault(name, Part(name))
            for measure, amount in part.add(charge).items():
                currency = charge.billed_currency if measure == "billed" else charge.currency
                if currency is not None:
                    key = measure, currency
                    sums[key] = sums.get(key, _ZERO) + amount
            if keep:
                self.charges.append(charge)


class Estimator:
    """Rates the records of calls as they come; its memory grows with calls, never with records.

    Args:
        rate: Prices a record.
        schemes: The plans to compare.
        choices: By component, the models to compare; a component that is not named stays as its records have it.
        keep_charges: Keep every line, for statements: of a single call.
    """

    def __init__(
        self,
        rate: Rate,
        schemes: Sequence[Scheme],
        choices: Mapping[str, Sequence[Supplier]],
        *,
        keep_charges: bool = False,
    ) -> None:
        self._rate = rate
        self._schemes = schemes
        self._choices = {component: tuple(suppliers) for component, suppliers in choices.items() if suppliers}
        self._keep = keep_charges
        self._variants: dict[tuple[int, str, int], _Variant] = {}
        self.calls: set[Hashable] = set()

    def add(self, call: Hashable, record: UsageRecord, choice: int = 0) -> None:
        """Rate a record of a call, made with the `choice`-th model of its component."""
        self.calls.add(call)
        charges = self._rate(record)
        for number, scheme in enumerate(self._schemes):
            key = number, record.component, choice
            variant = self._variants.get(key) or self._variants.setdefault(key, _Variant())
            variant.add(call, scheme.bill(record, charges), scheme.fees, keep=self._keep)

    def quotes(self, seconds: Decimal) -> list[Quote]:
        """Return a quote for each plan and combination of models; the calls lasted `seconds` together."""
        return [
            self._quote(number, dict(zip(self._choices, picked, strict=True)), seconds)
            for number in range(len(self._schemes))
            for picked in product(*(range(len(suppliers)) for suppliers in self._choices.values()))
        ]

    def _quote(self, number: int, picked: Mapping[str, int], seconds: Decimal) -> Quote:
        variants = list(self._picked(number, picked))
        parts = [
            total_of([variant.parts[name] for variant in variants if name in variant.parts], name) for name in PARTS
        ]
        total = total_of(parts)
        convert = self._schemes[number].convert
        calls = max(len(self.calls), 1)
        return Quote(
            scheme=self._schemes[number],
            suppliers=tuple(self._choices[component][choice] for component, choice in picked.items()),
            calls=calls,
            seconds=seconds,
            parts=tuple(part for part in parts if part.sources or part.left_out),
            total=total,
            paid=in_one(total.paid, convert, calls),
            cost=in_one(total.amounts["cost"], convert, calls),
            shares={measure: shares_of(measure, parts, convert) for measure in MEASURES},
            spreads=self._spreads(variants, convert),
            charges=[charge for variant in variants for charge in variant.charges],
        )

    def _spreads(self, variants: Sequence[_Variant], convert: Convert) -> dict[str, Spread | None]:
        calls: dict[str, list[dict[str, Decimal]]] = {name: [] for name in SPREADS}
        for call in self.calls:
            for rows in calls.values():
                rows.append({})
            for variant in variants:
                for (measure, currency), amount in variant.by_call.get(call, _NOTHING).items():
                    for name in _KEPT_FOR[measure] if amount else ():
                        row = calls[name][-1]
                        row[currency] = row.get(currency, _ZERO) + amount
        return {name: spread_of(rows, convert) for name, rows in calls.items()}

    def _picked(self, number: int, picked: Mapping[str, int]) -> Iterator[_Variant]:
        for (scheme, component, choice), variant in self._variants.items():
            if scheme == number and choice == picked.get(component, 0):
                yield variant
