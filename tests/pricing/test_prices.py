"""Showing, searching and checking prices."""

from datetime import UTC, datetime
from decimal import Decimal

from livekit_costmeter.pricing import PriceBook
from livekit_costmeter.pricing.prices import check, search, show

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_every_source_of_a_price_is_shown_and_the_one_in_use_is_marked(shipped):
    """A rate that an earlier source overrules is shown, and is not the one in use."""
    shown = show(shipped, "api.openai.com", "gpt-4o-transcribe", component="stt", at=AT)
    audio = [entry for entry in shown if entry.rate.unit == "input_audio_tokens"]
    assert [(entry.rate.unit_price, entry.used) for entry in audio] == [(Decimal("2.50"), True), (6, False), (6, False)]
    assert {entry.provider for entry in shown} == {"openai"}


def test_a_price_is_shown_once_for_all_components(shipped):
    """Without a component the rates of a speech model are not repeated for every kind of work."""
    shown = show(shipped, "cartesia", "sonic-3", at=AT)
    assert [entry.rate.unit for entry in shown] == ["characters"]


def test_prices_are_shown_as_of_a_date(shipped):
    """The same model has another rate after a dated change."""
    rates = [
        show(shipped, "google", "gemini-3.8-flash", component="llm", at=datetime(year, 1, 1, tzinfo=UTC))[
            0
        ].rate.unit_price
        for year in (2026, 2027)
    ]
    assert rates[0] * 2 == rates[1]


def test_search_finds_every_source_by_words(card):
    """All words must occur; rate cards, overrides and catalogs are searched."""
    row = {"provider": "deepgram", "model": "flux-*", "unit": "audio_seconds", "price": "1"}
    found = search(PriceBook([card(row)]), "FLUX deepgram")
    assert {model.source for model in found} >= {"ratecard:acme-2026", "override", "voice-prices"}
    assert all("flux" in model.model for model in found)
    assert search(PriceBook(), "no such model anywhere") == []


def test_an_unpriced_model_is_found(shipped):
    """A model without any rate is a finding with its reason."""
    (finding,) = check(shipped, [("llm", "livekit", "openai/gpt-6-sol")], at=AT)
    assert (finding.problem, finding.detail) == ("unpriced", "gateway_no_rate")


def test_a_stale_rate_is_found(shipped):
    """A rate that nobody confirmed for too long is a finding with the rate."""
    (finding,) = check(shipped, [("stt", "Deepgram", "nova-3")], at=AT)
    assert (finding.problem, finding.rates[0].unit) == ("stale", "audio_seconds")


def test_a_fresh_price_is_no_finding(shipped):
    """A model that both catalogs price alike and lately is fine."""
    assert check(shipped, [("llm", "openai", "gpt-4o-mini")], at=AT) == []


def test_catalogs_that_differ_are_found_unless_a_card_settles_it(catalogs_only, card):
    """Two published prices more than a percent apart are a dispute, and a rate card ends it."""
    model = ("llm", "mistral", "mistral-medium-latest")
    disputed = [f for f in check(catalogs_only, [model], at=AT) if f.problem == "disputed"]
    assert disputed
    units = {finding.detail for finding in disputed}
    rows = [{"provider": "mistral", "model": "*", "unit": unit, "price": "1"} for unit in sorted(units)]
    settled = PriceBook([card(*rows)], overrides=catalogs_only.overrides)
    assert [f for f in check(settled, [model], at=AT) if f.problem == "disputed"] == []
