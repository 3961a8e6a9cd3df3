"""
What the package adds to a worker's start: time on top of `import livekit.agents`, and memory.

Invariant: fresh processes, with and without in turn, bytecode present; medians.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.table import Table

ROUNDS = 9
TIME_BUDGET, MEMORY_BUDGET = 3.0, 20.0

_CODE = """
import json, resource, sys, time
def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6
started = time.perf_counter()
import livekit.agents
imported, before = time.perf_counter(), memory()
import livekit_costmeter
livekit_costmeter.install(*sys.argv[1:])
installed = time.perf_counter()
from livekit_costmeter.config.prices import build_rate
from livekit_costmeter.config import load
from livekit_costmeter.records import parse_usage
record = parse_usage(json.dumps({"component": "llm", "provider": "openai", "model": "gpt-4o-mini",
                                 "at": "2026-11-20T00:00:00Z", "quantities": {"input_tokens": "5"}}))
charges = build_rate(load(*sys.argv[1:]))(record)
assert charges[0].cost is not None
print(json.dumps([imported - started, installed - imported, memory() - before]))
"""


def measure() -> Table:
    """Return the table: time of the import, what installing adds, and memory once a record is priced."""
    table = Table(title="Start: fresh processes, medians")
    for name in ("configuration", "import livekit.agents", "import and install", "added", "memory once priced"):
        table.add_column(name, justify="right")
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as other:
        file = Path(other) / "costmeter.yaml"
        file.write_text("project: bench\nsinks: [{type: sqlite, path: ./costmeter.db}]\n")
        for title, arguments in (("built-in", []), ("a YAML file", [str(file)])):
            table.add_row(title, *_cells(arguments, empty))
    return table


def _cells(arguments: list[str], directory: str) -> list[str]:
    _run(arguments, directory)  # leaves the bytecode behind
    rounds = [_run(arguments, directory) for _ in range(ROUNDS)]
    imported, added, memory = (statistics.median(column) for column in zip(*rounds, strict=True))
    share = added / imported * 100
    return [
        f"{imported * 1000:.0f} ms",
        f"{added * 1000:.1f} ms",
        f"{share:.1f} %" + ("" if share <= TIME_BUDGET else f" [red](over {TIME_BUDGET:g} %)[/red]"),
        f"{memory:.1f} MB" + ("" if memory <= MEMORY_BUDGET else f" [red](over {MEMORY_BUDGET:g} MB)[/red]"),
    ]


def _run(arguments: list[str], directory: str) -> list[float]:
    command = [sys.executable, "-c", _CODE, *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=directory, env=environment)
    return list(json.loads(done.stdout))
