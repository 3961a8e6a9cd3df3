"""The adapter of voice-prices against the package itself."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from voice_prices import Usage
from voice_prices.confidence import model_freshness
from voice_prices.data import providers
from voice_prices.data_snapshot import DataSnapshot

from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.pricing.catalogs.voice import VoicePrices
from livekit_costmeter.pricing.ratecards import overrides_card

SNAPSHOT = DataSnapshot(providers=providers, from_auto_update=False)
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
# Names under which the package has what the plugin streams.
STREAMED = {("assemblyai", "universal-3-5-pro"): "universal-3-5-pro-streaming"}


def published(provider, model, **usage):
    """Return the package's own total."""
    return SNAPSHOT.calc(Usage(**usage), STREAMED.get((provider, model), model), provider, None, AT).total_price


@pytest.mark.parametrize(
    ("component", "unit", "usage", "least"),
    [
        ("stt", "audio_seconds", "audio_input_seconds", 65),
        ("tts", "characters", "characters", 100),
    ],
)
def test_speech_costs_what_the_package_says(declared, record, only, component, unit, usage, least):
    """For every declared speech model that the package prices, our line is its total."""
    book = only(VoicePrices())
    compared = 0
    for kind, provider, model in declared:
        if kind != component:
            continue
        (charge,) = rate(record(kind, provider, model, at=AT, **{unit: 1234}), book)
        if charge.cost is None:
            continue
        assert abs(charge.cost - published(provider, model, **{usage: Decimal(1234)})) < Decimal("1e-11"), model
        compared += 1
    assert compared > least


@pytest.mark.parametrize(
    "units",
    [
        {"input_tokens": 1000, "cached_input_tokens": 200, "cache_write_tokens": 30, "output_tokens": 300},
        {"input_tokens": 190000, "cached_input_tokens": 90000, "output_tokens": 300},
        {
            "input_tokens": 5,
            "input_audio_tokens": 500,
            "cached_input_audio_tokens": 60,
            "output_audio_tokens": 70,
            "output_tokens": 3,
        },
    ],
)
def test_tokens_cost_what_the_package_says(declared, record, only, units):
    """Every declared language model of the package, the gateway's included, adds up to its total."""
    book = only(VoicePrices())
    get = units.get
    audio = get("input_audio_tokens", 0) + get("cached_input_audio_tokens", 0)
    cached = get("cached_input_tokens", 0) + get("cached_input_audio_tokens", 0)
    usage = {
        "input_tokens": get("input_tokens", 0) + get("cached_input_tokens", 0) + get("cache_write_tokens", 0) + audio,
        "cache_read_tokens": cached,
        "cache_write_tokens": get("cache_write_tokens", 0),
        "input_audio_tokens": audio,
        "cache_audio_read_tokens": get("cached_input_audio_tokens", 0),
        "output_tokens": get("output_tokens", 0) + get("output_audio_tokens", 0),
        "output_audio_tokens": get("output_audio_tokens", 0),
    }
    compared = 0
    for component, provider, model in declared:
        charges = rate(record(component, provider, model, at=AT, requests=1, **units), book)
        if any(charge.cost is None for charge in charges):
            continue
        total = sum(charge.cost for charge in charges)
        assert abs(total - published(provider, model, **usage)) < Decimal("1e-11"), (provider, model)
        compared += 1
    assert compared > 100


def test_agent_minutes_are_session_seconds(record, only):
    """A bundled price per minute is a rate for the session's seconds."""
    (charge,) = rate(
        record("realtime", "ultravox", "fixie-ai/ultravox", at=AT, session_seconds=60), only(VoicePrices())
    )
    assert charge.cost == Decimal("0.05")


@pytest.mark.parametrize("asked", [None, "pvc", "no-such-class"])
def test_a_voice_class_multiplies_the_price(record, only, asked):
    """A cloned voice costs half as much again; an unknown class costs the default and the line says which was used."""
    attributes = {} if asked is None else {"voice_class": asked}
    (charge,) = rate(
        record("tts", "cartesia", "sonic-3", at=AT, characters=1000, attributes=attributes), only(VoicePrices())
    )
    assert charge.cost == (Decimal("0.075") if asked == "pvc" else Decimal("0.05"))
    assert f"voice_class={'pvc' if asked == 'pvc' else 'default'}" in charge.pricing_source


@pytest.mark.parametrize(("provider", "model"), [("deepgram", "nova-3"), ("livekit", "deepgram/nova-3")])
def test_multilingual_recognition_costs_its_own_rate(record, only, provider, model):
    """The model's name is the same for `language=multi`; the price is not."""
    book = only(VoicePrices())
    one, many = (
        rate(record("stt", provider, model, at=AT, audio_seconds=60, attributes={"language": language}), book)[0]
        for language in ("en", "multi")
    )
    assert (one.cost, many.cost.quantize(Decimal("1e-4"))) == (Decimal("0.0048"), Decimal("0.0058"))


def test_a_streamed_model_has_the_streaming_rate(record, only):
    """The name that the plugin reports is the catalog's batch row; what is streamed costs $0.45 an hour."""
    (charge,) = rate(record("stt", "AssemblyAI", "universal-3-5-pro", at=AT, audio_seconds=3600), only(VoicePrices()))
    assert charge.cost == Decimal("0.45")
    assert "ref=universal-3-5-pro&" in charge.pricing_source


def test_a_free_model_is_free_and_a_model_without_rates_is_unpriced(record, only):
    """An empty price list is the true price only where the catalog says that the model is free."""
    book = only(VoicePrices())
    (free,) = rate(record("tts", "livekit", "fishaudio/s2.1-pro-free", at=AT, characters=100), book)
    (empty,) = rate(record("llm", "azure", "mai-ds-r1:free", at=AT, input_tokens=100), book)
    (unknown,) = rate(record("stt", "deepgram", "whisper-tiny", at=AT, audio_seconds=100), book)
    assert [(charge.pricing_status, charge.cost) for charge in (free, empty, unknown)] == [
        ("free", 0),
        ("free", 0),
        ("unpriced", None),
    ]


def test_a_free_window_ends_when_the_catalog_says(record, only):
    """A promotion makes a model free for its days, to the minute, in any zone."""
    book = only(VoicePrices())
    end = datetime(2026, 10, 1, 7, tzinfo=UTC)
    moments = [end - timedelta(minutes=1), end, end.astimezone(timezone(timedelta(hours=-8)))]
    charges = [rate(record("tts", "livekit", "rime/coda", at=at, characters=1000), book)[0] for at in moments]
    assert [charge.cost for charge in charges] == [0, Decimal("0.05"), Decimal("0.05")]
    assert "@2026-10-01T07:00Z?" in charges[1].pricing_source


@pytest.mark.parametrize("day", [date(2026, 9, 24), date(2026, 11, 22), date(2026, 11, 23)])
def test_a_row_is_stale_when_the_package_says_so(record, only, day):
    """The age of a row is judged on the day of the work, by the package's own rule."""
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    (charge,) = rate(record("stt", "livekit", "deepgram/nova-3", at=at, audio_seconds=1), only(VoicePrices()))
    provider = next(p for p in providers if p.id == "livekit")
    model = provider.find_model("deepgram/nova-3")
    assert charge.stale == model_freshness(model, provider, today=day).stale
    assert ("stale=1" in charge.pricing_source) == charge.stale


def test_the_scale_plan_falls_back_to_the_common_list():
    """A gateway model that Scale does not list apart costs what every plan pays, from the row that says so."""
    book = PriceBook(catalogs=["voice-prices"], overrides=overrides_card([]), livekit_plan="scale")
    found = book.catalogs[0].lookup(
        "livekit", "openai/gpt-4o", component="llm", at=AT, service_tier=None, options={"livekit_plan": "scale"}
    )
    assert "#livekit/openai/gpt-4o@" in found.rates["input_tokens"].source


def test_a_service_tier_is_never_silently_standard(record, only):
    """The package has no tiers, so a priced tier is marked."""
    (charge,) = rate(
        record("llm", "openai", "gpt-4o-mini", at=AT, input_tokens=1, service_tier="priority"), only(VoicePrices())
    )
    assert "tier=unpriced-priority" in charge.pricing_source
