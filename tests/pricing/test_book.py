"""Precedence, memory and failures of the price book."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from livekit_costmeter.pricing import PriceBook, rate
from livekit_costmeter.pricing.rates import Rate, RateSet

AT = datetime(2026, 11, 20, tzinfo=UTC)


class Catalog:
    """A catalog of one rate that counts how often it is asked."""

    version = "1"

    def __init__(self, name, unit="input_tokens", price="1", first=False, **period):
        self.name, self.first, self.asked = name, first, 0
        rate_ = Rate(unit, Decimal(price), Decimal(1), "USD", f"catalog:{name}@1#x-ai/m@base", "0" * 12)
        self.answer = RateSet({unit: rate_}, **period)

    def prefers(self, component, provider):  # noqa: ARG002  # the interface's
        return self.first

    def lookup(self, provider, model, *, component, at, service_tier, options):  # noqa: ARG002  # the interface's
        self.asked += 1
        self.options = dict(options)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def models(self):
        return [("x-ai", "m")]


def book(*catalogs, **settings):
    """Build a book of these catalogs."""
    return PriceBook(catalogs=catalogs, **settings)


def test_catalogs_are_asked_in_order_and_specialists_first(record):
    """The configured order holds, except that a catalog which knows the component best goes first."""
    plain, expert = Catalog("plain"), Catalog("expert", price="2", first=True)
    (charge,) = rate(record("llm", "x-ai", "m", input_tokens=1), book(plain, expert))
    assert charge.pricing_source.startswith("catalog:expert@")


def test_the_second_catalog_prices_what_the_first_leaves(record, lines):
    """A unit that one catalog does not have is asked of the next."""
    charges = lines(
        record("llm", "x-ai", "m", input_tokens=1, output_tokens=1), book(Catalog("a"), Catalog("b", "output_tokens"))
    )
    assert charges["output_tokens"].pricing_source.startswith("catalog:b@")


def test_speech_comes_from_voice_prices_and_language_from_genai_prices(record, catalogs_only):
    """Each shipped catalog is asked first for what it knows best, Groq and Mistral transcription included."""
    asked = [
        ("llm", "openai", "gpt-4o-mini", "input_tokens"),
        ("tts", "openai", "tts-1", "characters"),
        ("stt", "openai", "whisper-1", "audio_seconds"),
        ("stt", "groq", "whisper-large-v3", "audio_seconds"),
        ("stt", "mistral", "voxtral-mini-latest", "audio_seconds"),
    ]
    sources = [rate(record(c, p, m, **{unit: 1}), catalogs_only)[0].pricing_source for c, p, m, unit in asked]
    assert [source.partition("@")[0] for source in sources] == [
        "catalog:genai-prices",
        "catalog:voice-prices",
        "catalog:voice-prices",
        "catalog:genai-prices",
        "catalog:genai-prices",
    ]


def test_an_override_comes_before_the_catalogs(record, override):
    """A dated correction wins over both catalogs."""
    row = {"id": "fix", "provider": "x-ai", "model": "m", "unit": "input_tokens", "price": "7"}
    (charge,) = rate(record("llm", "x-ai", "m", input_tokens=1), book(Catalog("a"), overrides=override(row)))
    assert (charge.cost, charge.pricing_source) == (7, "override:fix@2026-11-20")


def test_a_look_up_is_remembered_for_its_period_only(record):
    """A source is asked again once its answer may have changed, and not before."""
    asked = Catalog("a", since=datetime(2026, 1, 1, tzinfo=UTC), until=datetime(2026, 12, 1, tzinfo=UTC))
    prices = book(asked)
    for day in (1, 2, 30):
        rate(record("llm", "x-ai", "m", input_tokens=1, at=datetime(2026, 11, day, tzinfo=UTC)), prices)
    assert asked.asked == 1
    rate(record("llm", "x-ai", "m", input_tokens=1, at=datetime(2026, 12, 1, tzinfo=UTC)), prices)
    assert asked.asked == 2


def test_the_memory_is_bounded(record):
    """Ten thousand model names do not stay in memory."""
    prices = book(Catalog("a"))
    for number in range(10000):
        rate(record("llm", "x-ai", f"m-{number}", input_tokens=1), prices)
    assert len(prices._memory) <= 4096


def test_a_failing_catalog_is_unpriced_and_logged(record, caplog):
    """An exception in a source becomes `unpriced:error` and a line in the log, and does not reach the caller."""
    broken = Catalog("broken")
    broken.answer = KeyError("boom")
    (charge,) = rate(record("llm", "x-ai", "m", input_tokens=1), book(broken))
    assert (charge.cost, charge.pricing_source) == (None, "unpriced:error")
    assert "price catalog failed" in caplog.text


def test_the_next_catalog_stands_in_for_a_failing_one(record):
    """One broken source does not take the others' prices away."""
    broken = Catalog("broken", first=True)
    broken.answer = KeyError("boom")
    (charge,) = rate(record("llm", "x-ai", "m", input_tokens=1), book(broken, Catalog("a")))
    assert charge.cost == 1


def test_a_model_that_is_not_known_is_not_looked_up(record):
    """`unknown` matches no catalog row by accident."""
    asked = Catalog("a")
    rate(record("tts", "Bland", "unknown", characters=1), book(asked))
    assert asked.asked == 0


def test_catalogs_are_told_what_else_sets_a_price(record):
    """Language and voice class of the record, and the gateway's plan, reach the catalog."""
    asked = Catalog("a")
    attributes = {"language": "multi", "voice_class": "pvc", "other": 1}
    rate(record("stt", "livekit", "a/b", audio_seconds=1, attributes=attributes), book(asked, livekit_plan="Scale"))
    assert asked.options == {"language": "multi", "voice_class": "pvc", "livekit_plan": "scale"}


def test_an_unknown_catalog_is_refused_with_the_names_there_are():
    """A misspelt catalog name is an error that helps."""
    with pytest.raises(ValueError, match="genai-prices, voice-prices"):
        _ = PriceBook(catalogs=["genai_prices"]).catalogs


@pytest.mark.parametrize(("plan", "price"), [(None, "0.08"), ("ship", "0.08"), ("scale", "0.07")])
def test_the_gateway_is_priced_by_plan(record, plan, price):
    """The configured plan decides between the gateway's two price lists, and the line names it."""
    (charge,) = rate(record("stt", "livekit", "deepgram/nova-3", audio_seconds=1000), PriceBook(livekit_plan=plan))
    assert charge.cost == Decimal(price)
    assert f"plan={plan or 'ship'}" in charge.pricing_source


def test_a_gateway_model_never_has_the_vendors_price(record, lines, shipped):
    """The gateway's price of a model differs from the vendor's, and one it does not publish stays open."""
    units = {"input_tokens": 1000}
    gateway, direct = (
        lines(record("llm", provider, model, **units), shipped)["input_tokens"]
        for provider, model in (("livekit", "google/gemini-2.5-pro"), ("google", "gemini-2.5-pro"))
    )
    assert gateway.cost != direct.cost
    assert "#livekit/" in gateway.pricing_source
    assert lines(record("llm", "livekit", "openai/gpt-6-sol", **units), shipped)["input_tokens"].cost is None
