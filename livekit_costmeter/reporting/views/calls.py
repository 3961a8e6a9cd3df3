"""
One row per call (session), and how cost, cost per minute and length are spread over calls.

Invariant: memory grows with calls, never with charges. What happened outside any call is summed up beside them, so that
the calls and it make the total.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from livekit_costmeter.records import Charge, round_cost
from livekit_costmeter.reporting.report import LeftOut, Row, sum_up
from livekit_costmeter.reporting.settling import read_settled
from livekit_costmeter.reporting.tally import EXACT, CallTimes, Tally, UnpricedModel, UnpricedModels
from livekit_costmeter.reporting.views.percentiles import Spread, spread
from livekit_costmeter.reporting.views.ranking import largest, left_out

OUTCOMES = ("completed", "interrupted", "discarded", "failed", "probe")
_MINUTE_STEP = Decimal("1e-6")
_LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Call:
    """One call: when its first work in the period began, who it was for, its records by outcome, and its sums.

    `started_at` is `None` where the period has nothing but corrections of it.
    """

    session: str
    started_at: datetime | None
    agents: tuple[str, ...]
    accounts: tuple[str, ...]
    outcomes: Mapping[str, int]
    sums: Row


@dataclass(frozen=True, slots=True)
class CallsReport:
    """Calls in the order of their start, or the most expensive first where some are left out.

    `count` are all calls of the period. `cost` and `cost_per_minute` are spread by currency. `outside` sums up what
    belongs to no call, `total` everything.
    """

    since: datetime | None
    until: datetime | None
    calls: tuple[Call, ...]
    count: int
    left_out: LeftOut | None
    cost: Mapping[str, Spread]
    cost_per_minute: Mapping[str, Spread]
    minutes: Spread | None
    costs: Mapping[str, Sequence[Decimal]]
    outside: Row | None
    total: Row
    unpriced: tuple[UnpricedModel, ...]


def build_calls(
    charges: Iterable[Charge], since: datetime | None = None, until: datetime | None = None, *, top: int | None = None
) -> CallsReport:
    """Sum up each call of the charges with `since` <= `at` < `until`; with `top`, list the most expensive alone.

    A call that reaches beyond the period counts with its part inside.

    Raises:
        TypeError: The charges are an iterator, which can be read only once (see `build_report`).
    """
    found = read_settled(charges, since, until, _filled)
    calls = sorted(found.calls(), key=lambda call: (call.started_at or _LATEST, call.session))
    costs = _by_currency(calls, lambda row: row.cost)
    minutes = [call.sums.minutes for call in calls if call.sums.minutes is not None]
    shown = calls if top is None else largest(calls, lambda call: call.sums.cost)
    return CallsReport(
        since=since,
        until=until,
        calls=tuple(shown[:top]),
        count=len(calls),
        left_out=None if top is None else left_out(call.sums for call in shown[top:]),
        cost=_spreads(costs),
        cost_per_minute=_spreads(_by_currency(calls, lambda row: row.cost_per_minute or {})),
        minutes=spread(minutes, 0, lambda value: value.quantize(_MINUTE_STEP, context=EXACT)),
        costs={currency: values for currency, (values, _) in costs.items()},
        outside=sum_up({}, found.outside, found.times) if found.outside.records else None,
        total=sum_up({}, found.total, found.times),
        unpriced=found.unpriced.listed(),
    )


class _Gathered:
    """The sums of one call while charges are read."""

    __slots__ = ("_record", "accounts", "agents", "outcomes", "started_at", "tally")

    def __init__(self) -> None:
        self.tally = Tally()
        self.started_at: datetime | None = None
        self.agents: tuple[str, ...] = ()
        self.accounts: tuple[str, ...] = ()
        self.outcomes: dict[str, int] = {}
        self._record: str | None = None

    def add(self, charge: Charge, number: int | None) -> None:
        self.tally.add(charge, number)
        if charge.agent is not None and charge.agent not in self.agents:
            self.agents += (charge.agent,)
        if charge.account is not None and charge.account not in self.accounts:
            self.accounts += (charge.account,)
        if charge.kind != "usage" or charge.record_id == self._record:
            return
        self._record = charge.record_id
        self.outcomes[charge.outcome] = self.outcomes.get(charge.outcome, 0) + 1
        began = charge.started_at or charge.at
        self.started_at = began if self.started_at is None else min(began, self.started_at)


class _Found:
    """Everything that one pass over the charges fills."""

    def __init__(self) -> None:
        self.times = CallTimes(daily=False)
        self.total, self.outside = Tally(), Tally()
        self.unpriced = UnpricedModels()
        self._calls: dict[str, _Gathered] = {}

    def add(self, charge: Charge) -> None:
        number = self.times.mark(charge)
        self.total.add(charge, number)
        self.unpriced.add(charge)
        if charge.session_id is None:
            self.outside.add(charge, None)
            return
        call = self._calls.get(charge.session_id)
        if call is None:
            call = self._calls[charge.session_id] = _Gathered()
        call.add(charge, number)

    def calls(self) -> Iterator[Call]:
        """Yield the calls in any order, letting go of each: with many, what was gathered is most of the memory."""
        while self._calls:
            session, call = self._calls.popitem()
            outcomes = {name: call.outcomes[name] for name in OUTCOMES if name in call.outcomes}
            sums = sum_up({"session": session}, call.tally, self.times)
            yield Call(session, call.started_at, call.agents, call.accounts, outcomes, sums)


def _filled(settled: Iterator[Charge]) -> _Found:
    found = _Found()
    for charge in settled:
        found.add(charge)
    return found


def _by_currency(
    calls: Iterable[Call], amounts: Callable[[Row], Mapping[str, Decimal]]
) -> dict[str, tuple[list[Decimal], int]]:
    """Return per currency the amounts of the calls that have one, and how many of these are lower bounds."""
    found: dict[str, tuple[list[Decimal], int]] = {}
    for call in calls:
        for currency, amount in amounts(call.sums).items():
            values, incomplete = found.get(currency, ([], 0))
            values.append(amount)
            found[currency] = values, incomplete + (call.sums.unpriced_records > 0)
    return dict(sorted(found.items()))


def _spreads(amounts: Mapping[str, tuple[Sequence[Decimal], int]]) -> dict[str, Spread]:
    found = {currency: spread(values, incomplete, round_cost) for currency, (values, incomplete) in amounts.items()}
    return {currency: each for currency, each in found.items() if each is not None}
