"""The adapter of genai-prices against the package itself."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot, set_custom_snapshot

from livekit_costmeter.pricing import rate
from livekit_costmeter.pricing.catalogs.genai import GenaiPrices

SNAPSHOT = DataSnapshot(providers=providers, from_auto_update=False)
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
TOKENS = [
    {"input_tokens": 1000, "output_tokens": 300},
    {"input_tokens": 700, "cached_input_tokens": 300, "cache_write_tokens": 50, "output_tokens": 20},
    {"input_tokens": 150000, "cached_input_tokens": 150000, "output_tokens": 9000},
    {
        "input_tokens": 10,
        "input_audio_tokens": 500,
        "cached_input_audio_tokens": 90,
        "cached_input_tokens": 7,
        "output_tokens": 40,
        "output_audio_tokens": 700,
        "input_image_tokens": 30,
        "cached_input_image_tokens": 4,
    },
]


def published(model, provider, units, **context):
    """Price our disjoint units with the package, in its own overlapping ones."""
    get = units.get
    audio = get("input_audio_tokens", 0) + get("cached_input_audio_tokens", 0)
    image = get("input_image_tokens", 0) + get("cached_input_image_tokens", 0)
    cached = [get(f"cached_input_{kind}tokens", 0) for kind in ("", "audio_", "image_")]
    usage = Usage(
        input_tokens=get("input_tokens", 0) + get("cache_write_tokens", 0) + audio + image + cached[0],
        cache_read_tokens=sum(cached),
        cache_write_tokens=get("cache_write_tokens", 0),
        input_audio_tokens=audio,
        cache_audio_read_tokens=cached[1],
        input_image_tokens=image,
        cache_image_read_tokens=cached[2],
        output_tokens=get("output_tokens", 0) + get("output_audio_tokens", 0),
        output_audio_tokens=get("output_audio_tokens", 0),
    )
    return SNAPSHOT.calc(usage, model, provider, None, AT, context or None).total_price


@pytest.mark.parametrize("units", TOKENS)
def test_tokens_cost_what_the_package_says(declared, record, only, units):
    """For every declared model that the package prices by tokens, our lines add up to its total."""
    book = only(GenaiPrices())
    compared = 0
    for component, provider, model in declared:
        charges = rate(record(component, provider, model, at=AT, requests=1, **units), book)
        if charges[0].cost is None or "ref=amazon" in charges[0].pricing_source or model == "amazon.nova-2-lite-v1:0":
            continue
        total = sum(charge.cost for charge in charges)
        assert abs(total - published(model, provider, units)) < Decimal("1e-11"), (provider, model)
        compared += 1
    assert compared > 150


@pytest.mark.parametrize(
    ("component", "provider", "model", "unit", "usage"),
    [
        ("stt", "openai", "whisper-1", "audio_seconds", ("audio_seconds", "input_audio_seconds")),
        ("stt", "openai", "gpt-live-transcribe", "audio_seconds", ("audio_seconds",)),
        ("stt", "mistral", "voxtral-mini-latest", "audio_seconds", ("audio_seconds", "input_audio_seconds")),
        ("realtime", "openai", "gpt-live-1", "session_seconds", ("audio_seconds",)),
        ("realtime", "x-ai", "grok-voice-latest", "session_seconds", ("audio_seconds",)),
        ("tts", "openai", "tts-1", "characters", ("input_characters",)),
        ("tts", "groq", "canopylabs/orpheus-v1-english", "characters", ("input_characters",)),
    ],
)
def test_seconds_and_characters_cost_what_the_package_says(record, only, component, provider, model, unit, usage):
    """Hours of audio, session time and millions of characters come out as the package has them."""
    (charge,) = rate(record(component, provider, model, at=AT, **{unit: 1234}), only(GenaiPrices()))
    package = SNAPSHOT.calc(Usage(**dict.fromkeys(usage, 1234)), model, provider, None, AT).total_price
    assert abs(charge.cost - package) < Decimal("1e-11")
    assert charge.unit == unit


@pytest.mark.parametrize("seconds", [1, 9, 10, 11])
def test_groqs_minimum_is_the_packages(record, only, seconds):
    """One whole request costs what the package makes of it, below and above ten seconds."""
    made = record(
        "stt",
        "groq",
        "whisper-large-v3",
        at=AT,
        audio_seconds=seconds,
        operation_total={"audio_seconds": Decimal(seconds)},
    )
    usage = Usage(audio_seconds=seconds, input_audio_seconds=seconds)
    package = SNAPSHOT.calc(usage, "whisper-large-v3", "groq", None, AT).total_price
    assert abs(rate(made, only(GenaiPrices()))[0].cost - package) < Decimal("1e-11")


@pytest.mark.parametrize("tier", ["priority", "flex", "fast"])
def test_a_service_tier_costs_what_the_package_says(record, only, tier):
    """The package's own variant prices are used for the tiers that a model has."""
    units = {"input_tokens": 1000, "cached_input_tokens": 500, "output_tokens": 100}
    charges = rate(record("llm", "openai", "gpt-5", at=AT, service_tier=tier, **units), only(GenaiPrices()))
    known = charges[0].pricing_source.endswith(f"tier={tier}")
    expected = published("gpt-5", "openai", units, service_tier=tier)
    assert abs(sum(charge.cost for charge in charges) - expected) < Decimal("1e-11")
    assert known == (expected != published("gpt-5", "openai", units))


def test_a_dated_price_changes_on_its_day(record, only):
    """The price of a model doubles at midnight UTC of the day that the catalog names, and the source has that day."""
    book = only(GenaiPrices())
    before, after = (
        rate(record("llm", "google", "gemini-3.8-flash", at=at, input_tokens=1000000), book)[0]
        for at in (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    )
    assert (before.cost, after.cost) == (Decimal("0.75"), Decimal("1.5"))
    assert "#google/gemini-3.8-flash@2027-01-01" in after.pricing_source


def test_a_price_by_time_of_day_is_not_remembered(record, only):
    """A model that is cheaper at night is priced by the minute of its work, in any order of asking."""
    book = only(GenaiPrices())
    hours = [*range(24), *range(24)]
    made = [
        record("llm", "deepseek", "deepseek-chat", at=AT.replace(hour=hour), input_tokens=1000000) for hour in hours
    ]
    costs = [rate(one, book)[0].cost for one in made]
    expected = [
        SNAPSHOT.calc(Usage(input_tokens=1000000), "deepseek-chat", "deepseek", None, one.at).total_price
        for one in made
    ]
    assert costs == expected
    assert len(set(costs)) == 2


def test_the_requested_name_is_kept_where_the_row_is_called_otherwise(record, only):
    """A source names the row that answered and what was asked for, a compact date included."""
    book = only(GenaiPrices())
    sources = [
        rate(record("llm", "openai", model, at=AT, input_tokens=1), book)[0].pricing_source
        for model in ("gpt-5.1-20251113", "gpt-4o-2024-05-13", "gpt-4o")
    ]
    assert [source.partition("#")[2] for source in sources] == [
        "openai/gpt-5.1@base?ref=gpt-5.1-20251113",
        "openai/gpt-4o-2024-05-13@base",
        "openai/gpt-4o@base",
    ]


def test_a_resellers_row_names_its_holder(record, only):
    """Azure's price of an OpenAI model is OpenAI's row, and says for whom it stands."""
    (charge,) = rate(record("llm", "myres.openai.azure.com", "gpt-5-mini", at=AT, input_tokens=1), only(GenaiPrices()))
    assert charge.pricing_source.partition("#")[2] in ("azure/gpt-5-mini@base", "openai/gpt-5-mini@base?for=azure")


def test_the_bedrock_id_without_a_region_has_the_regional_price(record, only):
    """A bare Bedrock id is billed in its region, at the regional row's price."""
    (charge,) = rate(record("llm", "aws", "amazon.nova-2-lite-v1:0", at=AT, input_tokens=1000000), only(GenaiPrices()))
    assert charge.cost == Decimal("0.33")
    assert "ref=amazon.nova-2-lite-v1:0" in charge.pricing_source


def test_old_data_is_stale(record, only):
    """Work done long after the newest change that the data knows is priced and marked."""
    made = record("llm", "openai", "gpt-4o", at=datetime(2027, 9, 1, tzinfo=UTC), input_tokens=1)
    fresh, old = rate(record("llm", "openai", "gpt-4o", at=AT, input_tokens=1), only(GenaiPrices(AT)))[0], None
    old = rate(made, only(GenaiPrices(AT)))[0]
    assert (fresh.stale, old.stale) == (False, True)
    assert old.pricing_source.endswith("?stale=1")


def test_a_process_wide_snapshot_changes_nothing(record, only):
    """Prices come from the bundled data even where somebody has installed another snapshot for the process."""
    set_custom_snapshot(DataSnapshot(providers=[], from_auto_update=True))
    try:
        (charge,) = rate(record("llm", "openai", "gpt-4o", at=AT, input_tokens=1), only(GenaiPrices()))
    finally:
        set_custom_snapshot(None)
    assert charge.pricing_status == "priced"


def test_the_packages_own_memory_does_not_grow(record, only):
    """Model names that come and go are not collected in the package's unbounded cache."""
    from genai_prices.data_snapshot import get_snapshot

    before = len(get_snapshot()._lookup_cache)
    book = only(GenaiPrices())
    for number in range(50):
        rate(record("llm", "openai", f"gpt-4o-{number}", at=AT, input_tokens=1), book)
    assert len(get_snapshot()._lookup_cache) == before
