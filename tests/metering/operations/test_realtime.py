"""Realtime sessions: a response is recorded once, whoever says what it cost, and the time until the end."""

from __future__ import annotations

import asyncio
import base64
import gc
import time
import weakref
from decimal import Decimal

import pytest
from livekit.agents.metrics import RealtimeModelMetrics
from livekit.plugins import openai

from livekit_costmeter.metering.operations.realtime import usage_units

USAGE = {
    "input_tokens": 100,
    "output_tokens": 50,
    "input_token_details": {
        "text_tokens": 40,
        "audio_tokens": 60,
        "cached_tokens": 30,
        "cached_tokens_details": {"text_tokens": 10, "audio_tokens": 20},
    },
    "output_token_details": {"text_tokens": 15, "audio_tokens": 35},
}
UNITS = {
    "input_tokens": "30",
    "cached_input_tokens": "10",
    "input_audio_tokens": "40",
    "cached_input_audio_tokens": "20",
    "output_tokens": "15",
    "output_audio_tokens": "35",
}


@pytest.fixture
async def open_session(meter):
    """Open a session of OpenAI's plugin that finds nobody to talk to."""
    models = []

    def open_session():
        models.append(openai.realtime.RealtimeModel(api_key="any", base_url="http://127.0.0.1:9/v1"))
        return models[-1].session()

    yield open_session
    for model in models:
        await model.aclose()


def says(session, kind, **more):
    session.emit("openai_server_event_received", {"type": kind, **more})


def begins(session, name="resp_1"):
    says(session, "response.created", response={"id": name})


def ends(session, name="resp_1", status="completed", usage=USAGE):
    says(session, "response.done", response={"id": name, "status": status, "usage": usage})


def metrics(name="resp_1", **changes):
    inputs = RealtimeModelMetrics.InputTokenDetails(
        text_tokens=40,
        audio_tokens=60,
        image_tokens=0,
        cached_tokens=30,
        cached_tokens_details=RealtimeModelMetrics.CachedTokenDetails(text_tokens=10, audio_tokens=20, image_tokens=0),
    )
    outputs = RealtimeModelMetrics.OutputTokenDetails(text_tokens=15, audio_tokens=35, image_tokens=0)
    values = {
        "label": "l", "request_id": name, "timestamp": time.time(), "duration": 1.0, "ttft": 0.1, "cancelled": False,
        "input_tokens": 100, "output_tokens": 50, "total_tokens": 150, "tokens_per_second": 50.0,
        "input_token_details": inputs, "output_token_details": outputs,
    }  # fmt: skip
    return RealtimeModelMetrics(**{**values, **changes})


def responses(delivery):
    return [record for record in delivery.records if "session_seconds" not in record["quantities"]]


def seconds(delivery):
    return [record for record in delivery.records if "session_seconds" in record["quantities"]]


async def test_a_response_that_livekit_reports_is_recorded_once(open_session, delivery):
    """The provider's message and LiveKit's metrics of it come in the same turn of the loop, and are one usage."""
    session = open_session()
    begins(session)
    ends(session)
    session.emit("metrics_collected", metrics())
    await asyncio.sleep(0)
    await session.aclose()
    (record,) = responses(delivery)
    assert record["quantities"] == UNITS
    assert record["operation_id"] == "resp_1"
    assert set(record["basis"].values()) == {"reported"}


async def test_a_response_that_livekit_drops_is_recorded_from_the_providers_word(open_session, delivery):
    """A reply that was given up before it arrived is billed all the same."""
    session = open_session()
    begins(session)
    ends(session, status="cancelled")
    assert responses(delivery) == []
    await asyncio.sleep(0)
    (record,) = responses(delivery)
    assert record["quantities"] == record["operation_total"] == UNITS
    assert (record["outcome"], set(record["basis"].values())) == ("interrupted", {"reported"})
    await session.aclose()
    assert len(responses(delivery)) == 1


async def test_a_response_without_usage_is_no_record(open_session, delivery):
    """A provider that says nothing of tokens is not held to have used any."""
    session = open_session()
    begins(session)
    ends(session, usage=None)
    await asyncio.sleep(0)
    await session.aclose()
    assert responses(delivery) == []


async def test_responses_in_a_row_are_told_apart(open_session, delivery):
    """One is reported, one dropped, one open when the session closes: three records of three responses."""
    session = open_session()
    for name in ("resp_1", "resp_2", "resp_3"):
        begins(session, name)
    ends(session, "resp_2")
    ends(session, "resp_1")
    session.emit("metrics_collected", metrics("resp_1"))
    await asyncio.sleep(0)
    await session.aclose()
    assert sorted((record["operation_id"], record["outcome"]) for record in responses(delivery)) == [
        ("resp_1", "completed"), ("resp_2", "completed"), ("resp_3", "interrupted"),
    ]  # fmt: skip


async def test_an_open_response_is_at_least_what_was_asked_before_and_what_was_heard(open_session, delivery):
    """The prompt only grows; of the answer counts what came."""
    session = open_session()
    begins(session)
    ends(session)
    session.emit("metrics_collected", metrics())
    begins(session, "resp_2")
    audio = base64.b64encode(bytes(48_000)).decode()
    says(session, "response.output_audio.delta", response_id="resp_2", delta=audio)
    says(session, "response.output_audio_transcript.delta", response_id="resp_2", delta="Good morning.")
    says(session, "response.output_audio.delta", response_id="of nobody", delta=audio)
    await session.aclose()
    last = responses(delivery)[-1]
    asked = {unit: amount for unit, amount in UNITS.items() if "input" in unit}
    assert {unit: last["quantities"][unit] for unit in asked} == asked
    assert {last["basis"][unit] for unit in asked} == {"lower_bound"}
    assert (last["basis"]["output_tokens"], last["basis"]["output_audio_tokens"]) == ("estimated", "estimated")
    assert last["attributes"]["estimate"]["output_audio_tokens"]["observed"] == {"milliseconds": 1000}
    assert last["outcome"] == "interrupted"


async def test_the_first_response_is_asked_at_least_its_instructions(open_session, delivery):
    """Nothing was asked before it that could be taken."""
    session = open_session()
    session._instructions = "Be brief." * 40
    begins(session)
    await session.aclose()
    (record,) = responses(delivery)
    assert int(record["quantities"]["input_tokens"]) >= 90
    assert record["basis"]["input_tokens"] == "lower_bound"


async def test_a_session_is_timed_until_it_is_closed(open_session, delivery):
    """The last increment carries the total, and a second close adds nothing."""
    session = open_session()
    await asyncio.sleep(0.01)
    await session.aclose()
    await session.aclose()
    (record,) = seconds(delivery)
    assert record["operation_total"] == record["quantities"]
    assert Decimal(record["quantities"]["session_seconds"]) > 0
    assert record["basis"] == {"session_seconds": "observed"}


async def test_time_that_a_plugin_reports_is_not_counted_as_well(open_session, delivery):
    """Where LiveKit knows how long the session was, its figure is the record."""
    session = open_session()
    session.emit("metrics_collected", metrics("", session_duration=7.5))
    await asyncio.sleep(0.01)
    await session.aclose()
    assert [record["quantities"]["session_seconds"] for record in seconds(delivery)] == ["7.5"]


@pytest.mark.parametrize(
    "message",
    [
        None,
        "text",
        {},
        {"type": "session.created"},
        {"type": "response.done"},
        {"type": "response.created", "response": {}},
        {"type": "x.delta", "delta": 5},
    ],
)
async def test_a_message_of_another_shape_hurts_nobody(open_session, delivery, message):
    """What a provider sends is outside our hands: LiveKit's listeners hear it, and the session goes on."""
    session = open_session()
    heard = []
    session.on("openai_server_event_received", heard.append)
    session.emit("openai_server_event_received", message)
    assert heard == [message]
    begins(session)
    ends(session)
    session.emit("metrics_collected", metrics())
    await session.aclose()
    assert len(responses(delivery)) == 1
    assert len(seconds(delivery)) == 1


async def test_nothing_is_kept_of_a_session_that_was_closed(meter, open_session):
    """Neither its responses nor the session itself."""
    session = open_session()
    begins(session)
    await session.aclose()
    assert "aclose" not in vars(session)
    assert len(meter.realtime._sessions) == 0
    assert meter.realtime._windows._open == {}
    gone = weakref.ref(session)
    del session
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None


def test_usage_is_split_into_disjoint_units():
    """A cached token is not also an input token, and audio is not also text."""
    assert usage_units(USAGE) == UNITS
    assert usage_units({}) == {}


@pytest.mark.parametrize(
    ("details", "units"),
    [
        ({}, {"input_tokens": "100"}),
        ({"audio_tokens": 100}, {"input_audio_tokens": "100"}),
        ({"cached_tokens": 30}, {"input_tokens": "70", "cached_input_tokens": "30"}),
        ({"audio_tokens": None, "cached_tokens": None, "cached_tokens_details": None}, {"input_tokens": "100"}),
        ({"image_tokens": 25}, {"input_tokens": "75", "input_image_tokens": "25"}),
    ],
)
def test_usage_without_details_is_text(details, units):
    """Providers that speak the protocol leave out what they do not have."""
    split = usage_units({"input_tokens": 100, "input_token_details": details})
    assert split == units
    assert sum(map(int, split.values())) == 100


async def test_a_transcript_that_livekit_does_not_report_is_the_providers_word(open_session, delivery):
    """Older releases say nothing of what transcribing cost a realtime session; its provider does."""
    session = open_session()
    usage = {"type": "tokens", "input_tokens": 12, "output_tokens": 5, "input_token_details": {"audio_tokens": 12}}
    transcript = {"type": "conversation.item.input_audio_transcription.completed", "item_id": "i", "transcript": "Hi"}
    session.emit("openai_server_event_received", {**transcript, "event_id": "e1", "usage": usage})
    await asyncio.sleep(0)
    session.emit("openai_server_event_received", {**transcript, "event_id": "e2", "usage": {"seconds": 1.5}})
    session.emit("openai_server_event_received", {**transcript, "event_id": "e3"})
    await asyncio.sleep(0)
    heard = [record["quantities"] for record in delivery.records if record["component"] == "stt"]
    assert heard == [{"input_audio_tokens": "12", "output_tokens": "5"}, {"audio_seconds": "1.5"}]
