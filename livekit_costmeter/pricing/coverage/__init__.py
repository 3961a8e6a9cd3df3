"""
Which of the models that LiveKit's plugins declare have a price, in a unit that is measured for them.

The list of models is `declared.csv` (columns `group, plugin, component, model, default, emits, reported_provider`),
completed by the model names in the plugins that are installed. Groups: `direct` plugins, the inference `gateway`,
`voice_id` where a voice is the model, `preset` for the OpenAI plugin's other vendors, `installed` for names that the
list does not have.

Invariant: a model counts as priced only if a record with the units its plugin gives is really rated, with no line of
the billed measure left unpriced.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from typing import cast

from livekit_costmeter.pricing.book import PriceBook
from livekit_costmeter.pricing.coverage.installed import installed_models, installed_plugins
from livekit_costmeter.pricing.rating import rate
from livekit_costmeter.records import Charge, Component, UsageRecord

# What a plugin of each kind makes measurable: what it emits, and what is observed beside it.
_UNITS: Mapping[str, tuple[str, ...]] = {
    "tokens": ("input_tokens", "cached_input_tokens", "output_tokens"),
    "seconds": ("audio_seconds", "connection_seconds"),
    "seconds+stt_tokens": ("input_audio_tokens", "output_tokens", "audio_seconds", "connection_seconds"),
    "chars+out_seconds": ("characters", "output_audio_seconds"),
    "chars+out_seconds+tts_tokens": ("input_tokens", "output_audio_tokens", "characters", "output_audio_seconds"),
    "rt_tokens": ("input_tokens", "input_audio_tokens", "output_tokens", "output_audio_tokens", "session_seconds"),
    "session": ("session_seconds",),
    "none": ("session_seconds",),
}
_EMITS: Mapping[str, str] = {"llm": "tokens", "stt": "seconds", "tts": "chars+out_seconds", "realtime": "rt_tokens"}


@dataclass(frozen=True, slots=True)
class DeclaredModel:
    """A model that a plugin declares, and what the plugin lets us measure of it."""

    group: str
    plugin: str
    component: str
    model: str
    default: bool
    emits: str
    reported_provider: str


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """Whether a declared model has a price; `source` is the price's, `reason` says why there is none.

    `installed` tells whether the plugin that declares it is there.
    """

    group: str
    plugin: str
    component: str
    model: str
    provider: str
    priced: bool
    unit: str | None
    source: str | None
    reason: str | None
    installed: bool


def declared_models() -> list[DeclaredModel]:
    """Read the shipped list."""
    text = files("livekit_costmeter.pricing.coverage").joinpath("declared.csv").read_text("utf-8")
    rows = list(csv.reader(text.splitlines()))[1:]
    return [
        DeclaredModel(group, plugin, component, model, default == "yes", emits, reported_provider)
        for group, plugin, component, model, default, emits, reported_provider in rows
    ]


def all_models() -> list[DeclaredModel]:
    """Return the shipped list and the names that only the installed plugins have."""
    declared = declared_models()
    known = {(row.component, row.model) for row in declared}
    found = [
        DeclaredModel(
            "installed", entry.plugin, entry.component, entry.model, False, _EMITS[entry.component], entry.vendor
        )
        for entry in installed_models()
        if (entry.component, entry.model) not in known
    ]
    return [*declared, *found]


def coverage(
    book: PriceBook, models: Iterable[DeclaredModel] | None = None, at: datetime | None = None
) -> list[CoverageRow]:
    """Rate a small record of every model.

    Args:
        book: The prices.
        models: By default all that are declared or installed.
        at: The time to price at, by default now.
    """
    instant = at or datetime.now(UTC)
    plugins = installed_plugins()
    return [_row(book, model, instant, plugins) for model in (all_models() if models is None else models)]


def _row(book: PriceBook, model: DeclaredModel, at: datetime, plugins: frozenset[str]) -> CoverageRow:
    charges = rate(_sample(model, at), book)
    open_lines = [charge for charge in charges if charge.pricing_status == "unpriced"]
    billed = [charge for charge in charges if charge.pricing_status != "unpriced" and not _elsewhere(charge)]
    priced = bool(billed) and not open_lines
    return CoverageRow(
        group=model.group,
        plugin=model.plugin,
        component=model.component,
        model=model.model,
        provider=charges[0].provider,
        priced=priced,
        unit=billed[0].unit if priced else None,
        source=billed[0].pricing_source if priced else None,
        reason=None if priced else (open_lines or charges)[0].pricing_source.removeprefix("unpriced:"),
        installed=model.plugin.partition(":")[0] in plugins,
    )


def _sample(model: DeclaredModel, at: datetime) -> UsageRecord:
    from livekit_costmeter.pricing.providers import identify

    plugin = model.plugin.partition(":")[0]
    label = f"livekit.plugins.{plugin}.{model.component}.Plugin"
    identity = identify(model.component, model.reported_provider, model.model, label)
    return UsageRecord(
        id="coverage",
        at=at,
        component=cast("Component", model.component),
        provider=identity.provider,
        model=identity.model,
        quantities=dict.fromkeys(_UNITS[model.emits], Decimal(10)),
    )


def _elsewhere(charge: Charge) -> bool:
    return "billed_in=" in charge.pricing_source
