"""
Corrections: rows that bring what is booked to what it is now known to be, and never touch a row that is there.

A correction record is about one usage record. Its rows have kind `correction`, the usage record's id in `corrects`, and
who, what and when of the line they correct, `at` and `started_at` too: a report of the month of the usage shows what
that month costs at the new price. When it was booked does not stand in it, for two who book the same book the same row.

- `record_id` is `reprice-` and a digest of everything else in the record: the same id is the same rows, so booking
  twice is booking once, and after another change of prices it is another id.
- `line` is the line that is corrected. What is taken back in a currency that is no longer the line's, and what a plan
  adds (its markup, its taxes), have the numbers after the usage record's last line.
- `cost` and `billed_cost` are what changes: new less booked, where booked is the line with its corrections so far. What
  a plan adds has no `cost`, for that of a correction counts as the provider's.
- `quantity` and `billable_quantity` are 0 and `unit_price` is null: nothing more was measured, and a difference between
  two prices, each rounded, has no price of its own. The new price is the one that `pricing_source` names.
- `pricing_source` is the new one with `reprice=1`, 2 in the second correction of the same record, and so on. Where the
  line had no cost it has `was=unpriced`, where only its billed cost was not known `was=unbilled`; now they are known.

Invariant: a line and all its corrections add up to the new price exactly, in each currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from hashlib import blake2b
from itertools import zip_longest
from typing import NamedTuple

from livekit_costmeter.billing.lines import changed
from livekit_costmeter.pricing.rates import with_flags
from livekit_costmeter.records import Charge, charge_json

Part = tuple[str, str]
"""What of a record an amount is for: the plan's rule, empty for what the provider charges, and the unit."""

_EXACT = Context(prec=100)
_ZERO = Decimal(0)
_PREFIX = "reprice-"


def flags_of(source: str) -> dict[str, str]:
    """Return the flags of a source string."""
    pairs = (flag.partition("=") for flag in source.partition("?")[2].split("&") if flag)
    return {name: value for name, _, value in pairs}


def part_of(charge: Charge) -> Part:
    """Return what a charge, or a correction of it, is for."""
    source = charge.pricing_source
    rule = source.partition("#")[2].partition("?")[0] if source.startswith("plan:") and charge.kind != "usage" else ""
    return rule, charge.unit


class _Row(NamedTuple):
    """What is remembered of a correction."""

    part: Part
    ordinal: int
    cost: Decimal | None
    currency: str | None
    billed_cost: Decimal | None
    billed_currency: str | None
    credits: Decimal | None
    source: str


@dataclass(slots=True)
class Balance:
    """What is booked for one part of a record, by currency; empty is not known."""

    cost: dict[str, Decimal] = field(default_factory=dict)
    billed: dict[str, Decimal] = field(default_factory=dict)
    credits: Decimal | None = None
    source: str = ""

    def add(self, row: Charge | _Row) -> None:
        """Add a line, or a correction of it; the newest comes last."""
        if row.cost is not None:
            self.cost[row.currency or ""] = _EXACT.add(self.cost.get(row.currency or "", _ZERO), row.cost)
        if row.billed_cost is not None:
            currency = row.billed_currency or ""
            self.billed[currency] = _EXACT.add(self.billed.get(currency, _ZERO), row.billed_cost)
        if row.credits is not None:
            self.credits = _EXACT.add(self.credits or _ZERO, row.credits)
        self.source = row.source if isinstance(row, _Row) else row.pricing_source


class Corrections:
    """The corrections that are booked already, by the record that they correct; memory grows with them alone."""

    def __init__(self) -> None:
        self._rows: dict[str, list[_Row]] = {}
        self._under_way: set[tuple[str, int]] = set()

    def add(self, charges: Iterable[Charge], *, under_way: bool = False) -> None:
        """Take note of the corrections among charges; first of those `under_way`, which the ledger may have as well."""
        for charge in charges:
            if charge.kind != "correction" or not charge.record_id.startswith(_PREFIX) or charge.corrects is None:
                continue
            key = (charge.record_id, charge.line)
            if key in self._under_way:
                continue
            if under_way:
                self._under_way.add(key)
            self._rows.setdefault(charge.corrects, []).append(_row(charge))

    def count(self, record_id: str) -> int:
        """Return how often a record was corrected."""
        return max((row.ordinal for row in self._rows.get(record_id, ())), default=0)

    def balances(self, record_id: str, lines: Iterable[Charge]) -> dict[Part, Balance]:
        """Return what is booked for each part of a record, given its lines."""
        found: dict[Part, Balance] = {}
        for line in lines:
            amount = line if line.kind == "usage" else changed(line, cost=_ZERO)
            found.setdefault(part_of(line), Balance()).add(amount)
        for row in sorted(self._rows.get(record_id, ()), key=lambda row: row.ordinal):
            found.setdefault(row.part, Balance()).add(row)
        return found


def _row(charge: Charge) -> _Row:
    ordinal = flags_of(charge.pricing_source).get("reprice", "")
    return _Row(
        part_of(charge),
        int(ordinal) if ordinal.isdecimal() else 0,
        charge.cost,
        charge.currency,
        charge.billed_cost,
        charge.billed_currency,
        charge.credits,
        charge.pricing_source,
    )


def correct(line: Charge, booked: Balance, new: Charge) -> list[Charge]:
    """Return the rows that bring what is booked for a line to what it costs now; none where it costs that already.

    Args:
        line: The line, as it is booked.
        booked: What is booked for it with its corrections.
        new: The line at the price of now, with a cost.
    """
    costs = _moves(booked.cost, new.cost, new.currency)
    bills = _moves(booked.billed, new.billed_cost, new.billed_currency)
    known = (bool(booked.cost), bool(booked.billed) or new.billed_cost is None)
    credit = None if new.credits is None else _EXACT.subtract(new.credits, booked.credits or _ZERO)
    if all(known) and not any(amount for _, amount in (*costs, *bills)) and not credit:
        return []
    was = "" if all(known) else "unpriced" if not known[0] else "unbilled"
    source = with_flags(new.pricing_source, ("was", was)) if was else new.pricing_source
    rows: list[Charge] = []
    for cost, bill in zip_longest(costs, bills):
        currency, amount = cost or (costs[0][0], _ZERO)
        billed_currency, billed = bill or (None, None if not booked.billed and new.billed_cost is None else _ZERO)
        rows.append(
            changed(
                line,
                kind="correction",
                quantity=_ZERO,
                billable_quantity=_ZERO,
                unit_price=None,
                price_per=None,
                cost=amount,
                currency=currency or None,
                pricing_status=new.pricing_status,
                pricing_source=source,
                price_digest=new.price_digest,
                stale=new.stale,
                billed_cost=billed,
                billed_currency=billed_currency or None,
                credits=credit if not rows else None,
                corrects=line.record_id,
            )
        )
        source = new.pricing_source
    return rows


def _moves(booked: Mapping[str, Decimal], amount: Decimal | None, currency: str | None) -> list[tuple[str, Decimal]]:
    """Return what to add in the currency of now, and what to take back in any other."""
    if amount is None:
        return []
    name = currency or ""
    added = (name, _EXACT.subtract(amount, booked.get(name, _ZERO)))
    return [added, *((other, -sum_) for other, sum_ in sorted(booked.items()) if other != name and sum_)]


def as_record(rows: Sequence[Charge], ordinal: int, last: int) -> list[Charge]:
    """Make one correction record of rows about one usage record, whose last line has the number `last`."""
    numbered: list[Charge] = []
    for row in rows:
        taken = any(other.line == row.line for other in numbered)
        number = row.line
        if taken or row.line > last:
            last += 1
            number = last
        source = with_flags(row.pricing_source, ("reprice", str(ordinal)))
        numbered.append(changed(row, record_id="", line=number, pricing_source=source))
    content = b"\n".join(charge_json(row) for row in numbered)
    record_id = _PREFIX + blake2b(content, digest_size=16).hexdigest()
    return [changed(row, record_id=record_id) for row in numbered]
