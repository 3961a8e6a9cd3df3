"""
Phone numbers on their way into a record: masked (default), hashed, or left in full if the configuration says so.

Invariant: every text that a caller or a platform chose (room, participant, labels, account) passes through here first.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal

PhoneNumbers = Literal["masked", "hash", "full"]
_INTERNATIONAL = r"\+\s?\d(?:[\s().-]{0,2}\d){6,14}"
_FORMATTED = (
    r"(?:1[\s.-])?(?:\(\d{2,5}\)[\s.-]?|\d{3}[\s.-])\d{3,4}[\s.-]?\d{3,4}"
    r"|0\d{1,4}[\s.-]\d{3,4}[\s.-]?\d{3,4}|0?[6-9]\d{4}[\s.-]\d{5}"
)
# No subscriber number has ten digits from 1 on, nor more than eleven: those are clocks (`room-1763662285123`).
# Nor is the last group of a UUID one.
_BARE = r"(?<![0-9a-fA-F]{4}-)(?:1\d{10}|[02-9]\d{9,14})"
_EDGES = r"(?<![0-9A-Za-z]){}(?![0-9A-Za-z])"
_NUMBER = re.compile(_EDGES.format(f"(?:{_INTERNATIONAL}|{_FORMATTED}|{_BARE})"))
_ACCOUNT_NUMBER = re.compile(_EDGES.format(f"(?:{_INTERNATIONAL})"))
_ANYTHING = re.compile(r"(?s).+")
_KEPT_DIGITS = 2


class Privacy:
    """Masks phone numbers in texts."""

    def __init__(self, phone_numbers: PhoneNumbers = "masked", *, secret: Callable[[], bytes]) -> None:
        self._mode = phone_numbers
        self._secret = secret

    def text(self, text: str | None) -> str | None:
        """Mask every phone number in a text."""
        if not text or self._mode == "full":
            return text
        return _NUMBER.sub(self._replace, text)

    def account(self, text: str) -> str:
        """Mask international numbers only: accounts are often plain digits and must stay apart."""
        return text if self._mode == "full" else _ACCOUNT_NUMBER.sub(self._replace, text)

    def phone_number(self, number: str) -> str:
        """Mask what is known to be a phone number, however short or oddly written."""
        return number if self._mode == "full" else _ANYTHING.sub(self._replace, number)

    def texts(self, texts: Mapping[str, object]) -> dict[str, str]:
        """Mask every value of a mapping; keys are the user's own words."""
        return {name: self.text(str(value)) or "" for name, value in texts.items()}

    def _replace(self, match: re.Match[str]) -> str:
        number = match.group()
        digits = re.sub(r"\D", "", number)
        if self._mode == "hash":
            digits = digits or number  # a name that a SIP address has in place of a number
            with suppress(OSError):  # the disk refuses the secret: masked says less, and says it at once
                return "tel_" + hmac.new(self._secret(), digits.encode(), hashlib.sha256).hexdigest()[:12]
        return ("+" if number.startswith("+") else "") + "*" * (len(digits) - _KEPT_DIGITS) + digits[-_KEPT_DIGITS:]
