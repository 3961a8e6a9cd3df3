"""
How far one segment is on its way, as the holder of the ship lock knows it.

Invariant: offsets only grow, and `rated` grows last, so that a courier which looks at a state while it is being rated
finds everything up to there, on disk or in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from livekit_costmeter.delivery.files.acks import Ack
from livekit_costmeter.records import Charge


@dataclass(frozen=True, slots=True)
class Stretch:
    """Charges as they were just rated, from an offset in the charges file on; each with what its delivery is worth."""

    start: int
    records: Sequence[tuple[Ack, Sequence[Charge]]]


@dataclass(slots=True)
class SegmentState:
    """One segment as the shipper knows it: `source` bytes of it are rated into `rated` bytes of charges.

    Of those, `stored` are on disk (all, unless the disk is full), and the last ones also in `fresh`, so that couriers
    need not read them back. `final` says that its writer is gone and everything is rated. `sinks` is what its header
    lists; each courier keeps its entry of `acks`, which stays when the segment is deleted under a courier that is just
    looking at it.
    """

    name: str
    sinks: tuple[str, ...]
    source: int = 0
    rated: int = 0
    stored: int = 0
    fresh: tuple[Stretch, ...] = ()
    final: bool = False
    torn: bool = False
    synced: int = 0
    sequence: int | None = None
    acks: dict[str, Ack] = field(default_factory=dict)
