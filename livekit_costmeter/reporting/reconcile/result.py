"""
A reconciliation as a whole: rows, their total, and what explains the differences.

Invariant: the total adds up what both sides have; one-sided rows are in no percentage, and how many there are is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial

from livekit_costmeter.reporting.reconcile.diagnosis import Finding, diagnose
from livekit_costmeter.reporting.reconcile.matching import (
    LedgerSide,
    Match,
    ProviderSide,
    RowMaker,
    Sides,
    Thresholds,
    pair,
)
from livekit_costmeter.reporting.reconcile.matching.rows import Row
from livekit_costmeter.reporting.reconcile.matching.slots import DAY, ZERO, Span, day_of, span_of, total

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """
    What was compared and what came out.

    Attributes:
        by: `model`, `day` or `key`.
        rows: Models, each followed by its units.
        total: Of the rows that both sides have.
        left_out: How many one-sided models are not in the total.
        findings: Causes, the one that explains most first.
        notes: What else is to be known of the files.
        sides: What the rows are made of.
        window: The period in slots.
    """

    provider: str
    since: datetime
    until: datetime
    by: str
    rows: tuple[Row, ...]
    total: Row
    left_out: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    sides: Sides
    window: Span

    @property
    def over(self) -> bool:
        """Tell whether any row differs by more than it may."""
        return any(row.state not in ("agrees", "within") for row in self.rows)

    def causes_of(self, row: Row) -> list[Finding]:
        """Return the causes that have to do with a row that differs."""
        if row.level == "total" or row.state == "agrees":
            return []
        unit = row.unit if row.level == "unit" else None
        return [finding for finding in self.findings if finding.is_about(row.model, unit)]


@dataclass(frozen=True, slots=True)
class Question:
    """
    What is asked.

    Attributes:
        by: `model`, `day` or `key`: how rows are told apart.
        aliases: The provider's names of models, to the ledger's.
        known_keys: The provider's ids of the keys that are ours; empty where nobody said.
    """

    provider: str
    since: datetime
    until: datetime
    by: str = "model"
    aliases: Mapping[str, str] = field(default_factory=dict)
    known_keys: frozenset[str] = frozenset()

    @property
    def window(self) -> Span:
        """Return the period in slots."""
        return span_of(self.since, self.until)


def reconcile(question: Question, ours: LedgerSide, theirs: ProviderSide, thresholds: Thresholds) -> Reconciliation:
    """Compare both sides, which are complete, and explain what differs."""
    sides = pair(ours, theirs, question.aliases)
    maker = RowMaker(sides, thresholds)
    rows = [row for window, group in _groups(question) for row in maker.rows(window, group)]
    both = [row for row in rows if row.level == "model" and not row.one_sided]
    one_sided = sum(row.level == "model" and row.one_sided for row in rows)
    findings = diagnose(sides, question.window, sides.by_key, question.known_keys)
    return Reconciliation(
        question.provider,
        question.since,
        question.until,
        question.by,
        tuple(rows),
        _total(both, sides),
        one_sided,
        findings,
        _notes(question, ours, theirs, sides),
        sides,
        question.window,
    )


def _groups(question: Question) -> list[tuple[Span, Callable[[Match], str | None]]]:
    first, count = question.window
    if question.by == "day":
        days = [(slot, min(DAY - slot % DAY, first + count - slot)) for slot in _day_starts(first, count)]
        return [(day, partial(_named, day_of(day[0]))) for day in days]
    return [(question.window, _key_of if question.by == "key" else _no_group)]


def _day_starts(first: int, count: int) -> list[int]:
    return [first, *range(first - first % DAY + DAY, first + count, DAY)]


def _named(name: str, _match: Match) -> str:
    return name


def _key_of(match: Match) -> str | None:
    return match.key or "other"


def _no_group(_match: Match) -> None:
    return None


def _total(rows: Sequence[Row], sides: Sides) -> Row:
    units = {row.unit for row in rows}
    same = units.pop() if len(units) == 1 else None
    return Row(
        level="total",
        component=None,
        model="total",
        group=None,
        unit=same,
        our_units=_sum([row.our_units for row in rows]) if same else None,
        their_units=_sum([row.their_units for row in rows]) if same else None,
        our_cost=_sum([row.our_cost for row in rows]),
        their_cost=_sum([row.their_cost for row in rows]),
        currency=sides.currency,
        unit_threshold=ZERO,
        cost_threshold=ZERO,
        estimated_share=ZERO,
        state="agrees",
    )


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return total(known) if known and len(known) == len(amounts) else None


def _missing_requests(ours: LedgerSide, theirs: ProviderSide) -> str | None:
    """Say which requests the ledger does not have, where both sides have the same kind of ids."""
    known, missing = len(theirs.request_ids), len(ours.missing_requests)
    if not known or missing == known:
        return None
    such = (
        f"; not {', '.join(sorted(ours.missing_requests)[:_SHOWN])}{', ...' if missing > _SHOWN else ''}"
        if missing
        else ""
    )
    return f"by request id, {known - missing} of {known} requests of the provider are in the ledger{such}"


def _notes(question: Question, ours: LedgerSide, theirs: ProviderSide, sides: Sides) -> tuple[str, ...]:
    found = []
    if not theirs.lines:
        found.append("the provider's files have no line of this period")
    if theirs.outside:
        found.append(f"{theirs.outside} lines of the provider are outside of the period, and left out")
    if theirs.longer_than_a_day and question.by == "day":
        found.append(
            f"{theirs.longer_than_a_day} lines of the provider are longer than a day, and stand on their first"
        )
    if theirs.reaching_over:
        found.append(f"{theirs.reaching_over} lines of the provider reach over the end of the period")
    if ours.left_out:
        found.append(f"{ours.left_out} records of accounts' own keys are left out (--account-keys in takes them in)")
    if sides.other_currencies:
        found.append(f"amounts in {', '.join(sides.other_currencies)} are not compared")
    if missing := _missing_requests(ours, theirs):
        found.append(missing)
    if theirs.batched:
        found.append(f"{theirs.batched} lines are batched work, at rates of its own")
    return tuple(found)
