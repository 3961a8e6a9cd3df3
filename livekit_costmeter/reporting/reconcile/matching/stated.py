"""
The provider's side: lines of exports, added up by model, unit and period.

Invariant: nothing is counted twice. Usage comes from usage files; the quantities in a cost file are the same usage
again and count only where there is no usage file for that model. So do requests one by one beside a summary. Memory
grows with models, units, keys and periods, not with lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple

from livekit_costmeter.reporting.reconcile.lines import ProviderLine
from livekit_costmeter.reporting.reconcile.matching.slots import DAY, EXACT, ZERO, Span, span_of

Spans = dict[Span, Decimal]
_MOMENT = timedelta(microseconds=1)
_MOST_IDS = 1 << 20


class StatedKey(NamedTuple):
    """What a provider states; `None` is not said, or not told apart."""

    component: str | None
    model: str | None
    unit: str | None
    key: str | None = None


@dataclass(slots=True)
class Statement:
    """What one kind of file says.

    Attributes:
        usage: Quantities, by what is stated and period.
        costs: Money, by what is stated and currency.
        requests: How many there were.
        by_key: Quantities by the provider's id of the API key.
        measured: Which of `usage` is of requests one by one, as measured, before anything is rounded.
    """

    usage: dict[StatedKey, Spans] = field(default_factory=dict)
    costs: dict[tuple[StatedKey, str], Spans] = field(default_factory=dict)
    requests: dict[StatedKey, Spans] = field(default_factory=dict)
    by_key: dict[str, dict[StatedKey, Spans]] = field(default_factory=dict)
    measured: set[StatedKey] = field(default_factory=set)


class ProviderSide:
    """Adds up the lines of one provider that lie in a window."""

    def __init__(self, provider: str, window: Span, *, label: Callable[[str | None], str | None] | None = None) -> None:
        self.provider = provider
        self._window = window
        self._label = label
        self._usage, self._costs, self._one_by_one = Statement(), Statement(), Statement()
        self.lines = 0
        self.outside = 0
        self.reaching_over = 0
        self.longer_than_a_day = 0
        self.batched = 0
        self.request_ids: set[str] = set()

    def add(self, lines: Iterable[ProviderLine], *, of_costs: bool = False) -> None:
        """
        Add lines.

        Args:
            lines: As a parser yields them.
            of_costs: They are from a cost file, whose quantities are the usage again.
        """
        for line in lines:
            # A request belongs where it ended: the ledger counts it there too.
            start = line.start if line.request_id is None else max(line.start, line.end - _MOMENT)
            span = span_of(start, line.end)
            if not self._is_inside(span):
                continue
            self.lines += 1
            self.batched += line.service_tier == "batch"
            if line.request_id is not None and len(self.request_ids) < _MOST_IDS:
                self.request_ids.add(line.request_id)
            statement = self._one_by_one if line.request_id is not None else self._costs if of_costs else self._usage
            self._add(statement, line, span)

    def _is_inside(self, span: Span) -> bool:
        first, count = self._window
        if not first <= span[0] < first + count:
            self.outside += 1
            return False
        self.longer_than_a_day += span[1] > DAY + 2
        if span[0] + span[1] > first + count:
            self.reaching_over += 1
        return True

    def _add(self, statement: Statement, line: ProviderLine, span: Span) -> None:
        label = None if self._label is None else self._label(line.key)
        key = StatedKey(line.component, line.model, line.unit, label)
        if line.cost is not None and line.currency is not None:
            _add(statement.costs.setdefault((key, line.currency), {}), span, line.cost)
        if line.request_id is not None:
            _add(statement.requests.setdefault(key._replace(unit=None), {}), span, Decimal(1))
        if line.quantity is None or line.unit is None:
            return
        if line.unit == "requests":
            if line.request_id is None:
                _add(statement.requests.setdefault(key._replace(unit=None), {}), span, line.quantity)
        else:
            _add(statement.usage.setdefault(key, {}), span, line.quantity)
        if line.key is not None and line.unit is not None:
            _add(statement.by_key.setdefault(line.key, {}).setdefault(key, {}), span, line.quantity)

    def statement(self) -> Statement:
        """Return all that is stated, each thing once."""
        summary = self._usage
        result = Statement(dict(summary.usage), dict(summary.costs), dict(summary.requests), dict(summary.by_key))
        for other in (self._one_by_one, self._costs):
            models = {(key.model or "").lower() for key in result.usage}
            fresh = [key for key in other.usage if (key.model or "").lower() not in models]
            result.usage.update((key, other.usage[key]) for key in fresh)
            if other is self._one_by_one:
                result.measured.update(fresh)
            for key, spans in other.requests.items():
                result.requests.setdefault(key, spans)
            if not result.by_key:
                result.by_key = other.by_key
        for other in (self._costs, self._one_by_one):
            if not result.costs or (other is self._costs and other.costs):
                result.costs = dict(other.costs)
        return result

    @property
    def states_costs(self) -> bool:
        """Tell whether any file has money."""
        return bool(self._usage.costs or self._costs.costs or self._one_by_one.costs)


def _add(spans: Spans, span: Span, amount: Decimal) -> None:
    spans[span] = EXACT.add(spans.get(span, ZERO), amount)
