"""
Estimates of what no provider reported: tokens from text and audio, by ratios that learn.

The default before the first reported call of a model: a token for every 4 bytes of UTF-8, 4 tokens for every message
of a prompt, 20 tokens for every second of spoken audio, 10 for every second that is heard (OpenAI's figures). What
reported calls of the same model really had, against that default, is the factor that later estimates take; what frames
a message is no text and stays as it is. Ratios are rounded to four places, so that an estimate can be recomputed from
its record: quantity = the sum of `observed` times `ratios`, rounded half-even to an integer.

What is learned outlives the process in `calibration.json` beside the spool:
`{"format": 1, "models": {"<provider>/<model>/<side>": {"default": "n", "actual": "n", "samples": n}}}`. Only the
shipper writes it, from the records it rates (`attributes.observed` of a reported call): a new file replaces the old.

Invariant: a missing or damaged file means the default, never an error; a model is remembered by three numbers.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from livekit_costmeter.log import log
from livekit_costmeter.metering.hooks.internals import find

DEFAULT_RATIOS = {
    "bytes": Decimal("0.25"),
    "messages": Decimal(4),
    "media": Decimal(0),
    "milliseconds": Decimal("0.02"),
    "heard_milliseconds": Decimal("0.01"),
}
_FRAMING = frozenset({"messages", "media"})
SIDES: Mapping[str, tuple[str, ...]] = {
    "input": ("input_tokens", "cached_input_tokens", "cache_write_tokens"),
    "output": ("output_tokens",),
    "audio": ("output_audio_tokens",),
    "heard": ("input_audio_tokens",),
}
"""Which units of a reported call a side's observation stands for."""
_FORMAT = 1
_ENOUGH = 64
"""Own samples of one model and side after which a process measures no more."""
_MOST_SAMPLES = 512
"""Beyond these, older samples lose half their weight, so that a changed model is followed."""
_MOST_MODELS = 2000
_SPREAD = 8
"""A call that is this many times off the default had something else in it: pictures, or thoughts out of sight."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number of tokens, and everything it can be recomputed from."""

    tokens: int
    inputs: Mapping[str, Any]
    samples: int


@dataclass(slots=True)
class _Sums:
    default: Decimal = Decimal(0)
    actual: Decimal = Decimal(0)
    samples: int = 0

    def add(self, default: Decimal, actual: Decimal, samples: int = 1) -> None:
        self.default += default
        self.actual += actual
        self.samples += samples
        if self.samples > _MOST_SAMPLES:
            self.default, self.actual, self.samples = self.default / 2, self.actual / 2, self.samples // 2

    def is_sound(self) -> bool:
        """Tell sums of calls from numbers that no calls can have had."""
        if not (self.default.is_finite() and self.actual.is_finite() and self.default > 0 and self.samples > 0):
            return False
        return 1 / Decimal(_SPREAD) <= self.actual / self.default <= _SPREAD


class Calibration:
    """What one process knows of tokens per text: what it read from the file, and what it learned itself."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, _Sums] | None = None
        self._own: dict[str, int] = {}
        self._is_changed = False
        self._lock = threading.Lock()

    def is_wanted(self, provider: str, model: str) -> bool:
        """Tell whether another reported call of this model is worth measuring in this process."""
        return all(self._own.get(f"{provider}/{model}/{side}", 0) < _ENOUGH for side in SIDES)

    def learn(self, provider: str, model: str, side: str, observed: Mapping[str, int], tokens: Decimal | int) -> None:
        """Take a reported call for a sample; `tokens` is what the provider counted for what was `observed`."""
        default, framing = _default(observed)
        actual, key = tokens - framing, f"{provider}/{model}/{side}"
        with self._lock:
            self._own[key] = self._own.get(key, 0) + 1
            if observed.get("media") or default <= 0 or not default / _SPREAD <= actual <= default * _SPREAD:
                return
            known = self._load()
            if key not in known and len(known) >= _MOST_MODELS:
                del known[next(iter(known))]
            known.setdefault(key, _Sums()).add(default, Decimal(actual))
            self._is_changed = True

    def learn_from(self, record: Any) -> None:
        """Take a usage record for a sample, if it is a reported call that was measured."""
        observed = record.attributes.get("observed")
        if not isinstance(observed, Mapping):
            return
        with suppress(TypeError, ValueError, AttributeError, ArithmeticError):  # of another release, or by another hand
            for side, features in observed.items():
                units = SIDES.get(side, ())
                tokens = sum((record.quantities.get(unit, Decimal(0)) for unit in units), Decimal(0))
                self.learn(record.provider, record.model, side, features, tokens)

    def knows(self, provider: str, model: str, side: str) -> bool:
        """Tell whether any call of this model was ever reported in these tokens."""
        with self._lock:
            return f"{provider}/{model}/{side}" in self._load()

    def estimate(self, provider: str, model: str, side: str, observed: Mapping[str, int]) -> Estimate:
        """Return the tokens of what was observed: `bytes` and `messages` of text, or `milliseconds` of audio."""
        with self._lock:
            sums = self._load().get(f"{provider}/{model}/{side}")
        factor = sums.actual / sums.default if sums is not None and sums.default > 0 else Decimal(1)
        ratios = {
            name: (DEFAULT_RATIOS[name] * (1 if name in _FRAMING else factor)).quantize(Decimal("0.0001"))
            for name in observed
        }
        exact = sum((amount * ratios[name] for name, amount in observed.items()), Decimal(0))
        samples = 0 if sums is None else sums.samples
        inputs = {
            "observed": dict(observed),
            "ratios": {name: f"{ratio.normalize():f}" for name, ratio in ratios.items()},
            "samples": samples,
        }
        return Estimate(int(exact.to_integral_value(ROUND_HALF_EVEN)), inputs, samples)

    def save(self) -> None:
        """Replace the file by what is known now, if anything was learned; an error is logged and costs nothing."""
        with self._lock:
            if self._path is None or not self._is_changed:
                return
            models = {
                key: {"default": str(sums.default), "actual": str(sums.actual), "samples": sums.samples}
                for key, sums in self._load().items()
            }
            self._is_changed = False
        draft = self._path.with_suffix(".tmp")
        try:
            descriptor = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"format": _FORMAT, "models": models}, file)
            draft.replace(self._path)
        except OSError as error:
            log().warning("calibration of estimates is not saved", error=error.strerror or str(error))

    def _load(self) -> dict[str, _Sums]:
        if self._known is None:
            self._known = {} if self._path is None else _read(self._path)
        return self._known


def text_of_prompt(items: Iterable[Any], tools: Iterable[Any], instructions: str = "") -> dict[str, int]:
    """Return what a prompt's size is estimated by: bytes of all its text and of its tools, and how many messages.

    Pictures and sounds (`media`) are counted and stand for no tokens: how many they are nobody can tell from outside.
    """
    size, messages, media = len(instructions.encode()), int(bool(instructions)), 0
    for item in items:
        fields = getattr(item, "__dict__", {})  # to ask a pydantic object for what it lacks takes 5 us each time
        parts = [fields.get("name"), fields.get("arguments"), fields.get("output")]
        content = fields.get("content")
        parts += content if isinstance(content, list) else [content]
        lengths = [len(part.encode()) for part in parts if isinstance(part, str)]
        media += sum(part is not None and not isinstance(part, str) for part in parts)
        if lengths:
            size, messages = size + sum(lengths), messages + 1
    prompt = {"bytes": size + sum(map(_tool_bytes, tools)), "messages": messages}
    return {**prompt, "media": media} if media else prompt


_tool_sizes: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def _tool_bytes(tool: Any) -> int:
    try:
        size = _tool_sizes.get(tool)
    except TypeError:
        return len(json.dumps(tool, default=lambda _: ""))  # a plain mapping, or a provider's own without room
    if size is None:
        size = len(json.dumps(_tool_description(tool), default=str))
        _tool_sizes[tool] = size
    return size


def _tool_description(tool: Any) -> Any:
    if (raw := getattr(getattr(tool, "info", None), "raw_schema", None)) is not None:
        return raw
    describe = find("livekit.agents.llm.utils", "build_legacy_openai_schema")
    try:
        return describe(tool)
    except Exception:
        return {"name": getattr(getattr(tool, "info", None), "name", "")}  # a provider's own tool has no schema here


def _default(observed: Mapping[str, int]) -> tuple[Decimal, Decimal]:
    amounts = {name: DEFAULT_RATIOS.get(name, Decimal(0)) * amount for name, amount in observed.items()}
    framing = sum((amount for name, amount in amounts.items() if name in _FRAMING), Decimal(0))
    return sum(amounts.values(), Decimal(0)) - framing, framing


def _read(path: Path) -> dict[str, _Sums]:
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != _FORMAT:
            log().warning("calibration of estimates is of another release and starts anew", file=path.name)
            return {}
        known = {
            key: _Sums(Decimal(sums["default"]), Decimal(sums["actual"]), int(sums["samples"]))
            for key, sums in content["models"].items()
        }
        return {key: sums for key, sums in known.items() if sums.is_sound()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        log().warning("calibration of estimates cannot be read and starts anew", file=path.name)
        return {}
