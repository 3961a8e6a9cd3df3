"""
What the simulated vendors share: playing a script, keeping pace, reading keys, refusing and dropping.

Invariant: each request consumes exactly one fault, and the pace is counted from the request's own start, so that a
slow step is made up for and not added to.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import ClassVar, Generic, TypeVar

from aiohttp import web

from livekit_costmeter.records import Component, round_quantity
from livekit_costmeter.testing.audio import PCM_WIDTH
from livekit_costmeter.testing.ledger import Dropped, Ledger, Operation
from livekit_costmeter.testing.script import Fault

T = TypeVar("T")
_NO_FAULT = Fault()
_SCHEMES = frozenset({"Bearer", "Token"})


class Cues(Generic[T]):
    """Hands out the items of a script one by one; after the last comes the last again, or `rest`."""

    def __init__(self, items: Sequence[T], *, rest: T | None = None) -> None:
        self._items = iter(items)
        self._rest = items[-1] if rest is None else rest

    def next(self) -> T:
        """Return the next item."""
        return next(self._items, self._rest)


def fault_cues(faults: Sequence[Fault | None]) -> Cues[Fault]:
    """Hand out one fault per request, and none after the last."""
    return Cues([fault or _NO_FAULT for fault in faults], rest=_NO_FAULT)


class Pace:
    """Holds work back to a rate: `reach(n)` returns when n units are due. `per_second=None` never waits."""

    def __init__(self, *, first_after: float, per_second: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time() + first_after
        self._per_second = per_second

    async def reach(self, amount: float | Decimal) -> None:
        """Wait until that many units are due; always yields, so that a client's leaving is noticed."""
        ahead = float(amount) / self._per_second if self._per_second else 0.0
        await asyncio.sleep(max(0.0, self._start + ahead - self._loop.time()))


class Vendor:
    """A simulated vendor: opens operations in the ledger under the caller's key, with ids of its own."""

    provider: ClassVar[str]

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ids = itertools.count(1)

    def begin(self, request: web.Request, *, component: Component, model: str, id: str | None = None) -> Operation:
        """Open an operation for a request.

        Raises:
            web.HTTPUnauthorized: The request carries no key.
        """
        return self._ledger.begin(
            provider=self.provider,
            component=component,
            model=model,
            key=self.payer(request),
            id=id or f"{self.provider}-{component}-{next(self._ids)}",
        )

    def payer(self, request: web.Request) -> str:
        """Return the key that a request is billed to.

        Raises:
            web.HTTPUnauthorized: The request carries none.
        """
        return client_key(request)


def client_key(request: web.Request) -> str:
    """Read the key from `X-API-Key: KEY`, `xi-api-key: KEY` or `Authorization: [Bearer|Token] KEY`.

    Raises:
        web.HTTPUnauthorized: There is none.
    """
    first, _, second = request.headers.get("Authorization", "").partition(" ")
    authorization = second or (first if first not in _SCHEMES else "")
    key = request.headers.get("X-API-Key") or request.headers.get("xi-api-key") or authorization
    if not key:
        raise web.HTTPUnauthorized(text="no API key in the request")
    return key


def refuse(operation: Operation, status: int) -> web.Response:
    """Refuse a request as a vendor does under load: an error status, no work done, nothing to bill."""
    operation.close("failed")
    body = {"error": {"message": "refused by the script", "type": "server_error", "code": str(status)}}
    return web.json_response(body, status=status)


async def meet(fault: Fault, amount: float | Decimal = 0) -> None:
    """Let the fault happen, if it has come to it: stall for good, or drop once `amount` has reached its limit.

    A stall ends when the client leaves or the server shuts down.

    Raises:
        Dropped: The connection is to be broken here.
    """
    if fault.stall:
        await asyncio.get_running_loop().create_future()
    if fault.drop_after is not None and amount >= fault.drop_after:
        raise Dropped


def pcm_seconds(byte_count: int, sample_rate: int, *, channels: int = 1) -> Decimal:
    """Return how long that much 16-bit PCM plays, in seconds to nine places."""
    return round_quantity(Decimal(byte_count) / (sample_rate * channels * PCM_WIDTH))
