"""
One cell at a time: text to numbers, instants and names.

Invariant: a cell has one reading or it is refused. `1,234` may be twelve hundred or one and a bit, and `01.05.2026` a
day in May or in January, so neither is read unless a mapping declares how. Numbers are finite, plain or with a small
exponent, below 10^18, and never negative unless the column may be.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from livekit_costmeter.records import parse_instant

_LONGEST = 80
_LARGEST = 17  # the place of the first digit
_SMALLEST = -60
_YEARS = range(2000, 2101)
_SECONDS = re.compile(r"[0-9]{9,10}(?:\.0+)?\Z")
_MILLISECONDS = re.compile(r"[0-9]{12,13}\Z")
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ]|\Z)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_LINE_ENDS = re.compile(r" *[\r\n\t]+ *")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?\Z")
_COMMA_GROUPS = re.compile(r"[+-]?[0-9]{1,3}(?:(?:,[0-9]{3}){2,}(?:\.[0-9]+)?|,[0-9]{3}\.[0-9]+)\Z")
_DOT_GROUPS = re.compile(r"[+-]?[0-9]{1,3}(?:(?:\.[0-9]{3}){2,}(?:,[0-9]+)?|\.[0-9]{3},[0-9]+)\Z")
_SPACE_GROUPS = re.compile(r"[+-]?[0-9]{1,3}(?:[ '\u00a0\u2009\u202f\u2019][0-9]{3})+(?:[.,][0-9]+)?\Z")
_DECIMAL_COMMA = re.compile(r"[+-]?(?:0+,[0-9]+|[0-9]+,(?:[0-9]{1,2}|[0-9]{4,})|[0-9]{4,},[0-9]+)\Z")
_ONE_DOT = re.compile(r"[+-]?[1-9][0-9]{0,2}\.[0-9]{3}\Z")
_GROUPING = re.compile(r"[ '\u00a0\u2009\u202f\u2019]")


class CellError(ValueError):
    """A cell that cannot be read; the message says what stands there and what was expected, not where."""


def shown(value: object) -> str:
    """Quote a value of a file for a message: shortened, without line breaks."""
    text = value if isinstance(value, str) else repr(value)
    return "`" + _CONTROL.sub("?", text[:40]) + ("...`" if len(text) > 40 else "`")  # noqa: PLR2004


def number(value: object, *, signed: bool = False, dots_may_group: bool = False) -> Decimal:
    """
    Read a number as a provider or a spreadsheet writes it.

    Args:
        value: Text of a cell, or a number of a JSON document.
        signed: A negative number is allowed: a credit, a price that is a debit.
        dots_may_group: The file comes from a place where `1.234` may be twelve hundred.

    Raises:
        CellError: It is not a number, or has two readings, or is out of range.
    """
    found = value if isinstance(value, Decimal) else _from_text(value, dots_may_group)
    if not found.is_finite():
        raise CellError(f"{shown(str(found))} is not a number")
    if found and not (found.adjusted() <= _LARGEST and found.adjusted() >= _SMALLEST):
        raise CellError(f"{shown(str(value))} is out of range; expected a number below 10^18")
    if found < 0 and not signed:
        raise CellError(f"{shown(str(value))} is negative; expected 0 or more")
    return found


def _from_text(value: object, dots_may_group: bool) -> Decimal:
    if not isinstance(value, str):
        raise CellError(f"{shown(value)} is not a number")
    text = value.strip()
    if len(text) > _LONGEST:
        raise CellError(f"{shown(text)} is out of range; expected a number below 10^18")
    if _NUMBER.match(text):
        if dots_may_group and _ONE_DOT.match(text):
            raise _ambiguous(text)
        return Decimal(text)
    return _grouped(text)


def _grouped(text: str) -> Decimal:
    if _COMMA_GROUPS.match(text):
        return Decimal(text.replace(",", ""))
    if _DOT_GROUPS.match(text):
        return Decimal(text.replace(".", "").replace(",", "."))
    if _SPACE_GROUPS.match(text):
        return Decimal(_GROUPING.sub("", text).replace(",", "."))
    if _DECIMAL_COMMA.match(text):
        return Decimal(text.replace(",", "."))
    if re.match(r"[+-]?[0-9]{1,3},[0-9]{3}\Z", text):
        raise _ambiguous(text)
    raise CellError(f"{shown(text)} is not a number; expected one such as 59200 or 0.5697")


def _ambiguous(text: str) -> CellError:
    return CellError(
        f"{shown(text)} has two readings (a decimal or a thousands separator); save the file with plain numbers, or "
        "declare `decimal` in a mapping"
    )


@lru_cache(maxsize=1 << 16)
def instant(text: str) -> datetime:
    """
    Read a Unix time (seconds or milliseconds) or an ISO 8601 instant; one without an offset is UTC.

    Raises:
        CellError: It is neither, or not of this century.
    """
    text = text.strip()
    try:
        found = _instant(text)
    except (ValueError, OverflowError):
        found = None
    if found is None or found.year not in _YEARS:
        raise CellError(f"{shown(text)} is not a time; expected Unix seconds or ISO 8601 such as 2026-05-01T00:00:00Z")
    return found


def check_year(found: datetime, text: str) -> None:
    """
    Refuse a time that is not of this century: it is a typo, or another kind of number.

    Raises:
        CellError: It is not.
    """
    if found.year not in _YEARS:
        raise CellError(f"{shown(text)} is not of the years {_YEARS[0]} to {_YEARS[-1]}")


def _instant(text: str) -> datetime | None:
    if _SECONDS.match(text):
        return datetime.fromtimestamp(int(text.partition(".")[0]), UTC)
    if _MILLISECONDS.match(text):
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(text))
    if _ISO.match(text):
        return parse_instant(text.removesuffix(" UTC"))
    return None


def is_date(text: str) -> bool:
    """Tell whether a time is a bare date."""
    return _DATE.match(text.strip()) is not None


def name(text: str) -> str | None:
    """
    Read a name: a model, a key id, a line item. Blank is `None`, a line end inside is a space.

    Raises:
        CellError: It has control characters, or is a formula of a spreadsheet.
    """
    text = _LINE_ENDS.sub(" ", text.strip())
    if _CONTROL.search(text):
        raise CellError(f"{shown(text)} has control characters; expected plain text")
    if text.startswith("="):
        raise CellError(f"{shown(text)} is a formula; expected plain text")
    return text or None


def currency(text: str | None) -> str:
    """
    Read a currency code in any case.

    Raises:
        CellError: It is not three letters.
    """
    code = (text or "").strip().upper()
    if re.fullmatch(r"[A-Z]{3}", code) is None:
        raise CellError(f"{shown(text)} is not a currency; expected a code such as USD")
    return code
