"""
What an estimate came to, and how programs read it: JSON and CSV.

Invariant: decimals are plain strings and the order is fixed. What is not known in full names what it lacks.

JSON: `{at, call, learned, calls_per_month, max_per_minute, compared_by, quotes: [...]}`. `call` describes the call
(minutes, talk_ratio, turns, tokens per turn, characters, channel), `learned` the calls of a ledger (calls, minutes,
first, last, without_session, quantities per call); the other one is null. A quote is `{plan, models: [{component,
model, owner}], cheapest, fits, complete, per_call, per_minute, per_month, spread, credits, statement, parts: [{part,
cost, billed, own, paid, share, credits, missing, sources}]}`. The three `per_` are `{cost, billed, own, paid}`, each by
currency: what providers charge, what the plan bills, what providers charge to the account itself, and the last two
together. `parts` are per call. `spread`, of recorded calls only, goes from such an amount to `{currency, mean, p50,
p90, margin}` or null; the margin of few calls is null. `missing` goes from an amount to what it lacks.

CSV: one line per quote, part and currency, and one for each quote's total; amounts are per call but for the last two.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from livekit_costmeter.billing.estimates.ledger import Recorded
from livekit_costmeter.billing.estimates.parts import MEASURES, Part, Sums
from livekit_costmeter.billing.estimates.profiles import CallProfile
from livekit_costmeter.billing.estimates.quotes import Quote, Ranking, share
from livekit_costmeter.billing.statements import Statement, StatementLine
from livekit_costmeter.records import decimal_text, format_instant

_COMPONENTS = ("llm", "stt", "tts", "realtime", "call")
_SHARE_STEP = Decimal("1e-6")
_AMOUNTS = (*MEASURES, "paid")
_CSV = (
    *("rank", "plan", *_COMPONENTS, "part", "currency"),
    *(f"{name}_per_call" for name in _AMOUNTS),
    *("share", "credits_per_call", "missing", "complete", "fits", "cheapest", "paid_per_minute", "paid_per_month"),
)
Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """Ranked quotes with what was asked; `statements` are those of the quotes that have one, by position."""

    at: datetime
    ranking: Ranking
    profile: CallProfile | None
    recorded: Recorded | None
    calls_per_month: int
    max_per_minute: Decimal | None
    statements: Mapping[int, Statement]

    @property
    def quotes(self) -> Sequence[Quote]:
        """Return the quotes, the cheapest first."""
        return self.ranking.quotes

    @property
    def shown(self) -> int:
        """Return the position of the quote to be shown in detail: the cheapest, else the first."""
        return self.ranking.cheapest[0] if self.ranking.cheapest else 0

    def fits(self, quote: Quote) -> bool | None:
        """Tell whether a quote is within the budget; `None` without one, or where it is not known."""
        return quote.fits(self.ranking.measure, self.max_per_minute)

    def share(self, quote: Quote, part: Part) -> Decimal | None:
        """Return a part's share of what the quotes are compared by, or `None`."""
        return quote.shares[self.ranking.measure].get(part.name)


def amounts_of(part: Part) -> dict[str, Sums]:
    """Return the amounts of a part by name: cost, billed, own and paid."""
    return {**part.amounts, "paid": part.paid}


def answer_json(answer: Answer) -> str:
    """Return the answer as an indented JSON document, without a newline at the end."""
    fields = {
        "at": format_instant(answer.at),
        "call": answer.profile and _profile_fields(answer.profile),
        "learned": answer.recorded and _recorded_fields(answer.recorded),
        "calls_per_month": answer.calls_per_month,
        "max_per_minute": answer.max_per_minute and decimal_text(answer.max_per_minute),
        "compared_by": answer.ranking.measure,
        "quotes": [_quote_fields(answer, position) for position in range(len(answer.quotes))],
    }
    return json.dumps(fields, indent=2, ensure_ascii=False)


def answer_csv(answer: Answer) -> str:
    """Return the answer as CSV with a header, lines ending in a bare newline."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV, restval=None, lineterminator="\n")
    writer.writeheader()
    for position in range(len(answer.quotes)):
        writer.writerows(_csv_rows(answer, position))
    return text.getvalue()


def _quote_fields(answer: Answer, position: int) -> Fields:
    quote, total = answer.quotes[position], amounts_of(answer.quotes[position].total)
    statement = answer.statements.get(position)
    return {
        "plan": quote.scheme.plan and quote.scheme.plan.name,
        "models": [{"component": s.component, "model": s.name, "owner": s.owner} for s in quote.suppliers],
        "cheapest": position in answer.ranking.cheapest,
        "fits": answer.fits(quote),
        "complete": quote.knows(answer.ranking.measure),
        "per_call": {name: _sums(quote.per_call(sums)) for name, sums in total.items()},
        "per_minute": {name: _sums(quote.per_minute(sums)) for name, sums in total.items()},
        "per_month": {name: _sums(quote.per_month(sums, answer.calls_per_month)) for name, sums in total.items()},
        "spread": _spread_fields(quote) if answer.recorded else None,
        "credits": _credits(quote, quote.total),
        "statement": statement and _statement_fields(statement),
        "parts": [_part_fields(answer, quote, part) for part in quote.parts],
    }


def _part_fields(answer: Answer, quote: Quote, part: Part) -> Fields:
    part_share = answer.share(quote, part)
    return {
        "part": part.name,
        **{name: _sums(quote.per_call(sums)) for name, sums in amounts_of(part).items()},
        "share": None if part_share is None else decimal_text(part_share.quantize(_SHARE_STEP)),
        "credits": _credits(quote, part),
        "missing": {name: list(texts) for name, texts in part.missing.items()},
        "left_out": part.left_out,
        "sources": list(part.sources),
    }


def _spread_fields(quote: Quote) -> Fields:
    return {
        measure: spread
        and {
            "currency": spread.currency,
            **{name: decimal_text(getattr(spread, name)) for name in ("mean", "p50", "p90")},
            "margin": None if spread.margin is None else decimal_text(spread.margin),
        }
        for measure, spread in quote.spreads.items()
    }


def _statement_fields(statement: Statement) -> Fields:
    return {
        "currency": statement.currency,
        **_bill_fields(statement),
        "unknown": statement.unknown,
        "lines": [
            {"rule": line.rule, "component": line.component, "kind": line.kind, **_bill_fields(line)}
            for line in statement.lines
        ],
    }


def _bill_fields(bill: Statement | StatementLine) -> Fields:
    amounts = {name: getattr(bill, name) for name in ("money", "rounded_money", "credits", "rounded_credits")}
    return {name: None if amount is None else decimal_text(amount) for name, amount in amounts.items()}


def _profile_fields(profile: CallProfile) -> Fields:
    return {
        "minutes": decimal_text(share(profile.seconds, 1, 60)),
        "talk_ratio": decimal_text(profile.talk_ratio),
        "turns": profile.turns,
        "input_tokens": profile.input_tokens,
        "cached_input_tokens": profile.cached_input_tokens,
        "output_tokens": profile.output_tokens,
        "characters": profile.characters,
        "channel": profile.channel,
        "number_type": profile.number_type,
    }


def _recorded_fields(recorded: Recorded) -> Fields:
    calls = recorded.calls
    return {
        "calls": calls,
        "minutes": decimal_text(share(recorded.seconds, 1, 60)),
        "first": recorded.first and format_instant(recorded.first),
        "last": recorded.last and format_instant(recorded.last),
        "without_session": recorded.without_session,
        "quantities": [
            {
                **dict(zip(("component", "model", "owner", "unit"), usage, strict=True)),
                "per_call": decimal_text(share(quantity, 1, calls)),
            }
            for usage, quantity in sorted(recorded.quantities.items())
            if calls
        ],
    }


def _csv_rows(answer: Answer, position: int) -> Iterator[Fields]:
    quote = answer.quotes[position]
    common = {
        "rank": position + 1,
        "plan": quote.scheme.plan and quote.scheme.plan.name,
        **{supplier.component: supplier.name for supplier in quote.suppliers},
        "complete": _flag(quote.knows(answer.ranking.measure)),
        "fits": _flag(answer.fits(quote)),
        "cheapest": _flag(position in answer.ranking.cheapest),
    }
    for part in (*quote.parts, quote.total):
        amounts = amounts_of(part)
        part_share = answer.share(quote, part)
        once = {
            "share": None if part_share is None else decimal_text(part_share.quantize(_SHARE_STEP)),
            "credits_per_call": _credits(quote, part),
            "missing": ";".join(sorted({text for texts in part.missing.values() for text in texts})),
        }
        for currency in sorted({currency for sums in amounts.values() for currency in sums}) or [""]:
            calls = answer.calls_per_month
            yield {
                **common,
                "part": part.name,
                "currency": currency,
                **{f"{name}_per_call": _sums(quote.per_call(sums)).get(currency) for name, sums in amounts.items()},
                **once,
                "paid_per_minute": _sums(quote.per_minute(amounts["paid"])).get(currency),
                "paid_per_month": _sums(quote.per_month(amounts["paid"], calls)).get(currency),
            }
            once = {}


def _credits(quote: Quote, part: Part) -> str | None:
    return None if part.credits is None else decimal_text(share(part.credits, 1, quote.calls))


def _sums(sums: Sums) -> dict[str, str]:
    return {currency: decimal_text(amount) for currency, amount in sorted(sums.items())}


def _flag(value: bool | None) -> str:
    return "" if value is None else str(value).lower()
