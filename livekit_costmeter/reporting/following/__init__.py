"""
Following a running worker: charges as they are rated or arrive, operation by operation, with running totals.

Invariant: nothing is shown twice, and what was shown adds up to the totals.
"""

from livekit_costmeter.reporting.following.charges import Rated, follow
from livekit_costmeter.reporting.following.lines import operation_json, operation_line, total_json, total_line
from livekit_costmeter.reporting.following.operations import Operation, Operations, Sums

__all__ = [
    "Operation",
    "Operations",
    "Rated",
    "Sums",
    "follow",
    "operation_json",
    "operation_line",
    "total_json",
    "total_line",
]
