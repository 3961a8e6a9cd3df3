"""
What a provider says: one line of an export, in the units of the ledger.

Invariant: a line repeats what stands in the file and adds nothing. What the file does not say is `None`, never 0 and
never a guess; quantities of one file are disjoint; money and quantities are `Decimal`.

A line with a `unit` and no `quantity` is money for that unit. Providers that sell credits have no unit for them: such
a line has its credits in `cost` and `credits` as its `currency`. A line of a cost file may also carry the quantity
that was billed; where a usage file is at hand too, that is the same usage again and must not be added to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

CREDITS = "credits"
"""The `currency` of a provider's own credits; in lower case, so that it is never taken for a currency code."""


class ExportError(ValueError):
    """A provider file that cannot be read: one line, `<file>:<line>: <what is wrong; what was expected>`."""


@dataclass(frozen=True, slots=True)
class ProviderLine:
    """
    One statement of a provider about one period.

    Attributes:
        provider: Canonical id (`openai`, `deepgram`, `twilio`, ...).
        model: As the provider writes it; `None` where the file does not say, or names several at once.
        component: `stt`, `llm`, `tts`, `realtime` or `call`; `None` where the file does not say.
        unit: A unit of the ledger; `None` for a line of money alone.
        quantity: In `unit`.
        cost: In whole units of `currency`; `None` where the file holds usage only.
        currency: Three capitals, or `credits`.
        start: Aware, UTC, inclusive.
        end: Aware, UTC, exclusive.
        key: The provider's id of the API key.
        request_id: Set where the line is one request.
        service_tier: As the provider writes it; `batch` for batched work.
        detail: What the provider calls the line: line item, description, SKU.
        place: `file:line`, or `file:line#path` inside JSON; of the first row where rows of one hour were added up.
    """

    provider: str
    model: str | None
    component: str | None
    unit: str | None
    quantity: Decimal | None
    cost: Decimal | None
    currency: str | None
    start: datetime
    end: datetime
    key: str | None = None
    request_id: str | None = None
    service_tier: str | None = None
    detail: str | None = None
    place: str = ""
