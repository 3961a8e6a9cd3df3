"""A plan from a price feed: the same prices, or a refusal."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from livekit_costmeter.billing.plans import Plan
from livekit_costmeter.billing.plans.mistakes import find_mistake
from livekit_costmeter.billing.price_tables import (
    Denomination,
    InvalidFeed,
    Till,
    feed_plan,
    feed_table,
    plan_table,
    read_feed,
)
from livekit_costmeter.billing.schema import PlanModel
from livekit_costmeter.pricing import PriceBook
from livekit_costmeter.pricing.ratecards import RateCard

AT = datetime(2026, 11, 20, tzinfo=UTC)
NO_PRICES = PriceBook(overrides=RateCard("nothing", []), catalogs=[])
CREDITS = Denomination("USD", "credits", Decimal("0.005"))
UNITS = {"asr": "Credits per minute", "tts": "Credits per 1000 characters"}


def entry(category, vendor="openai", item="model", value="1", unit=None, **more):
    return {
        "category": category,
        "vendor": vendor,
        "item": item,
        "unit": unit or UNITS.get(category),
        "value": value,
        **more,
    }


def feed_of(*entries):
    return read_feed(json.dumps({"config": {"usage": entries}}).encode())


def plan_of(feed, name="feed"):
    model = PlanModel.model_validate(yaml.safe_load(feed_plan(feed, name, CREDITS)))
    assert find_mistake(model) is None
    return Plan.from_model(model, "feedfacecafe")


def shown(table):
    # Rows go by other names: a plan says which model, a feed what people call it.
    return sorted(
        (
            section["key"],
            row["vendor"].lower(),
            row["unit"],
            price["of"],
            price["value"] or "",
            price["priority_value"] or "",
        )
        for section in table.document()["sections"]
        for row in section["rows"]
        for price in row["prices"]
        if section["key"] != "orchestration"
    )


def shown_fees(table):
    return sorted(
        (price["value"], price["priority_value"] or "")
        for section in table.document()["sections"]
        for row in section["rows"]
        for price in row["prices"]
        if section["key"] == "orchestration"
    )


amounts = st.decimals(min_value=0, max_value=1000, places=6).map(str)
prices = st.fixed_dictionaries({"value": amounts}, optional={"priorityValue": amounts})
vendors = st.sampled_from(["openai", "Deepgram", "elevenlabs", "eleven labs", "rimelabs", "Acme Voice", "x-ai"])
items = st.from_regex(r"[a-z][a-z0-9.:/-]{0,12}", fullmatch=True)


@st.composite
def feeds(draw):
    """Draw a feed that a plan can express, each model once."""
    entries = []
    for item in draw(st.lists(items, min_size=1, max_size=6, unique=True)):
        category, vendor = draw(st.sampled_from(["llm", "asr", "tts"])), draw(vendors)
        names = ("llm-input", "llm-output") if category == "llm" else (category,)
        entries += [entry(name, vendor, item, **draw(prices)) for name in names]
    fees = draw(st.sets(st.sampled_from(["interaction", "audio"])))
    entries += [entry("orchestration", "acme", item, **draw(prices)) for item in fees]
    return feed_of(*draw(st.permutations(entries)))


@settings(deadline=None)
@given(feed=feeds(), prices_in=st.sampled_from(["credits", "money"]), priority=st.booleans())
def test_the_plan_shows_the_feeds_prices_again(feed, prices_in, priority):
    """Every price, with priority and without, in credits and in money; nothing is added."""
    given_table = feed_table(feed, "feed", prices_in, CREDITS, priority=priority)
    components = {"llm", "asr", "tts"} - {price.category.partition("-")[0] for price in feed.prices}
    again = plan_table(Till(plan_of(feed), NO_PRICES, AT, prices_in, priority))
    assert shown(again) == shown(given_table)
    assert shown_fees(again) == shown_fees(given_table)
    assert not components.intersection(section["key"] for section in again.document()["sections"])


def test_vendors_go_by_the_names_that_usage_has():
    """However a feed spells them; without a model every one of the vendor is meant."""
    feed = feed_of(
        entry("tts", "Eleven-Labs", "flash"), entry("tts", "rime labs", "mist"), entry("asr", "AssemblyAI", None)
    )
    rates = [(rule.provider, rule.model, rule.unit) for rule in plan_of(feed).rates]
    assert rates == [
        ("elevenlabs", "flash", "characters"),
        ("rime", "mist", "characters"),
        ("assemblyai", "*", "audio_seconds"),
    ]


def test_each_row_says_where_its_price_stood():
    """The feed's digest and the path in it."""
    feed = feed_of(entry("asr", "deepgram", "nova-3"))
    assert plan_of(feed).rates[0].source == f"feed:{feed.digest}#config.usage[0]"


def test_free_no_reply_messages_need_no_row():
    """They are nobody's message, so that no fee counts them."""
    feed = feed_of(entry("orchestration", "v", "no-reply", 0), entry("orchestration", "v", "interaction", 1))
    assert [rule.id for rule in plan_of(feed).fees] == ["chat-message"]


def test_a_name_becomes_one_that_a_plan_may_have():
    """What is not allowed becomes a dash."""
    assert plan_of(feed_of(entry("asr")), "my feed (2026)").name == "my-feed-2026"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": None}, "config.usage[1].value: not known, which a plan cannot say"),
        ({"category": "llm-input"}, "config.usage[1]: the model has no llm-output, which a plan would bill at cost"),
        ({"category": "orchestration", "item": "sms"}, "config.usage[1].item: 'sms' is no fee of a plan"),
        ({"category": "orchestration", "item": "no-reply"}, "config.usage[1].item: 'no-reply' is no fee of a plan"),
        ({"unit": "per word"}, "config.usage[1].unit: 'per word' is no unit of tts that a plan has"),
        ({"item": "flash*"}, "config.usage[1]: a plan cannot name what has *, ?, [ or $ in its name"),
        ({"vendor": "${HOME}"}, "config.usage[1]: a plan cannot name what has *, ?, [ or $ in its name"),
        ({"vendor": "Eleven Labs", "item": "V3"}, "as a plan: rates.1"),
        ({"value": "0.0000000000000000001"}, "as a plan: rates.1.price"),
    ],
)
def test_what_a_plan_cannot_say_is_refused(change, message):
    """Whole or not at all: the path in the feed, and why."""
    with pytest.raises(InvalidFeed) as refused:
        plan_of(feed_of(entry("tts", "elevenlabs", "v3"), {**entry("tts", "elevenlabs", "flash"), **change}))
    assert str(refused.value).startswith(message)


def test_without_a_price_of_credits_there_is_no_plan():
    """A plan in credits says what one costs."""
    with pytest.raises(InvalidFeed, match="whose price must be known"):
        feed_plan(feed_of(entry("asr")), "feed", Denomination("USD"))
