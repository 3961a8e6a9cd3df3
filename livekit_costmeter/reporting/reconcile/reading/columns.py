"""
Whole columns of plain numbers, read at the speed of the interpreter's own loops.

Invariant: a column is read here only if `cells.number` would read every cell of it alike; any doubt is `None`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

_PLAIN = re.compile(r"[0-9.|]*").fullmatch
_TOO_LARGE = 10**18
_LONGEST = 80


def plain_numbers(found: Sequence[str]) -> list[Any] | None:
    """
    Read a column of plain numbers, written `59200`, `59200.0` or `0.5697`, blank as 0.

    Returns:
        Integers where all are whole, else decimals; `None` where one is anything else, or too large.
    """
    text = "|".join(found) + "|"
    if text.count("|") != len(found):
        return None
    # The floats of a spreadsheet: one split takes off the `.0` too.
    parts = text.split(".0|")[:-1] if text.count(".0|") == len(found) else found
    digits = "".join(parts)
    if not (digits.isascii() and digits.isdecimal()):
        return _mixture(found, text)
    try:
        values = [int(part or 0) for part in parts] if "" in parts else list(map(int, parts))
    except ValueError:  # longer than any number
        return None
    return values if max(values) < _TOO_LARGE else None


def _mixture(found: Sequence[str], text: str) -> list[Any] | None:
    if _PLAIN(text) is None or max(map(len, found)) > _LONGEST:
        return None
    try:
        values = [Decimal(cell or 0) for cell in found]
    except ArithmeticError:
        return None
    return values if max(values) < _TOO_LARGE else None
