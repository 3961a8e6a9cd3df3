"""What an account is billed for what a provider charged: routing, rates, telephony, fees, markups, taxes, credits."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from livekit_costmeter.billing.bill import Billing, Terms

FLASH = {"id": "flash", "component": "tts", "provider": "acme-tts", "unit": "characters", "price": "9", "per": 1000}
MINUTES = {"id": "minutes", "per": "minute", "price": "1.50", "pulse_seconds": 60}
VOBIZ = {"id": "did", "provider": "vobiz", "price": "0.50", "pulse_seconds": 60}
FX = {"from": "USD", "to": "INR", "rate": "83.10", "effective_from": "2026-01-01"}


def source(charge):
    return charge.pricing_source.partition("@fedcba987654")[2] or charge.pricing_source.partition("?")[2]


def total(charges):
    return sum((charge.billed_cost for charge in charges if charge.billed_cost is not None), Decimal(0))


@pytest.mark.parametrize(("owner", "expected"), [("platform", "0.00045"), ("acme", "0"), ("unknown", None)])
def test_a_plan_passes_on_what_the_platforms_keys_paid_and_nothing_else(usage, plan, billed, owner, expected):
    """The platform's cost is billed as it is, an account's own is not, and whose key nobody knows is not known."""
    (line,) = billed(usage("llm", "openai", "gpt-4o-mini", input_tokens=3000, key_owner=owner), plan())
    assert line.cost == Decimal("0.00045")
    assert line.billed_cost == (None if expected is None else Decimal(expected))
    assert line.billed_currency == (None if expected is None else "USD")


def test_a_rate_bills_work_in_place_of_its_cost(usage, plan, billed):
    """The usage line keeps the provider's cost, is billed 0 and names the rule; a line of the plan bills it."""
    first, second = billed(usage("tts", "acme-tts", "flash", characters=2140), plan(rates=[FLASH]))
    assert (first.cost, first.billed_cost, source(first)) == (Decimal("0.107"), 0, "billed_in=flash")
    assert (second.kind, second.line, second.quantity, second.billable_quantity) == ("fee", 1, 2140, 2140)
    assert (second.unit_price, second.price_per, second.cost, second.billed_cost) == (9, 1000, second.cost, second.cost)
    assert second.cost == Decimal("19.26")
    assert second.pricing_source == "plan:gold@fedcba987654#flash"
    assert (second.currency, second.billed_currency, second.billed_by) == ("USD", "USD", "platform")


@pytest.mark.parametrize("owner", ["acme", "unknown"])
def test_a_rate_is_for_the_platforms_keys_only(usage, plan, billed, owner):
    """Work on another key costs the account nothing here."""
    (line,) = billed(usage("tts", "acme-tts", "flash", characters=10, key_owner=owner), plan(rates=[FLASH]))
    assert not line.billed_cost


def test_work_that_a_rate_prices_in_one_measure_is_not_billed_in_another_one(usage, plan, billed):
    """Seconds of speech beside characters, and a window of connection time, are included in the row's price."""
    nova = {"id": "stt", "component": "stt", "provider": "acme-stt", "unit": "audio_seconds", "price": "1", "per": 60}
    record = usage("stt", "acme-stt", "nova", audio_seconds=60, connection_seconds=90)
    lines = billed(record, plan(rates=[nova]))
    assert [(line.unit, line.billed_cost) for line in lines] == [
        ("audio_seconds", 0),
        ("connection_seconds", 0),
        ("audio_seconds", 1),
    ]
    (window,) = billed(usage("stt", "acme-stt", "nova", connection_seconds=5), plan(rates=[nova]))
    assert (window.billed_cost, source(window)) == (0, "billed_in=stt")


def test_speech_that_was_not_measured_in_the_rates_unit_has_no_known_bill(usage, plan, billed):
    """It is not free: nobody knows its seconds. An attempt that brought no audio has none, and costs nothing."""
    seconds = {**FLASH, "unit": "output_audio_seconds", "per": 60}
    (line,) = billed(usage("tts", "acme-tts", "flash", characters=1000), plan(rates=[seconds]))
    assert (line.billed_cost, line.billed_currency, source(line)) == (None, None, "billed_in=flash&unbilled=unit")
    failed = usage("tts", "acme-tts", "flash", characters=1000, outcome="failed")
    (line,) = billed(failed, plan(rates=[seconds]))
    assert (line.billed_cost, source(line)) == (0, "billed_in=flash")
    later = usage(
        "tts", "acme-tts", "flash", characters=9, operation_id="o", operation_total={"characters": Decimal(9)}
    )
    (line,) = billed(later, plan(rates=[seconds]))
    assert (line.billed_cost, source(line)) == (None, "billed_in=flash&unbilled=unit")


def test_a_unit_without_a_row_takes_its_parents(usage, plan, billed):
    """Cached input is charged as input, and says so; output without a row is passed on."""
    row = {"id": "in", "component": "llm", "unit": "input_tokens", "price": "1", "per": 1000}
    lines = billed(
        usage("llm", "openai", "gpt-4o-mini", input_tokens=1000, cached_input_tokens=500, output_tokens=1000),
        plan(rates=[row]),
    )
    assert [line.billed_cost for line in lines] == [0, 0, Decimal("0.0006"), 1, Decimal("0.5")]
    assert lines[4].pricing_source.endswith("#in?parent=input_tokens")


def test_the_most_specific_rate_wins(usage, plan, billed):
    """An exact model before a glob, a longer glob before a shorter one; the order in the file does not matter."""
    rows = [
        {**FLASH, "id": "any", "price": "1"},
        {**FLASH, "id": "exact", "model": "flash", "price": "3"},
        {**FLASH, "id": "glob", "model": "fl*", "price": "2"},
    ]
    for model, rule in (("flash", "exact"), ("fly", "glob"), ("slow", "any")):
        lines = billed(usage("tts", "acme-tts", model, characters=1000), plan(rates=rows))
        assert lines[-1].pricing_source == f"plan:gold@fedcba987654#{rule}"


def test_a_specific_rate_in_another_measure_replaces_the_general_one(usage, plan, billed):
    """A model that is charged by the second of speech is not charged by the character as well."""
    seconds = {**FLASH, "id": "seconds", "model": "flash", "unit": "output_audio_seconds", "price": "1", "per": 60}
    record = usage("tts", "acme-tts", "flash", characters=1000, output_audio_seconds=60)
    lines = billed(record, plan(rates=[FLASH, seconds]))
    assert [(line.unit, line.billed_cost) for line in lines[2:]] == [("output_audio_seconds", 1)]


def test_an_unpriced_unit_is_billed_by_its_rate_and_unknown_without_one(usage, plan, billed):
    """A price of the plan does not depend on the provider's; what is passed on does."""
    record = usage("tts", "acme-tts", "new", characters=1000)
    assert billed(record, plan(rates=[FLASH]))[1].billed_cost == 9
    (passed,) = billed(record, plan())
    assert (passed.cost, passed.billed_cost, passed.billed_currency) == (None, None, None)


def test_a_component_that_is_not_passed_through_is_included_in_the_fees(usage, plan, billed):
    """With a list, only what is in it is passed on; the exact component comes before `*`."""
    only_llm = plan(pass_through=[{"component": "llm"}])
    (line,) = billed(usage("tts", "acme-tts", "flash", characters=10), only_llm)
    assert (line.billed_cost, source(line)) == (0, "included=gold")
    nothing = plan(pass_through=[])
    assert billed(usage("llm", "openai", "gpt-4o-mini", input_tokens=10), nothing)[0].billed_cost == 0
    both = plan(pass_through=[{"component": "*", "markup": "1"}, {"component": "tts"}])
    assert len(billed(usage("tts", "acme-tts", "flash", characters=10), both)) == 1


def test_a_markup_mirrors_the_line_that_it_is_put_on(usage, plan, billed):
    """Same unit, quantity and price per, a share of its unit price in the plan's currency; labels on both."""
    entry = {"component": "llm", "markup": "0.20", "labels": {"record_type": "ai"}}
    inr = plan(currency="INR", pass_through=[entry], exchange_rates=[FX])
    usage_line, markup = billed(usage("llm", "openai", "gpt-4o-mini", input_tokens=3000, labels={"a": "b"}), inr)
    assert (usage_line.billed_cost, source(usage_line)) == (Decimal("0.037395"), "fx=USD-INR:83.1@2026-01-01")
    assert (markup.kind, markup.unit, markup.quantity, markup.price_per) == ("fee", "input_tokens", 3000, 1000000)
    assert (markup.unit_price, markup.cost) == (Decimal("2.493"), Decimal("0.007479"))
    assert source(markup) == "#markup-llm?markup=0.2&fx=USD-INR:83.1@2026-01-01"
    assert usage_line.labels == markup.labels == {"a": "b", "record_type": "ai"}


@pytest.mark.parametrize(("year", "reason"), [(2025, "no_exchange_rate"), (2027, None)])
def test_an_instant_before_the_first_rate_has_none(usage, plan, billed, year, reason):
    """What cannot be converted is not known, neither what is passed on nor what the plan adds."""
    fee = {**FLASH, "currency": "EUR"}
    eur = {"from": "EUR", "to": "INR", "rate": "90", "effective_from": "2026-01-01"}
    inr = plan(currency="INR", rates=[fee], exchange_rates=[FX, eur])
    at = datetime(year, 6, 1, tzinfo=UTC)
    passed = billed(usage("llm", "openai", "gpt-4o-mini", input_tokens=3000, at=at), inr)[0]
    added = billed(usage("tts", "acme-tts", "flash", characters=1000, at=at), inr)[1]
    for line in (passed, added):
        assert (line.billed_cost is None) == (reason is not None)
        assert (f"unbilled={reason}" in line.pricing_source) == (reason is not None)
    assert added.pricing_status == ("unpriced" if reason else "priced")


def test_a_cost_in_a_currency_without_a_rate_is_not_known(usage, plan, billed):
    """Nothing is converted by guessing."""
    (line,) = billed(usage("tts", "euro", "any", characters=1000), plan())
    assert (line.cost, line.currency, line.billed_cost) == (1, "EUR", None)
    assert source(line) == "unbilled=no_exchange_rate"


@pytest.mark.parametrize(
    ("seconds", "minutes"),
    [(0, 0), (1, 1), (59, 1), (60, 1), (61, 2), (119, 2), (120, 2), (121, 3), (185, 4)],
)
def test_a_call_is_billed_in_whole_pulses(usage, leg, plan, billed, seconds, minutes):
    """As one record or in increments; ringing is no call, so nothing at all is billed for 0 s."""
    terms = plan(telephony=[VOBIZ], fees=[MINUTES])
    whole = billed(usage("call", "vobiz", "inbound", call_seconds=seconds), terms)
    pieces = [seconds // 3, seconds - seconds // 3]
    increments = [line for record in leg(*pieces) for line in billed(record, terms)]
    for lines in (whole, increments):
        fees = [line for line in lines if line.kind == "fee"]
        assert sum(line.billable_quantity for line in fees) == 2 * 60 * minutes
        assert total(lines) == 2 * minutes


def test_a_minimum_is_billed_once_per_leg(leg, plan, billed):
    """The last increment brings the leg up to its minimum."""
    terms = plan(pass_through=[], fees=[{**MINUTES, "pulse_seconds": 6, "minimum_seconds": 30}])
    lines = [line for record in leg(5, 5, 1) for line in billed(record, terms) if line.kind == "fee"]
    assert [line.billable_quantity for line in lines] == [5, 5, 20]
    assert source(lines[2]) == "#minutes?pulse=6&minimum=30"


def test_a_leg_that_was_never_closed_stays_unrounded(leg, plan, billed):
    """It bills what it measured, and its lines say that it is open."""
    lines = [line for record in leg(5, 5, closed=False) for line in billed(record, plan(fees=[MINUTES]))]
    fees = [line for line in lines if line.kind == "fee"]
    assert [(line.billable_quantity, source(line)) for line in fees] == [(5, "#minutes?pulse=60&open=1")] * 2


def test_telephony_is_for_the_platforms_numbers_and_fees_are_for_every_call(usage, plan, billed):
    """On the account's own number, or one that nobody knows, only the platform's fee is billed."""
    terms = plan(telephony=[VOBIZ], fees=[MINUTES])
    for owner, expected, first in (("platform", 8, 0), ("acme", 6, 0), ("unknown", 6, None)):
        lines = billed(usage("call", "vobiz", "inbound", call_seconds=185, key_owner=owner), terms)
        assert (total(lines), lines[0].billed_cost) == (expected, first)


def test_a_web_call_has_no_telephony(usage, plan, billed):
    """A row for any provider and direction is about phone calls."""
    lines = billed(usage("call", "webrtc", "web", call_seconds=60), plan(telephony=[{**VOBIZ, "provider": "*"}]))
    assert [(line.kind, line.billed_cost) for line in lines] == [("usage", 0)]


def test_telephony_goes_by_provider_direction_and_type_of_number(usage, plan, billed):
    """The most specific row wins; a call that no row is about is passed on at cost."""
    rows = [
        {"id": "any", "provider": "vobiz", "price": "1"},
        {"id": "in", "provider": "vobiz", "direction": "inbound", "price": "2"},
        {"id": "free", "provider": "vobiz", "number_type": "toll_free", "price": "3"},
        {"id": "both", "provider": "vobiz", "direction": "inbound", "number_type": "toll_free", "price": "4"},
    ]
    terms = plan(telephony=rows)
    cases = [("outbound", "local", "any"), ("inbound", None, "in"), ("outbound", "toll_free", "free")]
    for direction, number_type, rule in [*cases, ("inbound", "Toll_Free", "both")]:
        record = usage("call", "vobiz", direction, call_seconds=60, attributes={"number_type": number_type})
        assert source(billed(record, terms)[1]) == f"#{rule}"
    (passed,) = billed(usage("call", "twilio", "inbound", call_seconds=60), terms)
    assert passed.billed_cost == Decimal("0.0085")


def test_transfer_legs_have_telephony_and_only_the_fees_that_are_for_all_legs(leg, plan, billed):
    """A fee is the primary leg's unless it says otherwise."""
    terms = plan(telephony=[VOBIZ], fees=[MINUTES, {"id": "every", "per": "minute", "price": "1", "legs": "all"}])
    lines = [line for record in leg(60, attributes={"leg": "transfer"}) for line in billed(record, terms)]
    assert {source(line).partition("?")[0] for line in lines if line.kind == "fee"} == {"#did", "#every"}


def test_a_fee_per_call_is_charged_once(usage, leg, plan, billed):
    """When a leg is answered, or on a record that is a whole call; never for a call that was not answered."""
    terms = plan(pass_through=[], fees=[{"id": "call", "per": "call", "price": "0.10"}])

    def fees(*records):
        return [line for record in records for line in billed(record, terms) if line.kind == "fee"]

    (fee,) = fees(*leg(5, 5, 2))
    assert (fee.record_id, fee.unit, fee.quantity, fee.cost) == ("r0", "requests", 1, Decimal("0.10"))
    assert len(fees(*leg(3))) == 1
    assert fees(*leg(5, attributes={"leg": "transfer"})) == []
    whole = usage(
        "call", "vobiz", "inbound", call_seconds=9, operation_id="a", operation_total={"call_seconds": Decimal(9)}
    )
    assert len(fees(whole)) == len(fees(usage("call", "vobiz", "inbound", call_seconds=9))) == 1
    missed = usage("call", "vobiz", "inbound", call_seconds=0, outcome="failed", attributes={"state": "ended"})
    assert fees(missed, usage("call", "webrtc", "chat", messages=1)) == []


def test_a_fee_per_message_counts_what_the_user_sent(usage, plan, billed):
    """One credit a message, on the channels that the fee is for."""
    fee = {"id": "message", "per": "message", "channels": ["chat"], "price": "1", "currency": "credits"}
    terms = plan(credits={"price": "0.005"}, fees=[fee])
    lines = billed(usage("call", "webrtc", "chat", messages=5), terms)
    assert (lines[1].unit, lines[1].cost, lines[1].credits) == ("messages", Decimal("0.025"), 5)
    assert len(billed(usage("call", "webrtc", "web", messages=5), terms)) == 1


def test_audits_and_discarded_nothing_have_no_fees(usage, plan, billed):
    """A record that measured nothing is no call."""
    terms = plan(fees=[MINUTES, {"id": "call", "per": "call", "price": "1"}])
    audit = usage("call", "livekit", "session", attributes={"livekit": []})
    nothing = usage("call", "vobiz", "inbound", call_seconds=0, outcome="discarded", attributes={"state": "opened"})
    assert [line.kind for record in (audit, nothing) for line in billed(record, terms)] == ["usage"]


@pytest.mark.parametrize("by", ["tier", "account"])
def test_priority_has_prices_of_its_own(usage, plan, billed, by):
    """The record's service tier or the account's terms select them; a rule without one keeps its price."""
    terms = plan(rates=[{**FLASH, "priority_price": "12"}])
    record = usage("tts", "acme-tts", "flash", characters=1000, service_tier="priority" if by == "tier" else None)
    line = billed(record, terms, priority=by == "account")[1]
    assert (line.cost, source(line)) == (12, "#flash?priority=1")


def test_taxes_are_lines_of_their_own_after_everything_else(usage, plan, billed):
    """Each mirrors a billed line; what is billed 0 or not known has none."""
    taxes = [{"id": "gst", "rate": "0.18"}, {"id": "levy", "rate": "0.01", "on": ["fee"]}]
    terms = plan(pass_through=[{"component": "*", "markup": "1"}], taxes=taxes)
    lines = billed(usage("llm", "openai", "gpt-4o-mini", input_tokens=1000000, output_tokens=0), terms)
    assert [line.kind for line in lines] == ["usage", "usage", "fee", "tax", "tax", "tax"]
    assert [line.billed_cost for line in lines[2:]] == [Decimal(text) for text in ("0.15", "0.027", "0.027", "0.0015")]
    assert [line.line for line in lines] == list(range(6))


def test_dated_rows_apply_to_the_instant_of_the_work(usage, plan, billed):
    """Midnight UTC is the new price's; the call that began before keeps the old one."""
    rows = [
        {**FLASH, "price": "9", "effective_to": "2026-07-01"},
        {**FLASH, "price": "10", "effective_from": "2026-07-01"},
    ]
    last, first = datetime(2026, 6, 30, 23, 59, 59, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    for started, at, price in ((None, last, 9), (None, first, 10), (last, first, 9)):
        record = usage("tts", "acme-tts", "flash", characters=1000, at=at, started_at=started)
        assert billed(record, plan(rates=rows))[1].cost == price


def test_outside_its_dates_a_plan_bills_nothing_and_says_so(usage, plan, billed):
    """What the platform paid is then not known to be billed; an account's own key still is none of its business."""
    terms = plan(effective_from="2027-01-01", rates=[FLASH])
    (line,) = billed(usage("tts", "acme-tts", "flash", characters=1000), terms)
    assert (line.billed_cost, source(line)) == (None, "unbilled=plan_not_in_force")
    (own,) = billed(usage("tts", "acme-tts", "flash", characters=1000, key_owner="acme"), terms)
    assert own.billed_cost == 0


def test_a_rate_with_a_pulse_rounds_what_only_earlier_records_measured(usage, plan, billed):
    """The operation's last record closes it, even if it measured nothing of the unit itself."""
    row = {"id": "stt", "component": "stt", "unit": "audio_seconds", "price": "1", "per": 60, "pulse_seconds": 60}
    first = usage("stt", "acme-stt", "nova", audio_seconds=61, operation_id="op")
    closing = {"operation_id": "op", "operation_total": {"audio_seconds": Decimal(61)}}
    last = usage("stt", "acme-stt", "nova", id="r2", connection_seconds=1, **closing)
    lines = [line for record in (first, last) for line in billed(record, plan(rates=[row])) if line.kind == "fee"]
    assert [(line.quantity, line.billable_quantity) for line in lines] == [(61, 61), (0, 59)]


def test_who_did_the_work_is_copied_to_every_line(usage, plan, billed):
    """Added lines are found with the usage that they are for, and carry the rule's labels beside the record's."""
    fields = {"account": "acme", "session_id": "s", "agent": "a", "room": "r", "labels": {"z": "1"}, "key_id": "k"}
    rule = {**FLASH, "labels": {"a": "2"}}
    first, second = billed(usage("tts", "acme-tts", "flash", characters=1, **fields), plan(rates=[rule]))
    for name in ("record_id", "account", "session_id", "agent", "room", "key_id", "at", "provider", "model"):
        assert getattr(first, name) == getattr(second, name)
    assert list(second.labels.items()) == [("a", "2"), ("z", "1")]


def test_accounts_are_on_their_own_plan_the_default_or_none(usage, plan, prices):
    """`none` leaves charges as they are rated; an account's terms come before what is for everybody."""
    gold, silver = plan(), plan(name="silver")
    accounts = {"a": Terms("silver"), "b": Terms(priority=True), "c": Terms("none")}
    billing = Billing([gold, silver], None, accounts)
    assert [billing.plan_of(name) for name in ("a", "b", "c", "d", None)] == [silver, gold, None, gold, gold]
    assert [billing.terms_of(name)[1] for name in ("a", "b")] == [False, True]
    assert Billing([gold], "none").plan_of("a") is None
    charges = [object()]
    assert billing.bill(usage("llm", "openai", "x", input_tokens=1, account="c"), charges) is charges
