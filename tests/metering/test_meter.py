"""The meter itself: it counts once, calls back, and never disturbs the agent."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
from types import SimpleNamespace

import pytest
from livekit.agents import Plugin, llm
from livekit.agents.metrics import LLMMetrics, TTSMetrics
from livekit.agents.voice import agent_activity
from livekit.plugins import openai

from livekit_costmeter.metering import Taps
from livekit_costmeter.metering.hooks import internals, marks
from livekit_costmeter.metering.hooks.hosting import probe
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
    owners = {internals.find(module, name) for module, name, *_ in internals.TAPS} - {None}
    before = {owner: dict(vars(owner)) for owner in owners}
    taps = Taps(meter)
    taps.apply()
    assert "emit" in llm.LLM.__dict__
    taps.remove()
    assert {owner: dict(vars(owner)) for owner in owners} == before


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


class Reply:
    """A speech handle as far as the meter looks."""

    def __init__(self, *, scheduled):
        self.id, self.scheduled, self.interrupted = "speech_1", scheduled, False


class Room:
    """An agent session as far as scopes look."""

    _room_io = _activity = None


def inside(session, reply):
    """Return the context of a task that works for a reply in a session."""
    context = contextvars.copy_context()
    activity = SimpleNamespace(session=session, agent=SimpleNamespace(id="greeter"))
    context.run(agent_activity._AgentActivityContextVar.set, activity)
    context.run(agent_activity._SpeechHandleContextVar.set, reply)
    return context


def test_work_for_a_reply_that_is_thrown_away_is_marked(meter, delivery, model):
    """An answer made ahead of time, finished, and never chosen: a record of zeros says so, with its speech."""
    reply = Reply(scheduled=False)
    context = inside(Room(), reply)
    context.run(model.emit, "metrics_collected", llm_metrics())
    context.run(meter.speech_cancelled, reply)
    work, mark = delivery.records
    assert (work["outcome"], mark["outcome"]) == ("completed", "discarded")
    assert mark["quantities"] == {"input_tokens": "0"}
    same = ("session_id", "agent", "speech_id", "component", "provider", "model")
    assert [mark[name] for name in same] == [work[name] for name in same]


def test_a_reply_is_thrown_away_once(meter, delivery, model):
    """To cancel again marks nothing again."""
    reply = Reply(scheduled=False)
    context = inside(Room(), reply)
    context.run(model.emit, "metrics_collected", llm_metrics())
    for _ in range(3):
        context.run(meter.speech_cancelled, reply)
    assert [record["outcome"] for record in delivery.records] == ["completed", "discarded"]


def test_work_that_ends_after_its_reply_was_thrown_away_is_discarded_itself(meter, delivery, model):
    """The usage comes late: no mark is needed, and none is left."""
    reply = Reply(scheduled=False)
    context = inside(Room(), reply)
    context.run(meter.speech_cancelled, reply)
    reply.interrupted = True
    context.run(model.emit, "metrics_collected", llm_metrics(cancelled=True))
    assert [record["outcome"] for record in delivery.records] == ["discarded"]
    assert len(meter._speculative) == 0


@pytest.mark.parametrize("chosen_before_the_work", [True, False])
def test_a_reply_that_was_chosen_is_interrupted_and_not_discarded(meter, delivery, model, chosen_before_the_work):
    """The caller heard some of it, so it is no work for nothing."""
    reply = Reply(scheduled=chosen_before_the_work)
    context = inside(Room(), reply)
    context.run(model.emit, "metrics_collected", llm_metrics())
    reply.scheduled = reply.interrupted = True
    context.run(meter.speech_cancelled, reply)
    assert [record["outcome"] for record in delivery.records] == ["completed"]


def test_replies_made_ahead_of_time_are_told_apart(meter, delivery, model):
    """Two guesses, one right: only the wrong one is marked."""
    room, wrong, right = Room(), Reply(scheduled=False), Reply(scheduled=False)
    right.id = "speech_2"
    for reply in (wrong, right):
        inside(room, reply).run(model.emit, "metrics_collected", llm_metrics())
    inside(room, wrong).run(meter.speech_cancelled, wrong)
    right.scheduled = True
    inside(room, right).run(meter.speech_cancelled, right)
    assert [record["speech_id"] for record in delivery.records if record["outcome"] == "discarded"] == ["speech_1"]


def test_nothing_is_kept_of_a_reply_that_is_gone(meter, model):
    """Speculation is remembered as long as its reply lives."""
    reply = Reply(scheduled=False)
    inside(Room(), reply).run(model.emit, "metrics_collected", llm_metrics())
    assert len(meter._speculative) == 1
    del reply
    gc.collect()
    assert len(meter._speculative) == 0


async def test_a_probe_is_what_an_adapter_starts_to_see_if_a_provider_is_back(meter, delivery, model):
    """The probe's task says probe; the request that goes on meanwhile does not."""

    class Stream:
        def _try_recovery(self, component):
            async def ask():
                await asyncio.sleep(0)
                component.emit("metrics_collected", llm_metrics())

            self.task = asyncio.create_task(ask())

    tapped = probe(meter, Stream._try_recovery)
    stream = Stream()
    tapped(stream, model)
    model.emit("metrics_collected", llm_metrics())
    await stream.task
    assert [record["outcome"] for record in delivery.records] == ["completed", "probe"]


def test_work_belongs_to_the_session_whose_task_did_it(meter, delivery, model):
    """Two sessions share a model: each record has its own session, also when they take turns."""
    rooms = [Room(), Room()]
    for number, room in enumerate(rooms):
        meter.attach(room, account=f"account-{number}")
    for number in (0, 1, 0, 1):
        inside(rooms[number], None).run(model.emit, "metrics_collected", llm_metrics())
    assert [record["account"] for record in delivery.records] == ["account-0", "account-1"] * 2
    assert len({record["session_id"] for record in delivery.records}) == 2


def test_jobs_in_threads_keep_their_sessions(meter, delivery, model):
    """Two loops in one process, one model object: no record has the other's account."""
    rooms = [Room() for _ in range(4)]
    for number, room in enumerate(rooms):
        meter.attach(room, account=f"account-{number}")

    async def job(number):
        context = inside(rooms[number], None)
        for _ in range(50):
            context.run(model.emit, "metrics_collected", llm_metrics(request_id=f"account-{number}"))
            await asyncio.sleep(0)

    threads = [threading.Thread(target=asyncio.run, args=(job(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(delivery.records) == 200
    assert all(record["account"] == record["operation_id"] for record in delivery.records)
