"""
The sentences around an estimate: what was asked, what is on the statement, and what to know about the numbers.

Invariant: everything that makes a number less than certain is said: unpriced, left out, without a session.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from livekit_costmeter.billing.estimates.ledger import Recorded
from livekit_costmeter.billing.estimates.profiles import CallProfile
from livekit_costmeter.billing.estimates.quotes import Quote
from livekit_costmeter.cli.estimate.answer import Answer
from livekit_costmeter.pricing.measures import UNPRICED_REASONS
from livekit_costmeter.records import decimal_text
from livekit_costmeter.reporting.wording import money_text, name_text, records_text

THE_CHEAPEST = "the cheapest"
_MEASURES = {"paid": "what the account pays in all", "cost": "the providers' cost, because who pays is unknown"}
_MINUTE_STEP = Decimal("0.01")


def introduction(answer: Answer) -> str:
    """Say what one call is."""
    return _learned(answer.recorded) if answer.recorded else _described(answer.profile) if answer.profile else ""


def statement_lines(answer: Answer) -> Iterator[str]:
    """Say what a statement of the shown quote has: exact, and as the plan rounds it."""
    position = answer.shown
    bill = answer.statements.get(position)
    plan = answer.quotes[position].scheme.plan if bill else None
    if bill is None or plan is None:
        return
    exact, rounded = (money_text(amount, bill.currency, exact=True) for amount in (bill.money, bill.rounded_money))
    if plan.credits is not None and bill.credits is not None and bill.rounded_credits is not None:
        name = name_text(plan.credits.name)
        exact = f"{decimal_text(bill.credits)} {name} = {exact}"
        rounded = f"{decimal_text(bill.rounded_credits)} {name} = {rounded}"
    lines = "1 line" if bill.unknown == 1 else f"{bill.unknown} lines"
    unknown = f"; the bill of {lines} is not known" if bill.unknown else ""
    yield f"statement of one call: {rounded}; exactly {exact}{unknown}"


def remarks(answer: Answer) -> Iterator[str]:
    """Say which quote is shown and why, and what its numbers lack."""
    yield from _choice(answer)
    yield from _lacking(answer.quotes[answer.shown])
    spread = answer.quotes[answer.shown].spreads.get(answer.ranking.measure) if answer.recorded else None
    if spread is not None and spread.margin is not None:
        margin = money_text(spread.margin, spread.currency, exact=True)
        yield f"the mean of as many other such calls is within {margin} of this one, 19 times of 20"
    if answer.recorded and answer.recorded.without_session:
        count = answer.recorded.without_session
        yield f"{records_text(count)} without a session left out"


def _described(profile: CallProfile) -> str:
    minutes, seconds = divmod(profile.seconds, 60)
    length = f"{minutes:.0f}:{decimal_text(seconds):0>2} minutes, {profile.channel}, {profile.turns:,} turns"
    cached = f" + {profile.cached_input_tokens:,} cached" if profile.cached_input_tokens else ""
    tokens = f"{profile.input_tokens:,}{cached} + {profile.output_tokens:,} tokens a turn"
    if profile.channel == "chat":
        return f"one chat: {profile.turns:,} messages, {tokens}"
    share = (
        f"the agent speaks {decimal_text(profile.talk_ratio * 100)} % of the time ({profile.characters:,} characters)"
    )
    return f"one call: {length}, {share}, {tokens}"


def _learned(recorded: Recorded) -> str:
    if not recorded.calls or recorded.first is None or recorded.last is None:
        return "no calls"
    minutes = (recorded.seconds / 60 / recorded.calls).quantize(_MINUTE_STEP)
    period = f"{recorded.first:%Y-%m-%d %H:%M} to {recorded.last:%Y-%m-%d %H:%M}, UTC"
    calls = "1 call" if recorded.calls == 1 else f"{recorded.calls:,} calls"
    return f"like {calls} of {decimal_text(minutes)} minutes on average ({period})"


def _choice(answer: Answer) -> Iterator[str]:
    several = len(answer.quotes) > 1
    budget = "" if answer.max_per_minute is None else f" within {decimal_text(answer.max_per_minute)} a minute"
    prices = answer.ranking.lowest if several or budget else {}
    for currency, (amount, positions) in prices.items():
        more = f"; as cheap: {len(positions) - 1} more" if positions[1:] else ""
        price = money_text(amount, currency, exact=True)
        yield f"{THE_CHEAPEST}{budget} is {_title(answer.quotes[positions[0]])}: {price} a call{more}"
    if (several or budget) and not prices:
        yield f"none{budget or ' of these'} is known to be the cheapest"
    if len(prices) > 1:
        yield "currencies without an exchange rate between them are not compared"
    if several:
        yield f"compared by {_MEASURES[answer.ranking.measure]}"


def _title(quote: Quote) -> str:
    models = " + ".join(name_text(s.name) for s in quote.suppliers if s.component != "call" and s.model)
    plan = f"plan {quote.scheme.plan.name}" if quote.scheme.plan else ""
    return ", ".join(part for part in (plan, models) if part) or "as it was"


def _lacking(quote: Quote) -> Iterator[str]:
    texts = dict.fromkeys(text for part in quote.parts for missing in part.missing.values() for text in missing)
    if texts:
        yield f"unpriced or unknown: {'; '.join(_explained(text) for text in texts)}"
    if any(part.left_out for part in quote.parts):
        yield "left out: the carrier's price of the call, because the carrier is not known (--telephony PROVIDER)"


def _explained(text: str) -> str:
    what, _, reason = text.rpartition(": ")
    explanation = UNPRICED_REASONS.get(reason)
    return name_text(text) if explanation is None else f"{name_text(what)} ({explanation})"
