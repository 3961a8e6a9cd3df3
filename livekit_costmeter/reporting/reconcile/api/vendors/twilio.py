"""
Twilio's usage by day and its calls: `GET /2010-04-01/Accounts/{sid}/Usage/Records/Daily.json` and `/Calls.json`.

A page says in `next_page_uri` how it goes on. Calls are asked for by second, because a bare date means its midnight as
an end and its whole day elsewhere. Reference: https://www.twilio.com/docs/usage/api/usage-record

Invariant: the next page is a path of the API below the base address, or it is refused: it goes out with the key.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import timedelta
from urllib.parse import parse_qsl, quote, urlsplit

from livekit_costmeter.reporting.reconcile.api.reports import ApiError, Page, Report, Request, Values, Variable, Vendor
from livekit_costmeter.reporting.reconcile.api.windows import Window

_ACCOUNT, _TOKEN = "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"
_ROOT = "/2010-04-01/Accounts/"
_SIZE = ("PageSize", "1000")
_SECOND = timedelta(seconds=1)


def _path(values: Values, rest: str) -> str:
    return f"{_ROOT}{quote(values[_ACCOUNT], safe='')}/{rest}"


def _usage(window: Window, values: Values) -> Iterator[Request]:
    days = (("StartDate", window.first_day), ("EndDate", window.last_day))
    yield Request(_path(values, "Usage/Records/Daily.json"), (*days, _SIZE))


def _calls(window: Window, values: Values) -> Iterator[Request]:
    start, end = (f"{instant:%Y-%m-%dT%H:%M:%SZ}" for instant in (window.since, window.until - _SECOND))
    # The names of the parameters end in `>` and `<`, and mean "or equal".
    yield Request(_path(values, "Calls.json"), (("StartTime>", start), ("StartTime<", end), _SIZE))


def _next_uri(_request: Request, page: Page) -> Request | None:
    uri = page.get("next_page_uri")
    if not uri:
        return None
    parts = urlsplit(uri) if isinstance(uri, str) else None
    if parts is None or parts.scheme or parts.netloc or not parts.path.startswith(_ROOT) or ".." in parts.path:
        raise ApiError("a page leads out of the API")
    return Request(parts.path, tuple(parse_qsl(parts.query, keep_blank_values=True)))


def _headers(values: Values) -> Mapping[str, str]:
    pair = f"{values[_ACCOUNT]}:{values[_TOKEN]}".encode()
    return {"Authorization": f"Basic {b64encode(pair).decode()}"}


VENDOR = Vendor(
    provider="twilio",
    url="https://api.twilio.com",
    variables=(Variable((_ACCOUNT,), secret=False), Variable((_TOKEN,))),
    key="the auth token of the account in TWILIO_ACCOUNT_SID, from console.twilio.com",
    headers=_headers,
    reports=(
        Report("usage", "usage", "usage_records", "an auth token of the account itself", _usage, _next_uri),
        Report("calls", "requests", "calls", "an auth token of the account itself", _calls, _next_uri),
    ),
)
