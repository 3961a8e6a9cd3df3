"""
The audit: what LiveKit's own session usage says, beside what was recorded, and why the two differ.

Invariant: pure, and no difference is shown without a reason. What only one side knows is `None` on the other, never 0.

JSON of LiveKit's side, in `attributes.livekit` of an audit record (component `call`, no quantities): a list of
`{"component", "provider", "model", "units": {unit: decimal string}}`, names as LiveKit reports them, units disjoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from livekit_costmeter.records.usage import UsageRecord
from livekit_costmeter.records.vocabulary import PARENT_UNIT, UNIT_ORDER, UNKNOWN, InvalidRecord, decimal_text

LIVEKIT_KEY = "livekit"
"""Where an audit record carries LiveKit's side in its attributes."""

REASONS: Mapping[str, str] = {
    "interrupted": "interrupted work, which LiveKit counts as nothing",
    "discarded": "work done ahead and thrown away before it ended",
    "failed_attempts": "attempts that failed after the provider had begun",
    "unreported": "finished work whose provider sent no usage",
    "probes": "recovery requests of a fallback adapter",
    "outside_session": "work that the session's usage does not see: outside a session, or on a component of its own",
    "stt_tail": "audio at the end of a recognition stream, which is reported after LiveKit has stopped listening",
    "wire_characters": "characters as they went over the wire, not as they were handed to the plugin",
    "connection_time": "LiveKit counts how long the connection was open, not the audio that was sent",
    "double_counted": "LiveKit counts the same work more than once",
    "not_split": "LiveKit counts this unit within another one",
    "not_recorded": "LiveKit counts work of which there is no record here",
    "no_counterpart": "LiveKit counts nothing in this unit",
    "not_audited": "recorded where LiveKit's figure is not known here, so not compared",
}
"""Why a difference is there: code to words."""

_TOKENS = ("input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
COUNTERPARTS: Mapping[str, frozenset[str]] = {
    "llm": frozenset(_TOKENS),
    # Of few realtime models also `session_seconds`: it is compared where LiveKit has a figure, and only there.
    "realtime": frozenset(unit for unit in UNIT_ORDER if unit.endswith("_tokens")),
    "stt": frozenset({"audio_seconds", "input_tokens", "input_audio_tokens", "output_tokens"}),
    "tts": frozenset({"characters", "output_audio_seconds", "input_tokens", "output_audio_tokens"}),
    "interruption": frozenset({"requests"}),
    "turn_detection": frozenset({"requests"}),
}
"""The units that LiveKit's session usage has a figure for, by component: without one, it counted nothing."""

_SIBLING = {"llm": "realtime", "realtime": "llm"}
_SAME_SECONDS = Decimal("0.01")
_SAME_SHARE = Decimal("0.01")
_PADDING_SHARE = Decimal("0.05")
_ZERO = Decimal(0)


class Work(NamedTuple):
    """Who did it, in canonical names."""

    component: str
    provider: str
    model: str


class Manner(NamedTuple):
    """How it ended, how it is known, and whether no session saw it."""

    outcome: str
    basis: str
    outside: bool


class Reason(NamedTuple):
    """A code of `REASONS`, and how much of the difference it explains; negative where LiveKit has more."""

    code: str
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class LiveKitUsage:
    """What LiveKit reports of one model; no units means that it was at work and nothing was counted."""

    component: str
    provider: str
    model: str
    units: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class SessionAudit:
    """LiveKit's side of one session, written down when it ended."""

    id: str
    at: datetime
    started_at: datetime | None
    session_id: str | None
    project: str | None
    account: str | None
    livekit: tuple[LiveKitUsage, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One model and unit, seen twice. `ours` or `theirs` is `None` where that side does not count it."""

    work: Work
    unit: str
    ours: Decimal | None
    theirs: Decimal | None
    reasons: tuple[Reason, ...]

    @property
    def difference(self) -> Decimal | None:
        """Return what LiveKit missed, below 0 what it has too much; `None` where the two cannot be compared."""
        if any(reason.code == "no_counterpart" for reason in self.reasons):
            return None
        return (self.ours or _ZERO) - (self.theirs or _ZERO)


@dataclass(slots=True)
class Recorded:
    """What was recorded of some sessions, by model, unit and manner: all that `compare` has to know."""

    amounts: dict[Work, dict[str, dict[Manner, Decimal]]] = field(default_factory=dict)
    _names: dict[Work, Work] = field(default_factory=dict)

    def add(self, work: Work, reported: Work, unit: str, quantity: Decimal, manner: Manner) -> None:
        """Add one quantity; `reported` is `work` in the names that LiveKit uses."""
        manners = self.amounts.setdefault(work, {}).setdefault(unit, {})
        manners[manner] = manners.get(manner, _ZERO) + quantity
        self._names.setdefault(reported, work)

    def merge(self, other: Recorded) -> None:
        """Add everything that another one holds."""
        for reported, work in other._names.items():
            self._names.setdefault(reported, work)
        for work, units in other.amounts.items():
            for unit, manners in units.items():
                known = self.amounts.setdefault(work, {}).setdefault(unit, {})
                for manner, quantity in manners.items():
                    known[manner] = known.get(manner, _ZERO) + quantity

    def work_of(self, row: LiveKitUsage) -> Work:
        """Return the canonical names of what LiveKit reports; its own where nothing was recorded under them."""
        reported = Work(row.component, row.provider, row.model)
        # LiveKit keeps language models and realtime models in one list.
        sibling = reported._replace(component=_SIBLING.get(row.component, row.component))
        return self._names.get(reported) or self._names.get(sibling) or reported


def is_audit(record: UsageRecord) -> bool:
    """Tell an audit record from one of usage."""
    return record.component == "call" and LIVEKIT_KEY in record.attributes


def livekit_fields(rows: Iterable[LiveKitUsage]) -> list[dict[str, Any]]:
    """Return LiveKit's side as JSON values."""
    return [
        {
            "component": row.component,
            "provider": row.provider,
            "model": row.model,
            "units": {unit: decimal_text(amount) for unit, amount in row.units.items()},
        }
        for row in rows
    ]


def parse_livekit(values: Any) -> tuple[LiveKitUsage, ...]:
    """Read LiveKit's side from JSON values.

    Raises:
        InvalidRecord: They are something else.
    """
    try:
        return tuple(
            LiveKitUsage(
                str(row["component"]),
                str(row["provider"] or UNKNOWN),
                str(row["model"] or UNKNOWN),
                {str(unit): Decimal(amount) for unit, amount in row["units"].items()},
            )
            for row in values
        )
    except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
        raise InvalidRecord(f"attributes.{LIVEKIT_KEY}: {type(error).__name__}: {error}") from None


def compare(recorded: Recorded, livekit: Iterable[LiveKitUsage]) -> tuple[Finding, ...]:
    """Set what was recorded beside what LiveKit reports, model by model and unit by unit."""
    theirs: dict[Work, dict[str, Decimal]] = {}
    for row in livekit:
        units = theirs.setdefault(recorded.work_of(row), {})
        for unit, amount in row.units.items():
            units[unit] = units.get(unit, _ZERO) + amount
    works = sorted(recorded.amounts.keys() | theirs.keys())
    return tuple(
        finding for work in works for finding in _findings(work, recorded.amounts.get(work, {}), theirs.get(work, {}))
    )


def _findings(
    work: Work, ours: Mapping[str, Mapping[Manner, Decimal]], theirs: Mapping[str, Decimal]
) -> Iterator[Finding]:
    sums = {unit: sum(manners.values(), _ZERO) for unit, manners in ours.items()}
    shifts = _shifts(sums, theirs)
    for unit in sorted(ours.keys() | theirs.keys(), key=lambda unit: UNIT_ORDER.get(unit, len(UNIT_ORDER))):
        mine, other = sums.get(unit), theirs.get(unit)
        if other is None and unit not in COUNTERPARTS.get(work.component, ()):
            reasons: tuple[Reason, ...] = (Reason("no_counterpart", mine or _ZERO),)
        elif mine is None:
            reasons = (Reason("not_split" if unit in shifts else "not_recorded", -(other or _ZERO)),)
        else:
            difference = mine - (other or _ZERO)
            reasons = tuple(_reasons(work.component, unit, ours[unit], difference, shifts.get(unit, _ZERO)))
        yield Finding(work, unit, mine, other, reasons)


def _shifts(ours: Mapping[str, Decimal], theirs: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Tell how much of a unit LiveKit counts within its parent: older releases do not split everything."""
    shifts: dict[str, Decimal] = {}
    for unit, parent in PARENT_UNIT.items():
        if unit in theirs or unit not in ours:
            continue
        moved = min(ours[unit], theirs.get(parent, _ZERO) - ours.get(parent, _ZERO) + shifts.get(parent, _ZERO))
        if moved > 0:
            shifts[unit] = moved
            shifts[parent] = shifts.get(parent, _ZERO) - moved
    return shifts


def _reasons(
    component: str, unit: str, manners: Mapping[Manner, Decimal], difference: Decimal, shift: Decimal
) -> Iterator[Reason]:
    if shift:
        yield Reason("not_split", shift)
    rest, ours = difference - shift, sum(manners.values(), _ZERO)
    if abs(rest) <= _same(unit, ours):
        return
    for code, amount in _suspects(manners).items():
        explained = min(amount, rest)
        if explained > 0:
            yield Reason(code, explained)
            rest -= explained
    if rest:
        yield Reason(_residual(component, unit, rest, ours), rest)


def _same(unit: str, ours: Decimal) -> Decimal:
    """Return how far two figures may be apart and still say the same: durations are sums of floats."""
    if unit == "output_audio_seconds":  # one counts what was received, the other what was decoded
        return max(_SAME_SECONDS, ours * _SAME_SHARE)
    return _SAME_SECONDS if unit.endswith("_seconds") else _ZERO


def _suspects(manners: Mapping[Manner, Decimal]) -> dict[str, Decimal]:
    """Return what LiveKit may not have seen, the surest first."""
    found: dict[str, Decimal] = {}
    for manner, amount in manners.items():
        code = _suspicion(manner)
        if code is not None:
            found[code] = found.get(code, _ZERO) + amount
    order = ("outside_session", "interrupted", "discarded", "failed_attempts", "unreported", "probes")
    return {code: found[code] for code in order if code in found}


def _suspicion(manner: Manner) -> str | None:
    if manner.outside:
        return "outside_session"
    if manner.outcome == "completed":
        return "unreported" if manner.basis in ("estimated", "lower_bound") else None
    return {"failed": "failed_attempts", "probe": "probes"}.get(manner.outcome, manner.outcome)


def _residual(component: str, unit: str, rest: Decimal, ours: Decimal) -> str:
    if component == "stt" and unit == "audio_seconds":
        return "stt_tail" if rest > 0 else "connection_time"
    if unit == "characters" and abs(rest) <= ours * _PADDING_SHARE:
        return "wire_characters"
    return "outside_session" if rest > 0 else "double_counted"
