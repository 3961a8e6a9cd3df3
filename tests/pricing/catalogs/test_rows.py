"""Matches that are known to be wrong."""

import pytest

from livekit_costmeter.pricing import rate
from livekit_costmeter.pricing.catalogs.rows import refused


@pytest.mark.parametrize(
    ("component", "provider", "model", "unit"),
    [
        ("stt", "cartesia", "ink-whisper", "audio_seconds"),
        ("stt", "deepgram", "nova-3-medical", "audio_seconds"),
        ("llm", "openai", "gpt-4o-audio-preview", "input_audio_tokens"),
        ("llm", "openai", "gpt-4o-mini-audio-preview", "input_audio_tokens"),
        ("llm", "openai", "gpt-4o-mini-audio-preview", "output_audio_tokens"),
    ],
)
def test_a_wrong_match_is_no_price(record, catalogs_only, component, provider, model, unit):
    """A catalog pattern wider than the vendor's price list gives nothing rather than another product's price."""
    (charge,) = rate(record(component, provider, model, **{unit: 1000000}), catalogs_only)
    assert charge.cost is None


def test_a_dated_model_has_its_own_price(record, catalogs_only):
    """The first gpt-4o costs twice what the name without a date costs, whichever catalog would say otherwise."""
    costs = [
        rate(record("llm", "openai", model, input_tokens=1000000), catalogs_only)[0].cost
        for model in ("gpt-4o-2024-05-13", "gpt-4o")
    ]
    assert costs == [5, 2.5]
    assert refused("openai", "gpt-4o-2024-05-13", "gpt-4o")


@pytest.mark.parametrize("model", ["gemini-2.5-pro-tts", "gemini-2.5-pro-preview-tts"])
def test_a_speech_model_never_has_its_text_siblings_rate(record, catalogs_only, model):
    """Tokens of a Gemini voice are priced by the voice's row."""
    (charge,) = rate(record("tts", "google", model, output_audio_tokens=1000000), catalogs_only)
    assert "#google/gemini-2.5-pro-tts@" in charge.pricing_source


def test_a_speech_name_is_refused_a_row_of_text():
    """A name that says speech matches only rows that say it too."""
    assert refused("google", "gemini-2.5-flash-lite-preview-tts", "gemini-2.5-flash-lite")
    assert not refused("google", "gemini-2.5-flash-preview-tts", "gemini-2.5-flash-tts")


def test_the_text_of_an_audio_model_is_priced(record, lines, catalogs_only):
    """Only the audio of an audio preview model is open; its text has a price."""
    charges = lines(
        record("llm", "openai", "gpt-4o-audio-preview", input_tokens=1, input_audio_tokens=1), catalogs_only
    )
    assert charges["input_tokens"].cost is not None
    assert charges["input_audio_tokens"].pricing_source == "unpriced:unit"


@pytest.mark.parametrize(
    ("provider", "model"), [("openai.azure.example", "gpt-4o"), ("openai-compatible", "gpt-4o"), ("myopenai", "gpt-4o")]
)
def test_a_provider_that_contains_a_vendors_name_has_no_price(record, catalogs_only, provider, model):
    """The catalogs' own search for providers by substring is never used."""
    (charge,) = rate(record("llm", provider, model, input_tokens=1), catalogs_only)
    assert charge.pricing_source == "unpriced:unknown_provider"
