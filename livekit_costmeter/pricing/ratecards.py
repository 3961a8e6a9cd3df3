"""
Prices that come from files: the user's rate cards and the shipped overrides, ready for look-up.

Invariant: the most specific row wins: an owner's own rate before a general one, an exact model before a glob, a longer
glob before a shorter one. Between cards, the one listed first wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from urllib.parse import quote

from livekit_costmeter.pricing.providers import identify
from livekit_costmeter.pricing.rates import BASE, Rate, RateSet, RateTier, digest_of, midnight, period
from livekit_costmeter.pricing.schema import OverrideModel, OverridesFile, RateCardFile, RateModel

_GLOB = frozenset("*?[")
_DIGESTED = {*RateModel.model_fields} - {"source"}


@dataclass(frozen=True, slots=True)
class _Row:
    provider: str
    pattern: str
    exact: bool
    component: str | None
    owner: str | None
    plan: str | None
    start: datetime | None
    end: datetime | None
    rate: Rate

    def applies(self, models: Sequence[str], component: str, owner: str, plan: str) -> bool:
        limits = ((self.owner, owner), (self.component, component), (self.plan, plan))
        if any(wanted not in (None, given) for wanted, given in limits):
            return False
        return any(model == self.pattern if self.exact else fnmatchcase(model, self.pattern) for model in models)

    def active(self, at: datetime) -> bool:
        return (self.start is None or self.start <= at) and (self.end is None or at < self.end)

    @property
    def rank(self) -> tuple[bool, bool, bool, int]:
        return self.owner is not None, self.exact, self.component is not None, len(self.pattern)


class RateCard:
    """A named list of rates, indexed by canonical provider."""

    def __init__(self, name: str, rows: Iterable[_Row]) -> None:
        self.name = name
        self._rows: dict[str, list[_Row]] = {}
        for row in rows:
            self._rows.setdefault(row.provider, []).append(row)

    @classmethod
    def from_model(cls, model: RateCardFile, digest: str) -> RateCard:
        """Build a card from its validated file; `digest` identifies the file's content in every source string."""
        name = f"ratecard:{model.name}@{digest}"
        return cls(model.name, [_card_row(row, name) for row in model.rates])

    def lookup(
        self, provider: str, models: Sequence[str], *, component: str, owner: str, plan: str, at: datetime
    ) -> RateSet | None:
        """Return the rates for a model, or `None`.

        Args:
            provider: Canonical provider; a host is also tried without its port.
            models: The names the model goes by, canonical and as reported.
            component: `stt`, `llm`, ...; rows may be limited to one.
            owner: Whose key paid.
            plan: `ship` or `scale`, the gateway's price list.
            at: When the work was done, aware.
        """
        names = [model.lower() for model in models]
        rows = [row for key in _provider_keys(provider) for row in self._rows.get(key, ())]
        rows = [row for row in rows if row.applies(names, component, owner, plan)]
        if not rows:
            return None
        active = sorted((row for row in rows if row.active(at)), key=lambda row: row.rank)
        since, until = period((edge for row in rows for edge in (row.start, row.end) if edge is not None), at)
        return RateSet({row.rate.unit: row.rate for row in active}, since, until)

    def rates(self) -> list[tuple[str, str, Rate]]:
        """Return every row as (provider, model pattern, rate), in file order."""
        return [(row.provider, row.pattern, row.rate) for rows in self._rows.values() for row in rows]


@cache
def shipped_overrides() -> RateCard:
    """Return the dated corrections that ship with the package, read once."""
    return overrides_card(load_overrides())


def overrides_card(rows: Iterable[OverrideModel]) -> RateCard:
    """Build the look-up table of these override rows."""
    return RateCard("overrides", [_override_row(row) for row in rows])


def load_overrides() -> list[OverrideModel]:
    """Read and validate the shipped override files.

    Raises:
        ValidationError: A shipped file is not what the schema says.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    folder = files("livekit_costmeter.pricing").joinpath("overrides")
    texts = [
        entry.read_text("utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".yaml")
    ]
    models = [OverridesFile.model_validate(yaml.load(text, loader)) for text in texts]  # noqa: S506  # a safe loader
    return [row for model in models for row in model.rates]


def _provider_keys(provider: str) -> list[str]:
    host, colon, port = provider.rpartition(":")
    return [provider, host] if colon and port.isdigit() else [provider]


def _card_row(row: RateModel, card: str) -> _Row:
    provider = identify("", row.provider, None).provider
    flags = (("owner", row.key_owner),) if row.key_owner else ()
    pattern = quote(row.model, safe="/:*[].-_")
    return _row(row, f"{card}#{provider}/{pattern}@{row.effective_from or BASE}", flags)


def _override_row(row: OverrideModel) -> _Row:
    return replace(_row(row, f"override:{row.id}@{row.read}", ()), component=row.component, plan=row.plan)


def _row(row: RateModel, source: str, flags: tuple[tuple[str, str], ...]) -> _Row:
    rate = Rate(
        unit=row.unit,
        unit_price=row.price,
        price_per=row.per,
        currency=row.currency,
        source=source,
        digest=digest_of(row.model_dump(mode="json", include=_DIGESTED)),
        flags=flags,
        tiers=tuple(RateTier(tier.above, tier.price) for tier in row.tiers),
    )
    return _Row(
        provider=identify("", row.provider, None).provider,
        pattern=row.model.lower(),
        exact=not _GLOB.intersection(row.model),
        component=None,
        owner=row.key_owner,
        plan=None,
        start=_edge(row.effective_from),
        end=_edge(row.effective_to),
        rate=rate,
    )


def _edge(day: date | None) -> datetime | None:
    return None if day is None else midnight(day)
