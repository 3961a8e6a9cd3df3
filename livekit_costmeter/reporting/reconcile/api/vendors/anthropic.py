"""
Anthropic's usage of messages and its costs: `GET /v1/organizations/usage_report/messages` and `/cost_report`.

A page has up to `limit` buckets of a day and says `has_more` and `next_page`. Costs are split by `description`, which
brings model and kind of token with it; they have no key. Reference:
https://platform.claude.com/docs/en/api/admin-api/usage-cost/get-messages-usage-report

Invariant: as with OpenAI, a week of buckets at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from livekit_costmeter.records import format_instant
from livekit_costmeter.reporting.reconcile.api.reports import (
    Kind,
    Report,
    Request,
    Values,
    Variable,
    Vendor,
    next_cursor,
)
from livekit_costmeter.reporting.reconcile.api.windows import Window

_KEY = "ANTHROPIC_ADMIN_KEY"
_VERSION = "2023-06-01"
_DAYS = "7"


def _asking(path: str, *groups: str) -> Callable[[Window, Values], Iterator[Request]]:
    def requests(window: Window, _values: Values) -> Iterator[Request]:
        query = [
            ("starting_at", format_instant(window.since)),
            ("ending_at", format_instant(window.until)),
            ("bucket_width", "1d"),
            ("limit", _DAYS),
        ]
        yield Request(f"v1/organizations/{path}", (*query, *(("group_by[]", group) for group in groups)))

    return requests


def _report(name: str, kind: Kind, path: str, *groups: str) -> Report:
    return Report(name, kind, "data", "an admin key (sk-ant-admin...)", _asking(path, *groups), next_cursor)


VENDOR = Vendor(
    provider="anthropic",
    url="https://api.anthropic.com",
    variables=(Variable((_KEY, "ANTHROPIC_ADMIN_API_KEY")),),
    key="an admin key (sk-ant-admin...) of the organization, from the console's settings",
    headers=lambda values: {"x-api-key": values[_KEY], "anthropic-version": _VERSION},
    reports=(
        _report(
            "usage-messages",
            "usage",
            "usage_report/messages",
            "model",
            "api_key_id",
            "service_tier",
            "context_window",
        ),
        _report("costs", "costs", "cost_report", "description"),
    ),
)
