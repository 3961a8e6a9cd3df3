"""
Looking at a spool while others write, rate and ship there.

Invariant: nothing is locked, changed or kept from being deleted.
"""

from livekit_costmeter.delivery.live.charges import RatedCharges

__all__ = ["RatedCharges"]
