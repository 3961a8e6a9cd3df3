"""
`make bench`: what the meter costs, as ratios measured side by side in one run.

`python -m tests.bench report` runs the parts that it names.

Invariant: each figure stands next to the one it is compared with, both from this run on this machine. Nothing here
is a test: it prints tables, and says where a ratio is over its budget.
"""

from __future__ import annotations

import sys

from rich.console import Console

from tests.bench import backlog, clickhouse, event_loop, postgres, reconcile, report, sqlite, start, streams, throughput

PARTS = (event_loop, streams, start, throughput, sqlite, postgres, clickhouse, backlog, report, reconcile)


def main(names: list[str]) -> None:
    """Run the measurements named, or all of them, and print their tables."""
    console = Console(width=None if sys.stdout.isatty() else 130)
    for part in PARTS:
        if names and part.__name__.rpartition(".")[2] not in names:
            continue
        console.print(part.measure())
        console.print()


main(sys.argv[1:])
