"""Price feeds: what is read, what is refused, and the table that is shown of one."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livekit_costmeter.billing.price_tables import Denomination, InvalidFeed, feed_table, read_feed

CREDITS = Denomination("USD", "credits", Decimal("0.005"))


def entry(category="tts", vendor="elevenlabs", item="flash", unit="Credits per 1000 characters", value=9, **more):
    return {"category": category, "vendor": vendor, "item": item, "unit": unit, "value": value, **more}


def feed_of(*entries):
    return read_feed(json.dumps({"config": {"usage": entries}}).encode())


def document_of(*entries, prices_in="credits", priority=False):
    return feed_table(feed_of(*entries), "feed", prices_in, CREDITS, priority=priority).document()


def rows_of(key, *entries, **options):
    (section,) = [section for section in document_of(*entries, **options)["sections"] if section["key"] == key]
    return section["rows"]


def shown(value, **options):
    (row,) = rows_of("tts", entry(value=value), **options)
    (price,) = row["prices"]
    return price["shown"]


@pytest.mark.parametrize(
    ("value", "money"),
    [
        (1, "$0.005"),
        (10, "$0.05"),
        (9, "$0.045"),
        (0, "$0"),
        ("0.01", "$0.00005"),
        ("0.0001", "$0.000001"),
        ("0.0003", "$0.000002"),  # an exact half goes up, where a binary float would fall short of it
        (14000, "$70"),
        (None, ""),
    ],
)
def test_money_is_credits_by_their_price_with_six_places_and_a_half_goes_up(value, money):
    """The values of the publisher's own page; what is not known is empty, never 0."""
    assert shown(value, prices_in="money") == money


def test_what_is_not_free_is_never_shown_as_0():
    """Where six places would show nothing, all of them are shown."""
    assert shown("0.00001", prices_in="money") == "$0.00000005"


def test_the_exact_value_stands_beside_the_rounded_one():
    """Half a millionth is shown as one, and kept as it is."""
    (row,) = rows_of("tts", entry(value="0.0001"), prices_in="money")
    assert (row["prices"][0]["value"], row["prices"][0]["shown"]) == ("0.0000005", "$0.000001")


def test_credits_are_shown_as_they_stand():
    """No digit is lost or added, and a missing value is empty."""
    assert (shown(Decimal("0.00009").__str__()), shown(75), shown(None)) == ("0.00009", "75", "")


def test_numbers_keep_the_digits_of_the_file():
    """A price with more digits than a float holds is read whole."""
    raw = b'{"config": {"usage": [{"category": "asr", "value": 0.100000000000000000001}]}}'
    assert read_feed(raw).prices[0].value == Decimal("0.100000000000000000001")


@pytest.mark.parametrize(
    ("unit", "label"),
    [
        ("Credits per 1000 input tokens", "1K Input Tokens"),
        ("credits per 1000 OUTPUT tokens", "1K Output Tokens"),
        ("Credits per 1000 LLM tokens", "1K Tokens"),
        ("Credits per 1000 characters", "1K Characters"),
        ("credits per minute", "Minutes"),
        ("Credits per message", "Messages"),
        ("per fortnight", "per fortnight"),
        (None, ""),
    ],
)
def test_units_have_short_names(unit, label):
    """Units that are known are named shortly, others stay as they are."""
    (row,) = rows_of("tts", entry(unit=unit))
    assert row["unit"] == label


def test_input_and_output_of_a_model_are_one_row():
    """Grouped by vendor and item; a side that the feed lacks is empty."""
    rows = rows_of(
        "llm",
        entry("llm-output", "openai", "gpt-4o-mini", value="0.12"),
        entry("llm-input", "openai", "gpt-4o-mini", value="0.03", priorityValue="0.05"),
        entry("llm-input", "Groq", "llama", value="0.01"),
    )
    sides = {row["model"]: {price["of"]: price["value"] for price in row["prices"]} for row in rows}
    assert sides == {"gpt-4o-mini": {"input": "0.03", "output": "0.12"}, "llama": {"input": "0.01", "output": None}}
    assert [row["vendor"] for row in rows] == ["Groq", "OpenAI"]


def test_rows_are_sorted_by_vendor_and_item_as_people_read():
    """Case does not matter, a dash comes before a point and both before digits."""
    names = ["gpt-4o", "GPT-5", "gpt-4o-mini", "gpt-4.1", "gpt-4-turbo", "gpt_2"]
    rows = rows_of("llm", *(entry("llm-input", "openai", name) for name in names), entry("llm-input", "anthropic", "z"))
    assert [row["item"] for row in rows] == ["z", "gpt_2", "gpt-4-turbo", "gpt-4.1", "gpt-4o", "gpt-4o-mini", "GPT-5"]


def test_speech_is_named_by_vendor_and_family():
    """Vendors by the names they give themselves; ElevenLabs' families apart."""
    rows = rows_of(
        "tts",
        entry(vendor="eleven-labs", item="eleven_FLASH_v2_5"),
        entry(vendor="elevenlabs", item="eleven_turbo_v2"),
        entry(vendor="Eleven Labs", item="eleven_multilingual_v2"),
        entry(vendor="elevenlabs", item="v3"),
        entry(vendor="rimelabs", item="mist"),
        entry(vendor="acme", item="voice"),
    )
    families = ["ElevenLabs - TTS", *(f"ElevenLabs - TTS - {name}" for name in ("Flash", "Multilingual", "Turbo"))]
    assert [row["item"] for row in rows] == ["acme - TTS", *families, "Rime Labs - TTS"]
    assert rows_of("stt", entry("asr", "assemblyai", "universal"))[0]["item"] == "AssemblyAI - STT"


def test_rows_that_would_read_the_same_keep_their_models_name():
    """Two models of one vendor are told apart; nothing is said twice."""
    rows = rows_of("stt", entry("asr", "deepgram", "nova-2"), entry("asr", "deepgram", "nova-3"))
    assert [row["item"] for row in rows] == ["Deepgram - STT (nova-2)", "Deepgram - STT (nova-3)"]


def test_orchestration_has_its_own_order_and_shows_every_item():
    """Chat, no-reply, phone, then what else there is, with the feed's own prices."""
    rows = rows_of(
        "orchestration",
        entry("orchestration", "voiceflow", "sms", value=3),
        entry("orchestration", "voiceflow", "audio", value=10),
        entry("orchestration", "voiceflow", "no-reply", value=0),
        entry("orchestration", "voiceflow", "interaction", value=1),
    )
    assert [(row["item"], row["prices"][0]["value"]) for row in rows] == [
        ("Chat usage", "1"),
        ("No-reply usage", "0"),
        ("Phone usage", "10"),
        ("sms", "3"),
    ]


def test_a_price_that_the_feed_lacks_is_not_made_up():
    """No orchestration in the feed, none in the table."""
    assert [section["key"] for section in document_of(entry())["sections"]] == ["tts"]


def test_prices_with_priority_stand_beside_or_in_place():
    """Asked for, they replace the usual price where there is one."""
    entries = entry(value=9, priorityValue=12), entry(item="turbo", value=8)
    beside = [row["prices"][0] for row in rows_of("tts", *entries)]
    in_place = [row["prices"][0] for row in rows_of("tts", *entries, priority=True)]
    assert [(price["value"], price["priority_shown"]) for price in beside] == [("9", "12"), ("8", "")]
    assert [(price["value"], price["priority_value"]) for price in in_place] == [("12", None), ("8", None)]


def test_each_price_names_its_place_in_the_feed():
    """The source is the digest of the file and the path in it."""
    feed = feed_of(entry("asr", "deepgram", "nova-3"), entry())
    (row,) = feed_table(feed, "feed", "credits", CREDITS).document()["sections"][1]["rows"]
    assert row["prices"][0]["pricing_source"] == f"feed:{feed.digest}#config.usage[1]"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", "not JSON: "),
        (b"\xff", "not UTF-8 text"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"config": {"usage": [{"category": "asr", "value": NaN}]}}', "not JSON: NaN is no number"),
        (b"[]", "expected an object"),
        (b"{}", "config: missing"),
        (b'{"config": 1}', "config: expected an object"),
        (b'{"config": {}}', "config.usage: missing"),
        (b'{"config": {"usage": {}}}', "config.usage: expected a list"),
        (b'{"config": {"usage": []}}', "config.usage: no prices in it"),
        (b'{"config": {"usage": [1]}}', "config.usage[0]: expected an object"),
    ],
)
def test_what_is_no_feed_is_refused_with_its_path(raw, message):
    """The first mistake, and where it stands."""
    with pytest.raises(InvalidFeed) as refused:
        read_feed(raw)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": "video"}, "category: 'video' is not one of orchestration, llm-input, llm-output, asr, tts"),
        ({"category": None}, "category: None is not one of "),
        ({"value": -1}, "value: a price cannot be negative"),
        ({"value": True}, "value: expected a number or null, got True"),
        ({"value": "dear"}, "value: expected a number or null, got 'dear'"),
        ({"value": [1]}, "value: expected a number or null, got a list"),
        ({"value": "NaN"}, "value: expected a finite number"),
        ({"value": 1e300}, "value: decimal input should have no more than 30 digits in total"),
        ({"priorityValue": {}}, "priorityValue: expected a number or null, got an object"),
        ({"vendor": 3}, "vendor: expected text"),
        ({"category": "llm-input", "item": ""}, "item: missing (llm-input needs one)"),
        ({"category": "orchestration", "item": None}, "item: missing (orchestration needs one)"),
    ],
)
def test_a_bad_price_is_refused_with_its_path(change, message):
    """Which entry, which key, and what is allowed there."""
    with pytest.raises(InvalidFeed) as refused:
        feed_of(entry(item="other"), {**entry(), **change})
    assert str(refused.value).startswith(f"config.usage[1].{message}")


def test_two_prices_for_one_thing_are_refused():
    """Whichever was shown, the other would be hidden."""
    with pytest.raises(InvalidFeed, match=r"^config\.usage\[1\]: the same price as config\.usage\[0\]"):
        feed_of(entry("llm-input", "openai", "gpt", value=1), entry("llm-input", "OpenAI", "GPT", unit="x", value=2))


def test_keys_of_the_publisher_are_passed_over():
    """A feed may say more than prices."""
    raw = {"version": 3, "config": {"plans": [], "usage": [entry(beta=True)]}}
    assert len(read_feed(json.dumps(raw).encode()).prices) == 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["config", "usage", "category", "value", "item"]), inner)
        ),
    )
)
def test_anything_is_read_or_refused(value):
    """No input gets another error than the one that says what is wrong."""
    try:
        feed = read_feed(json.dumps(value).encode())
    except InvalidFeed as refused:
        assert str(refused)
    else:
        assert feed.prices
