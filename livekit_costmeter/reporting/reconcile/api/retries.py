"""
Patience: one page, asked for until it comes or asking makes no sense.

Asked again: 408, 425, 429, 5xx, no answer, half an answer. The wait doubles from a second to a minute, less up to a
half by chance, so that several hosts do not ask in step; it is never shorter than the provider asks for by
`Retry-After` (seconds or a date). All other answers stand.

Invariant: every wait ends before the deadline of the whole fetch, and every way out is a page or one line that says
what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode, urlsplit

from livekit_costmeter.log import log
from livekit_costmeter.reporting.reconcile.api.pages import read_page
from livekit_costmeter.reporting.reconcile.api.reports import (
    Answer,
    ApiError,
    Client,
    LastingError,
    Page,
    PassingError,
    Report,
    Request,
    Vendor,
)
from livekit_costmeter.reporting.reconcile.api.settings import Credentials

_OK = 200
_AGAIN = frozenset({408, 425, 429})
_REDIRECTS, _OURS, _THEIRS = range(300, 400), range(400, 500), 500
_QUOTED = 200


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a fetch goes on: seconds for all of it, for an answer, for the first and the longest wait; attempts."""

    deadline: float = 1800
    answer: float = 60
    first_wait: float = 1
    longest_wait: float = 60
    attempts: int = 8


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why there is no page yet, and how long the provider asks to wait."""

    words: str
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Time and chance, and who is told that it takes longer."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    chance: Callable[[], float]
    progress: Callable[[str], None]


class Caller:
    """Asks one provider, with one key, until a deadline that begins now."""

    def __init__(
        self,
        vendor: Vendor,
        url: str,
        credentials: Credentials,
        client: Client,
        patience: Patience,
        around: Surroundings,
    ) -> None:
        self._vendor = vendor
        self._url = url.rstrip("/")
        self._credentials = credentials
        self._client = client
        self._patience = patience
        self._around = around
        self._end = around.monotonic() + patience.deadline
        parts = urlsplit(url)
        self._shown = f"{parts.scheme}://{parts.netloc}"

    async def page(self, report: Report, request: Request) -> tuple[str, Page]:
        """
        Return the text of a page, without the key where it holds it, and the page.

        Raises:
            ApiError: It cannot be had.
        """
        trouble = _Trouble("was not asked")
        for attempt in range(1, self._patience.attempts + 1):
            found = await self._attempt(report, request)
            if not isinstance(found, _Trouble):
                return found
            trouble = found
            if attempt < self._patience.attempts:
                await self._wait(report, trouble, attempt)
        raise self._error(report, f"{trouble.words}, {self._patience.attempts} times; try again later")

    async def _attempt(self, report: Report, request: Request) -> tuple[str, Page] | _Trouble:
        try:
            answer = await self._send(request)
            if answer.status >= _THEIRS or answer.status in _AGAIN:
                return _Trouble(f"answers {answer.status}", _seconds(answer.retry_after, self._around.now()))
            if answer.status != _OK:
                raise self._error(report, self._refusal(report, answer))
            text, page = read_page(answer, report, self._address_hint())
        except PassingError as error:
            return _Trouble(str(error))
        except LastingError as error:
            raise self._error(report, str(error)) from None
        return self._credentials.conceal(text), page

    async def _send(self, request: Request) -> Answer:
        query = f"?{urlencode(request.query)}" if request.query else ""
        headers = {"Accept": "application/json", "User-Agent": "livekit-costmeter"}
        headers |= self._vendor.headers(self._credentials.values)
        body = None
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(request.body).encode()
        seconds = max(min(self._patience.answer, self._left()), 0.001)
        method = "GET" if body is None else "POST"
        return await self._client.send(method, f"{self._url}/{request.path.lstrip('/')}{query}", headers, body, seconds)

    async def _wait(self, report: Report, trouble: _Trouble, attempt: int) -> None:
        around, patience = self._around, self._patience
        backoff = min(patience.longest_wait, patience.first_wait * 2 ** (attempt - 1))
        chance = around.chance() / 2
        asked = 0 if trouble.wait is None else trouble.wait + patience.first_wait * chance
        seconds = max(backoff * (1 - chance), asked)
        if seconds >= self._left():
            wish = f"; it asks to wait {trouble.wait:.0f} s" if trouble.wait else ""
            late = f"not done within {patience.deadline:g} s: fetch fewer days at a time, or later"
            raise self._error(report, f"{trouble.words}{wish}; {late}")
        label = f"{self._vendor.provider} {report.name}"
        around.progress(f"{label}: {trouble.words}; waiting {seconds:.0f} s")
        log().info("waiting for a provider's API", report=label, why=trouble.words, seconds=round(seconds))
        await around.sleep(seconds)

    def _left(self) -> float:
        return self._end - self._around.monotonic()

    def _refusal(self, report: Report, answer: Answer) -> str:
        status, keys = answer.status, " and ".join(self._credentials.key_names)
        words = f"answers {status}"
        if status in _REDIRECTS:
            return f"{words}, a redirect, and those are not followed; {self._address_hint()}"
        if status == 401:  # noqa: PLR2004
            return f"{words}: what {keys} holds is not accepted; it takes {self._vendor.key}"
        if status == 403:  # noqa: PLR2004
            return f"{words}: the key in {keys} may not read this; it needs {report.scope}"
        if status == 404:  # noqa: PLR2004
            ids = [variable.names[0] for variable in self._vendor.variables if not variable.secret]
            return f"{words}: {' and '.join((*ids, self._setting()))} may be wrong"
        quoted = _quotable(self._credentials.conceal(answer.body.decode(errors="replace")))
        return f"{words}: {quoted}" if quoted and status in _OURS else words

    def _setting(self) -> str:
        return f"reconcile.apis.{self._vendor.provider}.url"

    def _address_hint(self) -> str:
        return f"is the address right ({self._setting()})?"

    def _error(self, report: Report, words: str) -> ApiError:
        return ApiError(f"{self._vendor.provider} {report.name}: {self._shown}: {words}")


def _quotable(text: str) -> str:
    return re.sub(r"[\s\x00-\x1f\x7f]+", " ", text).strip()[:_QUOTED]


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", text):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    until = until.replace(tzinfo=UTC) if until.tzinfo is None else until
    return max((until - now).total_seconds(), 0.0)
