"""
The shape of `costmeter.yaml`.

Invariant: what is not named here is refused; every default is the documented one. Pydantic is used because outside
data enters here; the rest of the package gets plain values from `compose`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from livekit_costmeter.records import UNKNOWN, parse_size

_TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0}
_ROOTS = ("job.metadata.", "room.name", "room.metadata.", "participant.attributes.", "agent.name")
_FINGERPRINT = re.compile(r"[0-9a-f]{12}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _seconds(value: Any) -> Any:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m)", str(value))
    if match is None:
        raise ValueError("expected a duration such as 500ms or 5s")
    return float(match.group(1)) * _TIMES[match.group(2)]


def _path(value: Any) -> Any:
    if not isinstance(value, str) or not (value in _ROOTS or any(value.startswith(r) for r in _ROOTS if r[-1] == ".")):
        raise ValueError(
            f"expected a path that starts with {', '.join(r + '*' if r[-1] == '.' else r for r in _ROOTS)}"
        )
    return value


Size = Annotated[int, BeforeValidator(parse_size)]
Seconds = Annotated[float, BeforeValidator(_seconds)]
ContextPath = Annotated[str, BeforeValidator(_path)]
Text = Annotated[str, Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Attribution(_Section):
    """Where account, project and labels come from when nobody attaches them."""

    account: ContextPath | None = None
    project: ContextPath | None = None
    labels: dict[str, ContextPath] = {}


class Key(_Section):
    """Whose key it is: selected by exactly one of `env`, `fingerprint` and `provider` (cloud credentials)."""

    owner: Text
    env: Text | None = None
    fingerprint: Text | None = None
    provider: Text | None = None
    account: Text | None = None
    billed_by: Literal["provider", "platform", "livekit"] | None = None

    @model_validator(mode="after")
    def _one_selector(self) -> Self:
        if sum(value is not None for value in (self.env, self.fingerprint, self.provider)) != 1:
            raise ValueError("needs exactly one of env, fingerprint, provider")
        if self.fingerprint is not None and not _FINGERPRINT.match(self.fingerprint):
            # Not quoted: it may be a key that somebody pasted here.
            raise ValueError("fingerprint is 12 hex digits; `costmeter keys fingerprint` prints it")
        if self.env is not None and not _VARIABLE.match(self.env):
            raise ValueError("env is the name of an environment variable")
        return self


class Telephony(_Section):
    """Whose number a call leg is on: the first entry that fits trunk, number (both globs) and direction decides.

    `number` is our own number, never the caller's.
    """

    trunk: Text = "*"
    number: Text = "*"
    direction: Literal["inbound", "outbound"] | None = None
    provider: Text | None = None
    owner: Text = UNKNOWN
    number_type: Text | None = None
    account: Text | None = None


class Pricing(_Section):
    """Where prices come from, first hit wins: rate cards, then the package's overrides, then catalogs."""

    rate_cards: list[Path] = []
    catalogs: list[Text] = ["genai-prices", "voice-prices"]
    livekit_plan: Literal["build", "ship", "scale"] = "ship"


class AccountTerms(_Section):
    """What is agreed with one account."""

    plan: Text | None = None
    priority: bool | None = None


def _terms(value: Any) -> Any:
    return {"plan": value} if isinstance(value, str) else value


class BillingSettings(_Section):
    """What accounts are charged: plan files, and who is on which plan."""

    plans: Annotated[list[Text], Field(min_length=1)]
    default: Text | None = None
    accounts: dict[str, Annotated[AccountTerms, BeforeValidator(_terms)]] = {}
    priority: bool = False
    # Rows of `billing.schema`, which reads them: an agent does not pay for it.
    exchange_rates: list[dict[str, Any]] = []


class PrivacySettings(_Section):
    """How phone numbers are written."""

    phone_numbers: Literal["masked", "hash", "full"] = "masked"


class SpoolSettings(_Section):
    """Where usage waits for its sinks."""

    dir: Path = Path("./.costmeter/spool")
    fsync: Seconds = 0.5
    max_bytes: Size = 1 << 30


class Settings(_Section):
    """The whole file."""

    project: Text | None = None
    account: Text | None = None
    labels: dict[str, str] = {}
    attribution: Attribution = Attribution()
    keys: list[Key] = []
    telephony: list[Telephony] = []
    pricing: Pricing = Pricing()
    # Rows of `pricing.policies`, which reads them: an agent without any does not pay for their schema.
    policies: list[dict[str, Any]] = []
    billing: BillingSettings | None = None
    # Read by `config.reconcile`, when a command compares: an agent does not pay for it.
    reconcile: dict[str, Any] = {}
    privacy: PrivacySettings = PrivacySettings()
    taps: Literal["streams", "listeners"] = "streams"
    spool: SpoolSettings = SpoolSettings()
    # Not in the repr: options may hold passwords that environment variables expanded to.
    sinks: Annotated[list[dict[str, Any]], Field(min_length=1, repr=False)] = [
        {"type": "sqlite", "path": "./costmeter.db"}
    ]
