"""
Addresses of stores, which may hold a password: what of them may be said aloud.

Invariant: neither `shown` nor what has been through `conceal` holds a user, a password or a token of the address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

_EACH = re.compile(r",(?=\w+://)")
_PARTS = re.compile(r"(?P<scheme>\w+)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<rest>.*)", re.DOTALL)
_PASSWORD = re.compile(r"(?:password|token)=([^&#]+)", re.IGNORECASE)
_HIDDEN = "***"
_SHORTEST = 3
"""Shorter secrets would blank out half of every message, and guard nothing."""


class Secrets:
    """Blanks out secrets in texts that a client library or a server wrote."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in (secret, unquote(secret)) if len(form) >= _SHORTEST}
        self._forms = sorted(forms, key=len, reverse=True)

    def conceal(self, text: str) -> str:
        """Return the text on one line, each secret in it as `***`."""
        for form in self._forms:
            text = text.replace(form, _HIDDEN)
        return " ".join(text.split())


class Address(Secrets):
    """One URL, or several separated by commas; `shown` is all of it without what identifies the user."""

    def __init__(self, urls: str) -> None:
        self.urls = _EACH.split(urls)
        super().__init__(secret for url in self.urls for secret in _secrets(url))
        self.shown = ",".join(_shown(url) for url in self.urls)


def _shown(url: str) -> str:
    parts = _PARTS.fullmatch(url)
    if parts is None or "@" in parts["path"] + parts["rest"]:
        return _HIDDEN  # a password with a slash in it: who knows where it ends
    return f"{parts['scheme']}://{parts['authority'].rpartition('@')[2]}{parts['path']}"


def _secrets(url: str) -> Iterator[str]:
    parts = _PARTS.fullmatch(url)
    if parts is None:
        yield url
        return
    if "@" in url:
        user, _, password = url.partition("://")[2].rpartition("@")[0].partition(":")
        yield password or user  # a user alone is a token
    yield from _PASSWORD.findall(parts["rest"])
