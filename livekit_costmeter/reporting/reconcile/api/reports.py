"""
The vocabulary of a fetch: what a provider can be asked, how one page leads to the next, and what sends a request.

Invariant: a request is below the base address and nothing that a provider answers can lead elsewhere. A report ends
where the provider says so; one that does not say how it goes on is refused, never cut short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from livekit_costmeter.reporting.reconcile.api.windows import Window
from livekit_costmeter.reporting.reconcile.lines import ExportError

Page = Mapping[str, Any]
Values = Mapping[str, str]
Kind = Literal["usage", "costs", "requests"]


class ApiError(ExportError):
    """An API that cannot be read; the message is one line: `<provider> <report>: <what is wrong; what to do>`."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question: a path below the base address, its query, and a body of JSON where it is a POST."""

    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: Mapping[str, Any] | None = None

    def asking(self, name: str, value: str) -> Request:
        """Return the same question with one parameter of the query set."""
        others = tuple(pair for pair in self.query if pair[0] != name)
        return Request(self.path, (*others, (name, value)), self.body)


def _last_page(_request: Request, _page: Page) -> Request | None:
    return None


@dataclass(frozen=True, slots=True)
class Report:
    """
    One report of a provider.

    Attributes:
        name: What files and messages call it, such as `usage-completions`.
        kind: `usage` and `costs` are sums by day; `requests` says the same usage again, request by request.
        rows: The list in a page that holds what it says.
        scope: What a key needs to read it, in words.
        requests: The questions to begin with, given the window and the values of the environment.
        following: The question after a page, `None` after the last.
    """

    name: str
    kind: Kind
    rows: str
    scope: str
    requests: Callable[[Window, Values], Iterator[Request]]
    following: Callable[[Request, Page], Request | None] = _last_page


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that a provider needs: the first of its names that is set."""

    names: tuple[str, ...]
    secret: bool = True


@dataclass(frozen=True, slots=True)
class Vendor:
    """
    A provider with an API of reports.

    Attributes:
        provider: Canonical id.
        url: The base address, unless the configuration has another.
        variables: What it needs from the environment.
        key: Which key that is, and where one is made.
        headers: The headers that authenticate, given the values by the first name of each variable.
        reports: What it can be asked.
    """

    provider: str
    url: str
    variables: tuple[Variable, ...]
    key: str
    headers: Callable[[Values], Mapping[str, str]]
    reports: tuple[Report, ...]


def next_cursor(request: Request, page: Page) -> Request | None:
    """
    Follow `has_more` and `next_page`.

    Raises:
        ApiError: There is more, and no cursor to it.
    """
    if not page.get("has_more"):
        return None
    cursor = page.get("next_page")
    if not isinstance(cursor, str) or not cursor:
        raise ApiError("a page says has_more without a next_page")
    return request.asking("page", cursor)


class PassingError(Exception):
    """No page this time, because of what the message says; another attempt may bring it."""


class LastingError(Exception):
    """No page, because of what the message says, however often it is asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status, the content type, how long it asks to wait, and the body."""

    status: int
    kind: str
    retry_after: str | None
    body: bytes


class Client(Protocol):
    """What sends a request; tests hand in their own."""

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, seconds: float
    ) -> Answer:
        """
        Send one request, to be answered within some seconds.

        Raises:
            PassingError: No whole answer came.
            LastingError: Too much came, or from somebody who is not to be trusted.
        """

    async def close(self) -> None:
        """Disconnect."""
