"""
Running totals of charges under few labels, for the sinks that expose counters.

Measures, each with one dimension of its own: `cost` (of usage and its corrections: what providers charge) and `billed`
(with fees and taxes: what goes on the accounts' bills) by currency, `quantity` by unit (what was measured: usage alone)
and `records`. A counter never goes down, so money below zero is totalled apart, without its sign, as `cost_credit` and
`billed_credit`.

Invariant: a (`record_id`, `line`) is counted once, as far back as the newest `_REMEMBERED` rows go, which is many times
what is ever sent again; and there are never more than `max_series` combinations of label values. Sums are exact
decimals. Totals live as long as the process: a counter that begins at 0 again is what its readers expect.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Literal

from livekit_costmeter.records import Charge

Label = Literal["component", "provider", "model", "owner", "account"]
LABELS: tuple[Label, ...] = ("component", "provider", "model", "owner", "account")
DIMENSIONS = {
    "cost": "currency",
    "cost_credit": "currency",
    "billed": "currency",
    "billed_credit": "currency",
    "quantity": "unit",
    "records": "",
}
"""The measures, and what each is kept apart by; the costs of two currencies have no sum."""
OTHER = "other"

_COST_KINDS = frozenset({"usage", "correction"})
_BILLED_KINDS = _COST_KINDS | {"fee", "tax"}
_FIELDS = {"owner": "key_owner"}
_REMEMBERED = 20_000
_EXACT = Context(prec=60)
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Sample:
    """One total: of which measure, where in its dimension, under which label values."""

    measure: str
    dimension: str
    labels: tuple[str, ...]
    value: Decimal


class Recent:
    """The newest rows, by (`record_id`, `line`)."""

    def __init__(self) -> None:
        self._rows: dict[int, None] = {}

    def __contains__(self, charge: Charge) -> bool:
        return hash((charge.record_id, charge.line)) in self._rows

    def add(self, charge: Charge) -> None:
        """Remember a row, at the price of the oldest."""
        self._rows[hash((charge.record_id, charge.line))] = None
        if len(self._rows) > _REMEMBERED:
            del self._rows[next(iter(self._rows))]


class Series:
    """Totals of what it was given; written by one thread and read by another."""

    def __init__(self, labels: Sequence[Label], max_series: int) -> None:
        self.labels = tuple(labels)
        self.max_series = max_series
        self._totals: dict[tuple[str, str, tuple[str, ...]], Decimal] = {}
        self._combinations: set[tuple[str, ...]] = set()
        self._counted = Recent()
        self._lock = threading.Lock()

    @property
    def combinations(self) -> int:
        """How many combinations of label values there are."""
        return len(self._combinations)

    def add(self, charges: Sequence[Charge]) -> None:
        """Count the rows that were not counted yet."""
        with self._lock:
            for charge in charges:
                if charge not in self._counted:
                    self._counted.add(charge)
                    self._count(charge)

    def samples(self) -> Iterator[Sample]:
        """Yield every total as it is now."""
        with self._lock:
            totals = list(self._totals.items())
        for (measure, dimension, labels), value in totals:
            yield Sample(measure, dimension, labels, value)

    def _count(self, charge: Charge) -> None:
        labels = self._admitted(tuple(str(getattr(charge, _FIELDS.get(name, name)) or "") for name in self.labels))
        if charge.line == 0:
            self._total("records", "", labels, Decimal(1))
        if charge.kind == "usage":
            self._total("quantity", charge.unit, labels, charge.quantity)
        if charge.kind in _COST_KINDS:
            self._money("cost", charge.cost, charge.currency, labels)
        if charge.kind in _BILLED_KINDS:
            self._money("billed", charge.billed_cost, charge.billed_currency, labels)

    def _money(self, measure: str, amount: Decimal | None, currency: str | None, labels: tuple[str, ...]) -> None:
        if amount is not None:
            self._total(measure if amount >= 0 else f"{measure}_credit", currency or "", labels, abs(amount))

    def _total(self, measure: str, dimension: str, labels: tuple[str, ...], value: Decimal) -> None:
        key = (measure, dimension, labels)
        self._totals[key] = _EXACT.add(self._totals.get(key, _ZERO), max(value, _ZERO))

    def _admitted(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels, from the last one on replaced by `other` until there is room for the combination."""
        # A tenth of the room is kept, so that what is new still shows its first labels when the accounts are too many.
        room = self.max_series - 1 - self.max_series // 10
        for hidden in range(len(labels) + 1):
            candidate = labels[: len(labels) - hidden] + (OTHER,) * hidden
            if candidate in self._combinations:
                return candidate
            if len(self._combinations) < room or hidden == len(labels):
                self._combinations.add(candidate)
                return candidate
            room = self.max_series - 1
        return labels
