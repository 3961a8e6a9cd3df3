"""
A simulated day at a call centre: processes that take calls, each with providers of its own, metered into one ledger.

A process is `python -m tests.fidelity.day CONFIG FACTS SEED CALLS`: it installs the meter as an agent would, takes its
calls, several at a time, and writes what its providers saw to FACTS, as usage records in JSON lines.

Invariant: a seed gives the same calls in the same order; how they interleave is the machine's. Both sides are priced
by the same rates and policies, so that the two sums differ only where the meter saw something else than the providers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random

from livekit_costmeter import install
from livekit_costmeter.config import load
from livekit_costmeter.config.compose import build_rate
from livekit_costmeter.records import UsageRecord, parse_usage, usage_fields, usage_json
from livekit_costmeter.testing import LedgerEntry
from tests.fidelity.shifts import draw
from tests.fidelity.stage import staged

_SPEED = 6.0
_CALLS_AT_A_TIME = 3
_OUTCOMES = {"completed": "completed", "aborted": "interrupted", "failed": "failed"}
_YAML = """\
project: day
pricing: {rate_cards: [./rates.yaml], catalogs: []}
sinks:
  - {type: jsonl, path: ./charges.jsonl}
"""
# Prices that make words, voices and ears cost about the same, so that none of them can hide another.
_RATES = """\
name: day
rates:
  - {provider: openai, model: "*", unit: input_tokens, price: "0.02", per: 1000, effective_from: 2020-01-01}
  - {provider: openai, model: "*", unit: cached_input_tokens, price: "0.01", per: 1000, effective_from: 2020-01-01}
  - {provider: openai, model: "*", unit: output_tokens, price: "0.10", per: 1000, effective_from: 2020-01-01}
  - {provider: deepgram, model: "*", unit: audio_seconds, price: "0.06", per: 60, effective_from: 2020-01-01}
  - {provider: cartesia, model: "*", unit: characters, price: "0.05", per: 1000, effective_from: 2020-01-01}
"""


@dataclass(frozen=True, slots=True)
class Day:
    """What a day cost by component: by the providers' ledgers, and by the meter's charges."""

    ledger: Counter[str]
    charged: Counter[str]
    operations: int
    outcomes: Counter[str]


def play_day(directory: Path, *, processes: int, calls: int, seed: int) -> Day:
    """Take `calls` calls in as many processes at once as asked for, ship what they left, and price both sides.

    Raises:
        subprocess.CalledProcessError: A process or the shipper failed.
    """
    config = directory / "costmeter.yaml"
    config.write_text(_YAML)
    (directory / "rates.yaml").write_text(_RATES)
    facts = [directory / f"facts-{number}.jsonl" for number in range(processes)]
    shares = [calls // processes + (number < calls % processes) for number in range(processes)]
    module = [sys.executable, "-m", "tests.fidelity.day", str(config)]
    running = [
        subprocess.Popen([*module, str(path), f"{seed}.{number}", str(share)], cwd=_root(), env=_environment())
        for number, (path, share) in enumerate(zip(facts, shares, strict=True))
    ]
    for process in running:
        if code := process.wait():
            raise subprocess.CalledProcessError(code, process.args)
    ship = [sys.executable, "-m", "livekit_costmeter", "ship", "--config", str(config), "--wait", "10"]
    subprocess.run(ship, check=True, cwd=_root(), env=_environment())
    return _compare(config, [parse_usage(line) for path in facts for line in path.read_bytes().splitlines()])


def _root() -> Path:
    return Path(__file__).parents[2]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_root())}


def _compare(config: Path, facts: list[UsageRecord]) -> Day:
    from livekit_costmeter.delivery.sinks.jsonl import JsonlSink

    rate = build_rate(load(config))
    ledger, charged = Counter[str](), Counter[str]()
    for fact in facts:
        _add(ledger, rate(fact))
    charges = list(JsonlSink(JsonlSink.Options(path=config.parent / "charges.jsonl")).read())
    _add(charged, charges)
    outcomes = Counter(outcome for _, outcome in {(charge.record_id, charge.outcome) for charge in charges})
    return Day(ledger, charged, len(facts), outcomes)


def _add(costs: Counter[str], charges: Iterable) -> None:
    for charge in charges:
        costs[charge.component] += charge.cost or Decimal(0)


async def _take_calls(meter, seed: str, calls: int) -> list[LedgerEntry]:
    numbers = iter(range(calls))
    entries: list[LedgerEntry] = []

    async def take_one_after_the_other() -> None:
        for number in numbers:
            random = Random(f"{seed}.{number}")
            async with staged(speed=_SPEED) as stage:
                await draw(random)(stage, random)
            entries.extend(stage.ledger.entries)

    async with asyncio.TaskGroup() as lines:
        for _ in range(_CALLS_AT_A_TIME):
            lines.create_task(take_one_after_the_other())
    await meter.aclose()
    return entries


def _fact(number: int, entry: LedgerEntry) -> bytes:
    record = UsageRecord(
        id=f"fact-{number}",
        at=entry.at,
        component=entry.component,
        provider=entry.provider,
        model=entry.model,
        quantities=dict(entry.quantities),
        operation_total=dict(entry.quantities),
        outcome=_OUTCOMES[entry.outcome],
    )
    return usage_json(usage_fields(record))


def main(config: str, facts: str, seed: str, calls: str) -> None:
    """Take a process's share of the day's calls."""
    logging.getLogger("livekit").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    entries = asyncio.run(_take_calls(install(config), seed, int(calls)))
    Path(facts).write_bytes(b"".join(_fact(number, entry) + b"\n" for number, entry in enumerate(entries)))


if __name__ == "__main__":
    main(*sys.argv[1:])
