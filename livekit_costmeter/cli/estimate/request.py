"""
What `costmeter estimate` was asked: options checked and made into models, owners and a call.

Invariant: options that contradict each other are refused, and so are a number that no call can have, and the owner of
work that there is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from math import prod
from typing import Any

import click
from click.core import ParameterSource

from livekit_costmeter.billing.estimates.profiles import PHONE, CallProfile, Supplier, call_leg
from livekit_costmeter.records import round_quantity

MODELS = ("llm", "stt", "tts", "realtime")
OWNED = (*MODELS, "telephony")
NONE = "none"
DEFAULTS = {"stt": "deepgram/nova-3", "llm": "openai/gpt-4o-mini", "tts": "elevenlabs/eleven_flash_v2_5"}
MOST_COMBINATIONS = 60
_TURNS_PER_MINUTE = 2
_MINUTE = Decimal(60)
_OF_A_CALL = {
    "minutes": "--minutes",
    "talk_ratio": "--talk-ratio",
    "turns": "--turns",
    "input_tokens": "--input-tokens",
    "cached_input_tokens": "--cached-input-tokens",
    "output_tokens": "--output-tokens",
    "characters": "--characters",
    "characters_per_minute": "--characters-per-minute",
    "channel": "--channel",
    "show_records": "--show-records",
}
_OF_A_LEDGER = {"since": "--since", "until": "--until", "agent": "--agent", "sink_name": "--sink"}


class Amount(click.ParamType[Decimal]):
    """A decimal number within bounds."""

    name = "number"

    def __init__(self, least: str, most: str, *, above: bool = False) -> None:
        self._least, self._most, self._above = Decimal(least), Decimal(most), above

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read the option's text."""
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            self.fail(f"{value!r} is not a number", param, ctx)
        if number.is_nan() or not self._least <= number <= self._most or (self._above and number == self._least):
            low = f"more than {self._least}" if self._above else f"{self._least}"
            self.fail(f"{value} is not {low} to {self._most:,f}", param, ctx)
        return number


class Length(Amount):
    """The length of a call in seconds, given in minutes or as `M:SS`."""

    name = "minutes"

    def __init__(self) -> None:
        super().__init__("0", "1440", above=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read the option's text."""
        minutes, colon, seconds = str(value).partition(":")
        if not colon:
            return round_quantity(super().convert(value, param, ctx) * _MINUTE)
        if not (minutes.isascii() and minutes.isdigit() and re.fullmatch("[0-5][0-9]", seconds)):
            self.fail(f"{value!r} is not minutes, such as 3.5 or 3:05", param, ctx)
        whole = Decimal(int(minutes) * 60 + int(seconds))
        super().convert(whole / _MINUTE, param, ctx)
        return whole


@dataclass(frozen=True, slots=True)
class Request:
    """Which models are compared, by component, whose keys are assumed, and the call, unless a ledger describes it."""

    choices: Mapping[str, Sequence[Supplier]]
    owners: Mapping[str, str]
    profile: CallProfile | None


def parse(options: Mapping[str, Any], plans: int) -> Request:
    """Check the options of the command; `plans` is how many plans are compared.

    Raises:
        UsageError: They contradict each other, or ask for too much.
    """
    like_ledger = options["like_ledger"]
    _refuse(_OF_A_CALL if like_ledger else _OF_A_LEDGER, like_ledger=like_ledger)
    owners = _owners(options["owner"])
    choices = _recorded_choices(options, owners) if like_ledger else _choices(options, owners)
    combinations = prod(len(suppliers) for suppliers in choices.values()) * max(plans, 1)
    if combinations > MOST_COMBINATIONS:
        raise click.UsageError(
            f"{combinations} combinations of models and plans are more than {MOST_COMBINATIONS}; name fewer of them"
        )
    if not like_ledger:
        _check_described(options, choices)
    by_component = {"call" if name == "telephony" else name: owner for name, owner in owners.items()}
    return Request(choices, by_component, None if like_ledger else _profile(options))


def _refuse(names: Mapping[str, str], *, like_ledger: bool) -> None:
    context = click.get_current_context()
    for name, option in names.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            reason = "describes a call; the ledger does that" if like_ledger else "needs --like-ledger"
            raise click.UsageError(f"{option} {reason}")


def _check_described(options: Mapping[str, Any], choices: Mapping[str, Sequence[Supplier]]) -> None:
    for text in options["owner"]:
        name = text.partition("=")[0]
        if name != "all" and name not in choices and not (name == "telephony" and options["telephony"]):
            raise click.UsageError(f"--owner {text}: this call has no {name}")
    if options["number_type"] and channel_of(options) not in PHONE:
        raise click.UsageError("--number-type needs a call on the phone")
    named = click.get_current_context().get_parameter_source("characters_per_minute")
    if options["characters"] is not None and named is ParameterSource.COMMANDLINE:
        raise click.UsageError("--characters and --characters-per-minute say the same; give one of them")


def _owners(texts: Sequence[str]) -> dict[str, str]:
    owners: dict[str, str] = {}
    for text in texts:
        name, _, owner = text.partition("=")
        if name not in (*OWNED, "all") or not owner:
            raise click.BadParameter(f"{text!r} is not COMPONENT=NAME with one of {', '.join(OWNED)}, all")
        owners[name] = owner
    everything = owners.pop("all", None)
    return owners if everything is None else {name: owners.get(name, everything) for name in OWNED}


def _choices(options: Mapping[str, Any], owners: Mapping[str, str]) -> dict[str, list[Supplier]]:
    channel = channel_of(options)
    defaults = {} if options["realtime"] else DEFAULTS
    choices: dict[str, list[Supplier]] = {}
    for component in MODELS:
        if channel == "chat" and component != "llm":
            if options[component]:
                raise click.UsageError(f"--{component} has no work in a chat, which is text only")
            continue
        given = options[component] or [defaults.get(component, NONE)]
        if tuple(given) != (NONE,):
            choices[component] = [_supplier(component, text, owners.get(component, "platform")) for text in given]
    if channel not in PHONE and options["telephony"]:
        raise click.UsageError(f"--telephony carries no call of the channel {channel}")
    carriers = [None if name == NONE else name for name in options["telephony"] or (None,)]
    choices["call"] = [call_leg(channel, carrier, owners.get("telephony", "platform")) for carrier in carriers]
    return choices


def _recorded_choices(options: Mapping[str, Any], owners: Mapping[str, str]) -> dict[str, list[Supplier]]:
    choices = {
        component: [_supplier(component, text, owners.get(component)) for text in options[component]]
        for component in MODELS
        if options[component]
    }
    if options["telephony"]:
        owner = owners.get("telephony")
        choices["call"] = [Supplier("call", carrier, "", owner) for carrier in options["telephony"]]
    return choices


def _supplier(component: str, text: str, owner: str | None) -> Supplier:
    provider, _, model = text.partition("/")
    if not provider or not model:
        raise click.UsageError(f"--{component} {text!r} is not PROVIDER/MODEL, such as {DEFAULTS['llm']}")
    return Supplier(component, provider, model, owner)


def channel_of(options: Mapping[str, Any]) -> str:
    """Return the channel: the one asked for, else a phone call in if there is a carrier, else the web."""
    return options["channel"] or ("inbound" if options["telephony"] else "web")


def _profile(options: Mapping[str, Any]) -> CallProfile:
    seconds: Decimal = options["minutes"]
    spoken = seconds * options["talk_ratio"] * options["characters_per_minute"] / _MINUTE
    characters = options["characters"]
    turns = options["turns"]
    return CallProfile(
        seconds=seconds,
        talk_ratio=options["talk_ratio"],
        turns=max(int(seconds * _TURNS_PER_MINUTE / _MINUTE), 1) if turns is None else turns,
        input_tokens=options["input_tokens"],
        cached_input_tokens=options["cached_input_tokens"],
        output_tokens=options["output_tokens"],
        characters=int(spoken.to_integral_value()) if characters is None else characters,
        channel=channel_of(options),
        number_type=options["number_type"],
    )
