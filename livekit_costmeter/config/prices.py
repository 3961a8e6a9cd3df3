"""
From a `Config` to prices: rate cards, the price book, and the function that rates a record and applies its plan.

Invariant: nothing is loaded before the first look-up; a mistake in a rate card is reported in its own file, one in a
billing policy in the configuration. Every command and the shipper rate by the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from livekit_costmeter.config import Config

if TYPE_CHECKING:
    from livekit_costmeter.billing.bill import Billing
    from livekit_costmeter.pricing import PriceBook
    from livekit_costmeter.pricing.policies import PolicyModel
    from livekit_costmeter.records import Charge, UsageRecord

Rate = Callable[["UsageRecord"], "Sequence[Charge]"]


def check_prices(config: Config) -> None:
    """Refuse rate cards, policies and plans that cannot be used, and catalogs that nobody provides."""
    if config.settings.pricing.rate_cards:
        rate_cards(config)
    policies(config)
    _check_catalogs(config)
    _billing(config)


def _check_catalogs(config: Config) -> None:
    pricing = config.settings.pricing
    if "catalogs" not in pricing.model_fields_set:
        return
    from livekit_costmeter.pricing.catalogs import catalog_names

    for position, name in enumerate(pricing.catalogs):
        if name not in catalog_names():
            allowed = ", ".join(catalog_names())
            raise config.error(("pricing", "catalogs", position), f"no catalog named {name!r} (allowed: {allowed})")


def rate_cards(config: Config) -> list[Any]:
    """Read the configured rate cards.

    Raises:
        ConfigError: The first mistake, in the rate card's own file.
    """
    from livekit_costmeter.config.document import read_document
    from livekit_costmeter.pricing.ratecards import RateCard
    from livekit_costmeter.pricing.schema import RateCardFile

    cards = []
    for path in config.settings.pricing.rate_cards:
        document = read_document(config.directory / path)
        cards.append(RateCard.from_model(document.validate(RateCardFile), document.digest))
    return cards


def policies(config: Config) -> list[PolicyModel]:
    """Read the user's billing policies.

    Raises:
        ConfigError: The first mistake, or two rows about the same work.
    """
    if config.document is None or not config.settings.policies:
        return []
    from livekit_costmeter.pricing.policies import PolicyModel, find_repeated

    rows = [
        config.document.validate(PolicyModel, entry, ("policies", position))
        for position, entry in enumerate(config.settings.policies)
    ]
    if repeated := find_repeated(rows):
        first, second = repeated
        raise config.error(("policies", second), f"about the same work as policies[{first}], or with its id")
    return rows


def build_book(config: Config) -> PriceBook:
    """Return the configured prices; catalogs are loaded on the first look-up."""
    from livekit_costmeter.pricing import PriceBook

    _check_catalogs(config)
    pricing = config.settings.pricing
    return PriceBook(
        rate_cards=rate_cards(config),
        catalogs=pricing.catalogs,
        livekit_plan=pricing.livekit_plan,
        billed_by={key.owner: key.billed_by for key in config.settings.keys if key.billed_by},
        policies=policies(config),
    )


def load_rate(config: Config, book: PriceBook | None = None) -> Rate:
    """Read rate cards and plans, and return the pricing function; catalogs are loaded on the first look-up.

    Raises:
        ConfigError: The first mistake in any of them.
    """
    from livekit_costmeter.pricing import rate as rate_record

    prices, billing = book or build_book(config), _billing(config)
    if billing is None:
        return lambda record: rate_record(record, prices)
    return lambda record: billing.bill(record, rate_record(record, prices))


def build_rate(config: Config) -> Rate:
    """Return the pricing function; everything is loaded when it is first called."""
    loaded = cache(lambda: load_rate(config))

    def rate(record: UsageRecord) -> Sequence[Charge]:
        return loaded()(record)

    return rate


def build_patient_rate(config: Config) -> Rate:
    """Return the shipper's pricing function: prices that cannot be loaded are no record's fault, so usage waits."""
    from livekit_costmeter.delivery.rating import PricesUnavailable

    @cache
    def loaded() -> Rate:
        book = build_book(config)
        book.catalogs  # noqa: B018 - imports them
        return load_rate(config, book)

    def rate(record: UsageRecord) -> Sequence[Charge]:
        try:
            ready = loaded()
        except Exception as error:
            raise PricesUnavailable(str(error)) from error
        return ready(record)

    return rate


def _billing(config: Config) -> Billing | None:
    if config.settings.billing is None:
        return None
    from livekit_costmeter.config.plans import build_billing

    return build_billing(config)
