"""
The `reconcile` section of `costmeter.yaml`: what comparing with a provider's numbers needs to know.

    reconcile:
      thresholds: {llm: 5, stt: 2, tts: 3}      # percent of the provider's cost
      aliases: {gpt-4o-audio: gpt-4o-mini-audio} # the provider's name of a model: the ledger's
      keys: {key_abc123: platform}               # the provider's id of an API key: key owner, or key id
      formats: []                                # other CSV files (see `reporting.reconcile.parsers.mapping`)
      apis: {openai: {url: "https://proxy.example/v1"}}

Invariant: read only by the command that needs it, so that an agent does not pay for it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from livekit_costmeter.config import Config
from livekit_costmeter.reporting.reconcile.api import ApiSettings
from livekit_costmeter.reporting.reconcile.parsers.mapping import MappingModel

_Percent = Annotated[Decimal, Field(ge=0, le=100, allow_inf_nan=False, max_digits=10)]
_Component = Literal["stt", "llm", "tts", "realtime", "call", "all"]
_Text = Annotated[str, Field(min_length=1, max_length=200)]


class ReconcileSettings(BaseModel):
    """The section; everything has a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    thresholds: dict[_Component, _Percent] = {}
    aliases: dict[_Text, _Text] = {}
    keys: dict[_Text, _Text] = {}
    formats: list[MappingModel] = []
    apis: dict[_Text, ApiSettings] = {}


def reconcile_settings(config: Config) -> ReconcileSettings:
    """
    Read the section.

    Raises:
        ConfigError: The first mistake, with its line.
    """
    if config.document is None or not config.settings.reconcile:
        return ReconcileSettings()
    return config.document.validate(ReconcileSettings, config.settings.reconcile, ("reconcile",))
