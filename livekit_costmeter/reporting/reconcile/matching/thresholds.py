"""
How much may differ before a row wants a look.

Invariant: what the provider reported itself may not differ at all. Cost and what was observed have a threshold per
component; what is estimated widens both by its share, and the row says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from livekit_costmeter.reporting.reconcile.matching.slots import EXACT, ZERO

DEFAULTS: Mapping[str, Decimal] = {
    "llm": Decimal(5),
    "realtime": Decimal(5),
    "stt": Decimal(2),
    "tts": Decimal(3),
    "call": Decimal(2),
}
"""Percent of the provider's number."""

OTHERS = Decimal(5)
_HUNDRED = Decimal(100)
# Hours as binary fractions do not come back to the last digit.
NOISE = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Percent per component, in place of the defaults."""

    own: Mapping[str, Decimal]

    def of(self, component: str | None) -> Decimal:
        """Return the threshold of a component."""
        name = component or ""
        return self.own.get(name, self.own.get("all", DEFAULTS.get(name, OTHERS)))


def percent(difference: Decimal, of: Decimal) -> Decimal | None:
    """Return a difference in percent of the provider's number; `None` where that is 0 and there is a difference."""
    if not of:
        return None if difference else ZERO
    return EXACT.multiply(EXACT.divide(difference, of), _HUNDRED)
