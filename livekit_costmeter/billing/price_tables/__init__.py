"""
Price tables: what an account pays for each model, minute and message, from a plan or from a feed.

Invariant: a price is shown by the same look-ups as it is billed by, exact and with its source; what is not known stays
empty.
"""

from __future__ import annotations

from livekit_costmeter.billing.price_tables.feed import Feed, InvalidFeed, feed_table, read_feed
from livekit_costmeter.billing.price_tables.feed_plan import feed_plan
from livekit_costmeter.billing.price_tables.plan import COMMON, components_of, plan_table
from livekit_costmeter.billing.price_tables.samples import Till
from livekit_costmeter.billing.price_tables.table import Denomination, Price, PriceRow, PricesIn, PriceTable

__all__ = [
    "COMMON",
    "Denomination",
    "Feed",
    "InvalidFeed",
    "Price",
    "PriceRow",
    "PriceTable",
    "PricesIn",
    "Till",
    "components_of",
    "feed_plan",
    "feed_table",
    "plan_table",
    "read_feed",
]
