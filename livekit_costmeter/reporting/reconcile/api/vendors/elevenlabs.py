"""
ElevenLabs' workspace analytics: `POST /workspace/analytics/query/usage-by-product-over-time`.

The answer is a table: `{"columns": [...], "column_units": [...], "rows": [[...], ...]}`. Reference:
https://elevenlabs.io/docs/api-reference/workspace

Invariant: each day is a question of its own. A table does not say how long its buckets are, and days without usage may
have no row, so that the length could not be told from several days in one.
"""

from __future__ import annotations

from collections.abc import Iterator

from livekit_costmeter.reporting.reconcile.api.reports import Report, Request, Values, Variable, Vendor
from livekit_costmeter.reporting.reconcile.api.windows import Window

_KEY = "ELEVENLABS_API_KEY"
_PATH = "workspace/analytics/query/usage-by-product-over-time"
_GROUPS = ("product_type", "model", "hashed_xi_api_key", "fiat_currency")
_DAY = 86_400


def _days(window: Window, _values: Values) -> Iterator[Request]:
    for day in window.slices(1):
        start, end = (int(instant.timestamp()) * 1000 for instant in (day.since, day.until))
        body = {
            "start_time": start,
            "end_time": end,
            "interval_seconds": _DAY,
            "time_zone": "UTC",
            "group_by": [*_GROUPS],
        }
        yield Request(_PATH, body=body)


VENDOR = Vendor(
    provider="elevenlabs",
    url="https://api.elevenlabs.io/v1",
    variables=(Variable((_KEY, "ELEVEN_API_KEY")),),
    key="a key of the workspace, from elevenlabs.io/app/settings/api-keys",
    headers=lambda values: {"xi-api-key": values[_KEY]},
    reports=(Report("analytics", "usage", "rows", "the permission to read the workspace's usage analytics", _days),),
)
