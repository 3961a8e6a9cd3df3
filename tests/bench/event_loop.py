"""
The time that the meter adds to an `emit` with exactly one listener, append to the spool included.

Invariant: with and without the taps in alternating rounds, on the same emitters and the same events' shape; the
process is a job as in production: it only appends, while another process holds the spool's `ship.lock`.
"""

from __future__ import annotations

import contextvars
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

ROUNDS = 10
EVENTS = 2_000
BACKLOG = 100_000
SCENES = ((1, 0), (100, 0), (1, BACKLOG), (100, BACKLOG))
P50_BUDGET, P99_BUDGET = 2.0, 6.0


def measure() -> Table:
    """Return the table: per scene, time of an emit without and with the meter, and the ratio of what was added."""
    table = Table(title="Event loop: µs per billable event; added time as a multiple of an emit with one listener")
    for name in ("sessions", "backlog", "emit p50", "emit p99", "metered p50", "metered p99", "added p50", "added p99"):
        table.add_column(name, justify="right")
    for sessions, backlog in SCENES:
        table.add_row(str(sessions), f"{backlog:,}", *_row(_in_a_job(sessions, backlog)))
    return table


def _row(times: dict[str, float]) -> list[str]:
    p50 = (times["metered_p50"] - times["emit_p50"]) / times["emit_p50"]
    p99 = (times["metered_p99"] - times["emit_p99"]) / times["emit_p50"]
    ratios = [_ratio(p50, P50_BUDGET), _ratio(p99, P99_BUDGET)]
    return [f"{times[name]:.1f}" for name in ("emit_p50", "emit_p99", "metered_p50", "metered_p99")] + ratios


def _ratio(value: float, budget: float) -> str:
    return f"{value:.2f}x" + ("" if value <= budget else f" [red](over {budget:g}x)[/red]")


def _in_a_job(sessions: int, backlog: int) -> dict[str, float]:
    from livekit_costmeter.delivery.files.locks import ShipLock

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "costmeter.yaml").write_text("sinks: [{type: sqlite, path: ./costmeter.db}]\n")
        spool = directory / ".costmeter/spool"
        spool.mkdir(parents=True)
        _fill(spool, backlog)
        lock = ShipLock(spool)
        assert lock.acquire(1.0)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tests.bench.event_loop", str(directory), str(sessions)],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "LIVEKIT_EVENTLOOP_MONITOR": "0"},
            )
        finally:
            lock.release()
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _fill(directory: Path, records: int) -> None:
    from livekit_costmeter.delivery import Spool
    from livekit_costmeter.records import usage_json

    members = usage_json({"component": "llm", "provider": "openai", "model": "m", "quantities": {"input_tokens": "1"}})
    for _ in range(records // 1000):
        spool = Spool(directory, header={"sinks": ["sqlite"]}, max_bytes=1 << 40)
        for _ in range(1000):
            spool.append(members[1:])
        spool.close()


def _job(directory: str, sessions: int) -> None:
    import multiprocessing

    multiprocessing.current_process().name = "job_proc"
    from livekit.plugins import openai

    from livekit_costmeter import install
    from livekit_costmeter.metering.hooks import internals

    meter = install(Path(directory) / "costmeter.yaml")
    taps = meter.taps
    taps.remove()
    emitters = [
        _session(openai.LLM(model="gpt-4o-mini", api_key=f"bench-{n}"), meter, internals) for n in range(sessions)
    ]
    times: dict[bool, list[int]] = {False: [], True: []}
    for number in range(2 * ROUNDS):
        metered = bool(number % 2)
        if metered:
            taps.apply()
        times[metered] += _round(emitters, range(number * EVENTS, (number + 1) * EVENTS))
        if metered:
            taps.remove()
    figures = {}
    for metered, name in ((False, "emit"), (True, "metered")):
        ordered = sorted(times[metered])
        figures[f"{name}_p50"] = ordered[len(ordered) // 2] / 1000
        figures[f"{name}_p99"] = ordered[int(len(ordered) * 0.99)] / 1000
    print(json.dumps(figures))


def _session(model: Any, meter: Any, internals: Any) -> tuple[contextvars.Context, Any]:
    from livekit.agents import AgentSession

    model.on("metrics_collected", lambda _event: None)
    context = contextvars.copy_context()
    session = AgentSession.__new__(AgentSession)
    context.run(internals._scope.set, meter.session_starting(session))
    return context, model


def _event(number: int) -> Any:
    from livekit.agents.metrics import LLMMetrics
    from livekit.agents.metrics.base import Metadata

    return LLMMetrics(
        label="livekit.plugins.openai.llm.LLM", request_id=f"chatcmpl-{number}", timestamp=time.time(), duration=1.25,
        ttft=0.3, cancelled=False, completion_tokens=31, prompt_tokens=120, prompt_cached_tokens=0, total_tokens=151,
        tokens_per_second=24.8, metadata=Metadata(model_name="gpt-4o-mini", model_provider="api.openai.com"),
    )  # fmt: skip


def _round(emitters: Sequence[tuple[contextvars.Context, Any]], numbers: range) -> list[int]:
    samples = []
    gc.collect()
    for number in numbers:
        context, model = emitters[number % len(emitters)]
        event = _event(number)
        started = time.perf_counter_ns()
        context.run(model.emit, "metrics_collected", event)
        samples.append(time.perf_counter_ns() - started)
    return samples


if __name__ == "__main__":
    _job(sys.argv[1], int(sys.argv[2]))
