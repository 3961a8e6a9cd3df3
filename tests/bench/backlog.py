"""
What a shipper needs in memory for a backlog of millions: a process of its own, from before it looks at the spool.

Invariant: the backlog is real segments, real prices and a real file to write to; memory is what the kernel says, at its
highest, over what the process had before the first look, prices not yet loaded.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.table import Table

from livekit_costmeter.delivery import Shipper
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink
from livekit_costmeter.pricing import PriceBook, rate
from tests.bench.throughput import fill

RECORDS = int(os.environ.get("BACKLOG", "5000000"))
BUDGET = 60.0
ROOT = Path(__file__).parents[2]


def measure() -> Table:
    """Return the table: records, what they are on disk, and the memory that shipping them took."""
    table = Table(title="A backlog in one pass")
    for name in ("records", "on disk", "charges", "memory over start"):
        table.add_column(name, justify="right")
    with tempfile.TemporaryDirectory() as directory:
        spool = fill(Path(directory) / "spool", RECORDS)
        size = sum(path.stat().st_size for path in spool.iterdir())
        charges, growth = ship_in_a_process(Path(directory))
    over = "" if growth <= BUDGET else f" [red](over {BUDGET:g} MB)[/red]"
    table.add_row(f"{RECORDS:,}", f"{size / 1e9:.1f} GB", f"{charges:,}", f"{growth:.0f} MB{over}")
    return table


def ship_in_a_process(directory: Path) -> tuple[int, float]:
    """Ship `spool` into `ledger.db`, both in that directory; return the charges, and the memory in MB."""
    command = [sys.executable, "-m", "tests.bench.backlog", str(directory)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    charges, growth = json.loads(done.stdout)
    return int(charges), float(growth)


def _ship(directory: Path) -> None:
    book = PriceBook()
    sink = SqliteSink(SqliteSink.Options(path=directory / "ledger.db"))
    shipper = Shipper(directory / "spool", rate=lambda record: rate(record, book), sinks={"ledger": sink})
    before = memory_of("VmRSS")
    shipper.start()
    ended = shipper.stop(86_400)
    assert ended
    assert not list((directory / "spool").glob("*.seg"))
    highest = memory_of("VmHWM")
    json.dump([sink.check().rpartition(": ")[2].split()[0], highest - before], sys.stdout)


def memory_of(figure: str) -> float:
    """Return the memory of this process in MB, now or at its highest; without a /proc always at its highest."""
    try:
        text = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return int(text.partition(f"{figure}:")[2].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    _ship(Path(sys.argv[1]))
