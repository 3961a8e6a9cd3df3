"""
Cartesia's credits: `GET /usage/credits`, with an admin key.

A page has all the days of its range, `{"data": [{"start_ts", "end_ts", "credits"}]}`; a range is a year at most. An
admin key is another one than the plugin's, and neither works in the place of the other, so it has a variable of its
own that goes first. Reference: https://docs.cartesia.ai/api-reference/usage/credits

Invariant: the version of the API is always said.
"""

from __future__ import annotations

from collections.abc import Iterator

from livekit_costmeter.records import format_instant
from livekit_costmeter.reporting.reconcile.api.reports import Report, Request, Values, Variable, Vendor
from livekit_costmeter.reporting.reconcile.api.windows import Window

_KEY = "CARTESIA_ADMIN_KEY"
_VERSION = "2026-03-01"
_DAYS = 90


def _credits(window: Window, _values: Values) -> Iterator[Request]:
    for part in window.slices(_DAYS):
        query = (
            ("start_ts", format_instant(part.since)),
            ("end_ts", format_instant(part.until)),
            ("interval", "day"),
        )
        yield Request("usage/credits", query)


VENDOR = Vendor(
    provider="cartesia",
    url="https://api.cartesia.ai",
    variables=(Variable((_KEY, "CARTESIA_API_KEY")),),
    key="an admin key (sk_car_admin_...), from play.cartesia.ai/keys/admin",
    headers=lambda values: {"Authorization": f"Bearer {values[_KEY]}", "Cartesia-Version": _VERSION},
    reports=(Report("credits", "costs", "data", "an admin key (sk_car_admin_...)", _credits),),
)
