"""Which of several measures of the same work is on the bill."""

from decimal import Decimal

import pytest

from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.pricing.measures import UNPRICED_REASONS


def billed(charges):
    """Return the units that are on the bill."""
    return {unit for unit, charge in charges.items() if charge.billable_quantity}


def test_transcription_is_billed_in_tokens_or_seconds_never_both(record, lines, catalogs_only):
    """Tokens beat the estimated price per second; the seconds stay, free and explained."""
    made = record(
        "stt",
        "openai",
        "gpt-4o-transcribe",
        input_audio_tokens=600,
        output_tokens=150,
        audio_seconds=60,
        connection_seconds=61,
    )
    charges = lines(made, catalogs_only)
    assert billed(charges) == {"input_audio_tokens", "output_tokens"}
    assert sum(charge.cost for charge in charges.values()) == Decimal("0.0051")
    assert (charges["audio_seconds"].quantity, charges["audio_seconds"].pricing_status) == (60, "free")
    assert charges["audio_seconds"].pricing_source.endswith("?billed_in=input_audio_tokens")


def test_without_tokens_transcription_is_billed_by_the_second(record, lines, catalogs_only):
    """Tokens that are all zero do not hide the seconds, and the estimate says that it is one."""
    made = record("stt", "openai", "gpt-4o-transcribe", input_audio_tokens=0, output_tokens=0, audio_seconds=60)
    charges = lines(made, catalogs_only)
    assert billed(charges) == {"audio_seconds"}
    assert charges["audio_seconds"].cost == Decimal("0.006")
    assert "estimated=1" in charges["audio_seconds"].pricing_source


@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "gpt-4o-mini-transcribe"])
def test_a_streams_windows_are_not_billed_beside_its_transcripts_tokens(record, lines, shipped, model):
    """Audio and tokens of one stream, in records of their own, cost the tokens once."""
    window = lines(record("stt", "openai", model, audio_seconds=4, connection_seconds=4), shipped)
    transcript = lines(record("stt", "openai", model, input_audio_tokens=40, output_tokens=9), shipped)
    assert billed(window) == set()
    assert all("billed_in=input_" in charge.pricing_source for charge in window.values())
    assert billed(transcript) == {"input_audio_tokens", "output_tokens"}


def test_a_transcripts_tokens_are_not_billed_beside_its_streams_seconds(record, lines, shipped):
    """A model billed by the second has the price in its windows; its tokens are free and explained."""
    window = lines(record("stt", "openai", "gpt-live-transcribe", audio_seconds=60, connection_seconds=60), shipped)
    transcript = lines(record("stt", "openai", "gpt-live-transcribe", input_audio_tokens=40, output_tokens=9), shipped)
    assert window["audio_seconds"].cost.quantize(Decimal("1e-4")) == Decimal("0.017")
    assert {(charge.cost, charge.pricing_status) for charge in transcript.values()} == {(0, "free")}


def test_an_idle_connection_is_free_where_audio_is_billed(record, lines, shipped):
    """A window in which nothing was sent costs nothing at Deepgram, and is no unpriced line."""
    (charge,) = rate(record("stt", "Deepgram", "nova-3", connection_seconds=4), shipped)
    assert (charge.cost, charge.pricing_status) == (0, "free")
    assert charge.pricing_source.endswith("?billed_in=audio_seconds&policy=deepgram-stt@2026-11-20")
    assert (
        lines(record("stt", "livekit", "deepgram/nova-3", connection_seconds=4), shipped)["connection_seconds"].cost > 0
    )


def test_seconds_do_not_stand_in_for_tokens_that_nobody_reports(record, catalogs_only):
    """Where a plugin gives no tokens for a token-billed model, its seconds are unpriced, not explained away."""
    charges = rate(record("stt", "Soniox", "stt-rt-v5", audio_seconds=4, connection_seconds=4), catalogs_only)
    assert [charge.pricing_source for charge in charges] == ["unpriced:unit"] * 2


def test_a_session_window_of_a_token_model_is_free(record, shipped):
    """Session time in a record of its own costs nothing where responses are billed by tokens."""
    (charge,) = rate(record("realtime", "openai", "gpt-realtime-2", session_seconds=5), shipped)
    assert (charge.cost, charge.pricing_source.partition("?")[2]) == (0, "billed_in=input_tokens")


def test_a_request_that_reported_nothing_has_no_price(record, shipped):
    """A lone request of a token-billed model is unpriced: what it cost is not known."""
    (charge,) = rate(record("llm", "openai", "gpt-4o-mini", requests=1), shipped)
    assert (charge.cost, charge.pricing_source) == (None, "unpriced:unit")


def test_audio_tokens_are_priced_as_audio(record, lines, shipped):
    """Audio tokens have the audio rate of the published page, not the text rate and not the catalogs' old one."""
    charge = lines(record("stt", "openai", "gpt-4o-transcribe", input_audio_tokens=1000000), shipped)[
        "input_audio_tokens"
    ]
    assert charge.cost == Decimal("2.5")
    assert charge.pricing_source.startswith("override:")


@pytest.mark.parametrize(
    ("provider", "model", "units", "expected"),
    [
        (
            "openai",
            "gpt-4o-mini-tts",
            {"input_tokens": 9, "output_audio_tokens": 9},
            {"input_tokens", "output_audio_tokens"},
        ),
        ("openai", "tts-1", {}, {"characters"}),
        ("cartesia", "sonic-3", {}, {"characters"}),
    ],
)
def test_speech_is_billed_in_one_measure(record, lines, shipped, provider, model, units, expected):
    """A model billed by tokens is not also billed by characters, and the other way round."""
    charges = lines(record("tts", provider, model, characters=100, output_audio_seconds=6, **units), shipped)
    assert billed(charges) == expected
    assert all(charge.cost is not None for charge in charges.values())


def test_speech_billed_by_tokens_is_not_free_where_only_characters_are_known(record, catalogs_only):
    """A model whose billing unit was not measured has no cost, in every line."""
    charges = rate(record("tts", "google", "gemini-2.5-pro-tts", characters=100, requests=1), catalogs_only)
    assert [(charge.cost, charge.pricing_source) for charge in charges] == [(None, "unpriced:unit")] * 2


def test_zero_tokens_do_not_make_unpriced_characters_free(record, catalogs_only):
    """What was used decides: tokens of zero are no reason to call the characters paid."""
    charges = rate(record("tts", "openai", "gpt-4o-mini-tts", characters=100, input_tokens=0), catalogs_only)
    assert {charge.unit: charge.pricing_status for charge in charges}["characters"] == "unpriced"


def test_a_realtime_session_is_billed_by_its_own_measure(record, lines, shipped):
    """A token model does not pay for the session's time, a session model does, and text messages come on top."""
    tokens = lines(record("realtime", "openai", "gpt-realtime-2", input_audio_tokens=9, session_seconds=60), shipped)
    session = lines(
        record("realtime", "api.x.ai", "grok-voice-3.0", input_tokens=9, session_seconds=60, messages=2), shipped
    )
    assert billed(tokens) == {"input_audio_tokens"}
    assert billed(session) == {"session_seconds", "messages"}
    assert session["session_seconds"].cost == Decimal("0.08")
    assert session["messages"].cost == Decimal("0.008")


def test_a_fee_per_request_comes_on_top(record, lines, shipped):
    """A request costs its fee where there is one, and is covered by the tokens where there is none."""
    perplexity = lines(record("llm", "perplexity", "sonar", input_tokens=1000, requests=1), shipped)
    openai = lines(record("llm", "openai", "gpt-4o-mini", input_tokens=1000, requests=1), shipped)
    assert perplexity["requests"].cost == Decimal("0.012")
    assert (openai["requests"].cost, openai["requests"].pricing_status) == (0, "free")


def test_the_gateway_bills_the_connection(record, lines, shipped):
    """The inference gateway counts the time the socket is open; without that, the audio is what is known."""
    both = lines(record("stt", "livekit", "deepgram/nova-3", audio_seconds=10, connection_seconds=12), shipped)
    audio = lines(record("stt", "livekit", "deepgram/nova-3", audio_seconds=10), shipped)
    assert both["connection_seconds"].cost == Decimal("0.00096")
    assert both["audio_seconds"].cost == 0
    assert audio["audio_seconds"].cost == Decimal("0.0008")


def test_assemblyai_bills_the_connection(record, lines, shipped):
    """AssemblyAI's streaming is billed for as long as the socket is open."""
    charges = lines(
        record("stt", "AssemblyAI", "universal-3-5-pro", audio_seconds=10, connection_seconds=3600), shipped
    )
    assert (charges["connection_seconds"].cost, charges["audio_seconds"].cost) == (Decimal("0.45"), 0)


def test_deepgram_bills_the_audio(record, lines, shipped):
    """Where audio is what is billed, the connection is free and explained."""
    charges = lines(record("stt", "Deepgram", "nova-3", audio_seconds=60, connection_seconds=300), shipped)
    assert billed(charges) == {"audio_seconds"}


def test_a_card_decides_the_measure(record, lines, card):
    """A contract by the second turns a token-billed model into one billed by the second."""
    row = {"provider": "openai", "model": "gpt-4o-transcribe", "unit": "audio_seconds", "price": "0.001"}
    charges = lines(
        record("stt", "openai", "gpt-4o-transcribe", input_audio_tokens=600, audio_seconds=60), PriceBook([card(row)])
    )
    assert billed(charges) == {"audio_seconds"}
    assert charges["input_audio_tokens"].pricing_source.endswith("?billed_in=audio_seconds")


def test_a_cards_input_price_does_not_reach_units_the_catalog_prices(record, lines, card):
    """Cached tokens keep the catalog's own rate; only a unit that nobody prices takes the card's parent rate."""
    row = {"provider": "openai", "model": "gpt-4o-mini", "unit": "input_tokens", "price": "9", "per": 1000000}
    charges = lines(
        record("llm", "openai", "gpt-4o-mini", input_tokens=1, cached_input_tokens=1, cache_write_tokens=1),
        PriceBook([card(row)]),
    )
    assert charges["cached_input_tokens"].unit_price == Decimal("0.075")
    assert charges["cache_write_tokens"].unit_price == 9


def test_a_call_is_never_paid_by_something_else(record, lines, shipped):
    """Call seconds without a carrier's rate are unpriced, whatever else the record has."""
    charges = lines(record("llm", "openai", "gpt-4o-mini", input_tokens=1, call_seconds=60), shipped)
    assert charges["call_seconds"].cost is None


def test_carrier_minutes_are_priced_by_the_second(record, lines, shipped):
    """A carrier's price per minute is a rate for call seconds."""
    charges = lines(record("call", "twilio", "us-local-inbound", call_seconds=60), shipped)
    assert charges["call_seconds"].cost == Decimal("0.0085")


def test_every_reason_for_no_price_is_documented():
    """The list of reasons is closed, and each is explained in a sentence."""
    assert set(UNPRICED_REASONS) == {
        "no_match",
        "unknown_model",
        "unknown_provider",
        "self_hosted",
        "unit",
        "gateway_no_rate",
        "error",
    }
    assert all(len(text.split()) > 4 for text in UNPRICED_REASONS.values())


@pytest.mark.parametrize("provider", ["api.openai.com", "mine.openai.azure.com"])
def test_a_transcription_whose_tokens_nobody_reported_has_no_price(record, lines, shipped, provider):
    """Its tokens are on the bill and unknown, so its cost is unknown: neither free nor an estimate by the second."""
    units = {"audio_seconds": 4, "connection_seconds": 4}
    silent = record("stt", provider, "gpt-4o-transcribe", **units, attributes={"tokens": "unreported"})
    charges = lines(silent, shipped)
    assert {charge.cost for charge in charges.values()} == {None}
    assert {charge.pricing_source for charge in charges.values()} == {"unpriced:unit"}
    window = lines(record("stt", provider, "gpt-4o-transcribe", **units), shipped)
    assert {charge.pricing_status for charge in window.values()} == {"free"}


def test_seconds_are_billed_whether_tokens_were_reported_or_not(record, lines, shipped):
    """What is billed by the second has its price also where a provider reports no tokens."""
    units = {"audio_seconds": 4, "connection_seconds": 4}
    marked = record("stt", "deepgram", "nova-3", **units, attributes={"tokens": "unreported"})
    assert lines(marked, shipped)["audio_seconds"].cost > 0


def test_a_silent_window_is_billed_in_the_measure_of_the_others(record, card):
    """Where both of a stream's times have a price, one of them is billed in every window, also where it is 0."""
    row = {"provider": "acme-stt", "model": "nova", "price": "0.01", "per": 1}
    book = PriceBook([card({**row, "unit": "audio_seconds"}, {**row, "unit": "connection_seconds"})])
    for audio, connection in ((0, 4), (4, 0), (4, 4)):
        charges = rate(record("stt", "acme-stt", "nova", audio_seconds=audio, connection_seconds=connection), book)
        cost = {charge.unit: charge.cost for charge in charges}
        assert cost == {"audio_seconds": 0, "connection_seconds": Decimal(connection) / 100}
