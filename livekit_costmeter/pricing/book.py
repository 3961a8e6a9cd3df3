"""
The price book: every source of prices in its order of precedence, and what it says about one model at one time.

Precedence: the user's rate cards, the shipped overrides, the catalogs. A source is asked only for what the ones before
it left open. The inference gateway is priced by its own rows only, a model served on the user's own machine by rate
cards only.

Invariant: a look-up is remembered only for the period in which no source changes its answer, and the memory is
bounded. A source that fails leaves its units unpriced and a line in the log; it never raises into the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from livekit_costmeter.log import log
from livekit_costmeter.pricing.catalogs import Catalog, load_catalog
from livekit_costmeter.pricing.policies import Policy, PolicyModel, PolicyTable, as_billed
from livekit_costmeter.pricing.providers import Identity, identify
from livekit_costmeter.pricing.ratecards import RateCard, shipped_overrides
from livekit_costmeter.pricing.rates import RateSet
from livekit_costmeter.records import UNKNOWN, BilledBy, UsageRecord

DEFAULT_CATALOGS = ("genai-prices", "voice-prices")
_REMEMBERED = 4096
_SCALE_PLANS = frozenset({"scale", "enterprise"})
_OPTIONS = ("language", "voice_class")


class Query(NamedTuple):
    """All that decides a price besides the time, as the usage record has it."""

    component: str
    provider: str
    model: str
    reported_model: str | None = None
    service_tier: str | None = None
    owner: str = UNKNOWN
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, record: UsageRecord) -> Query:
        """Return the query of a record."""
        attributes = record.attributes
        options = attributes and tuple(
            (name, value) for name in _OPTIONS if isinstance(value := attributes.get(name), str)
        )
        return cls(
            record.component,
            record.provider,
            record.model,
            record.reported_model,
            record.service_tier,
            record.key_owner,
            options or (),
        )


@dataclass(frozen=True, slots=True)
class Offers:
    """What the sources say, in order of precedence, and for how long they say it.

    Attributes:
        files: Rates from rate cards and overrides; they complete each other and the first catalog.
        catalogs: Rates from catalogs, each complete in itself.
        reason: Why nothing is priced, where nothing is (a word of `UNPRICED_REASONS`).
        policy: What the provider makes of what was measured, where that is known.
    """

    identity: Identity
    files: tuple[RateSet, ...]
    catalogs: tuple[RateSet, ...]
    reason: str
    policy: Policy | None = None

    @property
    def sets(self) -> tuple[RateSet, ...]:
        """Every set, in order of precedence."""
        return (*self.files, *self.catalogs)

    def covers(self, at: datetime) -> bool:
        """Tell whether the same look-up at `at` would give the same answer."""
        for rates in self.sets:
            if (rates.since is not None and at < rates.since) or (rates.until is not None and at >= rates.until):
                return False
        return True


class PriceBook:
    """Every configured source of prices. Load once, then share between threads.

    Args:
        rate_cards: The user's rate cards, the first listed wins.
        overrides: Dated corrections of the catalogs; by default those that ship with the package.
        catalogs: Names of catalogs, or catalogs; loaded on the first look-up.
        livekit_plan: The plan of the inference gateway: `build`, `ship`, `scale`, `enterprise`.
        billed_by: Who bills the account for an owner's keys, where it is not the default.
        policies: The user's billing policies; they come before those that ship with the package.
    """

    def __init__(
        self,
        rate_cards: Iterable[RateCard] = (),
        *,
        overrides: RateCard | None = None,
        catalogs: Sequence[str | Catalog] = DEFAULT_CATALOGS,
        livekit_plan: str | None = None,
        billed_by: Mapping[str, BilledBy] | None = None,
        policies: Iterable[PolicyModel] = (),
    ) -> None:
        self.rate_cards = tuple(rate_cards)
        self.billed_by: Mapping[str, BilledBy] = dict(billed_by or {})
        self._given_overrides = overrides
        self._given_catalogs = tuple(catalogs)
        self._given_policies = tuple(policies)
        self._plan = (livekit_plan or "ship").lower()
        self._memory: dict[Query, tuple[Offers, ...]] = {}

    @cached_property
    def overrides(self) -> RateCard:
        """The dated corrections of the catalogs."""
        return shipped_overrides() if self._given_overrides is None else self._given_overrides

    @cached_property
    def catalogs(self) -> tuple[Catalog, ...]:
        """The catalogs, in the configured order."""
        return tuple(load_catalog(item) if isinstance(item, str) else item for item in self._given_catalogs)

    @cached_property
    def policies(self) -> PolicyTable:
        """The billing policies in force."""
        return PolicyTable(self._given_policies)

    def offers(self, query: Query, at: datetime) -> Offers:
        """Return what every source says about a model at an aware instant."""
        remembered = self._memory.get(query, ())
        for offers in remembered:
            if offers.covers(at):
                return offers
        offers = self._look_up(query, at)
        if len(self._memory) >= _REMEMBERED:
            self._memory.clear()
        self._memory[query] = (offers, *remembered[:7])
        return offers

    def _look_up(self, query: Query, at: datetime) -> Offers:
        identity = identify(query.component, query.provider, query.model)
        names = [name for name in dict.fromkeys((identity.model, query.model, query.reported_model)) if name]
        policy = self.policies.find(identity.provider, names, query.component)
        # A card says what a contract bills. Only the user's own policy says otherwise.
        own = policy if policy is not None and policy.own else None
        cards = [self._from_file(card, query, identity, names, at) for card in self.rate_cards]
        files = [as_billed(found, own) for found in cards if found is not None]
        if identity.reason == "self_hosted" or identity.provider == "ollama":
            return Offers(identity, tuple(files), (), "self_hosted", policy)
        override = self._from_file(self.overrides, query, identity, [identity.model], at)
        if override is not None:
            files.append(as_billed(override, policy))
        found, failed = self._from_catalogs(query, identity, at)
        catalogs = tuple(as_billed(rates, policy) for rates in found)
        return Offers(identity, tuple(files), catalogs, "error" if failed else _reason(identity), policy)

    def _from_file(
        self, card: RateCard, query: Query, identity: Identity, names: Sequence[str], at: datetime
    ) -> RateSet | None:
        plan = "scale" if self._plan in _SCALE_PLANS else "ship"
        return card.lookup(identity.provider, names, component=query.component, owner=query.owner, plan=plan, at=at)

    def _from_catalogs(self, query: Query, identity: Identity, at: datetime) -> tuple[list[RateSet], bool]:
        if UNKNOWN in (identity.model.lower(), identity.provider):
            return [], False
        options = dict(query.options)
        if identity.provider == "livekit":
            options["livekit_plan"] = self._plan
        found: list[RateSet] = []
        failed = False
        for catalog in sorted(self.catalogs, key=lambda c: not c.prefers(query.component, identity.provider)):
            try:
                rates = catalog.lookup(
                    identity.provider,
                    identity.model,
                    component=query.component,
                    at=at,
                    service_tier=query.service_tier,
                    options=options,
                )
            except Exception:
                failed = True
                log().exception("price catalog failed", catalog=catalog.name, provider=identity.provider)
                continue
            if rates is not None:
                found.append(rates)
        return found, failed


def _reason(identity: Identity) -> str:
    if identity.provider == UNKNOWN or identity.reason in ("unknown_host", "unknown_name"):
        return "unknown_provider"
    if identity.model.lower() == UNKNOWN:
        return "unknown_model"
    return "gateway_no_rate" if identity.provider == "livekit" else "no_match"
