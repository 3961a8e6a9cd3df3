"""
Repricing: what is booked for a past period, beside what it costs at the prices of now.

Each record's usage is rebuilt from its lines and rated again, at the instant it was rated at then. What the provider's
policy made of a quantity stays as it is booked, for a ledger does not say where an operation ended; a unit that had no
price is billed as measured, and says `open=1` where a policy would round it. A price that comes from the very same row
stays, with the tier that it had.

What a usage record knows and a charge does not is taken from the flags of its source: service tier, kind of voice. Fees
of a plan do not depend on prices and stay; its markup on the cost does and is corrected, and so are taxes on both. What
a plan bills in place of the cost stays so too: a plan is not changed afterwards, its prices of calls least of all. An
account that was on another plan, or had another markup, keeps its bill; the provider's cost alone is corrected.

Invariant: a record is corrected whole or not at all, and nothing becomes unpriced: what has no price now keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal, Protocol

from livekit_costmeter.billing.corrections import Balance, Corrections, Part, as_record, correct, flags_of, part_of
from livekit_costmeter.billing.lines import changed
from livekit_costmeter.billing.plans import Plan
from livekit_costmeter.pricing.rates import TOKENS, measure_of, with_flags
from livekit_costmeter.pricing.rating import billed_at_cost
from livekit_costmeter.records import CHARGE_FIELDS, UNIT_ORDER, USAGE_FIELDS, Charge, UsageRecord, round_cost

Rate = Callable[[UsageRecord], Sequence[Charge]]
Status = Literal["changed", "newly_priced", "kept"]

_EXACT = Context(prec=60)
_ZERO = Decimal(0)
_LINES = frozenset({"usage", "fee", "tax"})
_MARKUP = "markup-"
_NO_LINE = 1 << 30
"""The number of a line that is not booked: a correction of it gets one behind those that are."""
_OF_OPERATION = ("policy", "open")
_UNPRICED_TIER = "unpriced-"
_SAME_IN_ALL_LINES = tuple(name for name in USAGE_FIELDS if name in CHARGE_FIELDS)


class Biller(Protocol):
    """What plans make of the lines of a record."""

    def bill(self, record: UsageRecord, charges: Sequence[Charge]) -> Sequence[Charge]:
        """Return the lines, and behind them those that the account's plan adds."""
        ...

    def plan_of(self, account: str | None) -> Plan | None:
        """Return the plan of an account."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """A line, what is booked for it, the line at the prices of now, and the rows that correct it.

    A line of status `kept` has no price now; its rows are empty.
    """

    line: Charge
    booked: Balance
    new: Charge
    status: Status
    rows: tuple[Charge, ...] = ()


@dataclass(frozen=True, slots=True)
class Repriced:
    """One record: its changes, and the whole correction of it, taxes included."""

    record_id: str
    changes: tuple[Change, ...]
    corrections: tuple[Charge, ...]


@dataclass(frozen=True, slots=True)
class Repricer:
    """Applies the prices of now to what is booked.

    Attributes:
        rate: What prices a record.
        billing: The plans; without any, the platform's keys are billed at cost.
        booked: The corrections that are booked already.
    """

    rate: Rate
    billing: Biller | None = None
    booked: Corrections = field(default_factory=Corrections)

    def reprice(self, charges: Iterable[Charge]) -> Iterator[Repriced]:
        """Stream the records among charges; the rows of one stand together, in the order of their lines."""
        lines = (charge for charge in charges if charge.kind in _LINES)
        for record_id, rows in groupby(lines, key=attrgetter("record_id")):
            record = list(rows)
            if any(_is_usage(line) for line in record):
                yield self._repriced(record_id, record)

    def _repriced(self, record_id: str, lines: Sequence[Charge]) -> Repriced:
        booked = self.booked.balances(record_id, lines)
        found = (_change(line, booked.get(part) or _nothing(new), new) for part, line, new in self._pairs(lines))
        changes = tuple(change for change in found if change is not None)
        rows = [row for change in changes for row in change.rows]
        if not rows:
            return Repriced(record_id, changes, ())
        rows += [tax for row in rows for tax in self._taxes(row)]
        last = max(line.line for line in lines)
        return Repriced(record_id, changes, tuple(as_record(rows, self.booked.count(record_id) + 1, last)))

    def _pairs(self, lines: Sequence[Charge]) -> Iterator[tuple[Part, Charge, Charge]]:
        """Yield what depends on prices: each line as it is booked, and as it would be now."""
        usage = {line.unit: line for line in lines if _is_usage(line)}
        record = usage_of(list(usage.values()))
        rated = [_as_booked(usage[new.unit], new) for new in self.rate(record) if new.unit in usage]
        billed = rated if self.billing is None else self.billing.bill(record, rated)
        markups = {part_of(line): line for line in lines if line.kind == "fee"}
        plan = self._plan_of(record.account)
        settled = _billed_otherwise(lines, billed, plan)
        for new in (*billed, *_without_markup(billed, plan)):
            part = part_of(new)
            if new.kind == "usage" and new.unit in settled:
                yield part, usage[new.unit], changed(new, billed_cost=None, billed_currency=None, credits=None)
            elif new.kind == "usage":
                yield part, usage[new.unit], new
            elif part[0].startswith(_MARKUP) and new.unit not in settled:
                # A correction's cost counts as the provider's.
                yield part, markups.get(part) or changed(new, line=_NO_LINE), changed(new, cost=_ZERO)

    def _plan_of(self, account: str | None) -> Plan | None:
        return None if self.billing is None else self.billing.plan_of(account)

    def _taxes(self, row: Charge) -> Iterator[Charge]:
        plan = self._plan_of(row.account)
        if plan is None or not row.billed_cost or row.billed_currency != plan.currency:
            return
        kind = "fee" if part_of(row)[0] else "usage"
        for tax in plan.taxes:
            if kind in tax.on and tax.active(row.started_at or row.at):
                yield _tax(row, tax.rate, plan.source_of(tax.id), tax.digest)


def _tax(row: Charge, rate: Decimal, source: str, digest: str) -> Charge:
    assert row.billed_cost is not None
    amount = round_cost(_EXACT.multiply(row.billed_cost, rate))
    shares: dict[str, Any] = {"cost": _ZERO, "currency": row.billed_currency, "billed_cost": amount}
    if row.credits is not None:
        shares["credits"] = round_cost(_EXACT.multiply(row.credits, rate))
    return changed(row, **shares, pricing_source=source, price_digest=digest)


def _nothing(new: Charge) -> Balance:
    """Return the balance of a line of which nothing is booked: of a plan's that is 0, and not unknown."""
    if new.kind == "usage":
        return Balance()
    return Balance({new.currency or "": _ZERO}, {new.billed_currency or "": _ZERO})


def _is_usage(line: Charge) -> bool:
    return line.kind == "usage" and line.unit in UNIT_ORDER


def usage_of(lines: Sequence[Charge]) -> UsageRecord:
    """Rebuild a usage record from its lines, without the total of its operation, which no line has."""
    first = lines[0]
    same: dict[str, Any] = {name: getattr(first, name) for name in _SAME_IN_ALL_LINES}
    flags = {name: value for line in reversed(lines) for name, value in flags_of(line.pricing_source).items()}
    return UsageRecord(
        id=first.record_id,
        quantities={line.unit: line.quantity for line in lines},
        basis={line.unit: line.quantity_basis for line in lines},
        service_tier=flags.get("tier", "").removeprefix(_UNPRICED_TIER) or None,
        attributes=dict(_attributes(lines, flags)),
        **same,
    )


def _attributes(lines: Sequence[Charge], flags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what else a price may have depended on."""
    if "voice_class" in flags:
        yield "voice_class", flags["voice_class"]
    if any("multi" in line.pricing_source.partition("#")[2].partition("@")[0] for line in lines):
        yield "language", "multi"
    # A transcript without tokens, which is billed in tokens: what it cost stays unknown.
    if all(line.pricing_source == "unpriced:unit" for line in lines) and not any(
        measure_of(line.unit) == TOKENS for line in lines
    ):
        yield "tokens", "unreported"


def _is_rated(line: Charge) -> bool:
    """Tell whether a line has a price of its own, and is not free because another unit is billed."""
    if line.cost is None or line.unit_price:
        return line.cost is not None
    flags = line.pricing_source.partition("?")[2].split("&")  # a plan's rule may say `billed_in` as well
    return not any(flag.removeprefix("billed_in=") in UNIT_ORDER for flag in flags)


def _is_passed(line: Charge) -> bool:
    """Tell whether a line is billed by what it costs, and not by another line or by the fees."""
    flags = flags_of(line.pricing_source)
    return "included" not in flags and flags.get("billed_in", next(iter(UNIT_ORDER))) in UNIT_ORDER


def _billed_otherwise(lines: Sequence[Charge], billed: Sequence[Charge], plan: Plan | None) -> set[str]:
    """Return the units whose bill stays: another plan than that of now made it, another way, or another markup."""
    then = {line.pricing_source.partition("@")[0] for line in lines if part_of(line)[0]}
    if plan is None:
        elsewhere = bool(then) or any("fx" in flags_of(line.pricing_source) for line in lines)
    else:
        elsewhere = bool(then) and f"plan:{plan.name}" not in then
    usage = {line.unit: line for line in lines if _is_usage(line)}
    before, after = _markups(lines), _markups(billed)
    found: set[str] = set()
    for new in (line for line in billed if line.kind == "usage"):
        line = usage[new.unit]
        terms, now = (line.billed_currency, before.get(new.unit)), (new.billed_currency, after.get(new.unit))
        # On which terms it was billed is not to be seen of what was unknown or came to nothing.
        moved = plan is not None and terms != now and bool(line.billed_cost and new.billed_cost)
        if elsewhere or moved or _is_passed(new) != _is_passed(line):
            found.add(new.unit)
    return found


def _markups(lines: Iterable[Charge]) -> dict[str, str | None]:
    markups = (line for line in lines if part_of(line)[0].startswith(_MARKUP))
    return {line.unit: flags_of(line.pricing_source).get("markup") for line in markups}


def _without_markup(billed: Sequence[Charge], plan: Plan | None) -> Iterator[Charge]:
    """Yield the markup of 0 on what is passed on and costs nothing now, for there may have been one."""
    for new in billed:
        if plan is not None and new.kind == "usage" and new.billed_cost == _ZERO and _is_passed(new):
            source = plan.source_of(f"{_MARKUP}{new.component}")
            yield changed(new, kind="fee", pricing_source=source)


def _as_booked(line: Charge, new: Charge) -> Charge:
    """Return the new line with the billable quantity of the booked one, where both have a price."""
    if not _is_rated(line) or not _is_rated(new):
        return new
    source = _with_operation(new.pricing_source, line.pricing_source)
    if line.price_digest is not None and line.price_digest == new.price_digest:
        price, per, cost, currency = line.unit_price, line.price_per, line.cost, line.currency
    else:
        price, per, currency = new.unit_price, new.price_per, new.currency
        assert price is not None
        assert per is not None
        cost = round_cost(_EXACT.divide(_EXACT.multiply(line.billable_quantity, price), per))
    billed = billed_at_cost(cost, new.key_owner, new.billed_by)
    return changed(
        new,
        billable_quantity=line.billable_quantity,
        unit_price=price,
        price_per=per,
        cost=cost,
        currency=currency,
        pricing_status="priced" if price and (line.billable_quantity or line.pricing_status != "free") else "free",
        pricing_source=source,
        billed_cost=billed,
        billed_currency=None if billed is None else currency,
    )


def _with_operation(new: str, booked: str) -> str:
    """Return a source that says about the operation what the booked one says."""
    base, _, given = new.partition("?")
    own = flags_of(new)
    if "billed_as" not in own:  # that price is named by the policy
        given = "&".join(flag for flag in given.split("&") if flag.partition("=")[0] not in _OF_OPERATION)
    kept = [(name, value) for name, value in flags_of(booked).items() if name in _OF_OPERATION]
    return with_flags(f"{base}?{given}" if given else base, *kept)


def _change(line: Charge, booked: Balance, new: Charge) -> Change | None:
    if new.cost is None:
        return Change(line, booked, line, "kept") if booked.cost else None
    rows = tuple(correct(line, booked, new))
    status: Status = "changed" if booked.cost else "newly_priced"
    return Change(line, booked, new, status, rows) if rows else None
