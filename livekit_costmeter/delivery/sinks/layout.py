"""
The table `charges` as relational stores lay it out: columns, their comments, indexes, and the version of all that.

Invariant: one column per field of a charge, under its name and in its order. A layout only ever grows: `VERSION` counts
up when a column or an index is added, an older store gets what it lacks (a column without a value is NULL, as what is
unknown is), and a newer one is refused, because what this release does not know it would leave out.

The version stands in the only row of the table `costmeter_schema`. Layouts: 1 had the index on `at` alone; 2 has the
indexes that reports on one session and one account need.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from livekit_costmeter.delivery.sinks import SinkError
from livekit_costmeter.records import Charge

VERSION = 2
KEY = ("record_id", "line")
INDEXES: Mapping[str, tuple[str, ...]] = {
    "charges_at": ("at",),
    "charges_session": ("session_id",),
    "charges_account_at": ("account", "at"),
}
TABLE_COMMENT = "What usage costs, one priced line each; never changed, corrections are rows of their own"

Kind = Literal["text", "integer", "boolean", "decimal", "instant", "labels"]
_KINDS: Mapping[str, Kind] = {
    "int": "integer",
    "bool": "boolean",
    "Decimal": "decimal",
    "datetime": "instant",
    "Mapping[str, str]": "labels",
}
_COMMENTS: Mapping[str, str] = {
    "record_id": "the usage record that this is a price of",
    "line": "position among the lines of its record, from 0",
    "kind": "usage, fee, tax, purchase, credit or correction",
    "at": "when the usage was known",
    "started_at": "when the work began; prices are those of then",
    "component": "stt, llm, tts, realtime, turn_detection, interruption or call",
    "outcome": "completed, interrupted, discarded, failed or probe",
    "provider": "who did the work, by its canonical name",
    "model": "the model, by its canonical name",
    "reported_provider": "the provider as the plugin or the response named it",
    "reported_model": "the model as the plugin or the response named it",
    "operation_id": "what the records of one operation share",
    "unit": "what the quantity counts",
    "quantity": "what was measured",
    "quantity_basis": "how it is known: reported, observed, estimated or lower_bound",
    "billable_quantity": "what the rules of the provider make of the quantity",
    "unit_price": "price of price_per units",
    "price_per": "how many units the price is for",
    "cost": "what the provider charges: billable_quantity x unit_price / price_per; NULL if not known",
    "currency": "currency of cost and unit_price",
    "pricing_status": "priced, free or unpriced",
    "pricing_source": "which row of which source said so",
    "price_digest": "digest of the row that said so",
    "stale": "whether the price is older than its source should be",
    "key_id": "keyed fingerprint of the key that paid",
    "key_owner": "who holds the key that paid",
    "billed_by": "who sends the bill: provider, platform, livekit or unknown",
    "billed_cost": "what the platform puts on the bill of the account; NULL if not known",
    "billed_currency": "currency of billed_cost",
    "credits": "credits that it takes",
    "account": "who it is for",
    "project": "the project",
    "labels": "whatever else it is grouped by",
    "session_id": "the session of the agent",
    "job_id": "the job of LiveKit",
    "room": "the room",
    "agent": "the agent",
    "participant": "the participant",
    "speech_id": "the speech that it was said in",
    "corrects": "the record that a correction is about",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: what it holds, what it means, and whether every charge has it."""

    name: str
    kind: Kind
    comment: str
    required: bool


def _column(field: dataclasses.Field[object]) -> Column:
    base, _, none = str(field.type).partition(" | ")
    return Column(field.name, _KINDS.get(base, "text"), _COMMENTS[field.name], required=not none)


COLUMNS: tuple[Column, ...] = tuple(_column(field) for field in dataclasses.fields(Charge))


def missing_columns(found: Collection[str]) -> list[Column]:
    """Return the columns that a table with these names lacks."""
    return [column for column in COLUMNS if column.name not in found]


def verify(place: str, version: int, found: Collection[str]) -> None:
    """Refuse a store that this release cannot write whole charges to.

    Raises:
        SinkError: The layout is of a newer release, or a column is not there.
    """
    if version > VERSION:
        raise SinkError(
            f"{place}: layout {version} is of a newer release, this one writes layout {VERSION}: upgrade it"
        )
    missing = ", ".join(column.name for column in missing_columns(found))
    if missing:
        raise SinkError(f"{place}: layout {version}, but the table charges has no column {missing}")
