"""
Answers of language models: text, tool calls and usage as they stream in, for every plugin.

Invariant: one record per attempt that cost something. Where the provider's usage came, it is taken as reported, also
when LiveKit drops it; else prompt and answer are estimated from what was sent and seen. Reasoning out of sight is
never guessed: the estimate of a model that may reason is a lower bound.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from livekit_costmeter.metering.estimates import Calibration, text_of_prompt
from livekit_costmeter.metering.hooks import internals
from livekit_costmeter.metering.operations.attempts import is_cancellation, may_have_cost, was_refused
from livekit_costmeter.metering.readers import Fields, token_units

Append = Callable[[Any, Fields], None]
"""(component, fields of the record)."""
Identity = Callable[[Any], tuple[str, str]]
"""Component to canonical provider and model."""

OPERATION = "_livekit_costmeter"
"""The attribute by which a stream holds what is counted of it."""
_REASONS = re.compile(
    r"(^|[/.-])(o[1-9]|gpt-5|gpt-oss|deepseek-r|qwq|magistral)|think|reason|gemini-(2\.5|3)", re.IGNORECASE
)
"""Models that may think before they speak, by name: what is known before the first reported call."""


class Generation:
    """One LLM stream: its current attempt, and what came in it."""

    __slots__ = (
        *("bytes", "chunks", "has_failed", "is_cancelled", "is_running", "request_id", "started_at", "stream"),
        *("tier", "usage"),
    )

    def __init__(self, stream: Any, now: float) -> None:
        self.stream: Any = stream
        self.has_failed = False
        self.reset(now)

    def reset(self, now: float) -> None:
        """Start from nothing: a new attempt, or one that is recorded."""
        self.started_at = now
        self.bytes = self.chunks = 0
        self.request_id = ""
        self.usage: Any = None
        self.tier: str | None = None
        self.is_running = self.is_cancelled = False


class GenerationMeter:
    """Follows every LLM stream of the process; keeps nothing of one that has ended."""

    def __init__(
        self,
        append: Append,
        identity: Identity,
        *,
        calibration: Calibration,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._append = append
        self._identity = identity
        self._calibration = calibration
        self._clock = clock
        self._reasoning: set[str] = set()

    def begun(self, stream: Any) -> Generation:
        """Return the generation of a stream; it lives on the stream."""
        known: Generation | None = getattr(stream, OPERATION, None)
        if known is None:
            known = Generation(stream, self._clock())
            setattr(stream, OPERATION, known)
        return known

    def attempt(self, generation: Generation) -> None:
        """Start to count an attempt."""
        generation.reset(self._clock())
        generation.is_running = True

    def received(self, generation: Generation, chunk: Any) -> None:
        """Count one chunk of the answer."""
        generation.chunks += 1
        delta = chunk.delta
        if delta is not None:
            if content := delta.content:
                generation.bytes += len(content) if content.isascii() else len(content.encode())
            if delta.tool_calls:
                generation.bytes += sum(len(call.name) + len(call.arguments or "") for call in delta.tool_calls)
        if chunk.usage is not None:
            generation.usage, generation.request_id = chunk.usage, chunk.id
            generation.tier = getattr(chunk.usage, "service_tier", None)
        elif generation.chunks == 1:
            generation.request_id = chunk.id

    def attempt_failed(self, generation: Generation, error: BaseException) -> None:
        """Record an attempt that failed and may have cost something; one that was cancelled ends with its stream."""
        if generation.stream is None:
            return
        if is_cancellation(error):
            generation.is_cancelled = generation.is_running
            return
        if generation.chunks or (may_have_cost(error) and not was_refused(error)):
            self._record(generation, "failed")
            generation.has_failed = True
        generation.reset(self._clock())

    def reported(self, generation: Generation, component: Any, fields: Fields) -> bool:
        """Add to LiveKit's own reading what only the stream knows, and end the attempt.

        LiveKit keeps the last usage of all attempts: return False where it is that of one that failed, and is recorded.
        """
        if generation.has_failed and generation.usage is None:
            return False
        if generation.is_cancelled:
            fields["outcome"] = "interrupted"
        if generation.tier is not None:
            fields["service_tier"] = generation.tier
        if generation.usage is not None and (quantities := token_units(generation.usage)):
            # Older releases leave some units out of their metrics.
            fields["quantities"] = fields["operation_total"] = quantities
            fields["basis"] = dict.fromkeys(quantities, "reported")
        provider, model = self._identity(component)
        if "reasoning_tokens" in fields["quantities"]:
            self._reasoning.add(model)
        has_prompt = generation.bytes and generation.stream is not None
        if has_prompt and self._calibration.is_wanted(provider, model):
            prompt = text_of_prompt(*internals.prompt_of(generation.stream))
            answer = {"bytes": generation.bytes}
            fields["attributes"] = {**fields.get("attributes", {}), "observed": {"input": prompt, "output": answer}}
            self._learn(provider, model, prompt, answer, fields["quantities"])
        generation.reset(self._clock())
        return True

    def ended(self, generation: Generation) -> None:
        """Record what was asked and answered in the last attempt, if LiveKit reported nothing of it."""
        stream = generation.stream
        try:
            if generation.is_cancelled or generation.chunks:
                self._record(generation, "interrupted" if generation.is_cancelled else "completed")
        finally:
            generation.reset(self._clock())
            # Tasks inherit this generation with their context, its own monitor too: it must not keep the stream.
            generation.stream = None
            setattr(stream, OPERATION, None)

    def _learn(self, provider: str, model: str, prompt: Any, answer: Any, quantities: dict[str, str]) -> None:
        units = ("input_tokens", "cached_input_tokens", "cache_write_tokens")
        self._calibration.learn(provider, model, "input", prompt, sum(int(quantities.get(unit, 0)) for unit in units))
        self._calibration.learn(provider, model, "output", answer, int(quantities.get("output_tokens", 0)))

    def _record(self, generation: Generation, outcome: str) -> None:
        stream, now = generation.stream, self._clock()
        component = internals.component_of(stream)
        fields: Fields = {"at": now, "started_at": generation.started_at, "outcome": outcome}
        if generation.request_id:
            fields["operation_id"] = generation.request_id
        if generation.tier is not None:
            fields["service_tier"] = generation.tier
        if generation.usage is not None and (quantities := token_units(generation.usage)):
            fields["quantities"] = quantities
            fields["basis"] = dict.fromkeys(quantities, "reported")
        else:
            fields |= self._estimated(component, generation)
        fields["operation_total"] = fields["quantities"]
        self._append(component, fields)

    def _estimated(self, component: Any, generation: Generation) -> Fields:
        provider, model = self._identity(component)
        sides = {"input_tokens": ("input", text_of_prompt(*internals.prompt_of(generation.stream)))}
        if generation.bytes:
            sides["output_tokens"] = ("output", {"bytes": generation.bytes})
        estimates = {
            unit: self._calibration.estimate(provider, model, side, seen) for unit, (side, seen) in sides.items()
        }
        may_reason = model in self._reasoning or _REASONS.search(model) is not None
        basis = dict.fromkeys(estimates, "estimated")
        if "media" in sides["input_tokens"][1]:
            basis["input_tokens"] = "lower_bound"
        if may_reason:
            estimates.setdefault("output_tokens", self._calibration.estimate(provider, model, "output", {"bytes": 0}))
            basis["output_tokens"] = "lower_bound"
        return {
            "quantities": {unit: str(estimate.tokens) for unit, estimate in estimates.items()},
            "basis": basis,
            "attributes": {"estimate": {unit: estimate.inputs for unit, estimate in estimates.items()}},
        }
