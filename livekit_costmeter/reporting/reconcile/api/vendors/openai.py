"""
OpenAI's usage and costs: `GET /organization/usage/*` and `/organization/costs`, with an admin key.

A page has up to `limit` buckets of a day and says `has_more` and `next_page`; lists in a query are written with
brackets. Reference: https://platform.openai.com/docs/api-reference/usage

Invariant: buckets are asked for a week at a time, so that a page stays small where there are many keys and models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

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

_KEY = "OPENAI_ADMIN_KEY"
_DAYS = "7"


def _asking(path: str, *groups: str) -> Callable[[Window, Values], Iterator[Request]]:
    def requests(window: Window, _values: Values) -> Iterator[Request]:
        query = [
            ("start_time", str(int(window.since.timestamp()))),
            ("end_time", str(int(window.until.timestamp()))),
            ("bucket_width", "1d"),
            ("limit", _DAYS),
        ]
        yield Request(f"organization/{path}", (*query, *(("group_by[]", group) for group in groups)))

    return requests


def _report(name: str, kind: Kind, path: str, *groups: str) -> Report:
    return Report(
        name, kind, "data", "the permission to read usage (api.usage.read)", _asking(path, *groups), next_cursor
    )


VENDOR = Vendor(
    provider="openai",
    url="https://api.openai.com/v1",
    variables=(Variable((_KEY,)),),
    key="an admin key of the organization, from platform.openai.com/settings/organization/admin-keys",
    headers=lambda values: {"Authorization": f"Bearer {values[_KEY]}"},
    reports=(
        _report("usage-completions", "usage", "usage/completions", "model", "api_key_id", "batch", "service_tier"),
        _report("usage-audio-speeches", "usage", "usage/audio_speeches", "model", "api_key_id"),
        _report("usage-audio-transcriptions", "usage", "usage/audio_transcriptions", "model", "api_key_id"),
        _report("costs", "costs", "costs", "line_item", "api_key_id"),
    ),
)
