"""
Running sums over charges: money, quantities, how much of it is estimated, and the length of the calls.

Invariant: sums are exact, memory grows with groups, models and calls but never with charges. Records are counted when
`record_id` changes, so the rows of one record must follow one another (`Ledger.read` promises it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_UP, Context, Decimal

from livekit_costmeter.records import UNKNOWN, Charge

# Wide enough that no sum of 12-place amounts is ever rounded, whatever the caller's own decimal context.
EXACT = Context(prec=100)
COST_KINDS = frozenset({"usage", "correction"})
# A purchase or a credit moves a balance; it is not put on the bill.
BILLED_KINDS = COST_KINDS | {"fee", "tax"}
ESTIMATES = frozenset({"estimated", "lower_bound"})
_ZERO = Decimal(0)
_SHARE_STEP = Decimal("1e-6")


@dataclass(frozen=True, slots=True)
class UnpricedModel:
    """A model that has unpriced lines, why, and in how many records."""

    provider: str
    model: str
    reason: str
    records: int


class Tally:
    """The sums of one group of charges."""

    __slots__ = (
        "_last_record",
        "_last_unpriced",
        "_parts",
        "billed_cost",
        "billed_incomplete",
        "calls",
        "cost",
        "quantities",
        "records",
        "unpriced_records",
    )

    def __init__(self) -> None:
        self.quantities: dict[str, Decimal] = {}
        self.cost: dict[str, Decimal] = {}
        self.billed_cost: dict[str, Decimal] = {}
        self.billed_incomplete = False
        self.records = 0
        self.unpriced_records = 0
        self.calls: set[int] = set()
        # (is money, is estimated) -> currency or unit -> magnitude
        self._parts: dict[tuple[bool, bool], dict[str, Decimal]] = {}
        self._last_record: str | None = None
        self._last_unpriced: str | None = None

    def add(self, charge: Charge, call: int | None) -> None:
        """Count one charge; `call` is its number in `CallTimes`."""
        if charge.record_id != self._last_record:
            self._last_record = charge.record_id
            self.records += 1
        if call is not None:
            self.calls.add(call)
        if charge.kind == "usage":
            # A correction changes a price; the measured quantity stands.
            _add(self.quantities, charge.unit, charge.quantity)
            self._weigh(charge, charge.unit, charge.quantity, money=False)
        if charge.kind in COST_KINDS:
            self._add_cost(charge)
        if charge.kind in BILLED_KINDS:
            self._add_billed(charge)

    def estimated_share(self) -> Decimal:
        """Return the share, 0 to 1, of what is known only as `estimated` or `lower_bound`, rounded up to 6 places.

        It is the share of the priced cost (of its magnitude, so that a negative correction cannot push it out of
        bounds); of several currencies the largest. Where nothing has a cost but 0, it is the share of the measured
        quantity; of several units the largest.
        """
        of_cost = self._largest_share(money=True)
        of_quantity = self._largest_share(money=False) if of_cost is None else None
        return of_cost or of_quantity or _ZERO

    def _add_cost(self, charge: Charge) -> None:
        if charge.pricing_status == "unpriced" or charge.cost is None:
            if charge.record_id != self._last_unpriced:
                self._last_unpriced = charge.record_id
                self.unpriced_records += 1
            return
        _add_money(self.cost, charge.currency, charge.cost)
        self._weigh(charge, charge.currency or UNKNOWN, charge.cost, money=True)

    def _add_billed(self, charge: Charge) -> None:
        if charge.billed_cost is None:
            self.billed_incomplete = True
        else:
            _add_money(self.billed_cost, charge.billed_currency, charge.billed_cost)

    def _weigh(self, charge: Charge, part: str, amount: Decimal, *, money: bool) -> None:
        sums = self._parts.setdefault((money, charge.quantity_basis in ESTIMATES), {})
        _add(sums, part, abs(amount))

    def _largest_share(self, *, money: bool) -> Decimal | None:
        known, estimated = self._parts.get((money, False), {}), self._parts.get((money, True), {})
        shares = []
        for part in known.keys() | estimated.keys():
            whole = EXACT.add(known.get(part, _ZERO), estimated.get(part, _ZERO))
            if whole:
                shares.append(EXACT.divide(estimated.get(part, _ZERO), whole))
        # Rounded up, so that a small estimated part never reads as none.
        return max(shares).quantize(_SHARE_STEP, rounding=ROUND_UP, context=EXACT) if shares else None


class UnpricedModels:
    """The models with unpriced lines, each with the number of its records."""

    def __init__(self) -> None:
        self._last_record: dict[tuple[str, str, str], str] = {}
        self._records: dict[tuple[str, str, str], int] = {}

    def add(self, charge: Charge) -> None:
        """Count one charge if it is an unpriced one."""
        if charge.kind not in COST_KINDS or (charge.cost is not None and charge.pricing_status != "unpriced"):
            return
        model = (charge.provider, charge.model, unpriced_reason(charge))
        if self._last_record.get(model) != charge.record_id:
            self._last_record[model] = charge.record_id
            self._records[model] = self._records.get(model, 0) + 1

    def listed(self) -> tuple[UnpricedModel, ...]:
        """Return them, the most frequent first."""
        models = [UnpricedModel(*model, records) for model, records in self._records.items()]
        return tuple(sorted(models, key=lambda m: (-m.records, m.provider, m.model, m.reason)))


class CallTimes:
    """How long each call lasted: its `call_seconds`, else the span from its first to its last measured charge."""

    def __init__(self, *, daily: bool) -> None:
        self._daily = daily
        self._numbers: dict[tuple[str, date | None], int] = {}
        self._metered: list[Decimal] = []
        self._first: list[datetime] = []
        self._last: list[datetime] = []

    def mark(self, charge: Charge) -> int | None:
        """Take note of a charge and return the number of its call (`daily`: of that day's part of it)."""
        if charge.session_id is None:
            return None
        key = (charge.session_id, charge.at.astimezone(UTC).date() if self._daily else None)
        number = self._numbers.setdefault(key, len(self._metered))
        if number == len(self._metered):
            self._metered.append(_ZERO)
            self._first.append(charge.at)
            self._last.append(charge.at)
        if charge.kind == "usage":  # a correction comes days later and is no part of the call
            self._measure(number, charge)
        return number

    def seconds(self, calls: set[int]) -> Decimal | None:
        """Return the length of these calls together; a call of unknown length adds nothing, `None` if all are such."""
        total = _ZERO
        for number in calls:
            total = EXACT.add(total, self._metered[number] or self._span(number))
        return total or None

    def _measure(self, number: int, charge: Charge) -> None:
        if charge.unit == "call_seconds":
            self._metered[number] = EXACT.add(self._metered[number], charge.quantity)
        self._first[number] = min(self._first[number], charge.started_at or charge.at)
        self._last[number] = max(self._last[number], charge.at)

    def _span(self, number: int) -> Decimal:
        span = self._last[number] - self._first[number]
        return Decimal(span.days * 86400 + span.seconds) + Decimal(span.microseconds).scaleb(-6)


def unpriced_reason(charge: Charge) -> str:
    """Return why a charge is unpriced: `unpriced:no_match?tier=x` gives `no_match`."""
    kind, _, detail = charge.pricing_source.partition("?")[0].partition(":")
    return detail if kind == "unpriced" and detail else UNKNOWN


def _add(sums: dict[str, Decimal], key: str, amount: Decimal) -> None:
    known = sums.get(key)
    sums[key] = amount if known is None else EXACT.add(known, amount)


def _add_money(sums: dict[str, Decimal], currency: str | None, amount: Decimal) -> None:
    if currency or amount:  # nothing, in no currency, adds nothing
        _add(sums, currency or UNKNOWN, amount)


def sorted_sums(sums: Mapping[str, Decimal], order: Mapping[str, int] | None = None) -> dict[str, Decimal]:
    """Return the sums by name, or by the given order with unknown names at the end."""
    ranks = order or {}
    return {key: sums[key] for key in sorted(sums, key=lambda key: (ranks.get(key, len(ranks)), key))}
