"""The meter itself: it counts once, calls back, and never disturbs the agent."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import pytest
from livekit.agents import Plugin, llm
from livekit.agents.metrics import LLMMetrics, TTSMetrics
from livekit.plugins import openai

from livekit_costmeter.metering import Taps
from livekit_costmeter.metering.hooks import internals, marks
from livekit_costmeter.metering.hooks.plugin import register_plugin
from livekit_costmeter.metering.hooks.taps import unseen
from livekit_costmeter.records import UsageRecord


def llm_metrics(**changes):
    values = {
        "label": "livekit.plugins.openai.llm.LLM", "request_id": "r", "timestamp": 100.5, "duration": 2.0, "ttft": 0.1,
        "cancelled": False, "completion_tokens": 30, "prompt_tokens": 100, "prompt_cached_tokens": 0,
        "total_tokens": 130, "tokens_per_second": 15.0,
    }  # fmt: skip
    return LLMMetrics(**{**values, **changes})


@pytest.fixture
def model():
    return openai.LLM(model="gpt-4o-mini", api_key="any")


def test_an_object_that_is_emitted_again_is_counted_once(meter, delivery, model):
    """An adapter that forwards the leaf's object, and one that forwards it again, add nothing."""
    adapter, outer = (openai.LLM(model="gpt-4o", api_key="other") for _ in range(2))
    model.on("metrics_collected", lambda event: adapter.emit("metrics_collected", event))
    model.on("metrics_collected", lambda event: outer.emit("metrics_collected", event))
    adapter.on("metrics_collected", lambda event: outer.emit("metrics_collected", event))
    model.emit("metrics_collected", llm_metrics())
    assert [record["model"] for record in delivery.records] == ["gpt-4o-mini"]
    assert meter.emitting == set()


def test_equal_objects_are_counted_each(meter, delivery, model):
    """Two calls may look alike; they are two."""
    for _ in range(2):
        model.emit("metrics_collected", llm_metrics())
    assert len(delivery.records) == 2


def test_an_event_named_usage_collected_is_metered_too(meter, delivery, model):
    """A component that emits its metrics under that name is seen as well."""
    model.emit("usage_collected", llm_metrics())
    model.emit("error", llm_metrics())
    assert len(delivery.records) == 1


def test_callbacks_get_every_record_and_cannot_hurt(meter, delivery, model, caplog):
    """A callback sees the record with its id; one that raises is logged and the next still runs."""
    seen = []

    @lambda callback: meter.on("usage_collected", callback)
    def broken(_record):
        raise TypeError("a secret that an exception quotes")

    meter.on("usage_collected", seen.append)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            model.emit("metrics_collected", llm_metrics())
    assert [type(record) for record in seen] == [UsageRecord] * 3
    assert [record.id for record in seen] == ["test-0", "test-1", "test-2"]
    assert caplog.text.count("metering failed") == 1
    assert "secret" not in caplog.text
    assert broken is not None
    with pytest.raises(ValueError, match="usage_collected"):
        meter.on("metrics_collected", print)


def test_an_error_of_ours_never_reaches_the_agent(meter, delivery, model, monkeypatch):
    """Even if reading fails, LiveKit's listeners run as always."""
    monkeypatch.setattr("livekit_costmeter.metering.events.read_llm", lambda _event: 1 / 0)
    heard = []
    model.on("metrics_collected", heard.append)
    model.emit("metrics_collected", llm_metrics())
    model.emit("metrics_collected", object())
    assert len(heard) == 2
    assert delivery.records == []
    assert meter.emitting == set()


def test_an_error_of_a_listener_passes_as_without_us(meter, model):
    """LiveKit lets a listener's TypeError out of emit; so do we, and the object is forgotten."""

    def listener(_event):
        raise TypeError("the agent's own")

    model.on("metrics_collected", listener)
    with pytest.raises(TypeError, match="the agent's own"):
        model.emit("metrics_collected", llm_metrics())
    assert meter.emitting == set()


def test_removing_the_taps_restores_livekit(meter):
    """Patching and unpatching leaves every class as it was."""
    meter.taps.remove()
    assert "emit" not in llm.LLM.__dict__
    before = {(module, name): dict(vars(internals.find(module, name))) for module, name, *_ in internals.TAPS}
    taps = Taps(meter)
    taps.apply()
    assert "emit" in llm.LLM.__dict__
    taps.remove()
    assert {place: dict(vars(internals.find(*place))) for place in before} == before


def test_nothing_is_hidden_by_this_version_of_livekit():
    """Every tap finds its place in the LiveKit that is installed here."""
    assert unseen() == []


def test_a_missing_name_is_said_and_costs_only_its_tap(make_meter, monkeypatch, delivery, model, caplog):
    """Where LiveKit moved something, one warning names what cannot be seen, and the rest is metered."""
    gone = ("livekit.agents.stt", "NoSuchStream", "push_frame", "audio_push", "audio of something")
    monkeypatch.setattr("livekit_costmeter.metering.hooks.taps.TAPS", (*internals.TAPS, gone))
    with caplog.at_level(logging.WARNING):
        make_meter()
    assert "audio of something" in caplog.text
    assert "audio of something" in unseen()
    model.emit("metrics_collected", llm_metrics())
    assert len(delivery.records) == 1


def test_the_package_registers_itself_as_a_plugin_once():
    """Workers list and preload it; other threads than the main one leave it alone."""
    before = list(Plugin.registered_plugins)
    try:
        Plugin.registered_plugins[:] = [plugin for plugin in before if plugin.package != "livekit_costmeter"]
        results = []
        thread = threading.Thread(target=lambda: results.append(register_plugin("1.0")))
        thread.start()
        thread.join()
        assert results == [False]
        assert register_plugin("1.0")
        assert not register_plugin("1.0")
        ours = [plugin for plugin in Plugin.registered_plugins if plugin.package == "livekit_costmeter"]
        assert [plugin.version for plugin in ours] == ["1.0"]
    finally:
        Plugin.registered_plugins[:] = before


def test_a_new_key_or_model_on_the_same_component_is_noticed(meter, delivery, model):
    """What a component reports is resolved anew when it changes."""
    model.emit("metrics_collected", llm_metrics())
    model._client.api_key = "another"
    model.emit("metrics_collected", llm_metrics())
    model._opts.model = "gpt-4o"
    model.emit("metrics_collected", llm_metrics())
    first, second, third = delivery.records
    assert first["key_id"] != second["key_id"] == third["key_id"]
    assert (second["model"], third["model"]) == ("gpt-4o-mini", "gpt-4o")


def test_a_synthesis_built_on_a_stream_is_counted_once(meter, delivery):
    """What the inner stream has reported is not reported again by the chunked one around it."""
    from livekit.plugins import cartesia

    voice = cartesia.TTS(api_key="any")
    event = TTSMetrics(
        label="l", request_id="r", timestamp=1.0, ttfb=0.1, duration=1.0, audio_duration=1.0, cancelled=False,
        characters_count=5, streamed=False,
    )  # fmt: skip

    async def outer():
        marks.reporting.set(marks.REPEATED)
        voice.emit("metrics_collected", event)

    asyncio.run(outer())
    assert delivery.records == []
    voice.emit("metrics_collected", event)
    assert len(delivery.records) == 1


def test_no_memory_is_kept_per_event(meter, model):
    """After an emit nothing of ours holds the object."""
    import weakref

    event = llm_metrics()
    model.emit("metrics_collected", event)
    gone = weakref.ref(event)
    del event
    gc.collect()
    assert gone() is None


async def test_a_session_logs_no_deprecation(meter, caplog):
    """The meter attaches no listener to sessions, so LiveKit has nothing to warn about."""
    from livekit.agents import Agent, AgentSession

    with caplog.at_level(logging.WARNING):
        async with AgentSession() as session:
            meter.attach(session, account="acme")
            await session.start(Agent(instructions=""))
    assert "deprecated" not in caplog.text


async def test_closing_settles_once_more_each_time(meter, delivery):
    """`aclose` may be called again, and metering goes on after it."""
    await meter.aclose()
    await meter.aclose()
    assert delivery.settled == 2
    meter.instrument(object())
    assert delivery.served == 1
