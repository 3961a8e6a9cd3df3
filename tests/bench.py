"""
`make bench`: what the meter costs, as ratios measured side by side in one run.

Invariant: each figure stands next to the one it is compared with, both from this run on this machine; nothing here is
a test and nothing fails.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

EVENTS = 4_000
ROUNDS = 5
console = Console(width=None if sys.stdout.isatty() else 120)


def percentile(samples: Sequence[int], share: float) -> float:
    """Return a percentile of nanosecond samples, in microseconds."""
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))] / 1000


def metrics(number: int) -> Any:
    """Make a metrics object as LiveKit would."""
    from livekit.agents.metrics import LLMMetrics
    from livekit.agents.metrics.base import Metadata

    return LLMMetrics(
        label="livekit.plugins.openai.llm.LLM", request_id=f"chatcmpl-{number}", timestamp=time.time(), duration=1.25,
        ttft=0.3, cancelled=False, completion_tokens=31, prompt_tokens=120, prompt_cached_tokens=0, total_tokens=151,
        tokens_per_second=24.8, speech_id="speech_1",
        metadata=Metadata(model_name="gpt-4o-mini", model_provider="api.openai.com"),
    )  # fmt: skip


def emit_all(emitters: Sequence[Any], events: Sequence[Any]) -> list[int]:
    """Emit every event on the next emitter and time each emit."""
    samples = []
    for number, event in enumerate(events):
        emitter = emitters[number % len(emitters)]
        started = time.perf_counter_ns()
        emitter.emit("metrics_collected", event)
        samples.append(time.perf_counter_ns() - started)
    return samples


async def in_sessions(count: int, emit: Callable[[Sequence[Any]], None], models: Sequence[Any]) -> None:
    """Run `emit` where the taps see that many sessions: each model's events in a session of its own."""
    from livekit.agents import Agent, AgentSession

    sessions = [AgentSession(llm=model) for model in models[:count]]
    for session in sessions:
        await session.start(Agent(instructions=""))
    emit(models[:count])
    for session in sessions:
        await session.aclose()


def event_loop(console: Console) -> None:
    """Measure the time that the meter adds to an emit with exactly one listener, append included."""
    from livekit.plugins import openai

    from livekit_costmeter.config.compose import install
    from livekit_costmeter.metering import Taps

    directory = Path(tempfile.mkdtemp())
    (directory / "costmeter.yaml").write_text("sinks: [{type: sqlite, path: ./costmeter.db}]\n")
    meter = install(directory / "costmeter.yaml")
    taps = Taps(meter)
    models = [openai.LLM(model="gpt-4o-mini", api_key=f"bench-{number}") for number in range(100)]
    for model in models:
        model.on("metrics_collected", lambda _event: None)
    table = Table("sessions", "backlog", "emit p50", "p99", "metered p50", "p99", "added p50", "added p99", title="Event loop, µs per billable event (time added / emit with one listener)")
    del taps
    raise SystemExit(table)
