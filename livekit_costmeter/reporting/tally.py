"""
Running sums over charges: money, quantities, how much of it is estimated, and the length of the calls.

Invariant: sums are exact, memory grows with groups, models and calls but never with charges. Records are counted when
`record_id` changes, so the rows of one record must follow one another (`Ledger.read` promises it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_UP, Context, Decimal

from livekit_costmeter.records import UNKNOWN, Charge

# Wide enough that no sum of 12-place amounts is ever rounded, whatever the caller's own decimal context.
EXACT = Context(prec=100)
COST_KINDS = frozenset({"usage", "correction"})
# A purchase or a credit moves a balance; it is not put on the bill.
BILLED_KINDS = COST_KINDS | {"fee", "tax"}
ESTIMATES = frozenset({"estimated", "lower_bound"})
_KNOWN_LATER = frozenset({"was=unpriced", "was=unbilled"})
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
            self.weigh(charge.unit, charge.quantity, estimated=charge.quantity_basis in ESTIMATES, money=False)
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
        estimated = charge.quantity_basis in ESTIMATES
        self.weigh(charge.currency or UNKNOWN, charge.cost, estimated=estimated, money=True)

    def _add_billed(self, charge: Charge) -> None:
        if charge.billed_cost is None:
            self.billed_incomplete = True
        else:
            _add_money(self.billed_cost, charge.billed_currency, charge.billed_cost)

    def weigh(self, part: str, amount: Decimal, *, estimated: bool, money: bool) -> None:
        """Let an amount (of a currency, or of a unit) count in the estimated share."""
        _add(self._parts.setdefault((money, estimated), {}), part, abs(amount))

    def _largest_share(self, *, money: bool) -> Decimal | None:
        known, estimated = self._parts.get((money, False), {}), self._parts.get((money, True), {})
        shares = []
        for part in known.keys() | estimated.keys():
            whole = EXACT.add(known.get(part, _ZERO), estimated.get(part, _ZERO))
            if whole:
                shares.append(EXACT.divide(estimated.get(part, _ZERO), whole))
        # Rounded up, so that a small estimated part never reads as none.
        return max(shares).quantize(_SHARE_STEP, rounding=ROUND_UP, context=EXACT) if shares else None


def is_unpriced(charge: Charge) -> bool:
    """Tell whether a charge should have a cost and has none."""
    return charge.kind in COST_KINDS and (charge.cost is None or charge.pricing_status == "unpriced")


class UnpricedModels:
    """The models with unpriced lines, each with the number of its records."""

    def __init__(self) -> None:
        self._last_record: dict[tuple[str, str, str], str] = {}
        self._records: dict[tuple[str, str, str], int] = {}

    def add(self, charge: Charge) -> None:
        """Count one charge if it is an unpriced one."""
        if not is_unpriced(charge):
            return
        model = (charge.provider, charge.model, unpriced_reason(charge))
        if self._last_record.get(model) != charge.record_id:
            self._last_record[model] = charge.record_id
            self._records[model] = self._records.get(model, 0) + 1

    def listed(self) -> tuple[UnpricedModel, ...]:
        """Return them, the most frequent first."""
        return most_frequent_first(UnpricedModel(*model, records) for model, records in self._records.items())


def most_frequent_first(models: Iterable[UnpricedModel]) -> tuple[UnpricedModel, ...]:
    """Return the models in the order in which they are shown."""
    return tuple(sorted(models, key=lambda m: (-m.records, m.provider, m.model, m.reason)))


def answers(charge: Charge) -> bool:
    """Tell whether a charge is a correction that makes an amount known (see `LaterPrices`)."""
    if charge.kind != "correction" or charge.corrects is None or charge.cost is None:
        return False
    return not _KNOWN_LATER.isdisjoint(charge.pricing_source.partition("?")[2].split("&"))


class LaterPrices:
    """Which lines had no price, or no billed cost, and got it by a correction; memory grows with those alone.

    A correction says so itself: its source has `was=unpriced` or `was=unbilled`. It carries the whole amount.
    """

    def __init__(self) -> None:
        self._billed: dict[tuple[str, int], bool] = {}
        self.has_grown = False

    def note(self, charge: Charge) -> None:
        """Take note of a correction that makes an amount known."""
        if answers(charge) and charge.corrects is not None:
            key = (charge.corrects, charge.line)
            self.has_grown = self.has_grown or key not in self._billed
            self._billed[key] = self._billed.get(key, False) or charge.billed_cost is not None

    def settle(self, charge: Charge) -> Charge:
        """Return the charge without the question marks that a correction has answered."""
        if charge.kind != "usage" or (charge.cost is not None and charge.billed_cost is not None):
            return charge
        billed = self._billed.get((charge.record_id, charge.line))
        if billed is None:
            return charge
        billed_cost = _ZERO if charge.billed_cost is None and billed else charge.billed_cost
        if charge.cost is not None:
            return replace(charge, billed_cost=billed_cost)
        return replace(charge, cost=_ZERO, pricing_status="priced", billed_cost=billed_cost)


@dataclass(slots=True)
class _Leg:
    """The seconds of one leg of a call, and when it began and ended."""

    first: datetime
    last: datetime
    seconds: Decimal = _ZERO


class CallTimes:
    """How long each call lasted: its `call_seconds`, else the span from its first to its last measured charge.

    A leg (an operation) that somebody is transferred to adds only what the legs before it have not covered.
    """

    def __init__(self, *, daily: bool) -> None:
        self._daily = daily
        self._numbers: dict[tuple[str, date | None], int] = {}
        self._legs: list[dict[str | None, _Leg]] = []
        self._first: list[datetime] = []
        self._last: list[datetime] = []

    def mark(self, charge: Charge) -> int | None:
        """Take note of a charge and return the number of its call (`daily`: of that day's part of it)."""
        if charge.session_id is None:
            return None
        key = (charge.session_id, charge.at.astimezone(UTC).date() if self._daily else None)
        number = self._numbers.setdefault(key, len(self._legs))
        if number == len(self._legs):
            self._legs.append({})
            self._first.append(charge.at)
            self._last.append(charge.at)
        if charge.kind == "usage":  # a correction comes days later and is no part of the call
            self._measure(number, charge)
        return number

    def seconds(self, calls: set[int]) -> Decimal | None:
        """Return the length of these calls together; a call of unknown length adds nothing, `None` if all are such."""
        total = _ZERO
        for number in calls:
            total = EXACT.add(total, self._connected(number) or _seconds(self._last[number] - self._first[number]))
        return total or None

    def _measure(self, number: int, charge: Charge) -> None:
        first = charge.started_at or charge.at
        if charge.unit == "call_seconds":
            leg = self._legs[number].setdefault(charge.operation_id, _Leg(first, charge.at))
            leg.first, leg.last = min(leg.first, first), max(leg.last, charge.at)
            leg.seconds = EXACT.add(leg.seconds, charge.quantity)
        self._first[number] = min(self._first[number], first)
        self._last[number] = max(self._last[number], charge.at)

    def _connected(self, number: int) -> Decimal:
        total, covered = _ZERO, datetime.min.replace(tzinfo=UTC)
        for leg in sorted(self._legs[number].values(), key=lambda leg: (leg.first, leg.last, leg.seconds)):
            doubled = max(_seconds(min(leg.last, covered) - leg.first), _ZERO)
            total = EXACT.add(total, max(EXACT.subtract(leg.seconds, doubled), _ZERO))
            covered = max(covered, leg.last)
        return total


def _seconds(span: timedelta) -> Decimal:
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
