"""
The ledger of the loopback providers: what each simulated vendor would put on a bill, per key.

Invariant: an entry is written once, when its operation ends, and never changes; the ledger holds a fingerprint of a
key and never the key. Quantities are in the units of `livekit_costmeter.records.Unit` and disjoint, so that a cached
token is not also an input token. They are what the vendor saw; which of them it charges for is its price list's
business.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from livekit_costmeter.records import Component, Unit

LedgerOutcome = Literal["completed", "aborted", "failed"]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def key_label(key: str) -> str:
    """Return the label under which the ledger files a key: 12 hex digits of its SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


class Dropped(Exception):
    """The simulated vendor breaks the connection here, as its script asks."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One operation as the vendor saw it: a chat request, a synthesis context, a listening connection.

    `completed` ended as the client asked, `aborted` was left by the client, `failed` was ended by the vendor. A request
    that was refused with an error status did no work and has no quantities.
    """

    at: datetime
    provider: str
    component: Component
    model: str
    key: str
    operation_id: str
    quantities: Mapping[str, Decimal]
    outcome: LedgerOutcome


@dataclass(slots=True, eq=False)
class Operation:
    """One piece of work under way; becomes a `LedgerEntry` when it is closed."""

    ledger: Ledger
    provider: str
    component: Component
    model: str
    key: str
    id: str
    quantities: dict[str, Decimal] = field(default_factory=dict)

    def add(self, unit: Unit, quantity: Decimal | int) -> None:
        """Count work done; a quantity of 0 leaves no trace."""
        if quantity:
            self.quantities[unit.value] = self.quantities.get(unit.value, Decimal(0)) + quantity

    def close(self, outcome: LedgerOutcome = "completed") -> None:
        """Write the entry; closing again changes nothing."""
        self.ledger._settle(self, outcome)  # noqa: SLF001 - the ledger and its operations are one thing


class Ledger:
    """Keeps the entries of all simulated vendors, in the order in which their operations ended."""

    def __init__(self, *, clock: Callable[[], datetime] = _utc_now) -> None:
        self._clock = clock
        self._entries: list[LedgerEntry] = []
        self._open: set[Operation] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def entries(self) -> list[LedgerEntry]:
        """The operations that have ended, oldest first."""
        return list(self._entries)

    @property
    def under_way(self) -> int:
        """The number of operations that have not ended."""
        return len(self._open)

    def select(
        self,
        *,
        provider: str | None = None,
        component: Component | None = None,
        model: str | None = None,
        key: str | None = None,
        outcome: LedgerOutcome | None = None,
    ) -> list[LedgerEntry]:
        """Return the entries that match everything given; `key` is the key itself, not its label."""
        wanted = {
            "provider": provider,
            "component": component,
            "model": model,
            "key": None if key is None else key_label(key),
            "outcome": outcome,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        return [e for e in self._entries if all(getattr(e, name) == value for name, value in given.items())]

    def total(
        self,
        *,
        unit: Unit | str,
        provider: str | None = None,
        component: Component | None = None,
        model: str | None = None,
        key: str | None = None,
        outcome: LedgerOutcome | None = None,
    ) -> Decimal:
        """Add up one unit over the entries that match everything given."""
        entries = self.select(provider=provider, component=component, model=model, key=key, outcome=outcome)
        return sum((entry.quantities.get(str(unit), Decimal(0)) for entry in entries), Decimal(0))

    def totals(self) -> dict[tuple[str, str, str], dict[str, Decimal]]:
        """Add up every unit by (provider, model, key label)."""
        sums: dict[tuple[str, str, str], dict[str, Decimal]] = defaultdict(dict)
        for entry in self._entries:
            line = sums[entry.provider, entry.model, entry.key]
            for unit, quantity in entry.quantities.items():
                line[unit] = line.get(unit, Decimal(0)) + quantity
        return dict(sums)

    def begin(self, *, provider: str, component: Component, model: str, key: str, id: str) -> Operation:
        """Open an operation on behalf of a key."""
        operation = Operation(self, provider, component, model, key_label(key), id)
        self._open.add(operation)
        self._idle.clear()
        return operation

    async def settled(self, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109 - a deadline, not a cancellation scope
        """Wait until every operation has ended, so that the totals are final.

        Raises:
            TimeoutError: A client still holds an operation open after `timeout` seconds.
        """
        await asyncio.wait_for(self._idle.wait(), timeout)

    def _settle(self, operation: Operation, outcome: LedgerOutcome) -> None:
        if operation not in self._open:
            return
        self._open.discard(operation)
        self._entries.append(
            LedgerEntry(
                at=self._clock(),
                provider=operation.provider,
                component=operation.component,
                model=operation.model,
                key=operation.key,
                operation_id=operation.id,
                quantities=dict(operation.quantities),
                outcome=outcome,
            )
        )
        if not self._open:
            self._idle.set()


@contextmanager
def settling(operation: Operation) -> Iterator[Operation]:
    """Close the operation by how the block ends: completed, left by the client, or ended by the vendor."""
    try:
        yield operation
    except (asyncio.CancelledError, ConnectionError):
        operation.close("aborted")
        raise
    except BaseException:
        operation.close("failed")
        raise
    operation.close()
