"""
A fetch from beginning to end: questions, pages, files, lines.

Invariant: reports are fetched one after the other and in whole; the lines come from the files alone.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from livekit_costmeter.log import log
from livekit_costmeter.reporting.reconcile.api.pages import PageFolder, page_folder
from livekit_costmeter.reporting.reconcile.api.reports import ApiError, Client, Kind, Page, Report, Request, Vendor
from livekit_costmeter.reporting.reconcile.api.retries import Caller, Patience, Surroundings
from livekit_costmeter.reporting.reconcile.api.settings import ApiSettings, Credentials, read_credentials
from livekit_costmeter.reporting.reconcile.api.vendors import vendor_of
from livekit_costmeter.reporting.reconcile.api.windows import Window, whole_days
from livekit_costmeter.reporting.reconcile.lines import ExportError, ProviderLine
from livekit_costmeter.reporting.reconcile.recognition import open_export

SUMS: Collection[Kind] = ("usage", "costs")
_THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})


def _http_client() -> Client:
    from livekit_costmeter.reporting.reconcile.api.client import HttpClient

    return HttpClient()


def _now() -> datetime:
    return datetime.now(UTC)


def _untold(_text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Means:
    """
    What a fetch takes from outside.

    Attributes:
        environment: Where keys are.
        client: Makes what sends requests; called where an event loop runs.
        now: Wall clock, aware.
        monotonic: Seconds, for deadlines.
        sleep: Waits some seconds.
        chance: A number from 0 to 1 that spreads the waits.
        patience: How long to go on.
        progress: Is told what happens, in a few words.
    """

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    client: Callable[[], Client] = _http_client
    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
    patience: Patience = Patience()  # noqa: RUF009 - frozen
    progress: Callable[[str], None] = _untold


@dataclass(frozen=True, slots=True)
class SavedReport:
    """A report that was fetched: a file for `--usage-file` (`usage`, `requests`) or `--cost-file` (`costs`)."""

    name: str
    kind: Kind
    path: Path
    pages: int


def fetch(
    provider: str,
    since: datetime,
    until: datetime | None,
    *,
    settings: ApiSettings | None = None,
    keep_pages: Path | None = None,
    kinds: Collection[Kind] = SUMS,
    means: Means | None = None,
) -> Iterator[ProviderLine]:
    """
    Yield what a provider's API says about some days, as the parsers of its exports read it; first all is fetched.

    Args:
        provider: One of `PROVIDERS`.
        since: Midnight, UTC.
        until: Midnight, UTC, exclusive; `None` takes in today.
        settings: The base address, where it is another one.
        keep_pages: Keep the pages in this folder (`--keep-pages`).
        kinds: Which reports; `requests` says the usage again, request by request, for joins by id.
        means: Environment, client, time and patience.

    Raises:
        ApiError: They cannot be had.
        ExportError: They are not what they should be.
    """
    save = partial(save_pages, provider, since, until, settings=settings, kinds=kinds, means=means)
    if keep_pages is not None:
        yield from _lines(save(keep_pages))
        return
    with TemporaryDirectory(prefix="costmeter-") as name:
        folder = f"{name}{os.sep}"
        reports = save(Path(name))
        try:
            for line in _lines(reports):
                yield replace(line, place=line.place.removeprefix(folder))
        except ExportError as error:
            raise without_folder(error, name) from None


def without_folder(error: ExportError, folder: str) -> ExportError:
    """Return the error as it is said of a page whose temporary folder is gone when somebody reads it."""
    return ExportError(f"{str(error).replace(f'{folder}{os.sep}', '')} (--keep-pages keeps the file)")


def _lines(reports: Sequence[SavedReport]) -> Iterator[ProviderLine]:
    for report in reports:
        yield from open_export(report.path)[1]


def save_pages(
    provider: str,
    since: datetime,
    until: datetime | None,
    folder: Path,
    *,
    settings: ApiSettings | None = None,
    kinds: Collection[Kind] = SUMS,
    means: Means | None = None,
) -> list[SavedReport]:
    """
    Fetch the reports of some days into files; `fetch` says what the arguments are.

    Returns:
        The reports that have rows.

    Raises:
        ApiError: They cannot be had; then there is no file.
    """
    means = means or Means()
    vendor = vendor_of(provider)
    window = whole_days(since, until, means.now())
    credentials = read_credentials(vendor, means.environment)
    url = (settings.url if settings else None) or vendor.url
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in _THIS_MACHINE:
        log().warning("a key goes over the network unencrypted", setting=f"reconcile.apis.{provider}.url")
    reports = [report for report in vendor.reports if report.kind in kinds]
    return asyncio.run(_Fetch(vendor, url, credentials, window, means).save(reports, folder))


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One run against one provider."""

    vendor: Vendor
    url: str
    credentials: Credentials
    window: Window
    means: Means

    async def save(self, reports: Sequence[Report], folder: Path) -> list[SavedReport]:
        means = self.means
        around = Surroundings(means.now, means.monotonic, means.sleep, means.chance, means.progress)
        client = means.client()
        caller = Caller(self.vendor, self.url, self.credentials, client, means.patience, around)
        try:
            with page_folder(folder) as pages:
                saved = [await self._save(caller, report, pages) for report in reports]
        finally:
            await client.close()
        return [report for report in saved if report.pages]

    async def _save(self, caller: Caller, report: Report, pages: PageFolder) -> SavedReport:
        name = f"{self.vendor.provider}-{report.name}_{self.window.first_day}_{self.window.last_day}.json"
        with pages.file(name) as file:
            async for text in self._texts(caller, report):
                file.add(text)
        return SavedReport(report.name, report.kind, file.path, file.count)

    async def _texts(self, caller: Caller, report: Report) -> AsyncIterator[str]:
        label = f"{self.vendor.provider} {report.name}"
        numbers = count(1)
        for first in report.requests(self.window, self.credentials.values):
            question: Request | None = first
            seen = set()
            while question is not None:
                self.means.progress(f"{label}: page {next(numbers)}")
                text, page = await caller.page(report, question)
                if page[report.rows]:
                    yield text
                seen.add((question.path, question.query))
                question = _following(label, report, question, page)
                if question is not None and (question.path, question.query) in seen:
                    raise ApiError(f"{label}: a page leads back to an earlier one; nothing is taken from it")


def _following(label: str, report: Report, question: Request, page: Page) -> Request | None:
    try:
        return report.following(question, page)
    except ApiError as error:
        raise ApiError(f"{label}: {error}; nothing is taken from it") from None
