"""
What `costmeter reconcile` takes beside the csv module: a million rows of a usage CSV and a small ledger in SQLite.

Invariant: both read the same file in the same process, in alternating rounds; ours is the whole command, from reading
both sides to the JSON, theirs looks at no cell. Memory is what the kernel says of that process, at its highest.
`COSTMETER_BENCH_ROWS` says how many rows the file has.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner
from rich.table import Table

from livekit_costmeter.cli import costmeter
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink
from tests.bench.backlog import memory_of
from tests.bench.report import fill

ROWS = int(os.environ.get("COSTMETER_BENCH_ROWS", "1_000_000"))
ROUNDS = 3
FACTOR, MEMORY = 3.0, 300.0
ROOT = Path(__file__).parents[2]
_CHARGES = 10_000
_START = datetime(2026, 11, 1, tzinfo=UTC)
_PERIOD = ("--since", "2026-11-01", "--until", "2027-11-01")
_MODELS = ("gpt-4o-mini-2024-07-18", "gpt-4.1-2025-04-14", "gpt-4.1-mini", "gpt-4o-2024-08-06", "gpt-5-nano-2025-08-07")
_HEADER = (
    "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,"
    "service_tier,input_tokens,output_tokens,input_cached_tokens,input_uncached_tokens,input_text_tokens,"
    "output_text_tokens,input_cached_text_tokens,input_audio_tokens,input_cached_audio_tokens,output_audio_tokens,"
    "input_image_tokens,input_cached_image_tokens,output_image_tokens,input_cache_write_tokens\n"
)


def measure() -> Table:
    """Return the table: seconds of the csv module and of the comparison, their factor, and the peak of memory."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_usage(directory / "usage.csv", ROWS)
        sink = SqliteSink(SqliteSink.Options(path=directory / "costmeter.db"))
        sink.open()
        fill(directory / "costmeter.db", 0, _CHARGES)
        sink.close()
        config = {"sinks": [{"type": "sqlite", "path": str(directory / "costmeter.db")}]}
        (directory / "costmeter.yaml").write_text(json.dumps(config))
        size = (directory / "usage.csv").stat().st_size / 1e6
        command = [sys.executable, "-m", "tests.bench.reconcile", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    plain, ours, memory = json.loads(done.stdout)
    table = Table(title=f"Reconciling {ROWS:,} rows of usage ({size:,.0f} MB) with {_CHARGES:,} charges in SQLite")
    for column in ("csv.reader, s", "reconcile, s", "factor", "peak memory, MB"):
        table.add_column(column, justify="right")
    table.add_row(f"{plain:.2f}", f"{ours:.2f}", _judged(ours / plain, FACTOR, ".2f"), _judged(memory, MEMORY, ".0f"))
    return table


def _judged(figure: float, budget: float, form: str) -> str:
    return f"{figure:{form}}" + ("" if figure <= budget else f" [red](over {budget:g})[/red]")


def write_usage(path: Path, rows: int) -> None:
    """Write a usage CSV as the dashboard does: buckets of a minute, each with all models."""
    chance, first = random.Random(1), int(_START.timestamp())
    with path.open("w") as stream:
        stream.write(_HEADER)
        for number in range(rows):
            start = first + number // len(_MODELS) * 60
            begins, ends = (datetime.fromtimestamp(at, UTC).isoformat() for at in (start, start + 60))
            total, written = chance.randrange(100, 90_000), chance.randrange(1, 9000)
            cached = chance.randrange(total)
            fresh = f"{total - cached}.0"
            stream.write(
                f"{start},{start + 60},{begins},{ends},proj_1,{total % 60}.0,,key_1,{_MODELS[number % len(_MODELS)]},"
                f"False,default,{total}.0,{written}.0,{cached}.0,{fresh},{fresh},{written}.0,{cached}.0{',0.0' * 7}\n"
            )


def _compare(directory: Path) -> None:
    plain, ours = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        with (directory / "usage.csv").open(newline="") as stream:
            rows = sum(1 for _ in csv.reader(stream))
        plain.append(time.perf_counter() - started)
        started = time.perf_counter()
        arguments = ["reconcile", "--provider", "openai", *_PERIOD, "--usage-file", str(directory / "usage.csv")]
        config = ["--format", "json", "--config", str(directory / "costmeter.yaml")]
        done = CliRunner().invoke(costmeter, [*arguments, *config])
        ours.append(time.perf_counter() - started)
        assert rows > 1
        assert len(json.loads(done.stdout)["rows"]) >= len(_MODELS), done.output
    json.dump([min(plain), min(ours), memory_of("VmHWM")], sys.stdout)


if __name__ == "__main__":
    _compare(Path(sys.argv[1]))
