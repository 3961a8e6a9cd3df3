"""
Calls as a ledger has them, rated anew: with today's prices, other plans, other models.

A ledger holds increments of time (a connection, a call, a session) and whole requests. The increments of an operation
are put together again, so that pulses and minimums are applied to what they were, and a request is rated as it was
made. What a charge does not tell, such as the type of a number, is given with `number_type`.

Invariant: charges are read once, in the order of a ledger, the rows of a record together. Memory grows with calls and
with the operations that are open at once, of which a fixed number is kept; never with charges. Work without a session
belongs to no call; it is counted and left out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any

from livekit_costmeter.billing.estimates.estimator import Estimator
from livekit_costmeter.billing.estimates.profiles import NO_CARRIER, PHONE, Supplier, with_audio_tokens
from livekit_costmeter.records import Charge, UsageRecord

_INCREMENTS = frozenset({"audio_seconds", "connection_seconds", "session_seconds", "call_seconds"})
_OPEN_OPERATIONS = 20_000
_OPTIONS = ("language", "voice_class")
_ZERO = Decimal(0)
_MICROSECOND = timedelta(microseconds=1)

Usage = tuple[str, str, str, str]
"""Component, `provider/model`, owner and unit."""


@dataclass(slots=True)
class _Call:
    first: datetime
    last: datetime
    legs: dict[str, _Work] = field(default_factory=dict)

    @property
    def seconds(self) -> Decimal:
        # Legs of one call overlap: a transfer does not make it longer. Without any, the work is all that is known.
        longest = max((leg.quantities.get("call_seconds", _ZERO) for leg in self.legs.values()), default=_ZERO)
        return longest or Decimal((self.last - self.first) // _MICROSECOND).scaleb(-6)


@dataclass(frozen=True, slots=True)
class _Work:
    """A record or an operation: its first line, for who did it, and its quantities."""

    charge: Charge
    quantities: dict[str, Decimal]
    flags: Mapping[str, str]

    def add(self, quantities: Mapping[str, Decimal]) -> None:
        for unit, amount in quantities.items():
            self.quantities[unit] = self.quantities.get(unit, _ZERO) + amount


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was learned: how many calls, their length together, when they were, and what was used in them."""

    calls: int
    seconds: Decimal
    first: datetime | None
    last: datetime | None
    quantities: Mapping[Usage, Decimal]
    without_session: int


class LedgerReader:
    """Feeds an estimator with the calls of a ledger.

    Args:
        estimator: Rates the records.
        at: The instant whose prices are asked for.
        choices: By component, the models to put in the place of the recorded one.
        owners: By component, whose keys to assume instead of the recorded owner's.
        number_type: The type of the platform's numbers, for plans that look at it.
    """

    def __init__(
        self,
        estimator: Estimator,
        at: datetime,
        choices: Mapping[str, Sequence[Supplier]],
        owners: Mapping[str, str],
        number_type: str | None = None,
    ) -> None:
        self._estimator = estimator
        self._at = at
        self._choices = choices
        self._owners = owners
        self._number_type = number_type
        self._calls: dict[str, _Call] = {}
        self._open: OrderedDict[tuple[str, str], _Work] = OrderedDict()
        self._quantities: dict[Usage, Decimal] = {}
        self._without_session = self._records = 0

    def read(self, charges: Iterable[Charge]) -> Recorded:
        """Read the measured lines and return what was learned; the estimator has its quotes then."""
        for _, lines in groupby(charges, key=attrgetter("record_id")):
            measured = [line for line in lines if line.kind == "usage"]
            if measured:
                self._note(measured)
        while self._open:
            self._settle(*self._open.popitem(last=False))
        for session, call in self._calls.items():
            for number, leg in enumerate(call.legs.values()):
                self._rate(session, leg, {"leg": "transfer" if number else "primary"})
        return self._recorded()

    def _recorded(self) -> Recorded:
        calls = [call for session, call in self._calls.items() if session in self._estimator.calls]
        return Recorded(
            calls=len(calls),
            seconds=sum((call.seconds for call in calls), _ZERO),
            first=min((call.first for call in calls), default=None),
            last=max((call.last for call in calls), default=None),
            quantities=self._quantities,
            without_session=self._without_session,
        )

    def _note(self, lines: Sequence[Charge]) -> None:
        charge = lines[0]
        quantities = {line.unit: line.quantity for line in lines if line.quantity}
        session = charge.session_id
        if session is None:
            self._without_session += bool(quantities)
            return
        began = charge.started_at or charge.at
        call = self._calls.get(session) or self._calls.setdefault(session, _Call(began, charge.at))
        call.first, call.last = min(call.first, began), max(call.last, charge.at)
        if not quantities:
            return
        self._learn(charge, quantities)
        work = _Work(charge, quantities, _flags(lines))
        operation = charge.operation_id or charge.record_id
        if "call_seconds" in quantities:
            _extend(call.legs, operation, work)
        elif charge.operation_id is not None and _INCREMENTS.issuperset(quantities):
            self._keep_open(session, operation, work)
        else:
            self._rate(session, work, {})

    def _keep_open(self, session: str, operation: str, work: _Work) -> None:
        key = session, operation
        _extend(self._open, key, work)
        self._open.move_to_end(key)
        if len(self._open) > _OPEN_OPERATIONS:  # what was not heard of for the longest time has ended
            self._settle(*self._open.popitem(last=False))

    def _settle(self, key: tuple[str, str], work: _Work) -> None:
        self._rate(key[0], work, {})

    def _learn(self, charge: Charge, quantities: Mapping[str, Decimal]) -> None:
        for unit, amount in quantities.items():
            key = charge.component, f"{charge.provider}/{charge.model}", charge.key_owner, unit
            self._quantities[key] = self._quantities.get(key, _ZERO) + amount

    def _rate(self, session: str, work: _Work, attributes: Mapping[str, Any]) -> None:
        self._records += 1
        for choice, record in self._made_by(work, attributes):
            self._estimator.add(session, record, choice)

    def _made_by(self, work: _Work, attributes: Mapping[str, Any]) -> Iterator[tuple[int, UsageRecord]]:
        charge = work.charge
        choices = self._choices.get(charge.component, ())
        if not choices or (charge.component == "call" and charge.model not in PHONE):
            # A call on the web has no carrier, whichever would carry the others.
            for choice in range(max(len(choices), 1)):
                yield choice, self._record(work, None, work.quantities, attributes)
            return
        for choice, supplier in enumerate(choices):
            quantities = with_audio_tokens(charge.component, supplier.provider, work.quantities)
            yield choice, self._record(work, supplier, quantities, attributes)

    def _record(
        self, work: _Work, supplier: Supplier | None, quantities: Mapping[str, Decimal], attributes: Mapping[str, Any]
    ) -> UsageRecord:
        charge = work.charge
        owner = supplier.owner if supplier is not None else self._owners.get(charge.component)
        if charge.component == "call" and charge.provider == NO_CARRIER:
            owner = None
        elif charge.component == "call" and self._number_type:
            attributes = {**attributes, "number_type": self._number_type}
        return UsageRecord(
            id=f"estimate-{self._records}",
            at=self._at,
            component=charge.component,
            provider=supplier.provider if supplier else charge.provider,
            model=(supplier and supplier.model) or charge.model,
            reported_model=None if supplier else charge.reported_model,
            quantities=quantities,
            outcome=charge.outcome,
            key_owner=owner or charge.key_owner,
            account=charge.account,
            labels=charge.labels,
            session_id=charge.session_id,
            attributes={**attributes, **({} if supplier else work.flags)},
        )


def _extend(works: Any, key: Any, work: _Work) -> None:
    known = works.get(key)
    if known is None:
        works[key] = work
    else:
        known.add(work.quantities)


def _flags(lines: Iterable[Charge]) -> dict[str, str]:
    """Return the options that decided the price, as its source names them."""
    found: dict[str, str] = {}
    for line in lines:
        for flag in line.pricing_source.partition("?")[2].split("&"):
            name, _, value = flag.partition("=")
            if name in _OPTIONS:
                found[name] = value
    return found
