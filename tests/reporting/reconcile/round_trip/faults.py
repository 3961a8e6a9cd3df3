"""The eleven faults, each put into one side of the facts; and the class that a finding has to name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from math import ceil
from random import Random

from tests.reporting.reconcile.round_trip.facts import DAYS, START, Facts, Operation, happen

_LLM = ("openai", "anthropic")
_COUNTED = ("openai", "anthropic", "deepgram", "elevenlabs", "twilio")
_PRICED = ("openai", "anthropic", "deepgram")
Fault = Callable[[Random, Facts], None]


def _models(facts: Facts) -> list[str]:
    return sorted({operation.model for operation in facts.theirs})


def discount(rng: Random, facts: Facts) -> None:
    """All prices are lower for this customer."""
    factor = 1 - rng.choice((3, 5, 8, 10, 15, 20)) / 100
    for units in facts.rates.values():
        for unit in units:
            units[unit] *= factor


def stale_catalog(rng: Random, facts: Facts) -> None:
    """One model has another price, from the beginning or from a day on."""
    model = rng.choice(_models(facts))
    day = rng.choice((0, rng.randint(5, 20)))
    factor = rng.choice((0.5, 0.75, 0.83, 1.2, 1.5, 2.0))
    facts.rate_changes[model] = (START + timedelta(days=day), factor)


def missed_usage(rng: Random, facts: Facts) -> None:
    """Some of what happened was not recorded."""
    share, model = rng.uniform(0.03, 0.25), rng.choice([None, *_models(facts)])
    facts.ours = [o for o in facts.ours if (model and o.model != model) or rng.random() > share]


def other_client(rng: Random, facts: Facts) -> None:
    """Somebody else works with the same account: on a key of their own, or on ours."""
    other = happen(rng, facts.vendor, calls_a_day=rng.randint(2, 5))
    key = rng.choice(("key_other", "key_ours"))
    facts.theirs = sorted(
        [*facts.theirs, *(replace(o, id=f"other-{o.id}", key=key) for o in other.theirs)], key=lambda o: o.end
    )


def double_counting(rng: Random, facts: Facts) -> None:
    """Some records were written twice."""
    share = rng.uniform(0.02, 0.25)
    facts.twice = frozenset(o.id for o in facts.ours if rng.random() < share)


def incomplete(rng: Random, facts: Facts) -> None:
    """The last days are not in the export yet, or in part."""
    days = rng.randint(1, 3)
    facts.late = {DAYS - 1 - back: rng.choice((0.0, rng.uniform(0, 0.6))) for back in range(days)}


def wrong_model(rng: Random, facts: Facts) -> None:
    """Some work of one model is in the ledger under another one of its kind."""
    kinds: dict[str, list[str]] = {}
    for operation in facts.theirs:
        models = kinds.setdefault(operation.component, [])
        if operation.model not in models:
            models.append(operation.model)
    choices = [sorted(models) for models in kinds.values() if len(models) > 1]
    true, said = rng.sample(rng.choice(choices), 2)
    share = rng.uniform(0.3, 1.0)
    facts.ours = [replace(o, model=said) if o.model == true and rng.random() < share else o for o in facts.ours]


def wrong_modality(rng: Random, facts: Facts) -> None:
    """Tokens of audio are in the ledger as tokens of text."""
    share = rng.uniform(0.3, 1.0)

    def mistaken(operation: Operation) -> Operation:
        if "input_audio_tokens" not in operation.quantities or rng.random() > share:
            return operation
        amounts = dict(operation.quantities)
        for audio, text in (("input_audio_tokens", "input_tokens"), ("output_audio_tokens", "output_tokens")):
            amounts[text] += amounts[audio]
            amounts[audio] = 0
        return replace(operation, quantities=amounts)

    facts.ours = [mistaken(o) for o in facts.ours]


def billing_increment(rng: Random, facts: Facts) -> None:
    """The provider bills whole steps, or some seconds on top of each stream."""
    steps = (60,) if facts.vendor == "twilio" else (10, 15, 30, 60)
    step, more = rng.choice(steps), rng.uniform(2, 6)
    rounded = facts.vendor == "twilio" or rng.random() < 0.6
    facts.billed = (lambda seconds: ceil(seconds / step) * step) if rounded else (lambda seconds: seconds + more)


def day_boundary(rng: Random, facts: Facts) -> None:
    """The provider's days are those of another time zone."""
    facts.shift = timedelta(hours=rng.choice((-8, -7, -5, -4, 1, 2, 5.5, 8, 9)))


def estimated(rng: Random, facts: Facts) -> None:
    """A large part is estimated, and the estimates are off."""
    share = rng.uniform(0.15, 0.35)
    facts.estimate_bias = rng.choice((0.4, 0.55, 1.5, 1.8))
    facts.ours = [replace(o, interrupted=o.interrupted or rng.random() < share) for o in facts.ours]


FAULTS: dict[str, tuple[Fault, tuple[str, ...], str]] = {
    "discount": (discount, _PRICED, "rate"),
    "stale_catalog": (stale_catalog, _PRICED, "rate"),
    "missed_usage": (missed_usage, _COUNTED, "unseen"),
    "other_client": (other_client, _COUNTED, "unseen"),
    "double_counting": (double_counting, _COUNTED, "doubled"),
    "incomplete": (incomplete, _COUNTED, "incomplete"),
    "wrong_model": (wrong_model, ("openai", "anthropic", "deepgram", "elevenlabs"), "model"),
    "wrong_modality": (wrong_modality, ("openai",), "modality"),
    "billing_increment": (billing_increment, ("deepgram", "twilio"), "increment"),
    "day_boundary": (day_boundary, _COUNTED, "boundary"),
    "estimated": (estimated, _LLM, "estimated"),
}
"""What it does, the vendors whose exports can show it, and its class."""
