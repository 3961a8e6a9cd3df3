"""What holds for any usage under any plan."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livekit_costmeter.billing.statements import MixedCurrencies, statement
from livekit_costmeter.records import round_cost

EXACT = Context(prec=100, rounding=ROUND_HALF_EVEN)
TWELFTH = Decimal("1e-12")
RATES = {"USD": Decimal("83.10"), "EUR": Decimal("91.2345")}
SLOWLY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

money = st.decimals(0, 100, places=6)
seconds = st.decimals(0, 4000, places=3)
pulses = st.none() | st.sampled_from(["1", "6", "0.1", "7.5", "60"])


def priced(draw, plan_currencies, **keys):
    row = {"price": draw(money), "currency": draw(st.sampled_from(plan_currencies)), **keys}
    if draw(st.booleans()):
        row["priority_price"] = draw(money)
    return row


@st.composite
def plans(draw, *, proportional=False):
    """Keys of a plan; a proportional one has neither pulses and minimums nor fees per call."""
    currency = draw(st.sampled_from(["INR", "USD"]))
    others = ["USD", "EUR", "INR", "credits"] if currency == "INR" else ["USD", "credits"]
    rounds = {"pulse_seconds": draw(pulses), "minimum_seconds": draw(st.sampled_from(["0", "30"]))}
    rounds = {} if proportional else {key: value for key, value in rounds.items() if value is not None}
    choices = {
        "rates": [
            priced(draw, others, id="tts", component="tts", unit="characters", per=draw(st.sampled_from([1, 7, 1000]))),
            priced(draw, others, id="in", component="llm", unit="input_tokens", per=1000),
            priced(draw, others, id="stt", component="stt", unit="audio_seconds", per=60, **rounds),
        ],
        "telephony": [priced(draw, others, id="did", provider="vobiz", per_seconds=60, **rounds)],
        "fees": [
            priced(draw, others, id="minutes", per="minute", **rounds),
            priced(draw, others, id="all", per="minute", legs="all"),
        ],
    }
    if not proportional:
        choices["fees"].append(priced(draw, others, id="call", per="call"))
    lists = {name: [row for row in rows if draw(st.booleans())] for name, rows in choices.items()}
    markups = [{"component": name, "markup": draw(money)} for name in ("llm", "*") if draw(st.booleans())]
    fx = [{"from": name, "to": "INR", "rate": rate} for name, rate in RATES.items()]
    return {
        "currency": currency,
        "credits": {"price": draw(st.sampled_from(["0.005", "0.3", "7"]))},
        "taxes": [{"id": "gst", "rate": "0.18"}] if draw(st.booleans()) else [],
        "exchange_rates": fx if currency == "INR" else [],
        **({"pass_through": markups} if draw(st.booleans()) else {}),
        **lists,
    }


WORK = {
    ("llm", "openai", "gpt-4o-mini"): ("input_tokens", "cached_input_tokens", "output_tokens"),
    ("tts", "acme-tts", "flash"): ("characters", "output_audio_seconds"),
    ("stt", "acme-stt", "nova"): ("audio_seconds", "connection_seconds"),
    ("call", "vobiz", "inbound"): ("call_seconds",),
    ("call", "twilio", "outbound"): ("call_seconds",),
}


@st.composite
def operations(draw):
    """One operation as the pieces in which it was measured: who, and the quantities of each piece."""
    work = draw(st.sampled_from(sorted(WORK)))
    pieces = draw(st.lists(st.fixed_dictionaries(dict.fromkeys(WORK[work], seconds)), min_size=1, max_size=5))
    return work, pieces


def sums(pieces):
    return {unit: sum((piece[unit] for piece in pieces), Decimal(0)) for unit in pieces[0]}


def records(usage, operation, owner="platform"):
    """Return the operation's records: increments, the last with the total."""
    work, pieces = operation
    fields = {"key_owner": owner, "operation_id": "op"}
    open_ones = [usage(*work, id=f"r{number}", **piece, **fields) for number, piece in enumerate(pieces[:-1])]
    return [*open_ones, usage(*work, id="last", operation_total=sums(pieces), **pieces[-1], **fields)]


def total(lines):
    return sum((line.billed_cost for line in lines if line.billed_cost is not None), Decimal(0))


@SLOWLY
@given(keys=plans(), operation=operations(), owner=st.sampled_from(["platform", "acme", "unknown"]), fast=st.booleans())
def test_every_line_is_in_the_plans_currency_and_explains_its_cost(usage, plan, billed, keys, operation, owner, fast):
    """Cost is billable quantity x unit price / price per, rounded once; lines count from 0; nothing mixes."""
    terms = plan(**keys)
    for record in records(usage, operation, owner):
        lines = billed(record, terms, priority=fast)
        assert [line.line for line in lines] == list(range(len(lines)))
        order = [("usage", "fee", "tax").index(line.kind) for line in lines]
        assert order == sorted(order)
        for line in lines:
            assert line.billed_currency in (None, terms.currency)
            assert (line.billed_cost is None) == (line.billed_currency is None) == (line.credits is None)
            if line.kind != "usage":
                exact = EXACT.divide(EXACT.multiply(line.billable_quantity, line.unit_price), line.price_per)
                assert line.cost == line.billed_cost == round_cost(exact)
                assert line.currency == terms.currency
                assert line.quantity or line.billable_quantity
                assert line.unit_price.as_tuple().exponent >= -18


@SLOWLY
@given(keys=plans(), operation=operations())
def test_the_lines_of_a_record_sum_to_its_total_exactly(usage, plan, billed, keys, operation):
    """A statement's lines and its total are the same sum, however the charges are cut."""
    terms = plan(**keys)
    lines = [line for record in records(usage, operation) for line in billed(record, terms)]
    whole = statement(lines, terms)
    assert whole.money == sum((line.money for line in whole.lines), Decimal(0)) == total(lines)
    assert whole.credits == sum((line.credits or Decimal(0) for line in lines), Decimal(0))
    parts = [statement([line], terms) for line in lines]
    assert sum((part.money for part in parts), Decimal(0)) == whole.money
    assert whole.unknown == sum(line.billed_cost is None for line in lines)


@SLOWLY
@given(keys=plans(proportional=True), operation=operations())
def test_splitting_usage_never_makes_a_proportional_plan_cheaper_or_dearer(usage, plan, billed, keys, operation):
    """Pieces and the whole differ by the rounding of each line, in the currency that it is rounded in."""
    terms = plan(**keys)
    work, pieces = operation
    split = [line for record in records(usage, operation) for line in billed(record, terms)]
    whole = billed(usage(*work, **sums(pieces)), terms)
    worst = (len(split) + len(whole)) * TWELFTH * max(RATES.values())
    assert abs(total(split) - total(whole)) <= worst


@SLOWLY
@given(keys=plans(), operation=operations())
def test_a_pulse_never_bills_less_than_was_used(usage, plan, billed, keys, operation):
    """For each rule: at least what was measured, at least the minimum, whole pulses, and not one pulse too many."""
    terms = plan(**keys)
    rules = {rule.id: rule for rule in terms.rules}
    used: dict[str, list[Decimal]] = {}
    for record in records(usage, operation):
        for line in billed(record, terms):
            name = line.pricing_source.partition("?")[0].rpartition("#")[2]
            if line.kind == "fee" and name in rules and rules[name].unit.endswith("_seconds"):
                measured, charged = used.setdefault(name, [Decimal(0), Decimal(0)])
                assert line.billable_quantity >= line.quantity
                used[name] = [measured + line.quantity, charged + line.billable_quantity]
    for name, (measured, charged) in used.items():
        rule = rules[name]
        pulse = rule.pulse or Decimal(0)
        assert charged >= max(measured, rule.minimum)
        assert charged in (measured, rule.minimum) or (charged % pulse == 0 and charged - measured < pulse)


def test_a_statement_refuses_a_mixture(usage, plan, billed):
    """A charge that was billed in another currency is refused, not converted."""
    lines = billed(usage("llm", "openai", "gpt-4o-mini", input_tokens=1), plan())
    inr = plan(currency="INR", exchange_rates=[{"from": "USD", "to": "INR", "rate": "83"}])
    with pytest.raises(MixedCurrencies, match="a charge in USD on a statement in INR"):
        statement(lines, inr)
