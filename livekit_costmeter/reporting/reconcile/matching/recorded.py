"""
The ledger's side: charges of one provider, added up by model, unit and half hour.

Invariant: what is compared is what would be billed (`billable_quantity`), since that is what a provider states. A
measure of work that is billed in another one is kept beside, for providers that state it after all. Memory grows with
models, units and half hours, not with charges. Corrections add to the cost and measure nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from livekit_costmeter.records import PLATFORM, UNKNOWN, Charge
from livekit_costmeter.reporting.reconcile.matching.operations import TIMES, OperationCounter, Operations
from livekit_costmeter.reporting.reconcile.matching.slots import add_to, slot_of
from livekit_costmeter.reporting.tally import ESTIMATES

BOOKED = "reconcile-"
"""How the ids of corrections begin that were booked to agree with an invoice."""

Sums = dict[int, Decimal]
KeyLabel = Callable[[Charge], str | None]


class UnitKey(NamedTuple):
    """What is counted: `key` is the label of an API key, `None` where keys are not told apart."""

    component: str
    model: str
    unit: str
    key: str | None = None


@dataclass(slots=True)
class Recorded:
    """What was recorded of one unit, by half hour.

    Attributes:
        quantity: What would be billed.
        started: The same, by when the work began.
        measured: What was measured, of times.
        beside: What was measured and is billed in another unit.
        estimated: The part of `quantity` that is an estimate.
        doubled: The part of `quantity` that was recorded before.
        cost: By currency, with corrections.
        booked: The part of it that was booked to agree with an invoice.
        estimated_cost: The part of it that is for estimates.
        unreported: Some of it is observed or estimated, so not the provider's own count.
        unpriced: Some of it has no price.
    """

    quantity: Sums = field(default_factory=dict)
    started: Sums = field(default_factory=dict)
    measured: Sums = field(default_factory=dict)
    beside: Sums = field(default_factory=dict)
    estimated: Sums = field(default_factory=dict)
    doubled: Sums = field(default_factory=dict)
    cost: dict[str, Sums] = field(default_factory=dict)
    estimated_cost: dict[str, Sums] = field(default_factory=dict)
    doubled_cost: dict[str, Sums] = field(default_factory=dict)
    booked: dict[str, Sums] = field(default_factory=dict)
    unreported: bool = False
    unpriced: bool = False


def is_account_key(charge: Charge) -> bool:
    """Tell whether an account's own key did the work, which is on the account's invoice and not on ours."""
    return charge.key_owner not in (PLATFORM, UNKNOWN)


class LedgerSide:
    """Adds up the charges of one provider."""

    def __init__(
        self,
        provider: str,
        *,
        account_keys: bool = False,
        label: KeyLabel | None = None,
        request_ids: Collection[str] = (),
    ) -> None:
        self._provider = provider
        self._account_keys = account_keys
        self._label = label
        self._counter = OperationCounter()
        self.units: dict[UnitKey, Recorded] = {}
        self.operations: dict[tuple[str, str], Operations] = {}
        self._missing = set(request_ids)
        self.left_out = 0

    def add(self, charges: Iterable[Charge]) -> None:
        """Add charges in the order of time; the lines of one record follow one another."""
        for _, rows in groupby(charges, key=attrgetter("record_id")):
            record = [row for row in rows if row.provider == self._provider]
            if record and is_account_key(record[0]) and not self._account_keys:
                self.left_out += 1
            elif record:
                self._add(record)

    @property
    def missing_requests(self) -> Collection[str]:
        """Return the provider's ids of requests that no operation here has."""
        return self._missing

    def close(self) -> None:
        """Settle the operations that are still followed."""
        self._counter.close()

    def _add(self, record: list[Charge]) -> None:
        usage = [row for row in record if row.kind == "usage"]
        doubled = False
        if usage:
            first = usage[0]
            operations = self.operations.setdefault((first.component, first.model), Operations())
            doubled = self._counter.add(usage, operations)
            self._missing.discard(first.operation_id or "")
        for row in record:
            label = None if self._label is None else self._label(row)
            series = self.units.setdefault(UnitKey(row.component, row.model, row.unit, label), Recorded())
            if row.kind == "usage":
                _add_usage(series, row, doubled=doubled)
            if row.kind in ("usage", "correction"):
                _add_cost(series, row, doubled=doubled)


def _add_usage(series: Recorded, row: Charge, *, doubled: bool) -> None:
    slot = slot_of(row.at)
    if row.pricing_status == "free" and "billed_in=" in row.pricing_source and not row.billable_quantity:
        add_to(series.beside, slot, row.quantity)
        return
    amount = row.billable_quantity
    add_to(series.quantity, slot, amount)
    add_to(series.started, slot_of(row.started_at or row.at), amount)
    if row.unit in TIMES:
        add_to(series.measured, slot, row.quantity)
    if row.quantity_basis in ESTIMATES:
        add_to(series.estimated, slot, amount)
    if row.quantity_basis != "reported":
        series.unreported = True
    if doubled:
        add_to(series.doubled, slot, amount)


def _add_cost(series: Recorded, row: Charge, *, doubled: bool) -> None:
    if row.cost is None or row.currency is None:
        series.unpriced = series.unpriced or row.cost is None
        return
    slot = slot_of(row.at)
    add_to(series.cost.setdefault(row.currency, {}), slot, row.cost)
    if row.quantity_basis in ESTIMATES and row.kind == "usage":
        add_to(series.estimated_cost.setdefault(row.currency, {}), slot, row.cost)
    if row.record_id.startswith(BOOKED):
        add_to(series.booked.setdefault(row.currency, {}), slot, row.cost)
    if doubled:
        add_to(series.doubled_cost.setdefault(row.currency, {}), slot, row.cost)
