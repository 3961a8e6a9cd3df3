"""
Currencies: which there are, how statements round them, and the dated table that converts one into another.

Invariant: a rate is never fetched, inverted or derived from others. An instant before the first dated rate of a pair
has none, and what depends on it is not known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal

from livekit_costmeter.pricing.rates import BASE, midnight
from livekit_costmeter.records import decimal_text

_CODES = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF "
    "CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL "
    "HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD "
    "MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG "
    "QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD "
    "TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG"
)

EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN)
"""How money is reckoned with before it is rounded, whatever the caller's own context."""
CURRENCIES = frozenset(_CODES.split(" "))
"""The currencies in circulation, ISO 4217."""

_WHOLE_CODES = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_WITHOUT_MINOR_UNIT = frozenset(_WHOLE_CODES.split(" "))
_THOUSANDTHS = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))


@dataclass(frozen=True, slots=True)
class ExchangeRate:
    """One of `source` is `rate` of `target`, from `start` (UTC, inclusive) on; `None` is always."""

    source: str
    target: str
    rate: Decimal
    start: datetime | None = None

    @property
    def tag(self) -> str:
        """Name the rate as source strings do: `USD-INR:83.1@2026-01-01`."""
        since: date | str = BASE if self.start is None else self.start.date()
        return f"{self.source}-{self.target}:{decimal_text(self.rate)}@{since}"

    @classmethod
    def of(cls, source: str, target: str, rate: Decimal, effective_from: date | None) -> ExchangeRate:
        """Return the rate that a row of a file states."""
        return cls(source, target, rate, None if effective_from is None else midnight(effective_from))


class ExchangeRates:
    """A table of dated rates, and another that is asked where this one has no answer."""

    def __init__(self, rows: Iterable[ExchangeRate] = (), otherwise: ExchangeRates | None = None) -> None:
        self._otherwise = otherwise
        self._pairs: dict[tuple[str, str], list[ExchangeRate]] = {}
        for row in sorted(rows, key=_start, reverse=True):
            self._pairs.setdefault((row.source, row.target), []).append(row)

    def rate(self, source: str, target: str, at: datetime) -> ExchangeRate | None:
        """Return the rate in force at an aware instant, or `None`; a currency is worth one of itself."""
        if source == target:
            return ExchangeRate(source, target, Decimal(1))
        for row in self._pairs.get((source, target), ()):
            if _start(row) <= at:
                return row
        return None if self._otherwise is None else self._otherwise.rate(source, target, at)

    def knows(self, source: str, target: str) -> bool:
        """Tell whether there is a rate at any time."""
        if source == target or (source, target) in self._pairs:
            return True
        return self._otherwise is not None and self._otherwise.knows(source, target)

    def starts(self) -> set[datetime]:
        """Return every instant at which a rate begins."""
        own = {row.start for rows in self._pairs.values() for row in rows if row.start is not None}
        return own if self._otherwise is None else own | self._otherwise.starts()


def minor_unit(currency: str) -> Decimal:
    """Return the smallest amount of a currency that a statement shows."""
    if currency in _WITHOUT_MINOR_UNIT:
        return Decimal(1)
    return Decimal("0.001") if currency in _THOUSANDTHS else Decimal("0.01")


def _start(row: ExchangeRate) -> datetime:
    return row.start or datetime.min.replace(tzinfo=UTC)
