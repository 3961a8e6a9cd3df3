"""
`make bench`: what the meter costs, as ratios measured side by side in one run.

Invariant: each figure stands next to the one it is compared with, both from this run on this machine. Nothing here
is a test: it prints tables, and says where a ratio is over its budget.
"""

from __future__ import annotations

import sys

from rich.console import Console

from tests.bench import backlog, clickhouse, event_loop, postgres, sqlite, start, streams, throughput


def main() -> None:
    """Run every measurement and print its table."""
    console = Console(width=None if sys.stdout.isatty() else 130)
    for part in (event_loop, streams, start, throughput, sqlite, postgres, clickhouse, backlog):
        console.print(part.measure())
        console.print()


main()
