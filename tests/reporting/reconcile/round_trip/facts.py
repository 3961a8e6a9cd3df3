"""
What happened in thirty days, as both sides saw it: operations of one vendor's models, and what each side makes of them.

A fault changes one side only. What is natural is always there: interrupted generations of which we have estimates,
calls of any length, quiet nights.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

START = datetime(2026, 5, 1, tzinfo=UTC)
DAYS = 30
END = START + timedelta(days=DAYS)
# (component, units of one operation, rate per unit in units of USD per million)
MODELS = {
    "openai": {
        "gpt-4o-mini": ("llm", {"input_tokens": 0.15, "cached_input_tokens": 0.075, "output_tokens": 0.6}),
        "gpt-4.1": ("llm", {"input_tokens": 2.0, "cached_input_tokens": 0.5, "output_tokens": 8.0}),
        "gpt-realtime": (
            "realtime",
            {
                "input_tokens": 4.0,
                "input_audio_tokens": 32.0,
                "cached_input_audio_tokens": 0.4,
                "output_tokens": 16.0,
                "output_audio_tokens": 64.0,
            },
        ),
    },
    "anthropic": {
        "claude-haiku-4-5": ("llm", {"input_tokens": 1.0, "cached_input_tokens": 0.1, "output_tokens": 5.0}),
        "claude-sonnet-4-5": ("llm", {"input_tokens": 3.0, "cached_input_tokens": 0.3, "output_tokens": 15.0}),
    },
    "deepgram": {
        "nova-3": ("stt", {"audio_seconds": 128.0}),
        "nova-2": ("stt", {"audio_seconds": 97.0}),
        "aura-2": ("tts", {"characters": 30.0}),
    },
    "elevenlabs": {
        "eleven_flash_v2_5": ("tts", {"characters": 50.0}),
        "eleven_multilingual_v2": ("tts", {"characters": 100.0}),
    },
    "twilio": {"inbound-local": ("call", {"call_seconds": 141.0})},
    "cartesia": {"sonic-3": ("tts", {"characters": 38.0})},
}
_SIZES = {
    "input_tokens": (200, 4000),
    "cached_input_tokens": (0, 2000),
    "output_tokens": (10, 400),
    "input_audio_tokens": (100, 3000),
    "cached_input_audio_tokens": (0, 1500),
    "output_audio_tokens": (50, 1500),
    "characters": (20, 600),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One request, stream or call. `quantities` are the truth; the ends are when it was worked on."""

    id: str
    component: str
    model: str
    start: datetime
    end: datetime
    quantities: dict[str, int | float]
    key: str = "key_ours"
    interrupted: bool = False


@dataclass(slots=True)
class Facts:
    """Both sides of the same month. Rates are USD per million of a unit, by model."""

    vendor: str
    ours: list[Operation]
    theirs: list[Operation]
    rates: dict[str, dict[str, float]]
    rate_changes: dict[str, tuple[datetime, float]] = field(default_factory=dict)
    billed: object = None
    twice: frozenset[str] = frozenset()
    shift: timedelta = timedelta(0)
    late: dict[int, float] = field(default_factory=dict)
    estimate_bias: float = 1.0
    with_keys: bool = True


def happen(rng: Random, vendor: str, calls_a_day: int = 14, interrupted: float = 0.03) -> Facts:
    """Let a month happen; a day more at both ends, which an export of other days may reach into."""
    operations: list[Operation] = []
    for day in range(-1, DAYS + 1):
        for _ in range(rng.randint(calls_a_day // 2, calls_a_day * 2)):
            operations += _call(rng, vendor, START + timedelta(days=day), interrupted, len(operations))
    operations.sort(key=lambda operation: operation.end)
    rates = {model: dict(units) for model, (_, units) in MODELS[vendor].items()}
    return Facts(vendor, list(operations), list(operations), rates, with_keys=rng.random() < 0.5)


def _call(rng: Random, vendor: str, midnight: datetime, interrupted: float, number: int) -> list[Operation]:
    # More of it by day than by night, and none across midnight.
    hour = min(23.3, max(0.1, rng.triangular(0, 24, 15)))
    begins = midnight + timedelta(hours=hour)
    names = list(MODELS[vendor])
    found = []
    at = begins
    for model in rng.sample(names, k=rng.randint(1, len(names))):
        component, units = MODELS[vendor][model]
        for _ in range(1 if component in ("stt", "call") else rng.randint(1, 3)):
            seconds = round(min(900.0, rng.lognormvariate(4.5, 0.7)), 3)
            length = timedelta(seconds=seconds if component in ("stt", "call") else rng.uniform(0.3, 4))
            cut = component in ("llm", "realtime") and rng.random() < interrupted
            found.append(
                Operation(
                    f"{vendor}-{number + len(found)}",
                    component,
                    model,
                    at,
                    at + length,
                    {unit: _amount(rng, unit, seconds) for unit in units},
                    interrupted=cut,
                )
            )
            at += timedelta(seconds=rng.uniform(1, 15))
    return found


def _amount(rng: Random, unit: str, seconds: float) -> int | float:
    if unit == "call_seconds":
        return float(int(seconds) + 1)
    return seconds if unit.endswith("_seconds") else rng.randint(*_SIZES[unit])


def again(operation: Operation, number: int) -> Operation:
    """Return the same operation, recorded once more."""
    return replace(operation, id=f"{operation.id}+{number}")
