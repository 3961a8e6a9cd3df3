"""
The rows of a reconciliation: one per model, and below it one per unit.

Invariant: a percentage is of the provider's number, (theirs - ours) / theirs, and there is none where one side has
nothing: such a row is marked and left out of the total's percentages. Nothing is rounded here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from livekit_costmeter.reporting.reconcile.matching.pairs import Match, Sides, UnitMatch
from livekit_costmeter.reporting.reconcile.matching.recorded import Recorded
from livekit_costmeter.reporting.reconcile.matching.slots import EXACT, ZERO, Span, of_spans, total, within
from livekit_costmeter.reporting.reconcile.matching.thresholds import NOISE, Thresholds, percent

Level = Literal["model", "unit", "total"]
State = Literal["agrees", "within", "over", "no_provider_data", "no_meter_data"]
TOKENS = "tokens"
_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class Row:
    """
    One comparison.

    Attributes:
        level: `model` for a model with all its units, `unit` for one of them.
        group: The day or the label of the key, where the rows are told apart by it.
        unit: A unit, or `tokens` for all of them together; `None` where a model's units cannot be added up.
        our_units: `None` is not known, or not added up.
        unit_threshold: Percent that the units may differ.
        cost_threshold: Percent that the cost may differ.
        estimated_share: The part of ours that is an estimate, 0 to 1; it is in both thresholds.
        notes: What else is to be known.
    """

    level: Level
    component: str | None
    model: str
    group: str | None
    unit: str | None
    our_units: Decimal | None
    their_units: Decimal | None
    our_cost: Decimal | None
    their_cost: Decimal | None
    currency: str | None
    unit_threshold: Decimal
    cost_threshold: Decimal
    estimated_share: Decimal
    state: State
    notes: tuple[str, ...] = ()

    @property
    def one_sided(self) -> bool:
        """Tell whether one side has nothing of it."""
        return self.state in ("no_provider_data", "no_meter_data")

    @property
    def unit_difference(self) -> Decimal | None:
        """Return theirs - ours; `None` where either is not known."""
        return _difference(self.our_units, self.their_units)

    @property
    def cost_difference(self) -> Decimal | None:
        """Return theirs - ours; `None` where either is not known."""
        return _difference(self.our_cost, self.their_cost)

    @property
    def unit_percent(self) -> Decimal | None:
        """Return the difference in percent of the provider's number."""
        return self._percent(self.unit_difference, self.their_units)

    @property
    def cost_percent(self) -> Decimal | None:
        """Return the difference in percent of the provider's number."""
        return self._percent(self.cost_difference, self.their_cost)

    def _percent(self, difference: Decimal | None, of: Decimal | None) -> Decimal | None:
        return None if self.one_sided or difference is None or of is None else percent(difference, of)


def _difference(ours: Decimal | None, theirs: Decimal | None) -> Decimal | None:
    return None if ours is None or theirs is None else EXACT.subtract(theirs, ours)


@dataclass(frozen=True, slots=True)
class RowMaker:
    """Makes rows of matches, for a window."""

    sides: Sides
    thresholds: Thresholds

    def rows(self, window: Span, group: Callable[[Match], str | None]) -> Iterator[Row]:
        """Yield the rows of a window: each model, and its units."""
        for match in self.sides.matches:
            row = self._model(match, window, group(match))
            if row is not None:
                yield row
                yield from (self._unit(match, unit, window, row) for unit in match.units.values())

    def _model(self, match: Match, window: Span, group: str | None) -> Row | None:
        units = [unit for unit in match.units.values() if unit.unit != "requests"]
        measures = {TOKENS if unit.unit.endswith("_tokens") else unit.unit for unit in units}
        alone = measures.pop() if len(measures) == 1 else None
        ours = total(within(unit.ours.quantity, window) for unit in units if unit.ours) if match.recorded else None
        theirs = total(of_spans(unit.theirs, window) for unit in units if unit.theirs) if match.stated else None
        our_cost, their_cost = self._our_cost(units, window), self._their_cost(match, window)
        if not any((ours, theirs, our_cost, their_cost)):
            return None
        if not self.sides.states_usage and match.recorded:
            theirs = None
        row = Row(
            level="model",
            component=match.component,
            model=match.model,
            group=group,
            unit=alone,
            our_units=ours if alone and match.recorded else None,
            their_units=theirs if alone and self.sides.states_usage else None,
            our_cost=our_cost,
            their_cost=their_cost,
            currency=self.sides.currency,
            unit_threshold=ZERO,
            cost_threshold=ZERO,
            estimated_share=ZERO,
            state="agrees",
        )
        return self._judged(row, units, window, match)

    def _unit(self, match: Match, unit: UnitMatch, window: Span, model: Row) -> Row:
        stated = self.sides.states_usage and (unit.theirs is not None or match.stated)
        row = replace(
            model,
            level="unit",
            unit=unit.unit,
            our_units=within(unit.ours.quantity, window) if unit.ours else ZERO if match.recorded else None,
            their_units=of_spans(unit.theirs or {}, window) if stated else None,
            our_cost=self._our_cost([unit], window),
            their_cost=None if unit.cost is None else of_spans(unit.cost, window),
            notes=(),
        )
        return self._judged(row, [unit], window, match)

    def _our_cost(self, units: Iterable[UnitMatch], window: Span) -> Decimal | None:
        currency = self.sides.currency
        found = [unit.ours for unit in units if unit.ours is not None]
        if currency is None:
            known = {code for ours in found for code in ours.cost}
            currency = known.pop() if len(known) == 1 else None
        amounts = [
            within(ours.cost[currency], window) for ours in found if currency is not None and currency in ours.cost
        ]
        return total(amounts) if amounts else None

    def _their_cost(self, match: Match, window: Span) -> Decimal | None:
        parts = [match.cost, *(unit.cost for unit in match.units.values() if unit.cost is not None)]
        if not any(parts):
            return ZERO if self.sides.states_costs and match.stated and self.sides.currency else None
        return total(of_spans(part, window) for part in parts)

    def _judged(self, row: Row, units: list[UnitMatch], window: Span, match: Match) -> Row:
        ours = [unit.ours for unit in units if unit.ours is not None]
        share = _share([(within(each.estimated, window), within(each.quantity, window)) for each in ours])
        money = [
            (within(each.estimated_cost.get(row.currency or "", {}), window), within(each.cost[row.currency], window))
            for each in ours
            if row.currency is not None and row.currency in each.cost
        ]
        base = self.thresholds.of(row.component)
        observed = any(each.unreported and not each.estimated for each in ours)
        widest = max(share, _share(money))
        row = replace(
            row,
            unit_threshold=EXACT.add(base if observed else ZERO, EXACT.multiply(share, _HUNDRED)),
            cost_threshold=EXACT.add(base, EXACT.multiply(_share(money), _HUNDRED)),
            estimated_share=widest,
            notes=_notes(row, ours, match, window),
        )
        return replace(row, state=_state(row, match))


def _notes(row: Row, ours: Sequence[Recorded], match: Match, window: Span) -> tuple[str, ...]:
    if row.level != "model":
        return ()
    notes = [f"the provider states {of_spans(spans, window):f} {code}" for code, spans in match.other_money.items()]
    return (*notes, "some of ours has no price") if any(each.unpriced for each in ours) else tuple(notes)


def _share(parts: list[tuple[Decimal, Decimal]]) -> Decimal:
    """Return the part of the whole, of what can be added up and what cannot: at most 1."""
    part, whole = total(part for part, _ in parts), total(whole for _, whole in parts)
    return min(Decimal(1), EXACT.divide(part, whole)) if whole > 0 and part > 0 else ZERO


def _state(row: Row, match: Match) -> State:
    if not match.stated:
        return "no_provider_data"
    if not match.recorded:
        return "no_meter_data"
    drifts = [(row.unit_difference, row.unit_percent, row.unit_threshold)]
    drifts.append((row.cost_difference, row.cost_percent, row.cost_threshold))
    worst: State = "agrees"
    for difference, share, allowed in drifts:
        if not difference:
            continue
        if share is None or abs(share) > max(allowed, NOISE):
            return "over"
        if abs(share) > NOISE:
            worst = "within"
    return worst
