"""
Cartesia's credits and usage of agents: `{"data": [{"start_ts", "end_ts", "credits"}]}`, and `cents, minutes, calls`.

Invariant: credits stay credits. The file tells neither model nor service, so that what they bought is not guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from livekit_costmeter.reporting.reconcile.lines import CREDITS, ProviderLine
from livekit_costmeter.reporting.reconcile.reading import Export, Head, Node

_CENTS = Decimal("0.01")
_MINUTE = Decimal(60)


class _Usage:
    """Credits and agents; each bucket tells which."""

    name = "cartesia-usage"
    provider = "cartesia"

    def recognises(self, head: Head) -> bool:
        data = head.document.data.get("data") if head.document else None
        return isinstance(data, list) and bool(data) and isinstance(data[0], dict) and "start_ts" in data[0]

    def read(self, export: Export) -> Iterator[ProviderLine]:
        for page in export.documents():
            if "data" not in page.data:
                raise page.error("data", "expected the buckets of credits or agents")
            for bucket in page.children("data"):
                line = _line(bucket)
                if line is not None:
                    yield line


def _line(bucket: Node) -> ProviderLine | None:
    spent, cents, minutes = bucket.number("credits"), bucket.number("cents"), bucket.number("minutes")
    if spent is None and cents is None:
        raise bucket.error("credits", "expected credits, or the cents of agents")
    cost = spent if cents is None else cents * _CENTS
    start, end = bucket.instant("start_ts"), bucket.instant("end_ts")
    if start >= end:
        raise bucket.error("end_ts", "expected a time after start_ts")
    if not cost and not minutes:
        return None
    return ProviderLine(
        "cartesia",
        None,
        None,
        "session_seconds" if minutes else None,
        minutes * _MINUTE if minutes else None,
        cost,
        CREDITS if cents is None else "USD",
        start,
        end,
        detail="credits" if cents is None else "agents",
        place=bucket.place,
    )


PARSERS = [_Usage()]
