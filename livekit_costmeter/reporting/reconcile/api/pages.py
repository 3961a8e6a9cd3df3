"""
Pages: what a body must be to be one, and the files they are kept in.

A file is `<provider>-<report>_<first day>_<last day>.json`: a JSON list of the pages, each as it came, with a line
break after each object in it, so that no line is too long for whoever reads it. Pages without rows are left out, and a
report without any row has no file: there is nothing in it that a parser could tell its format by.

Invariant: files appear all together, when everything is fetched, and only their owner can read them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from shutil import rmtree
from typing import TextIO

from livekit_costmeter.reporting.reconcile.api.reports import Answer, ApiError, LastingError, Page, PassingError, Report

_TOKENS = re.compile(r'("(?:[^"\\]|\\.)*")|(\},)', re.DOTALL)


def read_page(answer: Answer, report: Report, hint: str) -> tuple[str, Page]:
    """
    Return the text of a page, and the page; `hint` says what to do about something that is none.

    Raises:
        PassingError: It is not JSON of UTF-8.
        LastingError: It is something else: a web page, a list, an object without the rows.
    """
    if "json" not in answer.kind.lower():
        raise LastingError(f"answers {answer.kind}, not JSON; {hint}")
    try:
        text = answer.body.decode("utf-8-sig")
        page = json.loads(text)
    except (ValueError, RecursionError):
        raise PassingError("answers what is not JSON, or not all of it") from None
    if not isinstance(page, dict) or not isinstance(page.get(report.rows), list):
        raise LastingError(f"answers JSON without a list `{report.rows}`; {hint}")
    return text, page


class PageFolder:
    """A folder that pages are put in; see `page_folder`."""

    def __init__(self, folder: Path, draft: Path) -> None:
        self._folder = folder
        self._draft = draft
        self._counts: dict[str, int] = {}

    @contextmanager
    def file(self, name: str) -> Iterator[PageFile]:
        """Open the file of a report; one that holds no page in the end is not there."""
        path = self._draft / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as text:
            pages = PageFile(self._folder / name, text)
            yield pages
            text.write("\n]\n")
        self._counts[name] = pages.count

    def publish(self) -> None:
        """Move the files to where they belong, in place of those of an earlier fetch."""
        for name, count in self._counts.items():
            if count:
                (self._draft / name).replace(self._folder / name)
            else:
                (self._folder / name).unlink(missing_ok=True)


class PageFile:
    """
    The pages of one report.

    Attributes:
        path: Where they will be.
        count: How many there are.
    """

    def __init__(self, path: Path, text: TextIO) -> None:
        self.path = path
        self.count = 0
        self._text = text

    def add(self, page: str) -> None:
        """Write a page."""
        self._text.write(",\n" if self.count else "[\n")
        self._text.write(_TOKENS.sub(lambda found: found[1] or "},\n", page.strip()))
        self.count += 1


@contextmanager
def page_folder(folder: Path) -> Iterator[PageFolder]:
    """
    Make a folder ready for pages; without an error at the end, they are there.

    Raises:
        ApiError: It cannot be written.
    """
    draft = folder / f".pages-{token_hex(4)}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        try:
            pages = PageFolder(folder, draft)
            yield pages
            pages.publish()
        finally:
            rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise ApiError(f"{folder}: {error.strerror or 'cannot be written'}") from None
