"""
One call described by a few numbers, and the usage records that such a call leaves.

The call lasts `seconds`, from answer to hang-up. The agent speaks `talk_ratio` of them, the user the rest. In each of
`turns` turns the language model is asked once, with `input_tokens` and `output_tokens`. Speech recognition listens to
the whole call on one connection. What the agent says is `characters` long, spread evenly over the turns.

What is billed in tokens of audio gets them from the seconds: 10 a second heard and 20 a second spoken (OpenAI's
figures), 25 and 25 with Google. A realtime model is given everything said so far in each turn: the new audio as input,
the earlier one as cached input, up to the 28,672 tokens that such a conversation keeps. Four characters are a token.

Invariant: quantities are those that a live call has, in the same units, so that rating treats both alike. Each record
is a whole operation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, cast, get_args

from livekit_costmeter.records import PLATFORM, UNKNOWN, Component, UsageRecord, round_quantity

Quantities = Mapping[str, Decimal]

PHONE = frozenset({"inbound", "outbound"})
CHANNELS = ("inbound", "outbound", "web", "chat")
COMPONENTS: tuple[str, ...] = get_args(Component)
NO_CARRIER = "webrtc"
CALL_ID = "estimate"

_ONE = Decimal(1)
_CHARACTERS_PER_TOKEN = Decimal(4)
_TOKENS_PER_SECOND: Mapping[str, tuple[int, int]] = {"google": (25, 25)}
_OTHERS = (10, 20)
_KEPT_TOKENS = 28_672
_DERIVED = {
    "stt": ("input_audio_tokens", "output_tokens"),
    "tts": ("input_tokens", "output_audio_tokens"),
}


@dataclass(frozen=True, slots=True)
class Supplier:
    """The model that does a component's work, and whose key pays for it; of a call, the carrier and the channel.

    In the place of recorded work, an owner of `None` and an empty model stay as recorded.
    """

    component: str
    provider: str
    model: str
    owner: str | None = PLATFORM

    @property
    def name(self) -> str:
        """Return `provider/model`."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class CallProfile:
    """What one call is made of; tokens are per turn, characters per call."""

    seconds: Decimal
    talk_ratio: Decimal
    turns: int
    input_tokens: int
    output_tokens: int
    characters: int
    cached_input_tokens: int = 0
    channel: str = "web"
    number_type: str | None = None

    @property
    def spoken_seconds(self) -> Decimal:
        """Return how long the agent speaks."""
        return round_quantity(self.seconds * self.talk_ratio)


def call_leg(channel: str, carrier: str | None, owner: str = PLATFORM) -> Supplier:
    """Return who carries the call: nobody on the web and in a chat, else the carrier, which may not be known."""
    if channel not in PHONE:
        return Supplier("call", NO_CARRIER, channel)
    return Supplier("call", carrier, channel, owner) if carrier else Supplier("call", UNKNOWN, channel, UNKNOWN)


def call_records(
    profile: CallProfile, suppliers: Iterable[Supplier], at: datetime, account: str | None = None
) -> Iterator[UsageRecord]:
    """Yield the records of one call, work by work in the order of the suppliers."""
    for supplier in suppliers:
        for number, quantities in enumerate(_WORK[supplier.component](profile, supplier.provider)):
            yield UsageRecord(
                id=f"estimate-{supplier.component}-{number}",
                at=at,
                component=cast("Component", supplier.component),
                provider=supplier.provider,
                model=supplier.model,
                quantities={unit: amount for unit, amount in quantities.items() if amount},
                key_owner=supplier.owner or UNKNOWN,
                account=account,
                session_id=CALL_ID,
                attributes=_attributes(profile, supplier.component),
            )


def with_audio_tokens(component: str, provider: str, quantities: Quantities) -> Quantities:
    """Complete seconds and characters by the tokens of audio and text that they are; those there already are replaced.

    Only speech recognition and synthesis are billed in either, by model.
    """
    if component not in _DERIVED:
        return quantities
    heard, spoken = _TOKENS_PER_SECOND.get(provider, _OTHERS)
    known = {unit: amount for unit, amount in quantities.items() if not unit.endswith("_tokens")}
    seconds = known.get("audio_seconds" if component == "stt" else "output_audio_seconds")
    if seconds is None:  # tokens of audio that another record has the seconds of
        return known
    audio = _whole(seconds * (heard if component == "stt" else spoken))
    if component == "stt":
        return {**known, "input_audio_tokens": audio, "output_tokens": _whole(seconds * _WORDS_HEARD)}
    text = _whole(known.get("characters", Decimal(0)) / _CHARACTERS_PER_TOKEN)
    return {**known, "input_tokens": text, "output_audio_tokens": audio}


# Of a transcript, per second of audio: at 150 words a minute and four tokens to three words.
_WORDS_HEARD = Decimal("3.3")


def _attributes(profile: CallProfile, component: str) -> Mapping[str, Any]:
    if component != "call":
        return {}
    number_type = {"number_type": profile.number_type} if profile.number_type else {}
    return {"leg": "primary", **number_type}


def _listening(profile: CallProfile, provider: str) -> Iterator[Quantities]:
    stream = {"audio_seconds": profile.seconds, "connection_seconds": profile.seconds}
    yield with_audio_tokens("stt", provider, stream)


def _thinking(profile: CallProfile, _provider: str) -> Iterator[Quantities]:
    request = {
        "input_tokens": Decimal(profile.input_tokens),
        "cached_input_tokens": Decimal(profile.cached_input_tokens),
        "output_tokens": Decimal(profile.output_tokens),
    }
    for _ in range(profile.turns):
        yield request


def _speaking(profile: CallProfile, provider: str) -> Iterator[Quantities]:
    characters = _evenly(Decimal(profile.characters), profile.turns, _ONE)
    seconds = _evenly(profile.spoken_seconds, profile.turns, Decimal("1e-9"))
    for length, time in zip(characters, seconds, strict=True):
        if length:
            yield with_audio_tokens("tts", provider, {"characters": length, "output_audio_seconds": time})


def _conversing(profile: CallProfile, provider: str) -> Iterator[Quantities]:
    yield {"session_seconds": profile.seconds}
    per_second = _TOKENS_PER_SECOND.get(provider, _OTHERS)
    heard = _whole((profile.seconds - profile.spoken_seconds) * per_second[0] / profile.turns)
    spoken = _whole(profile.spoken_seconds * per_second[1] / profile.turns)
    for turn, request in enumerate(_thinking(profile, provider)):
        yield {
            **request,
            "input_audio_tokens": heard,
            "cached_input_audio_tokens": min((heard + spoken) * turn, Decimal(_KEPT_TOKENS)),
            "output_audio_tokens": spoken,
        }


def _calling(profile: CallProfile, _provider: str) -> Iterator[Quantities]:
    yield {"call_seconds": profile.seconds}
    if profile.channel == "chat":
        for _ in range(profile.turns):
            yield {"messages": _ONE}


_WORK = {"stt": _listening, "llm": _thinking, "tts": _speaking, "realtime": _conversing, "call": _calling}


def _evenly(total: Decimal, parts: int, step: Decimal) -> Sequence[Decimal]:
    """Split into whole steps that differ by one at most and add up."""
    steps = int(total / step)
    each, rest = divmod(steps, parts)
    return [(each + (number < rest)) * step for number in range(parts)]


def _whole(tokens: Decimal) -> Decimal:
    return tokens.to_integral_value()
