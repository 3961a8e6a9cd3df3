"""
Both sides of each model beside each other.

Invariant: every quantity and every amount of both sides is in exactly one match. What one side tells apart and the
other does not is added up where that is clear: reasoning is output for who has no word for it, a second of audio is a
second of connection for who bills one of them, and a file that names no models is about all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from livekit_costmeter.records import PARENT_UNIT
from livekit_costmeter.reporting.reconcile.lines import CREDITS
from livekit_costmeter.reporting.reconcile.matching.names import shared_names
from livekit_costmeter.reporting.reconcile.matching.operations import TIMES, Operations
from livekit_costmeter.reporting.reconcile.matching.recorded import LedgerSide, Recorded, Sums, UnitKey
from livekit_costmeter.reporting.reconcile.matching.slots import add_to, total
from livekit_costmeter.reporting.reconcile.matching.stated import ProviderSide, Spans, StatedKey

ALL_MODELS = "all models"
NO_MODEL = "no model"


@dataclass(slots=True)
class UnitMatch:
    """One unit of one model. `ours` and `theirs` are `None` where that side has nothing of it.

    `measured` says that theirs is as measured, before anything is rounded; ours is then taken so too.
    """

    unit: str
    ours: Recorded | None = None
    theirs: Spans | None = None
    cost: Spans | None = None
    measured: bool = False


@dataclass(slots=True)
class Match:
    """
    One model on both sides.

    Attributes:
        component: `None` where neither side says.
        model: What both are called here.
        key: The label of the API key, where keys are told apart.
        ledger_model: What the ledger calls it; `None` where it has nothing.
        ledger_component: What the ledger says it does.
        units: By unit.
        cost: The provider's money that is for no unit in particular.
        other_money: The provider's amounts in currencies, or credits, that are not compared.
        requests: How many the provider states; `None` where it does not.
        operations: What the ledger knows of its operations.
    """

    component: str | None
    model: str
    key: str | None = None
    ledger_model: str | None = None
    ledger_component: str | None = None
    units: dict[str, UnitMatch] = field(default_factory=dict)
    cost: Spans = field(default_factory=dict)
    other_money: dict[str, Spans] = field(default_factory=dict)
    requests: Spans | None = None
    operations: list[Operations] = field(default_factory=list)

    @property
    def recorded(self) -> bool:
        """Tell whether the ledger has any of it."""
        return any(unit.ours is not None for unit in self.units.values())

    @property
    def stated(self) -> bool:
        """Tell whether the provider has any of it."""
        return bool(self.cost or self.other_money) or any(unit.theirs or unit.cost for unit in self.units.values())

    def unit(self, name: str) -> UnitMatch:
        """Return the unit of that name, which may be new."""
        return self.units.setdefault(name, UnitMatch(name))


Place = tuple[str | None, str, str | None]


@dataclass(slots=True)
class Sides:
    """
    All matches of one provider.

    Attributes:
        matches: In the order of component, model and key.
        currency: Of the provider's money; `None` where it states none that a ledger can have.
        other_currencies: In which there is money too, which is not compared.
        states_usage: The provider's files have quantities.
        states_costs: They have money in `currency`.
        by_key: The provider's ids of keys, to what it states by model and unit.
    """

    matches: list[Match]
    currency: str | None
    other_currencies: tuple[str, ...]
    states_usage: bool
    states_costs: bool
    by_key: Mapping[str, Mapping[tuple[str, str], Spans]]


def pair(ours: LedgerSide, theirs: ProviderSide, aliases: Mapping[str, str]) -> Sides:
    """Put both sides beside each other."""
    return _Pairing(ours, theirs, aliases).sides()


class _Pairing:
    def __init__(self, ours: LedgerSide, theirs: ProviderSide, aliases: Mapping[str, str]) -> None:
        self._ours = ours
        self._stated = theirs.statement()
        statement = self._stated
        keys = [*statement.usage, *statement.requests, *(key for key, _ in statement.costs)]
        named = {key.model for key in keys if key.model is not None}
        self._mine, self._other = shared_names({key.model for key in ours.units}, named, aliases)
        self._components: dict[str, set[str]] = {}
        for key in ours.units:
            self._components.setdefault(self._mine[key.model], set()).add(key.component)
        self._spoken = {key.component for key in keys if key.model is not None}
        self._nameless = {key.component for key in keys if key.model is None}
        stated = (*statement.usage, *(key for key, _ in statement.costs))
        self._units = {key.unit for key in stated if key.unit is not None}
        self._matches: dict[Place, Match] = {}

    def sides(self) -> Sides:
        for mine, series in self._ours.units.items():
            self._place_recorded(mine, series)
        for (component, model), operations in self._ours.operations.items():
            for match in self._matches.values():
                if (match.component, match.model) == self._ours_at(component, model)[:2]:
                    match.operations.append(operations)
        currency, others = self._currencies()
        for key, spans in self._stated.usage.items():
            unit = self._their_unit(key)
            _merge_spans(self._spans_of(unit), spans)
            unit.measured = key in self._stated.measured
        for key, spans in self._stated.requests.items():
            match = self._match(self._theirs_at(key))
            match.requests = _merge_spans({} if match.requests is None else match.requests, spans)
        for (key, code), spans in self._stated.costs.items():
            if code == currency:
                self._place_cost(key, spans)
            else:
                other = self._match(self._theirs_at(key)).other_money
                other[code] = _merge_spans(other.get(code, {}), spans)
        matches = [self._tidy(match) for match in self._matches.values()]
        kept = [match for match in matches if match.recorded or match.stated]
        kept.sort(key=lambda match: (match.component or "~", match.model, match.key or ""))
        return Sides(kept, currency, others, bool(self._stated.usage), currency is not None, self._by_key())

    def _by_key(self) -> dict[str, dict[tuple[str, str], Spans]]:
        found: dict[str, dict[tuple[str, str], Spans]] = {}
        for name, stated in self._stated.by_key.items():
            series = found.setdefault(name, {})
            for key, spans in stated.items():
                place = (self._theirs_at(key)[1], key.unit or "")
                series[place] = _merge_spans(series.get(place, {}), spans)
        return found

    def _currencies(self) -> tuple[str | None, tuple[str, ...]]:
        sizes: dict[str, int] = {}
        for (_, code), spans in self._stated.costs.items():
            sizes[code] = sizes.get(code, 0) + len(spans)
        money = sorted((code for code in sizes if code != CREDITS), key=lambda code: -sizes[code])
        others = (*money[1:], *([CREDITS] if CREDITS in sizes else []))
        return (money[0] if money else None), others

    def _match(self, place: Place) -> Match:
        return self._matches.setdefault(place, Match(*place))

    def _ours_at(self, component: str, model: str) -> tuple[str | None, str]:
        for nameless in (component, None):
            # Only where nothing of the kind is named: else the nameless lines are something of their own.
            others = self._spoken if nameless is None else self._spoken & {component}
            if nameless in self._nameless and not others:
                return nameless, ALL_MODELS
        return component, self._mine[model]

    def _theirs_at(self, key: StatedKey) -> Place:
        if key.model is None:
            others = self._spoken if key.component is None else self._spoken & {key.component}
            return key.component, NO_MODEL if others else ALL_MODELS, key.key
        name = self._other[key.model]
        components = self._components.get(name, set())
        only = next(iter(components)) if len(components) == 1 else None
        return (only or key.component), name, key.key

    def _place_recorded(self, key: UnitKey, series: Recorded) -> None:
        component, model = self._ours_at(key.component, key.model)
        match = self._match((component, model, key.key))
        match.ledger_model = match.ledger_model or key.model
        match.ledger_component = match.ledger_component or key.component
        name = key.unit
        while name not in self._units and PARENT_UNIT.get(name, "") in self._units:
            name = PARENT_UNIT[name]
        unit = match.unit(name)
        unit.ours = _merged(unit.ours, series)

    def _their_unit(self, key: StatedKey) -> UnitMatch:
        assert key.unit is not None
        return self._match(self._theirs_at(key)).unit(key.unit)

    def _spans_of(self, unit: UnitMatch) -> Spans:
        if unit.theirs is None:
            unit.theirs = {}
        return unit.theirs

    def _place_cost(self, key: StatedKey, spans: Spans) -> None:
        match = self._match(self._theirs_at(key))
        if key.unit is None or key.unit == "requests":
            _merge_spans(match.cost, spans)
            return
        unit = match.unit(key.unit)
        unit.cost = _merge_spans({} if unit.cost is None else unit.cost, spans)

    def _tidy(self, match: Match) -> Match:
        """Make one unit of the names that a stream's seconds have, and drop what is billed in another unit."""
        times = [unit for unit in match.units.values() if unit.unit in TIMES]
        billed = [unit for unit in times if unit.ours is not None and unit.ours.quantity]
        # Where none is billed here, the work is: in another record.
        billed = billed or [unit for unit in times if unit.ours is not None]
        for unit in times:
            stated = unit.theirs is not None or unit.cost is not None
            if stated and len(billed) == 1 and unit is not billed[0] and billed[0].theirs is None:
                billed[0].theirs, unit.theirs = unit.theirs, None
                billed[0].cost, unit.cost = unit.cost, None
                billed[0].measured = unit.measured
        for name, unit in list(match.units.items()):
            ours = unit.ours
            if ours is not None and ours.measured and unit.measured:
                ours.quantity = dict(ours.measured)
            silent = unit.theirs is None and unit.cost is None
            if ours is not None and not ours.quantity and ours.beside:
                if (silent and not any(ours.cost.values())) or (silent and not _has_cost(ours)):
                    del match.units[name]
                    continue
                ours.quantity = dict(ours.beside)
            if silent and ours is None:
                del match.units[name]
        return match


def _has_cost(ours: Recorded) -> bool:
    return any(total(sums.values()) for sums in ours.cost.values())


def _merge_spans(into: Spans, spans: Spans) -> Spans:
    for span, amount in spans.items():
        into[span] = amount if span not in into else total((into[span], amount))
    return into


def _merged(first: Recorded | None, second: Recorded) -> Recorded:
    if first is None:
        return second
    result = Recorded(unreported=first.unreported or second.unreported, unpriced=first.unpriced or second.unpriced)
    for part in (first, second):
        for name in ("quantity", "started", "measured", "beside", "estimated", "doubled"):
            _add_all(getattr(result, name), getattr(part, name).items())
        for name in ("cost", "estimated_cost", "doubled_cost", "booked"):
            for currency, sums in getattr(part, name).items():
                _add_all(getattr(result, name).setdefault(currency, {}), sums.items())
    return result


def _add_all(sums: Sums, amounts: Iterable[tuple[int, Decimal]]) -> None:
    for slot, amount in amounts:
        add_to(sums, slot, amount)
