"""
From a usage record to the stores: spool, rate once, ship to every sink, acknowledge, delete.

What always holds here:

- Only the process that made a segment appends to it. It never waits for anything and never raises into the agent.
- A record gets its id before it is appended, lies in one file only, and each line carries a checksum.
- A segment is made under another name, locked, and then renamed, so nobody takes it for abandoned.
- Rating, sending and deleting is for the holder of `ship.lock`, one per spool directory. A job without such a
  shipper beside it ships its own segments in small slices and leaves those of others alone.
- A record is rated once; all sinks, all repetitions and all later shippers see the same charges. Only where the disk is
  full, and a crash comes on top, is it rated again; sinks keep the rows that they have.
- Each sink has a cursor of its own, moved only after the sink has committed; a dead sink delays no other.
- A segment stays until every sink that its header lists has all of it, or the operator lets go of that sink.
- Nothing is dropped without a counter and a log line.
- Directories are 0700, files 0600.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livekit_costmeter.delivery.backlog import Pending, SegmentReport, inspect, list_segments, pending
    from livekit_costmeter.delivery.files.booking import Booked, book
    from livekit_costmeter.delivery.files.locks import ShipLock
    from livekit_costmeter.delivery.files.segment import Cursor, SpoolStats
    from livekit_costmeter.delivery.pipeline import Pipeline, Readback
    from livekit_costmeter.delivery.shipper import Shipment, Shipper
    from livekit_costmeter.delivery.spool import Spool

__all__ = [
    "Booked",
    "Cursor",
    "Pending",
    "Pipeline",
    "Readback",
    "SegmentReport",
    "ShipLock",
    "Shipment",
    "Shipper",
    "Spool",
    "SpoolStats",
    "book",
    "inspect",
    "list_segments",
    "pending",
]

_HOMES = {
    "backlog": ("Pending", "SegmentReport", "inspect", "list_segments", "pending"),
    "files.booking": ("Booked", "book"),
    "files.locks": ("ShipLock",),
    "files.segment": ("Cursor", "SpoolStats"),
    "pipeline": ("Pipeline", "Readback"),
    "shipper": ("Shipment", "Shipper"),
    "spool": ("Spool",),
}
_HOME_OF = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    # A job only appends; it does not pay for the shipper when it starts.
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
