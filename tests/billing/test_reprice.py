"""What a past period costs at other prices, and the rows that correct it."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livekit_costmeter.billing.corrections import Corrections
from livekit_costmeter.billing.differences import Differences
from livekit_costmeter.billing.reprice import Repricer, usage_of
from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.pricing.policies import PolicyModel
from livekit_costmeter.pricing.ratecards import RateCard, overrides_card
from livekit_costmeter.pricing.schema import RateCardFile
from livekit_costmeter.records import UsageRecord, charge_json
from livekit_costmeter.reporting import build_report

NOON = datetime(2026, 10, 20, 12, tzinfo=UTC)
HEARD = {"provider": "deepgram", "model": "nova-3", "unit": "audio_seconds", "per": 60}


def book(*rows, name="card", policies=(), **options):
    """Return a price book of one card alone."""
    card = RateCard.from_model(RateCardFile.model_validate({"name": name, "rates": rows}), "0123456789ab")
    return PriceBook([card], catalogs=[], overrides=overrides_card([]), policies=policies, **options)


def llm(price, **fields):
    """Return a row that prices input tokens."""
    return {"provider": "openai", "model": "m", "unit": "input_tokens", "price": str(price), "per": 1000, **fields}


def usage(identity="r1", component="llm", provider="openai", model="m", *, units=None, **fields):
    """Build a usage record, by default one of 1000 input tokens on the platform's key."""
    quantities = {unit: Decimal(str(amount)) for unit, amount in (units or {"input_tokens": 1000}).items()}
    defaults = {"id": identity, "at": NOON, "key_owner": "platform", **fields}
    return UsageRecord(component=component, provider=provider, model=model, quantities=quantities, **defaults)


def corrections(ledger, prices, billing=None):
    """Return what repricing a ledger would book."""
    booked = Corrections()
    booked.add(ledger)
    repriced = Repricer(lambda record: rate(record, prices), billing, booked).reprice(ledger)
    return [row for record in repriced for row in record.corrections]


def sums(ledger, value="cost", currency="currency"):
    """Add up a ledger by original record, unit and currency; where nothing is known there is no sum."""
    found = defaultdict(Decimal)
    for charge in ledger:
        if getattr(charge, value) is not None:
            key = charge.corrects or charge.record_id, charge.unit, getattr(charge, currency)
            found[key] += getattr(charge, value)
    return {key: amount for key, amount in found.items() if amount}


def test_a_new_rate_card_is_a_difference():
    """The row carries the difference, the line it corrects, the new source, and no quantity."""
    ledger = rate(usage(account="acme", labels={"campaign": "q4"}), book(llm("0.10"), name="old"))
    (row,) = corrections(ledger, book(llm("0.12"), name="new"))
    assert (row.kind, row.corrects, row.line, row.unit) == ("correction", "r1", 0, "input_tokens")
    assert (row.cost, row.currency, row.billed_cost, row.billed_currency) == (Decimal("0.02"), "USD") * 2
    assert row.pricing_source == "ratecard:new@0123456789ab#openai/m@base?reprice=1"
    assert (row.quantity, row.billable_quantity, row.unit_price, row.pricing_status) == (0, 0, None, "priced")
    assert (row.at, row.account, row.labels, row.session_id) == (NOON, "acme", {"campaign": "q4"}, None)
    assert row.record_id.startswith("reprice-")


def test_the_same_prices_correct_nothing():
    """A period at the prices of now has no differences, whoever names them."""
    ledger = rate(usage(), book(llm("0.10"), name="old"))
    assert corrections(ledger, book(llm("0.100"), name="new")) == []


def test_the_price_of_the_day_counts():
    """What a dated card changes from some day on is corrected from that day on."""
    old = book(llm("0.10"))
    ledger = [*rate(usage("r1"), old), *rate(usage("r2", at=NOON + timedelta(days=1)), old)]
    new = book(llm("0.10", effective_to="2026-10-21"), llm("0.30", effective_from="2026-10-21"))
    assert [(row.corrects, row.cost) for row in corrections(ledger, new)] == [("r2", Decimal("0.2"))]


def test_corrections_of_several_reprices_add_up():
    """There and back and there again are records with ids of their own, though two have the same amounts."""
    ledger = rate(usage(), book(llm("0.10")))
    for price in ("0.12", "0.10", "0.12", "0.10"):
        ledger += corrections(ledger, book(llm(price)))
        assert sums(ledger) == {("r1", "input_tokens", "USD"): Decimal(price)}
    assert len({charge.record_id for charge in ledger}) == 5


def test_who_books_the_same_books_the_same_bytes():
    """Two processes that reprice the same ledger make the same rows with the same ids."""
    ledger = rate(usage(), book(llm("0.10")))
    rows = [corrections(ledger, book(llm("0.12"))) for _ in range(2)]
    assert list(map(charge_json, rows[0])) == list(map(charge_json, rows[1]))


def test_another_currency_takes_the_old_one_back():
    """One row brings the new amount in, another takes the old one out; the next run books nothing."""
    ledger = rate(usage(), book(llm("0.10")))
    new = book(llm("9", currency="INR"))
    rows = corrections(ledger, new)
    assert [(row.line, row.cost, row.currency) for row in rows] == [(0, 9, "INR"), (1, Decimal("-0.1"), "USD")]
    assert [(row.billed_cost, row.billed_currency) for row in rows] == [(9, "INR"), (Decimal("-0.1"), "USD")]
    assert len({row.record_id for row in rows}) == 1
    assert corrections([*ledger, *rows], new) == []
    assert sums([*ledger, *rows]) == {("r1", "input_tokens", "INR"): 9}


def test_what_had_no_price_gets_one():
    """The correction carries the whole amount, and a report counts the record as priced."""
    ledger = rate(usage(), book(llm(1, model="other")))
    (row,) = corrections(ledger, book(llm("0.12")))
    assert (row.cost, row.billed_cost) == (Decimal("0.12"), Decimal("0.12"))
    assert row.pricing_source.endswith("?was=unpriced&reprice=1")
    before, after = (build_report(charges, ["model"]) for charges in (ledger, [*ledger, row]))
    assert (before.total.unpriced_records, before.total.billed_incomplete) == (1, True)
    assert (after.total.unpriced_records, after.total.billed_incomplete, after.unpriced) == (0, False, ())
    assert after.total.cost == after.total.billed_cost == {"USD": Decimal("0.12")}


def test_what_is_free_now_is_known_to_be():
    """A price of 0 where there was none is booked as well: it is no longer unknown."""
    ledger = rate(usage(), book(llm(1, model="other")))
    rows = corrections(ledger, book(llm(0)))
    assert [(row.cost, row.pricing_status) for row in rows] == [(0, "free")]
    assert corrections([*ledger, *rows], book(llm(0))) == []


def test_what_would_have_no_price_keeps_its_own():
    """It is said, and nothing is booked."""
    ledger = rate(usage(), book(llm("0.10")))
    found = Differences()
    for record in Repricer(lambda record: rate(record, book(llm(1, model="other")))).reprice(ledger):
        found.add(record)
    ((group, difference),) = found.ordered()
    assert (group.status, difference.records, difference.new_cost) == ("kept", 1, {"USD": Decimal("0.1")})
    assert (found.records, found.changed, found.corrections) == (1, 0, 0)


@pytest.mark.parametrize(("owner", "billed"), [("acme", Decimal(0)), ("unknown", None), ("platform", Decimal("0.02"))])
def test_who_pays_stays_as_it_was(owner, billed):
    """The account's own key is billed nothing, of an unknown one nobody knows."""
    ledger = rate(usage(key_owner=owner), book(llm("0.10")))
    (row,) = corrections(ledger, book(llm("0.12")))
    assert (row.cost, row.billed_cost) == (Decimal("0.02"), billed)


def test_an_operation_stays_as_its_policy_billed_it():
    """Pieces that were rounded as a whole cost the new price for what was billed; one never closed is as measured."""
    policy = PolicyModel.model_validate(
        {"id": "p", "provider": "deepgram", "component": "stt", "billed_by": "audio", "minimum": 15, "increment": 15}
    )
    seconds = [
        usage(
            name,
            "stt",
            "deepgram",
            "nova-3",
            units={"audio_seconds": amount},
            operation_id=operation,
            operation_total={"audio_seconds": Decimal(total)} if total else None,
        )
        for name, operation, amount, total in (("a", "x", 5, 0), ("b", "x", 2, 7), ("c", "y", 4, 0), ("d", "z", 31, 31))
    ]
    old, new = (book({**HEARD, "price": price}, policies=[policy]) for price in ("0.60", "6"))
    ledger = [line for record in seconds for line in rate(record, old)]
    rows = corrections(ledger, new)
    fresh = [line for record in seconds for line in rate(record, new)]
    assert sums([*ledger, *rows]) == sums(fresh)
    booked = [row.pricing_source.replace("?reprice=1", "?").replace("&reprice=1", "").rstrip("?") for row in rows]
    assert booked == [line.pricing_source for line in fresh]


def test_work_that_is_billed_in_another_measure_now():
    """What was billed is free, what was free is billed, and the sum is the new price."""
    spoken = usage("r1", "tts", "v", "m", units={"characters": 100, "output_audio_seconds": 6})
    by_character = {"provider": "v", "model": "m", "unit": "characters", "price": "0.5", "per": 100}
    by_second = {"provider": "v", "model": "m", "unit": "output_audio_seconds", "price": "0.1", "per": 1}
    ledger = rate(spoken, book(by_character))
    rows = corrections(ledger, book(by_second))
    assert {row.unit: row.cost for row in rows} == {
        "characters": Decimal("-0.5"),
        "output_audio_seconds": Decimal("0.6"),
    }
    assert corrections([*ledger, *rows], book(by_second)) == []


def test_a_tier_of_the_same_row_stays():
    """The size of a request that came in pieces is not in the ledger; an unchanged price is no difference."""
    tiered = llm("0.10", tiers=[{"above": 1500, "price": "0.20"}])
    pieces = [
        usage("a", operation_id="x"),
        usage("b", operation_id="x", operation_total={"input_tokens": Decimal(2000)}),
    ]
    ledger = [line for record in pieces for line in rate(record, book(tiered))]
    assert ledger[-1].cost == Decimal("0.2")
    assert corrections(ledger, book(tiered, name="another")) == []


def test_service_tier_and_voice_are_read_from_the_source():
    """What a price depended on is found again where the source says it."""
    (line,) = rate(usage(), book(llm("0.10")))
    told = [
        replace(line, pricing_source=source)
        for source in ("catalog:x@1#openai/m@base?tier=priority", "catalog:x@1#a/m-multilingual@base?voice_class=hd")
    ]
    assert usage_of(told[:1]).service_tier == "priority"
    assert usage_of(told[1:]).attributes == {"voice_class": "hd", "language": "multi"}


def test_tokens_that_were_never_reported_stay_unknown():
    """A stream that is billed in tokens and has none does not become free."""
    record = usage("r", "stt", "openai", "m", units={"connection_seconds": 5}, attributes={"tokens": "unreported"})
    ledger = rate(record, book(llm("0.10")))
    assert [line.pricing_source for line in ledger] == ["unpriced:unit"]
    assert corrections(ledger, book(llm("0.20"))) == []


def test_corrections_under_way_count_once():
    """A correction that waits in the spool is in the ledger as soon as it is shipped, and is one correction."""
    ledger = rate(usage(), book(llm("0.10")))
    rows = corrections(ledger, book(llm("0.12")))
    for known in (ledger, [*ledger, *rows]):
        booked = Corrections()
        booked.add(rows, under_way=True)
        booked.add(known)
        repricer = Repricer(lambda record: rate(record, book(llm("0.12"))), None, booked)
        assert [record.corrections for record in repricer.reprice(known)] == [()]


UNITS = {
    "llm": (
        "input_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "requests",
    ),
    "stt": ("audio_seconds", "connection_seconds", "input_audio_tokens", "output_tokens"),
    "tts": ("characters", "output_audio_seconds", "input_tokens", "output_audio_tokens"),
    "realtime": ("input_tokens", "cached_input_audio_tokens", "output_audio_tokens", "session_seconds"),
}


def anything(chance, models, number):
    """Make a record of any model of the catalogs, with everything that a price may depend on."""
    component, (provider, model) = chance.choice(list(UNITS)), chance.choice(models)
    units = chance.sample(UNITS[component], chance.randint(1, len(UNITS[component])))
    silent = component == "stt" and not any(unit.endswith("_tokens") for unit in units)
    return usage(
        f"r{number}",
        component,
        chance.choice((provider, provider.upper())),
        model,
        units={unit: Decimal(chance.choice((0, 1, 17, 250, 99999))) for unit in units},
        outcome=chance.choice(("completed", "interrupted", "failed", "probe")),
        operation_id=chance.choice((None, "x")),
        service_tier=chance.choice((None, "priority", "flex", "weird")),
        attributes={
            "language": chance.choice(("multi", "en")),
            "voice_class": chance.choice(("default", "hd", "library")),
            **({"tokens": "unreported"} if silent and chance.random() < 0.5 else {}),
        },
    )


def test_any_usage_costs_the_same_at_the_same_prices():
    """A ledger has all that the price of a record depended on, also for a catalog whose rows have new digests."""
    chance, shipped = random.Random(7), PriceBook()
    models = [model for catalog in shipped.catalogs for model in catalog.models()]
    records = [anything(chance, models, number) for number in range(3000)]
    ledger = [replace(line, price_digest="new") for record in records for line in rate(record, shipped)]
    repriced = list(Repricer(lambda record: rate(record, shipped)).reprice(ledger))
    assert len(repriced) == 3000
    assert [record for record in repriced if record.changes] == []


def test_a_ledger_is_streamed():
    """Each record is given on as soon as it is whole; nothing is held but the corrections."""
    read = []

    def ledger():
        for number in range(100):
            read.append(number)
            yield from rate(usage(f"r{number}"), book(llm("0.10")))

    repriced = Repricer(lambda record: rate(record, book(llm("0.12")))).reprice(ledger())
    for number, record in zip(range(10), repriced, strict=False):
        assert record.record_id == f"r{number}"
        assert len(read) <= number + 2


PRICES = st.sampled_from([None, "0", "0.1", "0.333333", "7"])


@st.composite
def cards(draw):
    """Draw a card: any of three units may have a price, in either currency."""
    rows = [
        llm(price, unit=unit, currency=draw(st.sampled_from(("USD", "INR"))), per=draw(st.sampled_from((1, 3, 1000))))
        for unit in ("input_tokens", "output_tokens", "requests")
        if (price := draw(PRICES)) is not None
    ]
    return book(*rows or [llm(1, model="nothing")])


@st.composite
def usages(draw):
    """Draw records of any owner and amount."""
    amounts = st.dictionaries(
        st.sampled_from(("input_tokens", "cached_input_tokens", "output_tokens", "requests")),
        st.decimals(0, 5000, places=3),
        min_size=1,
    )
    owners = st.sampled_from(("platform", "acme", "unknown"))
    return [usage(f"r{n}", units=draw(amounts), key_owner=draw(owners)) for n in range(draw(st.integers(1, 4)))]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(records=usages(), prices=st.lists(cards(), min_size=1, max_size=4), data=st.data())
def test_repricing_twice_is_repricing_once(records, prices, data):
    """Whatever the cards, however far an earlier booking came: a line costs the new price, or without one the old."""
    ledger = [line for record in records for line in rate(record, prices[0])]
    expected = {(line.record_id, line.unit): line for line in ledger}
    for book_ in prices[1:]:
        part = data.draw(st.integers(0, 9))
        rows = corrections(ledger, book_)
        # A booking of which a sink has the first records only is completed by the next one.
        first = [row for row in rows if row.record_id in sorted({row.record_id for row in rows})[:part]]
        ledger += first
        ledger += corrections(ledger, book_)
        assert corrections(ledger, book_) == []
        for record in records:
            for line in rate(record, book_):
                if line.cost is not None:
                    expected[line.record_id, line.unit] = line
    assert sums(ledger) == sums(expected.values())
    known = [line for line in ledger if line.key_owner != "unknown"]
    fresh = [line for line in expected.values() if line.key_owner != "unknown"]
    billed = ("billed_cost", "billed_currency")
    assert sums(known, *billed) == sums(fresh, *billed)
    assert (
        build_report(ledger, []).total.unpriced_records == build_report([*expected.values()], []).total.unpriced_records
    )
