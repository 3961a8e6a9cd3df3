"""
A case, and what is known of it once it was played: three counts of the same work.

Invariant: a line of a result is one unit of one model; units that only one side knows stand there too, so that
something silently zero or counted twice is seen. Basis and outcome are those of the records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from livekit_costmeter.testing import LedgerEntry
from tests.fidelity.stage import COMPRESSED, Kept, Stage, staged

ZERO = Decimal(0)
BILLED = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "input_audio_tokens",
    "cached_input_audio_tokens",
    "output_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
    "characters",
    "audio_seconds",
    "connection_seconds",
)
"""The units that are compared, where a model is sold by them. Others stand beside them: what was played, for one."""
_SOLD_BY_CONNECTION = ("universal",)
"""How the names of recognisers begin that are sold by the time that they are connected."""

_NO_FIGURE = frozenset({"connection_seconds"})
_SOLD_BY_TOKEN = {"characters": "output_audio_tokens", "audio_seconds": "input_audio_tokens"}


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the truth table.

    `outcomes` are those that its records must have, by component, in any order and each as often as it says; a
    component that it does not name may only complete. `slack` is what aborted work may differ by, per unit: the
    provider goes on until it notices that its client has left. `hidden` are units that the provider
    keeps out of sight, of which a lower bound is all that anybody outside can know.
    """

    code: str
    name: str
    play: Callable[[Stage], Awaitable[None]]
    outcomes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    slack: Mapping[str, Decimal] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Line:
    """One unit of one model, counted three times; `known` adds up costmeter's count by basis.

    `livekit` is None for a unit that LiveKit has no figure for.
    """

    component: str
    model: str
    unit: str
    ledger: Decimal
    livekit: Decimal | None
    costmeter: Decimal
    known: Mapping[str, Decimal]

    @property
    def bases(self) -> str:
        """The ways in which it is known, weakest first."""
        return ", ".join(basis for basis in ("lower_bound", "estimated", "observed", "reported") if basis in self.known)

    @property
    def certain(self) -> Decimal:
        """What the provider reported or was seen on the wire."""
        return self.known.get("reported", ZERO) + self.known.get("observed", ZERO)

    @property
    def doubtful(self) -> Decimal:
        """What was estimated."""
        return self.known.get("estimated", ZERO) + self.known.get("lower_bound", ZERO)


@dataclass(frozen=True, slots=True)
class Result:
    """What playing a case came to."""

    case: Case
    lines: tuple[Line, ...]
    records: tuple[Mapping[str, Any], ...]
    entries: tuple[LedgerEntry, ...]
    failures: Mapping[str, int]


async def play(case: Case, kept: Kept, *, speed: float = COMPRESSED) -> Result:
    """Play a case under the meter that fills `kept`, and read the three counts."""
    before, failed = len(kept.records), dict(kept.failures)
    async with staged(speed=speed) as stage:
        await case.play(stage)
    # Records of component `call` are about the session and not about work: its time, and LiveKit's own figures.
    records = tuple(record for record in kept.records[before:] if record["component"] != "call")
    entries = tuple(stage.ledger.entries)
    failures = {kind: count for kind, count in kept.failures.items() if count > failed.get(kind, 0)}
    return Result(case, tuple(_lines(entries, stage.usage(), records)), records, entries, failures)


def _lines(entries, usages, records) -> list[Line]:
    saw, reported = _sums(_of_entries(entries)), _sums(_of_usages(usages))
    recorded: dict[tuple[str, str, str], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for record in records:
        for unit, quantity in record["quantities"].items():
            if Decimal(quantity):
                recorded[record["component"], record["model"], unit][record["basis"][unit]] += Decimal(quantity)
    places = {place for place in (*saw, *recorded) if _compared(place, saw)}
    ordered = sorted(places, key=lambda place: (place[0], place[1], BILLED.index(place[2])))
    return [_line(place, saw[place], reported[place], recorded[place]) for place in ordered]


def _line(place, saw: Decimal, reported: Decimal, known: Mapping[str, Decimal]) -> Line:
    livekit = None if place[2] in _NO_FIGURE else reported
    return Line(*place, saw, livekit, sum(known.values(), ZERO), dict(known))


def _compared(place, saw) -> bool:
    component, model, unit = place
    if unit not in BILLED or (unit == "connection_seconds" and not model.startswith(_SOLD_BY_CONNECTION)):
        return False
    # A model that is sold by token is not sold by character or second, which are counted beside them all the same.
    by_token = _SOLD_BY_TOKEN.get(unit)
    return by_token is None or not saw.get((component, model, by_token))


def _sums(counted) -> dict[tuple[str, str, str], Decimal]:
    sums: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for place, quantity in counted:
        sums[place] += quantity
    return sums


def _of_entries(entries):
    for entry in entries:
        for unit, quantity in entry.quantities.items():
            yield (entry.component, entry.model, unit), quantity


def _of_usages(usages):
    for usage in usages:
        yield from _UNITS_OF.get(usage.type, _nothing)(usage)


def _nothing(_usage):
    return ()


def _of_model(usage):
    audio = usage.input_audio_tokens or usage.output_audio_tokens
    component = "realtime" if audio or "realtime" in usage.model else "llm"
    cached = usage.input_cached_tokens - usage.input_cached_audio_tokens
    heard = usage.input_audio_tokens
    # Older releases split less.
    written, reasoned = (getattr(usage, f"{name}_tokens", 0) for name in ("input_cache_creation", "output_reasoning"))
    counts = {
        "input_tokens": usage.input_tokens - heard - cached - written,
        "cached_input_tokens": cached,
        "cache_write_tokens": written,
        "input_audio_tokens": heard - usage.input_cached_audio_tokens,
        "cached_input_audio_tokens": usage.input_cached_audio_tokens,
        "output_tokens": usage.output_tokens - usage.output_audio_tokens - reasoned,
        "reasoning_tokens": reasoned,
        "output_audio_tokens": usage.output_audio_tokens,
    }
    return [((component, usage.model, unit), Decimal(count)) for unit, count in counts.items()]


def _of_voice(usage):
    counts = {
        "input_tokens": usage.input_tokens,
        "output_audio_tokens": usage.output_tokens,
        "characters": usage.characters_count,
    }
    return [(("tts", usage.model, unit), Decimal(count)) for unit, count in counts.items()]


def _of_ear(usage):
    heard = getattr(usage, "input_audio_tokens", usage.input_tokens)
    counts = {
        "input_audio_tokens": heard,
        "input_tokens": usage.input_tokens - heard,
        "output_tokens": usage.output_tokens,
        "audio_seconds": Decimal(str(round(usage.audio_duration, 6))),
    }
    return [(("stt", usage.model, unit), Decimal(count)) for unit, count in counts.items()]


_UNITS_OF = {"llm_usage": _of_model, "tts_usage": _of_voice, "stt_usage": _of_ear}
