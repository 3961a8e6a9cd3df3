"""
Which texts of the configuration are secret, and how they are kept out of messages that somebody else wrote.

Invariant: a message that has been through `Concealer` shares no eight characters in a row with a secret, nor the whole
of a shorter one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

_MASK = "***"
_RUN = 8
_SHORTEST = 4
"""Shorter ones would blank out half of every message, and guard nothing."""
_IN_URL = re.compile(r"://[^/\s:@]*:(.+)@")
_IN_PAIRS = re.compile(r"(?:password|passwd|pwd|secret|token|api_?key)\s*=\s*('[^']*'|[^&;\s]+)", re.IGNORECASE)
_WORD = re.compile(r"[\w+=.~-]{16,}")
_LIKE_A_KEY = re.compile(r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{16,}")
"""Sixteen letters and digits without a break: no name of ours or of a model has them, and every provider's key has."""


def mask_keys(text: str) -> str:
    """Blank out what looks like a provider's key that was pasted into a configuration file."""
    return _WORD.sub(lambda word: _MASK if _LIKE_A_KEY.search(word[0]) else word[0], text)


def secrets_of(options: Mapping[str, Any], expanded: Iterable[str]) -> set[str]:
    """Return what is secret in a sink's options.

    Passwords of URLs and of `password=...` pairs are; what came out of an environment variable is as a whole, unless
    such a password is found in it.
    """
    found = {password for text in _texts(options) for password in _passwords(text)}
    for text in expanded:
        found.update(_passwords(text) or [text])
    return {secret for secret in found if len(secret) >= _SHORTEST}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _passwords(text: str) -> list[str]:
    return [*_IN_URL.findall(text), *(found.strip("'") for found in _IN_PAIRS.findall(text))]


class Concealer:
    """Blanks out secrets, and long parts of them, in a text; also where they are URL-encoded or decoded."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {
            form for secret in secrets for form in (secret, unquote(secret), quote(secret, ""), quote_plus(secret))
        }
        self._runs = frozenset(run for form in forms for run in _runs(form))
        self._sizes = sorted({len(run) for run in self._runs})

    def __call__(self, text: str) -> str:
        """Return the text with each secret part as `***`."""
        hidden = bytearray(len(text))
        for size in self._sizes:
            for start in range(len(text) - size + 1):
                if text[start : start + size] in self._runs:
                    hidden[start : start + size] = b"\1" * size
        return re.sub("\0+", _MASK, "".join("\0" if flag else char for char, flag in zip(text, hidden, strict=True)))


def _runs(secret: str) -> Iterator[str]:
    size = min(len(secret), _RUN)
    return (secret[start : start + size] for start in range(len(secret) - size + 1))
