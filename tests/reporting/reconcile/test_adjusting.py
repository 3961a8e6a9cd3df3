"""Booking: the ledger with its corrections is the invoice, and the card that is suggested would have been."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest
import yaml

from livekit_costmeter.pricing.schema import RateCardFile
from livekit_costmeter.reporting import build_report
from livekit_costmeter.reporting.reconcile import Invoice, corrections, rate_card
from tests.reporting.reconcile.round_trip.facts import END, START, happen
from tests.reporting.reconcile.round_trip.faults import FAULTS
from tests.reporting.reconcile.round_trip.run import charges_of, compare, stated

LEAST = Decimal("1e-9")


def month(vendor, faults, folder, seed=4):
    """Return the ledger and the provider's side of a month with faults."""
    rng = Random(seed)
    facts = happen(rng, vendor, calls_a_day=6)
    for fault in faults:
        FAULTS[fault][0](rng, facts)
    return charges_of(facts), stated(facts, folder, rng)


@pytest.mark.parametrize(
    ("vendor", "faults"),
    [
        ("openai", ("discount", "missed_usage")),
        ("openai", ("wrong_model", "incomplete")),
        ("deepgram", ("billing_increment", "double_counting")),
        ("anthropic", ("other_client", "stale_catalog")),
        ("twilio", ("billing_increment",)),
    ],
)
def test_whatever_is_wrong_the_ledger_is_the_invoice_after_booking(vendor, faults, tmp_path):
    """By model and day, to the last digit that a ledger has; and then there is nothing more to book."""
    charges, theirs = month(vendor, faults, tmp_path)
    found = compare(vendor, charges, theirs)
    invoice = Invoice(vendor, "0123456789ab")
    booked = list(corrections(found.sides, found.window, invoice))
    assert booked
    assert len({row.record_id for row in booked}) == len(booked)
    after = compare(vendor, [*charges, *booked], theirs, by="day")
    days = [row for row in after.rows if row.level == "model"]
    for row in days:
        assert (row.our_cost or 0) == pytest.approx(row.their_cost or 0, abs=LEAST)
    assert list(corrections(after.sides, after.window, invoice)) == []
    report = build_report([*charges, *booked], ["day"], START, END)
    assert report.total.cost["USD"] == pytest.approx(after.total.their_cost or 0, abs=LEAST) or after.left_out
    assert report.total.billed_cost == build_report(charges, ["day"], START, END).total.billed_cost


def test_the_same_booking_has_the_same_ids_and_another_file_has_others(tmp_path):
    """Two who book the same book the same rows."""
    charges, theirs = month("openai", ("discount",), tmp_path)
    found = compare("openai", charges, theirs)
    first, again, other = (
        [row.record_id for row in corrections(found.sides, found.window, Invoice("openai", digest))]
        for digest in ("0123456789ab", "0123456789ab", "ba9876543210")
    )
    assert first == again
    assert not set(first) & set(other)


@pytest.mark.parametrize("vendor", ["openai", "deepgram", "anthropic"])
def test_a_suggested_card_is_valid_and_has_the_rates_that_were_charged(vendor, tmp_path):
    """Every price is the old one less the discount, from the first day on."""
    charges, theirs = month(vendor, ("discount",), tmp_path)
    found = compare(vendor, charges, theirs)
    text = rate_card(vendor, "0123456789ab", found.findings)
    card = RateCardFile.model_validate(yaml.safe_load(text))
    old = {(charge.model, charge.unit): charge.unit_price / charge.price_per for charge in charges}
    ratios = {round(row.price / row.per / old[row.model, row.unit], 6) for row in card.rates}
    assert len(ratios) == 1
    assert len(card.rates) == len(old)
    assert {row.effective_from for row in card.rates} == {START.date()}
    assert text == rate_card(vendor, "0123456789ab", found.findings)


def test_a_new_price_in_the_middle_of_a_month_begins_on_its_day(tmp_path):
    """The card has the day from which on the price is another one."""
    for seed in range(40):
        rng = Random(seed)
        facts = happen(rng, "openai", calls_a_day=6)
        FAULTS["stale_catalog"][0](rng, facts)
        ((model, (begins, factor)),) = facts.rate_changes.items()
        if begins > START:
            break
    found = compare("openai", charges_of(facts), stated(facts, tmp_path, rng))
    (finding,) = found.findings
    assert finding.code == "stale_catalog"
    assert {rate.since for rate in finding.rates} == {begins}
    assert finding.models == (model,)
    assert f"from {begins:%Y-%m-%d} on" in finding.evidence
    assert factor != 1


def test_without_a_rate_that_differs_there_is_no_card(tmp_path):
    """What is missing has nothing to do with prices."""
    charges, theirs = month("openai", ("missed_usage",), tmp_path)
    assert rate_card("openai", "0123456789ab", compare("openai", charges, theirs).findings) is None
