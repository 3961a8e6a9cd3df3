"""
Deepgram's usage and billing breakdowns and its requests: `GET /projects/{id}/...`.

The breakdowns come whole, by day; usage is grouped by one thing only, which is the model, billing by several. Requests
come in numbered pages, newest first, and the listing ends with an empty page. Reference:
https://developers.deepgram.com/reference/manage/usage/breakdown/get

Invariant: the last day of a range is in it. The number of a page is read from the page before, because some
installations count from 0 and some from 1; its length is not trusted, because a limit may be lowered without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import quote

from livekit_costmeter.reporting.reconcile.api.reports import ApiError, Page, Report, Request, Values, Variable, Vendor
from livekit_costmeter.reporting.reconcile.api.windows import Window

_KEY, _PROJECT = "DEEPGRAM_API_KEY", "DEEPGRAM_PROJECT_ID"
_DAYS = 31
_LIMIT = "500"
_SECOND = timedelta(seconds=1)


def _path(values: Values, rest: str) -> str:
    return f"projects/{quote(values[_PROJECT], safe='')}/{rest}"


def _breakdown(path: str, *groups: str) -> Callable[[Window, Values], Iterator[Request]]:
    def requests(window: Window, values: Values) -> Iterator[Request]:
        for part in window.slices(_DAYS):
            days = (("start", part.first_day), ("end", part.last_day))
            yield Request(_path(values, path), (*days, *(("grouping", group) for group in groups)))

    return requests


def _requests(window: Window, values: Values) -> Iterator[Request]:
    start, end = (f"{instant:%Y-%m-%dT%H:%M:%S+00:00}" for instant in (window.since, window.until - _SECOND))
    yield Request(_path(values, "requests"), (("start", start), ("end", end), ("limit", _LIMIT)))


def _next_page(request: Request, page: Page) -> Request | None:
    if not page["requests"]:
        return None
    number = page.get("page")
    if not isinstance(number, int | float) or isinstance(number, bool):
        raise ApiError("a page has no number")
    return request.asking("page", str(int(number) + 1))


VENDOR = Vendor(
    provider="deepgram",
    url="https://api.deepgram.com/v1",
    variables=(Variable((_KEY,)), Variable((_PROJECT,), secret=False)),
    key="a key of the project with the scopes usage:read and billing:read, from console.deepgram.com",
    headers=lambda values: {"Authorization": f"Token {values[_KEY]}"},
    reports=(
        Report("usage", "usage", "results", "the scope usage:read", _breakdown("usage/breakdown", "models")),
        Report(
            "billing",
            "costs",
            "results",
            "the scope billing:read",
            _breakdown("billing/breakdown", "accessor", "line_item"),
        ),
        Report("requests", "requests", "requests", "the scope usage:read", _requests, _next_page),
    ),
)
