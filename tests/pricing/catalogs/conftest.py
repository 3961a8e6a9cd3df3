"""The models that plugins declare, and rating by one catalog alone."""

import pytest

from livekit_costmeter.pricing import PriceBook
from livekit_costmeter.pricing.coverage import declared_models
from livekit_costmeter.pricing.providers import identify
from livekit_costmeter.pricing.ratecards import overrides_card


@pytest.fixture(scope="session")
def declared():
    """Every declared (component, provider, model), canonical, without duplicates."""
    rows = []
    for row in declared_models():
        plugin = row.plugin.partition(":")[0]
        label = f"livekit.plugins.{plugin}.{row.component}.Plugin"
        identity = identify(row.component, row.reported_provider, row.model, label)
        rows.append((row.component, identity.provider, identity.model))
    return sorted(set(rows))


@pytest.fixture(scope="session")
def only():
    """A book with one catalog and nothing else."""
    return lambda catalog: PriceBook(catalogs=[catalog], overrides=overrides_card([]))
